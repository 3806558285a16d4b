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
ENTRY = "{{protocols: [{{protocol: few_shot@1, datasets: [data/ucf101.yaml], {}}}]}}"
CONTENTS = {
    "empty": "", "scalar": "3", "tabs": "trainer:\n\tmax_epochs: 3", "latin": "data: {init_args: {root: caf\xe9}}",
    "nul": "a: \0", "digits": "data: {init_args: {frames: " + 5000 * "9" + "}}", "deep": 3000 * "[",
    "circle": "&a [*a]", "numbered": "trainer: {1: 2}", "null_data": "data: null", "null_model": "model: null",
    "null_backbone": "model: {init_args: {backbone: null}}", "listed": "data: [1]",
    "class_list": "model: {class_path: [MSTA]}", "options_list": "model: {init_args: [1]}",
    "options_null": "model: {init_args: null}", "null_group": "data: {init_args: {clip: null}}",
    "beside": "model: {class_path: MSTA, bottleneck: 3}", "date": "trainer: {max_epochs: 2001-01-01}",
    "null": "data: {class_path: UCF101DataModule, init_args: {train: null}}",
    "shots": "data: {class_path: UCF101DataModule, init_args: {train: {shots: x}}}",
    "protocol": "{protocol: []}", "number": "{protocols: 3}", "seeds": ENTRY.format("seeds: [-1]"),
    "words": ENTRY.format("shots: [x]"),
}  # fmt: skip
"""Configurations and suites that say what none can."""
LONGEST = 600
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
        monkeypatch.setattr("vlbench.clips.datamodule.VideoDataModule.prepare_data", lambda _: 1 / 0)
        code = main(list(arguments))
        captured = capsys.readouterr()
        assert captured.err.count("\n") == 1
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
    for name, content in CONTENTS.items():
        Path(f"{name}.yaml").write_bytes(content.encode("latin-1"))
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        ("leaderbord x", "no command 'leaderbord'; did you mean leaderboard?"),
        ("data lists", "did you mean data list?"),
        ("data", "allowed: data list, data describe, data check"),
        ("fit --config msta_fewshto.yaml", "did you mean msta_fewshot.yaml"),
        ("fit --config qqqqqqqq", "known: action_clip_*.yaml, "),
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
        ("run --suite demo.yaml --out out --jobs three", "--jobs is 'three'; allowed: int, null"),
        ("run --suite demo.yaml --out out --launcher ssh", "--launcher is 'ssh'; allowed: local, slurm"),
        ("run --suite demo.yaml --out out --overlays trainer/cpux.yaml", "did you mean trainer/cpu.yaml"),
        ("regress --suite demo.yaml --expected nothing.json", "nothing.json"),
        ("data describe ucf102", "no dataset 'ucf102'; did you mean ucf101?"),
        ("data check --root nowhere", "--root is nowhere, which is not a folder"),
        ("data check --config data/ucf102.yaml", "did you mean data/ucf101.yaml"),
        ("data check --frames many --root .", "--frames is 'many'; allowed: int"),
        ("data check --frames [1] --root .", "--frames is '[1]'; allowed: int"),
        ("data check --frames 0 --root .", "frames is 0; allowed: 1 to 4,096"),
        ("data check --workers -1 --root .", "workers is -1; allowed: 0 to 1,024, or null for one a core"),
        ("data check --bank nowhere", "--bank is nowhere, which is not a folder"),
        ("data check --bank . --config data/ucf101.yaml", "give one of --config NAME, --root DIR, --lists FILE"),
        ("data check --bank . --similar 1.5", "similar is 1.5; allowed: above 0 to 1"),
        ("data check --config data/bank.yaml", "at the bank itself by `vlbench data check --bank DIR`"),
        ("features export nowhere --out out", "FOLDER is nowhere, which is not a folder"),
        ("features export . --out out --format csv", "--format is 'csv'; allowed: parquet"),
        ("data check --root . --html page.html", "html is page.html and there is no bank; give --bank DIR"),
        ("data check --config listed.yaml", "listed.yaml sets data to [1]; allowed: class_path and init_args"),
        ("data check --config null.yaml", "--data.train is null; allowed: a group of"),
        ("data check --config shots.yaml", "shots.yaml configure no dataset: --data.train.shots is 'x'; allowed: int"),
        ("data synth sets --sets shapes-s", "--sets is 'shapes-s'; allowed: list[str], null"),
        ("run --suite demo.yaml --out out --jobs 0", "jobs is 0; allowed: 1 to 100,000"),
        ("run --suite demo.yaml --out out --slurm 3", "--slurm is '3'; allowed: dict[str, Any], null"),
        ("run --suite empty.yaml --out out", "empty.yaml is not a suite: missing: protocols"),
        ("run --suite protocol.yaml --out out", "no option protocol; did you mean protocols?"),
        ("run --suite number.yaml --out out", "number.yaml is not a suite: protocols is '3'; allowed: list"),
        ("run --suite seeds.yaml --out out", "seeds.yaml is not a suite: seeds is -1; allowed: 0 to 4,294,967,295"),
        ("run --suite words.yaml --out out", "words.yaml is not a suite: protocols.shots is 'x'; allowed: int"),
        ("regress --suite demo.yaml --expected x --jobs 0", "jobs is 0; allowed: 1 to 100,000"),
        ("regress --suite demo.yaml --expected x --seeds -1", "seeds is -1; allowed: 0 to 4,294,967,295"),
        ("regress --suite demo.yaml --expected x --seeds x", "--seeds is 'x'; allowed: int"),
        ("compare a b --draws x", "--draws is 'x'; allowed: int"),
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
    with pytest.raises(ConfigError, match=r"model\.seed, which is no option of a run; seed_everything is the only"):
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
        ("--data.train.shots=0", "Subset.shots is 0; allowed: 1 to 1,000,000, or null for all videos"),
        ("--data.frames=0", "frames is 0; allowed: 1 to 4,096"),
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
        ("--data.num_workers=-1", "num_workers is -1; allowed: 0 to 1,024, or null for the cores there are"),
        ("--trainer.precision=fp3", "--trainer.precision is 'fp3'"),
        ("--trainer.max_epochs=0", "trainer.max_epochs is 0; allowed: 1 to 1,000,000"),
        ("--trainer.max_epochs=-1", "trainer.max_epochs is -1; allowed: 1 to 1,000,000"),
        ("--trainer.max_epochs=[1]", "--trainer.max_epochs is '[1]'; allowed: int, null"),
        ("--trainer.max_epochs={a: 1}", "allowed: int, null"),
        ("--trainer.max_epochs=1.5", "--trainer.max_epochs is '1.5'; allowed: int, null"),
        ("--trainer.max_epochs", "--trainer.max_epochs has no value"),
        ("--trainer.devices=[0,1]", "the options of trainer do not fit this machine or each other: `devices`"),
        ("--trainer.devices=many", "the options of trainer do not fit this machine or each other: `devices`"),
        ("--trainer.devices=1000000000", "trainer.devices is 1000000000; allowed: -1 to 1,024"),
        ("--trainer.accelerator=tpux", "invalid accelerator name: `accelerator='tpux'`. Available names are: "),
        ("--trainer.strategy=dpp", "invalid strategy name: `strategy='dpp'`"),
        ("--trainer.num_nodes=0", "trainer.num_nodes is 0; allowed: 1 to 100,000"),
        ("--trainer.accumulate_grad_batches=0", "accumulate_grad_batches is 0; allowed: 1 to 1,048,576"),
        ("--trainer.gradient_clip_val=-1.5", "gradient_clip_val is -1.5; allowed: 0 or more, or null for no clipping"),
        ("--trainer.limit_val_batches=.inf", "limit_val_batches is inf; allowed: 0 or more"),
        ("--trainer.max_time=soon", "`Timer(duration='soon')` is not a valid duration"),
        ("--trainer.callbacks=3", "--trainer.callbacks is '3'; allowed: list[Callback], Callback, null"),
        ("--trainer.callbacks=[Nothing]", "allowed: a class derived from Callback"),
        ("--trainer.callbacks=EarlyStopping", "missing: trainer.callbacks.monitor"),
        ("--trainer.callbacks=[{class_path: EarlyStopping, init_args: {monitr: x}}]", "did you mean"),
        ("--trainer.logger=Nope", "--trainer.logger is 'Nope'; allowed: Logger, Iterable[Logger], bool, null"),
        ("--trainer.plugins=x", "--trainer.plugins is 'x'; allowed: Precision, ClusterEnvironment"),
        ("--trainer=x", "--trainer is 'x'; allowed: a group of accelerator, "),
        ("--checkpoint.save_top_k=-7", "checkpoint.save_top_k is -7; allowed: -1 to 1,000,000"),
        ("--data.train.shots=x", "--data.train.shots is 'x'; allowed: int, null"),
        ("--data.train={shots: x}", "--data.train.shots is 'x'; allowed: int, null"),
        ("--data.train={shotz: 3}", "no option --data.train.shotz; did you mean --data.train.shots?"),
        ("--data.train=x", "--data.train is 'x'; allowed: a group of classes, seed, shots, split"),
        ("--data.train.classes=bass", "--data.train.classes is 'bass'; allowed: all, base, novel; did you mean base?"),
        ("--data.test=[{classes: bass}]", "--data.test.classes is 'bass'; allowed: all, base, novel"),
        ("--data.test=[1]", "--data.test is '1'; allowed: a group of classes, shots, split, seed, or a list of them"),
        ("--data.test=[]", "test is []; allowed: one subset, or several"),
        ("--data.test=null", "--data.test is null; allowed: a group of classes, shots, split, seed, list[Subset]"),
        ("--data.clip=x", "--data.clip is 'x'; allowed: a group of sampling, segment_ends, test_short_side, views"),
        ("--data.clip={views: 3}", "--data.clip.views is 3; allowed: a group of clips, crops, right_edge, order"),
        ("--data.clip.views={clips: x}", "--data.clip.views.clips is 'x'; allowed: int"),
        ("--data.clip.views.crops=2", "--data.clip.views.crops is '2'; allowed: 1, 3"),
        ("--data.clip.test_short_side=0.5", "test_short_side is 0.5; allowed: 1 to 8"),
        ("--data.augmentation.scale=[1]", "--data.augmentation.scale is '[1]'; allowed: a list of 2 values"),
        ("--data.augmentation.scale=[-1,1]", "scale is (-1.0, 1.0); allowed: two numbers above 0 to 1"),
        ("--data.augmentation.color_jitter=2", "color_jitter is 2.0; allowed: 0 to 1"),
        ("--data.augmentation.flip=perhaps", "--data.augmentation.flip is 'perhaps'; allowed: bool, null"),
        ("--data.root=[1]", "--data.root is '[1]'; allowed: str, null"),
        ("--data.frames=null", "--data.frames is null; allowed: int"),
        ("--data.frames=1000000000", "frames is 1000000000; allowed: 1 to 4,096"),
        (f"--data.frames={50 * '9'}", "frames is an integer of many digits; allowed: 1 to 4,096"),
        (f"--data.frames={5000 * '9'}", "--data cannot be read: Exceeds the limit"),
        (f"--data.frames={2000 * '['}", "--data.frames is '[[[["),
        ("--data.init_args=3", "--data.init_args holds no names and values; allowed: augmentation, batch_size"),
        ("--data=MSTA", "allowed: UCF101DataModule, HMDB51DataModule"),
        ("--data.heldout=1.5", "heldout is 1.5; allowed: 0 to less than 1"),
        ("--model=UCF101DataModule", "allowed: AIM, FROSTER, MMA, MSTA, "),
        ("--model=torch.nn.Linear", "--model is 'torch.nn.Linear'; allowed: AIM, FROSTER, MMA, MSTA, "),
        ("--model=null", "missing: model"),
        ("--model.backbone=torch.nn.Linear", "--model.backbone is 'torch.nn.Linear'; allowed: "),
        ("--model.backbone=null", "missing: model.backbone"),
        ("--model.backbone=OpenCLIP", "missing: model.backbone.model"),
        ("--model.schedule=x", "--model.schedule is 'x'; allowed: a group of cosine_from, final_ratio, "),
        ("--model.schedule={warmup: 3}", "no option --model.schedule.warmup"),
        ("--model.schedule=null", "--model.schedule is null; allowed: a group of warmup_epochs, final_ratio"),
        ("--model.lr=.nan", "lr is nan; allowed: 0 to 1,000,000"),
        ("--model.lr=-1", "lr is -1.0; allowed: 0 to 1,000,000"),
        ("--model.prompts=[]", "prompts are []; each template needs exactly one {}"),
        ("--record.bootstrap=-5", "bootstrap is -5; allowed: 0 to 10,000"),
        ("--seed_everything=-1", "seed_everything is -1; allowed: 0 to 4,294,967,295"),
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
        (CONTENTS["scalar"], "own.yaml holds a int; a configuration holds names and values"),
        (CONTENTS["tabs"], "own.yaml is not YAML, line 2: found character '\\t'"),
        (CONTENTS["latin"], "own.yaml is not YAML: invalid continuation byte"),
        (CONTENTS["nul"], "own.yaml is not YAML: special characters are not allowed"),
        (CONTENTS["digits"], "own.yaml is not YAML: Exceeds the limit"),
        (CONTENTS["deep"], "own.yaml is nested too deeply"),
        (CONTENTS["circle"], "own.yaml, line 1: a value contains itself by its alias"),
        (CONTENTS["numbered"], "own.yaml has the name 1; names in a configuration are text"),
        (CONTENTS["null_data"], "missing: data"),
        (CONTENTS["null_model"], "missing: model"),
        (CONTENTS["null_backbone"], "missing: model.backbone"),
        (CONTENTS["listed"], "--data is '[1]'; allowed: UCF101DataModule, "),
        (CONTENTS["class_list"], "allowed: AIM, FROSTER, MMA, MSTA, "),
        (CONTENTS["options_list"], "--model.init_args holds no names and values; allowed: adapter_input, "),
        (CONTENTS["options_null"], "--model.init_args holds no names and values"),
        (CONTENTS["null_group"], "--data.clip is null; allowed: a group of sampling, segment_ends, views"),
        (CONTENTS["beside"], "--model has options beside class_path; options of a class are below init_args"),
        (CONTENTS["date"], "--trainer.max_epochs is '2001-01-01'; allowed: int, null"),
    ],
)
def test_a_wrong_option_in_a_configuration_is_named(place, answered, content, answer):
    Path("own.yaml").write_bytes(content.encode("latin-1"))
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
