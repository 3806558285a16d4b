"""`vlbench features`: banks of features."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from jsonargparse import ArgumentParser, Namespace
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

import vlbench.backbones
import vlbench.clips.datamodules  # noqa: F401 - class names in configs are found among imported classes
from vlbench.backbones.base import DualEncoder
from vlbench.bank.bank import FeatureBank
from vlbench.bank.encode import Encoder
from vlbench.bank.facts import FACTS, DType
from vlbench.bank.share import Share, devices, write_together
from vlbench.cli.configs import find_config, read_config
from vlbench.cli.usage import explain
from vlbench.cli.values import check_types
from vlbench.clips.datamodule import VideoDataModule
from vlbench.datasets.specs import Part
from vlbench.errors import ConfigError, DataError
from vlbench.names import one_line, quoted
from vlbench.temporary import temporary_folder

_PACKAGES = ("torch", "torchvision", "av", "numpy", "safetensors")

_TOLERANCES: dict[DType, float] = {"float16": 2e-3, "float32": 1e-4}
"""Largest distance of features from those in the bank, as a part of the length of these."""


def make_bank(
    config: Sequence[str], parts: Sequence[Part], augmented: int, dtype: DType, out: Path, processes: int, seed: int
) -> None:
    """Makes a bank, see `vlbench.cli.banks.features`, and says where it is."""
    configuration = _configuration(config)
    arguments = {
        "configuration": configuration, "parts": list(parts), "augmented": augmented, "dtype": dtype,
        "seed": seed,
    }  # fmt: skip
    places = devices(processes)
    encoder = encoder_of(arguments, places[0])
    facts = encoder.facts
    name = "".join(sign if sign.isalnum() or sign in "-_." else "-" for sign in facts.dataset["label"])
    folder = out / f"{name[:40]}-{facts.digest()}"
    console = Console()
    if (folder / FACTS).is_file():
        bank = FeatureBank(folder)
        console.print(f"bank: {bank.folder} is there already", markup=False, highlight=False, soft_wrap=True)
        return
    folder.mkdir(parents=True, exist_ok=True)
    missing, everything = encoder.missing(folder), encoder.pieces()
    total = sum(piece.videos * (augmented if piece.kind == "augmented" else 1) for piece in everything)
    with _progress(console, sum(piece.videos for piece in everything), missing) as advance:
        if processes == 1:
            encoder.write(folder, missing, advance)
        else:
            shares = [
                Share(encoder_of, arguments, folder, device, rank, processes) for rank, device in enumerate(places)
            ]
            write_together(shares, advance)
    packages = {package: version(package) for package in _PACKAGES}
    contents = encoder.finish(folder, {"arguments": arguments, "packages": packages, "device": places[0]})
    size = sum(shard.size for shard in contents.shards)
    lines = [f"bank: {folder}, {len(facts.ids()):,} videos, {total:,} encodings, {size / 2**20:,.1f} MiB"]
    lines += [f"unreadable: {quoted(video)}: {one_line(cause)}" for video, cause in contents.failures.items()]
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def check_bank(folder: Path, root: str | None, videos: int, seed: int) -> int:
    """Checks a bank, see `vlbench.cli.banks.verify`."""
    bank = FeatureBank(folder)
    bank.check_files()
    arguments = dict(bank.made_by["arguments"])
    if root is not None:
        data = arguments["configuration"]["data"]
        data["init_args"] = {**data.get("init_args", {}), "root": root}
    encoder = encoder_of(arguments, devices(1)[0])
    lines = list(_differences(bank, encoder))
    readable = [video for video in bank.facts.ids() if video not in bank.failures]
    here = {item.id for item in encoder.items}
    sample = random.Random(seed).sample(readable, min(videos, len(readable)))
    sample = [video for video in sample if video in here]
    allowed, farthest = _TOLERANCES[bank.facts.dtype], 0.0
    for again, ids, failures in encoder.encode(sample):
        lines += [f"{quoted(video)} cannot be read any more: {one_line(cause)}" for video, cause in failures.items()]
        for video, now, before in zip(ids, again, bank.features(ids), strict=True):
            now, before = now.astype(np.float64), before.astype(np.float64)
            distance = float(np.linalg.norm(now - before)) / max(float(np.linalg.norm(before)), 1e-12)
            farthest = max(farthest, distance)
            if not distance <= allowed:
                lines.append(f"{quoted(video)} has other features: off by {distance:.2g} of their length")
    console = Console()
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if not lines:
        console.print(
            f"{bank.folder}: {len(sample)} of {len(readable)} videos encoded again, features off by at most "
            f"{farthest:.2g} of their length, {allowed:g} is allowed",
            markup=False, highlight=False, soft_wrap=True,
        )  # fmt: skip
    return 1 if lines else 0


def encoder_of(arguments: dict[str, Any], device: str) -> Encoder:
    """The encoder of a bank, on its device.

    Args:
        arguments: What `vlbench features` was told, as plain values.
        device: Name of the device.

    Raises:
        VlbenchError: If the configuration is wrong, or lists, videos or weights are missing.
    """
    parser = _parser()
    try:
        values = parser.parse_object(arguments["configuration"])
        torch.manual_seed(arguments["seed"])  # of random weights
        backbone = parser.instantiate(Namespace(backbone=values.backbone)).backbone
        assert isinstance(backbone, DualEncoder)
        for name, value in {**backbone.frame_options(), "seed": arguments["seed"]}.items():
            values.data.init_args[name] = value
        data = parser.instantiate(Namespace(data=values.data)).data
    except (ConfigError, DataError):
        raise
    except Exception as error:
        raise ConfigError(f"the configurations make no bank: {explain(str(error), parser)}") from error
    assert isinstance(data, VideoDataModule)
    data.prepare_data()
    backbone.requires_grad_(False)
    backbone.eval().to(device)
    return Encoder(data, backbone, arguments["parts"], arguments["augmented"], arguments["dtype"])


def _parser() -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_subclass_arguments(VideoDataModule, "data")
    parser.add_subclass_arguments(DualEncoder, "backbone")
    return parser


def _configuration(configs: Sequence[str]) -> dict[str, Any]:
    """What configurations say of the data and the backbone, as plain values."""
    parser = _parser()
    words: list[str] = []
    with temporary_folder() as folder:
        for index, name in enumerate(configs):
            content = read_config(find_config(name))
            kept = {"data": content["data"]} if "data" in content else {}
            backbone = ((content.get("model") or {}).get("init_args") or {}).get("backbone")
            kept |= {"backbone": backbone} if backbone is not None else {}
            path = folder / f"{index}.yaml"
            path.write_text(yaml.safe_dump(kept))
            words += ["--config", str(path)]
        try:
            values = parser.parse_args(words)
        except Exception as error:
            raise ConfigError(f"{', '.join(configs)} make no bank: {explain(str(error), parser)}") from error
    for name, example in (("data", "data/hmdb51.yaml"), ("backbone", "backbone/vit_b16.yaml")):
        if values.get(name) is None:
            raise ConfigError(f"{', '.join(configs)} configure no {name}; add --config {example}")
    check_types(values, {"data": VideoDataModule, "backbone": DualEncoder})
    del values["config"]
    plain: dict[str, Any] = yaml.safe_load(parser.dump(values, skip_validation=True))
    return plain


def _differences(bank: FeatureBank, encoder: Encoder) -> Iterator[str]:
    """What would be another bank today, one line each."""
    there, here = bank.facts, encoder.facts
    for key in sorted({*there.lists, *here.lists}):
        old, new = (dict(map(tuple, facts.lists.get(key, []))) for facts in (there, here))
        if old != new:
            odd = sorted(video for video in {*old, *new} if old.get(video) != new.get(video))
            yield (
                f"the list {key} has {len(old)} videos in the bank and {len(new)} here; {len(odd)} differ, "
                f"{quoted(str(odd[0]))} is one"
            )
    for name in ("backbone", "preprocess", "frames", "clip", "settings", "augmented", "dtype"):
        then, now = (_plainly(getattr(facts, name)) for facts in (there, here))
        if then != now:
            yield f"{name} is {then} in the bank and {now} here"


def _plainly(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=10_000).strip().removesuffix("\n...")


@contextmanager
def _progress(console: Console, total: int, missing: Sequence[Any]) -> Iterator[Any]:
    """Shows how many videos are done, how many a second, and the time left."""
    columns = (
        TextColumn("encoding"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]} videos/s"),
        TextColumn("left"), TimeRemainingColumn(),
    )  # fmt: skip
    started, done = time.monotonic(), 0
    before = total - sum(piece.videos for piece in missing)
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=total, completed=before, rate="-")

        def advance(videos: int) -> None:
            nonlocal done
            done += videos
            rate = done / max(time.monotonic() - started, 1e-3)
            progress.update(task, completed=before + done, rate=f"{rate:.1f}")

        yield advance
