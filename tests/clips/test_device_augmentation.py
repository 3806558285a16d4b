"""Augmentation on the model's device gives the clips that the workers give."""

import lightning
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2.functional import _color, _geometry

from tests.fakes import FakeDataset, moving_frames, write_video
from vlbench.clips.batch import CutBatch, Draw
from vlbench.clips.datamodule import VideoDataModule
from vlbench.clips.options import Augmentation, LoadingOptions
from vlbench.clips.transforms import TrainTransform
from vlbench.errors import DecodeError

SIZES = ((48, 64), (64, 48), (50, 90))


class FakeDataModule(VideoDataModule):
    dataset_class = FakeDataset


class Seen(lightning.LightningModule):
    """Keeps the clips that a training step is given."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.clips = {}

    def training_step(self, batch, batch_idx):
        self.clips |= {(self.current_epoch, name): clip for name, clip in zip(batch.ids, batch.video, strict=True)}
        return self.weight * 1

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Nine videos of three sizes, and one that cannot be read."""
    root = tmp_path_factory.mktemp("augmented")
    lines = ["lost.mp4 0"]
    (root / "lost.mp4").write_text("this is no video")
    for k in range(9):
        write_video(root / f"v{k}.mp4", moving_frames(12, *SIZES[k % 3], seed=k))
        lines.append(f"v{k}.mp4 {k % 4}")
    (root / "train.txt").write_text("\n".join(lines) + "\n")
    return root


def trained(root, run_on, *, on_error="skip", **augmentation):
    """Clips of two epochs by epoch and id, and the global random number after them."""
    changes = Augmentation(run_on=run_on, **augmentation)
    loading = LoadingOptions(on_error=on_error)
    data = FakeDataModule(
        str(root), frames=4, batch_size=5, num_workers=1, image_size=32, augmentation=changes, loading=loading, seed=3
    )
    trainer = lightning.Trainer(
        accelerator="cpu", max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    module = Seen()
    torch.manual_seed(0)
    trainer.fit(module, data)
    return module.clips, data.skipped, torch.rand(1)


@pytest.mark.parametrize("fused_resize", [False, True])
def test_clips_are_those_of_the_workers(root, fused_resize):
    options = {"color_jitter": 0.9, "gray": 0.5, "fused_resize": fused_resize}
    (worker, skipped, after), (device, skipped_too, after_too) = (
        trained(root, run_on, **options) for run_on in ("worker", "device")
    )
    assert worker.keys() == device.keys()
    assert len(worker) == 18
    assert all(torch.equal(worker[key], device[key]) for key in worker)
    assert all(clip.shape == (4, 3, 32, 32) for clip in device.values())
    assert any(not torch.equal(device[0, name], device[1, name]) for _, name in device), "every epoch has its draws"
    assert skipped == skipped_too == {"lost.mp4"}
    assert torch.equal(after, after_too), "the numbers of the training itself do not move"


def test_an_unreadable_video_ends_the_training(root):
    with pytest.raises(DecodeError, match=r"lost\.mp4.*on_error: skip"):
        trained(root, "device", on_error="raise")


def test_a_batch_without_a_readable_video_has_no_clips():
    batch = CutBatch.collate([])
    assert batch.finished(TrainTransform(32).finish).video is None


def halves(seed, size):
    """A clip of a call, and what the second half makes of the first half's box."""
    frames = torch.from_numpy(moving_frames(4, *SIZES[seed % 3], seed)).permute(0, 3, 1, 2)
    transform = TrainTransform(size, resize=40)
    torch.manual_seed(seed)
    whole = transform(frames)
    torch.manual_seed(seed)
    box, height, width = transform.cut(frames)
    return whole, lambda: transform.finish(box, Draw(seed, height, width))


def test_a_gpus_resize_moves_pixels_by_few_grey_levels(monkeypatch):
    """A GPU resizes in floats and rounds; a CPU with vector instructions does it in integers."""
    if not _geometry._do_native_uint8_resize_on_cpu(InterpolationMode.BILINEAR):
        pytest.skip("torchvision resizes in floats on this CPU, too")
    pairs = [halves(seed, 32) for seed in range(60)]
    monkeypatch.setattr(_geometry, "_do_native_uint8_resize_on_cpu", lambda interpolation: False)
    differences = [(whole.int() - finish().int()).abs() for whole, finish in pairs]
    assert any(difference.any() for difference in differences), "both ways rounded alike"
    assert max(difference.max() for difference in differences) <= 8, "single pixels"
    assert max(difference.float().mean() for difference in differences) < 0.1


@pytest.mark.usefixtures("pretended_gpu")
def test_uint8_boxes_are_changed_on_a_gpu(monkeypatch):
    """Shapes, types and devices of the operations, on a GPU that is not there."""
    # The way back from hues moves a real table to the GPU; it alone is left out here.
    monkeypatch.setattr(_color, "_hsv_to_rgb", lambda image: image)
    transform = TrainTransform(32, color_jitter=1.0, gray=1.0)
    with FakeTensorMode():
        box = torch.empty(4, 21, 35, 3, dtype=torch.uint8, device="cuda").movedim(-1, -3)
    clip = transform.finish(box, Draw(5, 40, 60))
    assert (clip.shape, clip.dtype, clip.device.type) == ((4, 3, 32, 32), torch.uint8, "cuda")
