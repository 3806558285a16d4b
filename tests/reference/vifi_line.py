"""What the golden tests of ViFi-CLIP's line share: one released code, one set of file formats."""

from collections.abc import Callable, Sequence
from pathlib import Path

import open_clip
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.reference.golden import Case, close
from vlbench.backbones import OpenAICLIP
from vlbench.backbones.weight_files import read_released
from vlbench.datasets.specs import ClassList
from vlbench.methods.parts.mixing import MixDraw, Mixing, cutmix_draw
from vlbench.methods.parts.released_files import CONFIGURATIONS
from vlbench.optim import Schedule

_TABLE = ("token_embedding.rows", "token_embedding.row_ids")


def clip_of(
    weights: Case,
    folder: Path,
    checkpoint: Path | None = None,
    texts: Sequence[str] = (),
    renamed: Callable[[dict[str, Tensor]], dict[str, Tensor]] = lambda state: state,
) -> OpenAICLIP:
    """The backbone with the weights `state.*` of a case, of whose token table only some rows are there.

    A case without an image tower gets one of random weights.

    Args:
        weights: Case with the weights.
        folder: Folder that `clip.pt` is written to.
        checkpoint: File whose outputs were computed with its own vectors of the tokens, which then are the table's.
        texts: Texts of the classes whose tokens' vectors the file holds.
        renamed: Gives weights by OpenAI's names, of which those of a case may have others.
    """
    state = renamed({key: value.float() for key, value in weights.state().items() if key not in _TABLE})
    arch = weights.facts["arch"]
    table = torch.zeros(arch.get("vocab", 49408), arch["tw"])
    rows, ids = (weights[f"state.{key}"] for key in _TABLE)
    table[ids] = rows.float()
    if checkpoint is not None:
        tokens = open_clip.get_tokenizer("ViT-B-32")(list(texts))
        held = read_released(checkpoint, as_dictionaries=CONFIGURATIONS)["model"]
        parts = {key.rpartition(".")[2]: value for key, value in held.items() if "prompt_learner" in key}
        if "complete_text_embeddings" in parts:
            table[tokens] = parts["complete_text_embeddings"]
        else:
            table[tokens[:, :1]] = parts["token_prefix"]
            behind, length = 1 + len(parts["ctx"]), parts["token_suffix"].shape[1]
            table[tokens[:, behind : behind + length]] = parts["token_suffix"]
    state |= {"token_embedding.weight": table, "logit_scale": torch.as_tensor(weights.facts["logit_scale"])}
    if "visual.proj" not in state:
        vision = {"image_size": 32, "patch_size": 16, "width": 64, "layers": 1}
        text = {"context_length": 77, "vocab_size": 8, "width": 64, "heads": 1, "layers": 1}
        filler = open_clip.CLIP(state["text_projection"].shape[1], vision, text, quick_gelu=True)
        state |= {key: value for key, value in filler.state_dict().items() if key.startswith("visual.")}
    path = folder / "clip.pt"
    torch.save(state, path)
    return OpenAICLIP(str(path))


def begin_training(method, golden: Case):
    """The method as it is at the start of a training on the classes of a case."""
    names = tuple(golden.facts["class_names"])
    method.train_classes = ClassList(names, tuple(range(len(names))), names, None)
    method.on_fit_start()
    return method.train()


def logits_of(method, pixels: Tensor) -> Tensor:
    return method.training_logits(method.encode_video(pixels), method.train_text())


def forced(golden: Case, kind: str, size: tuple[int, int]) -> MixDraw:
    """The draw of a case, whose batch is one group."""
    facts = golden.facts[kind]
    partners = tuple(facts["permutation"])
    if kind == "mixup":
        return MixDraw(partners, facts["lam"])
    return cutmix_draw(partners, facts["lam_drawn"], size, (facts["cy"], facts["cx"]))


