"""Configurations and suites with anything anywhere: each is read and checked, or is an error that a user can mend."""

from __future__ import annotations

import copy
import logging
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jsonargparse import ArgumentParser

from vlbench.cli.checks import checked_data, explained
from vlbench.cli.configs import find_config, read_config
from vlbench.cli.trainer import VlbenchCLI, run_trainer
from vlbench.cli.values import read_suite
from vlbench.errors import VlbenchError
from vlbench.protocols.plans import plan

CASES = [pytest.param(200, id="200"), pytest.param(10_000, id="10000", marks=pytest.mark.soak)]
CLASSES = [
    "MSTA", "MoTE", "ZeroShot", "vlbench.methods.MoTE", "TinyCLIP", "UCF101DataModule", "SyntheticActionsDataModule",
    "HMDB51", "torch.nn.Linear", "nobody.Nothing", "EarlyStopping", "lightning.pytorch.callbacks.EarlyStopping",
]  # fmt: skip
WORDS = ["auto", "last", "heldout", "best_on_test", "all", "base", "bf16-mixed", "32", "ddp", "cpu", "a video of {}",
         "zero_shot@1", "few_shot@1", "data/ucf101.yaml", "data/hmdb51.yaml"]  # fmt: skip
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.integers(-2, 20) | st.floats() | st.sampled_from([10**9, 10**400])
    | st.text(max_size=8) | st.sampled_from(CLASSES) | st.sampled_from(WORDS) | st.dates()
)  # fmt: skip
NAMES = st.text(max_size=6) | st.sampled_from(
    ["class_path", "init_args", "frames", "lr", "clips", "shots", "classes", "help", "config", "0", "a.b"]
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=5
)
NEAR = {
    bool: st.booleans(), int: st.integers(0, 64), float: st.floats(0, 1) | st.integers(0, 2),
    str: st.sampled_from(WORDS),
}  # fmt: skip
"""Values of the type that is there already."""
CLASS = st.fixed_dictionaries({"class_path": st.sampled_from(CLASSES), "init_args": VALUES})
RUN = ("msta_fewshot.yaml", "data/synthetic.yaml", "backbone/tiny.yaml", "trainer/cpu.yaml")
SUITE: dict[str, Any] = {
    "protocols": [
        {"protocol": "few_shot@1", "datasets": ["data/ucf101.yaml"], "shots": [2, 4], "seeds": [0]},
        {"protocol": "zero_shot@1", "datasets": [["data/hmdb51.yaml", "views/4x3.yaml"]], "train": "data/ucf101.yaml",
         "splits": [1, 2], "half_classes": True, "selection": "last"},
    ],
    "methods": {"msta": {"configs": ["msta_fewshot.yaml"]}, "given": {"configs": ["mote_fewshot.yaml"],
                "trains": False, "checkpoint": "last.ckpt"}},
    "overlays": ["trainer/cpu.yaml"],
}  # fmt: skip


