"""What a training says of itself; a checkpoint carries it to the records of the tests that follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields

from vlbench.datasets.specs import Selection, Subset
from vlbench.errors import CheckpointError, ConfigError


@dataclass(frozen=True)
class TrainingFacts:
    """Where trained weights come from.

    A fact is `None` where it is not known: weights that were trained elsewhere tell little about themselves.

    Attributes:
        dataset: Dataset and variant of the training videos, as records name them, such as `ucf101/words`.
        subset: Part of that dataset that was trained on.
        list: Name of the list of training videos, such as `own/16-shot seed 0`.
        videos: Number of training videos in the list.
        skipped: Ids of the training videos that could not be read, sorted.
        steps: Number of optimizer steps.
        epochs: Number of epochs trained.
        heldout: Part of the training videos that was held out for validation, in [0, 1).
        heldout_top1: Top-1 accuracy on the held-out videos after the last step, in per cent.
        batch: Training clips of an optimizer step, over all processes.
        seconds: Duration of the training, in seconds.
        processes: Number of processes that trained.
        seed: Seed of the training.
        deviations: Options of the training whose value is not the paper's, by their names.
        settings: Every option that the weights of the last epoch depend on, by its name; see `vlbench.settings`.
        validation: Every option that the choice of the best epoch depends on beside `settings`, by its name.
        finished: Whether the training went on to its end; `False` in a checkpoint that was written before.
        candidates: Trainings that this one is the best of by `heldout_top1`: the options in which they differ, by their
            names, and the accuracy of each.
        kept_epochs: Files of scores of the test videos after each epoch, below `epochs` in the results folder, and the
            digest of each; `None` if none were to be kept.
    """

    dataset: str
    subset: Subset
    list: str | None = None
    videos: int | None = None
    skipped: tuple[str, ...] | None = None
    steps: int | None = None
    epochs: int | None = None
    heldout: float | None = None
    heldout_top1: float | None = None
    batch: int | None = None
    seconds: float | None = None
    processes: int | None = None
    seed: int = 0
    deviations: Mapping[str, object] | None = None
    settings: Mapping[str, object] | None = None
    validation: Mapping[str, object] | None = None
    finished: bool | None = None
    candidates: Sequence[Mapping[str, object]] | None = None
    kept_epochs: Mapping[str, str] | None = None

    def settings_behind(self, selection: Selection) -> dict[str, object] | None:
        """Every option that the weights of an epoch depend on, by its name; `None` where the options are not known.

        Args:
            selection: Which epoch it is. What the validation did counts where it chose the epoch, and the number of
                steps where the last one is that of a training which was broken off.
        """
        if self.settings is None:
            return None
        if selection == "last":
            return {**self.settings, **({"steps": self.steps} if self.finished is False else {})}
        return {**self.settings, **{f"validation.{name}": value for name, value in (self.validation or {}).items()}}

    def as_dict(self) -> dict[str, object]:
        """The known facts as plain values, for a checkpoint or a record."""
        values = {**asdict(self), "skipped": None if self.skipped is None else [*self.skipped]}
        return {name: value for name, value in values.items() if value is not None}

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> TrainingFacts:
        """The facts that `as_dict` made plain values of.

        Raises:
            CheckpointError: If the values are not those of a training.
        """
        unknown = sorted(values.keys() - {field.name for field in fields(cls)})
        if unknown:
            raise CheckpointError(f"the checkpoint states {', '.join(unknown)}, which this vlbench does not know")
        try:
            subset, skipped = Subset(**values["subset"]), values.get("skipped")  # type: ignore[arg-type]
            typed = {**values, "subset": subset, "skipped": skipped if skipped is None else tuple(skipped)}  # type: ignore[arg-type]
            return cls(**typed)  # type: ignore[arg-type]
        except (TypeError, KeyError, ConfigError) as error:
            raise CheckpointError(f"the checkpoint does not state its training: {error!r}") from error
