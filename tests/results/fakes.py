"""Records of runs that never were, and the scores that would lie beside them."""

from __future__ import annotations

import json
from functools import partial

import numpy as np

from vlbench.datasets.specs import Subset
from vlbench.evaluation.stored_scores import StoredScores, classification_metrics, digest_of_labels
from vlbench.results.details import Details
from vlbench.results.pairs import write_pair
from vlbench.results.record import Identity, Record
from vlbench.results.scores_file import write_scores

CLASSES = ("jump", "run <fast>", "a & b", "wave_hand")


def record(top1=50.0, **changes):
    """A few-shot evaluation of 10 videos; anything of the identity, the record or the details can be changed."""
    identity = {
        "method": "msta", "backbone": "ViT-B-16-quickgelu:openai", "weights": "w", "dataset": "ucf101/words",
        "train_dataset": "ucf101/words", "train": {"classes": "all", "shots": 8, "split": 1, "seed": 0},
        "test": {"classes": "all", "shots": None, "split": 1, "seed": 0}, "views": "1x1", "frames": 8,
        "protocol": "few_shot@1", "seed": 0, "selection": "last", "train_list": "own/8-shot seed 0",
        "test_list": "official/split 1", "test_videos": None, "settings": "5e77", "training_settings": "7a1e",
        "untrained": False,
    }  # fmt: skip
    values = {
        "metrics": {"top1": top1, "top5": 90.0, "mean_per_class": top1},
        "expected": 10, "evaluated": 10, "failures": {},
    }  # fmt: skip
    details = {
        "published_as": {"mote": ["MoTE"], "msta": ["MSTA"]}.get(changes.get("method", "msta"), []),
        "classes": list(CLASSES), "trainable_params": 10, "total_params": 1000, "features_depend_on_classes": False,
    }  # fmt: skip
    if "shots" in changes:
        shots = changes.pop("shots")
        identity["train"] = {**identity["train"], "shots": shots}
        if shots == 0:
            identity |= {"train": None, "train_dataset": None, "train_list": None, "weights": None}
            identity["training_settings"] = None
    for key, value in changes.items():
        next((part for part in (identity, values) if key in part), details)[key] = value
    subsets = {key: identity[key] and Subset(**identity[key]) for key in ("train", "test")}
    return Record(Identity(**identity | subsets), details=Details.from_dict(details), **values)


def half(classes, top1, seed=0, **changes):
    """An evaluation on the base or the novel classes, trained on the base classes."""
    return record(
        top1, protocol="base_to_novel@1", seed=seed, weights=f"w{seed}",
        train={"classes": "base", "shots": 16, "split": 1, "seed": seed},
        test={"classes": classes, "shots": None, "split": 1, "seed": 0}, **changes,
    )  # fmt: skip


def store(folder, name, scores, labels, *, cosines=None, features=None, failures=None, **changes):
    """Writes a record and its scores as `vlbench test` does.

    Args:
        folder: results folder.
        name: of the record.
        scores: `(N, C)`.
        labels: N of them.
        cosines: `(N, C)`, the scores by default.
        features: `(N, D)`, the cosines by default, as if the classes were the axes.
        failures: id -> label of unreadable videos.
        changes: of the record, see `record`.

    Returns:
        Path of the record.
    """
    scores, labels = (np.asarray(each, kind) for each, kind in ((scores, np.float32), (list(labels), np.int64)))
    cosines = scores if cosines is None else np.asarray(cosines, np.float32)
    features = cosines if features is None else np.asarray(features, np.float32)
    ids = [f"v{index}.mp4" for index in range(len(labels))]
    failures = failures or {}
    causes = dict.fromkeys(failures, "empty")
    stored = StoredScores(ids, labels, scores, cosines, features, {v: (failures[v], causes[v]) for v in failures})
    digest = digest_of_labels({**dict(zip(ids, labels.tolist(), strict=True)), **failures})
    kept = {"metrics": classification_metrics(stored), "test_digest": digest}
    counts = {"expected": stored.total, "evaluated": len(ids), "failures": causes}
    made = record(**{**kept, **counts, **changes})
    return write_pair(made, partial(write_scores, stored, made), folder, name)


def edited(path, *keys, value):
    """Changes one field of the file of a record by hand."""
    values = json.loads(path.read_text())
    inner = values
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    path.write_text(json.dumps(values))
