"""The weights that only evaluation uses: a Trainer computes with them, and leaves them however it ends."""

from types import SimpleNamespace

import lightning
import pytest
import torch
from torch.utils.data import DataLoader

from vlbench.backbones import TinyCLIP
from vlbench.clips.batch import Clip, ViewBatch
from vlbench.datasets.specs import ClassList, EvaluationSet, Subset
from vlbench.methods import MoTE, ViFiCLIP

NAMES = ("red circle", "blue square", "green triangle")
CLASSES = ClassList(NAMES, (0, 1, 2), NAMES)
SETS = [EvaluationSet(Subset(), CLASSES, {f"v{k}": k for k in range(3)}, "made up")]
DATASET = SimpleNamespace(train_classes=CLASSES, sets=lambda part: SETS)


def tuned():
    """MoTE whose image tower is no longer the original one; half of the original is blended in for evaluation."""
    torch.manual_seed(0)
    method = MoTE(TinyCLIP(), layers=1, experts=2, original_share=0.5, modulate=False)
    with torch.no_grad():
        for parameter in [*method.backbone.visual.parameters(), method.backbone.logit_scale]:
            parameter.add_(torch.randn_like(parameter) * 0.05)
    method.use(DATASET)
    return method


def loader():
    generator = torch.Generator().manual_seed(0)
    clips = [
        Clip(torch.randint(0, 256, (1, 2, 3, 32, 32), dtype=torch.uint8, generator=generator), k, f"v{k}")
        for k in range(3)
    ]
    return DataLoader(clips, batch_size=3, collate_fn=ViewBatch.collate)


def trainer():
    return lightning.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip


def state(method):
    return {key: value.clone() for key, value in method.state_dict().items()}


def assert_as_before(method, before, trained):
    assert all(torch.equal(value, before[key]) for key, value in method.state_dict().items())
    assert method.trained_keys() == trained


@pytest.mark.parametrize("action", ["validate", "test", "predict"])
def test_an_evaluation_uses_the_blend_and_leaves_the_tuned_weights(action):
    method = tuned()
    before, trained, clips = state(method), method.trained_keys(), torch.randn(2, 3, 3, 32, 32)
    with torch.no_grad():
        plain = method.encode_frames(clips)
    seen = []
    fuse = method.fuse_views
    method.fuse_views = lambda cosines: (seen.append(cosines), fuse(cosines))[1]
    getattr(trainer(), action)(method, loader())
    with torch.no_grad():
        assert torch.equal(method.encode_frames(clips), plain)
        video = method.encode_video(method.backbone.normalize(next(next(iter(loader())).views())[0]))
        tuned_cosines = video @ method.encode_text(NAMES).T
    assert not torch.allclose(seen[0][:, 0], tuned_cosines, atol=1e-4), "evaluation did not blend"
    assert_as_before(method, before, trained)


@pytest.mark.parametrize("action", ["validate", "test", "predict"])
def test_an_evaluation_that_raises_leaves_them_too(action):
    method = tuned()
    before, trained = state(method), method.trained_keys()

    def broken(cosines):
        raise RuntimeError("broken")

    method.fuse_views = broken
    with pytest.raises(RuntimeError, match="broken"):
        getattr(trainer(), action)(method, loader())
    assert_as_before(method, before, trained)


def test_the_context_blends_by_the_share_and_restores_on_an_error():
    method = tuned()
    before, trained, key = state(method), method.trained_keys(), "backbone.clip.visual.conv1.weight"
    half = (before[key] + TinyCLIP().visual.conv1.weight) / 2

    def evaluate():
        with method.evaluation_weights():
            assert torch.allclose(method.backbone.visual.conv1.weight, half, atol=1e-6)
            raise KeyError

    with pytest.raises(KeyError):
        evaluate()
    assert_as_before(method, before, trained)


@pytest.mark.parametrize("towers", ["both", "image", "text"])
def test_a_share_of_the_original_weights_is_one_of_what_is_fine_tuned(towers):
    """A frozen tower may be known by the digest of its weights: features of it are kept on the disk under that."""
    torch.manual_seed(0)
    method, original = ViFiCLIP(TinyCLIP(), tuned=towers, original_share=0.25), TinyCLIP().state_dict()
    trained = {name for name, parameter in method.backbone.named_parameters() if parameter.requires_grad}
    with torch.no_grad():
        for parameter in method.backbone.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    before = state(method.backbone)
    with method.evaluation_weights():
        for name, value in method.backbone.state_dict().items():
            expected = torch.lerp(before[name], original[name], 0.25) if name in trained else before[name]
            assert torch.allclose(value, expected, atol=1e-6), name
    assert all(torch.equal(value, before[name]) for name, value in method.backbone.state_dict().items())
    assert {name for name, parameter in method.backbone.named_parameters() if parameter.requires_grad} == trained


def test_the_original_weights_are_those_before_another_training(tmp_path):
    """WiSE-FT goes back to CLIP, wherever a fine-tuning started."""
    first = ViFiCLIP(TinyCLIP())
    with torch.no_grad():
        first.backbone.visual.proj.add_(1)
    checkpoint = {"state_dict": {key: first.state_dict()[key] for key in first.trained_keys()}}
    first.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, tmp_path / "first.ckpt")
    method = ViFiCLIP(TinyCLIP(), original_share=1.0, pretrained_from=str(tmp_path / "first.ckpt"))
    assert torch.equal(method.backbone.visual.proj, first.backbone.visual.proj)
    with method.evaluation_weights():
        assert torch.equal(method.backbone.visual.proj, TinyCLIP().visual.proj)
