"""What a suite costs: clips that are trained on and tested, and hours on a GPU."""

from __future__ import annotations

import contextlib
import io
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, reduce
from typing import Any, NamedTuple

from vlbench.cli.configs import find_config, read_config
from vlbench.cli.datasets import dataset_class, overlaid
from vlbench.datasets.specs import DatasetSpec, Part, Subset
from vlbench.errors import VlbenchError
from vlbench.protocols.stages import Stage

_RATE = 360e12
"""Operations a second of a training or test on an H100 in bfloat16, 45 % of a matrix product (docs/performance.md)."""


class Cost(NamedTuple):
    """What stages cost, as far as it is known.

    Attributes:
        trained: Clips that are trained on.
        tested: Views of test videos.
        operations: Floating-point operations; 0 where they were not counted.
        unknown: Names of the stages whose number of videos nobody knows before the dataset is there.
    """

    trained: int = 0
    tested: int = 0
    operations: float = 0.0
    unknown: tuple[str, ...] = ()


def describe_cost(stages: Sequence[Stage]) -> list[str]:
    """Lines that say what stages cost.

    Args:
        stages: Stages of a plan.
    """
    cost = estimate_cost(stages)
    hours = cost.operations / _RATE / 3600
    lines = [f"{cost.trained:,} clips to train on and {cost.tested:,} views to test"]
    if hours >= 0.05:
        lines[0] += f", about {hours:,.1f} GPU hours at {_RATE / 1e12:.0f} TFLOP/s, which an H100 does in bfloat16"
    if cost.unknown:
        lines.append(
            f"{len(cost.unknown)} stages are not counted, such as {cost.unknown[0]}: the number of their videos is not"
            " known before the dataset is there"
        )
    return lines


def estimate_cost(stages: Sequence[Stage]) -> Cost:
    """What stages cost; every configuration is read once and every method counted once for a number of classes.

    Args:
        stages: Stages of a plan.
    """
    trained, tested, operations, unknown = 0, 0, 0.0, []
    known = _Known()
    for stage in stages:
        if stage.action in ("choose", "sweep"):
            continue  # nothing goes through a tower: a choice reads accuracies, a sweep has features
        clips = _clips(stage, known)
        if clips is None:
            unknown.append(stage.name)
            continue
        each = _operations(stage, known)
        if stage.action == "test":
            tested += clips
            operations += clips * each.view if each is not None else 0
        else:
            trained += clips
            steps = clips / _batch(known.settings(stage.configs)["data"]["init_args"])
            operations += clips * each.clip + steps * each.step if each is not None else 0
    return Cost(trained, tested, operations, tuple(unknown))


class _Known:
    """What is found out once for all stages.

    Attributes:
        settings: Gives what configurations say together, by their names.
        counted: Operations of a method by its options, then by its number of training classes; `None` where it cannot
            be built without weights.
    """

    def __init__(self) -> None:
        self._read = cache(_content)
        self._spec = cache(_spec)
        self.settings = cache(self._merged)
        self.counted: dict[str, dict[int, Any]] = {}

    def _merged(self, configs: tuple[str, ...]) -> dict[str, Any]:
        nothing: dict[str, Any] = {}
        return reduce(overlaid, (self._read(name) for name in configs), nothing)

    def spec(self, stage: Stage) -> DatasetSpec:
        """The facts about the dataset of a stage.

        Raises:
            VlbenchError: If they are not known before the dataset is there.
        """
        data = self.settings(stage.configs).get("data", {})
        return self._spec(data.get("class_path", ""), data.get("init_args", {}).get("variant"))


def _content(name: str) -> Mapping[str, Any]:
    """What a configuration says, a class of data that stands alone as one without options."""
    content = read_config(find_config(name))
    data = content.get("data")
    return {**content, "data": {"class_path": data}} if isinstance(data, str) else content


def _spec(class_path: str, variant: str | None) -> DatasetSpec:
    return dataset_class(class_path)(None, variant).facts


def _clips(stage: Stage, known: _Known) -> int | None:
    """Clips of a training, or views of a test; `None` where nobody knows."""
    settings = known.settings(stage.configs)
    options = settings.get("data", {}).get("init_args", {})
    if stage.action == "test":
        numbers = [_videos(stage, known, "test", subset) for subset in stage.test]
        views = {"clips": 1, "crops": 1, **options.get("clip", {}).get("views", {})}
        return None if None in numbers else sum(filter(None, numbers)) * views["clips"] * views["crops"]
    assert stage.train is not None
    loading, trainer = options.get("loading", {}), settings.get("trainer", {})
    of_epoch = loading.get("epoch_size") or _videos(stage, known, "train", stage.train)
    if of_epoch is None:
        return None
    steps, epochs = trainer.get("max_steps", -1), trainer.get("max_epochs")
    ends = [steps * _batch(options)] if steps > 0 else []
    ends += [epochs * of_epoch] if epochs else []
    return min(ends) if ends else None


def _batch(options: Mapping[str, Any]) -> int:
    """Clips of an optimizer step on one device."""
    batch: int = options.get("loading", {}).get("effective_batch") or options.get("batch_size", 32)
    return batch


def _videos(stage: Stage, known: _Known, part: Part, subset: Subset) -> int | None:
    """Number of videos of a subset of a stage's dataset, from the facts about it."""
    try:
        spec = known.spec(stage)
        labels = spec.labels(subset.classes)
    except VlbenchError:
        return None
    if part == "train" and subset.shots is not None:
        return subset.shots * len(labels)
    count = (spec.counts or {}).get((part, subset.split)) or spec.about.get(part)
    return None if count is None else round(count * len(labels) / spec.num_classes)


def _operations(stage: Stage, known: _Known) -> Any:
    """Operations of a stage's method; `None` where it cannot be built without weights."""
    settings = known.settings(stage.configs)
    frames = settings.get("data", {}).get("init_args", {}).get("frames", 8)
    by_classes = known.counted.setdefault(json.dumps([settings.get("model"), frames], default=str), {})
    if stage.train is None and by_classes:
        return next(iter(by_classes.values()))  # a view takes the same, whatever the classes of a training
    with contextlib.suppress(VlbenchError), _silence():
        subset = stage.train or stage.test[0]
        classes = len(known.spec(stage).labels(subset.classes))
        if classes not in by_classes:
            from vlbench.cli.methods import build  # late: torch
            from vlbench.tools.cost import count

            by_classes[classes] = None
            by_classes[classes] = count(build(stage.configs), frames=frames, classes=classes)
        return by_classes[classes]
    return None


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Inside, nobody says that weights are missing."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(disabled)
