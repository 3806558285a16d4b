"""What the golden tests of adapters with a linear head share: released files that hold an image tower alone."""

from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from open_clip.transformer import QuickGELU, ResidualAttentionBlock
from torch import Tensor, nn

from tests.reference.golden import Case, close
from vlbench.backbones import OpenAICLIP
from vlbench.backbones.blocks import Block, adopt_blocks
from vlbench.clips.batch import ClipBatch
from vlbench.datasets.specs import ClassList


def clip_of(tower: dict[str, Tensor], path: Path) -> OpenAICLIP:
    """A CLIP with the weights of an image tower by OpenAI's names, whose projection and text tower are random.

    Args:
        tower: Weights in half precision's numbers, adapters among them are left out.
        path: File in OpenAI's format that is written.
    """
    width = len(tower["class_embedding"])
    vision = {"image_size": 32, "patch_size": 16, "width": width, "layers": 1}
    text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1}
    torch.manual_seed(0)
    filler = open_clip.CLIP(32, vision, text, quick_gelu=True).half().state_dict()
    state = {key: value for key, value in filler.items() if not key.startswith("visual.") or key == "visual.proj"}
    parts = ("attn", "ln_1", "ln_2", "mlp")
    own = {
        name: value
        for name, value in tower.items()
        if name.startswith(("class_", "positional_", "conv1", "ln_p"))
        or (name.startswith("transformer.") and name.split(".")[3] in parts)
    }
    assert all(torch.equal(value.float(), value.half().float()) for value in own.values())
    torch.save({**state, **{f"visual.{name}": value for name, value in own.items()}}, path)
    return OpenAICLIP(str(path))


def block_of(golden: Case) -> Block:
    """The block of CLIP in a case of one block, without its adapters."""
    config = golden.facts["config"]
    loaded = ResidualAttentionBlock(config["width"], config["heads"], act_layer=QuickGELU)
    own = {name: value.float() for name, value in golden.state().items() if name.startswith(("attn.", "ln_", "mlp."))}
    loaded.load_state_dict(own)
    (block,) = adopt_blocks(nn.ModuleList([loaded]), causal=False)
    return block


def train_on(method, names):
    """The method as it is at the start of a training on some classes."""
    names = tuple(names)
    method.train_classes = ClassList(names, tuple(range(len(names))), names, None)
    method.on_fit_start()
    return method


class Kept(nn.Module):
    """Dropout with a draw that is given; `None` drops nothing."""

    def __init__(self, keep: Tensor | None) -> None:
        super().__init__()
        self.keep = keep

    def forward(self, x: Tensor) -> Tensor:
        return x if self.keep is None else x * self.keep * 2


def loss_of(method, golden: Case, keep: Tensor | None) -> Tensor:
    """The loss of the first views, with a draw of the head's dropout."""
    method.head.dropout = Kept(keep)
    video = golden["in.video_u8"][:, 0]
    return method.training_loss(ClipBatch(video, golden["in.labels"], [str(k) for k in range(len(video))], {}))["loss"]


def check_scores(method, golden: Case, features: Tensor) -> None:
    """Logits of views, and scores of videos.

    Args:
        method: Method with the weights of the case, in evaluation mode.
        golden: Case with `out.logits` and `out.scores`.
        features: Frame features of all views.
    """
    expected = golden["out.logits"]
    with torch.no_grad():
        logits = method.score(method.pool_frames(features), method.encode_classes(["a name"]))
        logits = logits.unflatten(0, expected.shape[:2])
        close(method.logit_factor * logits, expected, 1e-5)
        close(method.fuse_views(logits), golden["out.scores"], 1e-5)
        if "out.one_view_scores" in golden.keys:
            close(method.fuse_views(logits[:, :1]), golden["out.one_view_scores"], 1e-5)


def check_gradients(method, golden: Case, ours, *, dead: tuple[str, ...] = ()) -> None:
    """Which parameters train, and their gradients.

    Args:
        method: Method after the backward pass of the case's loss.
        golden: Case with `grad_norms` and `grad.NAME`.
        ours: Our name of a parameter by its released one.
        dead: Beginnings of the released names of what counts as trained and has no gradient here, zeros there.
    """
    parameters = dict(method.named_parameters())
    for name, norm in golden.facts["grad_norms"].items():
        parameter = parameters[ours(name)]
        assert parameter.requires_grad == (norm is not None), name
        if name.startswith(dead):
            assert norm == 0
            assert parameter.grad is None
        elif norm:
            assert parameter.grad.norm().item() == pytest.approx(norm, rel=1e-4), name
    for name, expected in golden.starting("grad.").items():
        if not name.startswith(dead):
            close(parameters[ours(name)].grad.reshape(expected.shape), expected, 1e-4)


def optimized(facts: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """Learning rate and weight decay of each parameter by its released name, of the `optimizer` of a case."""
    if "per_param" in facts:
        return {name: (each["lr"], each["weight_decay"]) for name, each in facts["per_param"].items()}
    return {name: (group["lr"], group["weight_decay"]) for group in facts["groups"] for name in group["params"]}


def check_step(method, golden: Case, ours, *, dead: tuple[str, ...] = ()) -> None:
    """Learning rates and decays of all parameters, and what one step of AdamW makes of them.

    Args:
        method: Method after the backward pass of the case's loss.
        golden: Case with `optimizer` and `after_step.NAME`.
        ours: Our name of a parameter by its released one.
        dead: Beginnings of the released names of what the released code only decays, which stays as it is here.
    """
    parameters, facts = dict(method.named_parameters()), golden.facts["optimizer"]
    groups = method.parameter_groups()
    settings = {id(each): (group["lr"], group["weight_decay"]) for group in groups for each in group["params"]}
    expected = optimized(facts)
    assert len(settings) == len(expected)
    for name, values in expected.items():
        assert settings[id(parameters[ours(name)])] == pytest.approx(values), name
    optimizer = torch.optim.AdamW(groups)
    assert optimizer.defaults["betas"] == tuple(facts["betas"])
    assert optimizer.defaults["eps"] == facts["eps"]
    before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    optimizer.step()
    for name, value in golden.starting("after_step.").items():
        if name.startswith(dead):
            lr, decay = expected[name]
            close(before[ours(name)] * (1 - lr * decay), value, 1e-5)
            assert torch.equal(parameters[ours(name)], before[ours(name)])
        else:
            close(
                parameters[ours(name)].reshape(value.shape), value, 2e-4
            )  # Adam amplifies rounding where a gradient is tiny
