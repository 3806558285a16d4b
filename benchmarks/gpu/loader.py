"""Share of a training's time that a GPU waits for clips, which are read from H.264 files.

Files of the size of Kinetics' copies (340 x 256, 10 s, 30 frames a second) are made first. A Trainer then trains MoTE
on them in bf16; the time between the end of a step and the next batch's arrival is the wait, and the first batches,
before which the workers start, are not counted.

    python benchmarks/gpu/loader.py --out results/gpu --backbone ViT-L-14 --workers 15
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import numpy as np
import torch
from lightning import Callback, Trainer
from throughput import BATCHES, FRAMES, build

from vlbench.clips.datamodules import FolderVideosDataModule

SKIPPED = 6


def write(path: Path, seed: int) -> None:
    """A panning picture with noise, so that it takes about as many bits as a real clip."""
    rng = np.random.default_rng(seed)
    picture = np.kron(rng.integers(0, 255, (40, 50, 3)), np.ones((16, 16, 1))).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = 340, 256, "yuv420p"
        for index in range(300):
            view = picture[index : index + 256, 2 * index % 400 : 2 * index % 400 + 340]
            noise = rng.integers(0, 12, view.shape, dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(view // 2 + noise, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


class Waiting(Callback):
    """Seconds that each step waited for its batch, and seconds of the steps with it."""

    def __init__(self):
        self.waits, self.steps, self.ended = [], [], None

    def on_train_batch_start(self, *_):
        if self.ended is not None:
            self.waits.append(time.monotonic() - self.ended)

    def on_train_batch_end(self, *_):
        torch.cuda.synchronize()
        now = time.monotonic()
        if self.ended is not None:
            self.steps.append(now - self.ended)
        self.ended = now


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", nargs="+", default=["ViT-B-16", "ViT-L-14"])
    parser.add_argument("--workers", type=int, default=max(1, len(os.sched_getaffinity(0)) - 1))
    parser.add_argument("--videos", type=int, default=96)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as folder:
        paths = [Path(folder) / "train" / f"class {index % 4}" / f"{index}.mp4" for index in range(options.videos)]
        with ProcessPoolExecutor() as pool:
            list(pool.map(write, paths, range(options.videos)))
        for backbone in options.backbone:
            batch_size = BATCHES["mote", backbone, "train"]
            data = FolderVideosDataModule(
                folder, frames=FRAMES, batch_size=batch_size, num_workers=options.workers, image_size=224
            )
            data.loading = type(data.loading)(epoch_size=batch_size * (options.steps + SKIPPED))
            model, waiting = build("mote", backbone), Waiting()
            model.use(data.dataset)
            trainer = Trainer(
                accelerator="gpu", devices=1, precision="bf16-mixed", max_epochs=1, callbacks=[waiting], logger=False,
                enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
                use_distributed_sampler=False, num_sanity_val_steps=0, limit_val_batches=0,
            )  # fmt: skip
            trainer.fit(model, datamodule=data)
            waits, steps = waiting.waits[SKIPPED:], waiting.steps[SKIPPED:]
            result = {
                "method": "mote", "backbone": backbone, "batch_size": batch_size, "workers": options.workers,
                "clips_per_second": batch_size * len(steps) / sum(steps), "waiting": sum(waits) / sum(steps),
                "median_step_seconds": statistics.median(steps), "gpu": torch.cuda.get_device_name(),
                "torch": torch.__version__,
            }  # fmt: skip
            (options.out / f"loader-{backbone}.json").write_text(json.dumps(result, indent=2))
            print(
                f"{backbone}: {result['clips_per_second']:.0f} clips/s with {options.workers} workers,"
                f" {result['waiting']:.0%} of the time waiting for clips",
                flush=True,
            )


if __name__ == "__main__":
    main()
