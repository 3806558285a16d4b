"""What the golden tests of adapters on CLIP share: the files of LoRA, MMA and AdaptFormer have one format."""

import sys
from pathlib import Path
from types import SimpleNamespace

import open_clip
import torch
from torch import Tensor

from tests.reference.golden import Case, close
from vlbench.backbones import OpenAICLIP, OpenCLIP
from vlbench.cli.main import main
from vlbench.datasets.specs import ClassList

VOCABULARY = 49_408


def cases_where(cases: list, wanted) -> list:
    """Parameters whose case has a description that is wanted; a skipped parameter stays."""
    return [case for case in cases if case.values[0] is None or wanted(case.values[0].facts["config"])]


def clip_of(golden: Case, folder: Path) -> OpenAICLIP:
    """The backbone with the weights `clip.*` of a case, of whose token table only some rows are there."""
    state = {key: value.float() for key, value in golden.starting("clip.").items()}
    rows, ids = state.pop("token_embedding.rows"), golden["clip.token_embedding.row_ids"]
    del state["token_embedding.row_ids"]
    state["token_embedding.weight"] = torch.zeros(VOCABULARY, rows.shape[1]).index_copy(0, ids, rows)
    torch.save(state, folder / "clip.pt")
    return OpenAICLIP(str(folder / "clip.pt"))


def begin_training(method, golden: Case):
    """The method as it is at the start of a training on the classes of a case."""
    names = tuple(golden.facts["config"]["names"])
    method.train_classes = ClassList(names, tuple(range(len(names))), names, None)
    method.on_fit_start()
    return method.train()


def image_of(golden: Case) -> Tensor:
    """First frame of the first view, clips `(B, 1, 3, H, W)`: what the released methods of images see."""
    return golden["in.video_u8"][:, 0, :1]


def check_features(method, golden: Case, plain: str) -> None:
    """Class, frame and video features, with the adapters and, under names with `plain`, without.

    Args:
        method: Method with the weights of the case, in evaluation mode.
        golden: Case whose features are compared.
        plain: What the released names of features without adapters end with.
    """
    backbone, video = method.backbone, golden["in.video_u8"]
    texts = method.texts(golden.facts["config"]["names"])
    assert texts == golden.facts["prompts"]
    with torch.no_grad(), method.evaluation_weights():
        tokens = backbone.tokenize(texts)
        assert torch.equal(tokens, golden["in.token_ids"][:, : tokens.shape[1]])
        close(backbone.encode_texts(texts), golden["out.class_features"], 1e-5)
        for view in range(video.shape[1]):
            frames = method.encode_frames(backbone.normalize(video[:, view]))
            close(frames, golden["out.frame_features"][:, view], 1e-5)
            close(frames.mean(dim=1), golden["video.features"][:, view], 1e-5)
        first = backbone.normalize(video[:1, 0])
        close(backbone.encode_frames(first, adapted=False)[0], golden[f"out.frame_features_{plain}_first"], 1e-5)
        if f"out.class_features_{plain}" in golden.keys:
            close(backbone.encode_texts(texts, adapted=False), golden[f"out.class_features_{plain}"], 1e-5)


def cosines_of(method, golden: Case, clips: Tensor) -> Tensor:
    """Cosines `(B, C)` of clips `(B, T, 3, H, W)` uint8 with the classes of a case, as an evaluation has them."""
    with torch.no_grad(), method.evaluation_weights():
        classes = method.encode_classes(golden.facts["config"]["names"])
        return method.score(method.encode_video(method.backbone.normalize(clips)), classes)


def check_gradients(golden: Case, prefix: str, gradient_of) -> None:
    """Gradients of a case.

    Args:
        golden: Case with gradients by the released names.
        prefix: Beginning of the gradients' names in the case.
        gradient_of: Gradient of the parameter with a released name.
    """
    expected = golden.starting(prefix)
    assert expected
    for name, value in expected.items():
        close(gradient_of(name), value, 1e-4)


def check_step(method, golden: Case, prefix: str, value_of, tolerance: float = 1e-5) -> None:
    """Weights after the first step of the method's own optimizer, whose gradients are there already.

    Args:
        method: Method after a backward pass.
        golden: Case with weights after a step, and the options of the released optimizer.
        prefix: Beginning of the weights' names in the case.
        value_of: Value of the parameter with a released name.
        tolerance: Allowed difference, as a part of the largest expected value.
    """
    released = golden.facts["optimizer"]
    method.trainer = SimpleNamespace(precision="32-true", gradient_clip_val=None)
    optimizer = method.build_optimizer(method.parameter_groups())
    (group,) = optimizer.param_groups
    assert type(optimizer).__name__ == released["name"]
    for option in ("lr", "weight_decay", "momentum", "nesterov", "dampening", "eps"):
        assert group.get(option) == released.get(option, group.get(option))
    assert group.get("betas") == (tuple(released["betas"]) if "betas" in released else None)
    before = {name: value_of(name).detach().clone() for name in golden.starting(prefix)}
    optimizer.step()
    for name, value in golden.starting(prefix).items():
        assert not torch.equal(value_of(name), before[name])
        close(value_of(name), value, tolerance)


def check_tokens(method, golden: Case) -> None:
    """Texts of class names and their tokens in CLIP's vocabulary."""
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    names = list(golden.facts["token_ids"])
    texts = method.texts(names)
    assert texts == [golden.facts["template"].format(name.replace("_", " ")) for name in names]
    for ids, name in zip(tokenizer(texts).tolist(), names, strict=True):
        expected = golden.facts["token_ids"][name]
        assert ids[: len(expected)] == expected
        assert not any(ids[len(expected) :])


def number_of_parameters(kind, model: str, **options) -> int:
    """Trainable parameters of a method on an architecture of open_clip."""
    with torch.device("meta"):
        method = kind(OpenCLIP(model), **options)
    return sum(parameter.numel() for parameter in method.parameters() if parameter.requires_grad)


def imported(kind, golden: Case, folder: Path, monkeypatch, **options):
    """The method with the weights that `vlbench weights import` makes of a case's released file."""
    monkeypatch.setattr(sys, "argv", ["vlbench"])
    clip, out = str(golden.file("clip_pretrained")), folder / "imported.ckpt"
    words = ["weights", "import", kind.name, str(golden.file("checkpoint")), "--backbone", clip, "--out", str(out)]
    assert main(words) == 0
    method = kind(OpenAICLIP(clip), **options).eval()
    checkpoint = torch.load(out, weights_only=True)
    method.on_load_checkpoint(checkpoint)
    method.load_state_dict(checkpoint["state_dict"], strict=True)
    return method


def check_imported(method, golden: Case, of_image: str, of_video: str) -> None:
    """Scores of an imported method: logits, or cosines where the released name says so.

    Args:
        method: Method with imported weights.
        golden: Case with the scores of the released code.
        of_image: Released name of the scores of single frames.
        of_video: Released name of the scores of every view.
    """
    for name, clips in ((of_image, image_of(golden).unsqueeze(1)), (of_video, golden["in.video_u8"])):
        factor = 1.0 if name.endswith("cosine") else method.logit_factor
        scores = torch.stack([factor * cosines_of(method, golden, view) for view in clips.unbind(1)], dim=1)
        close(scores if golden[name].ndim == 3 else scores[:, 0], golden[name], 1e-5)
