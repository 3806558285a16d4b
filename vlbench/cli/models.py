"""A model from a checkpoint, from configurations or from a record, with the clips that it was trained or tested on."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser

import vlbench.clips.datamodules  # noqa: F401 - class names in configs are found among imported classes
from vlbench.cli.checks import explained
from vlbench.cli.configs import find_config, read_config
from vlbench.cli.methods import Configured, as_words, built, configuration_of, with_weights
from vlbench.cli.values import check_types
from vlbench.clips.datamodule import VideoDataModule
from vlbench.clips.options import DATA_SIDES, NORMAL, ClipOptions
from vlbench.errors import CheckpointError, ConfigError
from vlbench.inference import Model
from vlbench.inference.model import Device
from vlbench.results.options import differing
from vlbench.results.record import Record
from vlbench.settings import flat, plain
from vlbench.temporary import temporary_folder

_OF_CLIPS = re.compile(r"--data\.(?:init_args\.)?(frames\b|clip\b)")
_OF_DATASET = ("descriptions", "rephrased")
"""Options of methods of which a record states the sentences, which a model without a dataset has not read."""
_BANK = re.compile(r"\bFeatureBankDataModule\b")


def model_of(
    configs: Sequence[str],
    checkpoint: Path | None,
    record: Path | None = None,
    device: Device = "auto",
) -> Model:
    """A model with its weights and clips, by configurations, by a checkpoint or by a record.

    Args:
        configs: Configurations by name; only what they say of the model and its clips is read. Without any the
            checkpoint says it.
        checkpoint: Checkpoint of `vlbench fit`, or an exported safetensors file; `None` takes the initial weights.
        record: Path of a record whose test says everything; goes with neither configurations nor a checkpoint.
        device: Device that the model computes on.

    Raises:
        ConfigError: If they configure no model, contradict each other, or the weights are not those of the record.
        CheckpointError: If the checkpoint is not this method's, or does not say how its model is configured.
    """
    if record is not None:
        if configs or checkpoint is not None:
            raise ConfigError("a record says which configurations and checkpoint it is of; give either it or them")
        return _recorded(Record.read(record), record, device)
    if configs:
        return _model([read_config(find_config(name)) for name in configs], ", ".join(configs), checkpoint, device)
    if checkpoint is None:
        raise ConfigError("neither a checkpoint nor configurations are given; give one of the two, or a record")
    configuration = configuration_of(checkpoint)
    if "frames" not in _clips_in(configuration):
        raise ConfigError(
            f"{checkpoint}: the number of frames of a view is not known; give a --config with data.frames, such as the"
            " training's"
        )
    return _model([configuration], str(checkpoint), checkpoint, device)


def _clips_of(contents: Sequence[Configured]) -> tuple[int, ClipOptions]:
    """Number of frames of a clip, and what they are, by configurations and words of a command line.

    Args:
        contents: Contents of configurations, and words about the clips such as `--data.frames=16`.

    Raises:
        ConfigError: If an option cannot be read or is out of its range.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_argument("--frames", type=int, default=signature(VideoDataModule).parameters["frames"].default)
    parser.add_argument("--clip", type=ClipOptions, default=ClipOptions())
    with explained(parser), temporary_folder() as folder:
        values = parser.parse_args(as_words(contents, folder, _clips_in))
        check_types({"data.clip": values.clip}, {"data.clip": ClipOptions})
        values = parser.instantiate(values)
    return values.frames, values.clip


def _model(contents: Sequence[Configured], source: str, checkpoint: Path | None, device: Device) -> Model:
    of_model = [each for each in contents if not isinstance(each, str) or each.startswith("--model")]
    of_clips = [
        _OF_CLIPS.sub(r"--\1", each) if isinstance(each, str) else each
        for each in contents
        if not isinstance(each, str) or _OF_CLIPS.match(each)
    ]
    frames, clip = _clips_of(of_clips)
    return Model(with_weights(built(of_model, source, meta=False), checkpoint), frames, clip, device)


