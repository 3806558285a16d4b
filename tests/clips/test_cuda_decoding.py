"""Decoding on a GPU is the same frames or a refusal; a CPU plays the GPU here, `tests/gpu` has a real one."""

import pickle

import pytest
import torch

from tests.fakes import FakeDataset, moving_frames, write_video
from vlbench.clips.datamodule import VideoDataModule
from vlbench.clips.decoding import open_video
from vlbench.clips.options import LoadingOptions
from vlbench.errors import ConfigError

try:
    from vlbench.clips.decoding import torchcodec
except (ImportError, RuntimeError) as error:
    pytest.skip(f"torchcodec cannot be loaded: {error}", allow_module_level=True)

ON_CUDA = LoadingOptions(backend="torchcodec", decode_on="cuda")


class FakeDataModule(VideoDataModule):
    dataset_class = FakeDataset


@pytest.fixture
def video(tmp_path):
    (tmp_path / "train.txt").write_text("a.mp4 0\n")
    return write_video(tmp_path / "a.mp4", moving_frames(30), gop=10)


def played(monkeypatch, change):
    """Has the CPU play a GPU whose frames are changed; gives the devices that were asked for."""
    asked = []

    class Decoder(torchcodec.VideoDecoder):
        def __init__(self, *args, device, **options):
            super().__init__(*args, device="cpu", **options)
            asked.append(device)

        def get_frames_at(self, indices):
            batch = super().get_frames_at(indices)
            batch.data = change(
                batch.data, lambda shift: super(Decoder, self).get_frames_at([i + shift for i in indices]).data
            )
            return batch

    monkeypatch.setattr(torchcodec, "VideoDecoder", Decoder)
    monkeypatch.setattr(torchcodec, "_compared", torchcodec.Counter())
    return asked


def read(path, indices=(3, 17, 5)):
    with open_video(path, backend="torchcodec", device="cuda:0") as reader:
        return reader.frames_at(indices)


def test_colours_some_grey_levels_off_are_taken(video, monkeypatch):
    asked = played(monkeypatch, lambda frames, shifted: (frames.int() + 3).clamp(0, 255).to(torch.uint8))
    with open_video(video) as reader:
        expected = reader.frames_at([3, 17, 5])
    assert 0 < (read(video).int() - expected.int()).abs().max() <= 3
    assert asked == ["cuda:0"]


@pytest.mark.parametrize("shift", [-1, 1])
def test_a_neighbour_with_the_right_time_is_refused(video, monkeypatch, shift):
    played(monkeypatch, lambda frames, shifted: shifted(shift))
    with pytest.raises(ConfigError, match=r"frame 3 of .*a\.mp4 differs from the CPU's by .*; set decode_on: cpu"):
        read(video)


def test_other_colours_are_refused(video, monkeypatch):
    played(monkeypatch, lambda frames, shifted: (frames.int() + 20).clamp(0, 255).to(torch.uint8))
    with pytest.raises(ConfigError, match=r"allowed: 4, and none that is nearer to a neighbour"):
        read(video)


def test_the_first_files_of_a_kind_are_compared(video, tmp_path, monkeypatch):
    played(monkeypatch, lambda frames, shifted: frames)
    compared = []
    compare = torchcodec.PyAVReader.frames_at
    monkeypatch.setattr(
        torchcodec.PyAVReader,
        "frames_at",
        lambda self, indices: (compared.append(self.path), compare(self, indices))[1],
    )
    for _ in range(torchcodec.COMPARED + 2):
        read(video)
    assert len(compared) == torchcodec.COMPARED
    other = write_video(tmp_path / "b.mkv", moving_frames(30), codec="libvpx-vp9", gop=10)
    read(other)
    assert compared[torchcodec.COMPARED :] == [other], "another codec is another kind"


def test_a_gpu_without_memory_does_not_leave_the_frames_to_the_cpu(video, monkeypatch):
    def full(frames, shifted):
        raise torch.OutOfMemoryError("CUDA out of memory")

    played(monkeypatch, full)
    with pytest.raises(torch.OutOfMemoryError):
        read(video)


def test_what_cannot_work_is_refused_in_a_sentence(video, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"decode_on is cuda with the backend pyav; allowed: the backend torchcodec"):
        LoadingOptions(decode_on="cuda")
    data = FakeDataModule(str(tmp_path), frames=2, image_size=32, num_workers=2, loading=ON_CUDA)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"decode_on is cuda and torch finds no CUDA device here; set it to cpu"):
        data.train_dataloader()


def test_a_torchcodec_without_cuda_is_refused(video):
    try:
        torchcodec.VideoDecoder(str(video), device="cuda")
    except RuntimeError as error:
        if "Unsupported device" not in str(error):
            pytest.skip(f"this torchcodec has CUDA: {error}")
    else:
        pytest.skip("this torchcodec has CUDA")
    with pytest.raises(ConfigError, match=r"this torchcodec is built without CUDA; install a CUDA build of it, or"):
        read(video)


def test_workers_are_spawned_with_what_they_need(video, tmp_path, monkeypatch):
    played(monkeypatch, lambda frames, shifted: frames)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    data = FakeDataModule(str(tmp_path), frames=2, image_size=32, num_workers=2, loading=ON_CUDA)
    loader = data.train_dataloader()
    assert loader.multiprocessing_context.get_start_method() == "spawn"
    dataset, _ = pickle.loads(pickle.dumps((loader.dataset, loader.collate_fn)))
    data.loading = LoadingOptions(backend="torchcodec")
    assert data.train_dataloader().multiprocessing_context is None
    assert torch.equal(dataset[0, 0].video, data.train_dataloader().dataset[0, 0].video)
