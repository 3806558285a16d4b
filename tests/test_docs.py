"""What the documentation says: examples run, and what it names is there."""

import importlib.util
import inspect
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from tests import hub
from tests.documentation import PAGES, README, ROOT, SHORTER, blocks, commands, inline, leaves, navigation
from vlbench.cli.configs import find_config
from vlbench.cli.main import main
from vlbench.cli.preflight import LINKED
from vlbench.cli.registry import COMMANDS, find_command, lightning_commands

EXTENDING = ROOT / "docs" / "extending.md"

pages = pytest.mark.parametrize("page", [README, *PAGES], ids=lambda page: page.stem)


# Examples --------------------------------------------------------------------------------------------------------


def section(page: Path, heading: str) -> str:
    """From a heading of the second level to the next one."""
    (text,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", page.read_text(), re.MULTILINE | re.DOTALL)
    return str(text)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("heading", "records"), [("A method", 1), ("A dataset", 2), ("A backbone", 2), ("A protocol", 2)]
)
def test_the_extensions_work_as_they_are_written(heading, records, workplace, monkeypatch):
    """Every file of the page under its name, then the commands of a section in their order."""
    from vlbench.protocols import plans

    monkeypatch.syspath_prepend(str(workplace))
    monkeypatch.setattr(plans, "PROTOCOLS", dict(plans.PROTOCOLS))
    if importlib.util.find_spec("transformers") is None:
        # Large for one example: the part of its interface that the page uses stands in.
        monkeypatch.setitem(sys.modules, "transformers", hub)
    for block in blocks(EXTENDING.read_text()):
        if block.title:
            Path(block.title).write_text(block.text)
    for program, *words in commands(section(EXTENDING, heading)):
        assert program == "python"
        if words[:2] == ["-m", "vlbench"]:
            monkeypatch.setattr(sys, "argv", ["vlbench"])
            assert main([*words[2:], *SHORTER.get(words[2], [])]) == 0, words
            continue
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (workplace, ROOT)))}
        subprocess.run([sys.executable, *words], env=environment, check=True)
    assert len([*Path("results").rglob("records/*.json")]) == records


def test_the_block_of_a_method_works_as_it_is_written(tmp_path):
    """It changes the features, and leaves them where its convolution is zero."""
    import torch

    from vlbench.backbones import TinyCLIP

    (text,) = (block.text for block in blocks(EXTENDING.read_text()) if block.title == "adapter_block.py")
    (tmp_path / "adapter_block.py").write_text(text)
    names = runpy.run_path(str(tmp_path / "adapter_block.py"))
    backbone = TinyCLIP().eval()
    video = torch.randn(2, 4, 3, 32, 32)
    with torch.no_grad():
        names["adapt"](backbone)
        frozen = backbone.encode_frames(video, adapted=False)
        assert not torch.allclose(backbone.encode_frames(video), frozen, atol=1e-3)
        for block in backbone.image.blocks:
            block.adapter.weight.zero_()
            block.adapter.bias.zero_()
        assert torch.allclose(backbone.encode_frames(video), frozen, atol=1e-4)


# Commands --------------------------------------------------------------------------------------------------------


@pages
def test_commands_and_their_options_exist(page):
    for words in commands(page.read_text()):
        if words[:3] == ["python", "-m", "vlbench"]:
            words = words[2:]
        if words[0] == "make":
            assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), words
        if words[0] == "vlbench" and words[1] not in lightning_commands():
            command = find_command(words[1:])
            command.parser().parse_args(words[1 + len(command.name.split()) :])


def trainings() -> list[tuple[str, ...]]:
    """Every command of the pages that goes to the trainer; those of `extending.md` run."""
    typed = {tuple(words) for page in PAGES if page != EXTENDING for words in commands(page.read_text())}
    return sorted(words[1:] for words in typed if words[0] == "vlbench" and words[1] in lightning_commands())


