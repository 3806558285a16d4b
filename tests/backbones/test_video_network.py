"""Networks of pytorchvideo give the library's own features and logits, and say what does not fit."""

import re

import pytest
import torch
from pytorchvideo.models.hub import i3d_r50, slowfast_r50
from pytorchvideo.models.hub.vision_transformers import mvit_video_base_config
from pytorchvideo.models.vision_transformers import create_multiscale_vision_transformers
from pytorchvideo.models.x3d import create_x3d
from torch import nn

from tests.tolerance import assert_same_bits
from vlbench.backbones import VideoNetwork
from vlbench.backbones.video_network import ALPHA, NETWORKS
from vlbench.errors import CheckpointError, ConfigError
from vlbench.methods import MSTA, MoTE, ViFiCLIP, VisionOnly, VLPrompting, ZeroShot

CLASSES = 5
# The library's own, with the pooling of its released sizes; clips of 8 frames, 64 pixels wide.
LIBRARY = {
    "slowfast_r50": lambda: slowfast_r50(head_pool_kernel_sizes=((2, 2, 2), (8, 2, 2)), model_num_class=CLASSES),
    "x3d_m": lambda: create_x3d(input_clip_length=8, input_crop_size=64, model_num_class=CLASSES, head_activation=None),
    "mvit_base_16x4": lambda: create_multiscale_vision_transformers(
        **{**mvit_video_base_config, "temporal_size": 8, "spatial_size": 64, "head_num_classes": CLASSES}
    ),
    "i3d_r50": lambda: i3d_r50(head_pool_kernel_size=(4, 2, 2), model_num_class=CLASSES),
}
# Millions of parameters in the library's list of released models, heads of 400 classes included.
MILLIONS = {"slowfast_r50": 34.57, "x3d_m": 3.79, "mvit_base_16x4": 36.61, "i3d_r50": 28.04}


def randomized(network):
    """Batch norms that have seen something, and no residual branch that begins as 0."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            nn.init.uniform_(module.weight, 0.2, 0.6)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.normal_(module.running_mean, std=0.1)
    return network.eval()


def clips(batch=2, frames=8, size=64):
    return torch.randn(batch, frames, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module", params=LIBRARY)
def released(request, tmp_path_factory):
    """A network of the library, and its file as it is released."""
    network = randomized(LIBRARY[request.param]())
    path = tmp_path_factory.mktemp("released") / f"{request.param}.pyth"
    torch.save({"model_state": network.state_dict()}, path)
    return request.param, network, str(path)


@torch.no_grad()
def test_released_weights_give_the_librarys_logits(released):
    name, network, path = released
    method = VisionOnly(VideoNetwork(name, path, frames=8, image_size=64), trained="nothing").eval()
    method.train_classes = type("Classes", (), {"names": tuple("abcde")})
    method.use_train_classes()
    video = clips().transpose(1, 2)
    if name == "slowfast_r50":
        video = [video[:, :, [0, 7]], video]
    expected = network(video)
    assert expected.std() > 1e-3
    torch.testing.assert_close(method.score(method.encode_video(clips()), None), expected, rtol=1e-4, atol=1e-4)


def test_numbers_of_parameters_are_those_of_the_released_models():
    for name, millions in MILLIONS.items():
        with torch.device("meta"):
            backbone = VideoNetwork(name)
        count = sum(parameter.numel() for parameter in backbone.parameters()) + 400 * (backbone.embed_dim + 1)
        assert round(count / 1e6, 2) == millions, name
        assert backbone.frames == NETWORKS[name].frames


def test_the_slow_pathway_has_every_fourth_frame():
    backbone = VideoNetwork("slowfast_r50", image_size=32)
    assert backbone.slow.tolist() == [0, 4, 8, 13, 17, 22, 26, 31]  # as the library's tutorial packs pathways
    assert len(backbone.slow) * ALPHA == backbone.frames
    seen = []
    backbone.network.forward = lambda pathways: (
        seen.append([p.shape[2] for p in pathways]) or pathways[0].mean((2, 3, 4))
    )
    backbone.encode_frames(clips(1, 32, 32))
    assert seen == [[8, 32]]


def test_batch_norms_keep_the_averages_of_the_weights():
    """A clip's features depend on no other clip, in training neither, and no buffer moves; averages have a digest."""
    backbone = VideoNetwork("x3d_m", frames=4, image_size=32)
    randomized(backbone.network)
    backbone.train()
    before = {name: value.clone() for name, value in backbone.named_buffers()}
    video = clips(3, 4, 32)
    torch.testing.assert_close(
        backbone.encode_frames(video)[:1], backbone.encode_frames(video[:1]), rtol=1e-4, atol=1e-5
    )
    for name, value in backbone.named_buffers():
        assert_same_bits(value, before[name])
    assert backbone.training


