"""Whatever a user types wrongly is answered by one sentence and exit code 2, in a process of its own."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.cli.test_help import HEAVY, imported
from vlbench.cli.main import main
from vlbench.cli.preflight import check_command_line
from vlbench.datasets import DATASETS
from vlbench.errors import ConfigError

TINY = [
    *("--config", "msta_fewshot.yaml", "--config", "data/synthetic.yaml"),
    *("--config", "backbone/tiny.yaml", "--config", "trainer/cpu.yaml"),
]
LONGEST = 480
"""Characters of three lines of a wide terminal."""


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "vlbench", *arguments],
        capture_output=True, text=True, check=False, env={**os.environ, **environment},
    )  # fmt: skip


def said(result: subprocess.CompletedProcess[str]) -> str:
    """What a failed command says beside the imports; one sentence is all that it may be."""
    lines = [line for line in result.stderr.splitlines() if not line.startswith("import time:")]
    assert result.returncode == 2, result.stderr[-2000:]
    assert result.stdout == ""
    assert 1 <= len(lines) <= 3
    assert lines[0].startswith("vlbench: error: ")
    assert sum(map(len, lines)) <= LONGEST
    assert not any("Traceback" in line for line in lines)
    return " ".join(lines)


@pytest.fixture
def answered(capsys, monkeypatch):
    """Runs a command in this process, which has imported torch already, and returns what it says."""

    def answer(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["vlbench"])
        monkeypatch.setenv("VLBENCH_DATA", "nowhere")
        code = main(list(arguments))
        captured = capsys.readouterr()
        assert not Path("nowhere").exists()
        return said(subprocess.CompletedProcess(arguments, code, captured.out, captured.err))

    return answer


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A directory with files that are not what they are taken for."""
    monkeypatch.chdir(tmp_path)
    Path("broken.yaml").write_text("model: {a: [")
    Path("list.yaml").write_text("- 1\n- 2\n")
    Path("binary.yaml").write_bytes(bytes(range(128, 256)))
    Path("old.yaml").write_text("data:\n  class_path: HMDB51\n")
    Path("text.ckpt").write_text("no checkpoint")
    Path("text.safetensors").write_text("no checkpoint either")
    Path("suite.yaml").write_text(json.dumps({"methods": 3}))
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        ("leaderbord x", "no command 'leaderbord'; did you mean leaderboard?"),
        ("data lists", "did you mean data list?"),
        ("data", "allowed: data list, data describe, data check"),
        ("fit --config msta_fewshto.yaml", "did you mean msta_fewshot.yaml"),
        ("fit --config qqqqqqqq", "known: mote_fewshot.yaml"),
        ("fit --config", "--config has no value"),
        ("fit --config broken.yaml", "broken.yaml is not YAML, line 1"),
        ("fit --config list.yaml", "list.yaml holds a list"),
        ("fit --config binary.yaml", "binary.yaml is not YAML"),
        ("fit --config zero_shot.yaml --data UCF102DataModule", "did you mean UCF101DataModule"),
        ("fit --config zero_shot.yaml --model MSTB", "did you mean MSTA"),
        ("fit --config zero_shot.yaml --model.backbone=OpenCLIB", "did you mean OpenCLIP"),
        ("test --config zero_shot.yaml --ckpt_path text.ckp", "did you mean text.ckpt?"),
        ("test --config zero_shot.yaml --ckpt_path=nowhere/last.ckpt", "nowhere/last.ckpt does not exist"),
        ("test --config zero_shot.yaml --ckpt_path text.ckpt", "text.ckpt cannot be read as a checkpoint"),
        ("test --config zero_shot.yaml --ckpt_path text.safetensors", "cannot be read as safetensors"),
        ("run --suite dmo.yaml --out out", "did you mean demo.yaml"),
        ("run --suite suite.yaml --out out", "suite.yaml is not a suite"),
        ("run --suite broken.yaml --out out", "broken.yaml is not YAML"),
        ("run --suite demo.yaml", "missing: out"),
        ("run --suite demo.yaml --out out --jbos 3", "did you mean --jobs?"),
        ("run --suite demo.yaml --out out --jobs three", "--jobs is 'three'; allowed: int above 0"),
        ("run --suite demo.yaml --out out --launcher ssh", "--launcher is 'ssh'; allowed: local, slurm"),
        ("run --suite demo.yaml --out out --overlays trainer/cpux.yaml", "did you mean trainer/cpu.yaml"),
        ("regress --suite demo.yaml --expected nothing.json", "nothing.json"),
        ("data describe ucf102", "no dataset 'ucf102'; did you mean ucf101?"),
        ("data check --root nowhere", "--root is nowhere, which is not a folder"),
        ("data check --config data/ucf102.yaml", "did you mean data/ucf101.yaml"),
        ("data check --frames many --root .", "--frames is 'many'; allowed: int"),
        ("data subset copy --config trainer/cpu.yaml", "configure no dataset"),
        ("data prepare nowhere copy", "ROOT is nowhere, which is not a folder"),
        ("describe UCF102 --out out --base_url http://localhost:1 --model m", "no dataset 'UCF102'"),
        ("methods show msta_fewsho.yaml", "did you mean msta_fewshot.yaml"),
        ("weights import mote nothing.pt --backbone tiny --out out", "FILE is nothing.pt, which is not a file"),
        ("weights export nothing.ckpt --out out", "CHECKPOINT is nothing.ckpt, which is not a file"),
        ("leaderboard nowhere", "FOLDERS is nowhere, which is not a folder"),
    ],
)
def test_what_needs_no_signature_is_answered_without_torch(place, arguments, answer):
    result = run(*arguments.split())
    assert answer in said(result)
    assert not imported(result) & (HEAVY - {"numpy"})
    assert not Path("out").exists()


