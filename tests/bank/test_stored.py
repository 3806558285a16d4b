"""Stored features by video and draw, and what a bank says of itself."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.bank.test_averaged import Whole
from tests.bank.test_features import datamodule
from vlbench.backbones import TinyCLIP
from vlbench.bank.averaged import AveragedBank
from vlbench.bank.bank import FeatureBank
from vlbench.bank.batches import ClipFeatures, StoredClips, StoredViews, ViewFeatures
from vlbench.bank.datamodule import FeatureBankDataModule
from vlbench.bank.encode import Encoder
from vlbench.bank.facts import FACTS, BankFacts
from vlbench.bank.shards import ShardFile, write_shard
from vlbench.clips.batch import Clip, ClipBatch
from vlbench.clips.options import Augmentation, LoadingOptions
from vlbench.datasets.specs import DatasetSpec, Subset, VideoItem
from vlbench.errors import ConfigError, DataError

ITEMS = [VideoItem(Path(name), 10 + number, name) for number, name in enumerate(["v3", "v2", "v0", "v5", "v1"])]
"""Training videos of a bank in memory, in another order than the bank's; `v2` cannot be read."""


@pytest.mark.parametrize("in_memory", [True, False])
def test_every_draw_of_a_training_is_of_its_video(in_memory):
    whole = Whole()
    clips = StoredClips(whole, ITEMS, "augmented", in_memory=in_memory)
    keys = [(4, 2), (1, 0), (0, 1), (2, 5), (0, 0)]
    batch = clips.__getitems__(keys)
    assert batch.ids == ["v1", "v3", "v0", "v3"]
    assert batch.labels.tolist() == [14, 10, 12, 10]
    assert batch.failures == {"v2": (11, "empty")}
    expected = [
        whole.features([name], "augmented")[0, draw % 3] for name, draw in zip(batch.ids, (2, 1, 5, 0), strict=True)
    ]
    np.testing.assert_array_equal(batch.features, np.stack(expected))
    encoded = batch.encoded(lambda _: pytest.fail("features were encoded"))
    assert encoded.dtype == torch.float32
    assert clips.__getitems__([(1, 0)]).features.shape == (0, 4, 8)


def test_views_of_a_test_are_in_groups_of_one_view_of_every_video():
    whole = Whole()
    batch = StoredViews(whole, ITEMS, "views").__getitems__([3, 1, 0])
    assert (batch.ids, batch.failures) == (["v5", "v3"], {"v2": (11, "empty")})
    ((count, frames),) = batch.encoded(lambda _: pytest.fail("features were encoded"))
    assert count == 3
    for view in range(3):
        for row, name in enumerate(batch.ids):
            np.testing.assert_array_equal(frames[2 * view + row], whole.features([name])[0, view])


def test_a_batch_moves_whole():
    features, labels = torch.zeros(2, 3, 4), torch.tensor([1, 2])
    moved = ClipFeatures(features, labels, ["a", "b"], {}).to(torch.device("meta"))
    assert (moved.features.device.type, moved.labels.device.type, moved.ids) == ("meta", "meta", ["a", "b"])
    assert ViewFeatures(features, ["a", "b"], {}).to(torch.device("meta")).features.device.type == "meta"


@pytest.mark.parametrize("kind", ["views", "augmented"])
def test_features_are_in_the_order_of_the_ids_that_are_asked_for(kitchen_bank, kind):
    bank = FeatureBank(kitchen_bank)
    ids = [video for video in bank.facts.ids(kind) if video not in bank.failures]
    alone = {video: bank.features([video], kind)[0] for video in ids}
    assert len({features.tobytes() for features in alone.values()}) == len(ids)
    asked = [ids[k] for k in np.random.default_rng(0).permutation(len(ids))] + ids[:2]
    np.testing.assert_array_equal(bank.features(asked, kind), np.stack([alone[video] for video in asked]))


