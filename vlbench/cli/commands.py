"""The commands beside Lightning's. torch is imported only where it is needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from vlbench.cli import results
from vlbench.cli.configs import find_config
from vlbench.ranges import BATCHES, COUNTS, FRAMES, JOBS


def run(
    suite: str,
    out: Path,
    overlays: Sequence[str] = (),
    dry_run: bool = False,
    jobs: int | None = None,
    launcher: Literal["local", "slurm"] = "local",
    slurm: dict[str, Any] | None = None,
) -> int:
    """Run every protocol of a suite that is not recorded yet, then write OUT/leaderboard.csv, .html and .md.

    Args:
        suite: Name or path of a suite, such as demo.yaml.
        out: Results folder; a second run with the same one goes on where the first ended.
        overlays: Configurations that come after the suite's, such as trainer/ddp.yaml.
        dry_run: Print the commands, what is done and what remains; run nothing.
        jobs: Stages at once, each with its share of the cores and GPUs; 1 by default, with slurm all that can run.
        launcher: Local runs the stages on this machine, slurm submits each as a job through submitit.
        slurm: Submitit's parameters of a job, such as {timeout_min: 600, gpus_per_node: 1, slurm_partition: gpu}.

    Returns:
        1 if a stage failed, otherwise 0.
    """
    JOBS.check("jobs", jobs, "the launcher's default")
    from vlbench.cli.values import read_suite
    from vlbench.protocols.launchers import Launcher, LocalLauncher
    from vlbench.protocols.plans import plan
    from vlbench.protocols.runner import Runner

    console = Console()
    read = read_suite(find_config(suite, below="suite"))
    stages = plan(replace(read, overlays=[*read.overlays, *overlays]))
    if dry_run:
        from vlbench.cli.estimates import describe_cost

        runner = Runner(stages, out, find_config)
        lines = runner.describe()
        lines += describe_cost([stage for stage in stages if not runner.done(stage)])
        lines += LocalLauncher(jobs or 1).describe() if launcher == "local" else []
        for line in lines:
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        return 0
    if launcher == "slurm":
        from vlbench.protocols.cluster import SubmititLauncher

        target: Launcher = SubmititLauncher(out, slurm or {})
        at_once = jobs or len(stages)
    else:
        at_once = jobs or 1
        target = LocalLauncher(at_once)
    runner = Runner(stages, out, find_config, console, target, at_once)
    failed = runner.run()
    if (out / "records").is_dir():
        # Hours of work are not held back for how they came about; the table says it.
        suffixes = {"csv": "csv", "html": "html", "markdown": "md"}
        files = {form: out / f"leaderboard.{suffix}" for form, suffix in suffixes.items()}
        results.print_leaderboard([out], **files, allow_dirty=True, allow_mixed=True)
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
        dataset: Name of the dataset, such as UCF101.
        out: Folder for spatial.json and temporal.json; a second run with the same one goes on where the first ended.
        base_url: The endpoint, such as http://localhost:8000/v1; its key is read from $OPENAI_API_KEY.
        model: Name of the language model at the endpoint.
        variant: Which of the dataset's class names; the first ones by default.
        number: Sentences of each kind a class.
        temperature: Temperature of sampling; null leaves it to the endpoint, as models that take no temperature need.

    Returns:
        0.
    """
    from vlbench.cli.datasets import specification
    from vlbench.tools.describe import describe as ask

    names = specification(dataset, variant).class_names
    ask(names, out, base_url=base_url, model=model, number=number, temperature=temperature)
    return 0


def describe_import(
    source: str, path: Path, dataset: str, out: Path, variant: str | None = None, number: int | None = None
) -> int:
    """Bring published sentences on a dataset's classes into the form of model.descriptions or model.rephrased.

    Args:
        source: Whose files: etl4video (MSTA's descriptions), ost (OST's descriptors) or froster (rephrased names).
        path: Folder of the files, whose parts keep their published names; of froster, the file itself.
        dataset: Name of the dataset, such as UCF101.
        out: Folder for spatial.json and temporal.json, or for rephrased.json.
        variant: Which of the dataset's class names; the first ones by default.
        number: Sentences of each kind a class, as in the files' names; the paper's by default.

    Returns:
        0.
    """
    from vlbench.cli.datasets import specification
    from vlbench.tools.describe_import import import_descriptions

    spec = specification(dataset, variant)
    option = import_descriptions(source, path, spec.name, spec.class_names, out, number=number)
    Console(highlight=False).print(f"{len(spec.class_names)} classes; give {option}", soft_wrap=True, markup=False)
    return 0


def methods_show(
    configs: Sequence[str],
    memory: bool = False,
    batch_size: int = 8,
    frames: int = 8,
    classes: int = 400,
) -> int:
    """Print how many parameters of a configured method train, module by module; no weights are loaded.

    Args:
        configs: Configurations by name, later ones override earlier ones, such as msta_fewshot.yaml.
        memory: Estimate the memory of a training step on a GPU too, in float32 and in bfloat16.
        batch_size: Training clips that a GPU takes at once, for the estimate.
        frames: Frames of a clip, for the estimate.
        classes: Training classes, for the estimate.

    Returns:
        0.
    """
    BATCHES.check("batch_size", batch_size)
    FRAMES.check("frames", frames)
    COUNTS.check("classes", classes)
    from vlbench.cli.methods import memory_table, parameter_table

    Console().print(parameter_table(configs))
    if memory:
        Console().print(memory_table(configs, batch_size=batch_size, frames=frames, classes=classes))
    return 0


