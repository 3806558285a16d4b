"""What can be wrong with a training's or a test's command line and shows without torch: names, files, old spellings."""

from __future__ import annotations

import ast
import difflib
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import vlbench
from vlbench.cli.configs import find_config, read_config
from vlbench.datasets import DATASETS
from vlbench.errors import CheckpointError, ConfigError

_MOVED = {
    **{f"data.{name}": f"data.clip.{name}" for name in ("sampling", "segment_ends", "views", "test_short_side")},
    **{
        f"data.{name}": f"data.loading.{name}"
        for name in ("effective_batch", "eval_batch_size", "epoch_size", "backend", "on_error")
    },
}
"""Options that are in a group now, and where."""

LINKED = {
    "data.image_size": "the backbone says the size of its frames: set model.backbone.image_size",
    "data.interpolation": "the backbone says how frames are resized: set model.backbone.preprocess",
    "data.resize_mode": "the backbone says how frames are resized: set model.backbone.preprocess",
    "data.seed": "seed_everything is the only seed: set that",
    "model.seed": "seed_everything is the only seed: set that",
    "data.validate_on_test": "selection: best_on_test says so: set that",
}
"""Options that nobody sets, and where their values come from."""


class _Setting(NamedTuple):
    """One value of a configuration or of the command line.

    Attributes:
        source: Place of the value: a file, or `the command line`.
        key: Name of the option, such as `data.clip.sampling`, without `init_args` and `class_path`.
        value: The value; a string on the command line.
    """

    source: str
    key: str
    value: Any


def check_command_line(arguments: Sequence[str]) -> None:
    """Whether the files and classes that a command line names exist, in today's spelling.

    Args:
        arguments: Words of the command line: the command, then its options.

    Raises:
        ConfigError: If a configuration is missing or no YAML, or names a class or an option that does not exist.
        CheckpointError: If the checkpoint is missing or no checkpoint.
    """
    settings = list(_settings(arguments))
    for setting in settings:
        _check_spelling(setting)
        _check_class(setting)
    if any(word.startswith(("--print_config", "--help")) for word in arguments):
        return  # nothing is run, so no file is read
    checkpoints = [setting.value for setting in settings if setting.key == "ckpt_path"]
    if checkpoints and checkpoints[-1] not in (None, "null") and "://" not in str(checkpoints[-1]):
        check_file(Path(checkpoints[-1]))


def check_file(path: Path) -> None:
    """Whether a file may be a checkpoint, as far as its first bytes tell.

    Raises:
        CheckpointError: If it is missing, or neither a checkpoint nor safetensors.
    """
    if not path.is_file():
        near = difflib.get_close_matches(path.name, [other.name for other in path.parent.glob("*")], n=2)
        hint = f"did you mean {' or '.join(str(path.parent / name) for name in near)}?" if near else (
            "give a checkpoint of `vlbench fit` or `vlbench weights import`"
        )  # fmt: skip
        raise CheckpointError(f"the checkpoint {path} does not exist; {hint}")
    if path.suffix == ".safetensors":
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            try:
                json.loads(file.read(min(size, path.stat().st_size)))
            except ValueError as error:
                raise CheckpointError(
                    f"{path} cannot be read as safetensors: it is damaged or of another kind"
                ) from error
    elif not zipfile.is_zipfile(path):
        raise CheckpointError(f"{path} cannot be read as a checkpoint: it is damaged or of another kind")


def _settings(arguments: Sequence[str]) -> Iterator[_Setting]:
    """Every value of the configurations and the options, in the order in which they override each other."""
    words = iter(arguments[1:])
    for word in words:
        if not word.startswith("-"):
            continue
        option, equals, value = word.partition("=")
        if option in ("--config", "-c"):
            path = find_config(value if equals else next(words))
            yield from _flat(str(path), "", read_config(path))
        elif option.startswith("--") and not option.startswith(("--help", "--print_config")):
            yield _Setting("the command line", _plain(option[2:].rstrip("+")), value if equals else next(words, ""))


def _flat(source: str, key: str, value: Any) -> Iterator[_Setting]:
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _flat(source, f"{key}.{name}" if key else str(name), inner)
    else:
        yield _Setting(source, _plain(key), value)


def _plain(key: str) -> str:
    return ".".join(part for part in key.split(".") if part not in ("init_args", "class_path"))


def _check_spelling(setting: _Setting) -> None:
    for old, new in _MOVED.items():
        if setting.key == old or setting.key.startswith(f"{old}."):
            raise ConfigError(f"{setting.source} sets {setting.key}, which is {new}{setting.key[len(old) :]} now")
    if setting.key in LINKED:
        raise ConfigError(f"{setting.source} sets {setting.key}, which is no option of a run; {LINKED[setting.key]}")


def _check_class(setting: _Setting) -> None:
    known = classes_of_option(setting.key)
    name = setting.value
    if not known or not isinstance(name, str) or name in ("null", ""):
        return
    if setting.key == "data" and (name in DATASETS or _of_vlbench(name) in DATASETS):
        raise ConfigError(
            f"{setting.source} sets data to {name}, which is a dataset; its DataModule is {_of_vlbench(name)}DataModule"
        )
    if name not in known and name.isidentifier():
        near = difflib.get_close_matches(name, known, n=2)
        hint = f"did you mean {' or '.join(near)}?" if near else f"allowed: {', '.join(known)}, or package.module.Class"
        raise ConfigError(f"{setting.source} sets {setting.key} to {name}, which is no class of vlbench; {hint}")


def classes_of_option(key: str) -> list[str]:
    """Names of the classes that an option may have as its value; empty for an option that is no class."""
    if key == "data":
        return [*(f"{name}DataModule" for name in DATASETS), "FeatureBankDataModule"]
    if key == "model":
        return [name for name in _exported("methods") if name != "VideoTextMethod"]
    if key == "model.backbone":
        return [name for name in _exported("backbones") if name not in ("DualEncoder", "Layout", "Tower")]
    return []


def _of_vlbench(name: str) -> str:
    """A class of vlbench without its module; other names as they are."""
    return name.rpartition(".")[2] if name.startswith("vlbench.") else name


def _exported(room: str) -> list[str]:
    """The public names of a package of vlbench, read and not imported: the import would take seconds."""
    source = (Path(vlbench.__file__).parent / room / "__init__.py").read_text()
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return list(ast.literal_eval(node.value))
    raise AssertionError(f"vlbench.{room} exports nothing")
