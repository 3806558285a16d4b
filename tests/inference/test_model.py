"""A model gives for every video what a test of the same weights gives."""

import contextlib
from dataclasses import replace
from types import SimpleNamespace

import lightning
import numpy as np
import pytest
import torch

from tests.fakes import indices_from_pixels, write_video
from vlbench.backbones import TinyCLIP
from vlbench.clips import readers
from vlbench.clips.datamodules import FolderVideosDataModule
from vlbench.clips.options import ClipOptions, Views
from vlbench.datasets import FolderVideos
from vlbench.datasets.specs import Subset
from vlbench.errors import ConfigError, DataError, DecodeError
from vlbench.evaluation.calibration import probabilities
from vlbench.inference import Model
from vlbench.methods import OST, MoTE, NearestNeighbours, ViFiCLIP, VisionOnly, ZeroShot
from vlbench.methods.head_only.features import TrainingFeatures
from vlbench.synthetic.generate import write_clip
from vlbench.synthetic.render import render_clip

CLASSES = ("a blue square", "a green flag", "a red ball")
THINGS = {"a blue square": ("blue", "box"), "a green flag": ("green", "flag"), "a red ball": ("red", "ball")}
FRAMES = 4
CLIP = ClipOptions(views=Views(clips=2, crops=3), test_short_side=1.2)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """A folder with three rendered test videos of each of three classes, and one that cannot be read."""
    root = tmp_path_factory.mktemp("shapes") / "shapes"
    for part, count in (("train", 1), ("test", 3)):
        for label, (name, (colour, shape)) in enumerate(THINGS.items()):
            (root / part / name).mkdir(parents=True)
            for number in range(count):
                frames = render_clip(np.random.default_rng([label, number]), colour=colour, shape=shape, motion="l2r")
                write_clip(root / part / name / f"{number}.mp4", frames)
    (root / "test" / CLASSES[0] / "damaged.mp4").write_bytes(b"no video")
    return root


def shaken(method):
    """The method with other values than the initial ones in everything that trains."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in method.parameters():
            if parameter.requires_grad:
                parameter.add_(0.02 * torch.randn(parameter.shape))
    return method.eval()


def method_of(name):
    torch.manual_seed(0)
    backbone = TinyCLIP()
    if name == "zero_shot":
        return ZeroShot(backbone, view_fusion="logits").eval()
    if name == "mote":
        method = MoTE(backbone, layers=1, experts=2, original_share=0.3)
        method.train_class_features = method.encode_text(["a yellow ring", "a white star"]).detach()
        assert method.features_depend_on_classes
        return shaken(method)
    if name == "vifi_clip":
        return shaken(ViFiCLIP(backbone, original_share=0.5))
    method = VisionOnly(backbone)
    method.head.use_classes(CLASSES)
    return shaken(method)


METHODS = ("zero_shot", "mote", "vifi_clip", "vision_only")


def evaluation_of(method, videos):
    """What Lightning's Trainer makes of the test videos."""
    data = FolderVideosDataModule(
        str(videos), frames=FRAMES, clip=CLIP, batch_size=4, num_workers=0, image_size=method.backbone.image_size
    )
    method.use(data.dataset)
    trainer = lightning.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.test(method, data, verbose=False)
    (evaluation,) = method.evaluations
    return evaluation


@pytest.mark.parametrize("name", METHODS)
def test_every_video_has_the_scores_of_a_test(name, videos):
    evaluation = evaluation_of(method_of(name), videos)
    expected = evaluation.predictions.stored()
    shares = probabilities(expected, evaluation.probability)
    model = Model(method_of(name), FRAMES, CLIP, device="cpu")
    before = {key: value.clone() for key, value in model.method.state_dict().items()}
    paths = [*map(str, sorted(videos.glob("test/*/*.mp4")))]
    # With several views of several videos at once, too: only the last bits differ.
    for batch_size in (1, 24):
        results = [*model.classify_videos(paths, CLASSES, batch_size=batch_size)]
        assert [result.video for result in results] == paths
        by_id = {path.removeprefix(f"{videos}/"): result for path, result in zip(paths, results, strict=True)}
        assert {video for video, result in by_id.items() if result.failure} == {*expected.failures}
        for row, video in enumerate(expected.ids):
            result = by_id[video]
            assert result.classes == CLASSES
            np.testing.assert_allclose(result.scores, expected.scores[row], rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(result.probabilities, shares[row], rtol=1e-4, atol=1e-6)
            assert result.best(1)[0].name == CLASSES[expected.best[row]]
    assert len({tuple(np.round(row, 4)) for row in expected.scores}) > 5, "videos must differ, or nothing is tested"
    after = model.method.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())


