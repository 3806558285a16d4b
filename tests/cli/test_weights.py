"""`vlbench weights` on files of our own; the released format is in tests/reference."""

import pickle
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from vlbench.backbones import TinyCLIP
from vlbench.cli.main import main
from vlbench.cli.weights import as_checkpoint
from vlbench.errors import CheckpointError
from vlbench.methods import MoTE
from vlbench.methods.mote.released import merged_state
from vlbench.methods.released import IMPORTERS


@pytest.fixture(autouse=True)
def arguments(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["vlbench"])


def released(method, classes=6):
    """The method's weights under the released names."""
    head = dict(method.head.state_dict())
    head["spe_cls_feature"] = torch.nn.functional.normalize(torch.randn(classes, 128), dim=-1)
    tower = {f"visual.{key}": value for key, value in method.backbone.visual.state_dict().items()}
    tower["logit_scale"] = method.backbone.logit_scale.detach()
    return {"epoch": 29, "model_state_dict": tower, "fusion_model_state_dict": head}


def test_import_test_export_test(workplace, capsys):
    torch.manual_seed(0)
    method = MoTE(TinyCLIP(), layers=2, experts=3)
    with torch.no_grad():
        for parameter in method.head.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    torch.save(released(method), "MoTE.pt")
    assert main(["weights", "import", "mote", "MoTE.pt", "--backbone", "tiny", "--out", "mote.ckpt"]) == 0
    assert "--ckpt_path mote.ckpt --model.layers=2 --model.experts=3" in capsys.readouterr().out
    assert main(["weights", "export", "mote.ckpt", "--out", "merged.safetensors"]) == 0
    configs = ["mote_fewshot.yaml", "data/synthetic.yaml", "backbone/tiny.yaml", "trainer/cpu.yaml"]
    for name, weights, experts in (("full", "mote.ckpt", 3), ("merged", "merged.safetensors", 0)):
        options = [f"--ckpt_path={weights}", "--model.layers=2", f"--model.experts={experts}", f"--record.name={name}"]
        command = ["test", *(part for c in configs for part in ("--config", c)), *options, "--data.num_workers=0"]
        assert main(command) == 0
    full, merged = (load_file(f"results/predictions/{name}.safetensors")["scores"] for name in ("full", "merged"))
    assert torch.allclose(full, merged, atol=1e-6)
    assert full.std() > 0


def test_what_merging_does_not_read_is_refused(workplace, capsys):
    method = MoTE(TinyCLIP(), layers=1, experts=2)
    method.train_class_features = torch.zeros(2, 128)
    content = {"state_dict": dict(method.state_dict())}
    method.on_save_checkpoint(content)
    torch.save(content, "mote.ckpt")
    assert main(["weights", "export", "mote.ckpt", "--out", "merged.safetensors", "--config", "mote_fewshot.yaml"]) == 2
    assert (
        "config is mote_fewshot.yaml, which nothing reads where the weights of mote are merged"
        in capsys.readouterr().err
    )
    assert main(["weights", "export", "mote.ckpt", "--out", "merged.ckpt"]) == 2
    assert (
        "out is merged.ckpt; allowed with the format safetensors: a name that ends in .safe" in capsys.readouterr().err
    )
    assert [path.name for path in Path().iterdir()] == ["mote.ckpt"]


def test_merging_leaves_the_head_as_it_was():
    torch.manual_seed(0)
    method = MoTE(TinyCLIP(), layers=2, experts=3).double()
    plain = MoTE(TinyCLIP(), layers=2, experts=0).double()
    with torch.no_grad():
        for parameter in method.head.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    keys = method.trained_keys()
    state = merged_state({key: value for key, value in method.state_dict().items() if key in keys})
    assert set(state) == plain.trained_keys()
    plain.load_state_dict({**plain.state_dict(), **state})
    x = torch.randn(2, 4, 128, dtype=torch.float64)
    routes = method.head.evaluation_routes()
    assert torch.allclose(plain.head(x, plain.head.evaluation_routes()), method.head(x, routes), atol=1e-10)


class Harmful:
    """What a pickle can carry and `weights_only` refuses."""

    def __reduce__(self):
        return (print, ("executed",))


def test_only_tensors_are_read(tmp_path, capsys):
    path = tmp_path / "harmful.pt"
    path.write_bytes(pickle.dumps({"model_state_dict": Harmful()}))
    assert (
        main(["weights", "import", "mote", str(path), "--backbone", "tiny", "--out", str(tmp_path / "out.ckpt")]) == 2
    )
    result = capsys.readouterr()
    assert "cannot be read as weights" in result.err
    assert "executed" not in result.out
    assert not (tmp_path / "out.ckpt").exists()