def _clips_in(content: Mapping[str, Any]) -> dict[str, Any]:
    """What the content of a configuration says of frames and clips."""
    data = content.get("data")
    # A checkpoint names no class of its data.
    options = (data.get("init_args", data) if isinstance(data, Mapping) else None) or {}
    if not isinstance(options, Mapping):
        raise ConfigError(f"data.init_args is {options!r}; allowed: names of options and their values")
    return {name: options[name] for name in ("frames", "clip") if name in options}


def _recorded(record: Record, path: Path, device: Device) -> Model:
    """The model of a record, by the command line that tested it."""
    words = list(record.details.command)
    if words[:1] != ["test"]:
        raise ConfigError(
            f"{path} does not say which command line tested it, as a test from a program or by an older vlbench; give"
            " --config, and --ckpt_path if it had one, as in that test"
        )
    contents: list[Configured] = []
    checkpoint: Path | None = None
    for option, value in _options(words[1:]):
        if option in ("--config", "-c"):
            contents.append(read_config(find_config(value)))
        elif option == "--ckpt_path":
            checkpoint = None if value in ("", "null") else Path(value)
        elif option == "--seed_everything":
            contents.append({"seed_everything": yaml.safe_load(value)})
        elif option == "--data" and isinstance(data := yaml.safe_load(value), Mapping):
            contents.append({"data": data})
        else:
            contents.append(f"{option}={value}")
    if _BANK.search(str(contents)):
        raise ConfigError(
            f"{path} is of a bank of features, and says nothing of clips; give --config, and --ckpt_path if it had one"
        )
    if checkpoint is not None and not checkpoint.is_file():
        raise CheckpointError(
            f"{path} was tested with {checkpoint}, which is not there now; give the checkpoint by --ckpt_path, and"
            " --config as in that test"
        )
    model = _model(contents, str(path), checkpoint, device)
    _check_settings(record, path, model)
    weights = None if checkpoint is None else model.method.trained_digest()
    method, identity = model.method, record.identity
    now = (method.name, method.backbone.identity.digest, weights, model.frames, _views(model.clip))
    then = (identity.method, record.details.backbone_digest, identity.weights, identity.frames, identity.views)
    if now != then:
        names = ("method", "backbone", "weights", "frames", "views")
        odd = next(name for name, one, other in zip(names, now, then, strict=True) if one != other)
        raise ConfigError(
            f"{path} was tested with other {odd} than its command line gives now, {then[names.index(odd)]} and not"
            f" {now[names.index(odd)]}; give --config and --ckpt_path of that test"
        )
    return model


def _check_settings(record: Record, path: Path, model: Model) -> None:
    """Refuses a model whose options are not those of the record: a configuration may have changed since the test."""
    if record.identity.settings is None:
        return  # an older vlbench kept no options
    clip = {name: value for name, value in flat("clip", model.clip) if DATA_SIDES[name] != "training"}
    now = {
        **{name: value for name, value in model.method.settings("test").items() if name not in _OF_DATASET},
        **{f"data.{name}": plain(value) for name, value in clip.items()},
        "data.clip.test_short_side": round(model.clip.test_short_side, 6),  # as a DataModule states it
    }
    then = {"data.clip.views.order": NORMAL, **record.details.settings}
    there, here = differing([{name: then[name] for name in now if name in then}, now])
    if there or here:
        raise ConfigError(
            f"{path} was tested with other options than its command line gives now, {there or 'no such option'} and not"
            f" {here}; give --config and --ckpt_path of that test"
        )


def _views(clip: ClipOptions) -> str:
    """Clips and crops of a video as records name them."""
    return f"{clip.views.clips}x{clip.views.crops}"


def _options(words: Sequence[str]) -> list[tuple[str, str]]:
    """Options of a command line and their values."""
    options: list[tuple[str, str]] = []
    remaining = iter(words)
    for word in remaining:
        option, equals, value = word.partition("=")
        options.append((option, value if equals else next(remaining, "")))
    return options