@pytest.mark.parametrize("name", METHODS)
def test_an_evaluation_has_the_numbers_of_a_test(name, videos):
    expected = evaluation_of(method_of(name), videos)
    model = Model(method_of(name), FRAMES, CLIP, device="cpu")
    module = FolderVideosDataModule(str(videos), frames=FRAMES, clip=CLIP, batch_size=4, num_workers=0)
    for data in (FolderVideos(str(videos)), module):
        (evaluation,) = model.evaluate(data)
        assert evaluation.metrics == expected.metrics
        assert evaluation.predictions.ids == expected.predictions.ids
        assert evaluation.predictions.failures == expected.predictions.failures
        torch.testing.assert_close(evaluation.predictions.scores, expected.predictions.scores, rtol=1e-5, atol=1e-6)
    assert module.image_size is None  # what was given is left as it was


@pytest.mark.parametrize("name", METHODS)
def test_features_are_those_that_a_test_stores(name, videos):
    expected = evaluation_of(method_of(name), videos).predictions
    model = Model(method_of(name), FRAMES, CLIP, device="cpu")
    features = model.encode_videos([videos / video for video in expected.ids], CLASSES)
    torch.testing.assert_close(features, expected.features, rtol=1e-5, atol=1e-6)
    if name != "mote":
        paths = [videos / video for video in expected.ids]
        torch.testing.assert_close(model.encode_videos(paths, num_workers=1), features, rtol=1e-5, atol=1e-6)


def test_features_that_depend_on_classes_need_them(videos):
    with pytest.raises(ConfigError, match=r"the features of mote depend on the classes; allowed: classes"):
        Model(method_of("mote"), device="cpu").encode_videos([videos / "test" / CLASSES[0] / "0.mp4"])


def test_data_are_prepared_and_checked_before_an_evaluation(videos, monkeypatch):
    done = []
    for name in ("prepare", "check"):
        original = getattr(FolderVideos, name)
        monkeypatch.setattr(
            FolderVideos,
            name,
            lambda self, *given, name=name, original=original: done.append((name, *given)) or original(self, *given),
        )
    model = Model(method_of("zero_shot"), FRAMES, device="cpu")
    for data in (FolderVideos(str(videos)), FolderVideosDataModule(str(videos), frames=FRAMES, num_workers=0)):
        done.clear()
        model.evaluate(data)
        assert done[0] == ("prepare",)
        assert ("check", "test") in done
    bank = SimpleNamespace(holds_videos=False, label="a bank")
    with pytest.raises(ConfigError, match=r"^a bank holds features and no videos; give its DataModule"):
        model.evaluate(bank)


class OfItsClasses(ZeroShot):
    """Its features are those of a frame, and the mean of the classes'."""

    features_depend_on_classes = True

    def pool_frames(self, frames, classes=None):
        return super().pool_frames(frames, classes) + classes.mean(dim=0)


def test_features_are_of_the_classes_that_are_given(videos):
    path = videos / "test" / CLASSES[0] / "0.mp4"
    model, plain = Model(OfItsClasses(TinyCLIP()), device="cpu"), Model(ZeroShot(TinyCLIP()), device="cpu")
    for classes in (CLASSES, CLASSES[:2]):
        expected = plain.encode_videos(path) + model.method.encode_classes(classes).mean(dim=0)
        torch.testing.assert_close(model.encode_videos(path, classes), expected, rtol=1e-5, atol=1e-6)


