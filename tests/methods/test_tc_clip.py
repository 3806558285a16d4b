"""TC-CLIP: context tokens, merging, and text that is computed once."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import vlbench.methods.tc_clip.module as module
from benchmarks.video_conditional_text import plain_features
from tests.methods.test_starting import saved
from vlbench.backbones import TinyCLIP
from vlbench.errors import ConfigError
from vlbench.methods import TCCLIP, ViFiCLIP
from vlbench.methods.parts.video_text import ConditionalVideos
from vlbench.methods.tc_clip.blocks import FramesAndContext
from vlbench.methods.tc_clip.merging import merge_rounds, merged

pytestmark = pytest.mark.quick

NAMES = ["red circle", "blue square", "a rather long name of a triangle", "white star"]


def build(**options):
    """The method in double precision, its new parts not as they are at the beginning."""
    torch.manual_seed(0)
    options = {"context_tokens": 5, "merged_at_once": 3, **options}
    method = TCCLIP(TinyCLIP(), **options).double().eval()
    with torch.no_grad():
        for parameter in method.parameters():
            if parameter.requires_grad:
                parameter.add_(0.02 * torch.randn_like(parameter))
    return method


def clips(batch, frames=4, seed=0):
    return torch.randn(batch, frames, 3, 32, 32, generator=torch.Generator().manual_seed(seed)).double()


# Merging -------------------------------------------------------------------------------------------------------------


@given(tokens=st.integers(1, 2000), count=st.integers(1, 300), at_once=st.integers(1, 300))
def test_rounds_end_at_the_number_of_tokens(tokens, count, at_once):
    left = tokens
    for pairs in merge_rounds(tokens, count, at_once):
        assert 1 <= pairs <= left // 2
        left -= pairs
    assert left == min(tokens, count)


def merged_by_hand(tokens, count, at_once):
    """Means of groups of tokens `(S, D)`, written out; and the groups."""
    groups = [(token, [index]) for index, token in enumerate(tokens)]
    for pairs in merge_rounds(len(tokens), count, at_once):
        even, odd = groups[::2], groups[1::2]
        best = []
        for place, (token, _) in enumerate(even):
            cosines = [torch.cosine_similarity(token, other, dim=0).item() for other, _ in odd]
            best.append((max(cosines), place, cosines.index(max(cosines))))
        best.sort(key=lambda entry: -entry[0])
        members = [list(group) for _, group in odd]
        for _, place, partner in best[:pairs]:
            members[partner] += even[place][1]
        groups = [even[place] for _, place, _ in best[pairs:]]
        groups += [(tokens[group].mean(dim=0), group) for group in members]
    return torch.stack([token for token, _ in groups]), [group for _, group in groups]


@pytest.mark.parametrize(("tokens", "count", "at_once"), [(16, 6, 3), (13, 5, 100), (9, 4, 1), (7, 7, 2), (3, 8, 2)])
def test_merging_is_the_mean_of_groups(tokens, count, at_once):
    torch.manual_seed(tokens)
    x = torch.randn(2, tokens, 6, dtype=torch.float64, requires_grad=True)
    found = merged(x, count, at_once)
    assert found.shape == (2, min(tokens, count), 6)
    for row in range(2):
        expected, groups = merged_by_hand(x[row].detach(), count, at_once)
        assert sorted(member for group in groups for member in group) == list(range(tokens))
        assert torch.allclose(found[row], expected, atol=1e-12)
    (gradient,) = torch.autograd.grad(found.sum(), x)
    sizes = {member: len(group) for group in groups for member in group}
    expected = torch.tensor([1 / sizes[member] for member in range(tokens)], dtype=torch.float64)
    assert torch.allclose(gradient[1], expected[:, None].expand(-1, 6), atol=1e-12)


# Image ---------------------------------------------------------------------------------------------------------------


def test_a_layout_splits_what_it_joins():
    layout = FramesAndContext(3, tokens=5)
    frames, context = torch.randn(2, 3, 5, 4), torch.randn(2, 1, 7, 4)
    parts = layout.split(layout.join([frames, context]))
    assert all(torch.equal(one, other) for one, other in zip(parts, (frames, context), strict=True))
    assert len(layout.split(layout.join([frames]))) == 1


def test_without_attention_to_context_frames_are_the_backbones():
    method, video = build(), clips(2)
    with torch.no_grad():
        expected = method.backbone.encode_frames(video, adapted=False)
        for block in method.backbone.image.blocks[1:]:
            block.attention.local_global_bias_table[..., 1] = -1e9
        assert torch.allclose(method.encode_frames(video).frames, expected, atol=1e-9)


def test_a_block_is_its_equation():
    """Attention of each frame to itself and the context, with one number added for either; written out."""
    method = build()
    block = method.backbone.image.blocks[1]
    layout, frames, own, context = FramesAndContext(3, tokens=17), 3, 17, 5
    x = torch.randn(2, frames * own + context, method.backbone.image.width, dtype=torch.float64)
    attention = block.attention
    with torch.no_grad():
        out, weights = attention.over_frames(x, layout)
        q, k, v = attention.project(x)
        head = q.shape[-1] // attention.heads
        for clip in range(2):
            for frame in range(frames):
                here = [*range(frame * own, (frame + 1) * own)]
                seen = [*here, *range(frames * own, frames * own + context)]
                mixed, of_class = [], 0
                for number in range(attention.heads):
                    part = slice(number * head, (number + 1) * head)
                    scores = q[clip, here, part] @ k[clip, seen, part].T / head**0.5
                    scores[:, :own] += attention.local_global_bias_table[number, 0, 0]
                    scores[:, own:] += attention.local_global_bias_table[number, 0, 1]
                    shares = scores.softmax(dim=-1)
                    mixed.append(shares @ v[clip, seen, part])
                    of_class = of_class + shares[0, 1:own] / attention.heads
                assert torch.allclose(out[clip, frame], attention.out_proj(torch.cat(mixed, dim=-1)), atol=1e-10)
                assert torch.allclose(weights[clip, frame], of_class, atol=1e-10)


def test_the_last_block_gives_class_and_context_tokens_alone():
    method, seen = build(), []
    for block in method.backbone.image.blocks:
        block.register_forward_hook(lambda _, __, output: seen.append(output.shape[1]))
    with torch.no_grad():
        features = method.encode_frames(clips(2))
    assert seen == [4 * 17 + 5] * 3 + [4 + 5]
    assert (features.frames.shape, features.context.shape) == ((2, 4, 128), (2, 5, 128))


def test_recomputed_activations_give_the_same_gradients():
    gradients = []
    for enabled in (False, True):
        method = build(grad_checkpointing=enabled)
        loss = method.encode_frames(clips(2)).frames.square().sum()
        gradients.append(torch.autograd.grad(loss, method.backbone.visual.proj))
    assert torch.equal(*(gradient for (gradient,) in gradients))


# Text ----------------------------------------------------------------------------------------------------------------


def contexts(method, videos):
    torch.manual_seed(1)
    unit = torch.nn.functional.normalize(torch.randn(videos, method.backbone.embed_dim).double(), dim=-1)
    return ConditionalVideos(unit, torch.randn(videos, 5, method.backbone.embed_dim).double())


def test_class_features_are_those_of_the_whole_tower_for_each_video():
    method = build()
    videos = contexts(method, 3)
    with torch.no_grad():
        tokens = method.backbone.tokenize(method.texts(NAMES))
        expected = torch.nn.functional.normalize(plain_features(method, videos.context, tokens), dim=-1)
        found = method.class_features(videos.context, method.encode_classes(NAMES))
    assert torch.allclose(found, expected, atol=1e-10)
    assert (found[0] - found[1]).abs().max() > 1e-4


def test_blocks_below_the_last_run_once_for_all_videos(monkeypatch):
    method, runs = build(), []
    monkeypatch.setattr(module, "_TOKENS", 1)
    for index, block in enumerate(method.backbone.text.blocks):
        block.register_forward_hook(lambda _, inputs, __, index=index: runs.append((index, len(inputs[0]))))
    with torch.no_grad():
        classes = method.encode_classes(NAMES)
        method.score(contexts(method, 3), classes)
        method.score(contexts(method, 2), classes)
    assert runs == [(0, 4), (1, 4), *[(2, 4)] * 5]


def test_scores_are_those_of_each_video_and_class_alone(monkeypatch):
    method = build()
    videos = contexts(method, 4)
    with torch.no_grad():
        classes = method.encode_classes(NAMES)
        scores = method.score(videos, classes)
        for tokens in (1, 100):
            monkeypatch.setattr(module, "_TOKENS", tokens)
            assert torch.allclose(method.score(videos, classes), scores, atol=1e-10)
        assert torch.allclose(method.score(videos, method.encode_classes(NAMES[:2])), scores[:, :2], atol=1e-10)
        assert torch.allclose(method.training_logits(videos, classes), method.logit_factor * scores, atol=1e-9)


def test_several_prompts_are_averaged():
    both, one, other = (build(prompts=prompts) for prompts in (["{}.", "{} again."], ["{}."], ["{} again."]))
    context = contexts(both, 2).context
    with torch.no_grad():
        features = [each.class_features(context, each.encode_classes(NAMES)) for each in (both, one, other)]
    assert torch.allclose(features[0], (features[1] + features[2]) / 2, atol=1e-10)


def test_gradients_of_the_text_do_not_reach_the_video():
    method = build().train()
    videos = contexts(method, 2)
    videos.context.requires_grad_(True)
    texts = method.prepare(method.backbone.tokenize(method.texts(NAMES)))
    method.training_logits(videos, texts).square().sum().backward()
    assert videos.context.grad is None
    assert all(parameter.grad is not None for parameter in method.generator.parameters())
    assert method.learned.grad.abs().max() > 0


def test_the_layer_begins_as_a_copy_of_the_last_text_block():
    method = TCCLIP(TinyCLIP())
    block, copied = method.backbone.text.blocks[-1], method.generator
    assert torch.equal(copied.attention.in_proj_weight, block.attention.in_proj_weight)
    assert torch.equal(copied.norm_context.weight, block.norm1.weight)
    assert torch.equal(copied.mlp.c_proj.weight, block.mlp.c_proj.weight)
    assert copied.attention.in_proj_weight is not block.attention.in_proj_weight
    assert (copied.attention.causal, block.attention.causal) == (False, True)
    words = method.backbone.tokenize(["a photo of a"])[0, 1:-1]
    assert torch.equal(method.learned, method.backbone.text.token_embedding(words))


def test_names_have_a_space_before_capitals():
    method = TCCLIP(TinyCLIP())
    assert method.texts(["ApplyEyeMakeup", "ride_a_bike", "play Xbox"]) == [
        "a photo of a Apply Eye Makeup.", "a photo of a ride a bike.", "a photo of a play Xbox.",
    ]  # fmt: skip


def test_rephrased_names_stand_in_the_place_of_the_names(tmp_path):
    path = tmp_path / "rephrased.json"
    path.write_text('{"0": "Circle: a round thing", "1": "Square: a thing with corners"}')
    method = TCCLIP(TinyCLIP(), rephrased=str(path))
    method._rephrased = {"circle": "Circle: a round thing"}
    assert method.texts(["circle"]) == ["a photo of a Circle: a round thing."]
    with pytest.raises(ConfigError, match=r"rephrased is .*rephrased\.json, a file without 'square'"):
        method.texts(["square"])


# Weights -------------------------------------------------------------------------------------------------------------


def test_an_evaluation_blends_what_clip_has_and_nothing_else():
    method = build(original_share=0.3)
    original, tuned = TinyCLIP().double().state_dict(), {k: v.clone() for k, v in method.state_dict().items()}
    with method.evaluation_weights():
        blended = {key: value.clone() for key, value in method.state_dict().items()}
    for key, value in blended.items():
        before = original.get(key.removeprefix("backbone."))
        if before is None or "token_embedding" in key:
            assert torch.equal(value, tuned[key]), key
        else:
            assert torch.allclose(value, 0.3 * before + 0.7 * tuned[key], atol=1e-10), key
    assert all(torch.equal(value, tuned[key]) for key, value in method.state_dict().items())


def test_a_second_training_starts_from_the_new_parts_of_the_same_method_alone(tmp_path):
    first = saved(TCCLIP(TinyCLIP()), tmp_path / "first.ckpt")
    second = TCCLIP(TinyCLIP(), pretrained_from=str(tmp_path / "first.ckpt"))
    own, theirs = second.state_dict(), first.state_dict()
    assert all(torch.equal(own[key], theirs[key]) for key in own)
    tuned = saved(ViFiCLIP(TinyCLIP()), tmp_path / "tuned.ckpt")
    third = TCCLIP(TinyCLIP(), pretrained_from=str(tmp_path / "tuned.ckpt"))
    block = tuned.backbone.text.blocks[-1]
    assert torch.equal(third.generator.attention.in_proj_weight, block.attention.in_proj_weight)
