"""Blocks of a method in the towers: replaced by their roles, with branches beside them, without leftover state."""

import copy
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError, replace
from functools import partial

import open_clip
import pytest
import torch
from torch import nn

from benchmarks.plain import plain_block, plain_clip
from tests.tolerance import assert_same_but_rounding
from vlbench.backbones import Block, TinyCLIP, ViCLIP
from vlbench.backbones.blocks import Attention
from vlbench.backbones.identity import weights_digest
from vlbench.backbones.layouts import FrameMajor
from vlbench.backbones.openclip import CLIPEncoder
from vlbench.backbones.viclip_parts import ViCLIPSizes
from vlbench.errors import ConfigError
from vlbench.methods import MSTA, MoTE
from vlbench.methods.parts import class_features

SMALL = ViCLIPSizes(24, 32, 16, 32, 3, 2, 16, 2, 2, frames=4)
TEXTS = ["a cat", "a video of a person jumping over a rather long fence"]
TINY_DIGEST = "aa35c3a1c3382b5300263596df7b8424"


def small():
    torch.manual_seed(0)
    return ViCLIP("small", sizes=SMALL)


def over_time(tower, index):
    """Replaces a block by one that mixes frames."""
    tower.replace(index, partial(OverTime, width=tower.width))


BOTH = pytest.mark.parametrize("make", [TinyCLIP, small], ids=["clip", "viclip"])


def clips(batch, frames, seed=0):
    return torch.randn(batch, frames, 3, 32, 32, generator=torch.Generator().manual_seed(seed)).double()


class OverTime(Block):
    """A block as a paper writes it: neighbouring frames are mixed between attention and MLP."""

    def __init__(self, loaded, width):
        super().__init__(loaded)
        self.mix = nn.Linear(width, width)

    def forward(self, x, clip):
        x = x + self.attention(self.norm1(x))
        x = x + clip.join([self.mix(grid.roll(1, dims=1)) for grid in clip.split(x)])
        return x + self.mlp(self.norm2(x))


class LowRank(Attention):
    """Attention with a low-rank term on the queries."""

    def __init__(self, loaded, rank=2):
        super().__init__(loaded)
        width = self.in_proj_weight.shape[1]
        self.down = nn.Linear(width, rank, bias=False)
        self.up = nn.Linear(rank, width, bias=False)

    def project(self, x, context=None):
        q, k, v = super().project(x, context)
        return q + self.up(self.down(x)), k, v


class LowRankBlock(Block):
    def __init__(self, loaded):
        super().__init__(loaded)
        self.attention = LowRank(self.attention)


