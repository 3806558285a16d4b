from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import colored_frames, indices_from_pixels, write_video
from vlbench.data.annotations import read_path_label
from vlbench.data.batch import Clip, ClipBatch
from vlbench.data.datamodule import Augmentation, VideoDataModule
from vlbench.data.dataset import TrainClips, TrainSampler, UnpaddedSampler, Views, micro_batches
from vlbench.data.heldout import hold_out
from vlbench.data.specs import DatasetSpec, Subset, VideoItem
from vlbench.data.ucf101 import UCF101
from vlbench.errors import ConfigError, DataError

CLASSES = ("walk", "run", "jump", "sit")
PLAIN = Augmentation(short_side=1.0, scale=(1.0, 1.0), flip=False, color_jitter=0.0, gray=0.0)


class Fake(VideoDataModule):
    folder = "fake"
    variants = ("fake",)
    broken = ()

    @property
    def spec(self):
        return DatasetSpec("fake", CLASSES, base_classes=(0, 2), source="nowhere")

    def items(self, part, split):
        if part == "validation":
            return []
        listing = self.root / f"{part}.txt"
        if not listing.is_file():
            raise self.missing(listing)
        return read_path_label(listing, self.root)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Four classes of six training and three test videos; frame k has the colour of k; one test video is broken."""
    root = tmp_path_factory.mktemp("fake")
    for part, number in (("train", 6), ("test", 3)):
        lines = []
        for label in range(len(CLASSES)):
            for k in range(number):
                name = f"{part}_{label}_{k}.mp4"
                write_video(root / name, colored_frames(12 + 3 * k))
                lines.append(f"{name} {label}\n")
        (root / f"{part}.txt").write_text("".join(lines))
    (root / "test_1_1.mp4").write_text("this is no video")
    return root


def module(root, **options):
    options = {"image_size": 32, "num_workers": 0, "batch_size": 5, "augmentation": PLAIN, **options}
    return Fake(root=str(root), **options)


def test_training_reads_one_frame_of_each_segment(root):
    data = module(root, frames=4)
    data.setup("fit")
    for batch in data.train_dataloader():
        assert batch.video.dtype == torch.uint8
        assert batch.video.shape[1:] == (4, 3, 32, 32)
        for clip, name in zip(batch.video, batch.ids, strict=True):
            count = 12 + 3 * int(name.split("_")[2].removesuffix(".mp4"))
            picked = indices_from_pixels(clip)
            bounds = [(round(i * (count - 1) / 4), round((i + 1) * (count - 1) / 4)) for i in range(4)]
            assert all(low <= index <= high for index, (low, high) in zip(picked, bounds, strict=True)), (name, picked)


def test_segments_may_share_no_frame(root):
    data = module(root, frames=4, segment_ends="exclusive")
    data.setup("fit")
    dataset = data.train_dataloader().dataset
    index = next(i for i, item in enumerate(dataset.items) if item.id == "train_0_0.mp4")  # 12 frames: ends 0 3 6 8 11
    draws = {tuple(indices_from_pixels(dataset[(index, draw)].video)) for draw in range(40)}
    assert {first for first, *_ in draws} == {0, 1, 2}
    assert {last for *_, last in draws} == {8, 9, 10, 11}
    assert all(b < c for _, b, c, _ in draws)


def test_test_views_are_crops_of_shifted_clips_and_never_change(root):
    data = module(root, frames=3, views=Views(clips=2, crops=3))
    data.setup("test")
    first, second = ({i: v for b in data.test_dataloader() for i, v in zip(b.ids, b.video, strict=True)} for _ in "ab")
    assert all(torch.equal(first[name], second[name]) for name in first)
    video = first["test_0_0.mp4"]
    assert video.shape == (6, 3, 3, 32, 32)
    # Crop by crop, clip by clip: 12 frames, 3 segments of 4; the second clip starts 3 frames later.
    assert [indices_from_pixels(view) for view in video] == [[0, 4, 8], [3, 7, 11]] * 3


def test_an_unreadable_test_video_is_kept_as_a_failure(root):
    data = module(root)
    data.setup("test")
    batches = list(data.test_dataloader())
    failures = {name: failure for batch in batches for name, failure in batch.failures.items()}
    assert list(failures) == ["test_1_1.mp4"]
    label, cause = failures["test_1_1.mp4"]
    assert label == 1
    assert cause
    assert sum(len(batch.ids) for batch in batches) == 11


def test_a_batch_of_failures_has_no_video():
    batch = ClipBatch.collate([Clip(None, 2, "x", "empty"), Clip(None, 0, "y", "truncated")])
    assert batch.video is None
    assert batch.labels.shape == (0,)
    assert batch.failures == {"x": (2, "empty"), "y": (0, "truncated")}


def test_clips_do_not_depend_on_the_number_of_workers(root):
    augmentation = Augmentation(color_jitter=1.0, gray=0.5)

    def epoch(workers):
        data = module(root, num_workers=workers, augmentation=augmentation, batch_size=4, seed=3)
        data.setup("fit")
        loader = data.train_dataloader()
        loader.sampler.set_epoch(2)
        return [(batch.ids, batch.video) for batch in loader]

    alone, shared = epoch(0), epoch(2)
    assert [ids for ids, _ in alone] == [ids for ids, _ in shared]
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(alone, shared, strict=True))


def test_reading_a_clip_leaves_the_global_generator_alone(root):
    data = module(root)
    data.setup("fit")
    dataset = data.train_dataloader().dataset
    assert isinstance(dataset, TrainClips)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    dataset[(0, 0)]
    assert torch.equal(torch.rand(3), expected)


def test_draws_differ_between_epochs_and_seeds(root):
    data = module(root, frames=6)
    data.setup("fit")
    dataset = data.train_dataloader().dataset
    draws = [indices_from_pixels(dataset[(5, draw)].video) for draw in range(6)]
    assert len({tuple(draw) for draw in draws}) > 3
    other = module(root, frames=6, seed=1)
    other.setup("fit")
    assert [indices_from_pixels(other.train_dataloader().dataset[(5, draw)].video) for draw in range(6)] != draws


def test_subsets(root):
    data = module(root, train=Subset(classes="base", shots=2), test=Subset(classes="novel"))
    assert data.train_classes.names == ("walk", "jump")
    assert data.test_classes.names == ("run", "sit")
    assert data.train_classes.labels == (0, 2)
    assert sorted(item.label for item in data.videos("train")) == [0, 0, 1, 1]
    assert {item.id.split("_")[1] for item in data.videos("train")} == {"0", "2"}
    assert {item.id.split("_")[1] for item in data.videos("test")} == {"1", "3"}


def test_more_shots_than_videos_name_the_class(root):
    with pytest.raises(DataError, match=r"walk"):
        module(root, train=Subset(shots=7)).videos("train")


def write_lists(folder, **parts):
    """Lists of videos that need no files: only ids and labels count."""
    for part, entries in parts.items():
        (folder / f"{part}.txt").write_text("".join(f"{name} {label}\n" for name, label in entries))


def test_a_draw_that_holds_test_videos_is_refused(tmp_path):
    train = [(f"{label}_{k}.mp4", label) for label in range(4) for k in range(2)]
    write_lists(tmp_path, train=train, test=[("3_1.mp4", 3), ("x.mp4", 0)])
    data = Fake(root=str(tmp_path), train=Subset(shots=2))
    for stage in ("fit", "test"):
        with pytest.raises(DataError, match=r"1 of the 8 training videos of own/2-shot seed 0 .*'3_1\.mp4' is one"):
            data.check(stage)


def test_a_draw_is_tested_on_its_own_split_only(tmp_path):
    class Splits(Fake):
        @property
        def spec(self):
            return DatasetSpec("fake", CLASSES, splits=2)

        def items(self, part, split):
            # As in UCF101 and HMDB51: each split tests what another one trains on.
            return [
                VideoItem(self.root, label, f"{(split if part == 'test' else 3 - split)}_{label}") for label in range(4)
            ]

    same = Splits(root=str(tmp_path), train=Subset(shots=1, split=2), test=Subset(split=2))
    same.check("fit")
    with pytest.raises(ConfigError, match=r"4 of the 4 .*official/split 1.* set data\.test\.split to 2"):
        Splits(root=str(tmp_path), train=Subset(shots=1, split=2), test=Subset(split=1)).check("test")


def test_lists_are_named(root):
    data = module(root, train=Subset(shots=2, seed=5))
    assert (data.list_name("train"), data.list_name("test")) == ("own/2-shot seed 5", "official/split 1")
    assert module(root).list_name("train") == "official/split 1"


def test_the_base_half_is_the_more_frequent_one_where_the_dataset_states_none(tmp_path):
    class Unstated(Fake):
        @property
        def spec(self):
            return DatasetSpec("fake", CLASSES)

    train = [(f"train_{label}_{k}.mp4", label) for label, count in enumerate((2, 3, 3, 2)) for k in range(count)]
    write_lists(tmp_path, train=train, test=[(f"test_{label}.mp4", label) for label in range(4)])
    data = Unstated(root=str(tmp_path), train=Subset(classes="base", shots=2), test=Subset(classes="novel"))
    data.check("fit")
    assert data.train_classes.names == ("run", "jump")
    assert data.test_classes.names == ("walk", "sit")
    assert [item.label for item in data.videos("train")] == [0, 0, 1, 1]
    assert {item.id: item.label for item in data.videos("test")} == {"test_0.mp4": 0, "test_3.mp4": 1}


def test_a_test_split_may_hold_some_of_the_classes(tmp_path):
    class Splits(Fake):
        @property
        def spec(self):
            return DatasetSpec("fake", CLASSES, base_classes=(0, 2), splits=2, split_classes={2: (1, 2, 3)})

    entries = [(f"{label}.mp4", label) for label in range(4)]
    write_lists(tmp_path, train=entries, test=entries)
    second = Splits(root=str(tmp_path), test=Subset(split=2))
    assert second.test_classes.names == ("run", "jump", "sit")
    assert [(item.id, item.label) for item in second.videos("test")] == [("1.mp4", 0), ("2.mp4", 1), ("3.mp4", 2)]
    assert second.train_classes.names == CLASSES
    assert Splits(root=str(tmp_path)).test_classes.names == CLASSES
    assert Splits(root=str(tmp_path), test=Subset(split=2, classes="novel")).test_classes.names == ("run", "sit")


def test_missing_data_says_where_and_what_to_do(tmp_path):
    with pytest.raises(DataError) as error:
        UCF101(root=str(tmp_path / "nowhere")).check("fit")
    text = str(error.value)
    for part in (str(tmp_path / "nowhere"), "VLBENCH_DATA", "--data.root", "crcv.ucf.edu", "data/synthetic.yaml"):
        assert part in text


def test_the_root_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("VLBENCH_DATA", str(tmp_path))
    assert UCF101().root == tmp_path / "ucf101"
    assert str(UCF101(root="/x").root) == "/x"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variant": "none"}, "no variant 'none'; allowed: fake"),
        ({"frames": 0}, "frames is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"effective_batch": 0}, "effective_batch is 0"),
        ({"heldout": 1.0}, "heldout is 1.0"),
    ],
)
def test_bad_options_are_refused(root, options, message):
    with pytest.raises(ConfigError, match=message):
        module(root, **options)


def test_validation_without_a_validation_part_is_refused(root):
    with pytest.raises(ConfigError, match=r"no validation part; `vlbench test`"):
        module(root).check("validate")


def test_a_split_that_does_not_exist_is_refused(root):
    with pytest.raises(ConfigError, match="1 official splits; split is 2"):
        module(root, test=Subset(split=2)).videos("test")


def test_ucf101_reads_the_official_layout(tmp_path):
    (tmp_path / "UCF-101").mkdir()
    lists = tmp_path / "ucfTrainTestlist"
    lists.mkdir()
    (lists / "trainlist02.txt").write_text("Archery/v_Archery_g08_c01.avi 3\nYoYo/v_YoYo_g08_c02.avi 101\n")
    (lists / "testlist02.txt").write_text("BabyCrawling/v_BabyCrawling_g01_c01.avi\n")
    data = UCF101(root=str(tmp_path), train=Subset(split=2), test=Subset(split=2))
    assert [(item.label, item.id) for item in data.videos("train")] == [
        (2, "Archery/v_Archery_g08_c01.avi"),
        (100, "YoYo/v_YoYo_g08_c02.avi"),
    ]
    assert data.videos("test")[0].path == tmp_path / "UCF-101" / "BabyCrawling" / "v_BabyCrawling_g01_c01.avi"
    assert data.test_classes.names[3] == "Baby Crawling"
    assert UCF101(variant="camel").test_classes.names[3] == "BabyCrawling"
    assert data.label == "ucf101/words"


@given(size=st.integers(1, 40), world=st.integers(1, 5))
def test_evaluation_covers_every_video_once(size, world):
    parts = [list(UnpaddedSampler(size, rank=rank, world_size=world)) for rank in range(world)]
    assert sorted(index for part in parts for index in part) == list(range(size))


@given(
    size=st.integers(1, 20),
    epoch_size=st.integers(1, 60) | st.none(),
    world=st.integers(1, 4),
    epoch=st.integers(0, 3),
    seed=st.integers(0, 9),
)
def test_training_order(size, epoch_size, world, epoch, seed):
    samplers = [
        TrainSampler(size, epoch_size=epoch_size, seed=seed, rank=rank, world_size=world) for rank in range(world)
    ]
    for sampler in samplers:
        sampler.set_epoch(epoch)
    parts = [list(sampler) for sampler in samplers]
    assert {len(part) for part in parts} == {len(samplers[0])}
    # Together the processes follow the order that one process would.
    alone = TrainSampler(size, epoch_size=epoch_size, seed=seed)
    alone.set_epoch(epoch)
    together = [key for step in zip(*parts, strict=True) for key in step]
    single = list(alone)
    assert [index for index, _ in together[: len(single)]] == [index for index, _ in single]
    # Every video comes as often as any other, give or take one, and never twice with one draw.
    assert len(set(single)) == len(single)
    counts = [sum(index == video for index, _ in single) for video in range(size)]
    assert max(counts) - min(counts) <= 1


@given(
    size=st.integers(1, 40),
    epoch_size=st.integers(1, 90) | st.none(),
    share=st.integers(1, 6),
    at_most=st.integers(1, 8),
    epoch=st.integers(0, 3),
)
def test_an_effective_batch_holds_the_same_clips_whatever_the_number_of_processes(
    size, epoch_size, share, at_most, epoch
):
    effective = 8 * share

    def steps(processes):
        """The clips of each optimizer step, all micro-batches of all processes together."""
        taken, times = micro_batches(effective, processes, at_most)
        assert taken <= at_most
        assert processes * taken * times == effective
        batches = []
        for rank in range(processes):
            sampler = TrainSampler(
                size, epoch_size=epoch_size, effective_batch=effective, seed=1, rank=rank, world_size=processes
            )
            sampler.set_epoch(epoch)
            own = list(sampler)
            assert len(own) == len(sampler)
            batches.append([own[i : i + taken] for i in range(0, len(own), taken)])
        assert all(len(batch) == taken for own in batches for batch in own)
        count = len(batches[0])
        return [
            sorted(key for own in batches for batch in own[i : i + times] for key in batch)
            for i in range(0, count, times)
        ]

    alone = steps(1)
    assert len(alone) == max(1, (epoch_size or size) // effective)
    assert all(steps(processes) == alone for processes in (2, 4, 8))


def test_an_effective_batch_is_shared_out_equally_or_refused():
    assert micro_batches(256, 8, 32) == (32, 1)
    assert micro_batches(144, 2, 32) == (24, 3)
    assert micro_batches(32, 1, 48) == (32, 1)
    with pytest.raises(ConfigError, match=r"effective_batch is 12 with 8 processes; allowed: 1, 2, 3, 4, 6, 12 proc"):
        micro_batches(12, 8, 4)


def test_held_out_videos_are_validated_on_and_not_trained_on(root):
    whole = {item.id for item in module(root).videos("train")}
    data = module(root, heldout=0.3, test=Subset(classes="novel"))
    data.check("fit")
    train, held = ({item.id for item in data.videos(part)} for part in ("train", "validation"))
    assert train | held == whole
    assert not train & held
    (chosen,) = data.sets("validation")
    assert chosen.labels.keys() == held
    assert chosen.classes == data.train_classes  # the training classes, not the test subset's
    assert sorted(chosen.labels.values()) == [0, 0, 1, 1, 2, 2, 3, 3]  # 2 of 6
    assert data.list_name("train") == "official, 0.3 held out/split 1"
    assert {item.id for item in module(root, heldout=0.3).videos("validation")} == held
    other = module(root, heldout=0.3, train=Subset(seed=1))
    assert {item.id for item in other.videos("validation")} != held
    data.validate_on_test = True
    assert data.sets("validation") == data.sets("test")
    assert {item.id for item in data.videos("train")} == train


@given(share=st.floats(0.001, 0.999), count=st.integers(2, 30))
def test_a_class_keeps_videos_on_both_sides(share, count):
    items = [VideoItem(Path("x"), label, f"{label}-{k}") for label in range(2) for k in range(count)]
    kept, held = hold_out(items, share, 0, ("a", "b"))
    for label in range(2):
        number = sum(item.label == label for item in held)
        assert 1 <= number < count
        assert abs(number - share * count) <= 1
    assert sorted(kept + held) == sorted(items)


def test_a_class_of_one_video_cannot_be_held_out(root):
    with pytest.raises(DataError, match=r"class 0 \(walk\) has 1 training video"):
        module(root, heldout=0.5, train=Subset(shots=1)).check("fit")
