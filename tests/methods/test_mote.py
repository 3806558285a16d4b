"""MoTE against literal restatements in float64; the released code's outputs are in tests/reference."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vlbench.backbones import TinyCLIP
from vlbench.datasets.specs import ClassList
from vlbench.methods import MoTE
from vlbench.methods.mote.head import TAUS, ExpertMLP, TemporalHead, expert_probabilities, merge_weights, modulation

NAMES = tuple(f"thing number {k}" for k in range(7))


def unit(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(*shape, dtype=torch.float64, generator=generator), dim=-1)


def build(**options):
    torch.manual_seed(0)
    method = MoTE(TinyCLIP(), **{"layers": 2, **options}).double()
    method.train_classes = ClassList(NAMES, tuple(range(7)), NAMES)
    return method


def literal_attention(attn, x, heads):
    """Softmax attention written out, one head at a time; x (B, T, C)."""
    width = x.shape[-1]
    q, k, v = (x @ attn.in_proj_weight.T + attn.in_proj_bias).split(width, dim=-1)
    size = width // heads
    out = []
    for h in range(heads):
        a = slice(h * size, (h + 1) * size)
        out.append((q[..., a] @ k[..., a].transpose(1, 2) / math.sqrt(size)).softmax(-1) @ v[..., a])
    return torch.cat(out, -1) @ attn.out_proj.weight.T + attn.out_proj.bias


def literal_head(head, x, weights, heads):
    """`weights`: one vector over the experts a layer."""
    y = x + head.frame_position_embeddings.weight[: x.shape[1]]
    for block, w in zip(head.transformer.resblocks, weights, strict=True):
        y = y + literal_attention(
            block.attn, F.layer_norm(y, y.shape[-1:], block.ln_1.weight, block.ln_1.bias, 1e-12), heads
        )
        z = F.layer_norm(y, y.shape[-1:], block.ln_2.weight, block.ln_2.bias, 1e-12)
        up = sum(w[e] * layer.weight for e, layer in enumerate(block.mlp.fc_up))
        up_bias = sum(w[e] * layer.bias for e, layer in enumerate(block.mlp.fc_up))
        down = sum(w[e] * layer.weight for e, layer in enumerate(block.mlp.fc_dn))
        down_bias = sum(w[e] * layer.bias for e, layer in enumerate(block.mlp.fc_dn))
        z = z @ up.T + up_bias
        y = y + (z * torch.sigmoid(1.702 * z)) @ down.T + down_bias
    return x + y


def randomised(head):
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    return head


@pytest.fixture
def head():
    torch.manual_seed(0)
    return randomised(TemporalHead(16, 2, 2, 3).double())


def test_the_head_with_one_expert_a_layer(head):
    x = torch.randn(2, 5, 16, dtype=torch.float64)
    one_hot = torch.eye(3, dtype=torch.float64)
    assert torch.allclose(head(x, [2, 0]), literal_head(head, x, [one_hot[2], one_hot[0]], 2), atol=1e-10)


def test_the_head_with_merged_experts(head):
    x = torch.randn(2, 5, 16, dtype=torch.float64)
    weights = [merge_weights(3, tau).double() for tau in (-0.6, 2.4)]
    assert torch.allclose(head(x, weights), literal_head(head, x, weights, 2), atol=1e-10)
    with torch.no_grad():
        for block in head.transformer.resblocks:
            block.mlp.mote_fusion_weight.zero_()
    uniform = [torch.full((3,), 1 / 3, dtype=torch.float64)] * 2
    assert torch.allclose(head(x, head.evaluation_routes()), literal_head(head, x, uniform, 2), atol=1e-10)


def test_modulation_scales_the_temporal_output_only(head):
    x = torch.randn(2, 5, 16, dtype=torch.float64)
    factor = torch.tensor([0.25, 0.0], dtype=torch.float64)
    full = head(x, [0, 0])
    assert torch.allclose(head(x, [0, 0], factor) - x, factor[:, None, None] * (full - x))


def test_unpicked_experts_are_not_computed(head):
    head(torch.randn(1, 3, 16, dtype=torch.float64), [1, 2]).sum().backward()
    for block, picked in zip(head.transformer.resblocks, (1, 2), strict=True):
        for index, layer in enumerate(block.mlp.fc_up):
            assert (layer.weight.grad is not None) == (index == picked)


def test_routes_and_probabilities():
    assert expert_probabilities(4).tolist() == pytest.approx([0.0320586, 0.0871443, 0.2368828, 0.6439143], abs=1e-6)
    assert merge_weights(4, 0.6).tolist() == pytest.approx(list(reversed(merge_weights(4, -0.6).tolist())), abs=1e-6)
    assert merge_weights(4, math.inf).tolist() == [0.25] * 4
    assert len(TAUS) == 11


def test_experts_are_drawn_by_their_probabilities():
    head = TemporalHead(8, 1, 1, 4)
    generator = torch.Generator().manual_seed(0)
    draws = torch.tensor([head.draw_experts(generator)[0] for _ in range(4000)])
    shares = torch.bincount(draws, minlength=4) / 4000
    assert torch.allclose(shares, expert_probabilities(4), atol=0.03)


def test_draws_depend_on_seed_and_step_alone():
    method, again, other = build(), build(), build(seed=1)
    torch.rand(7)  # whatever else was drawn in between
    draws = [m.head.draw_experts(m.generator()) + [w.tolist() for w in m.head.draw_merges(m.generator())]
             for m in (method, again, other)]  # fmt: skip
    assert draws[0] == draws[1]
    assert draws[0] != draws[2]


def test_each_expert_has_its_own_draw():
    layers = TemporalHead(8, 1, 1, 3).transformer.resblocks[0].mlp.fc_up
    assert not torch.equal(layers[0].weight, layers[1].weight)
    assert layers[0].weight.std().item() == pytest.approx(0.02, rel=0.3)
    assert layers[0].bias.abs().max() == 0


def test_the_loss():
    method = build()
    randomised(method.head)
    method.train_class_features = unit(7, 128)
    x = torch.randn(3, 4, 128, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([1, 6, 0])
    merges = [merge_weights(4, 1.2).double(), merge_weights(4, math.inf).double()]
    terms = method.losses(x, labels, [3, 1], merges)
    one_hot = torch.eye(4, dtype=torch.float64)
    scale = method.backbone.logit_scale.exp()

    def logits(out):
        return scale * F.normalize(out.mean(1), dim=-1) @ method.train_class_features.T

    expert = literal_head(method.head, x, [one_hot[3], one_hot[1]], 1)
    merged = literal_head(method.head, x, merges, 1)
    ce, ce_merged = (F.cross_entropy(logits(out), labels) for out in (expert, merged))
    mse = ((merged - x) ** 2).mean()
    expected = ce + 0.5 * ce_merged + 0.1 * mse
    assert terms["loss"].item() == pytest.approx(expected.item(), rel=1e-10)
    (ours,) = torch.autograd.grad(terms["loss"], x)
    (literal,) = torch.autograd.grad(expected, x)
    assert torch.allclose(ours, literal, atol=1e-10)


@pytest.mark.parametrize("count", [9, 3])
def test_modulation_literally(count):
    """The paper's top five, clipped where there are fewer classes."""
    video, test, train = unit(4, 16), unit(count, 16, seed=1), unit(6, 16, seed=2)
    factor = modulation(video, test, train)
    for b in range(4):
        near_test = sorted(range(count), key=lambda c: -(video[b] @ test[c]))[: min(5, count)]
        near_train = sorted(range(6), key=lambda c: -(video[b] @ train[c]))[:5]
        s = sum(max(test[g] @ train[t] for t in near_train) for g in near_test) / len(near_test)
        assert factor[b].item() == pytest.approx(math.exp(-(1 - s.item()) / 0.05), rel=1e-9)


