"""Files of kept epochs: a training has a folder of its own, and loses none of its epochs."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from vlbench.datasets.specs import Subset
from vlbench.errors import ConfigError
from vlbench.evaluation.facts import TrainingFacts
from vlbench.evaluation.kept import KeptFacts
from vlbench.evaluation.metrics import Predictions
from vlbench.results.epochs import begin_epochs, folder_of_epochs, kept_scores, write_epoch
from vlbench.results.kept_file import parse_kept

pytestmark = pytest.mark.quick

TRAINING = TrainingFacts("ucf101", Subset(shots=8), list="own/8-shot seed 0", settings={"lr": 0.1}, seed=1)
FACTS = KeptFacts(("video", "bare"), True, "logits", True, 100.0, False)
ZERO, OTHER = SimpleNamespace(is_global_zero=True), SimpleNamespace(is_global_zero=False)


def predictions(videos=3, seed=0):
    scores = torch.randn(videos, 2, 4, 5, generator=torch.Generator().manual_seed(seed))
    of_test = scores[:, 0].mean(dim=1)
    ids = [f"v{number}.mp4" for number in range(videos)]
    failures = {"lost.mp4": (4, "empty"), "both.mp4": ((1, 2), "several labels")}
    kept = scores if videos else None
    return Predictions(ids, torch.arange(videos) + 1, of_test, of_test, torch.zeros(videos, 0), failures, kept)


def trained(facts=TRAINING, *, name="msta", keys=("all-split1",), weights="w"):
    """A method whose validation is done, on one set of videos and classes for each key."""
    sets = [SimpleNamespace(subset=SimpleNamespace(key=key)) for key in keys]
    evaluations = [
        SimpleNamespace(set=each, kept=FACTS, predictions=predictions(seed=seed)) for seed, each in enumerate(sets)
    ]
    return SimpleNamespace(
        name=name, describe_training=None if facts is None else lambda: facts, evaluations=evaluations,
        trained_digest=lambda: weights, keep=None,
    )  # fmt: skip


def test_a_training_has_a_folder_of_its_own(tmp_path):
    changes = [
        {"dataset": "hmdb51"},
        {"list": "own/8-shot seed 1"},
        {"settings": {"lr": 0.2}},
        {"settings": None},
        {"seed": 2},
    ]
    methods = [trained(), trained(name="mote"), *(trained(replace(TRAINING, **change)) for change in changes)]
    folders = {folder_of_epochs(method, tmp_path) for method in methods}
    assert len(folders) == len(methods)
    assert {folder.parent for folder in folders} == {tmp_path / "epochs"}
    later = trained(replace(TRAINING, epochs=9, steps=90, seconds=3.0, skipped=("a.mp4",)))
    assert folder_of_epochs(later, tmp_path) == folder_of_epochs(trained(), tmp_path)
    assert folder_of_epochs(trained(None), tmp_path) is None


def test_a_file_has_the_scores_of_its_set_after_its_epoch(tmp_path):
    method = trained(keys=("base-split1", "novel-split1"))
    write_epoch(method, 12, tmp_path, ZERO)
    folder = folder_of_epochs(method, tmp_path)
    names = [f"epoch-0012-{key}-split1.safetensors" for key in ("base", "novel")]
    assert sorted(path.name for path in folder.iterdir()) == names
    for seed, name in enumerate(names):
        kept = parse_kept((folder / name).read_bytes(), folder / name)
        np.testing.assert_array_equal(kept.scores, predictions(seed=seed).kept)
        assert (kept.ids, kept.labels.tolist()) == (("v0.mp4", "v1.mp4", "v2.mp4"), [1, 2, 3])
        assert (kept.lost, kept.facts, kept.weights, kept.epoch) == ({"lost.mp4": 4}, FACTS, "w", 12)


def test_another_process_and_a_method_that_keeps_nothing_write_no_file(tmp_path):
    write_epoch(trained(), 1, tmp_path, OTHER)
    write_epoch(trained(None), 1, tmp_path, ZERO)
    method = trained()
    method.evaluations[0].kept = None
    write_epoch(method, 1, tmp_path, ZERO)
    assert not list(tmp_path.iterdir())


def test_of_no_readable_video_there_are_no_scores_of_the_same_templates_and_classes():
    kept = kept_scores(SimpleNamespace(kept=FACTS, predictions=predictions(0)), None)
    assert (kept.scores.shape, kept.scores.dtype, kept.ids, kept.epoch) == ((0, 2, 1, 5), np.float32, (), None)


def test_a_training_that_goes_on_has_the_epochs_of_its_checkpoint(tmp_path):
    """Later ones are those of an earlier start that came farther, whose records name them: they stay until replaced."""
    method = trained()
    written = write_epoch(method, 2, tmp_path, ZERO) | write_epoch(method, 3, tmp_path, ZERO)
    before = {path: path.read_bytes() for path in folder_of_epochs(method, tmp_path).iterdir()}
    kept = dict(list(written.items())[:1])
    method.provenance = replace(TRAINING, kept_epochs=kept)
    assert begin_epochs(method, 2) == kept
    assert begin_epochs(method, 0) == {}
    assert {path: path.read_bytes() for path in before} == before
    assert kept | write_epoch(method, 3, tmp_path, ZERO) == written
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize("provenance", [None, TRAINING])
def test_a_training_that_kept_no_epochs_does_not_begin_to_in_the_middle(provenance):
    method = trained()
    method.provenance = provenance
    with pytest.raises(ConfigError, match="goes on after 2 epochs that were not kept"):
        begin_epochs(method, 2)
    assert begin_epochs(method, 0) == {}
