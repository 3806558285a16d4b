"""Every command of vlbench, declared once; imports the standard library only, so that `vlbench --help` answers at once.

A declaration names the command's function, which is imported when the command runs: the function's parameters are the
command's options and its docstring is their help.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from vlbench.cli.declaration import Command
from vlbench.errors import ConfigError


def _flag(text: str) -> dict[str, Any]:
    return {"action": "store_true", "help": text}


_CONFIG: dict[str, Any] = {"nargs": "+", "type": str, "help": "dataset by name, such as data/ucf101.yaml"}
_RECORD: dict[str, Any] = {"type": str, "help": "path of a record, or the name of one below FOLDER"}

_ONE_RUN, _MANY_RUNS, _DATA = "one run", "many runs", "data"
_METHODS, _BACKBONES, _WEIGHTS, _SHELL = "methods", "backbones", "weights", "shell"


def _lightning(name: str, text: str, example: str = "") -> Command:
    return Command(name, _ONE_RUN, text, "vlbench.cli.trainer:run_trainer", example, lightning=True)


_DECLARED = (
    _lightning("fit", "train a method", "vlbench fit --config msta_fewshot.yaml"),
    _lightning("validate", "evaluate on the validation part"),
    _lightning("test", "evaluate on the test part and write a record"),
    Command(
        "sweep",
        _MANY_RUNS,
        "a head on many draws of training videos of a bank, in one process",
        "vlbench.cli.sweep:run_sweep",
        lightning=True,
    ),
    _lightning("predict", "name the best class of every test video"),
    Command(
        "classify",
        _ONE_RUN,
        "name the best classes of any videos",
        "vlbench.cli.classify:classify",
        "vlbench classify VIDEO --classes juggling skating",
        positional={
            "videos": {
                "type": str,
                "nargs": "+",
                "help": "video files, folders of them, or - for a list of names on standard input",
            }
        },
        options={
            "classes": {
                "nargs": "+",
                "type": str,
                "default": [],
                "help": 'names of the classes, such as juggling "flipping a pancake", or one file with a name a line',
            },
            "config": {
                **_CONFIG,
                "action": "extend",
                "default": [],
                "help": "configurations of the model by name, such as zero_shot.yaml backbone/vit_b32.yaml",
            },
        },
        inputs={"record": "record", "ckpt_path": "file", "config": "configuration"},
    ),
    Command(
        "run",
        _MANY_RUNS,
        "every run of a suite, skipping what is recorded",
        "vlbench.cli.commands:run",
        "vlbench run --suite demo.yaml --out results/demo",
        options={
            "dry_run": _flag("print the commands, what is done and what remains; run nothing"),
            "overlays": {
                "nargs": "+",
                "type": str,
                "default": (),
                "help": "configurations that come after the suite's, such as trainer/ddp.yaml",
            },
        },
        inputs={"suite": "suite", "overlays": "configuration"},
    ),
    Command(
        "regress",
        _MANY_RUNS,
        "whether a suite's numbers still are what they were",
        "vlbench.cli.regress:regress",
        options={
            "update": _flag("write EXPECTED instead, from a run with each of SEEDS"),
            "seeds": {
                "nargs": "+",
                "type": int,
                "default": [0, 1, 2, 3, 4],
                "help": "seeds of the runs that --update makes bands of",
            },
        },
        inputs={"suite": "suite"},
    ),
    Command(
        "leaderboard",
        _MANY_RUNS,
        "records to a table",
        "vlbench.cli.results:print_leaderboard",
        "vlbench leaderboard results/demo --csv leaderboard.csv",
        positional={"folders": {"nargs": "+", "help": "results folders"}},
        options={
            "allow_dirty": _flag("take records of code that differed from its commit"),
            "allow_mixed": _flag("take records of different schemas in one table"),
        },
        inputs={"folders": "folder"},
    ),
    Command(
        "verify",
        _MANY_RUNS,
        "whether records say what follows from their scores",
        "vlbench.cli.results:verify",
        "vlbench verify results/demo",
        positional={"folders": {"nargs": "+", "help": "results folders"}},
        inputs={"folders": "folder"},
    ),
    Command(
        "compare",
        _MANY_RUNS,
        "whether two evaluations differ by more than chance",
        "vlbench.cli.results:compare",
        "vlbench compare RECORD RECORD",
        positional={"a": _RECORD, "b": {"type": str, "help": "path or name of the other record"}},
        inputs={"a": "record", "b": "record"},
    ),
    Command(
        "compare draws",
        _MANY_RUNS,
        "whether two methods differ by more than their draws of training videos",
        "vlbench.cli.draws:compare_draws",
        positional={
            "a": {"type": str, "help": "name of a method, such as tip_adapter"},
            "b": {"type": str, "help": "name of the other method"},
        },
        inputs={"folder": "folder"},
    ),
    Command(
        "multiverse",
        _MANY_RUNS,
        "whether the order of methods survives other protocols",
        "vlbench.cli.multiverse:multiverse",
        positional={"folders": {"nargs": "+", "help": "results folders of tests that kept views and templates"}},
        options={"allow_dirty": _flag("take records of code that differed from its commit")},
        inputs={"folders": "folder"},
    ),
    Command(
        "report",
        _MANY_RUNS,
        "one evaluation class by class",
        "vlbench.cli.results:report",
        positional={"record": _RECORD},
        inputs={"record": "record"},
    ),
    Command(
        "rescore",
        _MANY_RUNS,
        "one evaluation under another list of classes",
        "vlbench.cli.results:rescore",
        positional={"record": _RECORD},
        options={
            "half": _flag("ten random halves of the classes, as MoTE draws them"),
            "config": {**_CONFIG, "default": (), "help": "configurations of the test, for the text tower"},
        },
        inputs={"record": "record", "classes": "file", "ckpt_path": "file", "config": "configuration"},
    ),
    Command(
        "audit",
        _MANY_RUNS,
        "whether one evaluation uses time: its videos again, reversed, shuffled, as one frame",
        "vlbench.cli.audit:audit",
        positional={"record": _RECORD},
        options={
            "config": {**_CONFIG, "default": (), "help": "configurations of the test, where the record names none"},
            "subset": {
                "nargs": "+",
                "type": str,
                "default": (),
                "help": "subsets of the classes, each with a file of their names, such as temporal=temporal32.csv",
            },
        },
        inputs={"record": "record", "ckpt_path": "file", "config": "configuration"},
    ),
    Command("data list", _DATA, "datasets, their sizes, licences and sources", "vlbench.cli.data:list_datasets"),
    Command(
        "data describe",
        _DATA,
        "one of them in full",
        "vlbench.cli.data:describe_dataset",
        "vlbench data describe ucf101",
        positional={"dataset": {"type": str, "help": "name, such as ucf101"}},
    ),
    Command(
        "data check",
        _DATA,
        "what is wrong with lists and videos",
        "vlbench.cli.data:check",
        "vlbench data check --config data/ucf101.yaml --decode",
        options={
            "decode": _flag("decode every video from start to end"),
            "config": {**_CONFIG, "default": None},
            "lists": {"nargs": "+", "type": Path, "help": "published list files, or folders of them; needs --labels"},
        },
        inputs={"config": "configuration", "root": "folder", "labels": "file", "bank": "folder"},
    ),
    Command(
        "data prepare",
        _DATA,
        "a resized copy, faster to read",
        "vlbench.cli.data:prepare",
        "vlbench data prepare DIR COPY --resize 256",
        positional={
            "root": {"help": "folder of the dataset"},
            "out": {"help": "folder of the copy; same files, same names"},
        },
        inputs={"root": "folder"},
    ),
    Command(
        "data subset",
        _DATA,
        "a small copy for CI",
        "vlbench.cli.data:subset",
        positional={"out": {"help": "folder of the copy"}},
        options={"config": {**_CONFIG, "required": True}},
        inputs={"config": "configuration"},
    ),
    Command(
        "data unpack",
        _DATA,
        "videos out of parquet files and webdataset shards",
        "vlbench.cli.data:unpack",
        "vlbench data unpack PACKED DIR",
        positional={
            "source": {"help": "folder of parquet files or webdataset shards"},
            "out": {"help": "folder of the videos, with lists"},
        },
        inputs={"source": "folder", "classes": "file"},
    ),
    Command(
        "data synth",
        _DATA,
        "render the synthetic dataset",
        "vlbench.cli.data:synth",
        "vlbench data synth DIR",
        positional={"folder": {"help": "where to; it becomes the root of SyntheticActions"}},
    ),
    Command(
        "features",
        _DATA,
        "frame features of a frozen tower, once for many trainings of heads",
        "vlbench.cli.banks:features",
        options={
            "config": {
                **_CONFIG,
                "action": "extend",
                "required": True,
                "help": "dataset and backbone by name, such as data/ucf101.yaml backbone/vit_b16.yaml",
            },
            "parts": {
                "nargs": "+",
                "type": str,
                "default": ["train", "test"],
                "help": "parts of the dataset that are encoded: train, validation, test",
            },
        },
        inputs={"config": "configuration"},
    ),
    Command(
        "features verify",
        _DATA,
        "whether a bank of features is what its videos give",
        "vlbench.cli.banks:verify",
        positional={"folder": {"help": "folder of the bank"}},
        inputs={"folder": "folder"},
    ),
    Command(
        "features export",
        _DATA,
        "a bank of features as tables, for pandas and others",
        "vlbench.cli.banks:export",
        positional={"folder": {"help": "folder of the bank"}},
        inputs={"folder": "folder"},
    ),
    Command(
        "describe",
        _DATA,
        "sentences on every class from a language model, for MSTA",
        "vlbench.cli.commands:describe",
        positional={"dataset": {"type": str, "help": "name, such as UCF101"}},
    ),
    Command(
        "describe import",
        _DATA,
        "published sentences on every class, for MSTA, OST and FROSTER",
        "vlbench.cli.commands:describe_import",
        positional={
            "source": {"type": str, "help": "whose files: etl4video (MSTA's), ost or froster"},
            "path": {"help": "folder of the files, which keep their published names; of froster, the file itself"},
        },
    ),
    Command(
        "methods show",
        _METHODS,
        "trainable parameters of a method",
        "vlbench.cli.commands:methods_show",
        "vlbench methods show msta_fewshot.yaml",
        positional={
            "configs": {"type": str, "nargs": "+", "help": "configurations by name, such as msta_fewshot.yaml"}
        },
        options={"memory": _flag("estimate the memory of a training step on a GPU too, in float32 and in bfloat16")},
        inputs={"configs": "configuration"},
    ),
    Command(
        "backbones list",
        _BACKBONES,
        "architectures, their released weights and the methods that can use them",
        "vlbench.cli.commands:backbones_list",
        "vlbench backbones list --match siglip2",
        options={"flops": _flag("count parameters and, in billions, multiply-adds of a frame; about a minute for all")},
    ),
    Command(
        "backbones show",
        _BACKBONES,
        "one of them in full",
        "vlbench.cli.commands:backbones_show",
        "vlbench backbones show PE-Core-L-14-336",
        positional={"model": {"type": str, "help": "name of an architecture, such as ViT-B-16-quickgelu"}},
    ),
    Command(
        "weights import viclip",
        _WEIGHTS,
        "a released ViCLIP file to a backbone's weights",
        "vlbench.cli.commands:viclip_import",
        positional={"file": {"help": "the released file, such as ViClip-InternVid-10M-FLT.pth"}},
        inputs={"file": "file"},
    ),
    Command(
        "weights import internvideo2",
        _WEIGHTS,
        "released InternVideo2-CLIP files to a backbone's weights",
        "vlbench.cli.commands:internvideo2_import",
        positional={"file": {"help": "the released file, such as pytorch_model.bin"}},
        inputs={"file": "file", "vision": "file", "text": "file"},
    ),
    Command(
        "weights import",
        _WEIGHTS,
        "a method's released file to a checkpoint",
        "vlbench.cli.commands:weights_import",
        positional={
            "method": {"type": str, "help": "name of the method, such as mote"},
            "file": {"help": "the released file, such as MoTE_B16.pt"},
        },
        inputs={"file": "file"},
    ),
    Command(
        "weights choose",
        _WEIGHTS,
        "of several trainings the one that is best on held-out training videos",
        "vlbench.cli.commands:weights_choose",
        positional={"checkpoints": {"nargs": "+", "help": "checkpoints of `vlbench fit`"}},
        inputs={"checkpoints": "file"},
    ),
    Command(
        "weights export",
        _WEIGHTS,
        "a method on fixed classes for ONNX Runtime and torch.export, or a MoTE with merged experts",
        "vlbench.cli.commands:weights_export",
        "vlbench weights export last.ckpt --classes ucf101 --format onnx --out msta.onnx",
        positional={"checkpoint": {"nargs": "?", "help": "a checkpoint; none for a method that nothing trains of"}},
        options={
            "config": {
                **_CONFIG,
                "default": (),
                "help": "configurations of the training, if the checkpoint has none",
            }
        },
        inputs={"checkpoint": "file", "config": "configuration"},
    ),
    Command(
        "completion",
        _SHELL,
        "a script that completes commands, options and configurations",
        "vlbench.cli.completion:completion",
        "vlbench completion bash > vlbench.bash",
        positional={"shell": {"type": Literal["bash", "zsh", "fish"], "help": "shell that the script is for"}},
    ),
)

COMMANDS: dict[str, Command] = {command.name: command for command in _DECLARED}
"""Commands by their names, in the order of `vlbench --help`."""


def find_command(arguments: Sequence[str]) -> Command:
    """The command that a command line begins with.

    Args:
        arguments: Words of the command line after `vlbench`.

    Raises:
        ConfigError: If there is no such command; the message suggests the nearest one.
    """
    for command in sorted(COMMANDS.values(), key=lambda command: -len(command.name.split())):
        words = command.name.split()
        if list(arguments[: len(words)]) == words:
            return command
    below = [name for name in COMMANDS if name.split()[0] == arguments[0]]
    given = " ".join(arguments[: 2 if below else 1])
    near = difflib.get_close_matches(" ".join(arguments[:2]), COMMANDS, n=1)
    near = near or difflib.get_close_matches(arguments[0], COMMANDS, n=1)
    # A group alone, such as `data`, is near each of its commands.
    hint = f"did you mean {near[0]}?" if near and given not in (name.split()[0] for name in below) else (
        f"allowed: {', '.join(below or COMMANDS)}"
    )  # fmt: skip
    raise ConfigError(f"no command {given!r}; {hint}")


def overview() -> str:
    """What `vlbench --help` prints."""
    return "\n".join(_overview_lines())


def _overview_lines() -> Iterator[str]:
    yield "usage: vlbench COMMAND [options]"
    for group in dict.fromkeys(command.group for command in _DECLARED):
        commands = [command for command in _DECLARED if command.group == group]
        width = max(len(command.name) for command in commands) + 2
        help_width = max((len(command.help) for command in commands if command.example), default=0) + 2
        yield f"\n{group}"
        for command in commands:
            text = f"{command.help:{help_width}}{command.example}" if command.example else command.help
            yield f"  {command.name:{width}}{text}"
    yield (
        "\n`vlbench COMMAND --help` lists a command's options. Configurations are found by name and compose:\n"
        "  vlbench fit --config msta_fewshot.yaml --config data/synthetic.yaml --config backbone/tiny.yaml \\\n"
        "              --config trainer/cpu.yaml\n"
    )


def lightning_commands() -> tuple[str, ...]:
    """Names of the commands whose options LightningCLI parses."""
    return tuple(command.name for command in _DECLARED if command.lightning)
