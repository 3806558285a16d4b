"""An evaluator of several orders of the frames: each order has its own videos and results."""

from types import SimpleNamespace

import pytest

from vlbench.evaluation.counterfactual import CounterfactualEvaluator

pytestmark = pytest.mark.quick


class Noted:
    """An evaluator that notes what it is given."""

    method, sets, classes = "a method", ["a set"], ["a state"]

    def __init__(self):
        self.seen = []

    def anew(self):
        return Noted()

    def update(self, videos):
        self.seen.append(videos)

    def compute(self):
        return [tuple(self.seen)]


def test_every_order_is_evaluated_for_itself_and_the_first_one_is_the_result():
    evaluator = CounterfactualEvaluator(Noted(), ["normal", "shuffled", "middle"])
    for number in range(2):
        orders = [(order, f"{order} {number}") for order in ("shuffled", "normal", "middle")]
        evaluator.update(SimpleNamespace(in_orders=lambda orders=orders: iter(orders)))
    assert evaluator.compute() == [("normal 0", "normal 1")]
    assert evaluator.evaluations == {
        order: [(f"{order} 0", f"{order} 1")] for order in ("normal", "shuffled", "middle")
    }
    assert (evaluator.method, evaluator.sets, evaluator.classes) == ("a method", ["a set"], ["a state"])
