"""Every numeric option of every class and command, found by introspection, with numbers that it cannot mean.

Each is refused in one sentence that names the option and its range, before anything is done, or is in `ACCEPTED`.
"""

from __future__ import annotations

import inspect
import math
import re
import types
import warnings
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass, replace
from functools import partial
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import pytest
import torch
from jsonargparse import Namespace
from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

import vlbench.backbones
import vlbench.methods
from vlbench.backbones import OpenCLIP, TinyCLIP, VideoNetwork
from vlbench.backbones.base import DualEncoder
from vlbench.backbones.internvideo2_parts import InternVideo2Sizes
from vlbench.backbones.preprocess import CLIP, Preprocess
from vlbench.backbones.viclip_parts import ViCLIPSizes
from vlbench.cli import values
from vlbench.cli.main import main
from vlbench.cli.registry import COMMANDS
from vlbench.clips.datamodules import UCF101DataModule
from vlbench.datasets import UCF101
from vlbench.errors import ConfigError, DataError
from vlbench.methods.base import VideoTextMethod
from vlbench.protocols.suites import ProtocolConfig
from vlbench.results.callback import RecordWriter

HUGE = 10**30
INTEGERS = (-1, 0, 10**9, HUGE)
FLOATS = (-1.0, 0.0, 1e9, math.nan, math.inf)

ACCEPTED: dict[str, dict[str, tuple[float, ...]]] = {
    "a seed of 32 bits": dict.fromkeys(
        ("Subset.seed", "MoTE.seed", "ViFiCLIP.seed", "VLPrompting.seed", "OpenVCLIP.seed", "FROSTER.seed",
         "UCF101DataModule.seed", "ProtocolConfig.seeds", "regress.seeds", "compare.seed", "data subset.seed",
         "XCLIP.seed", "TCCLIP.seed", "ActionCLIP.seed", "TipAdapter.seed", "TipAdapterF.seed", "ZeroShotProbe.seed",
         "CLIPAdapter.seed", "features.seed", "features verify.seed", "compare draws.seed", "audit.seed"),
        (0, 10**9),
    ),
    "a change of the clips that never happens": {"Augmentation.color_jitter": (0,), "Augmentation.gray": (0,)},
    "pixels that are scaled and not moved": {"Preprocess.mean": (0,)},
    "a training without a warm-up": {"Schedule.warmup_epochs": (0,), "EpochSchedule.warmup_epochs": (0,)},
    "a schedule that ends at a learning rate of 0": {"Schedule.final_ratio": (0,), "EpochSchedule.final_ratio": (0,)},
    "a warm-up from a learning rate of 0": {"Schedule.initial_ratio": (0,), "EpochSchedule.initial_ratio": (0,)},
    "a learning rate that is on time": {"Schedule.lag": (0,), "EpochSchedule.lag": (0,)},
    "clips that are not mixed": dict.fromkeys(
        ("Mixing.mixup", "Mixing.cutmix", "Mixing.cutmix_share"),
        (0,),
    ),
    "labels that are not smoothed": {"Mixing.label_smoothing": (0,), "AIM.label_smoothing": (0,)},
    "nothing is dropped": dict.fromkeys(
        ("STAdapter.dropout", "AIM.dropout", "AIM.drop_path"),
        (0,),
    ),
    "learned tokens in one tower": {"VLPrompting.image_depth": (0,)},
    "frames that attend to themselves alone": {"OpenVCLIP.neighbours": (0,), "FROSTER.neighbours": (0,)},
    "interpolated weights that are the current ones": {"OpenVCLIP.interpolated_share": (0,)},
    "projectors that are the identity": {"FROSTER.residual_scale": (0,)},
    "no memory of squared gradients": dict.fromkeys(
        ("ViFiCLIP.beta2", "VLPrompting.beta2", "XCLIP.beta2", "TCCLIP.beta2", "ActionCLIP.beta2", "OST.beta2"),
        (0,),
    ),
    "a term of the loss that is left out": dict.fromkeys(
        ("MSTA.consistency", "MoTE.merge_loss", "MoTE.mse_loss", "OpenVCLIP.interpolated_loss",
         "FROSTER.distillation"),
        (0,),
    ),
    "weights that stay as they are, a control": dict.fromkeys(
        ("MSTA.lr", "MoTE.lr", "MoTE.backbone_lr_ratio", "ViFiCLIP.lr", "VLPrompting.lr", "OpenVCLIP.lr",
         "FROSTER.lr", "XCLIP.lr", "TCCLIP.lr", "ActionCLIP.lr", "ActionCLIP.image_lr_ratio",
         "ActionCLIP.head_lr_ratio", "OST.lr", "STAdapter.lr", "AIM.lr", "AIM.backbone_lr_ratio", "VisionOnly.lr",
         "VisionOnly.backbone_lr_ratio", "LoRA.lr", "AdaptFormer.lr", "MMA.lr", "EfficientPrompt.lr"),
        (0,),
    ),
    "a head that begins as zeros": {"VisionOnly.head_std": (0,)},
    "features that are left whole": {"VisionOnly.dropout": (0,)},
    "no weight decay": dict.fromkeys(
        ("MSTA.weight_decay", "MoTE.weight_decay", "ViFiCLIP.weight_decay", "VLPrompting.weight_decay",
         "OpenVCLIP.weight_decay", "FROSTER.weight_decay", "XCLIP.weight_decay", "TCCLIP.weight_decay",
         "ActionCLIP.weight_decay", "OST.weight_decay", "STAdapter.weight_decay", "AIM.weight_decay",
         "VisionOnly.weight_decay", "AdaptFormer.weight_decay", "LoRA.weight_decay", "MMA.weight_decay",
         "EfficientPrompt.weight_decay"),
        (0,),
    ),
    "the temporal transformer without experts": {"MoTE.experts": (0,)},
    "nothing of the original tower": dict.fromkeys(
        ("MoTE.original_share", "ViFiCLIP.original_share", "OpenVCLIP.original_share", "TCCLIP.original_share",
         "OST.original_share"),
        (0,),
    ),
    "nothing is held out": {"UCF101DataModule.heldout": (0,), "UCF101.heldout": (0,)},
    "the process itself does the work": dict.fromkeys(
        ("UCF101DataModule.num_workers", "data check.workers", "data prepare.workers"),
        (0,),
    ),
    "a record without an interval": {"RecordWriter.bootstrap": (0,)},
    "Tip-Adapter without its cache": {"TipAdapter.alpha": (0,), "TipAdapterF.alpha": (0,)},
    "an adapter that is not mixed in": {"CLIPAdapter.ratio": (0,)},
    "a head that stays as it begins": dict.fromkeys(
        ("TipAdapterF.lr", "ZeroShotProbe.lr", "CLIPAdapter.lr"),
        (0,),
    ),
    "keys that do not decay": {"TipAdapterF.weight_decay": (0,)},
    "a bank of views alone": {"features.augmented": (0,)},
    "the likeliest sentence": {"describe.temperature": (0,)},
    "no dropout": {"LoRA.dropout": (0,), "AdaptFormer.dropout": (0,)},
}  # fmt: skip
"""Reason -> option -> those of the numbers above that it takes."""


