"""What weights expect of pixels is what open_clip records of them, or what the configuration states."""

import open_clip
import pytest
import torch

from tests.backbones.models import reduced
from vlbench.backbones import OpenCLIP, TinyCLIP, ViCLIP
from vlbench.backbones.catalogue import recorded_preprocess
from vlbench.backbones.preprocess import CLIP, IMAGENET, Preprocess
from vlbench.errors import ConfigError

HALF = ((0.5,) * 3, (0.5,) * 3)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "weights.pt"
    path.write_bytes(b"weights")
    return str(path)


@pytest.mark.parametrize(
    ("model", "pretrained", "expected"),
    [
        ("ViT-B-16-quickgelu", "openai", CLIP),
        ("ViT-L-14", "laion2b_s32b_b82k", Preprocess(*HALF)),
        ("ViT-H-14-quickgelu", "dfn5b", Preprocess(CLIP.mean, CLIP.std, "bicubic", "squash")),
        ("ViT-B-16-SigLIP2", "webli", Preprocess(*HALF, "bicubic", "squash")),
        ("PE-Core-L-14-336", None, Preprocess(*HALF, "bilinear", "squash")),
        ("PE-Core-L-14-336", "file", Preprocess(*HALF, "bilinear", "squash")),
        ("ViT-H-14", "file", CLIP),  # the tag that squashes was trained with quick GELU
        ("ViT-L-14", None, CLIP),  # random weights
        ("MobileCLIP2-S0", "file", Preprocess((0.0,) * 3, (1.0,) * 3, "bilinear", "shortest")),
    ],
)
def test_defaults_are_the_record_of_the_weights(model, pretrained, expected, file):
    assert recorded_preprocess(model, file if pretrained == "file" else pretrained) == expected


def test_every_tag_has_its_own_record():
    for model, tag in open_clip.list_pretrained():
        record = open_clip.get_pretrained_cfg(model, tag)
        preprocess = recorded_preprocess(model, tag)
        assert (preprocess.mean, preprocess.std) == (tuple(record["mean"]), tuple(record["std"]))
        assert (preprocess.interpolation, preprocess.resize_mode) == (record["interpolation"], record["resize_mode"])


def test_a_file_whose_constants_are_not_known_is_refused_with_the_choices(file):
    with pytest.raises(
        ConfigError, match=r"ViT-L-14 expect different pixels.*mean: \[0.481.*laion400m.* or .*0.5, 0.5"
    ):
        OpenCLIP("ViT-L-14", file)
    with pytest.raises(ConfigError, match=r"no released weights of ViT-S-16.*such as preprocess: \{mean: \[0.48"):
        OpenCLIP("ViT-S-16", file)


def test_the_configuration_states_it_and_settings_hold_the_constants(register):
    name = register("reduced", reduced("ViT-B-32"))
    stated = Preprocess((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "bilinear", "squash")
    backbone = OpenCLIP(name, preprocess=stated)
    assert backbone.preprocess == stated
    assert (backbone.settings()["mean"], backbone.settings()["std"]) == ([0.1, 0.2, 0.3], [0.4, 0.5, 0.6])
    video = torch.full((1, 1, 3, 2, 2), 255, dtype=torch.uint8)
    torch.testing.assert_close(
        backbone.normalize(video)[0, 0, :, 0, 0], torch.tensor([0.9 / 0.4, 0.8 / 0.5, 0.7 / 0.6])
    )


@pytest.mark.parametrize(("normalization", "expected"), [("clip", CLIP), ("imagenet", IMAGENET)])
def test_constants_of_other_images_take_the_place_of_the_weights(normalization, expected):
    with torch.device("meta"):
        backbone = OpenCLIP("PE-Core-T-16-384", normalization=normalization)
    assert (backbone.preprocess.mean, backbone.preprocess.std) == (expected.mean, expected.std)
    assert (backbone.preprocess.interpolation, backbone.preprocess.resize_mode) == ("bilinear", "squash")


def test_constants_here_are_those_of_open_clip():
    constants = open_clip.constants
    assert (CLIP.mean, CLIP.std) == (constants.OPENAI_DATASET_MEAN, constants.OPENAI_DATASET_STD)
    assert (IMAGENET.mean, IMAGENET.std) == (constants.IMAGENET_MEAN, constants.IMAGENET_STD)


def test_other_backbones_state_theirs():
    with torch.device("meta"):
        assert ViCLIP().preprocess == IMAGENET
    assert TinyCLIP(pretrained=False).preprocess == CLIP


def test_a_deviation_of_zero_is_refused():
    with pytest.raises(ConfigError, match=r"preprocess\.std is 0; allowed: above 0 to 1"):
        Preprocess((0, 0, 0), (1, 0, 1))
