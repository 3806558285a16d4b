"""`vlbench features`: what a bank holds, that it survives kills and full disks, and what is refused."""

import errno
import json
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from tests.bank.conftest import CLASSES, made, write_config, write_kitchen
from tests.fakes import moving_frames, write_video
from vlbench.backbones import TinyCLIP
from vlbench.bank import encode, shards, share
from vlbench.bank.bank import FeatureBank
from vlbench.bank.facts import FACTS
from vlbench.bank.shards import write_shard
from vlbench.cli.main import main
from vlbench.clips.batch import ClipBatch, ViewBatch
from vlbench.clips.datamodules import FolderVideosDataModule
from vlbench.errors import ConfigError, DataError
from vlbench.files import TEMPORARY


def contents(folder):
    return json.loads((folder / FACTS).read_text())


def datamodule(kitchen, **options):
    return FolderVideosDataModule(root=str(kitchen), frames=4, batch_size=4, num_workers=0, image_size=32, **options)


def encoded(clips):
    backbone = TinyCLIP().eval().requires_grad_(False)  # trained weights are multiplied in another order
    with torch.no_grad():
        return backbone.encode_frames(backbone.normalize(clips))


def test_a_bank_holds_what_the_tower_makes_of_the_views(kitchen, kitchen_bank):
    """Read with safetensors and numpy alone, as `docs/bank.md` says."""
    description = contents(kitchen_bank)
    features, ids = [], []
    for shard in description["shards"]:
        if shard["kind"] == "views":
            features.append(load_file(kitchen_bank / shard["file"])["features"])
            header = (kitchen_bank / shard["file"]).read_bytes()
            head = json.loads(header[8 : 8 + int.from_bytes(header[:8], "little")])
            ids += json.loads(head["__metadata__"]["vlbench"])["ids"]
    stored = dict(zip(ids, np.concatenate(features), strict=True))
    data = datamodule(kitchen)
    items = [*data.dataset.videos("test"), *data.dataset.videos("train")]
    assert len(stored) == len(items) - 1
    assert list(description["failures"]) == ["test/stir/0.mp4"]
    views = data.test_views(items)
    for first in range(0, len(items), 4):
        batch = ViewBatch.collate([views[k] for k in range(first, min(first + 4, len(items)))])
        frames = encoded(next(batch.views()).flatten(0, 1))
        for video, expected in zip(batch.ids, frames, strict=True):
            np.testing.assert_array_equal(stored[video][0], expected.numpy())


def test_a_bank_opens_with_safetensors_and_numpy_alone(kitchen_bank):
    """The block of `docs/bank.md`, where neither torch nor vlbench can be imported."""
    page = (Path(__file__).parents[2] / "docs" / "bank.md").read_text()
    (block,) = [text for text in re.findall(r"^```python\n(.*?)^```", page, re.M | re.S) if "safetensors" in text]
    place = "banks/ucf101-words-0123456789abcdef"
    assert place in block
    program = "import sys\nsys.modules.update(torch=None, vlbench=None)\n"
    program += f"{block.replace(place, str(kitchen_bank))}    print(shard['kind'], *features.shape)\n"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said.split("\n") == ["views 23 1 4 128", "augmented 15 2 4 128", ""]


def test_augmented_passes_are_what_a_training_sees(kitchen, kitchen_bank):
    bank, data = FeatureBank(kitchen_bank), datamodule(kitchen)
    items = data.dataset.videos("train")
    clips = data.training_clips(items)
    assert bank.shape("augmented") == (2, 4, 128)
    for draw in range(2):
        batch = ClipBatch.collate([clips[k, draw] for k in range(4)])
        expected = encoded(batch.video).numpy()
        np.testing.assert_array_equal(bank.features(batch.ids, "augmented")[:, draw], expected)
    passes = bank.features([item.id for item in items], "augmented")
    assert np.abs(passes[:, 0] - passes[:, 1]).max() > 1e-3