class Option(NamedTuple):
    """A numeric option, and what makes something with a value of it."""

    name: str
    make: Callable[[Any], object]
    values: tuple[float, ...]


def numbers(hint: Any) -> set[type]:
    """The types of numbers that a type is or consists of; those of a literal are an enumeration."""
    if get_origin(hint) is Literal or hint is bool:
        return set()
    if get_origin(hint) in (Union, types.UnionType, list, tuple) or str(hint).startswith("collections.abc.Sequence"):
        return set().union(*map(numbers, get_args(hint)))
    return {hint} & {int, float}


def wrapped(hint: Any, value: float) -> Any:
    """A value as an option of a type takes it."""
    of_list = [kind for kind in (hint, *get_args(hint)) if get_origin(kind) in (list, tuple)]
    if not of_list:
        return value
    return (value, value) if get_origin(of_list[0]) is tuple else [value]


def options_of(owner: Any, make: Callable[..., object]) -> Iterator[Option]:
    for name, hint in get_type_hints(owner if is_dataclass(owner) else owner.__init__).items():
        kinds = numbers(hint)
        if kinds:
            attacks = (*INTEGERS, *FLOATS[3:]) if kinds == {int, float} else INTEGERS if int in kinds else FLOATS
            yield Option(
                f"{owner.__name__}.{name}", lambda value, name=name, hint=hint: make(**{name: wrapped(hint, value)}),
                attacks,
            )  # fmt: skip