def test_an_averaged_bank_is_the_bank_otherwise(kitchen_bank):
    whole = FeatureBank(kitchen_bank)
    bank = AveragedBank(whole)
    for kind in ("views", "augmented"):
        views, _, width = whole.shape(kind)
        assert bank.shape(kind) == (views, 1, width)
    (lost,) = whole.failures
    with pytest.raises(DataError, match=f"has no views of {lost}"):
        bank.features([lost])
    assert lost in bank


# What a bank says of itself -------------------------------------------------------------------------------------------


def changed(folder, **changes):
    """A DataModule of a bank whose facts say something else."""

    def made(**options):
        data = FeatureBankDataModule(root=str(folder), **options)
        data.bank.facts = replace(data.bank.facts, **changes)
        return data

    return made


def test_what_can_change_a_number_is_in_the_settings(kitchen_bank):
    before, here = changed(kitchen_bank), kitchen_bank
    facts = FeatureBank(here).facts
    other = {"views": {**facts.settings["views"], "frames": 99}, "augmented": facts.settings["augmented"]}
    augmented = {**other, "views": facts.settings["views"], "augmented": {"augmentation.scale": 99}}
    for changes, options, sides in (
        ({"dtype": "float16"}, {}, ("training", "test", "validation")),
        ({"seed": 5}, {}, ("training",)),
        ({"seed": 5}, {"passes": 0}, ()),
        ({"settings": other}, {"passes": 0}, ("training", "test", "validation")),
        ({"settings": other}, {}, ("test", "validation")),
        ({"settings": augmented}, {}, ("training",)),
    ):
        differ = [
            side for side in ("training", "test", "validation")
            if changed(here, **changes)(**options).settings(side) != before(**options).settings(side)
        ]  # fmt: skip
        assert differ == [side for side in ("training", "test", "validation") if side in sides], (changes, options)
    skipped = before(loading=LoadingOptions(on_error="skip")).settings("training")
    raised = before(loading=LoadingOptions(on_error="raise")).settings("training")
    assert skipped != raised


def test_another_draw_is_another_training_on_the_same_bank(kitchen_bank):
    data = FeatureBankDataModule(root=str(kitchen_bank), train=Subset(shots=1))
    data.skipped.add("a.mp4")
    drawn = data.drawn(2, 3, data.bank)
    alone = FeatureBankDataModule(root=str(kitchen_bank), train=Subset(shots=2, seed=3))
    assert drawn.dataset.videos("train") == alone.dataset.videos("train") != data.dataset.videos("train")
    assert (drawn.seed, drawn.skipped, data.seed, data.skipped) == (3, set(), 0, {"a.mp4"})
    assert drawn.bank is data.bank
    assert data.dataset.train_subset == Subset(shots=1)


LEFT_OUT = {"counts", "about", "descriptions", "class_count", "names_file", "multi_label"}
"""Facts that a bank does not need: it has the lists themselves, all names of classes, and one label a video."""


def test_a_bank_has_the_facts_of_its_dataset(kitchen):
    data = datamodule(kitchen)
    spec = replace(
        data.dataset.spec, base_classes=(0, 2), directional=True, splits=3, split_classes={1: (0, 1, 2)}, lists="food",
        licence="free", source="here",
    )  # fmt: skip
    data.dataset.__dict__["spec"] = spec
    facts = Encoder(data, TinyCLIP().eval(), ["train", "test"], 0, "float16").facts
    again = BankFacts(**json.loads(json.dumps(asdict(facts))))
    kept = {field.name for field in fields(DatasetSpec)} - LEFT_OUT
    assert {name: getattr(again.spec, name) for name in kept} == {name: getattr(spec, name) for name in kept}
    assert again.digest() == facts.digest()
    assert (facts.dtype, facts.seed, facts.augmented, facts.settings["augmented"]) == ("float16", 0, 0, {})


