"""Exported programs as files, each checked against the module that it was made of."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors.torch import load_file, save
from torch import Tensor
from torch.export import Dim, ExportedProgram
from torch.export.graph_signature import InputKind
from torch.func import functional_call

from vlbench.deploy.fixed import FixedClasses
from vlbench.deploy.interface import KEY, Interface
from vlbench.errors import CheckpointError, ConfigError, VlbenchError, user_error
from vlbench.files import replacing

Format = Literal["safetensors", "torch_export", "onnx"]
"""Kinds of file: the `safetensors` of the program's weights, a program of `torch_export`, or one of `onnx`."""

_ENDINGS: dict[Format, str] = dict(zip(get_args(Format), (".safetensors", ".pt2", ".onnx"), strict=True))
"""Ending of the name of a file of each format."""

TOLERANCE = 1e-4
"""Largest difference of an output between a program and its method."""

_SHARE = 1e-2
"""Largest difference as a part of the largest output, which is below 0.01 where there are hundreds of classes."""

_LARGEST_ONNX = 2**31 - 2**20
"""Bytes of weights that an ONNX file can hold beside its graph."""

_BATCHES = ((1, 1), (3, 2))
"""Videos and views of the batches that a program is checked on."""

_INPUT = "pixels"

Program = Callable[[Tensor], Tensor]
"""What a file computes: outputs `(B, C)` of pixels `(B, V, T, 3, S, S)`."""


@dataclass(frozen=True)
class Written:
    """What was written, and how near it is to its method.

    Attributes:
        parameters: Number of values of the weights in the file.
        difference: Largest difference of an output between the program and its method.
        largest: Largest output of the method on the pixels that both were given.
    """

    parameters: int
    difference: float
    largest: float


def write(module: FixedClasses, interface: Interface, path: Path, kind: Format) -> Written:
    """Writes a program, reads it back and compares it with the module on batches of one and of three videos.

    Args:
        module: Method on fixed classes, with the weights that it evaluates with.
        interface: What the program takes and gives; the file says it too.
        path: File that is written, with the ending of its format.
        kind: Format of the file.

    Returns:
        Number of parameters and the largest difference.

    Raises:
        ConfigError: If the path has another ending, the method cannot be exported, or packages are missing.
        CheckpointError: If the program differs from the method; then nothing is written.
        WriteError: If the file system refuses.
    """
    check_ending(path, kind)
    writer, reader = _FORMATS[kind]
    program = exported(module)
    with replacing(path) as temporary:
        try:
            with _quiet():
                writer(program, temporary, interface)
                computed = reader(temporary, module)
        except (VlbenchError, OSError):
            raise
        except Exception as error:  # of whichever exporter or runtime
            raise ConfigError(
                f"{module.method.name} cannot be written with the format {kind}: {_cause(error)}; try another format"
            ) from error
        pixels = [example(module, *batch) for batch in _BATCHES]
        with torch.no_grad():
            expected = torch.cat([module(each) for each in pixels])
            outputs = torch.cat([_computed(computed, each) for each in pixels])
        difference = (outputs - expected).abs().max().item()
        largest = expected.abs().max().item()
        if not difference <= min(TOLERANCE, _SHARE * largest):
            raise CheckpointError(
                f"the outputs of the program differ by up to {difference:.2g} from those of {module.method.name}, which"
                f" are up to {largest:.2g}; allowed: {TOLERANCE:g}, and a hundredth of the largest output. {path} is"
                " not written: try another format"
            )
    tensors = _tensors(program)
    return Written(sum(value.numel() for value in tensors.values()), difference, largest)


def check_ending(path: Path, kind: Format) -> None:
    """Whether the name of a file ends as those of its format do.

    Args:
        path: File that is going to be written.
        kind: Format of the file.

    Raises:
        ConfigError: If it does not.
    """
    if path.suffix != _ENDINGS[kind]:
        raise ConfigError(f"out is {path}; allowed with the format {kind}: a name that ends in {_ENDINGS[kind]}")


def example(module: FixedClasses, videos: int, views: int, *, seed: int = 0) -> Tensor:
    """Random pixels for a module, uint8 `(B, V, T, 3, S, S)`: coarse squares, others in each frame, and noise.

    Args:
        module: Method on fixed classes.
        videos: Number B of videos.
        views: Number V of views of each.
        seed: Seed of the random pixels.
    """
    size, generator = module.method.backbone.image_size, torch.Generator().manual_seed(seed)
    shape, squares = (videos, views, module.frames, 3), math.ceil(size / 8)
    coarse = torch.randint(0, 192, (*shape, squares, squares), dtype=torch.uint8, generator=generator)
    noise = torch.randint(0, 64, (*shape, size, size), dtype=torch.uint8, generator=generator)
    return coarse.repeat_interleave(8, -1).repeat_interleave(8, -2)[..., :size, :size] + noise


