"""Frames of another size than the weights are for: interpolated positions where asked, and a sentence otherwise."""

from dataclasses import replace

import open_clip
import pytest
import timm
import torch
import torch.nn.functional as F

from tests.backbones.models import narrow, narrow_options, randomize
from vlbench.backbones import InternVideo2, OpenCLIP, ViCLIP
from vlbench.backbones.internvideo2_parts import InternVideo2Sizes
from vlbench.backbones.preprocess import CLIP
from vlbench.backbones.viclip_parts import ViCLIPSizes
from vlbench.errors import CheckpointError, ConfigError
from vlbench.methods import MSTA

VICLIP = ViCLIPSizes(24, 32, 16, 32, 2, 2, 16, 1, 2, frames=4)
INTERNVIDEO2 = InternVideo2Sizes(24, 24, 32, 16, 32, 1, 2, 2, 16, 1, 2, frames=4)
FAMILIES = {
    "ViT-B-32-quickgelu": "visual.positional_embedding",
    "ViT-B-16-custom": "visual.positional_embedding",  # whole
    "ViT-B-16-SigLIP": "visual.trunk.pos_embed",  # without a class token, pooled by attention
    "PE-Core-B-16": "visual.trunk.pos_embed",  # and rotary positions
    "ViTamin-S": "visual.trunk.pos_embed",  # behind convolutions
    "EVA02-B-16": "visual.trunk.pos_embed",
}
"""An architecture of each kind, and the name of its table of positions."""


@pytest.fixture
def saved(monkeypatch, register, hub, tmp_path):
    """Registers a narrow model and writes random weights of it to a file."""
    create = timm.create_model
    convnext = {"depths": (1, 1, 1, 1), "dims": (8, 8, 16, 32)}

    def create_model(name, **options):
        return create(name, **options, **(convnext if name.startswith("convnext") else narrow_options(name)))

    monkeypatch.setattr(timm, "create_model", create_model)

    def save(model):
        config = narrow(model.removesuffix("-custom"))
        if model.endswith("-custom"):
            config["vision_cfg"]["block_type"] = "custom"
        name = register(f"narrow-{model}", config)
        torch.manual_seed(0)
        clip = open_clip.create_model(name, pretrained_text=False)
        randomize(clip)
        path = tmp_path / f"{model}.pt"
        torch.save(clip.state_dict(), path)
        return name, str(path)

    return save


def side(backbone):
    """Half as many pixels again as the weights are for."""
    return backbone.trained_size * 3 // 2


@pytest.mark.parametrize("model", [*FAMILIES, "convnext_tiny"])
def test_features_and_gradients_are_those_of_open_clip_at_that_size(model, saved):
    name, path = saved(model)
    plain = OpenCLIP(name, path, CLIP)
    size = side(plain)
    with pytest.raises(ConfigError, match=rf"frames are {size} x {size} pixels .*backbone another image_size"):
        plain.encode_frames(torch.zeros(1, 1, 3, size, size))
    backbone = OpenCLIP(name, path, CLIP, image_size=size).eval()
    clip = open_clip.create_model(name, path, force_image_size=size, pretrained_text=False).eval()
    pixels = torch.randn(1, 2, 3, size, size)
    features = backbone.encode_frames(pixels)[0]
    expected = clip.encode_image(pixels[0], normalize=False)
    assert expected.std() > 1e-3
    torch.testing.assert_close(features, expected, rtol=1e-5, atol=1e-5)
    assert list(backbone.clip.state_dict()) == list(clip.state_dict())
    if model in FAMILIES:
        (ours, theirs) = (module.state_dict(keep_vars=True)[FAMILIES[model]] for module in (backbone.clip, clip))
        assert ours.shape[-2] > plain.clip.state_dict()[FAMILIES[model]].shape[-2]
        gradients = [torch.autograd.grad(f.sum(), table)[0] for f, table in ((features, ours), (expected, theirs))]
        assert gradients[0].abs().max() > 0
        torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)


