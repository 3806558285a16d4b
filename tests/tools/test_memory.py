"""The estimate of a training step's memory against what autograd really keeps."""

import pytest
import torch
import torch.nn.functional as F
from torch.torch_version import TorchVersion

from vlbench.backbones import OpenCLIP, TinyCLIP
from vlbench.cli.main import main
from vlbench.clips.batch import ClipBatch
from vlbench.methods import MSTA, MoTE
from vlbench.tools.memory import SavedTensors, estimate, prepare

pytestmark = pytest.mark.usefixtures("pretended_gpu")

CLASSES, FRAMES, CLIPS = 5, 2, 2


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("make", [MoTE, MSTA])
def test_the_estimate_is_what_the_cpu_keeps(make, precision, monkeypatch):
    """Within 1 %, on ViT-B/16, with LayerNorm in float32 under autocast as a GPU has it."""
    layer_norm = F.layer_norm
    monkeypatch.setattr(
        F,
        "layer_norm",
        lambda x, *rest, **named: layer_norm(
            x.float() if torch.is_autocast_enabled(x.device.type) else x, *rest, **named
        ),
    )
    with torch.device("meta"):
        unreal = make(OpenCLIP("ViT-B-16-quickgelu"))
    found = estimate(unreal, frames=FRAMES, batch_size=CLIPS, precision=precision, classes=CLASSES)
    method = make(OpenCLIP("ViT-B-16-quickgelu"))
    assert found.weights == sum(t.numel() * t.element_size() for t in (*method.parameters(), *method.buffers())) + (
        CLASSES * 512 * 4 if make is MoTE else 0  # the training classes' features, which a fit adds
    )
    trained = sum(p.numel() for p in method.parameters() if p.requires_grad)
    assert (found.gradients, found.optimizer) == (4 * trained, 8 * trained)
    prepare(method, CLASSES)
    video, labels = torch.zeros(CLIPS, FRAMES, 3, 224, 224, dtype=torch.uint8), torch.zeros(CLIPS, dtype=torch.int64)
    batch = ClipBatch(video, labels, ["a", "b"], {})
    saved = SavedTensors([*method.parameters(), *method.buffers()])
    with saved, torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16-mixed"):
        method.training_loss(batch)
    assert found.activations == pytest.approx(saved.bytes, rel=0.01)


def test_activations_grow_with_the_batch_and_weights_do_not():
    def of(batch_size):
        with torch.device("meta"):
            method = MoTE(TinyCLIP(pretrained=False))
        return estimate(method, frames=8, batch_size=batch_size, classes=10)

    two, four = of(2), of(4)
    assert two.weights == four.weights
    assert two.activations < four.activations <= 2 * two.activations
    assert two.temporaries > 0
    parts = two.weights + two.gradients + two.optimizer + two.activations + two.temporaries
    assert two.total == parts


def test_the_command_prints_both_precisions(capsys):
    options = ["--memory", "--batch_size=2", "--frames=4", "--classes=5"]
    assert main(["methods", "show", "mote_fewshot.yaml", "backbone/tiny.yaml", *options]) == 0
    out = capsys.readouterr().out
    assert "32-true" in out
    assert "bf16-mixed" in out
    assert "2 clips of 4 frames, 5 classes" in out


def test_a_method_that_trains_nothing_is_refused(capsys):
    assert main(["methods", "show", "zero_shot.yaml", "backbone/tiny.yaml", "--memory"]) == 2
    assert "zero_shot trains nothing" in capsys.readouterr().err


def test_a_torch_that_would_end_the_process_is_refused(capsys, monkeypatch):
    monkeypatch.setattr(torch, "__version__", TorchVersion("2.6.0"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["methods", "show", "mote_fewshot.yaml", "backbone/tiny.yaml", "--memory"]) == 2
    assert "allowed: torch 2.10 or newer, or a machine with a GPU" in capsys.readouterr().err
