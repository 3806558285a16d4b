"""Frames that a real GPU decodes are the CPU's frames of the same number."""

import pytest
import torch

from tests.fakes import FakeDataset, moving_frames, write_video
from vlbench.clips.datamodule import VideoDataModule
from vlbench.clips.decoding import open_video
from vlbench.clips.options import Augmentation, LoadingOptions

pytestmark = pytest.mark.gpu

COUNT, SIZE = 60, (144, 256)  # below about 150 pixels a side some GPUs decode nothing


class FakeDataModule(VideoDataModule):
    dataset_class = FakeDataset


@pytest.fixture(scope="module")
def nvdec(tmp_path_factory):
    """torchcodec's reader, where it decodes on the GPU; skips with what stands in the way."""
    path = write_video(tmp_path_factory.mktemp("probe") / "probe.mp4", moving_frames(4, *SIZE))
    try:
        from torchcodec.decoders import VideoDecoder

        from vlbench.clips.decoding import torchcodec

        decoder = VideoDecoder(str(path), device="cuda")
        decoder.get_frames_at([0])
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"torchcodec does not decode on this GPU: {str(error).partition(chr(10))[0]}")
    if getattr(decoder, "cpu_fallback", False):
        pytest.skip(f"torchcodec leaves H.264 to the CPU here: {decoder.cpu_fallback}")
    return torchcodec


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("plain.mp4", {}),
        ("bframes.mp4", {"bframes": 3}),
        ("open.mp4", {"bframes": 2, "gop": 20, "options": {"x264-params": "open-gop=1"}}),
        ("turned.mp4", {"rotation": 90}),
        ("vp9.mkv", {"codec": "libvpx-vp9"}),
    ],
)
def test_every_frame_is_nearest_to_its_own_number(name, options, nvdec, tmp_path):
    path = write_video(tmp_path / name, moving_frames(COUNT, *SIZE), **options)
    with open_video(path) as reader:
        expected = reader.frames_at(range(COUNT)).float()
    order = torch.randperm(COUNT, generator=torch.Generator().manual_seed(0)).tolist()
    with open_video(path, backend="torchcodec", device="cuda") as reader:
        frames = reader.frames_at(order)
    for index, frame in zip(order, frames.cpu().float(), strict=True):
        distances = (expected - frame).abs().mean(dim=(1, 2, 3))
        assert int(distances.argmin()) == index
        assert distances[index] <= nvdec.FARTHEST


@pytest.mark.parametrize("run_on", ["worker", "device"])
def test_spawned_workers_give_the_clips_of_the_process_itself(nvdec, run_on, tmp_path):
    lines = []
    for k in range(4):
        write_video(tmp_path / f"v{k}.mp4", moving_frames(COUNT, *SIZE, seed=k))
        lines.append(f"v{k}.mp4 {k}\n")
    (tmp_path / "train.txt").write_text("".join(lines))

    def clips(workers, **loading):
        data = FakeDataModule(
            str(tmp_path), frames=4, batch_size=2, num_workers=workers, image_size=64,
            augmentation=Augmentation(run_on=run_on), loading=LoadingOptions(backend="torchcodec", **loading),
        )  # fmt: skip
        batches = [data.on_after_batch_transfer(batch, 0) for batch in data.train_dataloader()]
        return {name: clip for batch in batches for name, clip in zip(batch.ids, batch.video, strict=True)}

    alone, workers, on_cpu = clips(0, decode_on="cuda"), clips(2, decode_on="cuda"), clips(0)
    assert alone.keys() == workers.keys() == on_cpu.keys()
    assert all(torch.equal(alone[name], workers[name]) for name in alone)
    assert all(not clip.is_cuda for clip in alone.values())
    # Jitter makes a few grey levels several.
    assert all((alone[name].float() - on_cpu[name].float()).abs().mean() < 2 * nvdec.FARTHEST for name in alone)


def test_boxes_become_the_same_clips_on_a_gpu(tmp_path):
    from vlbench.clips.batch import Draw
    from vlbench.clips.transforms import TrainTransform

    transform = TrainTransform(64, resize=80, color_jitter=1.0)
    for seed in range(20):
        frames = torch.from_numpy(moving_frames(4, *SIZE, seed=seed)).permute(0, 3, 1, 2)
        torch.manual_seed(seed)
        box, height, width = transform.cut(frames)
        draw = Draw(seed, height, width)
        difference = (transform.finish(box.cuda(), draw).cpu().int() - transform.finish(box, draw).int()).abs()
        assert difference.max() <= 8
        assert difference.float().mean() < 0.1
