"""`vlbench weights`: released checkpoints in, merged weights out."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import lightning
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from vlbench.backbones import DualEncoder, OpenAICLIP, OpenCLIP, TinyCLIP
from vlbench.backbones.internvideo2 import read_internvideo2, released_model
from vlbench.backbones.viclip import SIZES, infer_sizes, read_viclip
from vlbench.cli.datasets import variants_of
from vlbench.cli.preflight import check_file
from vlbench.datasets.lists.class_names import listed_class_names
from vlbench.deploy.interface import KEY
from vlbench.errors import CheckpointError, ConfigError
from vlbench.files import write_atomically
from vlbench.methods.released import IMPORTERS, MERGERS


def backbone_by_name(name: str, pretrained: str) -> DualEncoder:
    """`tiny`, a file in OpenAI's format, or a name of open_clip with the weights `pretrained`."""
    if name == "tiny":
        return TinyCLIP()
    if Path(name).is_file():
        return OpenAICLIP(name)
    return OpenCLIP(name, pretrained)


def import_released(
    method: str, file: Path, backbone: str, out: Path, pretrained: str, classes: str | None = None
) -> str:
    """Writes a released file as checkpoints; see `commands.weights_import`."""
    if method not in IMPORTERS:
        raise ConfigError(f"there is no importer of {method!r}; allowed: {', '.join(IMPORTERS)}")
    names = None if classes is None else class_names(classes)
    imported = IMPORTERS[method](file, backbone_by_name(backbone, pretrained))
    if imported.classes != (None if names is None else len(names)):
        raise ConfigError(_wrong_classes(method, file, imported.classes, classes, names))
    if names is not None:
        imported.header["class_names"] = names  # where a method with a linear head looks for them
    options = [f"--model.{name}={value}" for name, value in imported.options.items()]
    if imported.start is not None:
        start = out.with_suffix(f".start{out.suffix}")
        write_atomically(start, _checkpoint(imported.start.state, imported.start.header))
        options.append(f"--model.pretrained_from={start}")
    write_atomically(out, _checkpoint(imported.state, imported.header))
    return f"wrote {out}; test it with {' '.join(['--ckpt_path', str(out), *options])}"


def class_names(source: str) -> list[str]:
    """Names of classes in label order.

    Args:
        source: File with one name a line, or a CSV file with a column `name`; or a dataset of vlbench with or without
            its variant.

    Raises:
        ConfigError: If it is neither, or the file names a class twice or none.
        DataError: If the file cannot be read.
    """
    if Path(source).is_file():
        return listed_class_names(Path(source))
    dataset, _, variant = source.partition("/")
    variants = {label.partition("/")[2] or label: known for label, known in variants_of(dataset)}
    if variant and variant not in variants:
        raise ConfigError(f"classes is {source!r}; allowed: a file, or {dataset}/ with {', '.join(variants)}")
    return [*variants[variant or next(iter(variants))].spec.class_names]


def _wrong_classes(method: str, file: Path, rows: int | None, source: str | None, names: list[str] | None) -> str:
    """Why names do not go with the linear head of a released file, and what to give."""
    if rows is None:
        return f"classes is {source!r}, and {method} has no linear head to name the classes of; leave the option out"
    given = "classes is null" if names is None else f"classes is {source!r}, which names {len(names)} classes"
    return (
        f"{given}, and the linear head in {file} scores {rows}, whose names the file lacks; give the dataset that it "
        "was trained on, such as kinetics400, or a file with one name a line"
    )


def import_viclip(file: Path, out: Path) -> str:
    """Writes a released ViCLIP file as safetensors; see `commands.viclip_import`."""
    state = read_viclip(file)
    sizes = infer_sizes(state)
    name = next((name for name, released in SIZES.items() if released == sizes), None)
    write_atomically(out, save({key: value.contiguous() for key, value in state.items()}))
    if name is None:
        return f"wrote {out}; its sizes are not those of a released model, so the backbone needs them: {sizes}"
    return (
        f"wrote {out}; use it with --config backbone/viclip_{name[7:].lower().replace('-', '')}.yaml and "
        f"--model.init_args.backbone.init_args.pretrained={out}"
    )


