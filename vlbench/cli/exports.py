"""`vlbench weights export`: a checkpoint with merged weights, or a method on a fixed list of classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import vlbench
from vlbench.cli.datasets import specification
from vlbench.cli.models import model_of
from vlbench.cli.weights import class_names, export_merged, header_of
from vlbench.datasets.base import VideoDataset
from vlbench.datasets.descriptions import Descriptions, ShippedDescriptions
from vlbench.datasets.specs import ClassList
from vlbench.deploy import FixedClasses, Format, Interface, check_ending, write
from vlbench.errors import CheckpointError, ConfigError
from vlbench.files import check_writable
from vlbench.methods.base import VideoTextMethod
from vlbench.methods.released import MERGERS


def export(checkpoint: Path | None, out: Path, kind: Format, classes: str | None, configs: Sequence[str]) -> list[str]:
    """Writes a trained method for another runtime, and says what was written; see `commands.weights_export`."""
    if checkpoint is None and not configs:
        raise ConfigError("there is no checkpoint; give one, or the --config of a method that nothing trains of")
    if checkpoint is not None and checkpoint.suffix == ".safetensors" and kind == "safetensors" and classes is None:
        raise CheckpointError(f"{checkpoint} is safetensors, as exports are; give a checkpoint of `vlbench fit`")
    header = header_of(checkpoint) if checkpoint is not None else {}
    check_ending(out, kind)
    if checkpoint is not None and kind == "safetensors" and classes is None and header["method"] in MERGERS:
        if configs:
            raise ConfigError(
                f"config is {', '.join(configs)}, which nothing reads where the weights of {header['method']} are"
                " merged; leave it out, or give --classes too"
            )
        return [export_merged(checkpoint, out)]
    return _export_fixed(checkpoint, header, out, kind, classes, configs)


def _export_fixed(
    checkpoint: Path | None,
    header: Mapping[str, Any],
    out: Path,
    kind: Format,
    classes: str | None,
    configs: Sequence[str],
) -> list[str]:
    check_writable(out.absolute().parent, "out")
    given = class_names(classes) if classes is not None else None
    model = model_of(configs, checkpoint, device="cpu")
    method, frames, clip = model.method, model.frames, model.clip
    if checkpoint is None and method.trained_keys():
        raise ConfigError(f"{method.name} trains, and its weights are in no configuration; give a checkpoint")
    weights = method.trained_digest() if checkpoint is not None else None
    names = _names(method, given)
    _prepare(method, names, _descriptions(classes))
    with method.evaluation_weights():
        constants = method.backbone.pixel_constants()
        module = FixedClasses(method, names, frames)
        interface = Interface(
            classes=module.class_names,
            output=module.output,
            frames=frames,
            **method.backbone.frame_options(),
            short_side=round(clip.test_short_side * method.backbone.image_size),
            sampling=clip.sampling,
            views=asdict(clip.views),
            mean=tuple(constants["mean"]),
            std=tuple(constants["std"]),
            method=method.name,
            backbone=method.backbone.identity.as_dict(),
            weights=weights,
            training=header.get("training"),
            version=vlbench.__version__,
        )
        before = sum(parameter.numel() for parameter in method.parameters())
        written = write(module, interface, out, kind)
    return [
        f"wrote {out}: {method.name}, {len(names)} fixed classes, views of {frames} frames of {interface.image_size} x "
        f"{interface.image_size} pixels, {written.parameters:,} values of weights ({before:,} in the method)",
        f"checked against the method: {interface.output} differ by {written.difference:.1e} at most, of up to "
        f"{written.largest:.3g}",
    ]


def _names(method: VideoTextMethod, names: Sequence[str] | None) -> tuple[str, ...]:
    """Names of the classes: those that are given, or the only ones that the method scores.

    Raises:
        ConfigError: If there are none.
    """
    if names is not None:
        return tuple(names)
    scored = method.fixed_classes
    if scored is None:
        raise ConfigError(
            f"classes is null, and {method.name} scores any classes; what is exported has a fixed list of them: give "
            "--classes with a dataset, such as ucf101, or a file with one name a line"
        )
    return scored


def _descriptions(classes: str | None) -> Descriptions | ShippedDescriptions | None:
    """Descriptions that a dataset ships; `None` for a file of names."""
    if classes is None or Path(classes).is_file():
        return None
    dataset, _, variant = classes.partition("/")
    return specification(dataset, variant or None).descriptions


def _prepare(
    method: VideoTextMethod, names: tuple[str, ...], descriptions: Descriptions | ShippedDescriptions | None
) -> None:
    """Hands the classes over as those of a dataset, for methods that read more of them than their names."""
    listed = ClassList(names, tuple(range(len(names))), names, descriptions)
    if getattr(method, "grad_checkpointing", False):
        method.backbone.set_grad_checkpointing(False)  # there is no backward pass to recompute for
    method.dataset = cast("VideoDataset", SimpleNamespace(train_classes=listed))
    method.setup("test")