def test_a_text_is_no_released_file(tmp_path, capsys):
    path = tmp_path / "list.txt"
    path.write_text("a\nb\n")
    assert main(["weights", "import", "mote", str(path), "--backbone", "tiny", "--out", "out.ckpt"]) == 2
    assert "list.txt cannot be read as weights: pop from empty list; download it again" in capsys.readouterr().err


def test_a_method_without_an_importer_is_named(tmp_path, capsys):
    path = tmp_path / "file.pt"
    torch.save({}, path)
    assert (
        main(["weights", "import", "msta", str(path), "--backbone", "tiny", "--out", str(tmp_path / "out.ckpt")]) == 2
    )
    assert f"there is no importer of 'msta'; allowed: {', '.join(IMPORTERS)}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("method", "content", "message"),
    [
        ("vifi_clip", {"epoch": 1}, "model is missing"),
        ("vifi_clip", {"model": {"module.head.weight": torch.zeros(1)}}, "holds head.weight"),
        ("vifi_clip", {"model": {"module.prompt_learner.ctx": torch.zeros(2, 128)}}, "import vl_prompting"),
        (
            "vifi_clip",
            {"model": {"module.image_encoder.proj": torch.zeros(2, 2)}},
            "missing: backbone.clip.logit_scale",
        ),
        ("action_clip", {"model_state_dict": {}}, "fusion_model_state_dict is missing"),
        (
            "action_clip",
            {"model_state_dict": {}, "fusion_model_state_dict": {"module.other.weight": torch.zeros(1)}},
            "holds other.weight, which is no head of ActionCLIP",
        ),
        ("ost", {"epoch": 1}, "model is missing"),
        ("ost", {"model": {"module.prompt_learner.ctx": torch.zeros(1)}}, "holds prompt_learner.ctx, which no OST has"),
        ("vl_prompting", {"model": {"module.logit_scale": torch.zeros(())}}, "import it as vifi_clip"),
        ("open_vclip", {"model": {}}, "model_state is missing"),
        ("open_vclip", {"model_state": {"head.weight": torch.zeros(1)}}, "holds head.weight, which neither"),
        ("open_vclip", {"model_state": {"model.logit_scale": torch.zeros(())}}, "missing: backbone.clip.visual."),
        ("open_vclip", {"model_state": {"model.head": torch.zeros(1)}}, "unexpected: backbone.clip.head"),
        ("open_vclip", {"model_state": {"projector_v.0.weight": torch.zeros(1)}}, "import froster"),
        ("open_vclip", {"model_state": {"model.ln_final.bias": torch.ones(128)}}, "another text tower than"),
        ("froster", {"model_state": {"model.logit_scale": torch.zeros(())}}, "import open_vclip"),
        ("x_clip", {"model": {"logit_scale": torch.zeros(())}}, "mit.positional_embedding is missing"),
        ("x_clip", {"model": {"mit.positional_embedding": torch.zeros(1, 4, 128)}}, "missing: backbone.clip.visual"),
        ("tc_clip", {"model": {"module.logit_scale": torch.zeros(())}}, "prompt_learner.ctx is missing"),
        ("tc_clip", {"model": {"module.prompt_learner.ctx": torch.zeros(4, 64)}}, "missing: backbone.clip."),
        ("st_adapter", {"model": {"fc.bias": torch.zeros(2)}}, "model with fc.weight is missing"),
        ("st_adapter", {"model": {"fc.weight": torch.zeros(2, 128)}}, "holds no adapter_pre_mlp.conv.weight"),
        ("aim", {"state_dict": {"cls_head.fc_cls.weight": torch.zeros(2, 128)}}, "temporal_embedding"),
    ],
)
def test_what_a_released_file_lacks_is_named(tmp_path, capsys, method, content, message):
    path = tmp_path / "file.pth"
    torch.save(content, path)
    assert (
        main(["weights", "import", method, str(path), "--backbone", "tiny", "--out", str(tmp_path / "out.ckpt")]) == 2
    )
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out.ckpt").exists()


def test_wrong_files_are_one_clear_message(tmp_path):
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="not written by `vlbench weights export`"):
        as_checkpoint(tmp_path / "other.safetensors", tmp_path)
    (tmp_path / "broken.safetensors").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="cannot be read as safetensors"):
        as_checkpoint(tmp_path / "broken.safetensors", tmp_path)
    with pytest.raises(CheckpointError, match="cannot be read as safetensors"):
        as_checkpoint(Path("nowhere.safetensors"), tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("damaged.ckpt", b"x", "damaged.ckpt cannot be read as a checkpoint"),
        ("merged.safetensors", b"x", "merged.safetensors is safetensors, as exports are"),
    ],
)
def test_only_a_checkpoint_is_exported(tmp_path, capsys, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    assert main(["weights", "export", str(path), "--out", str(tmp_path / "out.safetensors")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out.safetensors").exists()