def import_internvideo2(file: Path, out: Path, vision: Path | None, text: Path | None) -> str:
    """Writes released InternVideo2-CLIP files as safetensors; see `commands.internvideo2_import`."""
    state = read_internvideo2(file, vision, text)
    name = released_model(state)
    write_atomically(out, save({key: value.contiguous() for key, value in state.items()}))
    if name is None:
        return f"wrote {out}; its width is not that of a released model, so the backbone needs its sizes"
    return (
        f"wrote {out}; use it with --config backbone/internvideo2_{name[-4:].lower().replace('-', '')}.yaml and "
        f"--model.init_args.backbone.init_args.pretrained={out}"
    )


def export_merged(checkpoint: Path, out: Path) -> str:
    """Writes a checkpoint of a method of `MERGERS` with merged weights; see `commands.weights_export`."""
    header = header_of(checkpoint)
    merger = MERGERS[header["method"]]
    state = merger.merge(torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"])
    if header.get("configuration") is not None:
        header["configuration"]["model"]["init_args"].update(merger.options)
    write_atomically(out, save(state, metadata={"vlbench": json.dumps(header)}))
    options = [f"--model.{name}={value}" for name, value in merger.options.items()]
    return f"wrote {out}; test it with {' '.join(['--ckpt_path', str(out), *options])}"


def header_of(path: Path) -> dict[str, Any]:
    """What a checkpoint, or an exported safetensors file, says of its method, backbone and training.

    Args:
        path: File of the checkpoint; its weights stay on the disk.

    Raises:
        CheckpointError: If the file cannot be read or was not written by vlbench.
    """
    header: dict[str, Any] | None
    check_file(path)
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as file:
                header = json.loads(_metadata(path, file).get("vlbench", "null"))
        else:
            header = torch.load(path, map_location="cpu", weights_only=True, mmap=True).get("vlbench")
    except CheckpointError:
        raise
    except Exception as error:  # torch raises whatever a damaged or foreign file makes it stumble over
        kind = "safetensors" if path.suffix == ".safetensors" else "a checkpoint"
        cause = str(error).strip().splitlines()[0].split(". ")[0]
        raise CheckpointError(f"{path} cannot be read as {kind}: {cause}") from error
    if header is None:
        raise CheckpointError(f"{path} was not written by vlbench: it names no method and no backbone")
    return header


def _metadata(path: Path, file: Any) -> dict[str, str]:
    """What a safetensors file says of itself.

    Raises:
        CheckpointError: If it has the weights of a program on fixed classes, which no method loads.
    """
    metadata: dict[str, str] = file.metadata() or {}
    if KEY in metadata:
        raise CheckpointError(
            f"{path} has the weights of a program on fixed classes, which vlbench does not load; give the checkpoint"
            " that it was exported from"
        )
    return metadata


def check_checkpoint(path: Path, method: str) -> None:
    """Whether a checkpoint is a method's; before data are prepared and a model is built.

    Args:
        path: File of the checkpoint, or an exported safetensors file.
        method: Name of the method that the configuration has.

    Raises:
        CheckpointError: If the file cannot be read, was not written by vlbench or is another method's.
    """
    header = header_of(path)
    if header["method"] != method:
        raise CheckpointError(
            f"the checkpoint {path} is of method {header['method']!r}, the configuration of {method!r}; give a "
            f"configuration of {header['method']!r}, or another checkpoint"
        )


def as_checkpoint(path: Path, folder: Path) -> Path:
    """A checkpoint Lightning can load, made in `folder` from an exported safetensors file.

    Raises:
        CheckpointError: If the file is missing, damaged or not exported by vlbench.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = _metadata(path, file)
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read as safetensors: {error}") from error
    if "vlbench" not in metadata:
        raise CheckpointError(f"{path} was not written by `vlbench weights export`: it names no method and no backbone")
    target = folder / f"{path.stem}.ckpt"
    write_atomically(target, _checkpoint(state, json.loads(metadata["vlbench"])))
    return target


def _checkpoint(state: dict[str, Tensor], header: dict[str, Any]) -> bytes:
    """Checkpoint as `vlbench fit` writes it, without what only a resumed training needs."""
    content = {
        "state_dict": state,
        "vlbench": header,
        "epoch": 0,
        "global_step": 0,
        "pytorch-lightning_version": lightning.__version__,
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()
