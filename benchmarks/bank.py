"""Few-shot tables on a bank of UCF-101's size: CPU seconds a draw of each head, one thread, and memory.

The bank is made by a seeded generator, since the videos are not here: 9,537 training and 3,783 test videos of 101
classes, 8 frames, 512 wide, float16. Every row is a process of its own that runs `vlbench.cli.sweep.sweep` on some
draws of each number of shots, records included, and scales to 100 draws; the first draw, which reads the bank, counts
once.

    python benchmarks/bank.py --draws 3
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from vlbench.backbones.base import Capabilities, DualEncoder
from vlbench.backbones.identity import BackboneIdentity
from vlbench.bank.datamodule import FeatureBankDataModule
from vlbench.bank.facts import BankFacts, Contents
from vlbench.bank.shards import ShardFile, shard_name, write_shard
from vlbench.cli.quiet import silence
from vlbench.cli.sweep import sweep
from vlbench.datasets.ucf101 import UCF101
from vlbench.methods import LogisticProbe, NearestMean, NearestNeighbours, TipAdapter, TipAdapterF, ZeroShotProbe
from vlbench.results.callback import RecordWriter

HEADS = {
    kind.name: kind for kind in (NearestMean, NearestNeighbours, TipAdapter, TipAdapterF, ZeroShotProbe, LogisticProbe)
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


def measure(bank: Path, name: str, draws: int, out: Path) -> None:
    silence()
    torch.set_num_threads(1)
    method = HEADS[name](backbone())
    data = FeatureBankDataModule(root=str(bank), image_size=224)
    record = RecordWriter(folder=str(out))
    options = {"accelerator": "cpu", "devices": 1, "max_epochs": 1, "enable_model_summary": False,
               "use_distributed_sampler": False, "num_sanity_val_steps": 0}  # fmt: skip
    begin = time.process_time()
    sweep(method, data, [(1, 10_000)], record, options)
    first, seconds = time.process_time() - begin, {}
    for shots in SHOTS:
        begin = time.process_time()
        sweep(method, data, [(shots, seed) for seed in range(draws)], record, options)
        seconds[shots] = (time.process_time() - begin) / draws
    hundred = first + 100 * sum(seconds.values())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    cells = "  ".join(f"{seconds[shots]:6.2f}" for shots in SHOTS)
    print(f"{name:20}  {cells}  {hundred:7.0f} s  {peak:5.2f} GiB", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--draws", type=int, default=3, help="draws that are measured, of 100")
    parser.add_argument("--methods", nargs="+", default=list(HEADS))
    parser.add_argument("--bank", type=Path, default=None)
    parser.add_argument("--method", default=None, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=None, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.method is not None:
        measure(given.bank, given.method, given.draws, given.out)
        return
    with tempfile.TemporaryDirectory(prefix="vlbench-bank-") as temporary:
        bank = Path(temporary) / "bank"
        bank.mkdir()
        make_bank(bank)
        shots = "  ".join(f"K={shots:<4}" for shots in SHOTS)
        print(f"{'CPU seconds a draw':20}  {shots}  100 draws of each, largest memory", file=sys.stderr)
        for name in given.methods:
            words = [sys.executable, __file__, "--method", name, "--bank", str(bank), "--draws", str(given.draws)]
            subprocess.run([*words, "--out", str(Path(temporary) / name)], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
