"""What a model says of videos beside their scores: which class, which video, which frames and which times."""

import numpy as np
import pytest
import torch

from tests.fakes import indices_from_pixels, write_video
from tests.inference.test_model import CLASSES, FRAMES, method_of
from vlbench.clips.batch import Box
from vlbench.clips.options import ClipOptions, Views
from vlbench.clips.sampling import dense_test
from vlbench.errors import ConfigError
from vlbench.inference import Candidate, Classification, Model
from vlbench.inference.reading import looked_at

# Classes --------------------------------------------------------------------------------------------------------------


def classification(scores, probabilities=None):
    scores = np.asarray(scores, np.float32)
    shares = None if probabilities is None else np.asarray(probabilities, np.float64)
    return Classification("a.mp4", tuple(f"c{index}" for index in range(len(scores))), scores, shares)


@pytest.mark.quick
def test_candidates_have_their_own_probability_and_score():
    """Though a probability may be of other scores than those that decide."""
    result = classification([0.25, 2.0, -1.0], [0.5, 0.375, 0.125])
    assert result.best(2) == [Candidate("c1", 0.375, 2.0), Candidate("c0", 0.5, 0.25)]
    assert result.best(9)[2] == Candidate("c2", 0.125, -1.0)
    assert [each.probability for each in classification([0.25, 2.0]).best()] == [None, None]


@pytest.mark.quick
def test_of_equal_scores_the_first_class_is_the_better_one():
    scores = np.arange(200) % 4
    names = [each.name for each in classification(scores).best(200)]
    assert names == [f"c{index}" for value in (3, 2, 1, 0) for index in range(200) if index % 4 == value]
    assert len(classification(scores).best()) == 5


def test_a_head_names_its_classes_in_its_own_order(tmp_path):
    path = write_video(tmp_path / "a.mp4", 8)
    model = Model(method_of("vision_only"), FRAMES, device="cpu")
    own, turned = model.classify(path), model.classify(path, CLASSES[::-1])
    assert own.classes == turned.classes == CLASSES
    assert own.best(3) == turned.best(3)
    with pytest.raises(ConfigError, match="has no open vocabulary"):
        model.classify(path, ["running", "jumping", "waving"])


def test_every_name_that_is_there_twice_is_found():
    with pytest.raises(ConfigError, match="classes are 3 names, 'b' twice"):
        Model(method_of("zero_shot"), device="cpu").classify_videos([], ["a", "b", "b"])


def test_a_model_evaluates():
    """A method that trained before has no dropout, and no random frames of a head."""
    method = method_of("mote").train()
    assert not any(module.training for module in Model(method, device="cpu").method.modules())


def test_convolutions_are_of_single_precision_only_while_a_model_computes(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    method, allowed = method_of("zero_shot"), {}
    for name in ("encode_frames", "encode_classes"):
        original = getattr(method, name)

        def noted(*given, name=name, original=original):
            allowed.setdefault(name, set()).add(torch.backends.cudnn.allow_tf32)
            return original(*given)

        monkeypatch.setattr(method, name, noted)
    Model(method, FRAMES, device="cpu").classify(write_video(tmp_path / "a.mp4", 8), CLASSES)
    assert allowed == {"encode_frames": {False}, "encode_classes": {False}}
    assert torch.backends.cudnn.allow_tf32


# Videos and windows ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_workers", [0, 1])
def test_windows_are_of_their_own_file(tmp_path, num_workers):
    """One file after the other, of which each is open while its windows are read."""
    paths = [write_video(tmp_path / f"{length}.mp4", length, fps=10, options={"crf": "10"}) for length in (40, 80)]
    model = Model(method_of("zero_shot"), FRAMES, device="cpu")
    results = [*model.classify_videos(paths, CLASSES, window=2, keep_frames=True, num_workers=num_workers)]
    spans = [(0, 2), (2, 4), (0, 2), (2, 4), (4, 6), (6, 8)]
    assert [result.video for result in results] == [str(paths[0])] * 2 + [str(paths[1])] * 4
    np.testing.assert_allclose([result.span for result in results], spans)
    for result in results:
        start = round(10 * result.span[0])
        assert indices_from_pixels(result.frames[0]) == [start, start + 5, start + 10, start + 15]


def test_frames_are_those_of_the_video_that_they_are_said_to_be_of(tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    paths = [tmp_path / "text.mp4", *(write_video(tmp_path / f"{n}.mp4", n, options={"crf": "10"}) for n in (20, 40))]
    model = Model(method_of("zero_shot"), FRAMES, device="cpu")
    results = [*model.classify_videos(paths, CLASSES, batch_size=4, keep_frames=True)]
    assert [result.video for result in results] == [*map(str, paths)]
    assert results[0].frames is None
    assert [indices_from_pixels(each.frames[0]) for each in results[1:]] == [[0, 5, 10, 15], [0, 10, 20, 30]]


@pytest.mark.parametrize(
    ("clip", "expected"),
    [
        (ClipOptions(views=Views(order="reversed")), [30, 20, 10, 0]),
        (ClipOptions(sampling="dense"), None),
    ],
)
def test_frames_are_those_of_the_clip_options(tmp_path, clip, expected):
    path = write_video(tmp_path / "a.mp4", 40, options={"crf": "10"})
    frames = Model(method_of("zero_shot"), FRAMES, clip, device="cpu").classify(path, CLASSES, keep_frames=True).frames
    assert indices_from_pixels(frames[0]) == (expected or dense_test(40, FRAMES, 1)[0])


@pytest.mark.quick
def test_what_was_looked_at_is_what_all_crops_have_together():
    pixels = torch.arange(10 * 20).view(1, 1, 1, 10, 20).expand(1, 1, 3, 10, 20)

    class Batch:
        videos = type("Packed", (), {"unpack": staticmethod(lambda: [pixels, pixels])})
        crops = ((Box(1, 2, 6, 6), Box(3, 0, 6, 6), Box(2, 9, 6, 6)), (Box(4, 4, 2, 2),))

    first, second = looked_at(Batch)
    assert torch.equal(first, pixels[..., 1:9, 0:15])
    assert torch.equal(second, pixels[..., 4:6, 4:6])
