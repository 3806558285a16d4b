"""The commands beside Lightning's. torch is imported only where it is needed."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import yaml
from jsonargparse import ArgumentParser
from jsonargparse.typing import PositiveInt
from rich.console import Console

from vlbench.cli import data, results
from vlbench.cli.configs import TRAINER_COMMANDS, find_config
from vlbench.cli.regress import regress
from vlbench.errors import ConfigError


def run(
    suite: str,
    out: Path,
    overlays: Sequence[str] = (),
    dry_run: bool = False,
    jobs: PositiveInt | None = None,
    launcher: Literal["local", "slurm"] = "local",
    slurm: dict[str, Any] | None = None,
) -> int:
    """Run every protocol of a suite that is not recorded yet, then write OUT/leaderboard.csv, .html and .md.

    Args:
        suite: name or path of a suite, such as demo.yaml.
        out: results folder; a second run with the same one goes on where the first ended.
        overlays: configurations that come after the suite's, such as trainer/ddp.yaml.
        dry_run: print the commands, what is done and what remains; run nothing.
        jobs: stages at once; 1 by default, with slurm all that can run.
        launcher: local runs the stages on this machine, slurm submits each as a job through submitit.
        slurm: submitit's parameters of a job, such as {timeout_min: 600, gpus_per_node: 1, slurm_partition: gpu}.

    Returns:
        1 if a stage failed, otherwise 0.
    """
    from vlbench.protocols.launchers import Launcher, LocalLauncher, SubmititLauncher
    from vlbench.protocols.plans import plan
    from vlbench.protocols.runner import Runner

    console = Console()
    read = read_suite(suite)
    stages = plan(replace(read, overlays=[*read.overlays, *overlays]))
    if dry_run:
        for line in Runner(stages, out, find_config).describe():
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        return 0
    if launcher == "slurm":
        target: Launcher = SubmititLauncher(out / "jobs", slurm or {})
        most = jobs or len(stages)
    else:
        most = jobs or 1
        target = LocalLauncher(most)
    runner = Runner(stages, out, find_config, console, target, most)
    failed = runner.run()
    if (out / "records").is_dir():
        # Hours of work are not held back for how they came about; the table says it.
        suffixes = {"csv": "csv", "html": "html", "markdown": "md"}
        files = {form: out / f"leaderboard.{suffix}" for form, suffix in suffixes.items()}
        results.leaderboard([out], **files, allow_dirty=True, allow_mixed=True)
        tables = " and ".join(str(path) for form, path in files.items() if form != "html")
        console.print(f"The page is {files['html']}, its tables are {tables}.", highlight=False, soft_wrap=True)
    if failed:
        console.print(f"[red]{len(failed)} of {len(runner.stages)} stages failed;[/] the same command tries them again")
    return 1 if failed else 0


def describe(
    dataset: str,
    out: Path,
    base_url: str,
    model: str,
    variant: str | None = None,
    number: int = 2,
    temperature: float | None = 0.0,
) -> int:
    """Ask a language model for spatial and temporal sentences on every class of a dataset.

    Args:
        dataset: its name, such as UCF101.
        out: folder for spatial.json and temporal.json; a second run with the same one goes on where the first ended.
        base_url: the endpoint, such as http://localhost:8000/v1; its key is read from $OPENAI_API_KEY.
        model: its name at the endpoint.
        variant: which of the dataset's class names; the first ones by default.
        number: sentences of each kind a class.
        temperature: of sampling; null leaves it to the endpoint, as models that take no temperature need.

    Returns:
        0.
    """
    from vlbench.cli.datasets import variants_of
    from vlbench.tools.describe import describe as ask

    variants = dict(variants_of(dataset))
    names = {label.partition("/")[2] or label: spec.class_names for label, spec in variants.items()}
    if variant is not None and variant not in names:
        raise ConfigError(f"{dataset} has no variant {variant!r}; allowed: {', '.join(names)}")
    ask(
        names[variant or next(iter(names))], out, base_url=base_url, model=model, number=number, temperature=temperature
    )
    return 0


def methods_show(configs: Sequence[str]) -> int:
    """Print how many parameters of a configured method train, module by module; no weights are loaded.

    Args:
        configs: configurations by name, later ones override earlier ones, such as msta_fewshot.yaml.

    Returns:
        0.
    """
    from vlbench.cli.methods import parameter_table

    Console().print(parameter_table(configs))
    return 0


def weights_import(file: Path, out: Path, backbone: str, pretrained: str = "openai") -> int:
    """Turn a released MoTE file into a checkpoint for `vlbench test` and `vlbench run`.

    Args:
        file: the released file, such as MoTE_B16.pt.
        out: checkpoint to write.
        backbone: architecture of open_clip, such as ViT-B-16-quickgelu, or a CLIP file in OpenAI's format.
        pretrained: the backbone's original weights, a tag or a file; MoTE needs its text tower and blends in its image
            tower.

    Returns:
        0.
    """
    from vlbench.cli.weights import import_mote

    Console().print(import_mote(file, backbone, out, pretrained), markup=False, highlight=False, soft_wrap=True)
    return 0


def viclip_import(file: Path, out: Path) -> int:
    """Check a released ViCLIP file and turn it into safetensors for the ViCLIP backbone.

    Args:
        file: the released file, such as ViClip-InternVid-10M-FLT.pth.
        out: safetensors file to write.

    Returns:
        0.
    """
    from vlbench.cli.weights import import_viclip

    Console().print(import_viclip(file, out), markup=False, highlight=False, soft_wrap=True)
    return 0


def weights_export(checkpoint: Path, out: Path) -> int:
    """Merge the experts of a trained MoTE once and write safetensors; evaluation then costs one plain MLP a layer.

    Args:
        checkpoint: of `vlbench fit` or `vlbench weights import`.
        out: safetensors file to write; `vlbench test --ckpt_path` takes it.

    Returns:
        0.
    """
    from vlbench.cli.weights import export_merged

    Console().print(export_merged(checkpoint, out), markup=False, highlight=False, soft_wrap=True)
    return 0


def read_suite(name: str) -> Any:
    """A suite by name or path.

    Raises:
        ConfigError: if there is no such file or it is no suite.
    """
    from vlbench.protocols.suites import Suite

    path = find_config(name, below="suite")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Suite, "suite")
    try:
        values = parser.parse_object({"suite": yaml.safe_load(path.read_text())})
        return parser.instantiate(values).suite
    except Exception as error:
        raise ConfigError(f"{path} is not a suite: {error}") from error


@dataclass(frozen=True)
class Command:
    """A function on the command line.

    Attributes:
        function: its parameters become options.
        positional: parameters given by position instead, as `add_argument` wants them.
        options: parameters that are options of another form than their type suggests, likewise.
    """

    function: Callable[..., int]
    positional: dict[str, dict[str, Any]] = field(default_factory=dict)
    options: dict[str, dict[str, Any]] = field(default_factory=dict)

    def parser(self, name: str) -> ArgumentParser:
        """Of the command's own arguments."""
        summary = (self.function.__doc__ or "").split("\n\n")[0]
        parser = ArgumentParser(prog=f"vlbench {name}", description=summary)
        for argument, options in self.positional.items():
            parser.add_argument(argument, **{"type": Path, **options})
        for option, options in self.options.items():
            parser.add_argument(f"--{option}", **options)
        parser.add_function_arguments(self.function, skip={*self.positional, *self.options})
        return parser


