"""Scores of the test videos after each epoch of a training, which `vlbench fit` keeps on request."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
from lightning import Trainer

from vlbench.errors import ConfigError
from vlbench.evaluation.evaluator import Evaluation
from vlbench.files import check_writable, write_atomically
from vlbench.results.kept_file import KeptScores
from vlbench.results.pairs import digest
from vlbench.results.recorded import RecordedMethod
from vlbench.settings import settings_digest


def kept_scores(evaluation: Evaluation, weights: str | None, epoch: int | None = None) -> KeptScores | None:
    """What an evaluation kept beside its predictions; `None` if nothing was asked for.

    Args:
        evaluation: Results on one set of videos and classes.
        weights: Digest of the trained weights; `None` if nothing was trained.
        epoch: Number of epochs that the weights were trained for; `None` in a test.
    """
    predictions = evaluation.predictions
    if evaluation.kept is None:
        return None
    scores = np.zeros((0, len(evaluation.kept.prompts), 1, predictions.scores.shape[1]), np.float32)
    if predictions.kept is not None:
        scores = predictions.kept.numpy()
    # Of videos that may have several labels nothing is kept.
    lost = {video: truth for video, (truth, _) in predictions.failures.items() if isinstance(truth, int)}
    ids, labels = tuple(predictions.ids), predictions.labels.numpy()
    return KeptScores(ids, labels, scores, lost, evaluation.kept, weights, epoch)


def folder_of_epochs(method: RecordedMethod, folder: Path) -> Path | None:
    """The folder of the epochs of a training, by its settings, its seed and what is kept: `epochs/METHOD-DIGEST`.

    Args:
        method: Method that is being trained.
        folder: Results folder that the epochs go below.

    Returns:
        Path of the folder, which may not be there; `None` where nothing describes the training.
    """
    if method.describe_training is None:
        return None
    facts = method.describe_training()
    run = {"settings": facts.settings, "seed": facts.seed, "list": facts.list, "data": facts.dataset}
    kept = {"validation": facts.validation, "keep": None if method.keep is None else asdict(method.keep)}
    return folder / "epochs" / f"{method.name}-{settings_digest({**run, **kept})}"


def check_epochs(trainer: Trainer, folder: Path | None, *, on_test: bool) -> None:
    """Refuses, before a training begins, to keep epochs that it will not have the scores of.

    Args:
        trainer: Trainer of the run.
        folder: Results folder that the epochs go below; `None` keeps nothing.
        on_test: Whether the training validates on the test videos.

    Raises:
        ConfigError: If it does not, or validates elsewhere than at the end of an epoch, or cannot write below `folder`.
    """
    if not on_test:
        raise ConfigError(
            "record.keep has epochs, the scores of the test videos after each epoch; a training that looks at them"
            " says so by --selection best_on_test (last.ckpt is written too and is what it would be without)"
        )
    seconds = trainer._val_check_time_interval  # type: ignore[attr-defined]
    interval = trainer.val_check_interval if seconds is None else f"{seconds:g} seconds"
    # `best.ckpt` is written at the end of an epoch: scores from within it are of weights that no checkpoint has.
    if not isinstance(interval, float) or interval != 1:
        raise ConfigError(
            f"record.keep has epochs, the scores at the end of each, and trainer.val_check_interval is {interval};"
            " allowed with epochs: 1.0, one validation at the end of an epoch"
        )
    if folder is not None:
        check_writable(folder / "epochs", "record.folder")


def begin_epochs(method: RecordedMethod, epochs: int) -> dict[str, str]:
    """The epochs that a training has kept; files of later ones, of an earlier start that came farther, stay.

    The records of that start name them, and each is replaced when the training comes to its epoch again: by the same
    bytes if it is the same training.

    Args:
        method: Method whose training begins or goes on.
        epochs: Number of epochs that the weights were trained for.

    Returns:
        Files of the epochs, below `epochs` in the results folder, and the digest of each.

    Raises:
        ConfigError: If the training goes on and has kept no epochs.
    """
    before = None if method.provenance is None else method.provenance.kept_epochs
    if epochs and before is None:
        raise ConfigError(
            f"record.keep has epochs, and this training goes on after {epochs} epochs that were not kept, so that the"
            " best of all would not be known; leave epochs out, or begin the training anew"
        )
    return dict(before or {}) if epochs else {}


def write_epoch(method: RecordedMethod, epoch: int, folder: Path, trainer: Trainer) -> dict[str, str]:
    """Writes the scores of the validation after an epoch, one file for each set, such as `epoch-0001-all-split1`.

    Args:
        method: Method whose validation is done.
        epoch: Number of epochs that the weights were trained for.
        folder: Results folder that files go below.
        trainer: Trainer of the run; rank zero writes.

    Returns:
        Files that were written, below `epochs` in the results folder, and the digest of each.
    """
    place = folder_of_epochs(method, folder) if trainer.is_global_zero else None
    written: dict[str, str] = {}
    if place is None:
        return written
    for evaluation in method.evaluations:
        kept = kept_scores(evaluation, method.trained_digest(), epoch)
        if kept is not None:
            name, content = f"epoch-{epoch:04}-{evaluation.set.subset.key}.safetensors", kept.as_bytes()
            write_atomically(place / name, content)
            written[f"{place.name}/{name}"] = digest(content)
    return written
