"""`vlbench methods`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeAlias, get_args

import torch
import yaml
from jsonargparse import ArgumentParser, Namespace
from rich.table import Table
from torch import nn

import vlbench.backbones
import vlbench.methods  # noqa: F401 - class names in configs are found among imported classes
from vlbench.cli.configs import find_config, read_config
from vlbench.cli.usage import explain
from vlbench.cli.values import check_types, checked_seed
from vlbench.cli.weights import as_checkpoint, check_checkpoint, header_of
from vlbench.errors import CheckpointError, ConfigError, DataError, user_error
from vlbench.methods.base import VideoTextMethod
from vlbench.methods.parts.prompts import templates
from vlbench.results.report import check_fixed_features
from vlbench.results.stored import StoredEvaluation
from vlbench.temporary import temporary_folder
from vlbench.tools.memory import MemoryEstimate, Precision, estimate

Configured: TypeAlias = Mapping[str, Any] | str
"""Content of a configuration, or one word of a command line such as `--model.lr=0.001`."""


def parameter_table(configs: Sequence[str]) -> Table:
    """Trainable and all parameters of a configured method, module by module.

    Args:
        configs: Configurations by name; only what they say of the model is read.

    Raises:
        ConfigError: If they configure no model.
    """
    method = build(configs)
    table = Table("module", "trainable", "total", "%", title=f"{method.name} on {method.backbone.identity.name}")
    modules = _modules(method)
    last = list(modules)[-1]
    for name, parameters in (*modules.items(), ("all", list(method.parameters()))):
        total = sum(parameter.numel() for parameter in parameters)
        trainable = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
        share = f"{100 * trainable / max(1, total):.2f}"
        table.add_row(name, f"{trainable:,}", f"{total:,}", share, end_section=name == last)
    for column in table.columns[1:]:
        column.justify = "right"
    return table


def memory_table(configs: Sequence[str], *, batch_size: int, frames: int, classes: int) -> Table:
    """Estimated memory of a training step of a configured method on a GPU, in GiB; neither GPU nor weights are needed.

    Args:
        configs: Configurations by name; only what they say of the model is read.
        batch_size: Training clips that a GPU takes at once.
        frames: Frames of a clip.
        classes: Number of training classes.

    Raises:
        ConfigError: If the configurations configure no model that trains.
    """
    method = build(configs)
    if not any(parameter.requires_grad for parameter in method.parameters()):
        raise ConfigError(f"{method.name} trains nothing, so no training step takes memory")
    precisions: tuple[Precision, ...] = get_args(Precision)
    estimates = [
        estimate(build(configs), frames=frames, batch_size=batch_size, precision=precision, classes=classes)
        for precision in precisions
    ]
    title = f"GiB of a training step: {batch_size} clips of {frames} frames, {classes} classes"
    table = Table("part", *precisions, title=title, min_width=len(title))
    for part in (*(field.name for field in fields(MemoryEstimate)), "total"):
        values = (f"{getattr(memory, part) / 2**30:.2f}" for memory in estimates)
        table.add_row(part, *values, end_section=part == "temporaries")
    for column in table.columns[1:]:
        column.justify = "right"
    return table


def with_prompts(
    stored: StoredEvaluation, prompts: str | Sequence[str], configs: Sequence[str], checkpoint: Path | None
) -> StoredEvaluation:
    """A stored evaluation against the classes in other prompts, by the very weights of its record.

    Args:
        stored: Stored evaluation that is scored again.
        prompts: Name of a set of templates, or templates.
        configs: Configurations by name that it was tested with.
        checkpoint: Checkpoint that the evaluation was tested with.

    Raises:
        ConfigError: If the configurations and the checkpoint do not give the weights of the record.
        DataError: If the method's video features depend on the prompts, or were not stored.
    """
    check_fixed_features(stored)
    new_templates = templates(prompts)
    if not configs:
        raise ConfigError("other prompts go through the text tower; give the test's --config and --ckpt_path")
    kind = type(build(configs))
    if not kind.opens_vocabulary:
        raise ConfigError(f"{kind.name} has no open vocabulary: no prompt changes its scores; leave --prompts out")
    method = with_weights(build(configs, meta=False), checkpoint)
    given = (method.backbone.identity.digest, method.trained_digest() if checkpoint is not None else None)
    expected = (stored.record.details.backbone_digest, stored.record.identity.weights)
    if given != expected:
        raise ConfigError(
            f"{stored.name} was tested with backbone and weights {expected}, --config and --ckpt_path give {given}"
        )
    features = torch.from_numpy(stored.predictions.features)
    if not features.shape[1]:
        raise DataError(
            f"{stored.name} holds no features of its videos, as {method.name} makes more than one vector of each; run"
            " `vlbench test` with the other prompts"
        )
    method.templates = new_templates
    with torch.no_grad():
        scores = method.score(features, method.encode_classes(stored.classes))
    return stored.rescored(scores.float().numpy())


def with_weights(method: VideoTextMethod, checkpoint: Path | None) -> VideoTextMethod:
    """A method with the weights of a checkpoint, in evaluation mode.

    Args:
        method: Method on the CPU, which is changed.
        checkpoint: Checkpoint of `vlbench fit`, or an exported safetensors file; `None` leaves the weights as they are.

    Raises:
        CheckpointError: If the checkpoint is not this method's.
    """
    if checkpoint is not None:
        with temporary_folder() as folder:
            path = as_checkpoint(checkpoint, folder) if checkpoint.suffix == ".safetensors" else checkpoint
            check_checkpoint(checkpoint, method.name)
            content = torch.load(path, map_location="cpu", weights_only=True)
        method.on_load_checkpoint(content)
        method.load_state_dict(content["state_dict"])
    return method.eval()


def build(configs: Sequence[str], *, meta: bool = True) -> VideoTextMethod:
    """The method of some configurations.

    Args:
        configs: Configurations by name; only what they say of the model is read.
        meta: On the meta device: sizes without memory, weights or data.

    Raises:
        ConfigError: If they configure no model.
    """
    return built([read_config(find_config(name)) for name in configs], ", ".join(configs), meta=meta)


def configuration_of(checkpoint: Path) -> dict[str, Any]:
    """What a checkpoint says of its model, its clips and its seed, as the content of a configuration.

    Args:
        checkpoint: Checkpoint of `vlbench fit`, or an exported safetensors file.

    Raises:
        CheckpointError: If the checkpoint cannot be read, or does not say how its model is configured.
    """
    configuration: dict[str, Any] | None = header_of(checkpoint).get("configuration")
    if configuration is None:
        raise CheckpointError(
            f"{checkpoint} does not say how its model is configured, as one that was imported or written by an older"
            " vlbench; give the configurations of its training by --config"
        )
    return configuration


def built(contents: Sequence[Configured], source: str, *, meta: bool) -> VideoTextMethod:
    """The method of configurations and words of a command line, of which a later one comes over an earlier one.

    Args:
        contents: Contents of configurations, of which the model and the seed are read, and words about the model.
        source: Name of where they come from, for messages.
        meta: On the meta device: sizes without memory, weights or data.

    Raises:
        VlbenchError: If they configure no model, or the method refuses its options, or weights cannot be loaded.
    """
    if not any(
        content.startswith("--model") if isinstance(content, str) else "model" in content for content in contents
    ):
        raise ConfigError(f"{source} configure no method: none of them has a model; add one, such as zero_shot.yaml")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_subclass_arguments(VideoTextMethod, "model", required=True)
    with temporary_folder() as folder:
        try:
            values = parser.parse_args(as_words(contents, folder, _model_of))
        except Exception as error:
            raise ConfigError(f"{source} configure no method: {explain(str(error), parser)}") from error
    check_types(values, {"model": VideoTextMethod})
    if meta:
        _leave_out_weights(values.model)
    seed = 0
    for content in contents:
        seed = seed if isinstance(content, str) else checked_seed(content.get("seed_everything", seed))
    with torch.random.fork_rng(devices=[]), torch.device("meta" if meta else "cpu"):
        # Random weights of a backbone are those of a training with this seed.
        torch.default_generator.manual_seed(seed)
        if "seed" in values.model.init_args:
            values.model.init_args.seed = seed  # the command line takes it from `seed_everything`, too
        try:
            method = parser.instantiate(values).model
        except Exception as error:
            refused = user_error(error)  # a parser wraps what a constructor raises
            if refused is None or refused is error:
                raise
            raise refused from error
    assert isinstance(method, VideoTextMethod)
    return method


def as_words(
    contents: Sequence[Configured], folder: Path, read: Callable[[Mapping[str, Any]], Mapping[str, Any]]
) -> list[str]:
    """Words of a command line that say what some configurations and words do, in their order.

    Args:
        contents: Contents of configurations, and words of a command line.
        folder: Folder for the files of the contents.
        read: Function from the content of a configuration to the part of it that a parser knows.
    """
    words = []
    for index, content in enumerate(contents):
        if isinstance(content, str):
            words.append(content)
        else:
            path = folder / f"{index}.yaml"
            path.write_text(yaml.safe_dump(read(content)))
            words += ["--config", str(path)]
    return words


def _model_of(content: Mapping[str, Any]) -> dict[str, Any]:
    return {"model": content["model"]} if "model" in content else {}


def check_options(model: Namespace) -> None:
    """Has a method check its options, before data are prepared and weights are downloaded: it is built without memory.

    Args:
        model: Class and options of the method, as the parser has read them.

    Raises:
        VlbenchError: If the method refuses its options.
    """
    model = model.clone()
    if not _leave_out_weights(model):
        return  # the file of the weights says what the backbone is
    parser = ArgumentParser()
    parser.add_subclass_arguments(VideoTextMethod, "model")
    # What is drawn and warned here is drawn and warned when the method is built for good.
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")
        try:
            parser.instantiate(Namespace(model=model))
        except Exception as error:
            refused = user_error(error)
            if refused is not None:
                raise refused from error
            return  # a method that needs memory when it is built says what is wrong then


def _leave_out_weights(model: Namespace) -> bool:
    """Has a configured backbone load no weights; `False` where it has no option that says so."""
    options = model.init_args.backbone.init_args
    if "pretrained" not in options:
        return False
    options.pretrained = False if isinstance(options.pretrained, bool) else None
    return True


def _modules(method: VideoTextMethod) -> dict[str, list[nn.Parameter]]:
    """Every parameter in one row: the towers, and the method's own modules, lists of them one by one."""
    rows: dict[str, list[nn.Parameter]] = {"image tower": list(method.backbone.visual.parameters()), "text tower": []}
    image = {id(parameter) for parameter in rows["image tower"]}
    scale = method.backbone.logit_scale if method.backbone.capabilities.texts else None
    for name, parameter in method.named_parameters():
        if id(parameter) in image:
            continue
        top, second, *_ = name.split(".")
        if parameter is scale:
            row = "logit scale"
        elif top == "backbone":
            row = "text tower"
        else:
            row = f"{top}.{second}" if second.isdecimal() else top
        rows.setdefault(row, []).append(parameter)
    return rows