def test_a_missing_record_is_named(place):
    assert "no record 'nothing'" in said(run("compare", "nothing", "neither"))


@pytest.mark.parametrize("name", DATASETS)
def test_the_old_name_of_a_dataset_leads_to_its_datamodule(place, name):
    for given in (f"--data={name}", f"--data.class_path={name}", f"--data=vlbench.data.{name}"):
        assert f"its DataModule is {name}DataModule" in said(run("fit", *TINY, given))
    Path("old.yaml").write_text(f"data:\n  class_path: {name}\n")
    answer = said(run("fit", "--config", "old.yaml"))
    assert f"old.yaml sets data to {name}" in answer
    assert f"its DataModule is {name}DataModule" in answer


@pytest.mark.parametrize(
    ("old", "new"),
    [
        *((name, f"data.clip.{name}") for name in ("sampling", "segment_ends", "views", "test_short_side")),
        *(
            (name, f"data.loading.{name}")
            for name in ("effective_batch", "eval_batch_size", "epoch_size", "backend", "on_error")
        ),
        ("image_size", "the backbone says the size of its frames"),
        ("seed", "seed_everything is the only seed"),
    ],
)
def test_an_option_in_the_old_spelling_leads_to_the_new_one(place, old, new):
    Path("old.yaml").write_text(f"data:\n  init_args:\n    {old}: 3\n")
    for arguments in ([f"--data.{old}=3"], [f"--data.init_args.{old}", "3"], ["--config", "old.yaml"]):
        result = run("fit", *TINY, *arguments)
        answer = said(result)
        assert f"sets data.{old}, which is" in answer
        assert new in answer
        assert not imported(result) & HEAVY


def test_a_method_has_no_seed_of_its_own(place):
    with pytest.raises(ConfigError, match=r"model\.seed, which is no option any longer; seed_everything is the only"):
        check_command_line(["fit", "--model.init_args.seed=3"])


def test_a_part_of_a_moved_option_is_found_too(place):
    assert "data.views.clips, which is data.clip.views.clips now" in said(run("test", *TINY, "--data.views.clips=4"))


