"""`vlbench features export`: the tables of a bank."""

import errno
import json
import sys

import numpy as np
import pytest

from tests.bank.conftest import CLASSES
from vlbench.bank.bank import FeatureBank
from vlbench.bank.parquet import export_parquet, feature_columns, video_columns
from vlbench.cli.main import main
from vlbench.files import TEMPORARY


def test_rows_are_the_features_of_the_bank(kitchen_bank, monkeypatch):
    """Some videos at a time, of both kinds; needs no pyarrow."""
    monkeypatch.setattr("vlbench.bank.parquet._VIDEOS", 7)
    bank = FeatureBank(kitchen_bank)
    blocks = list(feature_columns(bank))
    columns = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
    assert len(blocks) == 4 + 3  # of 23 readable videos, and of the 15 that are trained on
    assert len(columns["id"]) == 4 * (23 + 2 * 15)
    assert columns["feature"].dtype == np.float32
    for row in range(0, len(columns["id"]), 5):
        video, kind, view, frame, feature = (column[row] for column in columns.values())
        np.testing.assert_array_equal(feature, bank.features([video], kind)[0, view, frame])


def test_rows_are_the_videos_of_the_lists(kitchen_bank):
    bank = FeatureBank(kitchen_bank)
    columns = video_columns(bank)
    rows = list(zip(*columns.values(), strict=True))
    assert list(columns) == ["id", "part", "split", "label", "class", "failure"]
    assert len(rows) == 24
    assert ("train/pour/0.mp4", "train", 1, 1, "pour", None) in rows
    (failed,) = [row for row in rows if row[-1] is not None]
    assert failed[:5] == ("test/stir/0.mp4", "test", 1, 2, CLASSES[2])
    assert failed[5] == bank.failures["test/stir/0.mp4"]


def test_without_pyarrow_the_way_out_is_named(kitchen_bank, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert main(["features", "export", str(kitchen_bank), "--out", str(tmp_path / "out")]) == 2
    assert "needs pyarrow" in capsys.readouterr().err
    assert not list((tmp_path / "out").iterdir())


@pytest.fixture
def parquet():
    return pytest.importorskip("pyarrow.parquet", reason="needs the extra parquet")


def test_tables_have_the_features(kitchen_bank, tmp_path, parquet):
    assert main(["features", "export", str(kitchen_bank), "--format", "parquet", "--out", str(tmp_path)]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["features.parquet", "videos.parquet"]
    bank = FeatureBank(kitchen_bank)
    features, videos = (parquet.read_table(tmp_path / f"{name}.parquet") for name in ("features", "videos"))
    assert json.loads(features.schema.metadata[b"vlbench"])["bank"] == bank.facts.digest()
    rows = [row for row in features.to_pylist() if row["kind"] == "augmented"]
    ids = list(dict.fromkeys(row["id"] for row in rows))
    stored = np.array([row["feature"] for row in rows], np.float32).reshape(15, 2, 4, -1)
    np.testing.assert_array_equal(stored, bank.features(ids, "augmented"))
    assert videos.num_rows == 24
    assert set(ids) == {row["id"] for row in videos.to_pylist() if row["part"] == "train"}


def test_names_that_are_no_utf8_are_json_in_both_tables(kitchen_bank, tmp_path, parquet):
    bank = FeatureBank(kitchen_bank)
    odd = "train/cut/\udcff.mp4"
    places = bank._places["views"]
    places[odd] = places.pop("train/cut/0.mp4")
    bank.facts.lists["train/1"][0][0] = odd
    bank.facts.lists["test/1"][:] = []
    object.__setattr__(bank.facts, "augmented", 0)
    export_parquet(bank, tmp_path)
    for name in ("features", "videos"):
        assert '"train/cut/\\udcff.mp4"' in parquet.read_table(tmp_path / f"{name}.parquet")["id"].to_pylist()


def test_a_full_disk_leaves_the_old_table(kitchen_bank, tmp_path, parquet, monkeypatch, capsys):
    words = ["features", "export", str(kitchen_bank), "--out", str(tmp_path)]
    (tmp_path / "features.parquet").write_bytes(b"old")

    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pyarrow.parquet.ParquetWriter.write_table", refuse)
    assert main(words) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert (tmp_path / "features.parquet").read_bytes() == b"old"
    assert not list(tmp_path.glob(f"{TEMPORARY}*"))