def test_facts_of_a_bank(kitchen, kitchen_bank):
    bank = FeatureBank(kitchen_bank)
    facts = bank.facts
    assert kitchen_bank.name == f"kitchen-{facts.digest()}"
    assert facts.spec.class_names == CLASSES
    assert [len(facts.listed("train", 1)), len(facts.listed("test", 1))] == [15, 9]
    assert facts.listed("validation", 1) is None
    assert facts.backbone["digest"] == TinyCLIP().identity.digest
    assert facts.preprocess["image_size"] == 32
    assert facts.settings["views"]["frames"] == 4
    assert {"augmentation.scale", "clip.segment_ends"} <= facts.settings["augmented"].keys()
    assert bank.failures.keys() == {"test/stir/0.mp4"}
    assert "test/stir/0.mp4" in bank


def test_what_changes_features_changes_the_folder(kitchen, tmp_path):
    names = set()
    for index, (data, options) in enumerate(
        [({}, ()), ({"frames": 2}, ()), ({"clip": {"views": {"clips": 2}}}, ()), ({}, ("--dtype=float32",))]
    ):
        config = write_config(tmp_path / f"{index}.yaml", "FolderVideosDataModule", kitchen, **data)
        names.add(made(tmp_path / f"out{index}", config, "--parts", "test", *options).name)
    assert len(names) == 4


def test_a_list_that_changed_has_another_bank(tmp_path):
    """A video more, and one that goes by another class now: none of the features is taken for those of the new list."""
    root = write_kitchen(tmp_path / "kitchen", train=1, test=2)
    config = write_config(tmp_path / "kitchen.yaml", "FolderVideosDataModule", root)
    names = {made(tmp_path / "before", config).name}
    write_video(root / "train" / "cut" / "9.mp4", moving_frames(10, seed=78))
    names.add(made(tmp_path / "more", config).name)
    (root / "train" / "cut" / "9.mp4").rename(root / "train" / "pour" / "9.mp4")
    names.add(made(tmp_path / "moved", config).name)
    assert len(names) == 3


def test_a_finished_bank_is_not_made_again(kitchen_bank, kitchen_config, monkeypatch, capsys):
    monkeypatch.setattr(encode.Encoder, "write", lambda *_: pytest.fail("videos were encoded"))
    words = ["--out", str(kitchen_bank.parent), "--dtype", "float32", "--augmented", "2"]
    assert main(["features", "--config", kitchen_config, "backbone/tiny.yaml", *words]) == 0
    assert "is there already" in capsys.readouterr().out


@pytest.fixture
def small_files(monkeypatch):
    """Files of one batch of four videos."""
    monkeypatch.setattr(encode, "_VIDEOS", 4)


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_what_is_whole_stays_and_the_same_command_goes_on(
    kitchen_config, tmp_path, monkeypatch, capsys, small_files, stop
):
    """A run that ends in its third file, killed or on a full disk: two are whole, and nothing else is left."""
    whole = made(tmp_path / "whole", kitchen_config)
    written, save = [], shards.save_file

    def saving(tensors, path, metadata):
        written.append(path)
        if len(written) == 3:
            Path(path).write_bytes(b"half")
            raise stop
        save(tensors, path, metadata=metadata)

    monkeypatch.setattr(shards, "save_file", saving)
    out = tmp_path / "broken"
    words = ["features", "--config", kitchen_config, "backbone/tiny.yaml", "--out", str(out)]
    assert main(words) == (130 if isinstance(stop, KeyboardInterrupt) else 1)
    said = capsys.readouterr().err
    assert "interrupted" in said or "No space left" in said
    (folder,) = out.iterdir()
    assert sorted(path.name for path in folder.iterdir()) == ["views-00000.safetensors", "views-00001.safetensors"]
    with pytest.raises(DataError, match=r"holds a bank that is not finished: bank\.json is missing; run the same"):
        FeatureBank(out)
    del written[:]

    def counting(tensors, path, metadata):
        written.append(path)
        save(tensors, path, metadata=metadata)

    monkeypatch.setattr(shards, "save_file", counting)
    assert main(words) == 0
    assert len(written) == 4  # of six files
    assert not list(folder.glob(f"{TEMPORARY}*"))
    for name in ("failures", "shards", "facts"):
        assert contents(folder)[name] == contents(whole)[name]


