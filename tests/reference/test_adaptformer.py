"""AdaptFormer against the outputs of its released code: the video model, and its adapters in a CLIP."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.reference.adapted_clip import (
    begin_training,
    check_features,
    check_gradients,
    check_step,
    clip_of,
    cosines_of,
    number_of_parameters,
)
from tests.reference.golden import close, golden_cases
from vlbench.backbones.blocks import Attention, Block
from vlbench.backbones.layouts import Joint
from vlbench.backbones.weight_files import read_released
from vlbench.methods import AdaptFormer
from vlbench.methods.adaptformer.block import AdaptFormerBlock, Bottleneck
from vlbench.optim import Schedule

pytestmark = pytest.mark.quick

IMAGENET = [torch.tensor(values).view(3, 1, 1, 1) for values in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])]


def layer(adapter, name):
    """A parameter of an adapter by its released name, `...adaptmlp.down_proj.weight`."""
    *_, projection, part = name.split(".")
    return getattr(getattr(adapter, projection.removesuffix("_proj")), part)


# In a CLIP -----------------------------------------------------------------------------------------------------------


def parameter(method, name):
    return layer(method.backbone.image.blocks[int(name.split(".")[1])].adapter, name)


def built(golden, folder):
    config = golden.facts["config"]
    method = AdaptFormer(
        clip_of(golden, folder), bottleneck=config["bn"], dropout=config["drop"], lr=config["lr"],
        weight_decay=config["wd"], scale=golden.facts["scale"],
    )  # fmt: skip
    weights = golden.starting("adapter.")
    assert {f"visual.{name}" for name in weights} == set(golden.facts["trainable"])
    with torch.no_grad():
        for name, value in weights.items():
            parameter(method, name).copy_(value)
    return method


class Forced(nn.Module):
    """Dropout with a mask of all tokens `(B·T, L, d)`, of the class tokens where x has no others."""

    def __init__(self, keep, share):
        super().__init__()
        self.keep, self.share = keep, share

    def forward(self, x):
        return x * self.keep[:, : x.shape[1]] / (1 - self.share)


@pytest.mark.parametrize("golden", golden_cases("adaptformer/adaptformer_clip"))
def test_evaluation_in_a_clip(golden, tmp_path):
    method = built(golden, tmp_path).eval()
    check_features(method, golden, "no_adapter")
    for view in range(golden["in.video_u8"].shape[1]):
        logits = method.logit_factor * cosines_of(method, golden, golden["in.video_u8"][:, view])
        close(logits, golden["video.logits"][:, view], 1e-5)


@pytest.mark.parametrize("golden", golden_cases("adaptformer/adaptformer_clip"))
def test_a_step_in_a_clip(golden, tmp_path):
    method = begin_training(built(golden, tmp_path), golden)
    if method.dropout:
        for block, keep in zip(method.backbone.image.blocks, golden["train.dropout_keep"], strict=True):
            block.adapter.dropout = Forced(keep.float(), method.dropout)
    video = method.encode_video(method.backbone.normalize(golden["in.video_u8"][:, 0]))
    logits = method.training_logits(video, method.train_text())
    loss = F.cross_entropy(logits, golden["in.labels"])
    close(logits, golden["train.logits"], 1e-5)
    close(loss, golden["train.loss"], 1e-5)
    loss.backward()
    check_gradients(golden, "grad.", lambda name: parameter(method, name).grad)
    check_step(method, golden, "after_step.", lambda name: parameter(method, name))


# The released video model --------------------------------------------------------------------------------------------


class Released(nn.Module):
    """The released VideoMAE, of our blocks: tubelets, sine positions, mean over tokens, norm, batch norm, linear head.

    Args:
        state: Weights by their released names.
        config: Sizes of the case.
        scale: Factor on the adapters.
    """

    def __init__(self, state, config, scale):
        super().__init__()
        state = {key: value.float() for key, value in state.items()}
        self.state, self.config = state, config
        self.blocks = nn.ModuleList(self._block(f"blocks.{i}.", scale) for i in range(config["vl"]))
        self.rest = nn.ParameterDict(
            {key.replace(".", "/"): state[key] for key in state if key.startswith(("fc_norm", "head.1"))}
        )
        self.averages = [state[f"head.0.running_{kind}"].clone() for kind in ("mean", "var")]

    def _block(self, prefix, scale):
        width, state = self.config["vw"], self.state
        part = nn.Module()
        for name in ("norm1", "norm2"):
            part.add_module(name, nn.LayerNorm(width, eps=1e-6))
        attention = nn.MultiheadAttention(width, self.config["heads"], batch_first=True)
        part.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        attn = f"{prefix}attn."
        bias = (state[f"{attn}q_bias"], torch.zeros(width), state[f"{attn}v_bias"])
        attention.load_state_dict({
            "in_proj_weight": torch.cat([state[f"{attn}{letter}_proj.weight"] for letter in "qkv"]),
            "in_proj_bias": torch.cat(bias),
            "out_proj.weight": state[f"{attn}proj.weight"], "out_proj.bias": state[f"{attn}proj.bias"],
        })  # fmt: skip
        part.attention = Attention(attention)
        for ours, theirs in (("norm1", "norm1"), ("norm2", "norm2"), ("mlp.0", "fc1"), ("mlp.2", "fc2")):
            own = part.get_submodule(ours)
            own.load_state_dict({key: state[f"{prefix}{theirs}.{key}"] for key in ("weight", "bias")})
        part.requires_grad_(False)
        adapter = Bottleneck(width, self.config["bn"], scale=scale, dropout=0.0, initialization="zero")
        with torch.no_grad():
            for name in state:
                if name.startswith(f"{prefix}adaptmlp."):
                    layer(adapter, name).copy_(state[name])
        return AdaptFormerBlock(Block(part), adapter)

    def named(self, name):
        """A parameter that trains by its released name."""
        if name.startswith("blocks."):
            return layer(self.blocks[int(name.split(".")[1])].adapter, name)
        return self.rest[name.replace(".", "/")]

    def features(self, video):
        """Features `(B, D)` of clips `(B, T, 3, H, W)` uint8."""
        pixels = (video.transpose(1, 2) / 255 - IMAGENET[0]) / IMAGENET[1]
        patch = self.config["patch"]
        weight, bias = (self.state[f"patch_embed.proj.{part}"] for part in ("weight", "bias"))
        x = F.conv3d(pixels, weight, bias, stride=(2, patch, patch)).flatten(2).transpose(1, 2)
        place = torch.arange(x.shape[1], dtype=torch.float64)[:, None]
        angle = place / 10_000 ** (2 * (torch.arange(x.shape[2]) // 2) / x.shape[2])
        x = x + torch.where(torch.arange(x.shape[2]) % 2 == 0, angle.sin(), angle.cos()).float()
        for block in self.blocks:
            x = block(x, Joint(self.config["T"] // 2))
        x = x.mean(dim=1)
        return F.layer_norm(x, x.shape[1:], self.named("fc_norm.weight"), self.named("fc_norm.bias"), eps=1e-6)

    def logits(self, features):
        normed = F.batch_norm(features, *self.averages, training=self.training, eps=1e-6)
        return F.linear(normed, self.named("head.1.weight"), self.named("head.1.bias"))


def check_views(model, golden):
    with torch.no_grad():
        views = [model.features(view) for view in golden["in.video_u8"].unbind(1)]
        logits = torch.stack([model.logits(features) for features in views], dim=1)
        close(torch.stack(views, dim=1), golden["out.video_feature"], 1e-5)
        close(logits, golden["out.logits"], 1e-5)
        # What is averaged over the views: the method's default.
        assert AdaptFormer.PAPER["view_fusion"] == "logits"
        close(logits.mean(dim=1), golden["out.view_mean_logits"], 1e-5)


@pytest.mark.parametrize("golden", golden_cases("adaptformer/adaptformer_video", "state"))
def test_the_released_video_model(golden):
    model = Released(golden.state(), golden.facts["config"], golden.facts["scale"]).eval()
    check_views(model, golden)
    model.train()
    logits = model.logits(model.features(golden["in.video_u8"][:, 0]))
    loss = F.cross_entropy(logits, golden["in.labels"])
    close(logits, golden["train.logits"], 1e-5)
    close(loss, golden["train.loss"], 1e-5)
    loss.backward()
    check_gradients(golden, "grad.", lambda name: model.named(name).grad)


@pytest.mark.parametrize("golden", golden_cases("adaptformer/adaptformer_video", "files"))
def test_a_released_checkpoint_of_the_video_model(golden):
    content = read_released(golden.file("checkpoint"), as_dictionaries=("argparse.Namespace",))
    assert set(content["model"]) == set(golden.facts["checkpoint_keys"])
    check_views(Released(content["model"], golden.facts["config"], golden.facts["scale"]).eval(), golden)


# Recipe --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("golden", golden_cases("adaptformer/schedule"))
def test_learning_rates(golden):
    for case in golden.facts.values():
        schedule = Schedule(warmup_epochs=case["warmup_epochs"])
        per_epoch = case["steps_per_epoch"]
        for step, expected in enumerate(case["lr_used_at_step"]):
            factor = schedule.factor(step, steps_per_epoch=per_epoch, total_steps=per_epoch * case["epochs"])
            assert case["base_lr"] * factor == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("golden", golden_cases("adaptformer/init_stats", "values"))
def test_initial_values(golden):
    torch.manual_seed(0)
    kinds = {"image": "zero", "video": "truncated_normal"}
    adapters = {kind: Bottleneck(768, 64, scale=0.1, dropout=0.0, initialization=name) for kind, name in kinds.items()}
    for name, stats in golden.facts["values"].items():
        if "adaptmlp" in name:
            values = layer(adapters[name.partition(".")[0]], name)
            assert list(values.shape) == stats["shape"]
            assert values.std().item() == pytest.approx(stats["std"], rel=0.05)
            assert values.max().item() == pytest.approx(stats["max"], rel=0.2)


@pytest.mark.parametrize("golden", golden_cases("adaptformer/counts"))
def test_numbers_of_parameters(golden):
    for name, counts in golden.facts.items():
        if name.startswith("CLIP "):
            model = f"{name.split()[1].replace('/', '-')}-quickgelu"
            assert number_of_parameters(AdaptFormer, model) == counts["trainable"]
        elif "bottleneck" not in name:  # of the video model's adapters, without its head
            assert number_of_parameters(AdaptFormer, "ViT-B-16-quickgelu") == counts["adapters"]