def groups(owner: Any) -> Iterator[type]:
    """The dataclasses among the types of a constructor's arguments, and among theirs."""
    for hint in get_type_hints(owner if is_dataclass(owner) else owner.__init__).values():
        for kind in (hint, *get_args(hint)):
            if is_dataclass(kind):
                yield kind
                yield from groups(kind)


def sizes(**changes: int) -> ViCLIPSizes:
    base = {"embed_dim": 24, "image_size": 32, "patch_size": 16, "width": 32, "layers": 3, "heads": 2,
            "text_width": 16, "text_layers": 2, "text_heads": 2}  # fmt: skip
    return ViCLIPSizes(**{**base, **changes})


def internvideo2_sizes(**changes: float) -> InternVideo2Sizes:
    base = {"embed_dim": 24, "pooled_dim": 24, "image_size": 32, "patch_size": 16, "width": 32, "layers": 2, "heads": 2}
    return InternVideo2Sizes(**{**base, **changes})  # type: ignore[arg-type]


MADE: dict[type, Callable[..., object]] = {
    ViCLIPSizes: sizes, InternVideo2Sizes: internvideo2_sizes, Preprocess: partial(replace, CLIP)
}  # fmt: skip
"""How a group is made of one option where others have no default."""


def exported(package: Any, base: type) -> list[type]:
    every = [getattr(package, name) for name in package.__all__]
    return [each for each in every if inspect.isclass(each) and issubclass(each, base) and each is not base]


METHODS = exported(vlbench.methods, VideoTextMethod)
BACKBONES = exported(vlbench.backbones, DualEncoder)


SIZES = {
    "VLPrompting": {"image_depth": 3, "text_depth": 3}, "MMA": {"first_block": 2, "last_block": 3},
    "EfficientPrompt": {"text_tokens": 4},
}  # fmt: skip
"""Options that fit the tiny CLIP, where a method's own do not."""


def on_tiny_clip(method: type) -> Callable[..., object]:
    def make(**options: object) -> object:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return method(TinyCLIP(pretrained=False), **{**SIZES.get(method.__name__, {}), **options})

    return make


def on_meta(backbone: type) -> Callable[..., object]:
    models = {VideoNetwork: "x3d_m", OpenCLIP: "ViT-B-32"}

    def make(**options: object) -> object:
        with torch.device("meta"):
            return backbone(**{**({"model": models[backbone]} if backbone in models else {}), **options})

    return make


def all_options() -> Iterator[Option]:
    owners = [UCF101DataModule, *METHODS, *BACKBONES]
    for owner in dict.fromkeys(group for each in owners for group in groups(each)):
        yield from options_of(owner, MADE.get(owner, owner))
    for owner in METHODS:
        yield from options_of(owner, on_tiny_clip(owner))
    for owner in BACKBONES:
        yield from options_of(owner, on_meta(owner))
    for owner in (UCF101DataModule, UCF101, RecordWriter):
        yield from options_of(owner, owner)
    yield from options_of(ProtocolConfig, lambda **options: ProtocolConfig("few_shot@1", [], **options))


OPTIONS = list(all_options())


def accepted(option: str) -> set[float]:
    return {value for entries in ACCEPTED.values() for value in entries.get(option, ())}


def one_sentence(message: str, option: str) -> None:
    name = option.rpartition(".")[2]
    assert "\n" not in message
    assert re.search(rf"\b{name} (is|are) .+; allowed: .+", message), message
    assert len(message) < 300


@pytest.mark.timeout(60)
@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_a_number_out_of_range_is_refused_by_what_keeps_it(option):
    taken = set()
    for value in option.values:
        try:
            option.make(value)
        except ConfigError as error:
            one_sentence(str(error), option.name)
        else:
            taken.add(value)
    assert taken == accepted(option.name)


def test_there_are_options_of_every_kind():
    names = {option.name for option in OPTIONS}
    assert {"MoTE.lr", "MSTA.bottleneck", "Schedule.warmup_epochs", "Views.clips", "Augmentation.scale",
            "UCF101DataModule.frames", "ViCLIPSizes.heads", "RecordWriter.bootstrap"} < names  # fmt: skip
    assert {option for entries in ACCEPTED.values() for option in entries} <= names | set(COMMAND_OPTIONS)


# Commands ------------------------------------------------------------------------------------------------------------

