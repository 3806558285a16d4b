"""Whether weights were trained on videos that they are tested on."""

from __future__ import annotations

from typing import NamedTuple

from vlbench.datasets.base import VideoDataset
from vlbench.datasets.specs import collection
from vlbench.errors import VlbenchError
from vlbench.evaluation.facts import TrainingFacts
from vlbench.names import one_line


class Overlap(NamedTuple):
    """What a record says of training and test videos.

    Attributes:
        videos: Number of training videos that are tested; `None` where that is not known or means nothing.
        check: Lists that were compared, or why none were.
    """

    videos: int | None
    check: str


def train_test_overlap(dataset: VideoDataset, training: TrainingFacts | None, *, trained: bool) -> Overlap:
    """Compares the training list of weights with the test lists that they are tested on.

    Args:
        dataset: Dataset that is tested.
        training: Facts about the training; `None` if they are not known.
        trained: Whether trained weights are tested at all.

    Raises:
        ConfigError: If videos were trained on and are tested, in lists of different splits.
        DataError: If they were, in lists of one split.
    """
    if not trained:
        return Overlap(None, "nothing was trained")
    if training is None or training.list is None:
        return Overlap(None, "not known: the weights do not name their training list")
    if collection(training.dataset) != collection(dataset.label):
        return Overlap(None, f"nothing to compare: trained on {training.dataset}, tested on {dataset.label}")
    # Weights of all classes may be tested on some, and the other way round.
    trained_on = dataset if training.dataset == dataset.label else dataset.with_all_classes()
    try:
        name, items = trained_on.training_list(training.subset, training.heldout or 0.0)
    except VlbenchError as error:
        cause = one_line(str(error))
        return Overlap(None, f"not known: the training list {training.list} cannot be read here: {cause}")
    if name != training.list or (training.videos not in (None, len(items)) and not training.heldout):
        return Overlap(
            None,
            f"not known: trained on {training.videos} videos of {training.list}, this configuration has {len(items)} of"
            f" {name}",
        )
    dataset.check_untested(training.list, items, training.subset.split)
    return Overlap(0, f"{len(items)} videos of {name} with those of {dataset.list_name('test')}")
