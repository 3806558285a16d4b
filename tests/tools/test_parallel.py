import os
import signal
from multiprocessing import parent_process

import pytest

from vlbench.tools.parallel import for_each


def square(number: int) -> int:
    return number * number


def square_unless_thirteen(number: int) -> int:
    if number == 13:
        assert parent_process() is not None, "that would kill the process of the tests"
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


def refuse(number: int) -> int:
    raise ValueError(number)


@pytest.mark.parametrize("workers", [0, 2])
def test_every_task_has_its_result(workers):
    assert dict(for_each(square, range(10), workers=workers)) == {k: k * k for k in range(10)}


def test_no_task_needs_no_process():
    assert list(for_each(square, [], workers=2)) == []


def test_a_process_that_dies_costs_its_own_task_only():
    results = dict(for_each(square_unless_thirteen, range(20), workers=2))
    assert results == {k: None if k == 13 else k * k for k in range(20)}


def test_an_exception_ends_the_iteration():
    with pytest.raises(ValueError, match="0"):
        list(for_each(refuse, [0], workers=1))
