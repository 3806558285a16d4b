"""Few-shot tables on a bank of UCF-101's size, against the same from videos: CPU seconds of one thread, and memory.

The bank is made by a seeded generator, since the videos are not here: 9,537 training and 3,783 test videos of 101
classes, 8 frames, 512 wide, float16. Every row is a process of its own that runs `vlbench.cli.sweep.sweep` on draws of
each number of shots, records included. Fewer than 100 draws are scaled to 100; reading the bank counts once.

The plain way reads the videos of every draw, those of its training and the test videos, and encodes them by the tower:
one rendered file of H.264, 340 x 256 and 10 s, is read and encoded several times, and scaled.

    python benchmarks/bank.py --seeds 100
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from decode import RENDERED, render
from lightning import Callback, LightningModule, Trainer
from torch import nn

from vlbench.backbones.base import Capabilities, DualEncoder
from vlbench.backbones.identity import BackboneIdentity
from vlbench.backbones.openclip import CLIPEncoder, create_clip
from vlbench.bank.datamodule import FeatureBankDataModule
from vlbench.bank.facts import BankFacts, Contents
from vlbench.bank.shards import ShardFile, shard_name, write_shard
from vlbench.cli.quiet import silence
from vlbench.cli.sweep import sweep
from vlbench.clips.batch import ViewBatch
from vlbench.clips.readers import TestViews, Views
from vlbench.datasets.specs import VideoItem
from vlbench.datasets.ucf101 import UCF101
from vlbench.methods import LogisticProbe, NearestMean, NearestNeighbours, TipAdapter, TipAdapterF, ZeroShotProbe
from vlbench.processes import peak_resident_bytes
from vlbench.results.callback import RecordWriter

HEADS = {
    kind.name: kind for kind in (TipAdapterF, ZeroShotProbe, LogisticProbe, TipAdapter, NearestNeighbours, NearestMean)
}
SHOTS = (1, 2, 4, 8, 16)
WIDTH, FRAMES, COUNTS = 512, 8, {"train": 9537, "test": 3783}


class Nameless(DualEncoder):
    """Text features of the classes near their videos', and no images."""

    def __init__(self, centres: torch.Tensor) -> None:
        super().__init__()
        self.capabilities = Capabilities(False, False, False, True)
        self.embed_dim, self.text_width, self.image_size = WIDTH, WIDTH, 224
        self.identity = BackboneIdentity("nameless", "seed 0", "0" * 32)
        self.scale = nn.Parameter(torch.tensor(100.0).log(), requires_grad=False)
        self.register_buffer("centres", centres, persistent=False)
        self.use_preprocess(self.preprocess)

    @property
    def visual(self) -> nn.Module:
        return nn.Identity()

    @property
    def logit_scale(self) -> nn.Parameter:
        return self.scale

    def encode_frames(self, pixels: torch.Tensor, *, adapted: bool = True) -> torch.Tensor:
        raise NotImplementedError

    def tokenize(self, texts):
        return torch.arange(len(texts))[:, None]

    def encode_texts(self, texts, **_):
        return self.centres[: len(texts)]


def backbone() -> Nameless:
    generator = torch.Generator().manual_seed(0)
    return Nameless(torch.nn.functional.normalize(torch.randn(101, WIDTH, generator=generator), dim=-1))


def make_bank(folder: Path) -> None:
    """A bank whose videos lie around a centre for each class; zero-shot, heads and more shots differ on it."""
    tower = backbone()
    spec, rng = UCF101().spec, np.random.default_rng(0)
    centres = tower.centres.numpy()
    lists = {
        f"{part}/1": [[f"{part}/{index:05}.avi", index % 101] for index in range(count)]
        for part, count in COUNTS.items()
    }
    facts = BankFacts(
        dataset={
            "class": "UCF101", "variant": "words", "label": "ucf101/words", "content": {"train": "", "test": ""},
            "name": "ucf101", "class_names": list(spec.class_names), "base_classes": list(spec.base_classes),
            "directional": False, "splits": 3, "lists": "ucf", "licence": "", "source": "", "split_classes": {},
        },
        lists=lists,
        backbone={**tower.identity.as_dict(), "settings": tower.settings(), "embed_dim": WIDTH},
        preprocess={"image_size": 224, "interpolation": "bicubic", "resize_mode": "shortest"},
        frames=FRAMES,
        clip={"sampling": "uniform", "segment_ends": "shared", "test_short_side": 1.0,
              "views": {"clips": 1, "crops": 1, "right_edge": "exact"}},
        settings={"views": {"frames": FRAMES}, "augmented": {}},
        augmented=0, seed=0, dtype="float16",
    )  # fmt: skip
    videos = [pair for listed in lists.values() for pair in listed]
    shift = 0.05 * rng.standard_normal((101, WIDTH))  # what the texts do not know of the videos
    shards = []
    for index, first in enumerate(range(0, len(videos), 256)):
        part = videos[first : first + 256]
        labels = np.array([label for _, label in part])
        means = (centres + shift)[labels] + 0.08 * rng.standard_normal((len(part), WIDTH))
        frames = means[:, None, None] + 0.05 * rng.standard_normal((len(part), 1, FRAMES, WIDTH))
        path = folder / shard_name("views", index)
        write_shard(path, frames.astype(np.float16), [video for video, _ in part], {}, facts.digest())
        shards.append(ShardFile.open(path).described("views"))
    Contents(facts, tuple(shards)).write(folder)