def check_evaluation(method, golden: Case) -> None:
    """Features, logits and fused scores."""
    names = golden.facts["class_names"]
    with torch.no_grad():
        classes = method.encode_classes(names)
        frames = method.encode_frames(golden["in.video"].float())
        logits = method.logit_factor * method.score(method.pool_frames(frames), classes)
        close(frames, golden["out.frame_features"], 1e-5)
        close(method.pool_frames(frames), golden["out.video_features_unit"], 1e-5)
        close(classes, golden["out.class_features_unit"], 1e-5)
        close(logits, golden["out.logits"], 1e-5)
        if "in.views" in golden.keys:
            check_views(method, classes, golden)


def check_views(method, classes, golden: Case) -> None:
    """Logits of several views, and their fused scores."""
    views = [method.score(method.encode_video(view), classes) for view in golden["in.views"].float().unbind(1)]
    cosines = torch.stack(views, dim=1)
    close(method.logit_factor * cosines, golden["out.view_logits"], 1e-5)
    summed = method.fuse_views(cosines) * cosines.shape[1]
    close(summed, golden["out.summed_probabilities"], 1e-5)


def check_class_features(method, golden: Case) -> None:
    """Features of the classes, of a case of the text tower alone."""
    names = golden.facts["class_names"]
    with torch.no_grad():
        close(method.encode_classes(names), golden["out.class_features_unit"], 1e-5)
        begin_training(method, golden)
        close(method.train_text(), golden["out.class_features_unit"], 1e-5)


def check_mixtures(golden: Case) -> None:
    """Mixed pixels and targets of forced draws."""
    targets = Mixing(label_smoothing=golden.facts["mixup"]["smoothing"]).smoothed(
        golden["in.labels"], golden["in.mixup.soft_labels"].shape[1]
    )
    for kind in ("mixup", "cutmix"):
        draw = forced(golden, kind, golden["in.video"].shape[-2:])
        close(draw.targets(targets), golden[f"in.{kind}.soft_labels"], 1e-6)
    # Kept in half precision, as the clips are, of which CutMix only moves pixels.
    assert torch.equal(draw.pixels(golden["in.video"]), golden["in.cutmix.images"].to(golden["in.video"].dtype))


def check_losses(method, golden: Case) -> None:
    """Logits and losses of forced draws."""
    video, labels, classes = golden["in.video"].float(), golden["in.labels"], len(golden.facts["class_names"])
    mixing = Mixing(label_smoothing=golden.facts["mixup"]["smoothing"])
    targets = mixing.smoothed(labels, classes)
    with torch.no_grad():
        for kind in ("mixup", "cutmix"):
            draw = forced(golden, kind, video.shape[-2:])
            soft, pixels = draw.targets(targets), draw.pixels(video)
            close(soft, golden[f"in.{kind}.soft_labels"], 1e-6)
            logits = logits_of(method, pixels)
            close(logits, golden[f"{kind}.logits"], 1e-5)
            close(F.cross_entropy(logits, soft), golden[f"{kind}.loss"], 1e-5)
        if "plain.logits" in golden.keys:
            logits = logits_of(method, video)
            close(logits, golden["plain.logits"], 1e-5)
            close(F.cross_entropy(logits, labels), golden["plain.loss_ce"], 1e-5)
            if "plain.loss_label_smoothing_0.1" in golden.keys:
                close(F.cross_entropy(logits, targets), golden["plain.loss_label_smoothing_0.1"], 1e-5)


def check_gradients(method, golden: Case, parameters: dict[str, Tensor], gradient_of) -> None:
    """Which parameters train, and the gradients of the loss of mixed clips.

    Args:
        method: Method at the start of a training.
        golden: Case of kind `train`.
        parameters: Parameters by their released names.
        gradient_of: Gradient of the parameter with a released name.
    """
    trained = set(golden.facts["trainable"])
    assert {name for name, parameter in parameters.items() if parameter.requires_grad} == trained
    draw = forced(golden, "mixup", golden["in.video"].shape[-2:])
    targets = draw.targets(Mixing().smoothed(golden["in.labels"], len(golden.facts["class_names"])))
    F.cross_entropy(logits_of(method, draw.pixels(golden["in.video"].float())), targets).backward()
    for name, norm in norms(golden.facts, "grad_norms").items():
        if name in trained and norm > 1e-4:
            assert gradient_of(name).norm().item() == pytest.approx(norm, rel=1e-4), name
    for name, expected in golden.starting("grad.").items():
        close(gradient_of(name), expected, 1e-4)


