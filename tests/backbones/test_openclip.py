import open_clip
import pytest
import torch
from torch import nn

from benchmarks.plain import plain_clip
from tests.tolerance import assert_same_bits, assert_same_but_rounding
from vlbench.backbones import OpenCLIP, TinyCLIP
from vlbench.backbones.identity import weights_digest
from vlbench.backbones.layouts import FrameMajor
from vlbench.errors import CheckpointError, ConfigError

TEXTS = ["a cat", "a video of a person jumping over a rather long fence"]


@pytest.fixture(scope="module")
def tiny():
    return TinyCLIP().eval()


def zero_adapter(width):
    adapter = nn.Linear(width, width)
    nn.init.zeros_(adapter.weight)
    nn.init.zeros_(adapter.bias)
    return adapter


@pytest.mark.parametrize("model", ["tiny", "ViT-B-32", "ViT-B-16-quickgelu"])
def test_zero_initialised_adapters_leave_both_towers_bit_identical(model):
    torch.manual_seed(0)
    backbone = (TinyCLIP() if model == "tiny" else OpenCLIP(model)).eval()
    clips = torch.randn(1, 2, 3, backbone.image_size, backbone.image_size)
    with torch.no_grad():
        video, text = backbone.encode_frames(clips), backbone.encode_texts(TEXTS)
        for tower in (backbone.image, backbone.text):
            for index in range(len(tower.blocks)):
                tower.add_parallel(index, zero_adapter(tower.width))
        assert_same_bits(backbone.encode_frames(clips), video)
        assert_same_bits(backbone.encode_texts(TEXTS), text)


def test_adapters_change_the_towers_unless_left_out_and_never_the_state_dict(tiny):
    backbone = TinyCLIP().eval()
    keys, digest = list(backbone.state_dict()), weights_digest(backbone.named_parameters())
    clips = torch.randn(2, 3, 3, 32, 32)
    with torch.no_grad():
        before = backbone.encode_frames(clips), backbone.encode_texts(TEXTS)
        for tower in (backbone.image, backbone.text):
            tower.add_parallel(1, lambda x: x + 1)
        changed = backbone.encode_frames(clips), backbone.encode_texts(TEXTS)
        assert not any(torch.allclose(a, b) for a, b in zip(before, changed, strict=True))
        assert_same_bits(backbone.encode_frames(clips, adapted=False), before[0])
        assert_same_bits(backbone.encode_texts(TEXTS, adapted=False), before[1])
    assert list(backbone.state_dict()) == keys
    assert weights_digest(backbone.named_parameters()) == digest


def test_a_branch_sees_frames_of_one_clip_together(tiny):
    """Grid (B, T, N, D): exchanging two clips exchanges the grids, and T is the clip's."""
    seen = []
    backbone = TinyCLIP().eval()
    backbone.image.add_parallel(0, lambda x: seen.append(x) or torch.zeros_like(x))
    clips = torch.randn(2, 5, 3, 32, 32)
    with torch.no_grad():
        backbone.encode_frames(clips)
        backbone.encode_frames(clips.flip(0))
    assert seen[0].shape == (2, 5, 1 + 16, backbone.image.width)
    assert_same_but_rounding(seen[1], seen[0].flip(0))


def test_layout_joins_what_it_splits():
    layout = FrameMajor(frames=4)
    tokens = torch.randn(12, 7, 5)
    (grid,) = layout.split(tokens)
    assert grid.shape == (3, 4, 7, 5)
    assert_same_bits(layout.join([grid]), tokens)


def test_trimmed_texts_equal_padded_ones(tiny):
    tokens = tiny.tokenize(TEXTS)
    assert tokens.shape[1] < 32
    padded = torch.nn.functional.pad(tokens, (0, 32 - tokens.shape[1]))
    with torch.no_grad():
        assert_same_but_rounding(tiny.encode_texts(TEXTS), plain_clip(tiny).encode_text(padded))


@pytest.mark.parametrize("model", ["tiny", "ViT-B-32-quickgelu"])
def test_features_and_gradients_are_those_of_open_clip(model):
    """In float64: the fused blocks, the last block's single token and the trimmed texts change nothing."""
    torch.manual_seed(0)
    backbone = (TinyCLIP() if model == "tiny" else OpenCLIP(model)).double().eval()
    plain = plain_clip(backbone)
    clips = torch.randn(2, 2, 3, backbone.image_size, backbone.image_size, dtype=torch.float64)
    tokens = backbone.tokenize(TEXTS)
    padded = torch.nn.functional.pad(tokens, (0, plain.context_length - tokens.shape[1]))
    ours = backbone.encode_frames(clips), backbone.encode_texts(TEXTS)
    theirs = plain.encode_image(clips.flatten(0, 1)).unflatten(0, (2, 2)), plain.encode_text(padded)
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-9)
    for features in (ours, theirs):
        sum((f * torch.linspace(-1, 1, f.shape[-1])).sum() for f in features).backward()
    expected = dict(plain.named_parameters())
    for name, parameter in backbone.clip.named_parameters():
        assert (parameter.grad is None) == (expected[name].grad is None), name
        if parameter.grad is not None:
            assert torch.allclose(parameter.grad, expected[name].grad, rtol=1e-6, atol=1e-9), name


