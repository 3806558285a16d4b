"""The released checkpoint format through the command line."""

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.reference.golden import close, golden_cases
from vlbench.backbones import OpenAICLIP
from vlbench.cli.main import main
from vlbench.methods import MoTE

CASES = golden_cases("mote_full", "out.view_similarity")


@pytest.fixture(autouse=True)
def arguments(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["vlbench"])


def files(golden):
    return str(golden.file("mote_checkpoint")), str(golden.file("clip_pretrained"))


@pytest.mark.parametrize("golden", CASES)
def test_an_imported_checkpoint_gives_the_released_similarities(golden, tmp_path):
    released, clip = files(golden)
    out = tmp_path / "mote.ckpt"
    assert main(["weights", "import", "mote", released, "--backbone", clip, "--out", str(out)]) == 0
    checkpoint = torch.load(out, weights_only=True)
    model = golden.facts["model"]
    method = MoTE(OpenAICLIP(clip), layers=model["temporal_layer"], experts=model["num_experts"]).eval()
    method.on_load_checkpoint(checkpoint)
    method.load_state_dict(checkpoint["state_dict"], strict=True)
    classes = method.encode_classes(golden.facts["class_names"])
    with torch.no_grad(), method.evaluation_weights():
        views = [method.backbone.normalize(view) for view in golden["in.video_u8"].unbind(1)]
        cosines = torch.stack([method.score(method.encode_video(view, classes), classes) for view in views], dim=1)
    close(cosines, golden["out.view_similarity"], 1e-5)


@pytest.mark.parametrize("golden", CASES[:1])
def test_imported_and_exported_weights_run_and_agree(golden, workplace):
    released, clip = files(golden)
    model = golden.facts["model"]
    assert main(["weights", "import", "mote", released, "--backbone", clip, "--out", "mote.ckpt"]) == 0
    assert main(["weights", "export", "mote.ckpt", "--out", "merged.safetensors"]) == 0
    backbone = {"class_path": "OpenAICLIP", "init_args": {"weights": clip}}
    for name, weights, experts in (("full", "mote.ckpt", model["num_experts"]), ("merged", "merged.safetensors", 0)):
        sys.argv[1:] = []
        options = [f"--model.experts={experts}", f"--model.layers={model['temporal_layer']}", f"--record.name={name}"]
        options += [f"--model.init_args.backbone={backbone}", "--ckpt_path", weights, "--data.num_workers=0"]
        configs = ["mote_fewshot.yaml", "data/synthetic.yaml", "trainer/cpu.yaml"]
        assert main(["test", *(p for c in configs for p in ("--config", c)), *options]) == 0
    full, merged = (load_file(f"results/predictions/{name}.safetensors")["scores"] for name in ("full", "merged"))
    close(merged, full, 1e-6)
    assert {path.stem for path in Path("results/records").iterdir()} == {"full", "merged"}


@pytest.mark.parametrize("golden", CASES[:1])
def test_an_imported_checkpoint_runs_in_a_suite(golden, workplace):
    released, clip = files(golden)
    model = golden.facts["model"]
    assert main(["weights", "import", "mote", released, "--backbone", clip, "--out", "mote.ckpt"]) == 0
    backbone = {"class_path": "OpenAICLIP", "init_args": {"weights": clip}}
    sizes = {"layers": model["temporal_layer"], "experts": model["num_experts"], "backbone": backbone}
    Path("sizes.yaml").write_text(
        json.dumps({"model": {"init_args": sizes}, "data": {"init_args": {"num_workers": 0}}})
    )
    method = {"configs": ["mote_fewshot.yaml", "sizes.yaml"], "trains": False, "checkpoint": "mote.ckpt"}
    protocol = {"protocol": "few_shot@1", "datasets": ["data/synthetic.yaml"]}
    suite = {"methods": {"released": method}, "protocols": [protocol], "overlays": ["trainer/cpu.yaml"]}
    Path("suite.yaml").write_text(json.dumps(suite))
    assert main(["run", "--suite", "suite.yaml", "--out", "out"]) == 0
    record = json.loads(Path("out/records/few_shot-synthetic-released-test.json").read_text())
    assert record["identity"]["method"] == "mote"
    assert record["identity"]["weights"] is not None


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda c: c["fusion_model_state_dict"].pop("frame_position_embeddings.weight"),
            "missing: head.frame_position",
        ),
        (
            lambda c: c["model_state_dict"].update({"visual.extra": torch.zeros(2)}),
            "unexpected: backbone.clip.visual.extra",
        ),
        (
            lambda c: c["model_state_dict"].update({"visual.proj": torch.zeros(2, 2)}),
            r"misshapen: .*visual.proj is \(2, 2\)",
        ),
        (lambda c: c.pop("fusion_model_state_dict"), "fusion_model_state_dict is missing"),
    ],
    ids=["missing", "extra", "misshapen", "part"],
)
@pytest.mark.parametrize("golden", CASES[:1])
def test_what_does_not_fit_is_named_and_nothing_is_written(golden, tmp_path, capsys, damage, message):
    import re

    released, clip = files(golden)
    content = torch.load(released, weights_only=True)
    damage(content)
    torch.save(content, tmp_path / "damaged.pt")
    out = tmp_path / "out" / "mote.ckpt"
    assert main(["weights", "import", "mote", str(tmp_path / "damaged.pt"), "--backbone", clip, "--out", str(out)]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not out.exists()
    assert not out.parent.exists() or not list(out.parent.iterdir())
