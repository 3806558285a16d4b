"""The mean frame feature of every view in place of the frame features, and files of features made by hand."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from safetensors import SafetensorError
from safetensors.numpy import save_file

from vlbench.bank import averaged, shards
from vlbench.bank.averaged import AveragedBank
from vlbench.bank.shards import ShardFile, write_shard
from vlbench.errors import DataError, WriteError

pytestmark = pytest.mark.quick


class Whole:
    """A bank in memory, whose features are of half precision."""

    def __init__(self):
        random = np.random.default_rng(0)
        self.of = {kind: random.normal(size=(5, 3, 4, 8)).astype(np.float16) for kind in ("views", "augmented")}
        self.names = [f"v{number}" for number in range(6)]
        self.failures = {"v2": "empty"}
        self.facts = SimpleNamespace(ids=lambda kind: self.names)

    def features(self, ids, kind="views"):
        rows = [name for name in self.names if name not in self.failures]
        if not set(ids) <= set(rows):
            raise DataError("no features")
        return self.of[kind][[rows.index(video) for video in ids]]


@pytest.mark.parametrize("rows", [1, 2, 5, 1024])
def test_features_are_the_means_of_single_precision(monkeypatch, rows):
    monkeypatch.setattr(averaged, "_ROWS", rows)
    whole = Whole()
    bank = AveragedBank(whole)
    for kind in ("views", "augmented"):
        for ids in (["v4", "v0", "v5", "v0"], ["v1"], []):
            features = bank.features(ids, kind)
            expected = whole.features(ids, kind).astype(np.float64).mean(axis=2, keepdims=True)
            assert features.dtype == np.float32
            assert features.shape == (len(ids), 3, 1, 8)
            np.testing.assert_allclose(features, expected, rtol=0, atol=1e-6)
    with pytest.raises(DataError, match="no features"):
        bank.features(["v0", "v2"])


# Files of features ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("Error while serializing: I/O error: No space left on device (os error 28)", "No space left on device"),
        ('IoError(Os { code: 27, kind: FileTooLarge, message: "File too large" })', "File too large"),
        ("Error while serializing 28 tensors", None),
    ],
)
def test_a_refusal_of_the_system_is_told_from_other_errors(tmp_path, monkeypatch, said, reason):
    def refused(*_, **__):
        raise SafetensorError(said)

    monkeypatch.setattr(shards, "save_file", refused)
    features = np.ones((1, 1, 4, 8), np.float16)
    with pytest.raises(SafetensorError if reason is None else WriteError, match=reason or "28 tensors"):
        write_shard(tmp_path / "a.safetensors", features, ["a"], {}, "digest")
    assert not list(tmp_path.iterdir())


def test_a_file_with_more_or_fewer_bytes_or_names_is_refused(tmp_path):
    path = tmp_path / "views-00000.safetensors"
    features = np.arange(64, dtype=np.float32).reshape(2, 1, 4, 8)
    write_shard(path, features, ["a", "b"], {"c": "empty"}, "digest")
    content = path.read_bytes()
    file = ShardFile.open(path)
    np.testing.assert_array_equal(file.features, features)
    assert (file.ids, file.failures, file.bank, file.shape) == (("a", "b"), {"c": "empty"}, "digest", (2, 1, 4, 8))
    for other in (content + b"\0", content[:-1], content[:9], b"", content[:4]):
        path.write_bytes(other)
        with pytest.raises(DataError, match="is no whole file of features"):
            ShardFile.open(path)
    for shape, ids in (((2, 1, 4, 8), ["a"]), ((2, 1, 4, 8), ["a", "b", "c"]), ((2, 4, 8), ["a", "b"])):
        write_shard(path, np.zeros(shape, np.float32), ids, {}, "digest")
        with pytest.raises(DataError, match=f"and it names {len(ids)} videos"):
            ShardFile.open(path)
    save_file(
        {"features": features.astype(np.float64)},
        path,
        metadata={"vlbench": '{"bank": "", "failures": {}, "ids": ["a", "b"]}'},
    )
    with pytest.raises(DataError, match="is no whole file of features"):
        ShardFile.open(path)


def test_features_behind_another_tensor_are_read_where_they_begin(tmp_path):
    path, features = tmp_path / "views-00000.safetensors", np.arange(64, dtype=np.float32).reshape(2, 1, 4, 8)
    stated = {"vlbench": '{"bank": "", "failures": {}, "ids": ["a", "b"]}'}
    save_file({"another": np.full(5, 7, np.float32), "features": features}, path, metadata=stated)
    file = ShardFile.open(path)
    assert file.offset % 4 == 0
    np.testing.assert_array_equal(file.features, features)
