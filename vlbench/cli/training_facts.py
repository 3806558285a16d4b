"""What tells one training from another: the options and the data that its weights depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from vlbench.datasets import VideoDataset
from vlbench.settings import text_of

_OF_THE_RUN = {
    "trainer": (
        *("accelerator", "strategy", "devices", "num_nodes", "plugins", "logger", "default_root_dir", "profiler"),
        *("enable_progress_bar", "enable_model_summary", "log_every_n_steps"),
    ),
    "model": ("pretrained_from",),
    "data": ("root", "num_workers", "batch_size"),
    "loading": ("eval_batch_size", "effective_batch"),
}
"""Options that say where and how a training runs. The batch is what all processes make of it."""


def training_data(dataset: VideoDataset) -> dict[str, Any]:
    """Facts by which checkpoints of trainings on other data are told apart: names, and a digest of videos and labels.

    Args:
        dataset: Dataset of the training.
    """
    videos = sorted((video.id, video.label) for video in dataset.videos("train"))
    text = json.dumps(videos)
    return {
        "dataset": dataset.label,
        "classes": list(dataset.train_classes.names),
        "list": dataset.list_name("train"),
        "videos": len(videos),
        "digest": hashlib.blake2b(text.encode(), digest_size=16).hexdigest(),
    }


def data_differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """Clauses on what differs between the data of two trainings.

    Args:
        there: Facts of the other training, see `training_data`.
        here: Facts of this training.
    """
    clauses = [
        f"the {name} is {there[key]!r} there and {here[key]!r} here"
        for key, name in (("dataset", "dataset"), ("list", "training list"))
        if there.get(key) != here.get(key)
    ]
    if there.get("classes") != here.get("classes"):
        odd = [name for name in here["classes"] if name not in there["classes"]] or here["classes"]
        clauses.append(f"{len(there['classes'])} classes there and {len(here['classes'])} here, such as {odd[0]!r}")
    if not clauses and there.get("digest") != here.get("digest"):
        clauses.append(f"{there['videos']} videos there and {here['videos']} here, which are not the same ones")
    return clauses


def training_digest(config: Mapping[str, Any], batch: Mapping[str, int], backbone: str = "") -> str:
    """Digest of what the weights of a training depend on, and not of where it runs.

    Args:
        config: Configuration of `vlbench fit`, plain values.
        batch: Which clips come together in a step, see `batch_settings`, and what a selection compares, see
            `validation_batch_settings`; with other processes a training may go on.
        backbone: Digest of the backbone's weights at the start, which says more than the path of a checkpoint.
    """
    model, data = config["model"], config["data"]
    kept = {
        "model": {**model, "init_args": _without(model.get("init_args", {}), _OF_THE_RUN["model"])},
        "backbone": backbone,
        "data": {
            **data,
            "init_args": {
                **_without(data["init_args"], _OF_THE_RUN["data"]),
                "loading": _without(data["init_args"].get("loading", {}), _OF_THE_RUN["loading"]),
            },
        },
        "trainer": _without(config["trainer"], _OF_THE_RUN["trainer"]),
        "matmul_precision": config["matmul_precision"],
        "selection": config["selection"],
        "seed": config["seed_everything"],
        **{name: count for name, count in batch.items() if name != "processes"},
    }
    return hashlib.blake2b(text_of(kept).encode(), digest_size=16).hexdigest()


def _without(options: Mapping[str, Any], left_out: tuple[str, ...]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if key not in left_out}
