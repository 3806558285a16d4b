"""What a record writer asks of the data and the method of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol, cast

import torch
from lightning import LightningModule, Trainer
from torch import nn

from vlbench.backbones.base import DualEncoder
from vlbench.clips.options import ClipOptions, LoadingOptions
from vlbench.datasets.base import VideoDataset
from vlbench.errors import ConfigError
from vlbench.evaluation.evaluator import EvaluatedMethod, Evaluation
from vlbench.evaluation.facts import TrainingFacts
from vlbench.evaluation.kept import Keep
from vlbench.settings import Side


class RecordedData(Protocol):
    """What a record says of the data; a `VideoDataModule` answers it."""

    dataset: VideoDataset
    frames: int
    clip: ClipOptions
    loading: LoadingOptions
    skipped: set[str]

    def batch_of_step(self, trainer: Trainer, /) -> int: ...  # noqa: D102 - explained by the class

    def batch_of_process(self, processes: int, /) -> int: ...  # noqa: D102

    def batch_of_evaluation(self) -> int: ...  # noqa: D102

    def epochs_done(self, trainer: Trainer, /) -> int: ...  # noqa: D102

    def settings(self, side: Side, /) -> dict[str, object]: ...  # noqa: D102


class RecordedMethod(EvaluatedMethod, Protocol):
    """What a record says of the method; a `VideoTextMethod` answers it."""

    name: str
    backbone: DualEncoder
    provenance: TrainingFacts | None
    evaluations: list[Evaluation]
    keep: Keep | None
    describe_training: Callable[[], TrainingFacts] | None

    @property
    def device(self) -> torch.device: ...  # noqa: D102 - explained by the class

    @property
    def features_depend_on_classes(self) -> bool: ...  # noqa: D102

    @property
    def published_as(self) -> tuple[str, ...]: ...  # noqa: D102

    def deviations(  # noqa: D102
        self, side: Side, run: Mapping[str, object], training: TrainingFacts | None, tested: str | None, /
    ) -> dict[str, object]: ...

    def settings(self, side: Side, /) -> dict[str, object]: ...  # noqa: D102

    def parameters(self) -> Iterator[nn.Parameter]: ...  # noqa: D102

    def trained_digest(self) -> str: ...  # noqa: D102

    def trained_keys(self) -> set[str]: ...  # noqa: D102


def recorded(method: LightningModule) -> RecordedMethod:
    """A method as a record writer sees it.

    Raises:
        ConfigError: If the module is no `VideoTextMethod`; names what it lacks.
    """
    # Not isinstance: from Python 3.12 on it looks for attributes statically, and modules keep their parts elsewhere.
    kinds = (EvaluatedMethod, RecordedMethod)
    wanted = {name for kind in kinds for name in (*kind.__annotations__, *vars(kind)) if not name.startswith("_")}
    missing = sorted(name for name in wanted if not hasattr(method, name))
    if missing:
        raise ConfigError(
            f"RecordWriter records a VideoTextMethod, {type(method).__name__} is none: it has no {', '.join(missing)}"
        )
    return cast(RecordedMethod, method)
