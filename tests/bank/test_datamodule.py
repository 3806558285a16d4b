"""A bank in the place of videos: the same scores, draws and records, and what does not fit together."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

import vlbench
from tests.bank.conftest import made, write_config, write_kitchen, write_ucf
from vlbench.backbones import TinyCLIP
from vlbench.backbones.preprocess import CLIP
from vlbench.bank.bank import FeatureBank
from vlbench.bank.datamodule import FeatureBankDataModule
from vlbench.bank.dataset import BankDataset
from vlbench.cli.main import main
from vlbench.clips.datamodules import FolderVideosDataModule, UCF101DataModule
from vlbench.clips.options import ClipOptions, LoadingOptions, Views
from vlbench.datasets.specs import Subset
from vlbench.errors import ConfigError, DataError
from vlbench.evaluation.evaluator import Evaluator
from vlbench.methods import LogisticProbe, MoTE, TipAdapter, ZeroShot
from vlbench.methods.head_only.features import TrainingFeatures
from vlbench.results.record import Record
from vlbench.results.stored import StoredEvaluation

VIEWS = {"clips": 2, "crops": 1}


@pytest.fixture(scope="module")
def ucf(tmp_path_factory):
    """Videos in UCF-101's layout, and a bank of them in each number format, with two views a video."""
    base = tmp_path_factory.mktemp("ucf")
    root = write_ucf(base / "ucf")
    config = write_config(base / "ucf.yaml", "UCF101DataModule", root, clip={"views": VIEWS})
    return root, {dtype: made(base / dtype, config, "--dtype", dtype) for dtype in ("float32", "float16")}


def from_videos(root, **options):
    return UCF101DataModule(
        root=str(root), frames=4, batch_size=4, num_workers=0, image_size=32, clip=ClipOptions(views=Views(**VIEWS)),
        **options,
    )  # fmt: skip


def evaluated(method, data):
    method.use(data.dataset)
    method.setup("test")
    method.eval()
    with torch.no_grad(), method.evaluation_weights():
        evaluator = Evaluator(method, data.dataset.sets("test"))
        for batch in data.test_dataloader():
            evaluator.update(batch)
        (evaluation,) = evaluator.compute()
    return evaluation


def zero_shot():
    return ZeroShot(TinyCLIP())


def mote():
    """A head that is not the initial one, on a frozen tower."""
    torch.manual_seed(0)
    method = MoTE(TinyCLIP(), layers=1, backbone_lr_ratio=0.0, modulate=False, prompts="video")
    with torch.no_grad():
        for parameter in method.head.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    return method


def probe():
    generator = torch.Generator().manual_seed(0)
    training = TrainingFeatures(torch.randn(202, 1, 128, generator=generator), torch.arange(202) % 101)
    method = LogisticProbe(TinyCLIP(), iterations=5)
    method.learn_from(training, None, UCF101DataModule(image_size=32).dataset.train_classes.names)
    return method


@pytest.mark.parametrize(("dtype", "allowed"), [("float32", 1e-5), ("float16", 2e-3)])
@pytest.mark.parametrize("make", [zero_shot, mote, probe])
def test_scores_from_a_bank_are_those_from_the_videos(ucf, make, dtype, allowed):
    root, banks = ucf
    method = make()
    videos = evaluated(method, from_videos(root))
    bank = evaluated(method, FeatureBankDataModule(root=str(banks[dtype]), batch_size=5))
    assert bank.set.list_name == videos.set.list_name == "official/split 1"
    assert bank.predictions.ids == videos.predictions.ids
    assert bank.predictions.labels.tolist() == videos.predictions.labels.tolist()
    assert len(bank.predictions.ids) == 12
    for name in ("scores", "cosines", "features"):
        before, now = getattr(videos.predictions, name), getattr(bank.predictions, name)
        largest = max([1.0, *before.abs().flatten().tolist()])  # a head's scores are logits
        torch.testing.assert_close(now, before, rtol=0, atol=allowed * largest)