def test_features_of_a_video_that_cannot_be_read_are_refused(videos):
    """By the first of them."""
    good, damaged, gone = (videos / "test" / CLASSES[0] / name for name in ("0.mp4", "damaged.mp4", "gone.mp4"))
    paths = [good, good, damaged, *[good] * 7, gone]
    with pytest.raises(DecodeError, match=r"cannot decode .*damaged\.mp4: "):
        Model(method_of("zero_shot"), device="cpu").encode_videos(paths, batch_size=len(paths))


# What may be asked ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (None, "classes is None; allowed: two names or more"),
        ("running", "classes is 'running'; allowed: two names or more"),
        (["running"], "classes are 1 names; allowed: two names or more"),
        (["running", "jumping", "running"], "classes are 3 names, 'running' twice; allowed"),
        (["running", " "], "classes are 2 names; allowed: two names or more, each once, none empty"),
    ],
)
def test_classes_that_leave_no_choice_are_refused(classes, message):
    with pytest.raises(ConfigError, match=message):
        Model(method_of("zero_shot"), device="cpu").classify_videos([], classes)


def test_a_method_without_an_open_vocabulary_scores_its_classes_and_no_others(videos):
    model = Model(method_of("vision_only"), device="cpu")
    path = videos / "test" / CLASSES[0] / "0.mp4"
    assert model.classes == CLASSES
    result = model.classify(path)
    np.testing.assert_array_equal(result.scores, model.classify(path, CLASSES[::-1]).scores)
    for other in (["running", "jumping"], CLASSES[:2], [*CLASSES, "running"]):
        with pytest.raises(ConfigError, match=r"vision_only has no open vocabulary: it scores its 3 training classes"):
            model.classify(path, other)
    with pytest.raises(ConfigError, match="vision_only has no open vocabulary and knows no classes yet"):
        Model(VisionOnly(TinyCLIP()), device="cpu").classify(path)


def test_a_head_is_not_replaced_by_an_evaluation_on_other_classes(videos, tmp_path):
    for part in ("train", "test"):
        for name in ("running", "waving", "sitting"):
            (tmp_path / "other" / part / name).mkdir(parents=True)
            write_video(tmp_path / "other" / part / name / f"{part}.mp4", 4)
    model = Model(method_of("vision_only"), device="cpu")
    weight = model.method.head.weight.detach().clone()
    with pytest.raises(
        ConfigError, match=r"it scores its 3 training classes and no others, and other has other classes"
    ):
        model.evaluate(FolderVideos(str(tmp_path / "other")))
    assert torch.equal(model.method.head.weight, weight)
    assert model.classes == CLASSES


def test_a_head_is_not_replaced_by_one_of_the_training_classes_of_a_dataset(videos):
    """Though the dataset is tested on the classes of the head."""
    model = Model(method_of("vision_only"), device="cpu")
    weight = model.method.head.weight.detach().clone()
    dataset = FolderVideos(str(videos), train=Subset(classes="base"))
    assert dataset.sets("test")[0].classes.names == model.classes != dataset.train_classes.names
    with pytest.raises(
        ConfigError, match="it scores its 3 training classes and no others, and shapes has other classes"
    ):
        model.evaluate(dataset)
    assert torch.equal(model.method.head.weight, weight)


def test_a_head_is_not_evaluated_on_some_of_its_classes(videos):
    model = Model(method_of("vision_only"), device="cpu")
    dataset = FolderVideos(str(videos), test=Subset(classes="novel"))
    assert dataset.train_classes.names == model.classes
    with pytest.raises(ConfigError, match="scores its 3 training classes and no others, and shapes has other classes"):
        model.evaluate(dataset)