def test_a_disk_that_refuses_leaves_what_is_whole(tmp_path):
    """A limit of the system on the size of files, where safetensors itself writes: no stand-in raises the error."""
    program = f"""
import resource
from pathlib import Path
import numpy as np
from vlbench.bank.shards import ShardFile, write_shard
from vlbench.errors import WriteError
folder = Path({str(tmp_path)!r})
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
write_shard(folder / "views-00000.safetensors", np.ones((2, 1, 4, 128), np.float16), ["a", "b"], {{}}, "digest")
try:
    write_shard(folder / "views-00001.safetensors", np.ones((99, 1, 4, 128), np.float16), ["c"] * 99, {{}}, "digest")
except WriteError as error:
    print(error)
print(int(ShardFile.open(folder / "views-00000.safetensors").features.sum()))
"""
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == [f"cannot write {tmp_path / 'views-00001.safetensors'}: File too large", "1024"]
    assert [path.name for path in tmp_path.iterdir()] == ["views-00000.safetensors"]


@pytest.fixture
def one_thread(monkeypatch):
    """Sums in the same order everywhere; a forked process has none of its parent's threads."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.slow
def test_any_number_of_processes_makes_the_same_bytes(kitchen_config, tmp_path, one_thread):
    digests = []
    for processes in (1, 2):
        folder = made(tmp_path / str(processes), kitchen_config, "--processes", str(processes), "--augmented", "1")
        digests.append([shard["digest"] for shard in contents(folder)["shards"]])
    assert digests[0] == digests[1]


@pytest.mark.parametrize("processes", [3, 4])
def test_more_processes_than_that_make_the_same_bytes(
    kitchen_config, tmp_path, monkeypatch, small_files, one_thread, processes
):
    """Ten files, so that each has some; forked from this process, which is quicker than importing torch in each."""
    forking = multiprocessing.get_context("fork")
    monkeypatch.setattr(share.multiprocessing, "get_context", lambda _: forking)
    writers = tmp_path / "writers"
    writers.mkdir()
    write = encode.Encoder.write

    def noted(self, folder, pieces, progress):
        (writers / str(os.getpid())).write_text(str(len(pieces)))
        write(self, folder, pieces, progress)

    monkeypatch.setattr(encode.Encoder, "write", noted)
    banks = [
        contents(made(tmp_path / str(count), kitchen_config, "--processes", str(count), "--augmented", "1"))
        for count in (1, processes)
    ]
    alone = str(os.getpid())
    shares = {path.name: int(path.read_text()) for path in writers.iterdir()}
    assert shares.pop(alone) == sum(shares.values()) == len(banks[0]["shards"]) == 10
    assert len(shares) == processes
    assert max(shares.values()) - min(shares.values()) <= 1
    for name in ("facts", "shards", "failures"):
        assert banks[0][name] == banks[1][name]


# What is refused -----------------------------------------------------------------------------------------------------


@pytest.fixture
def copy(kitchen_bank, tmp_path):
    return Path(shutil.copytree(kitchen_bank, tmp_path / "copy"))


def first_shard(folder):
    return folder / "views-00000.safetensors"


def cut(folder):
    path = first_shard(folder)
    path.write_bytes(path.read_bytes()[:-100])


def head_only(folder):
    path = first_shard(folder)
    path.write_bytes(path.read_bytes()[:40])


def remove(folder):
    first_shard(folder).unlink()


def foreign(folder):
    write_shard(first_shard(folder), np.zeros((1, 1, 4, 128), np.float32), ["x.mp4"], {}, "another")


def without_a_video(folder):
    """A shard of one video less, in a bank whose facts were made to fit its size."""
    bank = FeatureBank(folder)
    ids = [video for video in bank.facts.ids() if video not in bank.failures]
    write_shard(first_shard(folder), bank.features(ids[1:]), ids[1:], dict(bank.failures), bank.facts.digest())
    description = contents(folder)
    shard = next(shard for shard in description["shards"] if shard["file"] == first_shard(folder).name)
    shard["size"] = first_shard(folder).stat().st_size
    (folder / FACTS).write_text(json.dumps(description))


def unfinished(folder):
    (folder / FACTS).unlink()


def no_json(folder):
    (folder / FACTS).write_text("{")


def newer(folder):
    description = contents(folder)
    description["facts"]["layout"] = 99
    (folder / FACTS).write_text(json.dumps(description))


def label_of_no_class(folder):
    description = contents(folder)
    description["facts"]["lists"]["train/1"][0][1] = len(CLASSES)
    (folder / FACTS).write_text(json.dumps(description))


def list_of_no_split(folder):
    description = contents(folder)
    description["facts"]["lists"]["train"] = description["facts"]["lists"].pop("train/1")
    (folder / FACTS).write_text(json.dumps(description))


@pytest.mark.parametrize(
    ("damage", "answer"),
    [
        (label_of_no_class, "a video has the label 3, and there are 3 classes"),
        (list_of_no_split, "does not describe a bank: ValueError"),
        (cut, "is no whole file of features: it has .* bytes, and its head says .*; delete it and run the same"),
        (head_only, "its head is longer than the file"),
        (remove, "views-00000.safetensors is no whole file of features: FileNotFoundError"),
        (foreign, "belongs to another bank than .*bank.json beside it describes"),
        (without_a_video, r"lacks the views of 1 of its 24 videos, test/cut/0\.mp4 is one"),
        (unfinished, "holds a bank that is not finished"),
        (no_json, "does not describe a bank"),
        (newer, "has the layout 99; this vlbench reads 1"),
    ],
)
def test_a_damaged_bank_is_refused(copy, damage, answer):
    damage(copy)
    with pytest.raises(DataError, match=answer):
        FeatureBank(copy)


def test_a_folder_without_a_bank_and_one_with_several(tmp_path, kitchen_bank):
    with pytest.raises(DataError, match="holds no bank"):
        FeatureBank(tmp_path)
    for name in ("a", "b"):
        shutil.copytree(kitchen_bank, tmp_path / name)
    with pytest.raises(ConfigError, match=r"holds 2 banks; give the folder of one by --data\.root DIR: .*a, .*b"):
        FeatureBank(tmp_path)


def test_a_bank_holds_whole_splits(kitchen, tmp_path, capsys):
    config = write_config(tmp_path / "few.yaml", "FolderVideosDataModule", kitchen, train={"shots": 2})
    assert main(["features", "--config", config, "backbone/tiny.yaml", "--out", str(tmp_path / "out")]) == 2
    assert "a bank holds all videos of a split, and subsets are drawn from the bank" in capsys.readouterr().err
    (tmp_path / "cut.txt").write_text("cut\n")
    config = write_config(
        tmp_path / "some.yaml", "FolderVideosDataModule", kitchen, class_list=str(tmp_path / "cut.txt")
    )
    assert main(["features", "--config", config, "backbone/tiny.yaml", "--out", str(tmp_path / "out")]) == 2
    assert "a bank holds the videos of all classes: leave it out here" in capsys.readouterr().err
    assert main(["features", "--config", "backbone/tiny.yaml", "--out", str(tmp_path / "out")]) == 2
    assert "configure no data; add --config data/hmdb51.yaml" in capsys.readouterr().err


# Verification --------------------------------------------------------------------------------------------------------


def test_a_bank_is_verified_against_its_videos(tmp_path, capsys):
    root = write_kitchen(tmp_path / "kitchen", train=2, test=2)
    config = write_config(tmp_path / "kitchen.yaml", "FolderVideosDataModule", root)
    folder = made(tmp_path / "out", config)
    capsys.readouterr()
    assert main(["features", "verify", str(folder)]) == 0
    assert "11 of 11 videos encoded again" in capsys.readouterr().out
    write_video(root / "test" / "cut" / "1.mp4", moving_frames(10, seed=77))
    assert main(["features", "verify", str(folder)]) == 1
    said = capsys.readouterr().out
    assert "test/cut/1.mp4 has other features: off by" in said
    assert said.count("has other features") == 1
    moved = root.rename(tmp_path / "elsewhere")
    write_video(moved / "test" / "cut" / "9.mp4", moving_frames(10, seed=78))
    assert main(["features", "verify", str(folder), "--root", str(moved), "--videos", "1"]) == 1
    assert "the list test/1 has 6 videos in the bank and 7 here; 1 differ, test/cut/9.mp4 is one" in (
        capsys.readouterr().out
    )
    path = first_shard(folder)
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    assert main(["features", "verify", str(folder), "--root", str(moved)]) == 1
    assert "is not what was written" in capsys.readouterr().err
