"""A training that starts from the backbone of another one."""

from dataclasses import replace

import pytest
import torch

from vlbench.backbones import TinyCLIP
from vlbench.errors import CheckpointError
from vlbench.methods import MSTA, MoTE, ViFiCLIP, VLPrompting

pytestmark = pytest.mark.quick

DEPTHS = {"image_depth": 3, "text_depth": 3}
TEXTS = ["a red circle", "a blue square"]


def saved(method, path, change=0.01):
    """A checkpoint of a method whose trained weights were moved."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in method.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * change)
    checkpoint = {"state_dict": method.state_dict()}
    method.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, path)
    return method


@pytest.fixture
def first(tmp_path):
    return saved(ViFiCLIP(TinyCLIP()), tmp_path / "first.ckpt"), tmp_path / "first.ckpt"


def test_the_backbone_has_the_weights_and_its_identity_says_whose(first):
    trained, path = first
    original = TinyCLIP()
    method = ViFiCLIP(TinyCLIP(), pretrained_from=str(path))
    own, theirs = method.backbone.state_dict(), trained.backbone.state_dict()
    assert all(torch.equal(own[key], theirs[key]) for key in own)
    assert method.backbone.identity.digest != original.identity.digest
    assert method.backbone.identity.pretrained.startswith("shipped+vifi_clip@")
    for side in ("training", "test"):
        assert method.settings(side)["backbone.weights"] != ViFiCLIP(original).settings(side)["backbone.weights"]
    assert method.deviations() == {}


def test_without_adapted_blocks_the_text_tower_is_the_first_trainings(first):
    trained, path = first
    method = VLPrompting(TinyCLIP(), **DEPTHS, pretrained_from=str(path)).eval()
    trained.eval()
    with torch.no_grad():
        own = method.backbone.encode_texts(TEXTS, adapted=False)
        assert torch.allclose(own, trained.backbone.encode_texts(TEXTS), atol=1e-6)
        assert not torch.allclose(method.encode_text(TEXTS), trained.encode_text(TEXTS), atol=1e-3)


def test_the_second_checkpoint_is_of_its_start_and_no_other(first, tmp_path):
    _, path = first
    second = saved(VLPrompting(TinyCLIP(), **DEPTHS, pretrained_from=str(path)), tmp_path / "second.ckpt")
    checkpoint = torch.load(tmp_path / "second.ckpt", weights_only=True)
    assert checkpoint["state_dict"].keys() == {"image_prompts.tokens", "text_prompts.tokens"}
    again = VLPrompting(TinyCLIP(), **DEPTHS, pretrained_from=str(path))
    again.on_load_checkpoint(dict(checkpoint))
    assert again.backbone.identity == second.backbone.identity
    with pytest.raises(CheckpointError, match="was trained on"):
        VLPrompting(TinyCLIP(), **DEPTHS).on_load_checkpoint(dict(checkpoint))
    other = tmp_path / "other.ckpt"
    saved(ViFiCLIP(TinyCLIP()), other, change=0.02)
    with pytest.raises(CheckpointError, match="was trained on"):
        VLPrompting(TinyCLIP(), **DEPTHS, pretrained_from=str(other)).on_load_checkpoint(dict(checkpoint))


def test_another_methods_image_tower_is_a_start_too(tmp_path):
    trained = saved(MoTE(TinyCLIP(), layers=1), tmp_path / "mote.ckpt")
    method = VLPrompting(TinyCLIP(), **DEPTHS, pretrained_from=str(tmp_path / "mote.ckpt"))
    assert torch.equal(method.backbone.visual.proj, trained.backbone.visual.proj)


def test_what_is_no_start_is_refused(tmp_path):
    def start(name, backbone=None):
        return ViFiCLIP(backbone or TinyCLIP(), pretrained_from=str(tmp_path / name))

    with pytest.raises(CheckpointError, match=r"pretrained_from is .*nothing\.ckpt, which is not a file"):
        start("nothing.ckpt")
    (tmp_path / "damaged.ckpt").write_bytes(b"PK damaged")
    with pytest.raises(CheckpointError, match="cannot be read as a checkpoint"):
        start("damaged.ckpt")
    torch.save({"state_dict": {}}, tmp_path / "foreign.ckpt")
    with pytest.raises(CheckpointError, match="not written by vlbench"):
        start("foreign.ckpt")
    saved(MSTA(TinyCLIP(), blocks=2, bottleneck=64), tmp_path / "adapters.ckpt")
    with pytest.raises(CheckpointError, match="has trained nothing of the backbone"):
        start("adapters.ckpt")
    saved(ViFiCLIP(TinyCLIP()), tmp_path / "fine.ckpt")
    other = TinyCLIP()
    other.identity = replace(other.identity, digest="another")
    with pytest.raises(CheckpointError, match="give the same backbone"):
        start("fine.ckpt", other)


def test_sizes_are_known_without_the_file():
    with torch.device("meta"):
        ViFiCLIP(TinyCLIP(pretrained=False), pretrained_from="not-there-yet.ckpt")