def test_seed_settings_and_lists_are_those_of_the_training_where_clips_are_augmented(kitchen):
    data = datamodule(kitchen, seed=7)
    encoder = Encoder(data, TinyCLIP().eval(), ["train", "test"], 2, "float32")
    facts = encoder.facts
    assert facts.seed == 7
    assert facts.settings["augmented"].keys() >= {"augmentation.scale", "augmentation.run_on"}
    assert not facts.settings["augmented"].keys() & {"heldout", "loading.epoch_size", "loading.on_error"}
    assert [*facts.lists] == ["test/1", "train/1"]
    assert facts.ids() == [item.id for item in encoder.items]
    assert facts.ids("augmented") == [item.id for item in data.dataset.videos("train")]
    assert {part: facts.dataset["content"][part] for part in ("train", "test")} == {
        part: data.dataset.content(part) for part in ("train", "test")
    }


def test_a_bank_is_encoded_where_changes_of_clips_are_not_rounded_and_has_one_label_a_video(kitchen):
    data = datamodule(kitchen, augmentation=Augmentation(run_on="device"))
    encoder = Encoder(data, TinyCLIP().eval(), ["train"], 1, "float32")
    assert encoder.data.augmentation.run_on == "worker"
    assert encoder.facts.settings["augmented"]["augmentation.run_on"] == "worker"
    data.dataset.__dict__["spec"] = replace(data.dataset.spec, multi_label=True)
    with pytest.raises(ConfigError, match="may have several labels, and a bank holds one a video"):
        Encoder(data, TinyCLIP().eval(), ["train"], 0, "float32")


def test_files_of_another_bank_are_missing_and_removed(kitchen, tmp_path):
    encoder = Encoder(datamodule(kitchen), TinyCLIP().eval(), ["test"], 0, "float32")
    (piece,) = encoder.pieces()
    for digest, missing in ((encoder.facts.digest(), []), ("another", [piece])):
        write_shard(piece.path(tmp_path), np.zeros((1, 1, 4, 128), np.float32), ["a"], {}, digest)
        assert encoder.missing(tmp_path) == missing
        assert piece.path(tmp_path).exists() is not bool(missing)