def test_a_method_that_states_no_probability_gives_scores(videos):
    method = NearestNeighbours(TinyCLIP(), neighbours=2)
    features = torch.nn.functional.normalize(torch.randn(6, 1, 128, generator=torch.Generator().manual_seed(0)), dim=-1)
    method.learn_from(TrainingFeatures(features, torch.arange(6) % 3), None, CLASSES)
    result = Model(method, device="cpu").classify(videos / "test" / CLASSES[0] / "0.mp4")
    assert result.probabilities is None
    assert [candidate.probability for candidate in result.best(2)] == [None, None]
    assert result.best(1)[0].score == result.scores.max()


def test_classes_that_a_method_describes_by_their_dataset_are_refused(videos):
    model = Model(OST(TinyCLIP()), device="cpu")
    with pytest.raises(ConfigError, match=r"ost scores classes by descriptors that come with their dataset"):
        model.classify(videos / "test" / CLASSES[0] / "0.mp4", CLASSES)


def test_scores_that_are_not_finite_end_it(videos):
    method = method_of("zero_shot")
    with torch.no_grad():
        method.backbone.logit_scale.fill_(float("nan"))
    paths = [videos / "test" / CLASSES[0] / name for name in ("damaged.mp4", "0.mp4")]
    with pytest.raises(DataError, match=r"0\.mp4 has scores that are not finite numbers; give weights"):
        [*Model(method, device="cpu").classify_videos(paths, CLASSES, batch_size=2)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 0}, r"window is 0; allowed: 0\.01 to 1,000,000"),
        ({"stride": 1.0}, r"stride is 1\.0 and window is null"),
        ({"window": 1.0, "stride": 0}, r"stride is 0; allowed: 0\.01 to 1,000,000"),
        ({"batch_size": 0}, r"batch_size is 0; allowed: 1 to 256"),
        ({"num_workers": -1}, r"num_workers is -1; allowed: 0 to 1,024"),
    ],
)
def test_options_have_ranges_before_anything_is_read(options, message):
    with pytest.raises(ConfigError, match=message):
        Model(method_of("zero_shot"), device="cpu").classify_videos(["nowhere.mp4"], CLASSES, **options)


def test_what_has_no_vector_a_video_has_no_features(videos):
    with pytest.raises(ConfigError, match="or there is no video; allowed: one video or more"):
        Model(method_of("zero_shot"), device="cpu").encode_videos([])


def test_three_crops_need_a_longer_side():
    backbone = TinyCLIP()
    backbone.use_preprocess(replace(backbone.preprocess, resize_mode="squash"))
    with pytest.raises(ConfigError, match=r"clip\.views\.crops is 3 and the backbone makes frames squares"):
        Model(ZeroShot(backbone), FRAMES, CLIP, device="cpu").classify_videos(["a.mp4"], CLASSES)


# How it is read ------------------------------------------------------------------------------------------------------


@pytest.fixture
def opened(monkeypatch):
    """Paths of the files that were opened."""
    paths, open_video = [], readers.open_video
    monkeypatch.setattr(
        readers, "open_video", lambda path, **options: paths.append(path) or open_video(path, **options)
    )
    return paths


def test_windows_are_scored_as_parts_of_the_file_and_share_one_opening(tmp_path, opened):
    path = write_video(tmp_path / "long.mp4", 50, fps=10)
    model = Model(method_of("zero_shot"), FRAMES, device="cpu")
    results = [*model.classify_videos([path], CLASSES, window=2.0, stride=1.0)]
    np.testing.assert_allclose([result.span for result in results], [(0, 2), (1, 3), (2, 4), (3, 5)])
    assert len(opened) == 2  # to see how long it is, and to read it
    for result in results:
        first = round(10 * result.span[0])
        with contextlib.closing(readers.open_video(path, backend="pyav")) as reader:
            frames = reader.frames_at(range(first, first + 20))
        part = write_raw(tmp_path / "part.mkv", frames)
        np.testing.assert_allclose(model.classify(part, CLASSES).scores, result.scores, atol=1e-5)
    assert len({tuple(np.round(result.scores, 4)) for result in results}) == 4


