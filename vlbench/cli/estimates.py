"""What a suite costs: clips that are trained on and tested, and hours on a GPU."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from vlbench.cli.configs import read_config
from vlbench.datasets import DATASETS, VideoDataset
from vlbench.datasets.specs import Part, Subset
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


def describe_cost(stages: Sequence[Stage], find: Callable[[str], Path]) -> list[str]:
    """Lines that say what stages cost.

    Args:
        stages: Stages of a plan.
        find: Turns a configuration's name into its file.
    """
    cost = estimate_cost(stages, find)
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


def estimate_cost(stages: Sequence[Stage], find: Callable[[str], Path]) -> Cost:
    """What stages cost.

    Args:
        stages: Stages of a plan.
        find: Turns a configuration's name into its file.
    """
    trained, tested, operations, unknown = 0, 0, 0.0, []
    counted: dict[str, dict[int, Any]] = {}
    for stage in stages:
        if stage.action == "sweep":
            continue  # it has features, and nothing goes through a tower
        settings = _merged(read_config(find(name)) for name in stage.configs)
        clips = _clips(stage, settings)
        if clips is None:
            unknown.append(stage.name)
            continue
        each = _operations(stage, settings, counted)
        if stage.action == "test":
            tested += clips
            operations += clips * each.view if each is not None else 0
        else:
            trained += clips
            steps = clips / _batch(settings["data"]["init_args"])
            operations += clips * each.clip + steps * each.step if each is not None else 0
    return Cost(trained, tested, operations, tuple(unknown))


def _merged(contents: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Configurations as one, later ones over earlier ones."""
    merged: dict[str, Any] = {}
    for content in contents:
        for key, value in content.items():
            old = merged.get(key)
            merged[key] = _merged([old, value]) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _clips(stage: Stage, settings: Mapping[str, Any]) -> int | None:
    """Clips of a training, or views of a test; `None` where nobody knows."""
    options = settings.get("data", {}).get("init_args", {})
    if stage.action == "test":
        numbers = [_videos(settings, "test", subset) for subset in stage.test]
        views = {"clips": 1, "crops": 1, **options.get("clip", {}).get("views", {})}
        return None if None in numbers else sum(filter(None, numbers)) * views["clips"] * views["crops"]
    assert stage.train is not None
    loading, trainer = options.get("loading", {}), settings.get("trainer", {})
    of_epoch = loading.get("epoch_size") or _videos(settings, "train", stage.train)
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


def _dataset(settings: Mapping[str, Any], part: Part, subset: Subset) -> VideoDataset:
    data = settings["data"]
    name = data["class_path"].rpartition(".")[2].removesuffix("DataModule")
    variant = data.get("init_args", {}).get("variant")
    make = DATASETS[name]
    return make(None, variant, train=subset) if part == "train" else make(None, variant, test=subset)


def _videos(settings: Mapping[str, Any], part: Part, subset: Subset) -> int | None:
    """Number of videos of a subset of a dataset, from the facts about it."""
    try:
        spec = _dataset(settings, part, subset).spec
        labels = spec.labels(subset.classes)
    except (VlbenchError, KeyError):
        return None
    if part == "train" and subset.shots is not None:
        return subset.shots * len(labels)
    known = (spec.counts or {}).get((part, subset.split)) or spec.about.get(part)
    return None if known is None else round(known * len(labels) / len(spec.class_names))


def _operations(stage: Stage, settings: Mapping[str, Any], counted: dict[str, dict[int, Any]]) -> Any:
    """Operations of a stage's method; `None` where it cannot be built without weights."""
    frames = settings.get("data", {}).get("init_args", {}).get("frames", 8)
    by_classes = counted.setdefault(yaml.safe_dump([settings.get("model"), frames]), {})
    if stage.train is None and by_classes:
        return next(iter(by_classes.values()))  # a view takes the same, whatever the classes of a training
    with contextlib.suppress(VlbenchError), _silence():
        subset = stage.train or stage.test[0]
        classes = len(_dataset(settings, "train", subset).spec.labels(subset.classes))
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
