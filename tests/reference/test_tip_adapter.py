"""Tip-Adapter and Tip-Adapter-F against the outputs of their released code, with frames in place of an image."""

import pytest
import torch
import torch.nn.functional as F

from tests.reference.golden import close, golden_cases
from vlbench.backbones import OpenAICLIP, OpenCLIP
from vlbench.methods import TipAdapter, TipAdapterF
from vlbench.methods.head_only.features import HeldoutFeatures, TrainingFeatures
from vlbench.methods.head_only.tip_adapter import SCALE, CachedClasses, cache_logits, search

pytestmark = pytest.mark.quick


def clip_of(golden, folder):
    """The backbone of a case, of whose token table only some rows are there."""
    state = {key: value.float() for key, value in golden.starting("clip.").items()}
    table = torch.zeros(49408, golden.facts["config"]["tw"])
    table[golden["clip.token_embedding.row_ids"]] = state.pop("token_embedding.rows")
    del state["token_embedding.row_ids"]
    path = folder / "clip.pt"
    torch.save({**state, "token_embedding.weight": table}, path)
    return OpenAICLIP(str(path))


def means(method, clips):
    with torch.no_grad():
        return method.encode_frames(method.backbone.normalize(clips)).mean(dim=1)


def built(golden, folder, kind=TipAdapterF, **options):
    config = golden.facts["config"]
    recipe = (
        {"epochs": config["train_epoch"], "batch": config["batch"], "lr": config["lr"]} if kind is TipAdapterF else {}
    )
    factors = {"alpha": float(config["init_alpha"]), "beta": float(config["init_beta"])}
    return kind(clip_of(golden, folder), prompts=config["templates"], **factors, **recipe, **options).eval()


def names(golden):
    return [name.replace("_", " ") for name in golden.facts["config"]["names"]]


def grid(golden):
    config = golden.facts["config"]
    return {"scale": tuple(config["search_scale"]), "steps": tuple(config["search_step"])}


@pytest.mark.parametrize("golden", golden_cases("tip_adapter/tip_", "out", "F"))
def test_logits_and_search_from_features(golden):
    """Features are given: the cache, both searches and all logits."""
    values, keys, text = golden["out.cache_values"], golden["out.cache_keys"].T, golden["out.clip_weights"].T
    val, test, labels = golden["out.val_features"], golden["out.test_features"], golden["in.val_labels"]
    config = golden.facts["config"]
    clip_logits = SCALE * val @ text.T
    close(clip_logits, golden["out.val_clip_logits"], 1e-5)
    initial = clip_logits + cache_logits(val @ keys.T, values, config["init_alpha"], config["init_beta"])
    close(initial, golden["out.val_tip_logits_init"], 1e-5)
    beta, alpha = search(clip_logits, val @ keys.T, values, labels, **grid(golden))
    assert (beta, alpha) == pytest.approx((golden.facts["best_beta"], golden.facts["best_alpha"]), rel=1e-6)
    best = SCALE * test @ text.T + cache_logits(test @ keys.T, values, alpha, beta)
    close(best, golden["out.test_tip_logits_best"], 1e-5)
    keys = golden["F.best_weight"]
    beta, alpha = search(clip_logits, val @ keys.T, values, labels, **grid(golden))
    best = SCALE * test @ text.T + cache_logits(test @ keys.T, values, alpha, beta)
    close(best, golden["F.test_tip_logits_best"], 1e-5)


@pytest.mark.parametrize("golden", golden_cases("tip_adapter/tip_", "clip", "in.shots_u8"))
def test_the_whole_of_tip_adapter(golden, tmp_path):
    method = built(golden, tmp_path, TipAdapter)
    passes = torch.stack([means(method, clips) for clips in golden["in.shots_u8"]], dim=1)
    val = F.normalize(means(method, golden["in.val_u8"]), dim=-1)
    close(val, golden["out.val_features"], 1e-5)
    training = TrainingFeatures(passes, golden["in.shots_labels"])
    method.learn_from(training, HeldoutFeatures(val, golden["in.val_labels"]), names(golden))
    close(method.keys, golden["out.cache_keys"].T, 1e-5)
    classes = method.encode_classes(names(golden))
    close(classes.text, golden["out.clip_weights"].T, 1e-5)
    close(classes.values, golden["out.cache_values"].float(), 1e-6)
    best = torch.tensor([golden.facts["best_alpha"], golden.facts["best_beta"]])
    if golden.facts["config"]["search_scale"] == [7, 3]:  # UCF-101's grid, which serves every dataset here
        close(method.factors, best, 1e-6)
    method.set_learned(factors=best)
    frames = method.encode_frames(method.backbone.normalize(golden["in.test_u8"]))
    video = method.pool_frames(frames)
    close(video, golden["out.test_features"], 1e-5)
    close(method.score(video, classes), golden["out.test_tip_logits_best"], 1e-5)


@pytest.mark.parametrize("golden", golden_cases("tip_adapter/tip_", "clip", "in.shots_u8"))
def test_the_training_of_tip_adapter_f(golden, tmp_path):
    method = built(golden, tmp_path)
    passes = torch.stack([means(method, clips) for clips in golden["in.shots_u8"]], dim=1)
    training = TrainingFeatures(passes, golden["in.shots_labels"])
    text, values = golden["out.clip_weights"].T.contiguous(), golden["out.cache_values"].float()
    batch = golden.facts["config"]["batch"]
    keys = training.units.clone().requires_grad_(True)
    logits = method.logits_of(F.normalize(passes[:batch, 0], dim=-1), keys, values, text)
    close(logits, golden["F.step0.logits"], 1e-5)
    F.cross_entropy(logits, training.labels[:batch]).backward()
    close(keys.grad, golden["F.step0.grad"], 1e-4)
    trained, losses = method.train_keys(training, values, text, shuffle=False)
    close(torch.tensor(losses), golden["F.losses"], 1e-5)
    close(trained, golden["F.last.after"], 1e-4)


@pytest.mark.parametrize("golden", golden_cases("tip_adapter/counts"))
def test_numbers_of_parameters_that_train(golden):
    """The keys, of which there are as many as videos; nothing trains in Tip-Adapter."""
    with torch.device("meta"):
        backbones = {512: OpenCLIP("ViT-B-16-quickgelu"), 768: OpenCLIP("ViT-L-14-quickgelu")}
    for case, counts in golden.facts.items():
        width, classes, shots = (
            int(part.partition("=")[2]) for part in case.replace("(", "").replace(")", "").split()[1:]
        )
        if width not in backbones:
            continue  # a ResNet
        for kind, key in ((TipAdapter, "trainable_tip_adapter"), (TipAdapterF, "trainable_tip_adapter_F")):
            method = kind(backbones[width])
            method.set_learned(keys=torch.empty(classes * shots, width, device="meta"))
            assert sum(p.numel() for p in method.parameters() if p.requires_grad) == counts[key], case


def test_a_class_without_cached_videos_is_scored_by_its_text(tmp_path):
    classes = CachedClasses(torch.eye(3), torch.tensor([[1.0, 0, 0]]))
    added = cache_logits(torch.tensor([[0.5]]), classes.values, 3.0, 1.0)
    assert added[0, 1:].tolist() == [0, 0]
    assert added[0, 0] == pytest.approx(3 * torch.tensor(-0.5).exp().item())