def test_modulation_is_one_on_the_training_classes():
    classes = unit(8, 16)
    assert torch.allclose(modulation(unit(3, 16, seed=5), classes, classes), torch.ones(3, dtype=torch.float64))


def test_evaluation_blends_the_image_tower_and_training_does_not():
    method = build(original_share=0.25, modulate=False)
    original = {k: v.clone() for k, v in method.backbone.visual.state_dict().items()}
    with torch.no_grad():
        for parameter in method.backbone.visual.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    tuned = {k: v.clone() for k, v in method.backbone.visual.state_dict().items()}
    clips = torch.randn(2, 3, 3, 32, 32, dtype=torch.float64)
    plain = method.encode_video(clips)
    with method.evaluation_weights():
        blended = method.encode_video(clips)
    reference = TinyCLIP().double()
    reference.visual.load_state_dict({k: 0.75 * tuned[k] + 0.25 * original[k] for k in tuned})
    frames = reference.encode_frames(clips)
    expected = F.normalize(method.head(frames, method.head.evaluation_routes()).mean(1), dim=-1)
    assert torch.allclose(blended, expected, atol=1e-9)
    assert not torch.allclose(blended, plain, atol=1e-4)
    assert all(torch.equal(v, tuned[k]) for k, v in method.backbone.visual.state_dict().items())


def test_fusing_views():
    cosines = torch.rand(2, 3, 7, dtype=torch.float64)
    released = build().fuse_views(cosines)
    assert torch.allclose(released, cosines.softmax(-1).mean(1).softmax(-1))
    method = build(view_fusion="probabilities")
    scale = method.backbone.logit_scale.exp()
    assert torch.allclose(method.fuse_views(cosines), (scale * cosines).softmax(-1).mean(1))


def test_what_trains_at_which_rate():
    method = build(lr=1e-3, backbone_lr_ratio=0.07)
    by_rate = {round(group["lr"], 9): {id(p) for p in group["params"]} for group in method.parameter_groups()}
    assert by_rate[1e-3] == {id(p) for p in method.head.parameters() if p.requires_grad}
    tuned = {*method.backbone.visual.parameters(), method.backbone.logit_scale}
    assert by_rate[7e-5] == {id(p) for p in tuned}
    frozen = [name for name, p in method.named_parameters() if not p.requires_grad]
    assert all(name.startswith("backbone.clip.") or name.endswith("mote_fusion_weight") for name in frozen)
    assert "backbone.clip.token_embedding.weight" in frozen
    groups = build(decay_norms_and_biases=False).parameter_groups()
    assert all((p.ndim < 2) == (group["weight_decay"] == 0) for group in groups for p in group["params"])


def test_no_experts_is_the_plain_transformer():
    head = TemporalHead(16, 2, 2, 0)
    assert not any(isinstance(module, ExpertMLP) for module in head.modules())
    generator = torch.Generator()
    assert head.draw_experts(generator) == head.draw_merges(generator) == [0, 0]
    assert head(torch.randn(1, 3, 16), head.evaluation_routes()).shape == (1, 3, 16)


def test_checkpointing_changes_no_gradient():
    torch.manual_seed(3)
    clips = torch.randn(1, 2, 3, 32, 32, dtype=torch.float64)
    grads = []
    for checkpointing in (False, True):
        method = build(grad_checkpointing=checkpointing).train()
        method.encode_video(clips).sum().backward()
        grads.append(method.backbone.visual.conv1.weight.grad)
    assert isinstance(method.backbone.visual, nn.Module)
    assert torch.allclose(grads[0], grads[1], atol=1e-12)
