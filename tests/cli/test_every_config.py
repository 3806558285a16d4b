"""Every configuration that ships, parsed and built, and every suite, planned."""

import sys
from inspect import signature

import pytest
import yaml

from tests.cli.test_trainer import command
from vlbench.cli import estimates
from vlbench.cli.configs import config_names, find_config
from vlbench.cli.main import main
from vlbench.cli.trainer import VlbenchCLI
from vlbench.methods import (
    AIM,
    MMA,
    MSTA,
    OST,
    TCCLIP,
    XCLIP,
    ActionCLIP,
    EfficientPrompt,
    MoTE,
    OpenVCLIP,
    STAdapter,
    ViFiCLIP,
    VLPrompting,
    ZeroShot,
)

pytestmark = pytest.mark.usefixtures("untraced")


@pytest.fixture(autouse=True)
def arguments(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["vlbench"])


def runnable(name):
    """The configuration a fragment needs before it: of the first method that has its options."""
    if "/" not in name:
        return []
    for suite in ("field", "peft"):  # where a suite says
        content = yaml.safe_load(find_config(f"suite/{suite}.yaml").read_text())
        methods = [*content["methods"].values(), *content["protocols"][0].get("methods", {}).values()]
        for method in methods:
            if name.startswith(f"{suite}/") and name in method["configs"]:
                return [config for config in method["configs"] if config not in (name, "backbone/tiny.yaml")]
    options = (yaml.safe_load(find_config(name).read_text()).get("model") or {}).get("init_args", {})
    methods = {
        "zero_shot.yaml": ZeroShot, "msta_fewshot.yaml": MSTA, "mote_fewshot.yaml": MoTE,
        "vifi_clip_fewshot.yaml": ViFiCLIP, "vl_prompting_fewshot.yaml": VLPrompting,
        "open_vclip_zeroshot.yaml": OpenVCLIP,
        "x_clip_fewshot.yaml": XCLIP, "tc_clip_fewshot.yaml": TCCLIP,
        "action_clip_zeroshot.yaml": ActionCLIP, "ost_fewshot.yaml": OST,
        "st_adapter_fully_supervised.yaml": STAdapter, "aim_fully_supervised.yaml": AIM,
        "efficient_prompt_fewshot.yaml": EfficientPrompt, "mma_fewshot.yaml": MMA,
    }  # fmt: skip
    return [next(base for base, method in methods.items() if options.keys() <= signature(method).parameters.keys())]


# Banks and their heads are tested where there is a bank.
ALONE = [name for name in config_names() if not name.startswith(("suite/", "head_only/", "data/bank"))]


@pytest.mark.parametrize("name", ALONE)
def test_every_config_is_parsed_and_instantiated(workplace, monkeypatch, name):
    monkeypatch.setattr(VlbenchCLI, "_run_subcommand", lambda self, subcommand: None)  # builds all and runs nothing
    monkeypatch.setattr("vlbench.clips.datamodule.VideoDataModule.setup", lambda self, stage: None)
    content = yaml.safe_load(find_config(name).read_text())
    trainer = content.get("trainer", {})
    # The architecture is replaced by the tiny one, and so is what its width or this machine does not allow.
    after = [] if "x3d" in name or "slowfast" in name else ["backbone/tiny.yaml"]
    options = content.get("model", {}).get("init_args", {})
    narrow = ["--model.init_args.bottleneck=64"] if "bottleneck" in options else []
    narrow += [f"--model.init_args.{name}=3" for name in ("image_depth", "text_depth", "last_block") if name in options]
    narrow += ["--model.init_args.first_block=2"] if "first_block" in options else []
    narrow += ["--model.init_args.text_tokens=4"] if "text_tokens" in options else []
    cpu = ["--trainer.accelerator=cpu", "--trainer.devices=1"] if trainer.get("accelerator") == "gpu" else []
    options = [*narrow, *cpu, "--trainer.logger=false"]
    assert main(command("fit", *runnable(name), name, *after, options=options)) == 0


@pytest.fixture(scope="module")
def counted():
    """Operations of methods by their options and classes, which several suites have alike; each is counted once."""
    return {}


@pytest.mark.parametrize("name", [name for name in config_names() if name.startswith("suite/")])
def test_every_suite_is_planned(workplace, capsys, monkeypatch, name, counted):
    begin = estimates._Known.__init__

    def begin_with_what_is_counted(known):
        begin(known)
        known.counted = counted

    monkeypatch.setattr(estimates._Known, "__init__", begin_with_what_is_counted)
    if "peft" in name:  # the operations of these methods are counted for the papers' suites
        monkeypatch.setattr("vlbench.cli.estimates._operations", lambda *_: None)
    assert main(["run", "--suite", name, "--out", "out", "--dry_run"]) == 0
    out = capsys.readouterr().out
    assert "to do  vlbench test" in out
    if name.endswith("_paper.yaml"):
        assert " GPU hours at " in out
        assert "not counted" not in out