def places(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of everything in a configuration."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


@st.composite
def changed(draw: st.DrawFn, valid: dict[str, Any]) -> Any:
    """A configuration with one to three values replaced, left out or added."""
    content: Any = copy.deepcopy(valid)
    for _ in range(draw(st.integers(1, 3))):
        paths = list(places(content))
        if not paths:
            break
        *path, last = draw(st.sampled_from(paths))
        inner = content
        for key in path:
            inner = inner[key]
        change = draw(st.sampled_from(["replace", "near", "near", "class", "remove", "add"]))
        if change == "remove":
            del inner[last]
        elif change == "add" and isinstance(inner, dict):
            inner[draw(NAMES)] = draw(VALUES)
        elif change == "near":
            inner[last] = draw(NEAR.get(type(inner[last]), VALUES))
        else:
            inner[last] = draw(CLASS if change == "class" else VALUES)
    return content


def written(content: Any, path: Path) -> Path:
    path.write_text(yaml.safe_dump(content))
    return path


def sentence(error: VlbenchError) -> None:
    message = str(error)
    assert message
    assert not any(
        inner in message for inner in ("Subtypes", "Traceback", "NestedArg", "Problem with given class_path")
    )
    assert len(message) < 1500


class _ParserIsBuiltError(VlbenchError):
    """The parser of `vlbench fit` is there, and nothing was parsed."""


@pytest.fixture(scope="module")
def parser() -> ArgumentParser:
    """The parser of `vlbench fit`, built once: it takes a quarter of a second."""
    built: list[ArgumentParser] = []

    def stop(self: VlbenchCLI, *_: object) -> None:
        built.append(self._subcommand_parsers["fit"])
        raise _ParserIsBuiltError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(VlbenchCLI, "parse_arguments", stop)
        patch.setattr(sys, "argv", ["vlbench"])
        with pytest.raises(_ParserIsBuiltError):
            run_trainer(["fit"])
    return built[0]


def merged(contents: list[dict[str, Any]]) -> dict[str, Any]:
    whole: dict[str, Any] = {}
    for content in contents:
        for key, value in content.items():
            both = isinstance(value, dict) and isinstance(whole.get(key), dict)
            whole[key] = merged([whole[key], value]) if both else value
    return whole


def check(path: Path, parser: ArgumentParser) -> None:
    """What `vlbench fit --config` does with a configuration before data are prepared."""
    content = read_config(path)
    with explained(parser):
        config = parser.parse_object(content)
    checked_data("fit", config)


@pytest.mark.parametrize("cases", CASES)
@pytest.mark.timeout(3600)
def test_a_configuration_is_taken_or_refused(cases, parser, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logging.getLogger("lightning.pytorch.utilities.rank_zero"), "level", logging.ERROR)
    valid = merged([read_config(find_config(name)) for name in RUN])
    valid["model"]["init_args"]["backbone"] = {"class_path": "TinyCLIP", "init_args": {"pretrained": True}}
    check(written(valid, tmp_path / "valid.yaml"), parser)
    outcomes = set()

    @settings(max_examples=cases, database=None)
    @given(changed(valid))
    @example({**valid, "config": "0"})  # jsonargparse asserts without a word
    def attack(content):
        path = written(content, tmp_path / "own.yaml")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                check(path, parser)
        except VlbenchError as error:
            sentence(error)
            outcomes.add("refused")
        else:
            outcomes.add("taken")

    attack()
    assert outcomes == {"taken", "refused"}
    assert {path.name for path in tmp_path.iterdir()} == {"valid.yaml", "own.yaml"}


@pytest.mark.parametrize("cases", CASES)
@pytest.mark.timeout(3600)
def test_a_suite_is_taken_or_refused(cases, tmp_path):
    assert plan(read_suite(written(SUITE, tmp_path / "valid.yaml")))
    outcomes = set()

    @settings(max_examples=cases, database=None)
    @given(changed(SUITE))
    def attack(content):
        path = written(content, tmp_path / "own.yaml")
        try:
            read_config(path)
            plan(read_suite(path))
        except VlbenchError as error:
            sentence(error)
            outcomes.add("refused")
        else:
            outcomes.add("taken")

    attack()
    assert outcomes == {"taken", "refused"}


@pytest.mark.parametrize("cases", CASES)
@pytest.mark.timeout(3600)
def test_a_file_of_any_bytes_is_read_or_refused(cases, tmp_path):
    path = tmp_path / "own.yaml"
    text = written(SUITE, path).read_bytes()
    splices = st.tuples(
        st.integers(0, len(text)), st.binary(max_size=6) | st.sampled_from([b"&a [*a]", b"<<: ", b"!!"])
    )

    @settings(max_examples=cases, database=None)
    @given(st.lists(splices, min_size=1, max_size=3))
    def attack(changes):
        content = text
        for place, piece in changes:
            content = content[:place] + piece + content[place + len(piece) :]
        path.write_bytes(content)
        try:
            read_config(path)
        except VlbenchError as error:
            sentence(error)

    attack()