class Stopwatch(Callback):
    """CPU seconds of this process when each training begins."""

    def __init__(self) -> None:
        self.starts: list[float] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:  # noqa: ARG002
        if stage == "fit":
            self.starts.append(time.process_time())


def measure(bank: Path, name: str, seeds: int) -> None:
    """All draws of a head in one sweep; prints a row."""
    silence()
    torch.set_num_threads(1)
    method = HEADS[name](backbone())
    data = FeatureBankDataModule(root=str(bank), image_size=224)
    watch = Stopwatch()
    options = {"accelerator": "cpu", "devices": 1, "max_epochs": 1, "enable_model_summary": False,
               "use_distributed_sampler": False, "num_sanity_val_steps": 0, "callbacks": [watch]}  # fmt: skip
    begin = time.process_time()
    draws = [(1, 10_000), *((shots, seed) for shots in SHOTS for seed in range(seeds))]  # the first reads the bank
    with tempfile.TemporaryDirectory(prefix="vlbench-bank-", dir=bank.parent) as out:
        sweep(method, data, draws, RecordWriter(folder=out), options)
    ends = [*watch.starts[1:], time.process_time()]
    seconds = [end - start for start, end in zip(watch.starts, ends, strict=True)]
    means = [statistics.fmean(seconds[first : first + seeds]) for first in range(1, len(draws), seeds)]
    total = watch.starts[1] - begin + 100 * sum(means)
    peak = peak_resident_bytes() / 2**30
    cells = "  ".join(f"{mean:6.2f}" for mean in means)
    print(f"{name:20}  {cells}  {total:7.0f} s  {peak:5.2f} GiB", file=sys.stderr, flush=True)


def measure_plain(videos: int) -> None:
    """What a draw costs that reads its videos: eight frames of a file of H.264 and the tower of ViT-B/16."""
    silence()
    torch.set_num_threads(1)
    tower = CLIPEncoder(
        create_clip("ViT-B-16-quickgelu", None), None, name="ViT-B-16-quickgelu", pretrained=None
    ).eval()
    reading, encoding = [], []
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        path = render(Path(folder) / "web.mp4", **RENDERED["web.mp4"])
        views = TestViews([VideoItem(path, 0, "web.mp4")], frames=FRAMES, sampling="uniform", views=Views(), size=224,
                          resize=224, backend="pyav")  # fmt: skip
        for _ in range(videos + 1):  # the first one warms up
            times = [time.process_time()]
            batch = ViewBatch.collate([views[0]])
            times.append(time.process_time())
            tower.encode_frames(tower.normalize(next(batch.views()).flatten(0, 1)))
            times.append(time.process_time())
            reading.append(times[1] - times[0])
            encoding.append(times[2] - times[1])
    read, encoded = (statistics.median(times[1:]) for times in (reading, encoding))
    draw = {shots: shots * 101 + COUNTS["test"] for shots in SHOTS}
    days = 100 * sum(draw.values()) * (read + encoded) / 86_400
    lines = (
        f"a video, H.264 of 10 s: {read:.2f} CPU s to read, {encoded:.2f} to encode by ViT-B/16",
        f"the bank, once: {sum(COUNTS.values()) * (read + encoded) / 3600:.1f} CPU hours",
        f"videos in its place: {draw[16] * (read + encoded) / 3600:.1f} CPU hours a draw at K=16, {days:.0f} CPU days a"
        " method for 100 draws of each K",
    )
    print(*lines, sep="\n", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=3, help="draws of each number of shots, of 100")
    parser.add_argument("--jobs", type=int, default=2, help="methods at once")
    parser.add_argument("--methods", nargs="+", default=list(HEADS))
    parser.add_argument("--videos", type=int, default=3, help="videos that the plain way is measured on")
    parser.add_argument("--bank", type=Path, default=None)
    parser.add_argument("--method", default=None, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.method is not None:
        measure(given.bank, given.method, given.seeds)
        return
    measure_plain(given.videos)
    with tempfile.TemporaryDirectory(prefix="vlbench-bank-") as temporary:
        bank = Path(temporary) / "bank"
        bank.mkdir()
        make_bank(bank)
        shots = "  ".join(f"K={shots:<4}" for shots in SHOTS)
        print(f"{'CPU seconds a draw':20}  {shots}  100 draws of each, largest memory", file=sys.stderr)

        def run(name: str) -> None:
            words = [sys.executable, __file__, "--method", name, "--bank", str(bank), "--seeds", str(given.seeds)]
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            subprocess.run(words, check=True, stdout=subprocess.DEVNULL, env=environment)

        begin = time.monotonic()
        with ThreadPoolExecutor(given.jobs) as pool:
            list(pool.map(run, given.methods))
    print(f"{time.monotonic() - begin:.0f} s for {given.seeds} draws of each, {given.jobs} at once", file=sys.stderr)


if __name__ == "__main__":
    main()
