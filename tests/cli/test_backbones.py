"""`vlbench backbones`, and a backbone without blocks through the whole command line."""

import re
import sys
from pathlib import Path

import open_clip
import pytest
import timm
import torch
import yaml

from tests.backbones.models import HubTokenizer, narrow, narrow_options, reduced
from vlbench.backbones import openclip
from vlbench.cli.main import main
from vlbench.results.record import Record


def printed(capsys, *words):
    assert main(["backbones", *words]) == 0
    return capsys.readouterr().out


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")


def test_the_list_names_every_architecture_and_builds_none(capsys, monkeypatch):
    def built(*arguments, **options):
        raise AssertionError("a model was built")

    monkeypatch.setattr(openclip, "create_clip", built)
    monkeypatch.setenv("COLUMNS", "1000")
    out = printed(capsys, "list")
    named = set(re.findall(r"^│ (\S+) ", out, flags=re.MULTILINE))
    assert named == set(open_clip.list_models())
    (siglip,) = re.findall(r"^│ ViT-B-16-SigLIP2 .*$", out, flags=re.MULTILINE)
    name, size, context, methods, tags = (cell.strip() for cell in siglip.strip("│").split("│"))
    assert (name, size, context, tags) == ("ViT-B-16-SigLIP2", "224", "64", "webli")
    # SigLIP 2 has no class token, behind which prompts are put; a ResNet has no blocks.
    assert {"msta", "mote", "zero_shot", "vifi_clip"} <= {*methods.split(", ")}
    assert "vl_prompting" not in methods
    (resnet,) = re.findall(r"^│ RN50 .*$", out, flags=re.MULTILINE)
    methods = {*resnet.strip("│").split("│")[3].strip().split(", ")}
    assert {"mote", "zero_shot"} <= methods
    assert not {"msta", "vl_prompting", "vifi_clip"} & methods
    assert "ViCLIP-L-14" in out


def test_a_list_with_parameters_and_multiply_adds(capsys):
    out = printed(capsys, "list", "--match", "vit-b-32-quick", "--flops")
    (row,) = re.findall(r"^│ ViT-B-32-quickgelu .*$", out, flags=re.MULTILINE)
    assert row.split("│")[4].strip() == "151,277,313"
    assert 3.5 < float(row.split("│")[5]) < 4.5  # 4.4 in CLIP's paper, which computes every token of the last block


def test_a_part_of_no_name_is_refused(capsys):
    assert main(["backbones", "list", "--match", "resnext"]) == 2
    assert "match is 'resnext'" in capsys.readouterr().err


def test_a_backbone_is_shown_with_its_blocks(capsys):
    out = printed(capsys, "show", "ViT-B-32-quickgelu")
    assert "image tower   12 blocks of width 768" in out
    assert "text tower    12 blocks of width 512" in out
    assert "151,277,313" in out
    assert "msta: yes" in out
    assert re.search(r"pretrained    openai, .*metaclip_400m.*mean: \[0\.48", out)


def test_a_backbone_without_blocks_says_why(capsys):
    out = printed(capsys, "show", "RN50")
    assert "towers        no blocks that methods could change: its image tower is a ResNet" in out
    assert (
        "msta: MSTA's adapters run beside blocks, RN50 has none that can be reached: its image tower is a ResNet;"
        in out
    )


def test_a_backbone_whose_texts_need_files_names_them(capsys):
    out = printed(capsys, "show", "ViT-B-32-SigLIP2-256")
    assert "image tower   12 blocks of width 768" in out
    assert "msta: yes" in out
    assert "files of timm/ViT-B-32-SigLIP2-256 of the Hugging Face hub" in out
    assert "resize_mode: squash" in out


def test_an_unknown_backbone_gets_the_nearest_names(capsys):
    assert main(["backbones", "show", "ViT-B16"]) == 2
    assert "did you mean ViT-B-16 or" in capsys.readouterr().err
    assert main(["backbones", "show", "internvideo2-clip-b14"]) == 2
    assert "did you mean InternVideo2-CLIP-B-14?" in capsys.readouterr().err