def literal_over_time(backbone, plain, index, mix, video):
    """Features of one clip `(1, T, 3, H, W)` by open_clip's blocks, token by token where frames are mixed."""
    frames, visual = video.shape[1], backbone.visual
    joint = not backbone.capabilities.frames_encoded_one_by_one
    x = visual.embed(video if joint else video[0])
    for i, block in enumerate(plain):
        if i != index:
            x = block(x)
            continue
        x = x + block.attention(block.ln_1(x))
        before = x.clone()
        for n in range((x.shape[1] - 1) // frames if joint else 0):
            for t in range(frames):
                before[:, 1 + n * frames + t] = x[:, 1 + n * frames + (t - 1) % frames]
        if not joint:
            before = torch.stack([x[(t - 1) % frames] for t in range(frames)])
        x = x + mix(before)
        x = x + block.mlp(block.ln_2(x))
    return visual.ln_post(x[:, 0]) @ visual.proj


@BOTH
@pytest.mark.parametrize("index", [0, 1, -1])
def test_a_block_of_a_method_is_its_equation(make, index):
    backbone = make().double().eval()
    tower = backbone.image
    index %= len(tower.blocks)
    plain = [plain_block(block) for block in tower.blocks]
    over_time(tower, index)
    backbone.double()
    mix = tower.blocks[index].mix
    with torch.no_grad():
        for frames in (4, 3, 4):  # in turn: nothing of one clip is left for the next
            video = clips(2, frames, seed=frames)
            features = backbone.encode_frames(video)
            for i in range(2):
                expected = literal_over_time(backbone, plain, index, mix, video[i : i + 1])
                assert torch.allclose(features[i], expected, atol=1e-10)


@BOTH
def test_replacing_keeps_the_keys_and_says_where_the_frozen_prefix_ends(make):
    backbone = make().requires_grad_(False)
    before = backbone.state_dict()
    digest = weights_digest(backbone.named_parameters())
    blocks = [len(tower.blocks) for tower in (backbone.image, backbone.text)]
    assert [backbone.image.first_changed, backbone.text.first_changed] == blocks
    over_time(backbone.image, 2)
    over_time(backbone.text, 1)
    over_time(backbone.image, 1)
    assert [backbone.image.first_changed, backbone.text.first_changed] == [1, 1]
    backbone.image.add_parallel(0, lambda x: x)
    assert backbone.image.first_changed == 0
    after = backbone.state_dict()
    added = {key for key in after if key not in before}
    assert len(added) == 6
    assert all(key.split(".")[-2:] in (["mix", "weight"], ["mix", "bias"]) for key in added)
    assert all(torch.equal(after[key], value) for key, value in before.items())
    kept = [(name, p) for name, p in backbone.named_parameters() if name not in added]
    assert weights_digest(kept) == digest
    assert {name for name, p in backbone.named_parameters() if p.requires_grad} == added


def test_prepared_texts_end_below_the_replaced_block():
    backbone = TinyCLIP().requires_grad_(False).eval()
    over_time(backbone.text, 1)
    calls = []
    for index, block in enumerate(backbone.text.blocks):
        block.register_forward_hook(lambda *args, index=index: calls.append(index))
    prepared = backbone.text.prepare(backbone.tokenize(TEXTS))
    assert calls == [0]
    assert not prepared.hidden.requires_grad
    features = backbone.text.finish(prepared)
    assert calls == [0, 1, 2]
    assert features.requires_grad
    assert torch.equal(features, backbone.encode_texts(TEXTS))


def test_kept_class_features_are_those_of_the_architecture(monkeypatch, tmp_path):
    """Two architectures may have the same weights: a number of heads is in none of them."""
    monkeypatch.setattr(class_features, "cache_folder", lambda: tmp_path)
    one, other = small(), ViCLIP("small", sizes=replace(SMALL, text_heads=4))
    other.load_state_dict(one.state_dict())
    other.identity = one.identity
    own = class_features.frozen_ensemble(one, TEXTS, 2)
    kept = class_features.frozen_ensemble(other, TEXTS, 2)
    with torch.no_grad():
        computed = class_features.ensemble(other.encode_texts(TEXTS), 2)
    torch.testing.assert_close(kept, computed)
    assert not torch.allclose(own, kept)


@BOTH
def test_what_a_method_adds_can_be_left_out(make, monkeypatch, tmp_path):
    """Also of the class features that are kept on disk."""
    backbone, video = make().double().eval(), clips(1, 4)
    with torch.no_grad():
        before = backbone.encode_frames(video), backbone.encode_texts(TEXTS)
        monkeypatch.setattr(class_features, "cache_folder", lambda: tmp_path / "before")
        classes = class_features.frozen_ensemble(backbone, TEXTS, 2)
        for tower in (backbone.image, backbone.text):
            over_time(tower, len(tower.blocks) - 1)
            tower.add_parallel(0, lambda x: x)
        backbone.double()
        monkeypatch.setattr(class_features, "cache_folder", lambda: tmp_path / "after")
        assert torch.equal(class_features.frozen_ensemble(backbone, TEXTS, 2), classes)
        assert len(list(tmp_path.rglob("*.safetensors"))) == 2
        assert not torch.allclose(backbone.encode_frames(video), before[0])
        assert not torch.allclose(backbone.encode_texts(TEXTS), before[1])
        assert torch.equal(backbone.encode_frames(video, adapted=False), before[0])
        assert torch.equal(backbone.encode_texts(TEXTS, adapted=False), before[1])


@BOTH
def test_an_exchanged_part_keeps_its_keys(make):
    """Low-rank queries equal merged weights; the key of the attention's own weights stays."""
    backbone, video = make().double().eval(), clips(1, 4)
    merged = copy.deepcopy(backbone)
    keys = set(backbone.state_dict())
    width = backbone.image.width
    backbone.image.replace(1, LowRankBlock)
    backbone.double()
    assert len(set(backbone.state_dict()) - keys) == 2
    assert keys < set(backbone.state_dict())
    low_rank = backbone.image.blocks[1].attention
    with torch.no_grad():
        merged.image.blocks[1].attention.in_proj_weight[:width] += low_rank.up.weight @ low_rank.down.weight
        assert torch.allclose(backbone.encode_frames(video), merged.encode_frames(video), atol=1e-10)
        assert not torch.allclose(backbone.encode_frames(video), backbone.encode_frames(video, adapted=False))


def test_a_block_that_drops_a_parameter_is_refused():
    class Other(Block):
        def __init__(self, loaded):
            super().__init__(loaded)
            self.norm2 = nn.LayerNorm(128)

    backbone = TinyCLIP()
    with pytest.raises(ValueError, match=r"Other does not adopt ln_2.weight, ln_2.bias of block 3"):
        backbone.image.replace(3, Other)
    assert backbone.image.first_changed == 4


def test_a_copied_or_pickled_method_has_its_own_adapters():
    torch.manual_seed(0)
    method = MSTA(TinyCLIP(), blocks=2, bottleneck=32, scale=0.3).double().eval()
    video = clips(1, 4)
    with torch.no_grad():
        expected = method.encode_video(video)
        for other in (copy.deepcopy(method), pickle.loads(pickle.dumps(method))):
            assert torch.equal(other.encode_video(video), expected)
            for parameter in other.adapters.parameters():
                parameter.mul_(2)
            assert not torch.allclose(other.encode_video(video), expected)
        assert torch.equal(method.encode_video(video), expected)


@BOTH
def test_forward_passes_do_not_disturb_each_other(make):
    """One inside another's block, and many in threads, of clips with different numbers of frames."""
    backbone = make().double().eval()
    over_time(backbone.image, 1)
    backbone.double()
    outer, inner, depth = clips(2, 4), clips(1, 3, seed=1), []

    def branch(grid):
        if not depth:
            depth.append(None)
            nested.append(backbone.encode_frames(inner))
            depth.pop()
        return torch.tanh(grid.mean(dim=1, keepdim=True)).expand_as(grid)

    backbone.image.add_parallel(1, branch)
    with torch.no_grad():
        depth.append(None)
        expected = backbone.encode_frames(outer), backbone.encode_frames(inner)
        depth.pop()
        nested = []
        assert torch.equal(backbone.encode_frames(outer), expected[0])
        assert nested
        assert all(torch.equal(features, expected[1]) for features in nested)
    depth.append(None)

    def encode(index):
        with torch.no_grad():
            return backbone.encode_frames((outer, inner)[index % 2])

    with ThreadPoolExecutor(4) as pool:
        for index, features in enumerate(pool.map(encode, range(16))):
            assert torch.equal(features, expected[index % 2])


@BOTH
def test_recomputed_activations_give_the_same_gradients(make):
    backbone, video = make().double(), clips(1, 4)
    over_time(backbone.image, 1)
    adapter = nn.Linear(backbone.image.width, backbone.image.width)
    backbone.image.add_parallel(2, adapter.double())
    trained = [*backbone.double().image.blocks[1].mix.parameters(), *adapter.parameters()]
    gradients = []
    for enabled in (False, True):
        backbone.set_grad_checkpointing(enabled)
        gradients.append(torch.autograd.grad(backbone.encode_frames(video).square().sum(), trained))
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
def test_a_compiled_block_of_a_method_computes_the_same():
    torch.manual_seed(0)
    backbone = TinyCLIP().eval()
    over_time(backbone.image, 1)
    video = [clips(2, frames).float() for frames in (4, 3)]
    with torch.no_grad():
        expected = [backbone.encode_frames(each) for each in video]
        backbone.image.blocks[0].compile()  # the others are compiled anew, from the same code
        for each, features in zip(video, expected, strict=True):
            assert torch.allclose(backbone.encode_frames(each), features, atol=1e-4)


def test_a_layout_is_a_value():
    layout = FrameMajor(frames=4)
    assert layout == FrameMajor(4)
    with pytest.raises(FrozenInstanceError):
        layout.frames = 3


def test_the_weights_keep_their_names_and_digest():
    """Checkpoints name the backbone by this digest."""
    backbone = TinyCLIP()
    assert backbone.identity.digest == TINY_DIGEST
    assert weights_digest(backbone.clip.named_parameters()) == TINY_DIGEST
    assert weights_digest(reversed(list(backbone.clip.named_parameters()))) == TINY_DIGEST
    theirs = plain_clip(backbone)
    assert list(backbone.clip.state_dict()) == list(theirs.state_dict())
    assert [name for name, _ in backbone.clip.named_parameters()] == [name for name, _ in theirs.named_parameters()]
    with torch.no_grad():
        backbone.clip.logit_scale.add_(1e-3)
    assert weights_digest(backbone.clip.named_parameters()) != TINY_DIGEST


def custom_clip(vision=(), text=()):
    """A small CLIP of open_clip with unusual parts."""
    vision = {"image_size": 32, "patch_size": 16, "width": 32, "layers": 2, "head_width": 16, **dict(vision)}
    text = {"context_length": 16, "vocab_size": 50, "width": 32, "heads": 2, "layers": 2, **dict(text)}
    return open_clip.CLIP(16, vision, text, quick_gelu=True)


def test_layer_scale_belongs_to_the_roles():
    torch.manual_seed(0)
    clip = custom_clip({"ls_init_value": 0.1}, {"ls_init_value": 0.1}).double().eval()
    for name, parameter in clip.named_parameters():
        if name.endswith("gamma"):
            nn.init.normal_(parameter)
    video, tokens = clips(1, 2), torch.randint(1, 49, (3, 16))
    with torch.no_grad():
        expected = clip.encode_image(video[0]), clip.encode_text(tokens)
        keys = list(clip.state_dict())
        backbone = CLIPEncoder(clip, None, name="scaled", pretrained=None)
        assert list(backbone.clip.state_dict()) == keys
        for _ in range(2):
            assert torch.allclose(backbone.encode_frames(video)[0], expected[0], atol=1e-10)
            assert torch.allclose(backbone.text.encode(tokens), expected[1], atol=1e-10)
            backbone = copy.deepcopy(backbone)


@pytest.mark.parametrize(
    ("vision", "text", "message"),
    [
        ({"pool_type": "none"}, {}, "its image tower pools tokens by 'none'"),
        ({"patch_dropout": 0.5}, {}, "its image tower drops patches in training"),
        ({"qk_norm": True}, {}, "its image tower has blocks of open_clip's CustomResidualAttentionBlock"),
        ({}, {"scale_fc": True}, "its text tower has blocks of open_clip's CustomResidualAttentionBlock"),
        ({}, {"pool_type": "none"}, "its text tower pools tokens by 'none'"),
    ],
)
def test_parts_that_would_be_computed_differently_are_left_to_the_model(vision, text, message):
    torch.manual_seed(0)
    clip = custom_clip(vision, text).eval()
    backbone = CLIPEncoder(clip, None, name="odd", pretrained=None)
    assert backbone.without_roles == message
    assert not backbone.capabilities.blocks
    with pytest.raises(ConfigError, match="odd has no image blocks that can be reached: its "):
        _ = backbone.image
    video = clips(1, 2).float()
    with torch.no_grad():
        assert_same_but_rounding(backbone.encode_frames(video)[0], clip.encode_image(video[0]))


def test_methods_refuse_a_backbone_by_its_capabilities():
    clip, viclip = TinyCLIP(), small()
    assert clip.capabilities.frames_encoded_one_by_one
    assert not viclip.capabilities.frames_encoded_one_by_one
    for backbone in (clip, viclip):
        assert backbone.capabilities.blocks
        assert backbone.capabilities.class_token
        assert backbone.capabilities.causal_text
    with pytest.raises(ConfigError, match=r"features of single frames, small gives one feature a clip"):
        MoTE(viclip)
    clip.capabilities = replace(clip.capabilities, blocks=False)
    with pytest.raises(ConfigError, match=r"beside blocks, vlbench-tiny-clip has none that can be reached"):
        MSTA(clip)