def _flag(text: str) -> dict[str, Any]:
    return {"action": "store_true", "help": text}


_CONFIG: dict[str, Any] = {"nargs": "+", "type": str, "help": "dataset by name, such as data/ucf101.yaml"}
_RECORD: dict[str, Any] = {"type": str, "help": "path of a record, or the name of one below FOLDER"}

COMMANDS: dict[tuple[str, ...], Command] = {
    ("run",): Command(
        run,
        options={
            "dry_run": _flag("print the commands, what is done and what remains; run nothing"),
            "overlays": {
                "nargs": "+",
                "type": str,
                "default": (),
                "help": "configurations that come after the suite's, such as trainer/ddp.yaml",
            },
        },
    ),
    ("regress",): Command(
        regress,
        options={
            "update": _flag("write EXPECTED instead, from a run with each of SEEDS"),
            "seeds": {
                "nargs": "+",
                "type": int,
                "default": [0, 1, 2, 3, 4],
                "help": "of the runs that --update makes bands of",
            },
        },
    ),
    ("leaderboard",): Command(
        results.leaderboard,
        {"folders": {"nargs": "+", "help": "results folders"}},
        {
            "allow_dirty": _flag("take records of code that differed from its commit"),
            "allow_mixed": _flag("take records of different schemas in one table"),
        },
    ),
    ("compare",): Command(
        results.compare,
        {
            "a": {"type": str, "help": "path of a record, or the name of one below FOLDER"},
            "b": {"type": str, "help": "likewise"},
        },
    ),
    ("report",): Command(results.report, {"record": _RECORD}),
    ("rescore",): Command(
        results.rescore,
        {"record": _RECORD},
        {
            "half": _flag("ten random halves of the classes, as MoTE draws them"),
            "config": {**_CONFIG, "default": (), "help": "configurations of the test, for the text tower"},
        },
    ),
    ("data", "list"): Command(data.list_datasets),
    ("data", "describe"): Command(data.describe_dataset, {"dataset": {"type": str, "help": "name, such as ucf101"}}),
    ("data", "check"): Command(
        data.check,
        options={
            "decode": _flag("decode every video from start to end"),
            "config": {**_CONFIG, "default": None},
            "lists": {"nargs": "+", "type": Path, "help": "published list files, or folders of them; needs --labels"},
        },
    ),
    ("data", "prepare"): Command(
        data.prepare,
        {"root": {"help": "folder of the dataset"}, "out": {"help": "folder of the copy; same files, same names"}},
    ),
    ("data", "subset"): Command(
        data.subset, {"out": {"help": "folder of the copy"}}, {"config": {**_CONFIG, "required": True}}
    ),
    ("data", "synth"): Command(data.synth, {"folder": {"help": "where to; it becomes the root of SyntheticActions"}}),
    ("describe",): Command(describe, {"dataset": {"type": str, "help": "name, such as UCF101"}}),
    ("methods", "show"): Command(
        methods_show,
        {"configs": {"type": str, "nargs": "+", "help": "configurations by name, such as msta_fewshot.yaml"}},
    ),
    ("weights", "import", "mote"): Command(
        weights_import, {"file": {"help": "the released file, such as MoTE_B16.pt"}}
    ),
    ("weights", "import", "viclip"): Command(
        viclip_import, {"file": {"help": "the released file, such as ViClip-InternVid-10M-FLT.pth"}}
    ),
    ("weights", "export"): Command(weights_export, {"checkpoint": {"help": "a MoTE checkpoint"}}),
}
"""Commands by their words."""


def run_command(arguments: Sequence[str]) -> int:
    """Parses and runs a command.

    Raises:
        ConfigError: if there is no such command.
    """
    for words, command in COMMANDS.items():
        if tuple(arguments[: len(words)]) == words:
            values = command.parser(" ".join(words)).parse_args(list(arguments[len(words) :]))
            return command.function(**values.as_dict())
    known = [*TRAINER_COMMANDS, *(" ".join(words) for words in COMMANDS)]
    near = difflib.get_close_matches(" ".join(arguments[:2]), known, n=1) or difflib.get_close_matches(
        arguments[0], known, n=1
    )
    hint = f"did you mean {near[0]}?" if near else f"commands: {', '.join(known)}"
    raise ConfigError(f"no command {' '.join(arguments[:2])!r}; {hint}")
