"""Every method on every kind of backbone, on a pretended GPU: no mixed devices, no copies in the middle of a step.

A method is tested by being exported from `vlbench.methods`.
"""

import pytest
import torch
import torch.nn.functional as F

import vlbench.methods
from vlbench.backbones import InternVideo2, OpenCLIP, TinyCLIP, ViCLIP, VideoNetwork
from vlbench.backbones.internvideo2_parts import InternVideo2Sizes
from vlbench.backbones.viclip_parts import ViCLIPSizes
from vlbench.clips.batch import Box, ClipBatch, PackedVideos, ViewBatch
from vlbench.datasets.descriptions import Descriptions
from vlbench.datasets.specs import ClassList, EvaluationSet, Subset
from vlbench.errors import ConfigError
from vlbench.evaluation.evaluator import Evaluator
from vlbench.methods import VideoTextMethod
from vlbench.tools.memory.fake_cuda import fake_cuda

pytestmark = pytest.mark.usefixtures("untraced", "pretended_gpu")

METHODS = [
    method for name in vlbench.methods.__all__ if (method := getattr(vlbench.methods, name)) is not VideoTextMethod
]
BACKBONES = {
    "tiny": lambda: TinyCLIP(pretrained=False),
    "ViT-B-16": lambda: OpenCLIP("ViT-B-16-quickgelu"),
    "ViCLIP": lambda: ViCLIP("small", sizes=ViCLIPSizes(64, 32, 8, 64, 2, 1, 64, 2, 1)),
    "InternVideo2": lambda: InternVideo2(
        "small", sizes=InternVideo2Sizes(64, 64, 32, 8, 64, 2, 1, 4, 64, 2, 1, frames=4)
    ),
    "SlowFast": lambda: VideoNetwork("slowfast_r50", frames=4, image_size=32),
}
CLASSES, FRAMES = 5, 4
# Sizes that fit small towers, where a method's own do not.
SIZES = {
    "MSTA": {"blocks": 2, "bottleneck": 64}, "VLPrompting": {"image_depth": 2, "text_depth": 2},
    "MMA": {"first_block": 1, "last_block": 2}, "EfficientPrompt": {"text_tokens": 4},
}  # fmt: skip
# Options that every backbone needs.
ALWAYS = {"XCLIP": {"frames": FRAMES}, "AIM": {"frames": FRAMES}}


@pytest.fixture(params=["fp32", "bf16"])
def precision(request):
    return request.param


@pytest.fixture(params=METHODS, ids=lambda method: method.__name__)
def make(request):
    return request.param


@pytest.fixture(params=BACKBONES)
def method(request, make):
    trains = "training" in request.node.originalname
    if request.param == "ViT-B-16" and not (trains and request.getfixturevalue("precision") == "bf16"):
        pytest.skip("the tiny CLIP stands for it; of this one the usual training is made")
    options = {} if request.param == "ViT-B-16" else SIZES.get(make.__name__, {})
    with torch.device("meta"):
        backbone = BACKBONES[request.param]()
        try:
            built = make(backbone, **ALWAYS.get(make.__name__, {}), **options)
        except ConfigError as error:
            pytest.skip(f"refused: {error}")
    sentences = (("it moves",),) * CLASSES
    built.train_classes = classes_of(CLASSES, Descriptions(sentences, sentences))
    return built


def classes_of(count, descriptions=None):
    names = tuple(f"class {index}" for index in range(count))
    return ClassList(names, tuple(range(count)), names, descriptions)


def pretended_clips(cuda, method, *shape):
    size = method.backbone.image_size
    return cuda.pretend(torch.empty(*shape, 3, size, size, dtype=torch.uint8, device="meta"))


def autocast(precision):
    return torch.autocast("cuda", dtype=torch.bfloat16, enabled=precision == "bf16")


def test_a_training_step_copies_nothing_and_waits_for_nothing(method, precision):
    if not any(parameter.requires_grad for parameter in method.parameters()):
        pytest.skip(f"{method.name} trains nothing")
    with fake_cuda() as cuda:
        cuda.move(method)
        method.on_fit_start()
        labels = cuda.pretend(torch.empty(8, dtype=torch.int64, device="meta"))  # groups of 4 and of 8 divide it
        batch = ClipBatch(pretended_clips(cuda, method, 8, FRAMES), labels, list("abcdefgh"), {})
        cuda.to_device.clear()
        cuda.to_host.clear()
        with autocast(precision):
            terms = method.training_loss(batch)
        assert {term.device.type for term in terms.values()} == {"cuda"}
        assert terms["loss"].dtype == torch.float32
        assert terms["loss"].requires_grad
        assert cuda.to_device == []
        assert cuda.to_host == []
        assert torch.float32 in cuda.products  # the logits
        assert (torch.bfloat16 in cuda.products) == (precision == "bf16")