def write_raw(path, frames):
    """A lossless video of frames `(T, 3, H, W)`."""
    images = frames.permute(0, 2, 3, 1).contiguous().numpy()
    return write_video(path, images, codec="ffv1", pix_fmt="bgr0", fps=10)


def test_what_cannot_be_read_is_named_and_the_rest_is_done(tmp_path, videos):
    (tmp_path / "text.mp4").write_text("no video")
    good = videos / "test" / CLASSES[0] / "0.mp4"
    paths = [tmp_path / "text.mp4", good, tmp_path / "gone.mp4", tmp_path]
    model = Model(method_of("zero_shot"), FRAMES, device="cpu")
    for options in ({}, {"window": 1.0}, {"batch_size": 4, "num_workers": 2}, {"window": 0.5, "num_workers": 1}):
        results = [*model.classify_videos(paths, CLASSES, **options)]
        failures = {result.video: result.failure for result in results if result.failure}
        assert list(failures) == [str(paths[0]), str(paths[2]), str(paths[3])]
        assert failures[str(paths[2])].startswith("No such file")
        assert "holds no frames" in failures[str(paths[3])]
        assert {result.video for result in results if not result.failure} == {str(good)}
        assert all(result.scores.size == 0 for result in results if result.failure)
    with pytest.raises(DecodeError, match=r"cannot decode .*gone\.mp4: No such file"):
        model.classify(paths[2], CLASSES)


def test_whatever_a_decoder_raises_is_the_failure_of_one_video(tmp_path, monkeypatch):
    path, original = write_video(tmp_path / "a.mp4", 20, fps=10), readers.open_video

    def opening(path, **options):
        if path.name == "bad.mp4":
            raise AssertionError("broken")
        return original(path, **options)

    monkeypatch.setattr(readers, "open_video", opening)
    model = Model(method_of("zero_shot"), FRAMES, device="cpu")
    for options in ({}, {"window": 5.0}):
        results = [*model.classify_videos([tmp_path / "bad.mp4", path], CLASSES, **options)]
        assert [result.failure for result in results] == ["AssertionError: broken", ""]


def test_a_window_without_a_frame_fails_alone_and_has_its_times(tmp_path):
    path = write_video(tmp_path / "a.mp4", 2, fps=10)
    model = Model(method_of("zero_shot"), FRAMES, device="cpu")
    results = [*model.classify_videos([path], CLASSES, window=0.05)]
    np.testing.assert_allclose([result.span for result in results], [(0, 0.05), (0.05, 0.1), (0.1, 0.15), (0.15, 0.2)])
    none = "none of its 2 frames begins between"
    failures = [result.failure.split(";")[0] for result in results]
    assert failures == ["", f"{none} 0.05 and 0.1 s", "", f"{none} 0.15 and 0.2 s"]


def test_files_are_closed(tmp_path, monkeypatch):
    """One may be open for its windows while the next is asked how long it is."""
    still, original = [], readers.open_video

    def opening(path, **options):
        reader = original(path, **options)
        still.append(reader)
        assert len(still) <= 2
        close = reader.close

        def closing():
            still[:] = [each for each in still if each is not reader]
            close()

        reader.close = closing
        return reader

    monkeypatch.setattr(readers, "open_video", opening)
    paths = [write_video(tmp_path / f"{number}.mp4", 20, fps=10) for number in range(4)]
    results = Model(method_of("zero_shot"), FRAMES, device="cpu").classify_videos(paths, CLASSES, window=1)
    assert len([*results]) == 8
    assert still == []


def test_workers_end_with_the_process_that_reads(videos, tmp_path, monkeypatch):
    def ending():
        return lambda worker: (tmp_path / str(worker)).touch()

    monkeypatch.setattr("vlbench.inference.reading.ending_with_this", ending)
    path = videos / "test" / CLASSES[0] / "0.mp4"
    results = Model(method_of("zero_shot"), FRAMES, device="cpu").classify_videos([path, path], CLASSES, num_workers=2)
    assert [result.failure for result in results] == ["", ""]
    assert {path.name for path in tmp_path.iterdir()} == {"0", "1"}


