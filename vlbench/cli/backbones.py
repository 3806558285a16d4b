"""`vlbench backbones`."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any

import torch
from rich.table import Table
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import vlbench.methods
from vlbench.backbones import DualEncoder, InternVideo2, OpenCLIP, ViCLIP, VideoNetwork, internvideo2, viclip
from vlbench.backbones.catalogue import Entry, entries, entry_of, tags
from vlbench.backbones.video_network import NETWORKS
from vlbench.errors import ConfigError
from vlbench.methods import VideoTextMethod

_KINDS: dict[str, type[ViCLIP] | type[InternVideo2] | type[VideoNetwork]] = {
    **dict.fromkeys(viclip.SIZES, ViCLIP),
    **dict.fromkeys(internvideo2.SIZES, InternVideo2),
    **dict.fromkeys(NETWORKS, VideoNetwork),
}
"""Backbones that are not open_clip's, by their names; their weights are released files."""


def backbone_table(match: str, *, flops: bool) -> Iterator[Table | str]:
    """The backbones that a name selects, as a table and lines below it.

    Args:
        match: Part of the names that are listed, in any case.
        flops: Whether parameters and the multiply-adds of a frame are counted; every model is built for it, without
            memory.

    Raises:
        ConfigError: If no name has that part.
    """
    described = [entry for entry in entries() if match.lower() in entry.name.lower()]
    others = [name for name in _KINDS if match.lower() in name.lower()]
    if not described and not others:
        raise ConfigError(f"match is {match!r}, which no backbone has in its name; leave it out to see all")

    counts = ("parameters", "GMAC/frame") if flops else ()
    columns = ("model", "image", "context", *counts, "methods", "pretrained tags")
    table = Table(*columns, title="--model.backbone OpenCLIP --model.backbone.model MODEL")
    for column in table.columns:
        column.no_wrap, column.overflow = column.header == "model", "fold"
    for entry in described:
        usable = ", ".join(method.name for method in _methods() if method.refusal(entry.name, entry) is None)
        counted = _counted(entry.name) if flops else ()
        row = (entry.name, str(entry.image_size), str(entry.context), *counted, usable)
        table.add_row(*row, ", ".join(entry.tags) or "none")
    if described:
        yield table
    names = sum(bool(entry.hub) for entry in described)
    if names:
        yield f"{names} of them need files of the Hugging Face hub for texts; `vlbench backbones show MODEL` names them"
    for name in others:
        yield f"--model.backbone {_KINDS[name].__name__} --model.backbone.model {name}: released file"


def description(model: str) -> Iterator[str]:
    """Lines on a backbone, which is built without memory.

    Args:
        model: Name of the backbone, as `vlbench backbones list` has it.

    Raises:
        ConfigError: If there is none of that name, or files of a text model are missing.
    """
    entry = _entry(model)
    backbone = _built(model)
    yield model
    yield f"parameters    {_parameters(backbone):,}, of the image tower {_parameters(backbone.visual):,}"
    if backbone.capabilities.blocks:
        for name, tower in (("image tower", backbone.image), ("text tower", backbone.text)):
            yield f"{name:13} {len(tower.blocks)} blocks of width {tower.width}"
    else:
        yield f"towers        no blocks that methods could change: {backbone.without_roles}"
    clip = "a frame" if backbone.frames == 1 else f"a clip of {backbone.frames} frames"
    yield f"features      {backbone.embed_dim} dimensions, {_multiply_adds(backbone):.2f} billion multiply-adds {clip}"
    yield f"image size    {backbone.image_size}"
    if backbone.capabilities.texts:
        context: Any = backbone.texts
        yield f"context       {context.context} tokens"
    for name in entry.hub if entry else ():
        yield f"texts         files of {name} of the Hugging Face hub, or a folder with them as text_files"
    for method in _methods():
        yield f"method        {method.name}: {method.refusal(model, backbone) or 'yes'}"
    if entry is None:
        yield f"pretrained    a released file, preprocess: {backbone.preprocess}"
        return
    by_tag = tags(model)
    for preprocess in dict.fromkeys(by_tag.values()):
        names = ", ".join(tag for tag, each in by_tag.items() if each == preprocess)
        yield f"pretrained    {names}, preprocess: {preprocess}"


def _entry(model: str) -> Entry | None:
    """What open_clip records of an architecture; `None` of a backbone that is not its."""
    if model in _KINDS:
        return None
    try:
        return entry_of(model)
    except ConfigError:
        names = {name.lower(): name for name in _KINDS}
        near = difflib.get_close_matches(model.lower(), names, n=1, cutoff=0.8)
        if near:
            raise ConfigError(f"there is no backbone {model!r}; did you mean {names[near[0]]}?") from None
        raise


def _methods() -> list[type[VideoTextMethod]]:
    """The package's methods."""
    kinds = (getattr(vlbench.methods, name) for name in vlbench.methods.__all__)
    return [
        kind for kind in kinds if isinstance(kind, type) and issubclass(kind, VideoTextMethod) and "name" in vars(kind)
    ]


def _counted(model: str) -> tuple[str, str]:
    """Number of parameters, and billions of multiply-adds of a frame."""
    try:
        backbone = _built(model)
    except ConfigError:  # files of a text model are missing
        return "unknown", "unknown"
    return f"{_parameters(backbone):,}", f"{_multiply_adds(backbone):.2f}"


def _built(model: str) -> DualEncoder:
    """A backbone on the meta device: sizes without memory or weights."""
    with torch.device("meta"):
        return _KINDS.get(model, OpenCLIP)(model).eval()


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _multiply_adds(backbone: DualEncoder) -> float:
    """Billions of multiply-adds that one feature takes, of a frame or of a clip."""
    backbone.requires_grad_(False)  # the counter looks for the graph of what has one
    size = backbone.image_size
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        backbone.encode_frames(torch.empty(1, backbone.frames, 3, size, size, device="meta"))
    return float(counter.get_total_flops()) / 2e9