LINES = {
    "audit": "audit a",
    "classify": "classify a.mp4 --classes a b",
    "run": "run --suite demo.yaml --out out",
    "regress": "regress --suite demo.yaml --expected nothing.json",
    "compare": "compare a b",
    "compare draws": "compare draws a b --folder empty",
    "data check": "data check --root .",
    "data prepare": "data prepare empty copy",
    "data subset": "data subset copy --config data/ucf101.yaml",
    "data synth": "data synth rendered",
    "describe": "describe UCF101 --out out --base_url http://localhost:1/v1 --model none",
    "describe import": "describe import ost files --dataset ucf101 --out out",
    "features": "features --config data/ucf101.yaml backbone/tiny.yaml --out empty/banks",
    "features verify": "features verify empty",
    "methods show": "methods show zero_shot.yaml",
}
"""A command line of each command that has a numeric option."""


def command_options() -> dict[str, tuple[str, str, tuple[float, ...]]]:
    found = {}
    for name, command in COMMANDS.items():
        if not command.lightning:
            for option, hint in get_type_hints(command.load()).items():
                kinds = numbers(hint) if option != "return" else set()
                if kinds:
                    found[f"{name}.{option}"] = (name, option, FLOATS if float in kinds else INTEGERS)
    return found


COMMAND_OPTIONS = command_options()


class _Stored:
    name = "stored"
    classes = ("a", "b")

    def correct(self) -> dict[str, bool]:
        return {"a": True}


@pytest.fixture
def nothing_is_done(tmp_path, monkeypatch):
    """Commands end with an error where their work would begin."""

    def begin(*_: object, **__: object) -> None:
        raise DataError("the work begins")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VLBENCH_DATA", "nowhere")
    (tmp_path / "empty").mkdir()
    monkeypatch.setattr("vlbench.results.stored.StoredEvaluation.load", lambda *_: _Stored())
    monkeypatch.setattr("vlbench.cli.declaration._check_input", lambda *_: None)
    for work in (
        "vlbench.protocols.runner.Runner.run", "vlbench.synthetic.generate._alone", "vlbench.tools.describe._answers",
        "vlbench.cli.methods.parameter_table", "vlbench.evaluation.statistics.mcnemar",
    ):  # fmt: skip
        monkeypatch.setattr(work, begin)
    yield
    assert {path.name for path in tmp_path.iterdir()} <= {"empty"}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("option", COMMAND_OPTIONS)
def test_a_number_out_of_range_is_refused_by_its_command(nothing_is_done, capsys, option):
    command, name, attacks = COMMAND_OPTIONS[option]
    taken = set()
    for value in attacks:
        word = {math.inf: ".inf"}.get(value, ".nan" if value != value else str(value))
        code = main([*LINES[command].split(), f"--{name}", word])
        message = capsys.readouterr().err.strip()
        assert message.startswith("vlbench: error: ")
        assert message.count("\n") == 0 or code == 1
        if re.search(rf"\b{name} is ", message):
            one_sentence(message, name)
            assert code == 2
        else:
            taken.add(value)
    assert taken == accepted(option)


# Lightning -----------------------------------------------------------------------------------------------------------

LIGHTNING = {
    "trainer.fast_dev_run": "Lightning refuses negative ones when the Trainer is built, before data are prepared",
    "checkpoint.train_time_interval": "a duration",
}
"""Numeric options of Lightning's classes without a range here, and why."""


def lightning_options() -> Iterator[str]:
    for group, owner in (("trainer", Trainer), ("checkpoint", ModelCheckpoint)):
        for name, hint in get_type_hints(owner.__init__).items():
            if numbers(hint):
                yield f"{group}.{name}"


def test_every_number_of_lightning_has_a_range():
    assert set(lightning_options()) - set(LIGHTNING) == set(values._RANGES) - {"checkpoint_minutes"}


@pytest.mark.parametrize("option", values._RANGES)
def test_a_number_out_of_range_is_refused_before_lightning_sees_it(option):
    allowed, _ = values._RANGES[option]
    for value in (-2, math.nan, math.inf, *([] if 0 in allowed else [0]), *([] if allowed.high > 10**9 else [10**9])):
        config = Namespace()
        config[option] = value
        with pytest.raises(ConfigError) as refused:
            values.check_ranges(config)
        one_sentence(str(refused.value), option)
    with pytest.raises(ConfigError, match=r"devices is -7; allowed: -1 to 1,024"):
        values.check_ranges(Namespace(trainer=Namespace(devices="-7")))