def test_results_come_before_the_next_videos_are_named(videos):
    """A long list may be made while it is worked on."""
    path = videos / "test" / CLASSES[0] / "0.mp4"

    def endless():
        while True:
            yield path

    results = Model(method_of("zero_shot"), FRAMES, device="cpu").classify_videos(endless(), CLASSES)
    assert [next(results).video for _ in range(3)] == [str(path)] * 3


def test_the_frames_that_were_looked_at_are_those_of_the_file(tmp_path):
    path = write_video(tmp_path / "a.mp4", 40, options={"crf": "10"})
    model = Model(method_of("zero_shot"), FRAMES, ClipOptions(views=Views(clips=2)), device="cpu")
    assert model.classify(path, CLASSES).frames is None
    frames = model.classify(path, CLASSES, keep_frames=True).frames
    assert frames.shape == (2, FRAMES, 3, 32, 32)
    assert [indices_from_pixels(clip) for clip in frames] == [[0, 10, 20, 30], [9, 19, 29, 39]]


def test_one_classification_inside_another_leaves_the_weights_as_they_were(videos):
    """The weights that only evaluation uses are put in place once, and taken back once."""
    path = videos / "test" / CLASSES[0] / "0.mp4"
    model = Model(method_of("vifi_clip"), FRAMES, device="cpu")
    before = {key: value.clone() for key, value in model.method.state_dict().items()}
    expected = model.classify(path, CLASSES).scores
    outer = model.classify_videos([path, path], CLASSES)
    next(outer)
    np.testing.assert_array_equal(model.classify(path, CLASSES).scores, expected)
    np.testing.assert_array_equal(next(outer).scores, expected)
    assert next(outer, None) is None
    half = model.classify_videos([path, path], CLASSES)
    next(half)
    half.close()
    after = model.method.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())


def test_the_classes_of_videos_that_come_one_by_one_are_encoded_once(videos, monkeypatch):
    model = Model(method_of("zero_shot"), FRAMES, device="cpu")
    encoded, encode = [], model.method.encode_classes
    monkeypatch.setattr(model.method, "encode_classes", lambda names: encoded.append(tuple(names)) or encode(names))
    for path in sorted(videos.glob("test/*/0.mp4")):
        model.classify(path, CLASSES)
    model.classify(path, CLASSES[:2])
    assert encoded == [CLASSES, CLASSES[:2]]


class OfItsDataset(ZeroShot):
    """Its classes are texts that name the dataset, as descriptions are a dataset's."""

    def encode_classes(self, class_names):
        return super().encode_classes(
            [f"{name} of {self.dataset.label if self.dataset else ''}" for name in class_names]
        )


def test_classes_are_encoded_again_after_an_evaluation(videos):
    """What was made of them before was of no dataset, or of another one."""
    path = videos / "test" / CLASSES[0] / "0.mp4"
    used, fresh = (Model(OfItsDataset(TinyCLIP()), FRAMES, device="cpu") for _ in range(2))
    before = used.classify(path, CLASSES).scores
    for model in (used, fresh):
        model.evaluate(FolderVideos(str(videos)))
    expected = fresh.classify(path, CLASSES).scores
    assert not np.array_equal(before, expected)
    np.testing.assert_array_equal(used.classify(path, CLASSES).scores, expected)


def test_random_numbers_of_the_process_stay_where_they_are(videos):
    model = Model(method_of("zero_shot"), FRAMES, device="cpu")
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    model.classify(videos / "test" / CLASSES[0] / "0.mp4", CLASSES)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"frames": 0}, r"frames is 0; allowed: 1 to 4,096"), ({"device": "gpu"}, r"device is 'gpu'; allowed: 'auto', ")],
)
def test_what_no_model_can_be_of_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        Model(method_of("zero_shot"), **options)


def test_a_device_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="device is cuda and torch finds no CUDA device here; allowed: cpu, or auto"):
        Model(method_of("zero_shot"), device="cuda")
    assert Model(method_of("zero_shot")).device.type == "cpu"