def test_the_digest_is_of_averages_and_head(tmp_path):
    network, digests = randomized(LIBRARY["x3d_m"]()), []
    state = network.state_dict()
    average = next(key for key in state if key.endswith("running_mean"))
    for changed in (None, average, "blocks.5.proj.bias"):
        if changed:
            state[changed] = state[changed] + 1
        torch.save({"model_state": state}, tmp_path / "own.pyth")
        digests.append(VideoNetwork("x3d_m", str(tmp_path / "own.pyth"), 8, 64).identity.digest)
    assert len(set(digests)) == 3
    assert VideoNetwork("x3d_m", frames=8).settings() != VideoNetwork("x3d_m", frames=4).settings()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "slowfast"}, r"model is 'slowfast'; allowed: slowfast_r50, .*did you mean slowfast_r50"),
        ({"model": "slowfast_r50", "frames": 30}, r"frames is 30; allowed: multiples of 4 .*null, which takes 32"),
        ({"model": "mvit_base_16x4", "frames": 7}, r"frames is 7; allowed: multiples of 2"),
        ({"model": "x3d_m", "image_size": 100}, r"image_size is 100; allowed: multiples of 32 .*null, which takes 224"),
        ({"model": "x3d_m", "frames": 0}, r"frames is 0; allowed: 1 to 4,096, and null"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        VideoNetwork(**options)


def test_clips_that_do_not_fit_are_refused_in_one_sentence():
    with torch.device("meta"):
        networks = [VideoNetwork(name) for name in NETWORKS]
    for network in networks:
        name = network.identity.name
        with pytest.raises(ConfigError, match=f"clips have frames 6 and {name} takes {network.frames}; .*frames="):
            network.encode_frames(clips(1, 6))
        with pytest.raises(ConfigError, match=f"clips have image_size 64 and {name} takes 224; .*image_size=224"):
            network.encode_frames(torch.empty(1, network.frames, 3, 64, 64, device="meta"))


def test_files_that_do_not_fit_are_short_messages(released, tmp_path):
    name, _, path = released
    other = "x3d_m" if name != "x3d_m" else "i3d_r50"
    with torch.device("meta"), pytest.raises(CheckpointError, match=rf"as {other} does not fit the model") as refused:
        VideoNetwork(other, path)
    assert len(str(refused.value).splitlines()) < 25
    torch.save({"epoch": 1}, tmp_path / "none.pyth")
    with torch.device("meta"), pytest.raises(CheckpointError, match="holds no weights by themselves or below the key"):
        VideoNetwork(name, str(tmp_path / "none.pyth"))


@pytest.mark.parametrize("method", [ZeroShot, MSTA, MoTE, ViFiCLIP, VLPrompting])
def test_methods_that_know_classes_by_their_names_refuse_it(method):
    with torch.device("meta"):
        backbone = VideoNetwork("x3d_m")
    sentence = f"{method.name} knows classes by their names, x3d_m has no text tower; use a CLIP"
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        method(backbone)
    with pytest.raises(ConfigError, match="no text tower and so no scale of cosines"):
        _ = backbone.logit_scale
