import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning import Trainer
from torch.utils.data import BatchSampler

from tests.fakes import FakeDataset, colored_frames, indices_from_pixels, write_video
from vlbench.clips.accumulation import EffectiveBatch
from vlbench.clips.batch import Clip, ClipBatch
from vlbench.clips.datamodule import VideoDataModule, cores_of_a_process
from vlbench.clips.options import Augmentation, ClipOptions, LoadingOptions, Views
from vlbench.clips.readers import TrainClips
from vlbench.clips.samplers import TrainSampler, UnpaddedSampler, micro_batches
from vlbench.errors import ConfigError

CLASSES = FakeDataset.CLASSES
PLAIN = Augmentation(short_side=1.0, scale=(1.0, 1.0), flip=False, color_jitter=0.0, gray=0.0)


class FakeDataModule(VideoDataModule):
    dataset_class = FakeDataset


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
    return FakeDataModule(root=str(root), **options)


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
    data = module(root, frames=4, clip=ClipOptions(segment_ends="exclusive"))
    data.setup("fit")
    dataset = data.train_dataloader().dataset
    index = next(i for i, item in enumerate(dataset.items) if item.id == "train_0_0.mp4")  # 12 frames: ends 0 3 6 8 11
    draws = {tuple(indices_from_pixels(dataset[(index, draw)].video)) for draw in range(40)}
    assert {first for first, *_ in draws} == {0, 1, 2}
    assert {last for *_, last in draws} == {8, 9, 10, 11}
    assert all(b < c for _, b, c, _ in draws)


def test_test_views_are_crops_of_shifted_clips_and_never_change(root):
    data = module(root, frames=3, clip=ClipOptions(views=Views(clips=2, crops=3)))
    data.setup("test")

    def read():
        loaded = data.test_dataloader()
        batches = ((batch.ids, torch.cat(list(batch.views())).transpose(0, 1)) for batch in loaded if batch.ids)
        return {name: video for ids, videos in batches for name, video in zip(ids, videos, strict=True)}

    first, second = read(), read()
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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variant": "none"}, "no variant 'none'; allowed: fake"),
        ({"frames": 0}, "frames is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"heldout": 1.0}, "heldout is 1.0"),
    ],
)
def test_bad_options_are_refused(root, options, message):
    with pytest.raises(ConfigError, match=message):
        module(root, **options)


@given(size=st.integers(1, 40), world=st.integers(1, 5), batch=st.integers(1, 9))
def test_evaluation_covers_every_video_once_in_the_batches_of_one_process(size, world, batch):
    def batches(processes):
        samplers = [
            UnpaddedSampler(size, batch_size=batch, rank=rank, world_size=processes) for rank in range(processes)
        ]
        return [part for each in samplers for part in BatchSampler(each, batch, drop_last=False)]

    assert sorted(index for part in batches(world) for index in part) == list(range(size))
    assert sorted(batches(world)) == sorted(batches(1))


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
        """The clips of each optimizer step, process by process: neighbours, which may be mixed, stay together."""
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
            [key for own in batches for batch in own[i : i + times] for key in batch] for i in range(0, count, times)
        ]

    alone = steps(1)
    assert len(alone) == max(1, (epoch_size or size) // effective)
    assert all(steps(processes) == alone for processes in (2, 4, 8))


@given(st.integers(1, 40), st.integers(1, 3), st.integers(0, 5), st.integers(0, 50))
def test_an_epoch_that_is_gone_on_with_has_the_rest_of_its_clips(size, world, epoch, done):
    for rank in range(world):
        whole, resumed = (TrainSampler(size, seed=0, rank=rank, world_size=world) for _ in range(2))
        whole.set_epoch(epoch)
        resumed.resume(epoch, done)
        resumed.set_epoch(epoch)  # the trainer says it once more
        assert list(resumed) == list(whole)[done:]
        assert len(resumed) == len(whole)
        for sampler in (whole, resumed):
            sampler.set_epoch(epoch + 1)
        assert list(resumed) == list(whole)


def test_an_effective_batch_is_shared_out_equally_or_refused():
    assert micro_batches(256, 8, 32) == (32, 1)
    assert micro_batches(144, 2, 32) == (24, 3)
    assert micro_batches(32, 1, 48) == (32, 1)
    with pytest.raises(ConfigError, match=r"effective_batch is 12 with 8 processes; allowed: 1, 2, 3, 4, 6, 12 proc"):
        micro_batches(12, 8, 4)


@pytest.mark.parametrize(
    ("cores", "processes", "local", "workers"), [(8, 1, None, 8), (8, 2, None, 4), (8, 1, "4", 2), (2, 4, None, 1)]
)
def test_workers_share_the_cores_with_the_other_processes(monkeypatch, cores, processes, local, workers):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(cores)))
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    if local is not None:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", local)
    assert cores_of_a_process(processes) == workers


def test_an_effective_batch_needs_its_callback(root):
    """A Trainer of the reader's own that does not accumulate would take other steps in silence."""
    data = module(root, batch_size=4, loading=LoadingOptions(effective_batch=8))
    data.trainer = Trainer(accelerator="cpu", devices=1, logger=False, callbacks=[EffectiveBatch(8, 4)])
    with pytest.raises(ConfigError, match=r"takes 2 batches of 4, and .* accumulates 1; .*EffectiveBatch\(8, 4\)"):
        data.train_dataloader()
    data.trainer.callbacks[0].setup(data.trainer, None, "fit")
    assert data.trainer.accumulate_grad_batches == 2
    assert data.train_dataloader().batch_size == 4


@pytest.mark.parametrize(
    ("views", "chosen", "videos", "at_once"),
    [((1, 1), None, 5, 5), ((2, 1), None, 2, 5), ((4, 3), None, 1, 5), ((4, 3), 3, 3, 3)],
)
def test_an_evaluation_takes_fewer_videos_at_once_the_more_views_they_have(root, views, chosen, videos, at_once):
    loading = LoadingOptions(eval_batch_size=chosen)
    data = module(root, frames=2, clip=ClipOptions(views=Views(*views)), loading=loading)
    data.setup("test")
    loader = data.test_dataloader()
    assert loader.batch_size == videos
    batch = next(iter(loader))
    assert len(batch.ids) + len(batch.failures) == videos
    assert max(group.flatten(0, 1).shape[0] for group in batch.views()) <= at_once
