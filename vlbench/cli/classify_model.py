"""The model of `vlbench classify`, and what is said of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from vlbench.cli.models import model_of
from vlbench.clips.datamodule import cores_of_a_process
from vlbench.errors import CheckpointError
from vlbench.inference import Model
from vlbench.inference.model import Device
from vlbench.results.stored import find_record


def wanted_model(
    config: Sequence[str], ckpt_path: Path | None, record: str | None, folder: Path, device: Device
) -> Model:
    """The model of the command's options; without any, zero-shot CLIP.

    Args:
        config: Names of configurations of the model.
        ckpt_path: Path of a checkpoint.
        record: Path of a record, or the name of one.
        folder: Results folder in which a record is looked up.
        device: Device that the model computes on.

    Raises:
        VlbenchError: If they give no model; CLIP's weights may be out of reach, and the message says what goes without.
    """
    if record is not None:
        return model_of(config, ckpt_path, find_record(record, folder), device)
    if config or ckpt_path is not None:
        return model_of(config, ckpt_path, device=device)
    try:
        return model_of(["zero_shot.yaml"], None, device=device)
    except CheckpointError as error:
        raise CheckpointError(
            f"{str(error).rstrip('.')}. For a first try without them add --config zero_shot.yaml backbone/tiny.yaml, a"
            " small CLIP of coloured shapes that ships with vlbench"
        ) from error


def notes(model: Model, *, trained: bool) -> Iterator[str]:
    """What the numbers of a result do not say of themselves.

    Args:
        model: Model that gives the results.
        trained: Whether the weights of the model are a checkpoint's.
    """
    if not trained and model.method.trained_keys():
        yield f"{model.method.name} has its initial weights; give the checkpoint of its training by --ckpt_path"
    if model.method.probability.source is None:
        yield f"scores in place of probabilities: {model.method.probability.reason}"


def decoders(model: Model, videos: int) -> int:
    """Number of processes that decode: on a CPU none, where the model takes every core itself.

    Args:
        model: Model that scores the videos.
        videos: Number of videos that are read.
    """
    return 0 if model.device.type == "cpu" else min(videos, cores_of_a_process(1))
