"""What open_clip records of its architectures, without building them.

The library is imported where it is used, see openclip.py.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlbench.backbones.base import Capabilities
from vlbench.backbones.preprocess import CLIP, Preprocess
from vlbench.backbones.roles import configured_capabilities, configured_obstacle
from vlbench.errors import CheckpointError, ConfigError


def architecture(model: str) -> dict[str, Any]:
    """The configuration of an architecture: `embed_dim`, `vision_cfg`, `text_cfg` and what else open_clip reads.

    Args:
        model: Name of the architecture.

    Raises:
        ConfigError: If open_clip does not know the name.
    """
    import open_clip

    config: dict[str, Any] | None = open_clip.get_model_config(model) if model in open_clip.list_models() else None
    if config is None:
        names = {name.lower(): name for name in open_clip.list_models()}
        near = [names[each] for each in difflib.get_close_matches(model.lower(), names, n=3)]
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise ConfigError(f"open_clip has no model {model!r}; {hint}`vlbench backbones list` names all")
    return config


def tags(model: str) -> dict[str, Preprocess]:
    """What the released weights of an architecture were trained to see, by their tags.

    Weights that were trained with quick GELU belong to the architecture that has it.

    Args:
        model: Name of the architecture.
    """
    import open_clip

    quick = bool((open_clip.get_model_config(model) or {}).get("quick_gelu"))
    by_tag = {}
    for tag in open_clip.list_pretrained_tags_by_model(model):
        record = open_clip.get_pretrained_cfg(model, tag)
        if quick or not (record.get("quick_gelu") and _quick(model)):
            by_tag[tag] = _preprocess(record)
    return by_tag


def check_weights(model: str, pretrained: str | None) -> None:
    """Whether weights can be those of an architecture.

    Args:
        model: Name of the architecture.
        pretrained: Tag or file of the weights.

    Raises:
        CheckpointError: If they are neither a file nor a tag that open_clip has for the architecture.
        ConfigError: If they were trained with another activation.
    """
    import open_clip

    if pretrained is None or Path(pretrained).is_file():
        return
    record = open_clip.get_pretrained_cfg(model, pretrained)
    if not record:
        others = open_clip.list_pretrained_models_by_tag(pretrained)
        elsewhere = f"; {pretrained} is a tag of {', '.join(others)}" if others else ""
        raise CheckpointError(
            f"pretrained is {pretrained!r}: neither a file nor a tag of {model}; tags: "
            f"{', '.join(tags(model)) or 'none'}{elsewhere}"
        )
    if record.get("quick_gelu") and not architecture(model).get("quick_gelu") and _quick(model):
        raise ConfigError(
            f"model is {model!r} with pretrained {pretrained!r}: these weights were trained with quick GELU; "
            f"use model: {model}-quickgelu"
        )


def recorded_preprocess(model: str, pretrained: str | None) -> Preprocess:
    """What open_clip records of the pixels that weights expect: by their tag, or what all tags of a model agree on.

    Args:
        model: Name of the architecture.
        pretrained: Tag or file of the weights; `None` for random ones, which expect nothing: where tags disagree or
            there are none, they get CLIP's constants.

    Raises:
        ConfigError: If the weights are a file and no record says what they expect.
    """
    import open_clip

    if pretrained is not None and not Path(pretrained).is_file():
        return _preprocess(open_clip.get_pretrained_cfg(model, pretrained))
    by_tag = tags(model)
    choices = set(by_tag.values())
    if len(choices) == 1:
        return choices.pop()
    if pretrained is None:
        return CLIP
    if not choices:
        raise ConfigError(
            f"pretrained is the file {pretrained} and open_clip has no released weights of {model}, whose constants "
            f"could be its own; state them, such as preprocess: {CLIP}"
        )
    described = " or ".join(
        f"preprocess: {choice}, as {', '.join(tag for tag, each in by_tag.items() if each == choice)}"
        for choice in dict.fromkeys(by_tag.values())
    )
    raise ConfigError(
        f"pretrained is the file {pretrained} and the released weights of {model} expect different pixels; state "
        f"those of the file: {described}"
    )


def _quick(model: str) -> bool:
    """Whether an architecture also comes with quick GELU."""
    import open_clip

    return f"{model}-quickgelu" in open_clip.list_models()


def _preprocess(record: Mapping[str, Any]) -> Preprocess:
    return Preprocess(tuple(record["mean"]), tuple(record["std"]), record["interpolation"], record["resize_mode"])


@dataclass(frozen=True)
class Entry:
    """A backbone as it is listed, before it is built.

    Attributes:
        name: Name of the architecture.
        capabilities: What methods can do with the backbone.
        without_roles: What keeps its blocks from having roles, a clause; `None` where they have.
        embed_dim: Dimension D of the common space.
        text_width: Width of the text tower; of a text model of the Hugging Face hub, whose width no record says, D.
        image_size: Side of the square frames, in pixels.
        context: Length of the longest text, in tokens.
        tags: Names of the released weights.
        hub: Names of files of the Hugging Face hub that its texts need.
    """

    name: str
    capabilities: Capabilities
    without_roles: str | None
    embed_dim: int
    text_width: int
    image_size: int
    context: int
    tags: tuple[str, ...]
    hub: tuple[str, ...]


def entries() -> list[Entry]:
    """Every architecture that open_clip has, in its order."""
    import open_clip

    return [entry_of(model) for model in open_clip.list_models()]


def entry_of(model: str) -> Entry:
    """An architecture of open_clip as it is listed.

    Args:
        model: Name of the architecture.

    Raises:
        ConfigError: If open_clip does not know the name.
    """
    config = architecture(model)
    vision, text = config["vision_cfg"], config["text_cfg"]
    size = vision.get("image_size", 224)
    return Entry(
        name=model,
        capabilities=configured_capabilities(config),
        without_roles=configured_obstacle(config),
        embed_dim=int(config["embed_dim"]),
        # The width of a text model of the hub is in its own configuration.
        text_width=int(config["embed_dim"] if text.get("hf_model_name") else text.get("width", 512)),
        image_size=int(size[0] if isinstance(size, list) else size),
        context=int(text.get("context_length") or 77),
        tags=tuple(tags(model)),
        hub=tuple(dict.fromkeys(text[key] for key in ("hf_tokenizer_name", "hf_model_name") if text.get(key))),
    )
