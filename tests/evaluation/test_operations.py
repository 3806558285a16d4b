"""Operations of a test: what arithmetic says, what torch counts of a test that is computed, for every method."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tests.gpu.test_fake import ALWAYS, METHODS, SIZES, classes_of
from vlbench.backbones import TinyCLIP
from vlbench.datasets.descriptions import Descriptions
from vlbench.evaluation.operations import count_test
from vlbench.methods import MSTA, OST, ZeroShot
from vlbench.methods.head_only.base import HeadOnly
from vlbench.methods.parts.checkpoint import state_digest

FRAMES, NAMES = 4, tuple(f"class {index}" for index in range(5))


def test_operations_of_a_view_are_those_of_arithmetic():
    width, tokens, blocks, classes, embed = 128, 17, 4, 5, 128
    block = 12 * tokens * width**2 + 2 * tokens**2 * width  # four projections and an MLP of four widths; attention
    # Of the last block the class token alone is read: keys and values of all tokens, the rest of one.
    last = 2 * tokens * width**2 + 10 * width**2 + 2 * tokens * width
    patches = 16 * (3 * 8 * 8) * width
    frame = patches + (blocks - 1) * block + last + width * embed
    (cost,) = count_test(ZeroShot(TinyCLIP(pretrained=False)).eval(), FRAMES, [NAMES])
    assert cost.view == 2 * (FRAMES * frame + classes * embed)


@pytest.fixture
def single_operations():
    """Has torch compute by operations that its counter knows a formula for, not by fused ones of the CPU."""
    torch.backends.mha.set_fastpath_enabled(False)
    with sdpa_kernel(SDPBackend.MATH):
        yield
    torch.backends.mha.set_fastpath_enabled(True)


# Heads that learn from all training videos at once are tested on banks, of which nothing is counted.
@pytest.mark.parametrize(
    "kind", [kind for kind in METHODS if not issubclass(kind, HeadOnly)], ids=lambda kind: kind.__name__
)
def test_every_method_is_counted_and_left_as_it_is(kind, single_operations):
    method = kind(TinyCLIP(pretrained=False), **SIZES.get(kind.__name__, {}), **ALWAYS.get(kind.__name__, {})).eval()
    sentences = (("it moves",),) * len(NAMES)
    method.train_classes = classes_of(len(NAMES), Descriptions(sentences, sentences))
    if any(parameter.requires_grad for parameter in method.parameters()):
        method.on_fit_start()
    method.requires_grad_(False)  # the counter looks for the graph of what has one
    before, parameters = state_digest(method.state_dict(), set(method.state_dict())), {*method.parameters()}
    with torch.inference_mode(), method.evaluation_weights():
        (cost,) = count_test(method, FRAMES, [NAMES])
        assert cost.reason == ""
        size = method.backbone.image_size
        clip = torch.zeros(1, FRAMES, 3, size, size, dtype=torch.uint8)
        state = method.encode_classes(NAMES)
        with torch.inference_mode(False), torch.no_grad(), FlopCounterMode(display=False) as counter:
            frames = method.encode_frames(method.backbone.normalize(clip))
            method.score(method.pool_frames(frames, state), state)
    # A video decides how many rounds of transport OST makes for it; without values all of them are counted.
    rounds = 1e-3 if kind is OST else 0
    assert cost.view == pytest.approx(counter.get_total_flops(), rel=rounds, abs=0)
    assert (cost.classes > 0) == method.opens_vocabulary
    assert {*method.parameters()} == parameters
    assert not any(parameter.is_meta for parameter in method.parameters())
    assert state_digest(method.state_dict(), set(method.state_dict())) == before


def test_lists_have_costs_of_their_own_and_frames_their_number():
    method = MSTA(TinyCLIP(pretrained=False), blocks=2, bottleneck=64).eval()
    few, many = count_test(method, FRAMES, [NAMES[:2], NAMES])
    assert many.view - few.view == 2 * 3 * method.backbone.embed_dim
    assert many.classes > few.classes
    (twice,) = count_test(method, 2 * FRAMES, [NAMES])
    assert 1.9 < twice.view / many.view < 2.1


def test_what_cannot_be_counted_gives_a_reason_and_no_error():
    class ByValue(ZeroShot):
        def score(self, video, classes):
            return super().score(video, classes) * (1 if video.sum() > 0 else -1)

    method = ByValue(TinyCLIP(pretrained=False)).eval()
    (cost,) = count_test(method, FRAMES, [NAMES])
    assert (cost.view, cost.classes) == (None, None)
    assert "meta" in cost.reason
    assert not any(parameter.is_meta for parameter in method.parameters())
