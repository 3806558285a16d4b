"""Of several trainings the one that is best on the videos they held out, which test videos have no part in."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from vlbench.cli.choice import choose
from vlbench.cli.main import main
from vlbench.datasets.specs import Subset
from vlbench.errors import CheckpointError, ConfigError
from vlbench.evaluation.facts import TrainingFacts
from vlbench.results.record import Record
from vlbench.synthetic.classes import SETS

FACTS = TrainingFacts(
    "shapes-s", Subset(shots=4), list="own/4-shot seed 0", videos=48, steps=30, epochs=2, heldout=0.25, finished=True,
    settings={"lr": 0.001, "schedule.warmup_epochs": 2, "trainer.max_epochs": 2},
    validation={"data.clip.views.clips": 1},
)  # fmt: skip


def write(name, top1, lr=0.001, method="msta", backbone="tiny", **changes):
    """A checkpoint of a training with this accuracy on its held-out videos."""
    facts = replace(FACTS, heldout_top1=top1, settings={**FACTS.settings, "lr": lr}, **changes)
    header = {"method": method, "backbone": {"digest": backbone}, "training": facts.as_dict()}
    torch.save({"state_dict": {"weight": torch.tensor([lr])}, "vlbench": header}, name)
    return Path(name)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["vlbench"])


@pytest.mark.quick
@pytest.mark.parametrize(("accuracies", "best"), [([40.0, 60.0, 50.0], 1), ([40.0, 55.0, 55.0], 1), ([7.0], 0)])
def test_the_best_on_held_out_videos_is_taken_and_says_what_it_was_chosen_among(accuracies, best):
    rates = [0.001, 0.003, 0.01][: len(accuracies)]
    files = [write(f"{rate}.ckpt", top1, rate) for rate, top1 in zip(rates, accuracies, strict=True)]
    lines = choose(files, Path("out/last.ckpt"))
    chosen = torch.load("out/last.ckpt", weights_only=True)
    assert chosen["state_dict"]["weight"].item() == pytest.approx(rates[best])
    facts = TrainingFacts.from_dict(chosen["vlbench"]["training"])
    settings = facts.settings_behind("last")
    several = len(rates) > 1
    assert settings["lr"] == rates[best]
    assert settings["chosen_among"] == ({"lr": rates} if several else {})
    assert settings["validation.data.clip.views.clips"] == 1  # it changes what is chosen
    assert [each["heldout_top1"] for each in facts.candidates] == accuracies
    assert [each.get("lr") for each in facts.candidates] == (rates if several else [None])
    assert lines[-1] == f"{files[best]} is the best; wrote out/last.ckpt"
    assert TrainingFacts.from_dict(json.loads(json.dumps(facts.as_dict()))).as_dict() == facts.as_dict()


@pytest.mark.quick
@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"heldout_top1": None}, CheckpointError, "other.ckpt states no accuracy on held-out videos"),
        ({"finished": False}, CheckpointError, "other.ckpt is of a training that has not ended"),
        ({"list": "own/4-shot seed 1"}, ConfigError, "one.ckpt and other.ckpt differ in list; a choice is among"),
        ({"heldout": 0.5, "videos": 32}, ConfigError, "differ in videos, heldout;"),
        ({"steps": 60, "epochs": 4}, ConfigError, "differ in steps, epochs;"),
        ({"method": "mma", "backbone": "large"}, ConfigError, "differ in method, backbone;"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_sentence(changes, error, message):
    top1 = changes.pop("heldout_top1", 50.0)
    files = [write("one.ckpt", 40.0), write("other.ckpt", top1, 0.01, **changes)]
    with pytest.raises(error, match=message) as raised:
        choose(files, Path("out.ckpt"))
    assert "\n" not in str(raised.value)
    assert not Path("out.ckpt").exists()


def write_part(rendered, part, first, names):
    """Writes a part of videos of two objects, from this line of their classes on, under the names of classes."""
    source = rendered / "synthetic" / "shapes-s"
    rows = [line.rsplit(" ", 1) for line in (source / "train.txt").read_text().splitlines()]
    lines = ["path,class"]
    for label, name in names.items():
        for path, _ in [row for row in rows if int(row[1]) == label][first : first + 8]:
            copy = Path("videos", part, Path(path).name)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / path, copy)
            lines.append(f"{copy.relative_to('videos')},{name}")
    Path("videos", f"{part}.csv").write_text("\n".join(lines))


def test_a_learning_rate_is_chosen_where_there_are_no_test_videos_at_all(rendered, capsys):
    """Neither the trainings nor the choice need a list or a video of the test part, which would choose otherwise."""
    one, other = (SETS["shapes-s"][label].name for label in (0, 8))
    assert one != other
    write_part(rendered, "train", 0, {0: other, 8: one})  # each has the other's name, which has to be learned
    configs = ["adaptformer_fewshot.yaml", "data/folder.yaml", "backbone/tiny.yaml", "trainer/cpu.yaml"]
    words = [part for config in configs for part in ("--config", config)]
    words += ["--data.root=videos", "--data.frames=4", "--data.num_workers=0", "--data.train.shots=8"]
    words += ["--data.augmentation={color_jitter: 0.0, gray: 0.0, scale: [0.8, 1.0]}", "--trainer.logger=false"]
    training = ["--data.heldout=0.5", "--trainer.max_epochs=10", "--trainer.check_val_every_n_epoch=10"]
    training += ["--data.batch_size=8", "--data.loading.effective_batch=8", "--model.schedule.warmup_epochs=0"]
    rates = [1e-9, 1e-2]
    for rate in rates:
        options = [f"--model.lr={rate}", f"--checkpoint.dirpath={rate}", "--selection=heldout"]
        assert main(["fit", *words, *training, *options]) == 0
    files = [f"{rate}/last.ckpt" for rate in rates]
    capsys.readouterr()
    assert main(["weights", "choose", *files, "--out", "chosen/last.ckpt"]) == 0
    assert f"{files[1]} is the best" in capsys.readouterr().out

    write_part(rendered, "test", 8, {0: one, 8: other})
    records = {}
    for file in (*files, "chosen/last.ckpt"):
        name = Path(file).parts[0]
        assert main(["test", *words, f"--ckpt_path={file}", f"--record.name={name}"]) == 0
        records[name] = Record.read(Path(f"results/records/{name}.json"))
    accuracies = {name: record.metrics["top1"] for name, record in records.items()}
    assert accuracies["1e-09"] > accuracies["0.01"] == accuracies["chosen"]
    chosen = records["chosen"]
    assert chosen.details.training_settings["chosen_among"] == {"lr": rates}
    table = chosen.details.training.as_dict()["candidates"]
    assert [each["lr"] for each in table] == rates
    assert table[1]["heldout_top1"] > table[0]["heldout_top1"]
    assert chosen.identity.training_settings != records["0.01"].identity.training_settings