def test_a_list_of_classes_means_the_same_from_a_bank_and_from_videos(ucf, tmp_path):
    root, banks = ucf
    (tmp_path / "some.txt").write_text("archery\nBasketball\n")
    some = {"class_list": str(tmp_path / "some.txt")}
    bank, whole = (FeatureBankDataModule(root=str(banks["float32"]), batch_size=5, **each) for each in (some, {}))
    videos = evaluated(zero_shot(), from_videos(root, **some))
    from_bank = evaluated(zero_shot(), bank)
    assert from_bank.set.classes.labels == videos.set.classes.labels
    assert from_bank.set.classes.names == videos.set.classes.names
    assert from_bank.set.classes.names == ("Archery", "Basketball")
    assert from_bank.set.list_name == videos.set.list_name
    assert from_bank.predictions.ids == videos.predictions.ids
    assert len(videos.predictions.ids) == 6
    torch.testing.assert_close(from_bank.predictions.scores, videos.predictions.scores, rtol=0, atol=1e-5)
    assert bank.dataset.label == f"{whole.dataset.label}/some"
    for side in ("training", "test"):
        assert {k for k, v in bank.settings(side).items() if whole.settings(side)[k] != v} == {"dataset"}


def test_a_training_sees_the_views_in_turn_or_the_augmented_passes(kitchen_bank):
    bank = FeatureBank(kitchen_bank)
    for passes, kind in ((None, "augmented"), (0, "views")):
        data = FeatureBankDataModule(root=str(kitchen_bank), passes=passes, batch_size=4)
        loader = data.train_dataloader()
        count = bank.shape(kind)[0]
        for epoch in range(3):
            loader.sampler.set_epoch(epoch)
            batches = list(loader)
            assert [len(batch.ids) for batch in batches] == [4, 4, 4, 3]
            for batch in batches:
                expected = bank.features(batch.ids, kind)[:, epoch % count]
                assert torch.equal(batch.features, torch.from_numpy(expected))


def test_draws_and_held_out_videos_are_those_of_the_videos(kitchen, kitchen_bank):
    for options in ({"train": Subset(shots=2, seed=3)}, {"heldout": 0.4}, {"test": Subset(split=1)}):
        one = FolderVideosDataModule(root=str(kitchen), **options).dataset
        other = FeatureBankDataModule(root=str(kitchen_bank), **options).dataset
        for part in ("train", "validation", "test"):
            assert [(item.id, item.label) for item in other.videos(part)] == [
                (item.id, item.label) for item in one.videos(part)
            ]
            assert other.list_name(part) == one.list_name(part)
        assert other.label == one.label == "kitchen"
        assert other.train_classes == one.train_classes
        assert other.content("test") == one.content("test")


def test_published_lists_name_the_videos_of_a_bank(ucf, tmp_path):
    """Under the file names of the field's lists, and with another extension than the bank's videos have."""
    _, banks = ucf
    lists = tmp_path / "lists"
    lists.mkdir()
    listed = ["v_ApplyEyeMakeup_g05_c01.avi 0", "v_WritingOnBoard_g06_c01.mp4 99"]
    (lists / "val1.txt").write_text("".join(f"{line}\n" for line in listed))
    dataset = BankDataset(str(banks["float32"]), splits_dir=None)
    ids = [dataset._item(*line.split()[:1], label=label).id for line, label in zip(listed, (0, 99), strict=True)]
    assert ids == ["ApplyEyeMakeup/v_ApplyEyeMakeup_g05_c01.avi", "WritingOnBoard/v_WritingOnBoard_g06_c01.avi"]
    assert all(video in dataset.bank for video in ids)


# What does not fit together ------------------------------------------------------------------------------------------


class Other(TinyCLIP):
    """A backbone that expects frames of another kind."""

    def __init__(self, **changes):
        super().__init__()
        for name, value in changes.items():
            setattr(self, name, value)


BILINEAR, SQUASHED = replace(CLIP, interpolation="bilinear"), replace(CLIP, resize_mode="squash")


@pytest.mark.parametrize(
    ("backbone", "answer"),
    [
        (lambda: TinyCLIP(pretrained=False), "is of another backbone: digest is .* there and .* here"),
        (lambda: Other(image_size=48), "is of another backbone: image_size is 32 there and 48 here; "),
        (
            lambda: Other(preprocess=BILINEAR),
            "is of another backbone: interpolation is bicubic there and bilinear here",
        ),
        (lambda: Other(preprocess=SQUASHED), "is of another backbone: resize_mode is shortest there and squash here"),
        (
            lambda: Other(mean=torch.zeros(3, 1, 1)),
            r"settings\.mean is \[0\.48.* there and \[0\.0, 0\.0, 0\.0\] here; give",
        ),
    ],
)
def test_features_of_another_backbone_are_refused(kitchen_bank, backbone, answer):
    data = FeatureBankDataModule(root=str(kitchen_bank))
    with pytest.raises(ConfigError, match=answer):
        ZeroShot(backbone()).use(data.dataset)


