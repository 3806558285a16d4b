"""Methods that adapt a frozen image tower: where they start, what they keep, and what classifies."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from tests.tolerance import assert_same_but_rounding
from vlbench.backbones import TinyCLIP, ViCLIP
from vlbench.backbones.layouts import FrameMajor
from vlbench.backbones.viclip_parts import ViCLIPSizes
from vlbench.clips.batch import ClipBatch
from vlbench.datasets.specs import ClassList, EvaluationSet, Subset
from vlbench.errors import CheckpointError, ConfigError
from vlbench.methods import AIM, STAdapter, ZeroShot
from vlbench.methods.aim.blocks import PositionDrop
from vlbench.tools.memory import SavedTensors

pytestmark = pytest.mark.quick

NAMES = ("a red circle", "a blue square", "a green triangle")
SIZES = {STAdapter: {"bottleneck": 16}, AIM: {"frames": 4}}
KINDS = pytest.mark.parametrize("kind", [STAdapter, AIM])


def built(kind, **options):
    torch.manual_seed(0)
    return kind(TinyCLIP(), **{**SIZES[kind], **options})


def classes_of(names):
    return ClassList(tuple(names), tuple(range(len(names))), NAMES)


def fitted(kind, names=NAMES, **options):
    """A method at the start of a training on some classes."""
    method = built(kind, **options)
    method.use(SimpleNamespace(train_classes=classes_of(names)))
    method.setup("fit")
    method.on_fit_start()
    return method


def clips(count=2, frames=4):
    return torch.randint(0, 256, (count, frames, 3, 32, 32), dtype=torch.uint8)


def moved(method):
    """The method with other values of all that trains."""
    with torch.no_grad():
        for parameter in method.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    return method


@KINDS
@pytest.mark.parametrize("wide", [False, True])
def test_adapters_begin_as_the_frozen_tower(kind, wide):
    options = {STAdapter: {"before_attention": wide}, AIM: {"adapter_before_time": wide}}[kind]
    method = built(kind, **options).eval()
    pixels = method.backbone.normalize(clips())
    plain = TinyCLIP().eval()
    with torch.no_grad():
        own, theirs = method.backbone.class_tokens(pixels), plain.class_tokens(pixels)
        assert_same_but_rounding(own, theirs)
        assert_same_but_rounding(method.backbone.encode_frames(pixels), plain.encode_frames(pixels))
        assert not torch.allclose(moved(method).backbone.class_tokens(pixels), theirs, atol=1e-3)


def test_aim_with_texts_begins_as_zero_shot_clip():
    method, zero = fitted(AIM, classifier="text").eval(), ZeroShot(TinyCLIP()).eval()
    pixels = method.backbone.normalize(clips())
    with torch.no_grad():
        cosines = zero.score(zero.encode_video(pixels), zero.encode_classes(NAMES))
        torch.testing.assert_close(method.score(method.encode_video(pixels), method.encode_classes(NAMES)), cosines)


def test_nothing_is_kept_below_the_first_adapter():
    kept = []
    for blocks in (1, 2, 4):
        method = fitted(STAdapter, blocks=blocks).train()
        tower = method.backbone.image
        assert tower.first_changed == 4 - blocks
        x = method.backbone.visual.embed(method.backbone.normalize(clips()).flatten(0, 1))
        below = SavedTensors([])
        with below:
            x = tower.run(x, FrameMajor(4), stop=tower.first_changed)
        assert below.bytes == 0
        assert not x.requires_grad
        above = SavedTensors([*method.parameters(), *method.buffers()])
        with above:
            method.training_loss(ClipBatch(clips(), torch.tensor([0, 1]), ["a", "b"], {}))
        kept.append(above.bytes)
    assert kept[0] < 0.6 * kept[1] < 0.6 * kept[2]


@pytest.mark.parametrize("wide", [False, True])
def test_the_last_adapter_of_st_adapter_alone_never_learns(wide):
    method = moved(fitted(STAdapter, before_attention=wide)).train()
    method.training_loss(ClipBatch(clips(), torch.tensor([0, 1]), ["a", "b"], {}))["loss"].backward()
    without = {name for name, value in method.named_parameters() if value.requires_grad and value.grad is None}
    last = method.adapters[-1].before_mlp
    assert without == {f"adapters.3.before_mlp.{name}" for name, _ in last.named_parameters()}
    assert method.leaves_parameters_unused


def test_the_position_of_a_token_is_dropped_in_all_frames_and_clips():
    drop, x = PositionDrop(0.25), torch.ones(6, 400, 5)
    torch.manual_seed(0)
    out = drop.train()(x)
    assert torch.equal(out, out[:1, :, :1].expand_as(out))
    values, counts = out[0, :, 0].unique(return_counts=True)
    torch.testing.assert_close(values, torch.tensor([0, 4 / 3]))
    assert 60 < counts[0] < 140
    assert torch.equal(drop.eval()(x), x)


def test_attention_over_time_is_one_call_for_all_positions_of_all_clips():
    method = built(AIM).eval()
    calls = []
    for block in method.backbone.image.blocks:
        block.attention.register_forward_pre_hook(lambda _, inputs: calls.append(tuple(inputs[0].shape[:2])))
    with torch.no_grad():
        method.encode_frames(method.backbone.normalize(clips(count=2, frames=4)))
    tokens = len(method.backbone.visual.embed(torch.zeros(1, 3, 32, 32))[0])
    over_time, over_space = calls[::2], calls[1::2]
    assert over_time == [(2 * tokens, 4)] * len(method.backbone.image.blocks)
    assert len(over_space) == len(method.backbone.image.blocks)
    assert {clip_frames for clip_frames, _ in over_space} == {2 * 4}


@KINDS
def test_texts_open_the_vocabulary_and_a_linear_head_does_not(kind):
    other = EvaluationSet(Subset(classes="novel"), classes_of(NAMES[1:]), {}, "made up")
    linear, text = (fitted(kind, NAMES[:1], classifier=classifier) for classifier in ("linear", "text"))
    for method in (linear, text):
        method.dataset.sets = lambda _: [other]
    with pytest.raises(ConfigError, match=r"has no open vocabulary.*novel-split1 has other classes"):
        linear.evaluator("test")
    evaluator = text.evaluator("test")
    with torch.no_grad():
        video = text.encode_video(text.backbone.normalize(clips()))
        assert text.score(video, evaluator.classes[0]).shape == (2, 2)
    assert text.deviations()["classifier"] == "text"
    assert "classifier" not in linear.deviations()


@KINDS
@pytest.mark.parametrize("classifier", ["linear", "text"])
def test_a_checkpoint_holds_what_trains_and_the_classes_of_its_head(kind, classifier):
    method = moved(fitted(kind, classifier=classifier)).eval()
    checkpoint = {"state_dict": method.state_dict()}
    method.on_save_checkpoint(checkpoint)
    assert ("head.weight" in checkpoint["state_dict"]) == (classifier == "linear")
    assert not any(name.startswith("backbone.") and "ln_post" not in name for name in checkpoint["state_dict"])
    again = fitted(kind, classifier=classifier).eval()
    again.on_load_checkpoint(checkpoint)
    again.load_state_dict(checkpoint["state_dict"])
    pixels = method.backbone.normalize(clips())
    with torch.no_grad():
        one, two = (each.score(each.encode_video(pixels), each.encode_classes(NAMES)) for each in (method, again))
    assert torch.equal(one, two)


@KINDS
def test_a_checkpoint_of_another_head_is_refused(kind):
    def saved(method):
        checkpoint = {"state_dict": method.state_dict()}
        method.on_save_checkpoint(checkpoint)
        return checkpoint

    linear, text = (fitted(kind, classifier=classifier) for classifier in ("linear", "text"))
    with pytest.raises(CheckpointError, match=r"does not fit.*head\.bias"):
        linear.on_load_checkpoint(saved(text))
    with pytest.raises(CheckpointError, match=r"does not fit.*head\.bias"):
        text.on_load_checkpoint(saved(linear))
    with pytest.raises(CheckpointError, match=r"scores 3 classes .*give the data that it was trained on"):
        fitted(kind, NAMES[:2]).on_load_checkpoint(saved(linear))


def test_the_norm_before_the_head_trains_in_aim_alone_and_decays_where_the_release_lets_it():
    assert not any(parameter.requires_grad for parameter in built(STAdapter).backbone.parameters())
    for ratio, decay in ((1.0, 0.0), (0.1, 0.05)):
        method = fitted(AIM, backbone_lr_ratio=ratio)
        norm = method.backbone.visual.get_submodule("ln_post").weight
        groups = method.parameter_groups()
        (group,) = (group for group in groups if any(each is norm for each in group["params"]))
        assert (group["lr"], group["weight_decay"]) == (pytest.approx(3e-4 * ratio), decay)
        (group,) = (group for group in groups if any(each is method.head.weight for each in group["params"]))
        assert (group["lr"], group["weight_decay"]) == (3e-4, 0.05)


def without_blocks():
    backbone = TinyCLIP(pretrained=False)
    backbone.without_roles = "is made up"
    backbone.capabilities = type(backbone.capabilities)(False, False, False, True)
    return backbone


@KINDS
def test_a_backbone_without_blocks_or_with_joint_frames_is_refused(kind):
    joint = ViCLIP("small", sizes=ViCLIPSizes(64, 32, 8, 64, 2, 1, 64, 2, 1))
    with pytest.raises(ConfigError, match=r"frames.*small gives one feature a clip; use a CLIP"):
        kind(joint)
    with pytest.raises(ConfigError, match=r"vlbench-tiny-clip has no.* blocks that can be reached.*; use a CLIP"):
        kind(without_blocks())
    with pytest.raises(ConfigError, match="no class tokens of single frames; use a CLIP"):
        joint.class_tokens(torch.zeros(1, 4, 3, 32, 32))


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (STAdapter, {"blocks": 5}, r"blocks is 5; allowed: 1 to 4, or null for all blocks"),
        (STAdapter, {"blocks": 1, "classifier": "text"}, r"blocks is 1, classifier 'text'.* nothing would learn; give"),
        (STAdapter, {"bottleneck": 0}, r"bottleneck is 0; allowed: 1 to 8,192"),
        (STAdapter, {"kernel": (2, 1, 1)}, r"kernel is \(2, 1, 1\); allowed: three odd numbers, 1 to 63"),
        (STAdapter, {"classifier": "both"}, r"classifier is 'both'; allowed: 'linear', 'text'"),
        (AIM, {"ratio": 0.001}, r"ratio is 0.001; allowed: 0.0078125 or more"),
        (AIM, {"drop_path": 1.0}, r"drop_path is 1.0; allowed: 0 to less than 1"),
    ],
)
def test_an_option_that_does_not_fit_is_refused_in_one_sentence(kind, options, message):
    with pytest.raises(ConfigError, match=message):
        built(kind, **options)


def test_clips_of_another_length_are_refused_by_aim():
    method = built(AIM)
    with pytest.raises(ConfigError, match=r"frames is 4, the number of AIM's positions, and clips have 3 frames"):
        method.encode_frames(method.backbone.normalize(clips(frames=3)))


@KINDS
@pytest.mark.parametrize("classifier", ["linear", "text"])
def test_a_step_learns(kind, classifier):
    method = fitted(kind, classifier=classifier, lr=1e-3).train()
    if classifier == "linear":
        method.head.dropout = nn.Identity()
    batch = ClipBatch(clips(3), torch.tensor([0, 1, 2]), ["a", "b", "c"], {})
    optimizer = torch.optim.AdamW(method.parameter_groups())
    losses = []
    for _ in range(6):
        loss = method.training_loss(batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
