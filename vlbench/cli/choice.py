"""`vlbench weights choose`: of several trainings the one that is best on the videos that all of them held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from vlbench.cli.checkpoints import WholeCheckpointIO
from vlbench.cli.weights import header_of
from vlbench.errors import CheckpointError, ConfigError
from vlbench.evaluation.facts import TrainingFacts
from vlbench.settings import text_of

CHOICE = "chosen_among"
"""Setting of a training that was chosen: the values that the options had in the trainings beside it."""

_SAME = ("dataset", "subset", "list", "videos", "skipped", "heldout", "seed", "steps", "epochs", "batch")
"""Facts that trainings have in common of which one is chosen."""


class _Candidate(NamedTuple):
    """A training that a choice is among.

    Attributes:
        path: Checkpoint of the training.
        facts: What the checkpoint says of the training.
        top1: Top-1 accuracy on the held-out videos after the last step, in per cent.
        header: What the checkpoint says of method, frozen weights and training, as plain values.
    """

    path: Path
    facts: TrainingFacts
    top1: float
    header: dict[str, Any]


def choose(checkpoints: Sequence[Path], out: Path) -> list[str]:
    """Writes the best checkpoint with what it was chosen among; see `commands.weights_choose`.

    Args:
        checkpoints: Checkpoints of trainings that differ in their options alone.
        out: Checkpoint file to write.

    Returns:
        A line for each training and one on the choice.

    Raises:
        CheckpointError: If a checkpoint states no accuracy on held-out videos, or is of a training that has not ended.
        ConfigError: If the trainings are of other methods, backbones or videos.
    """
    candidates = [_candidate(path) for path in checkpoints]
    for other in candidates[1:]:
        _check_comparable(candidates[0], other)
    options = _differing([candidate.facts.settings_behind("heldout") or {} for candidate in candidates])
    best = max(candidates, key=lambda candidate: candidate.top1)  # the first of equals
    table = [{**each, "heldout_top1": candidate.top1} for each, candidate in zip(options, candidates, strict=True)]
    # What validated has chosen the weights, so that they depend on its options too.
    settings = dict(best.facts.settings_behind("heldout") or {})
    settings[CHOICE] = {name: [each.get(name) for each in options] for name in options[0]}
    checkpoint = WholeCheckpointIO().load_checkpoint(best.path)
    checkpoint["vlbench"]["training"] = replace(best.facts, settings=settings, candidates=table).as_dict()
    WholeCheckpointIO().save_checkpoint(checkpoint, out)
    rows = [
        f"{candidate.top1:.2f} % of the held-out videos: {_described(each)}"
        for each, candidate in zip(options, candidates, strict=True)
    ]
    return [*rows, f"{best.path} is the best; wrote {out}"]


def _candidate(path: Path) -> _Candidate:
    header = header_of(path)
    facts = TrainingFacts.from_dict(header["training"]) if header["training"] is not None else None
    if facts is None or facts.heldout_top1 is None or facts.settings is None:
        raise CheckpointError(
            f"{path} states no accuracy on held-out videos after its last step; train with data.heldout above 0, and "
            "with trainer.limit_val_batches and trainer.check_val_every_n_epoch that validate the last epoch"
        )
    if facts.finished is False:
        raise CheckpointError(f"{path} is of a training that has not ended; continue it by `vlbench fit --resume auto`")
    return _Candidate(path, facts, facts.heldout_top1, header)


def _check_comparable(one: _Candidate, other: _Candidate) -> None:
    """Whether two trainings differ in their options alone."""
    differing = [name for name in ("method", "backbone") if one.header[name] != other.header[name]]
    differing += [name for name in _SAME if getattr(one.facts, name) != getattr(other.facts, name)]
    if differing:
        raise ConfigError(
            f"{one.path} and {other.path} differ in {', '.join(differing)}; a choice is among trainings of one method "
            "on the same videos, equally long"
        )


def _differing(settings: Sequence[dict[str, object]]) -> list[dict[str, object]]:
    """The options in which trainings differ, and their values in each."""
    names = sorted(set().union(*settings))
    differing = [name for name in names if len({text_of(each.get(name)) for each in settings}) > 1]
    return [{name: each.get(name) for name in differing} for each in settings]


def _described(options: dict[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in options.items()) or "no option differs"
