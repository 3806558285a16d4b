"""Scores of the test videos after each epoch of a training, which `vlbench fit` keeps on request."""

from __future__ import annotations

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


def write_epoch(method: RecordedMethod, epoch: int, folder: Path, trainer: Trainer) -> None:
    """Writes the scores of the validation after an epoch, one file for each set of videos and classes.

    The folder is one of the training, by its settings and seed: `epochs/METHOD-DIGEST/epoch-0001-all-split1`.

    Args:
        method: Method whose validation is done.
        epoch: Number of epochs that the weights were trained for.
        folder: Results folder that files go below.
        trainer: Trainer of the run; rank zero writes.
    """
    if not trainer.is_global_zero or method.describe_training is None:
        return
    facts = method.describe_training()
    run = settings_digest({"settings": facts.settings, "seed": facts.seed, "list": facts.list, "data": facts.dataset})
    for evaluation in method.evaluations:
        kept = kept_scores(evaluation, method.trained_digest(), epoch)
        if kept is not None:
            name = f"epoch-{epoch:04}-{evaluation.set.subset.key}.safetensors"
            write_atomically(folder / "epochs" / f"{method.name}-{run}" / name, kept.as_bytes())