def test_zero_shot_runs_on_a_model_without_blocks_and_the_record_says_how_frames_become_its_pixels(
    register, workplace, monkeypatch
):
    monkeypatch.setattr(sys, "argv", ["vlbench"])
    config = reduced("ViT-B-32")
    config["vision_cfg"].update(block_type="custom", image_size=64)
    register("reduced-custom", config)
    records = []
    for name, resize_mode, image_size in (("one", "shortest", None), ("two", "squash", 96)):
        preprocess = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bilinear", "resize_mode": resize_mode}
        options = {"model": "reduced-custom", "pretrained": None, "preprocess": preprocess, "image_size": image_size}
        backbone = {"class_path": "OpenCLIP", "init_args": options}
        Path("own.yaml").write_text(yaml.safe_dump({"model": {"init_args": {"backbone": backbone}}}))
        configs = ["zero_shot.yaml", "data/synthetic.yaml", "own.yaml", "trainer/cpu.yaml"]
        words = [word for config in configs for word in ("--config", config)]
        options = ["--data.num_workers=0", f"--record.name={name}"]
        assert main(["test", *words, *options]) == 0
        records.append(Record.read(next(Path("results").rglob(f"{name}.json"))).details)
    one, two = (details.settings for details in records)
    assert one["backbone.mean"] == [0.5, 0.5, 0.5]
    assert one["data.interpolation"] == two["data.interpolation"] == "bilinear"
    assert "data.resize_mode" not in one
    assert two["data.resize_mode"] == "squash"
    assert (one["data.image_size"], two["data.image_size"], two["backbone.image_size"]) == (64, 96, 96)
    assert [details.deviations.get("backbone.image_size") for details in records] == [None, 96]


@pytest.mark.parametrize(
    ("model", "kind", "expected"),
    [
        ("ViCLIP-B-16", "ViCLIP", ["a clip of 8 frames", "context 32 tokens", "image tower 12 blocks of width 768"]),
        (
            "InternVideo2-CLIP-S-14", "InternVideo2",
            ["86,867,201, of the image tower 23,439,104", "a clip of 8 frames", "context 77 tokens", "msta: yes",
             "vl_prompting: VL prompting appends tokens behind the class token", "resize_mode: squash"],
        ),
        (
            "x3d_m", "VideoNetwork",
            ["no blocks that methods could change", "a clip of 16 frames", "vision_only: yes",
             "mean: [0.45, 0.45, 0.45]",
             "zero_shot: zero_shot knows classes by their names, x3d_m has no text tower"],
        ),
    ],
)  # fmt: skip
def test_backbones_of_released_files_are_listed_and_shown(capsys, model, kind, expected):
    assert f"--model.backbone {kind} --model.backbone.model {model}: released file" in printed(capsys, "list")
    out = " ".join(printed(capsys, "show", model).split())
    for line in expected:
        assert line in out


def test_msta_trains_on_an_architecture_that_the_command_line_names(register, workplace, monkeypatch):
    """SigLIP 2: no class token, attention pooling, texts that are not causal and a tokenizer of the hub."""
    monkeypatch.setattr(sys, "argv", ["vlbench"])
    monkeypatch.setattr("open_clip.tokenizer.HFTokenizer", HubTokenizer)
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, **options: create(name, **options, **narrow_options(name)))
    register("narrow-siglip2", narrow("ViT-B-16-SigLIP2"))
    random = {"class_path": "OpenCLIP", "init_args": {"model": "ViT-B-16", "pretrained": None}}
    Path("random.yaml").write_text(yaml.safe_dump({"model": {"init_args": {"backbone": random}}}))
    configs = ["msta_fewshot.yaml", "data/synthetic.yaml", "random.yaml", "trainer/cpu.yaml"]
    words = [word for config in configs for word in ("--config", config)]
    options = ["--model.backbone.model=narrow-siglip2", "--model.blocks=2", "--model.bottleneck=32"]
    options += ["--data.num_workers=0", "--data.train.shots=1", "--data.batch_size=4"]
    options += ["--data.loading.effective_batch=4", "--trainer.max_steps=2", "--trainer.limit_val_batches=0"]
    options += ["--trainer.logger=false", "--trainer.enable_progress_bar=false", "--checkpoint.dirpath=trained"]
    assert main(["fit", *words, *options]) == 0
    content = torch.load("trained/last.ckpt", weights_only=True)
    assert content["global_step"] == 2
    assert all(key.startswith("adapters.") for key in content["state_dict"])
