"""X-CLIP: what frames and classes know of each other."""

from dataclasses import replace

import pytest
import torch

import vlbench.methods.x_clip.module as module
from tests.methods.test_starting import saved
from vlbench.backbones import TinyCLIP
from vlbench.errors import CheckpointError, ConfigError
from vlbench.methods import XCLIP
from vlbench.methods.parts.class_features import ensemble

pytestmark = pytest.mark.quick

NAMES = ["red circle", "blue square", "green triangle", "white star", "black cross"]


def build(frames=4, **options):
    """The method in double precision, its new parts not as they are at the beginning."""
    torch.manual_seed(0)
    method = XCLIP(TinyCLIP(), frames=frames, **options).double().eval()
    with torch.no_grad():
        for name, parameter in method.named_parameters():
            if not name.startswith("backbone.") or ".message_" in name:
                parameter.add_(0.05 * torch.randn_like(parameter))
    return method


def clips(batch, frames=4, seed=0):
    return torch.randn(batch, frames, 3, 32, 32, generator=torch.Generator().manual_seed(seed)).double()


def test_messages_carry_what_is_in_other_frames_but_not_their_order():
    method, video = build(), clips(2)
    order = torch.tensor([2, 0, 3, 1])
    with torch.no_grad():
        features = method.encode_frames(video)
        permuted = method.encode_frames(video[:, order])
        assert torch.allclose(permuted.frames, features.frames[:, order], atol=1e-9)
        assert torch.allclose(permuted.patches, features.patches, atol=1e-9)
        changed = video.clone()
        changed[:, 3] = clips(2, seed=1)[:, 3]
        assert not torch.allclose(method.encode_frames(changed).frames[:, 0], features.frames[:, 0], atol=1e-4)
        # The integration knows the order.
        ordered, other = method.pool_frames(features), method.pool_frames(permuted)
        assert not torch.allclose(ordered.video, other.video, atol=1e-4)


def test_the_backbone_alone_gives_the_same_frame_features():
    method, video = build(), clips(1)
    with torch.no_grad():
        assert torch.allclose(method.backbone.encode_frames(video), method.encode_frames(video).frames, atol=1e-10)


def test_scores_are_those_of_each_video_and_class_alone(monkeypatch):
    method = build()
    with torch.no_grad():
        classes = method.encode_classes(NAMES)
        videos = method.encode_video(clips(3))
        scores = method.score(videos, classes)
        for pairs in (1, 7, 10):
            monkeypatch.setattr(module, "_PAIRS", pairs)
            assert torch.allclose(method.score(videos, classes), scores, atol=1e-10)
        assert torch.allclose(method.score(videos, method.encode_classes(NAMES[1:3])), scores[:, 1:3], atol=1e-10)
        alone = [method.score(method.encode_video(clips(3)[row : row + 1]), classes) for row in range(3)]
        assert torch.allclose(torch.cat(alone), scores, atol=1e-10)
        assert torch.allclose(method.training_logits(videos, classes), method.logit_factor * scores, atol=1e-9)


def test_memory_of_an_evaluation_does_not_grow_with_the_videos(monkeypatch):
    method, sizes = build(), []
    generate = method.class_features
    monkeypatch.setattr(
        method, "class_features", lambda patches, classes: (sizes.append(len(patches)), generate(patches, classes))[1]
    )
    monkeypatch.setattr(module, "_PAIRS", 2 * len(NAMES))
    with torch.no_grad():
        method.score(method.encode_video(clips(5)), method.encode_classes(NAMES))
    assert sizes == [2, 2, 1]


def test_without_prompts_the_class_features_are_the_frozen_towers():
    method = build()
    with torch.no_grad():
        method.generator.alpha.zero_()
        videos = method.encode_video(clips(2))
        expected = videos.video @ ensemble(method.backbone.encode_texts(NAMES, adapted=False), len(NAMES)).T
        assert torch.allclose(method.score(videos, method.encode_classes(NAMES)), expected, atol=1e-10)


def test_what_trains_and_how_fast():
    method = XCLIP(TinyCLIP(), frames=4, lr=1e-3, weight_decay=0.5)
    names = {id(parameter): name for name, parameter in method.named_parameters()}
    rates = {names[id(each)]: (g["lr"], g["weight_decay"]) for g in method.parameter_groups() for each in g["params"]}
    tower = "backbone.clip.visual."
    assert rates[f"{tower}proj"] == (1e-3, 0.5)
    assert rates[f"{tower}positional_embedding"] == rates[f"{tower}ln_pre.weight"] == (1e-3, 0.0)
    assert rates[f"{tower}transformer.resblocks.0.message_fc.weight"] == (1e-2, 0.5)
    assert rates["integration.positional_embedding"] == rates["generator.alpha"] == (1e-2, 0.0)
    assert rates["generator.image_proj"] == (1e-2, 0.5)
    assert not any(name.startswith("backbone.clip.") and not name.startswith(tower) for name in rates)


def test_clips_of_another_number_of_frames_are_refused():
    with pytest.raises(ConfigError, match=r"frames is 4 and a clip has 8; .* give model\.frames=8, or data\.frames=4"):
        build().encode_frames(clips(1, frames=8))


def test_a_width_that_heads_do_not_divide_is_refused():
    backbone = TinyCLIP()
    backbone.embed_dim = 96
    with pytest.raises(ConfigError, match=r"heads of 64 dimensions, vlbench-tiny-clip has features of 96 dimensions"):
        XCLIP(backbone)
    backbone = TinyCLIP()
    backbone.capabilities = replace(backbone.capabilities, class_token=False)
    with pytest.raises(ConfigError, match="X-CLIP's messages are made of class tokens"):
        XCLIP(backbone)


def test_a_second_training_starts_from_the_new_parts_too(tmp_path):
    path = tmp_path / "first.ckpt"
    first = saved(XCLIP(TinyCLIP(), frames=4), path)
    second = XCLIP(TinyCLIP(), frames=4, pretrained_from=str(path))
    own, theirs = second.state_dict(), first.state_dict()
    assert own.keys() == theirs.keys()
    assert all(torch.equal(own[key], theirs[key]) for key in own)
    with pytest.raises(CheckpointError, match=r"does not fit .*: integration\.positional_embedding is \(1, 4, 128\)"):
        XCLIP(TinyCLIP(), frames=8, pretrained_from=str(path))