def test_a_method_that_changes_the_tower_is_refused(kitchen_bank):
    data = FeatureBankDataModule(root=str(kitchen_bank))
    with pytest.raises(ConfigError, match="mote reads clips and a bank holds features of frames"):
        MoTE(TinyCLIP(), layers=1).use(data.dataset)
    MoTE(TinyCLIP(), layers=1, backbone_lr_ratio=0.0).use(data.dataset)
    TipAdapter(TinyCLIP()).use(data.dataset)


def test_a_list_that_the_bank_does_not_have_is_refused(kitchen_bank, tmp_path):
    with pytest.raises(ConfigError, match=r"passes is 3 and the bank .* has 2 augmented passes; allowed: 0 to 2"):
        FeatureBankDataModule(root=str(kitchen_bank), passes=3)
    root = write_kitchen(tmp_path / "kitchen", train=1, test=2)
    folder = made(
        tmp_path / "out", write_config(tmp_path / "c.yaml", "FolderVideosDataModule", root), "--parts", "test"
    )
    with pytest.raises(DataError, match="has no list train/1; it has test/1"):
        FeatureBankDataModule(root=str(folder)).setup("fit")
    data = FeatureBankDataModule(root=str(folder))
    data.bank._places["views"].pop("test/cut/0.mp4")
    with pytest.raises(
        DataError, match=r"1 of the 6 videos of official/split 1 are not in the bank .*, test/cut/0\.mp4"
    ):
        data.setup("test")


# Through the command line --------------------------------------------------------------------------------------------


@pytest.fixture
def at_home(kitchen_bank, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["vlbench"])
    Path("bank.yaml").write_text(
        yaml.safe_dump({"data": {"class_path": "FeatureBankDataModule", "init_args": {"root": str(kitchen_bank)}}})
    )


def run(action, name, *options):
    configs = (name, "bank.yaml", "backbone/tiny.yaml", "trainer/cpu.yaml")
    return main([action, *(part for config in configs for part in ("--config", config)), *options])


def records():
    return [Record.read(path) for path in sorted(Path("results/records").iterdir())]


def test_a_head_is_trained_and_tested_on_a_bank(at_home, kitchen, capsys):
    shots = ["--data.train.shots=2", "--data.passes=1"]
    assert run("fit", "head_only/tip_adapter_f.yaml", "--checkpoint.dirpath=c", "--seed_everything=1", *shots) == 0
    assert run("test", "head_only/tip_adapter_f.yaml", "--ckpt_path=c/last.ckpt", *shots) == 0
    (record,) = records()
    identity = record.identity
    assert (identity.method, identity.dataset, identity.train_list) == ("tip_adapter_f", "kitchen", "own/2-shot seed 0")
    assert (identity.seed, identity.frames, identity.views, identity.untrained) == (1, 4, "1x1", False)
    assert record.details.trainable_params == 6 * 128
    assert record.failures.keys() == {"test/stir/0.mp4"}
    assert record.expected == 9
    assert record.details.train_test_overlap == 0
    settings = record.details.training_settings
    assert (settings["data.features.passes"], settings["data.features.dtype"]) == (1, "float32")
    assert settings["data.augmentation.flip"] is True
    assert record.details.settings["data.features.dtype"] == "float32"
    # The checkpoint alone says what a clip of the bank is, and scores the videos as the test scored their features.
    stored = StoredEvaluation.load(str(next(Path("results/records").iterdir())), Path("results"))
    model = vlbench.load("c/last.ckpt", device="cpu")
    results = model.classify_videos([kitchen / video for video in stored.predictions.ids], stored.classes)
    scores = torch.tensor([result.scores.tolist() for result in results])
    assert torch.allclose(scores, torch.from_numpy(stored.predictions.scores), atol=1e-4)
    assert main(["verify", "results"]) == 0
    assert main(["leaderboard", "results", "--csv", "board.csv", "--allow_dirty"]) == 0


def test_held_out_videos_choose_on_a_bank(at_home):
    data = ["--data.heldout=0.4", "--data.passes=0", "--checkpoint.dirpath=c"]
    assert run("fit", "head_only/logistic_probe.yaml", "--selection=heldout", *data) == 0
    assert {path.name for path in Path("c").iterdir()} >= {"best.ckpt", "last.ckpt"}
    for name in ("best", "last"):
        assert run("test", "head_only/logistic_probe.yaml", f"--ckpt_path=c/{name}.ckpt", f"--record.name={name}") == 0
    best, last = records()
    assert best.identity.weights == last.identity.weights
    assert run("fit", "head_only/logistic_probe.yaml", "--selection=best_on_test", "--checkpoint.dirpath=d") == 2


