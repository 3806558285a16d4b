"""What a checkpoint says of the training that its weights come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from lightning import Trainer
from lightning.pytorch.callbacks import Timer

from vlbench.evaluation.facts import TrainingFacts
from vlbench.results.recorded import RecordedData, RecordedMethod
from vlbench.settings import Side, settings_digest

_START = "started_from"
"""Setting of a training that began with a checkpoint of another one: a digest of that one's settings and seed."""


def facts_of_training(
    trainer: Trainer,
    method: RecordedMethod,
    data: RecordedData,
    *,
    seed: int,
    settings: Mapping[Side, Mapping[str, object]],
    validated: tuple[int, float] | None,
    kept_epochs: Mapping[str, str] | None,
) -> TrainingFacts:
    """Facts about a training as far as it has come.

    Args:
        trainer: Trainer of the run.
        method: Method that is being trained.
        data: DataModule of the run.
        seed: Seed of the run.
        settings: Options of data and trainer at the start of the training, by what they can change.
        validated: Step and top-1 accuracy, in per cent, of the last validation on held-out videos; `None` without.
        kept_epochs: Files of scores of the test videos after each epoch, and the digest of each; `None` without.
    """
    timer = next((callback for callback in trainer.callbacks if isinstance(callback, Timer)), None)  # type: ignore[attr-defined]
    epochs = data.epochs_done(trainer)
    facts = TrainingFacts(
        dataset=data.dataset.label,
        subset=data.dataset.train_subset,
        list=data.dataset.list_name("train"),
        videos=len(data.dataset.videos("train")),
        skipped=tuple(sorted(data.skipped)),
        steps=trainer.global_step,
        epochs=epochs,
        heldout=data.dataset.heldout,
        heldout_top1=_after_step(validated, trainer.global_step),
        batch=data.batch_of_step(trainer),
        seconds=round(timer.time_elapsed(), 3) if timer is not None else None,
        processes=trainer.world_size,
        seed=seed,
        settings=_with_start({**method.settings("training"), **settings["training"]}, seed, method.provenance),
        kept_epochs=None if kept_epochs is None else dict(kept_epochs),
        finished=trainer.should_stop
        or trainer.global_step >= trainer.max_steps > -1
        or (trainer.max_epochs is not None and epochs >= trainer.max_epochs > -1),
    )
    of_validation = {**method.settings("validation"), **settings["validation"]}
    return replace(
        facts,
        validation={name: value for name, value in of_validation.items() if name not in (facts.settings or ())},
        deviations=method.deviations("training", settings["training"], facts, None),
    )


def _after_step(validated: tuple[int, float] | None, step: int) -> float | None:
    """The accuracy of a validation, a step and an accuracy, if it was after this step."""
    return validated[1] if validated is not None and validated[0] == step else None


def _with_start(settings: dict[str, object], seed: int, start: TrainingFacts | None) -> dict[str, object]:
    """Settings of a training that may have begun with a checkpoint: what that depends on counts, unless it is a part of
    this very training.

    Args:
        settings: Every option of the training that can change the weights, by its name.
        seed: Seed of the training.
        start: Facts in the checkpoint; `None` if the training began with none.
    """
    if start is None:
        return settings
    before = dict(start.settings or {})
    earlier = before.pop(_START, None)
    if (settings_digest(before), start.seed) != (settings_digest(settings), seed):
        return {**settings, _START: settings_digest({"settings": start.settings, "seed": start.seed})}
    return settings if earlier is None else {**settings, _START: earlier}
