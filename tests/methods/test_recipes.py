"""Options of the data and the trainer that are not the paper's are deviations, too."""

import warnings
from dataclasses import replace

import pytest
import torch
import yaml
from jsonargparse import ArgumentParser
from lightning import Trainer

import vlbench.clips.datamodules  # noqa: F401 - class names in configurations are found among imported classes
from tests.methods.test_deviations import METHODS
from vlbench.backbones import OpenCLIP, TinyCLIP
from vlbench.cli.configs import find_config
from vlbench.cli.values import read_suite
from vlbench.clips.datamodule import VideoDataModule
from vlbench.clips.options import DATA_SIDES
from vlbench.datasets.specs import Subset
from vlbench.evaluation.facts import TrainingFacts
from vlbench.methods import (
    AIM,
    FROSTER,
    MMA,
    MSTA,
    OST,
    TCCLIP,
    XCLIP,
    ActionCLIP,
    AdaptFormer,
    EfficientPrompt,
    LoRA,
    MoTE,
    OpenVCLIP,
    STAdapter,
    ViFiCLIP,
    VLPrompting,
)
from vlbench.protocols.plans import plan
from vlbench.results.run_settings import TRAINER_SIDES, run_settings, with_views

pytestmark = pytest.mark.quick

KEYS = {f"data.{name}" for name in (*DATA_SIDES, "batch", "clip.views")} | {f"trainer.{name}" for name in TRAINER_SIDES}
K400 = TrainingFacts("kinetics400/words", Subset())
SHOTS = TrainingFacts("ucf101/words", Subset(shots=16))


def built(method):
    with torch.device("meta"):
        return (
            method(OpenCLIP("ViT-B-16-quickgelu"))
            if method in (MoTE, VLPrompting, MMA, EfficientPrompt)
            else method(TinyCLIP(pretrained=False))
        )


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_a_recipe_names_options_that_there_are(method):
    assert method.PAPER_RECIPE.keys() <= KEYS


def merged(one, other):
    both = dict(one)
    for key, value in other.items():
        both[key] = merged(both[key], value) if isinstance(value, dict) and isinstance(both.get(key), dict) else value
    return both


def recipe(*names):
    """Settings of data and trainer, for the training and for the test, and the facts of the training."""
    config = {}
    for name in names:
        config = merged(config, yaml.safe_load(find_config(name).read_text()))
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(VideoDataModule, "data")
    data = parser.instantiate(parser.parse_object({"data": config["data"]})).data
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = Trainer(accelerator="cpu", devices=1, logger=False, **config.get("trainer", {}))
    facts = TrainingFacts(data.dataset.label, data.dataset.train_subset)
    training, test = (run_settings(trainer, data, side) for side in ("training", "test"))
    return training, with_views(test), facts


PAPERS = [
    (MoTE, ("mote_fully_supervised.yaml",), None),
    (MoTE, ("mote_fully_supervised.yaml", "views/4x3.yaml"), None),
    (MoTE, ("mote_fewshot.yaml",), None),
    (MoTE, ("mote_fewshot.yaml", "data/hmdb51.yaml", "overlay/mote_fewshot_hmdb51.yaml"), None),
    (MoTE, ("mote_fewshot.yaml", "data/ssv2.yaml", "overlay/mote_fewshot_ssv2.yaml"), None),
    (MoTE, ("mote_zeroshot.yaml",), K400),
    (MSTA, ("msta_fully_supervised.yaml",), None),
    (MSTA, ("msta_zeroshot.yaml",), None),
    (MSTA, ("msta_fewshot.yaml",), None),
    (MSTA, ("msta_base2novel.yaml",), None),
    (MSTA, ("msta_base2novel.yaml", "overlay/msta_base2novel_logs.yaml"), None),
    (ViFiCLIP, ("vifi_clip_zeroshot.yaml", "views/4x3.yaml"), None),
    (ViFiCLIP, ("vifi_clip_zeroshot.yaml", "data/hmdb51.yaml"), K400),
    (ViFiCLIP, ("vifi_clip_fully_supervised.yaml",), None),
    (ViFiCLIP, ("vifi_clip_fewshot.yaml",), None),
    (ViFiCLIP, ("vifi_clip_base2novel.yaml",), None),
    (VLPrompting, ("vl_prompting_fewshot.yaml",), None),
    (VLPrompting, ("vl_prompting_base2novel.yaml",), None),
    (OpenVCLIP, ("open_vclip_zeroshot.yaml",), None),
    (OpenVCLIP, ("open_vclip_zeroshot.yaml", "data/hmdb51.yaml"), K400),
    (FROSTER, ("froster_zeroshot.yaml",), None),
    (FROSTER, ("froster_base2novel.yaml",), None),
    (XCLIP, ("x_clip_zeroshot.yaml", "views/4x3.yaml"), None),
    (XCLIP, ("x_clip_zeroshot.yaml", "data/hmdb51.yaml"), K400),
    (XCLIP, ("x_clip_fully_supervised.yaml",), None),
    (XCLIP, ("x_clip_fewshot.yaml",), None),
    (XCLIP, ("x_clip_fewshot.yaml", "views/4x3.yaml"), None),
    (TCCLIP, ("tc_clip_zeroshot.yaml", "views/4x3.yaml"), None),
    (TCCLIP, ("tc_clip_zeroshot.yaml", "data/hmdb51.yaml"), K400),
    (TCCLIP, ("tc_clip_fully_supervised.yaml",), None),
    (TCCLIP, ("tc_clip_fewshot.yaml",), None),
    (TCCLIP, ("tc_clip_base2novel.yaml",), None),
    (ActionCLIP, ("action_clip_fully_supervised.yaml",), None),
    (ActionCLIP, ("action_clip_zeroshot.yaml",), K400),
    (OST, ("ost_zeroshot.yaml",), None),
    (OST, ("ost_zeroshot.yaml", "data/hmdb51.yaml"), K400),
    (OST, ("ost_fewshot.yaml",), None),
    (STAdapter, ("st_adapter_fully_supervised.yaml",), None),
    (STAdapter, ("st_adapter_fully_supervised.yaml", "data/ssv2.yaml", "overlay/st_adapter_ssv2.yaml"), None),
    (STAdapter, ("st_adapter_zeroshot.yaml", "data/hmdb51.yaml"), K400),
    (STAdapter, ("st_adapter_base2novel.yaml",), None),
    (AIM, ("aim_fully_supervised.yaml",), None),
    (AIM, ("aim_fully_supervised.yaml", "data/ssv2.yaml", "overlay/aim_ssv2.yaml"), None),
    (AIM, ("aim_zeroshot.yaml", "data/hmdb51.yaml"), K400),
    (AIM, ("aim_base2novel.yaml",), None),
    (AdaptFormer, ("adaptformer_fully_supervised.yaml",), None),
    (LoRA, ("lora_fewshot.yaml",), None),
    (MMA, ("mma_base2novel.yaml",), None),
    (MMA, ("mma_fewshot.yaml",), None),
    (EfficientPrompt, ("efficient_prompt_fully_supervised.yaml",), None),
]


