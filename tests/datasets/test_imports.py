"""Facts and lists are at hand without torch."""

import subprocess
import sys

import pytest

from vlbench.datasets import DATASETS

HEAVY = {"torch", "torchvision", "lightning", "numpy", "av"}


def loaded_by(code: str) -> set[str]:
    """Heavy packages that a fresh interpreter has loaded after running some code."""
    command = [sys.executable, "-c", f"import sys\n{code}\nprint(*{HEAVY!r} & sys.modules.keys())"]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize("name", DATASETS)
def test_a_dataset_states_facts_without_torch(name, tmp_path):
    (tmp_path / "train" / "walk").mkdir(parents=True)
    code = f"""
from vlbench.datasets import {name}
for variant in {name}.variants:
    dataset = {name}({str(tmp_path)!r}, variant)
    assert dataset.facts.num_classes
    assert dataset.facts.names_file or dataset.spec.class_names
    assert dataset.label
"""
    assert loaded_by(code) == set()


def test_lists_are_read_without_torch(tmp_path):
    for part in ("train", "test"):
        (tmp_path / f"{part}.csv").write_text(f"path,class\n{part}0.mp4,walk\n{part}1.mp4,run\n")
    code = f"""
from vlbench.datasets import FolderVideos
from vlbench.datasets.specs import Subset
dataset = FolderVideos({str(tmp_path)!r}, train=Subset(shots=1))
dataset.check("train")
assert [item.label for item in dataset.videos("train")] == [0, 1]
assert dataset.test_classes.names == ("run", "walk")
assert [len(subset.labels) for subset in dataset.sets("test")] == [2]
"""
    assert loaded_by(code) == set()
