"""Scores of the test videos after each epoch of a training, which `vlbench fit` keeps on request."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from lightning import Trainer

from vlbench.evaluation.evaluator import Evaluation
from vlbench.files import write_atomically
from vlbench.results.kept_file import KeptScores
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
    """The folder of the epochs of a training, by its settings and seed: `epochs/METHOD-DIGEST`.

    Args:
        method: Method that is being trained.
        folder: Results folder that the epochs go below.

    Returns:
        Path of the folder, which may not be there; `None` where nothing describes the training.
    """
    if method.describe_training is None:
        return None
    facts = method.describe_training()
    run = settings_digest({"settings": facts.settings, "seed": facts.seed, "list": facts.list, "data": facts.dataset})
    return folder / "epochs" / f"{method.name}-{run}"


def remove_later_epochs(method: RecordedMethod, epochs: int, folder: Path, trainer: Trainer) -> None:
    """Removes the epochs of an earlier start of a training that this one has not come to: they may have other weights.

    Args:
        method: Method whose training begins or goes on.
        epochs: Number of epochs that the weights were trained for.
        folder: Results folder that the epochs go below.
        trainer: Trainer of the run; rank zero removes.
    """
    place = folder_of_epochs(method, folder) if trainer.is_global_zero else None
    for path in () if place is None else place.glob("epoch-*.safetensors"):
        match = re.match(r"epoch-(\d+)-", path.name)
        if match is not None and int(match[1]) > epochs:
            path.unlink(missing_ok=True)


def write_epoch(method: RecordedMethod, epoch: int, folder: Path, trainer: Trainer) -> None:
    """Writes the scores of the validation after an epoch, one file for each set, such as `epoch-0001-all-split1`.

    Args:
        method: Method whose validation is done.
        epoch: Number of epochs that the weights were trained for.
        folder: Results folder that files go below.
        trainer: Trainer of the run; rank zero writes.
    """
    place = folder_of_epochs(method, folder) if trainer.is_global_zero else None
    if place is None:
        return
    for evaluation in method.evaluations:
        kept = kept_scores(evaluation, method.trained_digest(), epoch)
        if kept is not None:
            name = f"epoch-{epoch:04}-{evaluation.set.subset.key}.safetensors"
            write_atomically(place / name, kept.as_bytes())