@pytest.mark.parametrize(
    ("method", "names", "trained"), PAPERS, ids=lambda value: "-".join(value) if isinstance(value, tuple) else ""
)
def test_the_papers_configurations_deviate_nowhere(method, names, trained):
    training, test, facts = recipe(*names)
    method = built(method)
    own = method.deviations("test")
    if trained is None:
        assert method.deviations("training", training, facts).keys() == method.deviations("training").keys()
    assert method.deviations("test", test, trained or facts, facts.dataset).keys() == own.keys()


@pytest.mark.parametrize(
    ("suite", "method", "beginning"),
    [
        ("fewshot", LoRA, "few_shot-ssv2-lora-"),  # the number of steps depends on the shots
        ("fewshot", TCCLIP, "few_shot-ssv2-tc_clip-16shot"),  # this dataset is not mirrored
        ("base2novel", TCCLIP, "base_to_novel-ssv2-tc_clip-16shot-seed1"),
    ],
)
def test_a_suite_has_the_recipe_of_its_dataset_and_shots(suite, method, beginning):
    stages = plan(read_suite(find_config(f"{suite}_paper.yaml", below="suite")))
    trainings = [stage for stage in stages if stage.action == "fit" and stage.name.startswith(beginning)]
    assert len(trainings) == (4 if method is LoRA else 1)
    method = built(method)
    for stage in trainings:
        training, _, facts = recipe(*stage.configs)
        facts = replace(facts, subset=stage.train)
        assert method.deviations("training", training, facts) == method.deviations("training"), stage.name