def test_texts_prepared_once_give_the_same_features_and_gradients():
    torch.manual_seed(0)
    backbone = TinyCLIP().double().requires_grad_(False)
    adapters = nn.ModuleList(nn.Linear(64, 64).double() for _ in range(2))
    for index, adapter in enumerate(adapters, start=1):
        backbone.text.add_parallel(index, adapter)
    assert backbone.text.first_changed == 1
    prepared = backbone.text.prepare(backbone.tokenize(TEXTS))
    assert prepared.start == 1
    assert not prepared.hidden.requires_grad
    gradients = []
    for features in (backbone.text.finish(prepared), backbone.encode_texts(TEXTS), backbone.text.finish(prepared)):
        gradients.append(torch.autograd.grad(features.square().sum(), list(adapters.parameters())))
    prepared_once, at_once, prepared_again = gradients
    for first, whole, again in zip(prepared_once, at_once, prepared_again, strict=True):
        assert_same_but_rounding(first, whole)
        assert_same_bits(again, first)


def test_frozen_blocks_below_the_first_branch_leave_no_graph():
    backbone = TinyCLIP().requires_grad_(False)
    seen = []
    for tower in (backbone.image, backbone.text):
        tower.add_parallel(2, nn.Linear(tower.width, tower.width))
        tower.blocks[1].register_forward_hook(lambda *args: seen.append(args[-1].requires_grad))
    assert backbone.encode_frames(torch.randn(1, 2, 3, 32, 32)).requires_grad
    assert backbone.encode_texts(TEXTS).requires_grad
    assert seen == [False, False]


def test_a_text_longer_than_the_context_is_named(tiny):
    with pytest.raises(ConfigError, match=r"very very .* more than the 32 tokens"):
        tiny.tokenize(["short", "very " * 40])
    exact = "cat " * 30  # 30 tokens, start and end
    assert tiny.tokenize([exact]).shape == (1, 32)


def test_frames_are_encoded_one_by_one(tiny):
    clips = torch.randn(2, 3, 3, 32, 32)
    with torch.no_grad():
        features = tiny.encode_frames(clips)
        assert features.shape == (2, 3, 128)
        assert torch.allclose(features[1, 2], plain_clip(tiny).encode_image(clips[1, 2:3])[0], atol=1e-5)


def test_normalisation_is_clips(tiny):
    video = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD))
    assert torch.allclose(tiny.normalize(video), (video / 255 - mean) / std)


def test_weights_come_from_a_local_file(tmp_path):
    torch.manual_seed(1)
    source = OpenCLIP("ViT-B-32")
    torch.save(source.clip.state_dict(), tmp_path / "weights.pt")
    loaded = OpenCLIP("ViT-B-32", pretrained=str(tmp_path / "weights.pt"))
    assert loaded.identity.digest == source.identity.digest
    assert loaded.identity.pretrained == str(tmp_path / "weights.pt")
    torch.manual_seed(2)
    assert OpenCLIP("ViT-B-32").identity.digest != source.identity.digest


def test_openai_weights_need_quick_gelu():
    with pytest.raises(ConfigError, match="ViT-B-16-quickgelu"):
        OpenCLIP("ViT-B-16", pretrained="openai")


def test_unknown_names_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="no model 'ViT-Z-99'"):
        OpenCLIP("ViT-Z-99")
    with pytest.raises(CheckpointError, match=r"neither a file nor a tag.*openai"):
        OpenCLIP("ViT-B-32-quickgelu", pretrained="no-such-tag")
    (tmp_path / "broken.pt").write_bytes(b"not weights")
    with pytest.raises(CheckpointError, match="cannot load"):
        OpenCLIP("ViT-B-32", pretrained=str(tmp_path / "broken.pt"))


def test_texts_are_encoded_with_others_of_their_length_and_come_back_in_order(tiny, monkeypatch):
    """Names of one to six words, one with a token of id 0, the padding's, before its end."""
    texts = [" ".join(["a"] * (1 + 7 * k % 6)) + (" !%" if k == 3 else "") for k in range(20)]
    (ids,) = tiny.tokenize(texts[3:4])
    assert 0 in ids, "a token has the id of the padding"
    assert ids[-1] == tiny.tokenize(["a"])[0, -1], "the end token is there"
    computed = []
    encode = tiny.text.encode
    monkeypatch.setattr(
        tiny.text, "encode", lambda tokens, adapted: (computed.append(tokens), encode(tokens, adapted=adapted))[1]
    )
    with torch.no_grad():
        features = tiny.encode_texts(texts, chunk=4)
        expected = torch.cat([encode(tiny.tokenize([text, "a " * 10])[:1], adapted=True) for text in texts])
    assert_same_but_rounding(features, expected)
    longest = tiny.tokenize(texts).shape[1]
    assert [len(tokens) for tokens in computed] == [4] * 5
    assert sum(tokens.numel() for tokens in computed) < 0.8 * len(texts) * longest