@pytest.mark.slow
@pytest.mark.parametrize("words", trainings(), ids=" ".join)
def test_trainings_can_be_configured(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if "--ckpt_path" in words:
        checkpoint = Path(words[words.index("--ckpt_path") + 1])
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        checkpoint.touch()
    monkeypatch.setattr(sys, "argv", ["vlbench"])
    assert main([*words, "--print_config"]) == 0
    assert "class_path: vlbench." in capsys.readouterr().out


def test_the_readme_names_every_group_of_commands():
    """A command without a group of its own counts as one."""
    named = {text.split()[1] for text in inline(README.read_text()) if re.match(r"vlbench [a-z]", text)}
    assert {name.split()[0] for name in COMMANDS} - named == set()


# Names -----------------------------------------------------------------------------------------------------------


@pages
def test_configurations_exist(page):
    own = {block.title for block in blocks(page.read_text())} | {"here.yaml"}  # what is the reader's, in protocols.md
    code = [*inline(page.read_text()), *(block.text for block in blocks(page.read_text()))]
    for name in {name for text in code for name in re.findall(r"(?<![\w*/.])[\w/]+\.yaml", text)} - own:
        find_config(name.removeprefix("configs/"), below="suite")


def test_every_configuration_is_listed():
    """Those that suites of the synthetic set share among their methods are the suites' own."""
    text = (ROOT / "docs" / "configuration.md").read_text()
    configs = ROOT / "configs"
    names = {path.relative_to(configs).as_posix() for path in configs.rglob("*.yaml")}
    theirs = {name for name in names if name.split("/")[0] in ("audit", "demo", "field", "regression", "smoke")}
    assert {name for name in names - theirs if f"`{name}`" not in text} == set()


@pages
def test_inline_commands_and_plain_options_exist(page):
    known = " ".join(command.parser().format_help() for command in COMMANDS.values() if not command.lightning)
    known += " --config --print_config --ckpt_path --selection --resume --compile --matmul_precision"
    known += " --checkpoint_minutes"
    known += " --seed_everything --help --model.help --version"
    for text in inline(page.read_text()):
        words = re.match(r"vlbench ([a-z]+(?: [a-z]+)*)", text)
        if words and words[1].split()[0] not in lightning_commands():
            typed = words[1].split()
            assert any(typed[: len(name.split())] == name.split()[: len(typed)] for name in COMMANDS), text
        for option in re.findall(r"(?<!\S)(--[a-z_]+)(?![\w.])", text):
            assert option in known, f"{page.name}: {text}"


@pages
def test_dotted_options_exist(page):
    """`data.clip.views.crops`, `--model.init_args.lr`: looked up in the signatures of their classes."""
    roots = option_roots()
    pattern = rf"(?<![\w.])({'|'.join(roots)})((?:\.[a-z_]+)+)"
    typed = [block.text for block in blocks(page.read_text()) if block.language == "bash"]
    for text in [*inline(page.read_text()), *typed]:
        for root, path in re.findall(pattern, text):
            plain = f"{root}{path}".replace(".init_args", "")
            assert plain not in LINKED, f"{page.name}: {plain} is no option, {LINKED[plain]}"
            if path not in (".help", ".class_path"):
                assert_option(roots[root], path.replace(".init_args", "").strip(".").split("."), text)


def option_roots() -> dict[str, list[Any]]:
    from lightning import Trainer
    from lightning.pytorch.callbacks import ModelCheckpoint

    import vlbench.methods as methods
    from vlbench.bank.datamodule import FeatureBankDataModule
    from vlbench.clips.datamodule import VideoDataModule
    from vlbench.results.callback import RecordWriter

    return {
        "data": [VideoDataModule, FeatureBankDataModule],
        "model": [getattr(methods, name) for name in methods.__all__],
        "trainer": [Trainer],
        "record": [RecordWriter],
        "checkpoint": [ModelCheckpoint],
    }


def assert_option(owners: list[Any], path: list[str], text: str) -> None:
    name, *rest = path
    having = [owner for owner in owners if name in inspect.signature(owner).parameters]
    assert having, f"{text}: no {name}"
    if rest:
        hints = [get_type_hints(owner.__init__)[name] for owner in having]
        assert_option([kind for hint in hints for kind in with_subclasses(hint)], rest, text)


def with_subclasses(hint: Any) -> list[Any]:
    if get_args(hint):
        return [kind for part in get_args(hint) if part is not type(None) for kind in with_subclasses(part)]
    return [hint, *(kind for child in hint.__subclasses__() for kind in with_subclasses(child))]


# The site --------------------------------------------------------------------------------------------------------


@pages
def test_links_lead_somewhere(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\[[^\]]+\]\(([^)]+)\)", text):
        if re.match(r"https?:", target):
            continue
        name, _, anchor = target.partition("#")
        linked = page.parent / name if name else page
        assert linked.is_file(), target
        assert not anchor or anchor in anchors(linked), target


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}


def test_the_navigation_has_every_page_once():
    pages = (ROOT / "docs").rglob("*.md")
    assert sorted(leaves(navigation())) == sorted(page.relative_to(ROOT / "docs").as_posix() for page in pages)