def backbones_list(match: str = "", flops: bool = False) -> int:
    """List backbones: image size, context, released weights, and the methods that can use each.

    Args:
        match: Part of the names that are listed, such as siglip2; all by default.
        flops: Count parameters and the multiply-adds of a frame too, which papers call FLOPs; about a minute for all.

    Returns:
        0.
    """
    from vlbench.cli.backbones import backbone_table

    for part in backbone_table(match, flops=flops):
        Console().print(part, markup=False, highlight=False, soft_wrap=isinstance(part, str))
    return 0


def backbones_show(model: str) -> int:
    """Print what a backbone is: towers, parameters, what it expects of pixels and texts, the methods that can use it.

    Args:
        model: Name of an architecture of open_clip, such as ViT-B-16-quickgelu.

    Returns:
        0.
    """
    from vlbench.cli.backbones import description

    for line in description(model):
        Console().print(line, markup=False, highlight=False, soft_wrap=True)
    return 0


def weights_import(
    method: str, file: Path, out: Path, backbone: str, pretrained: str = "openai", classes: str | None = None
) -> int:
    """Turn a method's released file into a checkpoint for `vlbench test` and `vlbench run`.

    Args:
        method: Name of the method, such as mote.
        file: The released file, such as MoTE_B16.pt.
        out: Checkpoint file to write.
        backbone: Architecture of open_clip, such as ViT-B-16-quickgelu, or a CLIP file in OpenAI's format.
        pretrained: The backbone's original weights, a tag or a file; what the released file lacks is taken from them.
        classes: Classes of a linear head, which released files do not name: a dataset, such as kinetics400 or
            ucf101/camel, or a file with one name a line; in the order of the head's rows.

    Returns:
        0.
    """
    from vlbench.cli.weights import import_released

    said = import_released(method, file, backbone, out, pretrained, classes)
    Console().print(said, markup=False, highlight=False, soft_wrap=True)
    return 0


def viclip_import(file: Path, out: Path) -> int:
    """Check a released ViCLIP file and turn it into safetensors for the ViCLIP backbone.

    Args:
        file: The released file, such as ViClip-InternVid-10M-FLT.pth.
        out: Safetensors file to write.

    Returns:
        0.
    """
    from vlbench.cli.weights import import_viclip

    Console().print(import_viclip(file, out), markup=False, highlight=False, soft_wrap=True)
    return 0


def internvideo2_import(file: Path, out: Path, vision: Path | None = None, text: Path | None = None) -> int:
    """Check released InternVideo2-CLIP files and turn them into safetensors for the InternVideo2 backbone.

    Args:
        file: The released file, such as pytorch_model.bin; it may hold only what its training changed.
        out: Safetensors file to write.
        vision: Released file of the video tower that a partial file belongs to; leave it out for a whole one.
        text: Released file of the text tower that a partial file belongs to, such as mobileclip_blt.pt.

    Returns:
        0.
    """
    from vlbench.cli.weights import import_internvideo2

    said = import_internvideo2(file, out, vision, text)
    Console().print(said, markup=False, highlight=False, soft_wrap=True)
    return 0


def weights_choose(checkpoints: Sequence[Path], out: Path) -> int:
    """Copy the checkpoint that is best on the videos that its training held out, of trainings on the same videos.

    The copy and the records of its tests name the options in which the trainings differ, and the accuracy of each. Test
    videos choose nothing; of equals the first is taken.

    Args:
        checkpoints: Checkpoints of `vlbench fit` with data.heldout above 0, validated after their last step.
        out: Checkpoint file to write.

    Returns:
        0.
    """
    from vlbench.cli.choice import choose

    for line in choose(checkpoints, out):
        Console().print(line, markup=False, highlight=False, soft_wrap=True)
    return 0


def weights_export(
    checkpoint: Path | None,
    out: Path,
    format: Literal["safetensors", "torch_export", "onnx"] = "safetensors",  # noqa: A002 - the option's name
    classes: str | None = None,
    config: Sequence[str] = (),
) -> int:
    """Write a trained method for where vlbench is not: on a fixed list of classes, as a program or as its weights.

    The file is read back and compared with the method on random pixels; one whose outputs differ by more than 1e-4 is
    not written. A MoTE checkpoint without --classes becomes safetensors with merged experts for `vlbench test`.

    Args:
        checkpoint: Checkpoint of `vlbench fit` or `vlbench weights import`.
        out: File to write; its name ends in .safetensors, .pt2 (torch_export) or .onnx.
        format: Format of the file; onnx needs onnx, onnxscript and onnxruntime, the extra onnx.
        classes: Fixed list of the classes: a dataset, such as kinetics400 or ucf101/camel, or a file with one name a
            line; of a method without an open vocabulary its training classes by default.
        config: Configurations of the training by name, where the checkpoint does not say how its model is configured.

    Returns:
        0.
    """
    from vlbench.cli.exports import export

    for line in export(checkpoint, out, format, classes, config):
        Console().print(line, markup=False, highlight=False, soft_wrap=True)
    return 0
