"""What the README tells a reader to type."""

import re
import shlex
import sys
from pathlib import Path

import pytest

from vlbench.cli.main import main

README = (Path(__file__).parents[1] / "README.md").read_text()

# The commands run as they stand, only shorter: a training would take minutes.
SHORTER = {
    "fit": ["--trainer.max_steps=2", "--trainer.limit_val_batches=0", "--data.num_workers=0"],
    "test": ["--data.num_workers=0"],
    # Whoever works on vlbench has a changed checkout.
    "leaderboard": ["--allow_dirty"],
}


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands():
    return [line for block in blocks("bash") for line in block.splitlines() if line]


def test_the_commands_work_one_after_the_other(workplace, monkeypatch):
    assert len(commands()) >= 4
    for line in commands():
        program, action, *rest = shlex.split(line)
        assert program == "vlbench"
        monkeypatch.setattr(sys, "argv", ["vlbench"])
        assert main([action, *rest, *SHORTER.get(action, [])]) == 0, line
    assert Path("leaderboard.csv").read_text().startswith("method,backbone,weights,protocol,dataset,")


def test_the_make_targets_exist():
    makefile = (Path(__file__).parents[1] / "Makefile").read_text()
    for target in re.findall(r"^    make (\w+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def table(page):
    """Cells of the table of the demo, its first three columns of figures: what the README shows of it."""
    rows = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in page.splitlines() if line[:1] == "|"]
    first = next(index for index, row in enumerate(rows) if row[:2] == ["method", "shots a class"])
    return [row[:4] for row in rows[first : first + 5]]


def test_the_table_of_the_demo_is_that_of_its_page():
    rows = table(README)
    assert [row[0] for row in rows[2:]] == ["zero-shot CLIP", "MSTA", "MoTE"]
    assert rows == table((Path(__file__).parents[1] / "docs" / "demo.md").read_text())


def test_the_named_configs_exist():
    from vlbench.cli.configs import find_config

    names = re.findall(r"`([\w/]+\.yaml)`", README)
    assert len(names) >= 8
    for name in names:
        find_config(name, "suite")


@pytest.mark.slow
def test_the_dataset_of_the_reader(workplace, rendered, monkeypatch):
    """The README's class, saved as it says, over three classes of rendered videos."""
    (code,) = blocks("python")
    (workplace / "kitchen.py").write_text(code)
    monkeypatch.syspath_prepend(str(workplace))
    videos = rendered / "synthetic" / "shapes-s"
    folder = workplace / "kitchen"
    folder.mkdir()
    for part in ("train", "test"):
        lines = [line for line in (videos / f"{part}.txt").read_text().splitlines() if int(line.split()[1]) < 3]
        (folder / f"{part}.txt").write_text("\n".join(lines))
        (folder / part).symlink_to(videos / part)
    (workplace / "kitchen.yaml").write_text("data: {class_path: kitchen.KitchenDataModule}")
    monkeypatch.setattr(sys, "argv", ["vlbench"])
    configs = ["zero_shot.yaml", "kitchen.yaml", "backbone/tiny.yaml", "trainer/cpu.yaml"]
    options = [part for name in configs for part in ("--config", name)]
    assert main(["test", *options, f"--data.root={folder}", "--data.num_workers=0"]) == 0
    (record,) = Path("results/records").iterdir()
    assert '"expected": 30' in record.read_text()