@pytest.mark.parametrize(
    ("option", "answer"),
    [
        ("--trainer.max_epoch=3", "no option --trainer.max_epoch; did you mean --trainer.max_epochs"),
        ("--trainer.max_epochs=three", "--trainer.max_epochs is 'three'; allowed: int, null"),
        ("--data.batch_sizes=3", "did you mean --data.batch_size?"),
        ("--data.batch_size=many", "--data.batch_size is 'many'; allowed: int"),
        ("--data.clip.samplings=dense", "did you mean --data.clip.sampling?"),
        ("--data.clip.sampling=sideways", "--data.clip.sampling is 'sideways'; allowed: uniform, dense, pytorchvideo"),
        ("--data.train.shots=0", "Subset.shots is 0; allowed: 1 or more"),
        ("--data.frames=0", "frames is 0; allowed: 1 or more"),
        ("--model.bottlneck=3", "did you mean --model.bottleneck?"),
        ("--model.bottleneck=wide", "--model.bottleneck is 'wide'; allowed: int"),
        ("--model.scale=0", "scale is 0"),
        ("--model.backbone.init_args.pretrained=maybe", "--model.backbone.pretrained is 'maybe'; allowed: bool"),
        ("--model=nobody.Nothing", "nobody.Nothing"),
        ("--selection=first", "--selection is 'first'; allowed: last, heldout, best_on_test"),
        ("--seed_everything=x", "--seed_everything is 'x'; allowed: bool, int"),
        ("--seed_everything=true", "seed_everything is true; allowed: an integer, which records name"),
        ("--bogus", "no option --bogus"),
        ("extra", "'extra' is no option and no value of one"),
        ("--trainer.devices=0", "the options of trainer do not fit this machine or each other"),
        ("--data.num_workers=-1", "num_workers is -1; allowed: 0 or more"),
        ("--trainer.precision=fp3", "--trainer.precision is 'fp3'"),
    ],
)
def test_a_wrong_option_is_named_before_anything_is_built(place, answered, option, answer):
    assert answer in answered("fit", *TINY, option)


@pytest.mark.slow
@pytest.mark.parametrize("option", ["--trainer.max_epochs=three", "--model.scale=0", "--data.frames=0"])
def test_a_wrong_option_is_named_in_a_process_of_its_own(place, option):
    assert option.partition("=")[0].rpartition(".")[2] in said(run("fit", *TINY, option, VLBENCH_DATA="nowhere"))
    assert not Path("nowhere").exists()


@pytest.mark.parametrize(
    ("content", "answer"),
    [
        ("traner: {max_epochs: 3}", "no option --traner"),
        ("trainer: {max_epoch: 3}", "did you mean --trainer.max_epochs"),
        ("data: {init_args: {batch_sizes: 3}}", "did you mean --data.batch_size?"),
        ("data: {init_args: {clip: {samplings: dense}}}", "did you mean --data.clip.sampling?"),
        ("model: {init_args: {bottleneck: wide}}", "--model.bottleneck is 'wide'; allowed: int"),
    ],
)
def test_a_wrong_option_in_a_configuration_is_named(place, answered, content, answer):
    Path("own.yaml").write_text(content)
    assert answer in answered("fit", *TINY, "--config", "own.yaml")


@pytest.mark.parametrize("suffix", ["ckpt", "safetensors"])
def test_a_foreign_checkpoint_is_refused_before_data_are_prepared(place, answered, suffix):
    path = f"foreign.{suffix}"
    if suffix == "ckpt":
        torch.save({"state_dict": {}}, path)
    else:
        save_file({"x": torch.zeros(1)}, path)
    assert "was not written by" in answered("test", *TINY, "--ckpt_path", path)
    torch.save({"vlbench": {"method": "mote"}}, "mote.ckpt")
    answer = answered("test", *TINY, "--ckpt_path", "mote.ckpt")
    assert "is of method 'mote', the configuration of 'msta'" in answer
    whole = Path("mote.ckpt").read_bytes()
    Path("cut.ckpt").write_bytes(whole[: len(whole) // 2])
    assert "cut.ckpt cannot be read as a checkpoint" in answered("test", *TINY, "--ckpt_path", "cut.ckpt")


@pytest.mark.slow
def test_a_foreign_checkpoint_is_refused_in_a_process_of_its_own(place):
    torch.save({"vlbench": {"method": "mote"}}, "mote.ckpt")
    assert "is of method 'mote'" in said(run("test", *TINY, "--ckpt_path", "mote.ckpt", VLBENCH_DATA="nowhere"))


def test_a_traceback_is_shown_when_it_is_asked_for(place):
    result = run("fit", "--config", "nothing.yaml", VLBENCH_DEBUG="1")
    assert result.returncode == 2
    assert "Traceback" in result.stderr
    assert re.search(r"^vlbench: error: no configuration 'nothing.yaml'", result.stderr, re.MULTILINE)