def test_the_size_is_in_settings_digest_and_deviations_and_that_of_the_weights_is_none(saved):
    name, path = saved("ViT-B-32-quickgelu")
    plain = OpenCLIP(name, path, CLIP)
    own, other = (OpenCLIP(name, path, CLIP, image_size=size) for size in (plain.image_size, side(plain)))
    assert (own.settings(), own.identity) == (plain.settings(), plain.identity)
    assert "image_size" not in plain.settings()
    assert other.settings()["image_size"] == other.image_size == side(plain)
    assert other.identity.digest != plain.identity.digest
    assert other.feature_facts() != plain.feature_facts()


def test_methods_name_the_size_among_their_deviations(saved):
    name, path = saved("ViT-B-32-quickgelu")
    for make, size in (
        (lambda **options: OpenCLIP(name, path, CLIP, **options), 192),
        (lambda **options: ViCLIP("small", sizes=VICLIP, **options), 48),
        (lambda **options: InternVideo2("small", sizes=INTERNVIDEO2, **options), 48),
    ):
        plain, other = (MSTA(each, blocks=1, bottleneck=8) for each in (make(), make(image_size=size)))
        for of_side in ("training", "test", None):
            expected = {**plain.deviations(of_side), "backbone.image_size": size}
            assert other.deviations(of_side) == expected != plain.deviations(of_side)


@pytest.mark.parametrize(
    ("model", "size", "message"),
    [
        ("ViT-B-32", 48, r"image_size is 48; allowed: multiples of 32, .* null, which takes 224"),
        ("ViT-B-16-SigLIP", 0, r"image_size is 0; allowed: multiples of 16, "),
        ("ViT-B-32", 8224, r"image_size is 8224; .* up to 8,192"),
        ("RN50", 256, r"image_size is 256 and RN50 takes 224 alone: .* of a ModifiedResNet, .* not interpolated"),
        ("swin_base_patch4_window7_224", 448, r"takes 224 alone: .* of a SwinTransformer, .* or take a ViT"),
    ],
)
def test_a_size_that_a_tower_cannot_take_is_refused(model, size, message, hub):
    with torch.device("meta"), pytest.raises(ConfigError, match=message):
        OpenCLIP(model, image_size=size)


def test_weights_of_another_size_lead_to_the_option(saved, register):
    name, path = saved("ViT-B-32-quickgelu")
    config = open_clip.get_model_config(name)
    config["vision_cfg"]["image_size"] = 192
    register("larger", config)
    with pytest.raises(CheckpointError, match=r"architecture of the file as model, and image_size for frames of"):
        OpenCLIP("larger", path, CLIP)


def interpolated(table, grid):
    """A table (1 + N, D) for a larger grid, position by position of the class token and patches."""
    patches = table[1:].T.unflatten(1, (2, 2))[None]
    larger = F.interpolate(patches, (grid, grid), mode="bicubic")
    return torch.cat([table[:1], larger[0].flatten(1).T])


def test_viclip_interpolates_the_positions_in_a_frame():
    torch.manual_seed(0)
    plain, other = (ViCLIP("small", sizes=VICLIP, image_size=size).double().eval() for size in (None, 48))
    other.load_state_dict(plain.state_dict())
    literal = ViCLIP("small", sizes=replace(VICLIP, image_size=48)).double().eval()
    name = "vision_encoder.positional_embedding"
    table = plain.state_dict()[name]
    literal.load_state_dict({**plain.state_dict(), name: interpolated(table, 3)})
    clips = torch.randn(2, 4, 3, 48, 48, dtype=torch.float64)
    with pytest.raises(ConfigError, match=r"frames are 48 x 48 pixels and small takes 32 x 32"):
        plain.encode_frames(clips)
    features = other.encode_frames(clips)
    torch.testing.assert_close(features, literal.encode_frames(clips))
    (gradient,) = torch.autograd.grad(features.sum(), other.vision_encoder.positional_embedding)
    assert (gradient.abs().amax(dim=1) > 0).all()
    assert plain.settings() != other.settings()
    assert other.settings()["image_size"] == 48
    with pytest.raises(ConfigError, match=r"image_size is 40; allowed: multiples of 16, .*null, which takes 32"):
        ViCLIP("small", sizes=VICLIP, image_size=40)
