"""A checkpoint says how its model is configured: whoever has the file alone builds the method."""

import sys
from dataclasses import replace

import pytest
import torch

from tests.fakes import moving_frames, write_video
from tests.results.fakes import record
from vlbench.backbones import TinyCLIP
from vlbench.cli.main import main
from vlbench.cli.methods import build
from vlbench.cli.models import _check_settings, model_of
from vlbench.clips.options import ClipOptions, Views
from vlbench.errors import CheckpointError, ConfigError
from vlbench.inference import Model
from vlbench.methods import OST

CONFIGS = ["mote_fewshot.yaml", "demo/mote.yaml", "data/folder.yaml", "backbone/tiny.yaml", "trainer/cpu.yaml",
           "views/3x1.yaml"]  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A checkpoint of one step on a backbone with random weights, with options on the command line."""
    home = tmp_path_factory.mktemp("alone")
    for part in ("train", "test"):
        for label, name in enumerate(("jumping", "running")):
            (home / "videos" / part / name).mkdir(parents=True)
            frames = moving_frames(8, seed=label + 10 * (part == "train"))
            write_video(home / "videos" / part / name / "0.mp4", frames)
    options = [
        "--data.root=videos", "--data.train.shots=1", "--data.frames=4", "--data.num_workers=0", "--data.batch_size=2",
        "--data.loading.effective_batch=2", "--data.loading.epoch_size=2", "--data.clip.test_short_side=1.25",
        "--model.init_args.layers=2", "--model.init_args.experts=3", "--model.backbone.pretrained=false",
        "--seed_everything=11", "--trainer.max_steps=1", "--trainer.limit_val_batches=0", "--trainer.logger=false",
        "--checkpoint.dirpath=weights",
    ]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setattr(sys, "argv", ["vlbench"])
        patch.setenv("PYTHONWARNINGS", "ignore")
        assert main(["fit", *(word for name in CONFIGS for word in ("--config", name)), *options]) == 0
    return home / "weights" / "last.ckpt"


def changed(path, target, change):
    """A copy of a checkpoint with a changed header."""
    content = torch.load(path, weights_only=False)
    change(content["vlbench"])
    torch.save(content, target)
    return target


def test_it_gives_the_state_of_the_training(trained):
    model = model_of([], trained, device="cpu")
    method, content = model.method, torch.load(trained, weights_only=True)
    assert (method.name, method.layers, method.experts, method.seed) == ("mote", 2, 3, 11)
    assert (model.frames, model.clip) == (4, ClipOptions(views=Views(clips=3), test_short_side=1.25))
    state = method.state_dict()
    assert all(torch.equal(state[key], value) for key, value in content["state_dict"].items())
    assert content["state_dict"].keys() == method.trained_keys()
    # The frozen weights are random: those of the training, by its seed, and nobody else's.
    assert method.backbone.identity.as_dict() == content["vlbench"]["backbone"]
    assert not method.training


def test_random_weights_follow_the_seed_and_draw_nothing_else(trained, tmp_path):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    model_of([], trained, device="cpu")
    assert torch.equal(torch.rand(2), expected)
    other = changed(trained, tmp_path / "seed.ckpt", lambda header: header["configuration"].update(seed_everything=12))
    with pytest.raises(CheckpointError, match="random ones need the same seed_everything"):
        model_of([], other)


@pytest.mark.parametrize("change", [lambda header: header.pop("configuration"),
                                    lambda header: header.update(configuration=None)])  # fmt: skip
def test_one_that_does_not_say_it_is_refused_in_a_sentence(trained, tmp_path, capsys, monkeypatch, change):
    old = changed(trained, tmp_path / "old.ckpt", change)
    with pytest.raises(CheckpointError, match="does not say how its model is configured"):
        model_of([], old)
    monkeypatch.setattr(sys, "argv", ["vlbench"])
    assert main(["classify", "a.mp4", "--classes", "a", "b", "--ckpt_path", str(old)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"vlbench: error: {old} does not say how its model is configured, as one that was imported")
    assert said.endswith("; give the configurations of its training by --config\n")
    assert said.count("\n") == 1


def test_a_class_that_is_another_or_gone_is_named(trained, tmp_path):
    def of_class(name):
        return lambda header: header["configuration"]["model"].update(
            class_path=name, init_args={"backbone": header["configuration"]["model"]["init_args"]["backbone"]}
        )

    other = changed(trained, tmp_path / "other.ckpt", of_class("vlbench.methods.ZeroShot"))
    with pytest.raises(CheckpointError, match=r"other\.ckpt is of method 'mote', the configuration of 'zero_shot'"):
        model_of([], other)
    gone = changed(trained, tmp_path / "gone.ckpt", of_class("kitchen.MyMethod"))
    with pytest.raises(ConfigError, match=r"gone\.ckpt configure no method: .*kitchen\.MyMethod"):
        model_of([], gone)


def test_it_is_in_no_digest(trained, tmp_path):
    """Weights are named by themselves and the facts of their training: no record changes with what is said of files."""

    def other(header):
        header["configuration"] = {"seed_everything": 0, "model": {"class_path": "nowhere"}, "data": {"frames": 16}}

    method = model_of([], trained, device="cpu").method
    digest, provenance = method.trained_digest(), method.provenance
    assert provenance is not None
    for number, change in enumerate((other, lambda header: header.pop("configuration"))):
        content = torch.load(changed(trained, tmp_path / f"{number}.ckpt", change), weights_only=True)
        method.on_load_checkpoint(content)
        method.load_state_dict(content["state_dict"])
        assert (method.trained_digest(), method.provenance) == (digest, provenance)


def test_given_configurations_come_before_what_it_says(trained):
    with pytest.raises(CheckpointError, match="trained on"):
        model_of(["mote_fewshot.yaml", "demo/mote.yaml", "backbone/tiny.yaml"], trained)


def test_an_exported_one_is_built_without_experts(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["vlbench"])
    exported = tmp_path / "merged.safetensors"
    assert main(["weights", "export", str(trained), "--out", str(exported)]) == 0
    whole, merged = model_of([], trained, device="cpu"), model_of([], exported, device="cpu")
    assert (whole.method.experts, merged.method.experts) == (3, 0)
    videos = sorted(trained.parents[1].glob("videos/*/*/*.mp4"))
    pairs = (model.encode_videos(videos, ["jumping", "running"]) for model in (whole, merged))
    torch.testing.assert_close(*pairs, rtol=0, atol=1e-5)


def test_later_configurations_come_over_earlier_ones_option_by_option(tmp_path):
    (tmp_path / "mine.yaml").write_text("data: {init_args: {clip: {views: {crops: 3}}}}\n")
    model = model_of(["zero_shot.yaml", "backbone/tiny.yaml", "views/3x1.yaml", str(tmp_path / "mine.yaml")], None)
    assert (model.frames, model.clip.views) == (8, Views(clips=3, crops=3))
    assert build(["zero_shot.yaml", "backbone/tiny.yaml"]).name == model.method.name


def test_sentences_that_a_record_states_are_their_dataset_s(tmp_path):
    """A model that has no dataset has not read them; every other option of the method and of the clips is compared."""
    model = Model(OST(TinyCLIP()), 8, ClipOptions(), device="cpu")
    settings = {
        **model.method.settings("test"), "descriptions": "0123", "data.clip.sampling": "uniform",
        "data.clip.views.clips": 1, "data.clip.views.crops": 1, "data.clip.views.right_edge": "exact",
        "data.clip.test_short_side": model.clip.test_short_side,
    }  # fmt: skip
    made = record()
    made = replace(made, details=replace(made.details, settings=settings))
    _check_settings(made, tmp_path, model)
    for name in settings.keys() - {"descriptions"}:
        other = replace(made, details=replace(made.details, settings={**settings, name: "another"}))
        with pytest.raises(ConfigError, match=f"was tested with other options .*{name}=another and not"):
            _check_settings(other, tmp_path, model)
        fewer = {key: value for key, value in settings.items() if key != name}
        without = replace(made, details=replace(made.details, settings=fewer))
        with pytest.raises(ConfigError, match=f"was tested with other options .*no such option and not {name}="):
            _check_settings(without, tmp_path, model)
    older = replace(other, identity=replace(other.identity, settings=None))
    _check_settings(older, tmp_path, model)


def test_the_side_that_a_frame_is_resized_to_is_compared_as_a_record_states_it(tmp_path):
    """To six digits; the order of the frames is the normal one where a record does not say it."""
    model = Model(OST(TinyCLIP()), 8, ClipOptions(test_short_side=256 / 224), device="cpu")
    settings = {
        **model.method.settings("test"), "data.clip.sampling": "uniform", "data.clip.views.clips": 1,
        "data.clip.views.crops": 1, "data.clip.views.right_edge": "exact", "data.clip.test_short_side": 1.142857,
    }  # fmt: skip
    made = record()
    _check_settings(replace(made, details=replace(made.details, settings=settings)), tmp_path, model)
    settings["data.clip.test_short_side"] = 1.142858
    with pytest.raises(ConfigError, match=r"test_short_side=1\.142858 and not data\.clip\.test_short_side=1\.142857"):
        _check_settings(replace(made, details=replace(made.details, settings=settings)), tmp_path, model)