@pytest.mark.parametrize(
    ("method", "name", "value", "facts"),
    [
        (MoTE, "trainer.max_epochs", 30, SHOTS), (MoTE, "trainer.max_epochs", 10, K400), (MoTE, "data.batch", 32, K400),
        (MoTE, "data.frames", 16, K400), (MoTE, "data.loading.epoch_size", None, SHOTS),
        (MoTE, "data.loading.epoch_size", 9537, K400), (MoTE, "trainer.max_steps", 5, K400),
        (MoTE, "data.augmentation.short_side", 1.0, K400), (MSTA, "trainer.max_epochs", 11, SHOTS),
        (MSTA, "trainer.max_epochs", 50, K400), (MSTA, "data.batch", 256, SHOTS), (MSTA, "data.batch", 32, K400),
        (MSTA, "data.augmentation.color_jitter", 0.0, K400), (MSTA, "data.augmentation.gray", 0.0, SHOTS),
        (ViFiCLIP, "data.batch", 64, K400), (ViFiCLIP, "data.batch", 256, SHOTS), (ViFiCLIP, "data.frames", 16, SHOTS),
        (ViFiCLIP, "trainer.max_epochs", 50, K400), (ViFiCLIP, "data.augmentation.flip", False, SHOTS),
        (VLPrompting, "data.batch", 256, SHOTS), (VLPrompting, "trainer.max_epochs", 11, SHOTS),
        (OpenVCLIP, "trainer.gradient_clip_val", None, K400), (OpenVCLIP, "data.clip.sampling", "uniform", K400),
        (FROSTER, "trainer.max_epochs", 12, K400), (FROSTER, "trainer.max_epochs", 22, SHOTS),
        (FROSTER, "data.batch", 32, K400), (FROSTER, "trainer.gradient_clip_val", 0.5, SHOTS),
        (XCLIP, "data.frames", 8, SHOTS), (XCLIP, "trainer.max_epochs", 10, K400), (XCLIP, "data.batch", 512, K400),
        (TCCLIP, "data.frames", 32, K400), (TCCLIP, "trainer.max_epochs", 11, SHOTS),
        (TCCLIP, "data.augmentation.flip", True, TrainingFacts("ssv2/words", Subset(shots=16))),
        (ActionCLIP, "data.batch", 64, K400), (ActionCLIP, "trainer.max_epochs", 30, K400),
        (ActionCLIP, "data.frames", 4, K400), (OST, "data.batch", 256, SHOTS), (OST, "data.frames", 8, K400),
        (OST, "trainer.max_epochs", 50, K400), (OST, "trainer.max_epochs", 10, SHOTS),
        (STAdapter, "data.batch", 256, K400), (STAdapter, "trainer.max_epochs", 50, K400),
        (STAdapter, "data.augmentation.color_jitter", 0.8, SHOTS), (AIM, "data.batch", 192, K400),
        (AIM, "data.augmentation.flip", None, K400), (AIM, "trainer.max_epochs", 50, K400),
        (LoRA, "trainer.max_steps", 4000, SHOTS), (LoRA, "data.batch", 16, SHOTS),
        (MMA, "trainer.max_epochs", 50, SHOTS), (AdaptFormer, "data.batch", 256, K400),
        (EfficientPrompt, "data.frames", 8, K400),
    ],
)  # fmt: skip
def test_another_value_is_a_deviation_of_the_training(method, name, value, facts):
    method = built(method)
    assert method.deviations("training", {name: value}, facts) == {**method.deviations("training"), name: value}


@pytest.mark.parametrize(
    ("method", "name", "value", "facts", "tested"),
    [
        (MoTE, "data.clip.views", "4x3", K400, "hmdb51/words"), (MoTE, "data.clip.views", "3x1", K400, K400.dataset),
        (MoTE, "data.clip.views", "4x3", SHOTS, SHOTS.dataset), (MoTE, "data.frames", 4, None, "hmdb51/words"),
        (MoTE, "data.clip.test_short_side", 1.142857, K400, "hmdb51/words"),
        (MSTA, "data.clip.test_short_side", 1.0, K400, "hmdb51/words"),
        (ViFiCLIP, "data.clip.views", "1x1", K400, K400.dataset),
        (ViFiCLIP, "data.clip.views", "4x3", SHOTS, SHOTS.dataset),
        (VLPrompting, "data.clip.views", "4x3", SHOTS, SHOTS.dataset),
        (OpenVCLIP, "data.clip.views", "1x1", K400, "hmdb51/words"), (FROSTER, "data.frames", 16, K400, "hmdb51/words"),
        (XCLIP, "data.clip.views", "1x1", K400, K400.dataset), (XCLIP, "data.clip.views", "3x1", SHOTS, SHOTS.dataset),
        (TCCLIP, "data.clip.views", "1x1", K400, "hmdb51/words"),
        (TCCLIP, "data.clip.views", "2x1", K400, K400.dataset),
        (ActionCLIP, "data.clip.views", "10x3", K400, K400.dataset),
        (OST, "data.clip.views", "4x3", K400, K400.dataset),
        (STAdapter, "data.clip.views", "1x1", K400, K400.dataset), (AIM, "data.frames", 4, K400, K400.dataset),
    ],
)  # fmt: skip
def test_another_value_is_a_deviation_of_the_test(method, name, value, facts, tested):
    method = built(method)
    assert method.deviations("test", {name: value}, facts, tested) == {**method.deviations("test"), name: value}


def test_epochs_depend_on_the_backbone_and_released_weights_are_those_of_the_paper():
    with torch.device("meta"):
        large = MoTE(OpenCLIP("ViT-L-14-quickgelu"), layers=6, backbone_lr_ratio=0.06)
    assert large.deviations("training", {"trainer.max_epochs": 20}, K400) == {}
    assert large.deviations("training", {"trainer.max_epochs": 30}, K400) == {"trainer.max_epochs": 30}
    released = TrainingFacts("released:MoTE_B16.pt", Subset())
    method = built(MoTE)
    assert "data.clip.views" not in method.deviations("test", {"data.clip.views": "4x3"}, released, "kinetics400/words")
    assert "data.clip.views" not in method.deviations("test", {"data.clip.views": "3x1"}, released, "ucf101/words")


def test_what_a_paper_does_not_state_is_no_deviation():
    msta = built(MSTA)
    run = {"data.clip.views": "7x3", "trainer.precision": "bf16-mixed", "data.loading.epoch_size": 12}
    assert msta.deviations("training", run, K400) == msta.deviations("training")
    base = TrainingFacts("ucf101/words", Subset(classes="base", shots=16))
    assert all("max_epochs" not in str(msta.deviations("training", {"trainer.max_epochs": n}, base)) for n in (11, 50))
