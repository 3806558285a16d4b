"""Defects put into vlbench on purpose.

`python -m tests.cli.mutants NAME` is a server of stages, as `vlbench.cli.worker` is, whose vlbench has one of them.
"""

import sys
from types import SimpleNamespace

import torch
import torch.nn.functional as F

import vlbench.datasets.synthetic
from vlbench.cli.worker import run
from vlbench.clips import sampling, transforms
from vlbench.methods.mote.head import ExpertMLP
from vlbench.methods.msta.module import MSTA
from vlbench.methods.parts import class_features
from vlbench.methods.parts.multimodal_adapter import BlockAdapter
from vlbench.protocols.server import serve


def none():
    """vlbench as it is."""


def temporal_convolution_off():
    BlockAdapter.video = lambda self, x: self.video_up(self._bottleneck(x, self.video_down)) + self.temporal_up.bias


def experts_not_merged():
    """One expert instead of their mean: the last, which training draws most often."""
    ExpertMLP.evaluation_route = lambda self: F.one_hot(torch.tensor(3), 4).float()


def labels_shifted():
    read = vlbench.datasets.synthetic.read_path_label

    def shifted(annotations, root):
        return [item._replace(label=(item.label + 1) % 16) for item in read(annotations, root)]

    vlbench.datasets.synthetic.read_path_label = shifted


def scale_zero():
    """MSTA's lambda; the constructor refuses 0."""
    for side in ("video", "text"):
        adapt = getattr(BlockAdapter, side)
        setattr(BlockAdapter, side, lambda self, x, adapt=adapt: 0 * adapt(self, x))


def text_not_normalised():
    class_features.F = SimpleNamespace(normalize=lambda features, dim: features)


def test_frames_reversed():
    in_order = sampling.uniform_test
    sampling.uniform_test = lambda *arguments: [clip[::-1] for clip in in_order(*arguments)]


def all_frames_reversed():
    """In training as well, where one direction is as good as the other."""
    test_frames_reversed()
    in_order = sampling.uniform_train
    sampling.uniform_train = lambda *arguments, **options: in_order(*arguments, **options)[::-1]


def consistency_off():
    MSTA.consistency_loss = lambda self, text: 0 * text.sum()


def test_crop_at_corner():
    transforms._offsets = lambda free_height, free_width, crops, right_edge: [(0, 0)] * crops


def _of(method, half="base"):
    return f"base_to_novel-synthetic-{method}-test-{half}-split1"


CAUGHT_BY = {
    "none": set(),
    "temporal_convolution_off": {(_of("msta_untrained"), "cosine"), (_of("msta-16shot"), "updated_tensors")},
    "experts_not_merged": {(_of("mote_untrained"), "cosine")},
    "labels_shifted": {(_of("zero_shot"), "top1"), (_of("zero_shot"), "lead")},
    "scale_zero": {(_of("msta_untrained"), "cosine"), (_of("msta-16shot"), "updated_tensors")},
    "text_not_normalised": {(_of("zero_shot"), "cosine")},
    "test_frames_reversed": {(_of("mote-16shot"), "top1"), (_of("mote-16shot"), "lead")},
    "all_frames_reversed": {(_of("msta_untrained"), "cosine")},
    "consistency_off": {(_of("msta-16shot", "novel"), "cosine")},
    "test_crop_at_corner": {(_of("zero_shot"), "cosine")},
}
"""Mutant -> values of regression.yaml that it must move out of their bands."""

if __name__ == "__main__":
    globals()[sys.argv[1]]()
    serve(run)