def test_a_video_that_is_lost_in_one_pass_is_lost_in_all(kitchen, monkeypatch):
    """The others keep their own features of every pass."""
    encoder = Encoder(datamodule(kitchen), TinyCLIP().eval(), ["train"], 2, "float32")
    clips = torch.randint(0, 256, (2, 3, 4, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    first = ClipBatch.collate([Clip(clip, 0, name) for clip, name in zip(clips[0], "abc", strict=True)])
    second = ClipBatch.collate([Clip(clips[1, 0], 0, "a"), Clip(None, 0, "b", "gone"), Clip(clips[1, 2], 0, "c")])
    monkeypatch.setattr(encoder, "_loaded", lambda *_: iter([first, second]))
    (piece,) = (piece for piece in encoder.pieces() if piece.kind == "augmented")
    ((features, ids, failures),) = encoder._augmented([piece])
    assert (ids, failures) == (["a", "c"], {"b": "gone"})
    with torch.no_grad():
        expected = torch.stack([encoder._encode(clips[k][[0, 2]]) for k in range(2)], dim=1)
    np.testing.assert_allclose(features, expected, atol=1e-5)


def test_a_bank_is_named_as_its_dataset_and_has_the_content_of_each_part(kitchen_bank, tmp_path):
    facts = FeatureBank(kitchen_bank).facts
    dataset = {**facts.dataset, "label": "kitchen/words", "content": {"train": "1", "test": "2"}}
    data = changed(kitchen_bank, dataset=dataset)()
    assert data.dataset.label == "kitchen/words"
    assert [data.dataset.content(part) for part in ("train", "test", "validation")] == ["1", "2", "1"]
    (tmp_path / "some.txt").write_text("cut\nstir\n")
    some = FeatureBankDataModule(root=str(kitchen_bank), class_list=str(tmp_path / "some.txt"))
    digests = {part: some.dataset.digest(part) for part in ("train", "test")}
    assert digests["train"] != digests["test"]
    for side, part in (("training", "train"), ("test", "test"), ("validation", "test")):
        assert some.settings(side)["dataset"] == digests[part]


@pytest.mark.parametrize(
    ("part", "subset", "said"),
    [
        ("train", {"classes": "base"}, "classes base"),
        ("test", {"classes": "base"}, "classes base"),
        ("train", {"shots": 2}, "shots 2"),
    ],
)
def test_a_bank_is_of_all_videos(kitchen, part, subset, said):
    data = datamodule(kitchen, **{part: Subset(**subset)})
    with pytest.raises(ConfigError, match=f"the subset has .*{said}.*leave both out"):
        Encoder(data, TinyCLIP().eval(), ["train", "test"], 0, "float16")


def rewritten(folder, name, change):
    """A copy of a file of a bank that belongs to the bank and is whole, with other videos or failures."""
    file = ShardFile.open(folder / name)
    features, ids, failures = change(file.features.copy(), list(file.ids), dict(file.failures))
    write_shard(file.path, features, ids, failures, file.bank)
    return file.path


def test_a_file_of_another_size_is_of_another_bank(kitchen_bank, tmp_path):
    folder = Path(shutil.copytree(kitchen_bank, tmp_path / "copy"))
    rewritten(folder, "views-00000.safetensors", lambda features, ids, lost: (features, ids, {**lost, "x": "why"}))
    with pytest.raises(DataError, match=r"views-00000\.safetensors belongs to another bank"):
        FeatureBank(folder)


@pytest.mark.parametrize(
    ("kind", "said"), [("views", "views of 1 of its 24"), ("augmented", "augmented of 1 of its 15")]
)
def test_a_video_that_a_file_lacks_is_named(kitchen_bank, tmp_path, kind, said):
    folder = Path(shutil.copytree(kitchen_bank, tmp_path / "copy"))
    name = f"{kind}-00000.safetensors"
    path = rewritten(folder, name, lambda features, ids, lost: (features[:-1], ids[:-1], lost))
    content = json.loads((folder / FACTS).read_text())
    (shard,) = (shard for shard in content["shards"] if shard["file"] == name)
    shard["size"] = path.stat().st_size
    (folder / FACTS).write_text(json.dumps(content))
    with pytest.raises(DataError, match=f"lacks the {said} videos"):
        FeatureBank(folder)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("layout", 0, "has the layout 0; this vlbench reads 1"),
        ("layout", 2, "has the layout 2; this vlbench reads 1"),
        ("dtype", "float64", "does not describe a bank: .*dtype is 'float64'"),
    ],
)
def test_facts_of_another_kind_of_bank_are_refused(kitchen_bank, tmp_path, field, value, said):
    content = json.loads((kitchen_bank / FACTS).read_text())
    content["facts"][field] = value
    (tmp_path / FACTS).write_text(json.dumps(content))
    with pytest.raises(DataError, match=said):
        FeatureBank(tmp_path)


def test_a_file_without_a_readable_video_says_nothing_of_the_shape(kitchen_bank, tmp_path):
    bank = FeatureBank(kitchen_bank)
    shape, path = bank.shape(), tmp_path / "views-00001.safetensors"
    write_shard(path, np.empty((0, 0, 0, 0), np.float32), [], {"x": "empty"}, bank.facts.digest())
    bank._files["views"].insert(0, ShardFile.open(path))
    assert bank.shape() == shape == (1, 4, 128)


def test_backbones_differ_in_settings_that_only_one_states(kitchen_bank):
    bank = FeatureBank(kitchen_bank)
    facts = TinyCLIP().feature_facts()
    bank.check_backbone(facts)
    with pytest.raises(ConfigError, match="is of another backbone: new is None there and 1 here"):
        bank.check_backbone({**facts, "new": 1})