def test_an_evaluation_scores_several_sets(method, precision):
    if not getattr(method, "known_names", True):
        pytest.skip(f"{method.name} has learned no classes")
    sets = [
        EvaluationSet(Subset(classes="base"), classes_of(CLASSES), {"a": 0, "b": 1}, "base"),
        EvaluationSet(Subset(classes="novel"), classes_of(2), {"b": 0, "c": 1}, "novel"),
    ][: 2 if method.opens_vocabulary else 1]  # the first has the training classes
    with fake_cuda() as cuda:
        cuda.move(method)
        if any(parameter.requires_grad for parameter in method.parameters()):
            method.on_fit_start()
        size = method.backbone.image_size
        pixels = pretended_clips(cuda, method, 3, 2, FRAMES).flatten()
        videos = PackedVideos(pixels, [(2, FRAMES, size, size, 3)] * 3)
        batch = ViewBatch(videos, [(Box(0, 0, size, size),)] * 3, ["a", "b", "c"], {}, at_once=3)
        with autocast(precision), method.evaluation_weights():
            evaluator = Evaluator(method, sets)
            cuda.to_device.clear()
            predictions = evaluator.predict(batch)
        assert [part.ids for part in predictions] == [["a", "b"], ["b", "c"]][: len(sets)]
        assert [tuple(part.scores.shape) for part in predictions] == [(2, CLASSES), (2, 2)][: len(sets)]
        assert {part.scores.device.type for part in predictions} == {"cpu"}
        assert {part.scores.dtype for part in predictions} == {torch.float32}


def test_features_of_videos_and_texts(method, precision):
    with fake_cuda() as cuda, torch.no_grad(), autocast(precision):
        cuda.move(method)
        clips = method.backbone.normalize(pretended_clips(cuda, method, 3, FRAMES))
        video = method.encode_video(clips)
        text = method.encode_text(method.train_classes.names[:2]) if method.opens_vocabulary else None
    # Of a method whose text depends on the video, what the text is made of comes with the features.
    video = video if isinstance(video, torch.Tensor) else video.video
    linear = None if method.opens_vocabulary else getattr(method, "head", None)
    width = method.backbone.embed_dim if linear is None else linear.weight.shape[1]
    assert (video.device.type, len(video), video.shape[-1]) == ("cuda", 3, width)
    assert text is None or (text.device.type, tuple(text.shape)) == ("cuda", (2, method.backbone.embed_dim))


def test_a_pretended_gpu_refuses_mixed_devices_and_counts_copies():
    with fake_cuda() as cuda:
        here, there = torch.ones(3), cuda.pretend(torch.ones(3))
        with pytest.raises(RuntimeError, match="device"):
            here + there
        assert (here.to(there.device) + there).device.type == "cuda"
        assert cuda.to_device == [(3,)]
        there.cpu()
        assert cuda.to_host == ["copy"]


@pytest.mark.parametrize(
    "operation",
    [
        lambda wide, narrow: wide @ narrow,
        lambda wide, narrow: wide @ narrow[0],
        lambda wide, narrow: wide[None] @ narrow[None],
        lambda wide, narrow: F.linear(narrow, wide, wide[0]),
        lambda wide, narrow: F.linear(narrow, narrow, wide[0]),
        lambda wide, narrow: F.conv1d(narrow, wide[..., None]),
        lambda wide, narrow: F.layer_norm(narrow, (8,), wide[0], wide[0]),
        lambda wide, narrow: F.scaled_dot_product_attention(wide[None, None], narrow[None, None], narrow[None, None]),
        lambda wide, narrow: wide.__setitem__(wide > 0, narrow[0]),
        lambda wide, narrow: wide.index_add_(0, (wide[0] > 0).long(), narrow),
        lambda wide, narrow: wide.index_copy_(0, (wide[0] > 0).long(), narrow),
    ],
)
def test_a_pretended_gpu_refuses_mixed_dtypes(operation):
    """Torch does not look where it works out shapes alone, and bfloat16 beside float32 is the common fault."""
    with fake_cuda() as cuda:
        wide, narrow = (cuda.pretend(torch.ones(8, 8, dtype=dtype)) for dtype in (torch.float32, torch.bfloat16))
        operation(wide, narrow.float())
        with pytest.raises(RuntimeError, match="one dtype"):
            operation(wide, narrow)