def test_a_head_learns_where_a_number_of_steps_ends_the_training(at_home, capsys):
    """A checkpoint of a head that has not learned would be tested as zero-shot CLIP under the head's name."""
    options = ["--trainer.max_epochs=4", "--data.batch_size=15", "--checkpoint.dirpath=c"]
    assert run("fit", "head_only/tip_adapter.yaml", "--trainer.max_steps=2", *options) == 0
    assert torch.load("c/last.ckpt", weights_only=True)["state_dict"]["keys"].shape == (15, 128)
    assert run("fit", "head_only/tip_adapter.yaml", "--trainer.max_steps=1", "--data.batch_size=8", *options[::2]) == 2
    assert "7 of 15 were left out of one" in capsys.readouterr().err


@pytest.mark.parametrize("batches", [4, 6])
def test_a_head_goes_on_with_what_it_read_before_it_was_killed(at_home, monkeypatch, capsys, batches):
    """Killed before its second epoch, and within it: it learns from both, as one that was not killed."""
    options = ["--trainer.max_epochs=2", "--data.batch_size=4", "--checkpoint_minutes=1e-9"]
    read, step = [], TipAdapter.training_step

    def killed(self, batch, batch_idx):
        if len(read) == batches:
            raise KeyboardInterrupt
        read.append(batch_idx)
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patched:
        patched.setattr(TipAdapter, "training_step", killed)
        assert run("fit", "head_only/tip_adapter.yaml", "--checkpoint.dirpath=killed", *options) != 0
    assert run("test", "head_only/tip_adapter.yaml", "--ckpt_path=killed/last.ckpt") == 2
    assert "is of a training of tip_adapter that has not ended" in capsys.readouterr().err
    assert run("fit", "head_only/tip_adapter.yaml", "--checkpoint.dirpath=killed", "--resume=auto", *options) == 0
    assert run("fit", "head_only/tip_adapter.yaml", "--checkpoint.dirpath=whole", *options) == 0
    whole, again = (torch.load(f"{name}/last.ckpt", weights_only=True) for name in ("whole", "killed"))
    assert torch.equal(again["state_dict"]["keys"], whole["state_dict"]["keys"])
    capsys.readouterr()
    assert run("fit", "head_only/tip_adapter.yaml", "--ckpt_path=whole/last.ckpt", "--trainer.max_epochs=3") == 2
    assert "the features of its 2 epochs are gone; train anew, without --ckpt_path" in capsys.readouterr().err


def test_a_head_learns_from_videos_as_well(at_home, kitchen):
    """Without augmentation it sees other frames than a test; what it must see is every video."""
    options = ["--data.frames=4", "--data.num_workers=0", "--checkpoint.dirpath=c", "--trainer.limit_val_batches=0"]
    Path("bank.yaml").write_text(
        yaml.safe_dump({"data": {"class_path": "FolderVideosDataModule", "init_args": {"root": str(kitchen)}}})
    )
    assert run("fit", "head_only/nearest_mean.yaml", "--data.batch_size=4", *options) == 2
    assert run("fit", "head_only/nearest_mean.yaml", "--data.batch_size=5", *options) == 0
    state = torch.load("c/last.ckpt", weights_only=True)["state_dict"]
    assert state["class_means"].shape == (3, 128)


def test_mote_trains_its_head_on_a_bank(at_home):
    options = ["--model.backbone_lr_ratio=0", "--model.layers=1", "--trainer.max_steps=2", "--trainer.logger=false"]
    data = ["--data.batch_size=8", "--data.train.shots=2", "--trainer.limit_val_batches=0", "--checkpoint.dirpath=c"]
    assert run("fit", "mote_fewshot.yaml", *options, *data) == 0
    state = torch.load("c/last.ckpt", weights_only=True)["state_dict"]
    assert not [key for key in state if key.startswith("backbone.")]
    assert run("fit", "mote_fewshot.yaml", *options[1:], *data) == 2


def test_settings_say_which_features_were_trained_on(kitchen_bank):
    def settings(side, **options):
        return FeatureBankDataModule(root=str(kitchen_bank), **options).settings(side)

    assert settings("test") == settings("test", passes=1, heldout=0.2, loading=LoadingOptions(epoch_size=3))
    for change in ({"passes": 1}, {"passes": 0}, {"heldout": 0.2}, {"loading": LoadingOptions(epoch_size=3)}):
        assert settings("training", **change) != settings("training")
    assert "augmentation.scale" in settings("training")
    assert "augmentation.scale" not in settings("training", passes=0)
    assert settings("validation")["validate_on_test"] is False
    assert json.dumps(settings("training"))
