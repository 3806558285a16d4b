"""What the golden tests of Open-VCLIP and FROSTER share: one released code, one set of file formats."""

import json
from types import SimpleNamespace

import pytest
import torch

from tests.reference.golden import Case, close
from vlbench.backbones import OpenAICLIP
from vlbench.datasets.specs import ClassList
from vlbench.optim import Schedule

VOCABULARY = 49_408


def beside(golden, name):
    return Case(golden.folder / f"{name}.json")


def whole_state(case, prefix):
    """Weights of a CLIP by OpenAI's names; of the table of tokens some rows are there, the others are zero."""
    state = {name: value.float() for name, value in case.starting(prefix).items()}
    ids, rows = state.pop("token_embedding.row_ids").long(), state.pop("token_embedding.rows")
    table = torch.zeros(VOCABULARY, rows.shape[1])
    table[ids] = rows
    return {**state, "token_embedding.weight": table}


def clip_of(golden, folder):
    """The backbone with the original weights of a case's folder, and the file that it is read from."""
    path = folder / "clip.pt"
    torch.save(whole_state(beside(golden, "clip_state"), "state."), path)
    return OpenAICLIP(str(path)), str(path)


def give(method, state):
    """Gives a method weights by the keys of its state dict."""
    keys = method.state_dict().keys()
    assert state.keys() <= keys
    method.load_state_dict(state, strict=False)


def begin(method, names, stage="fit"):
    """The method as it is at the start of a training on these classes."""
    classes = ClassList(tuple(names), tuple(range(len(names))), tuple(names))
    method.use(SimpleNamespace(train_classes=classes))
    method.setup(stage)
    if stage == "fit":
        method.on_fit_start()
    return method


def check_views(method, golden, names):
    """Features of frames, logits of views and sums over the views, of a case `in.video_u8` [N, V, T, 3, H, W]."""
    video = method.backbone.normalize(golden["in.video_u8"])
    count, views = video.shape[:2]
    with torch.no_grad(), method.evaluation_weights():
        classes = method.encode_classes(names)
        frames = method.encode_frames(video.flatten(0, 1))
        scores = method.score(method.pool_frames(frames), classes).unflatten(0, (count, views))
        close(frames.unflatten(0, (count, views)), golden["out.frame_features"], 1e-5)
        close(method.logit_factor * scores, golden["out.view_logits"], 1e-5)
        close(views * method.fuse_views(scores), golden["out.video_preds"], 1e-5)
    return classes


def check_step(method, golden, step, optimizer, parameters):
    """An optimizer step from gradients that are there: their norm, and the weights that the step leaves.

    Args:
        method: Method whose gradients are those of step `step`.
        golden: Case of kind `train_step`.
        step: Number of the step, from 0.
        optimizer: AdamW with the method's groups.
        parameters: Parameters by their released names.
    """
    norm = torch.nn.utils.clip_grad_norm_([value for value in method.parameters() if value.grad is not None], 1.0)
    assert norm.item() == pytest.approx(golden.facts["total_norm_before_clip"][step], rel=1e-4)
    rate = golden.facts["lr"][step]
    for group in optimizer.param_groups:
        group["lr"] = rate[0] if isinstance(rate, list) else rate
    optimizer.step()
    for name, value in golden.starting(f"after_step{step + 1}.").items():
        close(parameters[name], value, 2e-4)  # Adam amplifies rounding where a gradient is tiny


def check_groups(method, golden, names_of):
    """Weight decay and betas of every parameter that trains."""
    expected = {name: group for group in golden.facts["param_groups"] for name in group["names"]}
    optimizer = torch.optim.AdamW(method.parameter_groups())
    seen = set()
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            name = names_of[id(parameter)]
            seen.add(name)
            assert group["weight_decay"] == expected[name]["weight_decay"], name
            assert (list(group["betas"]), group["eps"]) == (expected[name]["betas"], expected[name]["eps"])
    return optimizer, seen


def check_rates(golden):
    """Learning rates of released recipes."""
    for facts in golden.facts["cases"].values():
        schedule = Schedule(
            warmup_epochs=facts["warmup"], final_ratio=facts["end_lr"] / facts["base_lr"],
            initial_ratio=facts["start_lr"] / facts["base_lr"],
        )  # fmt: skip
        per_epoch = facts["n"]
        for epoch, iteration, rate in facts["rows"]:
            step = epoch * per_epoch + iteration
            factor = schedule.factor(step, steps_per_epoch=per_epoch, total_steps=facts["epochs"] * per_epoch)
            assert facts["base_lr"] * factor == pytest.approx(rate, rel=1e-6)


def check_mean(golden, average):
    """The mean of released checkpoints of the epochs that count.

    Args:
        golden: Case of kind `swa`.
        average: Function of a list of tensors, one an epoch, that gives their mean.
    """
    for name, expected in golden.starting("out.").items():
        values = [golden[f"in.epoch{epoch}.{name}"] for epoch in golden.facts["averaged"]]
        close(average(values), expected, 1e-6)


def running_mean(values):
    """The mean as a training has it, epoch after epoch."""
    from torch.optim.swa_utils import get_swa_multi_avg_fn

    mean = [values[0].clone()]
    for count, value in enumerate(values[1:], start=1):
        get_swa_multi_avg_fn()(mean, [value], count)
    return mean[0]


def write_json(path, content):
    path.write_text(json.dumps(content))
    return str(path)
