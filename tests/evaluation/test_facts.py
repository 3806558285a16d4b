"""What a training says of itself, to the checkpoint and back."""

import json
import subprocess
import sys

import pytest

from vlbench.datasets.specs import Subset
from vlbench.errors import CheckpointError
from vlbench.evaluation.facts import TrainingFacts

pytestmark = pytest.mark.quick

WHOLE = {
    "dataset": "ucf101/words", "subset": {"classes": "base", "shots": 16, "split": 1, "seed": 3},
    "list": "own/16-shot seed 3", "videos": 816, "skipped": ["a.avi"], "steps": 90, "epochs": 6, "heldout": 0.25,
    "batch": 32, "seconds": 1.5, "processes": 2, "seed": 3, "deviations": {"scale": 1.0},
}  # fmt: skip
RELEASED = {"dataset": "released:MoTE_B16.pt", "subset": {"classes": "all", "shots": None, "split": 1, "seed": 0},
            "epochs": 30, "seed": 0}  # fmt: skip


@pytest.mark.parametrize("values", [WHOLE, RELEASED], ids=["own", "released"])
def test_facts_read_back_as_they_were_written(values):
    facts = TrainingFacts.from_dict(values)
    assert facts.as_dict() == values
    assert TrainingFacts.from_dict(json.loads(json.dumps(facts.as_dict()))) == facts
    assert facts.subset == Subset(**values["subset"])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({**WHOLE, "weather": "fine"}, "states weather, which this vlbench does not know"),
        ({"dataset": "ucf101"}, "does not state its training.*subset"),
        ({**WHOLE, "subset": {"classes": "half"}}, "does not state its training.*half"),
        ({**WHOLE, "subset": None}, "does not state its training"),
    ],
)
def test_values_that_are_no_facts_are_one_clear_message(values, message):
    with pytest.raises(CheckpointError, match=message):
        TrainingFacts.from_dict(values)


def test_facts_need_no_torch():
    code = "import sys, vlbench.evaluation.facts; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