def norms(facts, key: str) -> dict[str, float]:
    return {name: norm for name, norm in facts[key].items() if norm is not None}


def check_steps(method, golden: Case, value_of, noise: Sequence[str] = ()) -> None:
    """Optimizer steps on several batches each, by the norms of what they change and by some of the new values.

    Args:
        method: Method at the start of a training, with the weight decay of the case.
        golden: Case of kind `step`.
        value_of: Value of the parameter with a released name.
        noise: Ends of the names of parameters that have no gradient in exact arithmetic: Adam moves them by rounding.
    """
    facts = golden.facts
    released, rates = facts["param_groups"], facts["lr_at_each_optimizer_step"]
    groups = method.parameter_groups()
    lowest = min(group["lr"] for group in groups)
    places = []  # the released group of each of ours
    for group in groups:
        alike = [
            place
            for place, each in enumerate(released)
            if each["weight_decay"] == group["weight_decay"]
            and rates[0][place] / min(rates[0]) == pytest.approx(group["lr"] / lowest)
        ]
        assert alike, f"no released group is like one with the rate {group['lr']}, decay {group['weight_decay']}"
        places.append(alike[0])
        assert group["betas"] == tuple(released[alike[0]]["betas"])
    tensors = (each.get("n_trainable") or each.get("n_tensors") or len(each["names"]) for each in released)
    assert sum(len(group["params"]) for group in groups) <= sum(tensors)
    optimizer = torch.optim.AdamW(groups)
    assert {optimizer.defaults["eps"]} == {each["eps"] for each in released}
    before = {name: value_of(name).detach().clone() for name in facts["delta_norms"]}
    micro = 0
    for of_step in rates:
        for group, place in zip(optimizer.param_groups, places, strict=True):
            group["lr"] = of_step[place]
        optimizer.zero_grad()
        for _ in range(facts["accumulation_steps"]):
            targets = Mixing().smoothed(golden[f"in.labels{micro}"], len(facts["class_names"]))
            loss = F.cross_entropy(logits_of(method, golden[f"in.video{micro}"].float()), targets)
            (loss / facts["accumulation_steps"]).backward()
            micro += 1
        optimizer.step()
    assert micro == facts["micro_batches"]
    for name, norm in norms(facts, "delta_norms").items():
        if name.endswith(("in_proj_bias", *noise)):  # the keys' part has no gradient in exact arithmetic
            continue
        assert (value_of(name) - before[name]).norm().item() == pytest.approx(norm, rel=1e-3, abs=1e-7), name
    for name, value in golden.starting("after_step.").items():
        close(value_of(name), value, 2e-4)  # Adam amplifies rounding where a gradient is tiny


def check_rates(golden: Case, floor: str = "relative") -> None:
    """Learning rates of every optimizer step, of new parts too, which have ten times the rate of the others.

    Where batches are left over at the end of an epoch, the released clock runs on through them; they are left out.
    """
    for facts in golden.facts["cases"]:
        epochs, batches, together = facts["epochs"], facts["len_loader"], facts["accumulation_steps"]
        updates = batches // together
        if batches % together and updates > 1:
            continue  # updates are not equally far apart
        lag = (batches - together + 1) / batches if updates == 1 else 1 / together
        schedule = Schedule(
            warmup_epochs=facts["warmup_epochs"], final_ratio=0.01, cosine_from="start", lag=lag, floor=floor
        )
        for key, times in (("lr_of_each_optimizer_step", 1), ("lr_of_each_optimizer_step_new_modules", 10)):
            if key in facts:
                rates = [
                    facts["lr"]
                    * times
                    * schedule.factor(step, steps_per_epoch=updates, total_steps=epochs * updates, part=1 / times)
                    for step in range(len(facts[key]))
                ]
                assert rates == pytest.approx(facts[key], rel=1e-6, abs=1e-15)
