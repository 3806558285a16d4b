"""Time of the multiverse of 20 methods with 3,783 videos and 101 classes, from files of generated scores.

python benchmarks/multiverse.py [--methods 20] [--seeds 3] [--views 3x1] [--prompts 28]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np

from vlbench.datasets.specs import Subset
from vlbench.evaluation.kept import KeptFacts
from vlbench.evaluation.stored_scores import StoredScores, classification_metrics, digest_of_labels
from vlbench.processes import peak_resident_bytes
from vlbench.results.details import Details
from vlbench.results.kept_file import KeptScores, write_kept
from vlbench.results.multiverse_records import multiverse
from vlbench.results.pairs import write_pair
from vlbench.results.record import Identity, Record
from vlbench.results.scores_file import write_scores

VIDEOS, CLASSES = 3783, 101


def write(folder: Path, method: int, seed: int, views: tuple[int, int], prompts: int) -> None:
    """Writes a record of a method and a seed, its scores and what it kept."""
    clips, crops = views
    random = np.random.default_rng([method, seed])
    labels = np.random.default_rng(0).integers(0, CLASSES, VIDEOS)
    shape = (VIDEOS, prompts, clips * crops, CLASSES)
    scores = random.standard_normal(shape, np.float32) * np.float32(0.05)
    np.put_along_axis(
        scores, labels[:, None, None, None], scores.max() * np.float32(0.4 + 0.02 * (method % 10)), axis=-1
    )
    ids = tuple(f"v{index:05}.avi" for index in range(VIDEOS - 3))
    lost = {f"v{index:05}.avi": int(labels[index]) for index in range(VIDEOS - 3, VIDEOS)}
    facts = KeptFacts(
        tuple(f"template {index} of {{}}" for index in range(prompts)), True, "probabilities", True, 100.0, False
    )
    kept = KeptScores(ids, labels[:-3], scores[:-3], lost, facts, f"w{seed}")
    causes = {name: (label, "missing") for name, label in lost.items()}
    stored = StoredScores(ids, labels[:-3], kept.own, scores[:-3, 0].mean(axis=1), scores[:-3, 0, 0, :0], causes)
    train = Subset(shots=16, seed=seed)
    identity = Identity(
        f"method{method:02}", "ViT-B-16:openai", f"w{seed}", "ucf101/words", "ucf101/words", train, Subset(),
        f"{clips}x{crops}", 8, "few_shot@1", seed, "last", f"own/16-shot seed {seed}", "official/split 1",
    )  # fmt: skip
    path = folder / "records" / f"method{method:02}-{seed}.json"
    test_digest = digest_of_labels({**dict(zip(ids, labels.tolist(), strict=False)), **lost})
    record = Record(
        identity,
        classification_metrics(stored),
        VIDEOS,
        len(ids),
        dict.fromkeys(lost, "missing"),
        Details(
            classes=tuple(f"class {index}" for index in range(CLASSES)),
            test_digest=test_digest,
            views={"clips": clips, "crops": crops, "right_edge": "exact"},
            sampling="uniform",
            kept=write_kept(kept, path),
        ),
    )
    write_pair(record, partial(write_scores, stored, record), folder, path.stem)


def main() -> None:
    """Writes the files, and times the universes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--views", default="3x1")
    parser.add_argument("--prompts", type=int, default=28)
    arguments = parser.parse_args()
    clips, crops = map(int, arguments.views.split("x"))
    with tempfile.TemporaryDirectory() as name:
        for method in range(arguments.methods):
            for seed in range(arguments.seeds):
                write(Path(name), method, seed, (clips, crops), arguments.prompts)
        size = sum(path.stat().st_size for path in Path(name).rglob("*.*"))
        begin = time.perf_counter()
        outcome = multiverse([Path(name)])
        seconds = time.perf_counter() - begin
    memory = peak_resident_bytes() / 2**30
    print(
        f"{outcome.universes:,} universes of {len(outcome.methods)} methods x {VIDEOS:,} videos x {CLASSES} classes:"
        f" {seconds:.1f} s, peak memory {memory:.1f} GiB, files {size / 2**30:.1f} GiB"
    )


if __name__ == "__main__":
    main()