def exported(module: FixedClasses) -> ExportedProgram:
    """The module's graph for any number of videos and views, with the weights that it uses and no others.

    Args:
        module: Method on fixed classes, with the weights that it evaluates with.

    Raises:
        ConfigError: If torch cannot export the method.
    """
    shapes = {_INPUT: {0: Dim("videos", min=1), 1: Dim("views", min=1)}}
    try:
        with torch.no_grad(), _quiet():
            program: ExportedProgram = torch.export.export(
                module, (example(module, 2, 3),), dynamic_shapes=shapes, strict=False
            )
            # Contexts such as autocast become part of the graph's operations, which no runtime has to know then.
            program = program.run_decompositions({})
    except Exception as error:  # torch raises whatever it stumbles over
        refused = user_error(error)
        if refused is not None:
            raise refused from error
        raise ConfigError(
            f"{module.method.name} cannot be exported: torch.export stops with {_cause(error)}"
        ) from error
    _leave_out_unused(program)
    return program


def _leave_out_unused(program: ExportedProgram) -> None:
    """Takes out of a program the weights that no output depends on, such as those of a text tower."""
    graph, signature = program.graph_module.graph, program.graph_signature
    nodes = {node.name: node for node in graph.nodes if node.op == "placeholder"}
    for spec in list(signature.input_specs):
        node = nodes[spec.arg.name]
        if node.users or spec.kind is InputKind.USER_INPUT:
            continue
        graph.erase_node(node)
        signature.input_specs.remove(spec)
    program.graph_module.recompile()
    used = {spec.target for spec in signature.input_specs}
    for tensors in (program.state_dict, program.constants):
        for name in [name for name in tensors if name not in used]:
            del tensors[name]


def _tensors(program: ExportedProgram) -> dict[str, Tensor]:
    """Weights and constants of a program, by their names in the module."""
    values = {**program.state_dict, **program.constants}
    return {name: value.detach() for name, value in values.items() if isinstance(value, Tensor)}


def _computed(program: Program, pixels: Tensor) -> Tensor:
    """What a program computes of pixels.

    Raises:
        CheckpointError: If the program takes no batch of this size.
    """
    try:
        return program(pixels)
    except Exception as error:  # of whichever runtime
        raise CheckpointError(
            f"the program stops at {len(pixels)} videos of {pixels.shape[1]} views with {_cause(error)}; the method's"
            " code may ask for the number of videos, as len(tensor) does: write tensor.shape[0]"
        ) from error


def _cause(error: Exception) -> str:
    """What an error of another library says, in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


# Formats ---------------------------------------------------------------------------------------------------------


def _write_torch(program: ExportedProgram, path: Path, interface: Interface) -> None:
    content = io.BytesIO()  # of a file that it opens itself torch ends the process where the disk is full
    torch.export.save(program, content, extra_files={KEY: interface.json()})
    path.write_bytes(content.getvalue())  # not a view of it: collected after an error, that ends Python 3.12.1


def _read_torch(path: Path, module: FixedClasses) -> Program:  # noqa: ARG001 - as the others
    program: Program = torch.export.load(path).module()
    return program


def _write_onnx(program: ExportedProgram, path: Path, interface: Interface) -> None:
    size = sum(value.nbytes for value in _tensors(program).values())
    if size > _LARGEST_ONNX:
        raise ConfigError(
            f"the weights have {size / 1e9:.1f} GB, and an ONNX file holds 2 GB; give --format torch_export"
        )
    if torch.__version__ < "2.7":
        raise ConfigError(
            f"format is onnx, which needs torch 2.7 or newer, and this is {torch.__version__}; give --format"
            " torch_export"
        )
    for package in ("onnx", "onnxscript", "onnxruntime"):
        _needed(package)
    converted = torch.onnx.export(
        program, dynamo=True, input_names=[_INPUT], output_names=[interface.output], verbose=False
    )
    assert converted is not None
    converted.model.metadata_props[KEY] = interface.json()
    converted.save(path, external_data=False)


def _read_onnx(path: Path, module: FixedClasses) -> Program:  # noqa: ARG001 - as the others
    session = _needed("onnxruntime").InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda pixels: torch.from_numpy(session.run(None, {_INPUT: pixels.numpy()})[0])


def _write_safetensors(program: ExportedProgram, path: Path, interface: Interface) -> None:
    tensors = {name: value.clone().contiguous() for name, value in _tensors(program).items()}
    path.write_bytes(save(tensors, metadata={KEY: interface.json()}))


def _read_safetensors(path: Path, module: FixedClasses) -> Program:
    """The module with the tensors of a file, and with no number where the file has none."""
    state: Mapping[str, Tensor] = dict((*module.named_parameters(), *module.named_buffers()))
    unknown = {name: torch.full_like(value, math.nan) for name, value in state.items() if value.is_floating_point()}
    tensors = {**unknown, **load_file(path)}
    return lambda pixels: functional_call(module, tensors, (pixels,))


_FORMATS: dict[Format, tuple[Callable[[ExportedProgram, Path, Interface], None], Callable[..., Program]]] = {
    "safetensors": (_write_safetensors, _read_safetensors),
    "torch_export": (_write_torch, _read_torch),
    "onnx": (_write_onnx, _read_onnx),
}


def _needed(package: str) -> Any:
    """A package of the extra `onnx`.

    Raises:
        ConfigError: If it cannot be imported.
    """
    try:
        return import_module(package)
    except ImportError as error:
        raise ConfigError(
            f"format is onnx, which needs {package} ({error}): pip install 'vlbench[onnx]', or give --format"
            " torch_export"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Context without torch's warnings about its exporters."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
