"""Every option either changes the identity of a number or stands in a list that says why it cannot change one."""

import inspect
import json
import warnings
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import yaml
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor

import vlbench.clips.datamodules as datamodules
import vlbench.methods
from tests.methods.test_deviations import build, options_of, other
from vlbench.backbones import InternVideo2, ViCLIP, VideoNetwork
from vlbench.backbones.internvideo2_parts import InternVideo2Sizes
from vlbench.backbones.viclip_parts import ViCLIPSizes
from vlbench.cli.main import main
from vlbench.cli.trainer_options import ELSEWHERE, SAME_NUMBERS
from vlbench.clips.datamodule import VideoDataModule
from vlbench.clips.datamodules import FolderVideosDataModule
from vlbench.clips.options import DATA_ELSEWHERE, DATA_SAME_NUMBERS, DATA_SIDES, ClipOptions, LoadingOptions
from vlbench.datasets import FolderVideos
from vlbench.datasets.specs import Subset
from vlbench.errors import ConfigError, DataError
from vlbench.methods import FROSTER, MSTA, ZeroShot
from vlbench.results.callback import RecordWriter
from vlbench.results.record import Record
from vlbench.results.run_settings import CALLBACKS_SAME_NUMBERS, TRAINER_SAME_NUMBERS, TRAINER_SIDES
from vlbench.settings import flat, settings_digest

pytestmark = pytest.mark.quick

METHODS = [getattr(vlbench.methods, name) for name in vlbench.methods.__all__ if name != "VideoTextMethod"]
DATAMODULES = [kind for kind in vars(datamodules).values() if inspect.isclass(kind)]
TRAINER = {
    "accelerator": "cpu", "devices": 2, "strategy": "ddp", "logger": False, "enable_progress_bar": False,
    "enable_checkpointing": False, "use_distributed_sampler": False, "enable_model_summary": False,
}  # fmt: skip


def folder(root, classes="abc", videos=3):
    """A folder of class folders; the files are never decoded."""
    for part in ("train", "test"):
        for name in classes:
            for index in range(videos):
                path = root / part / name / f"{index}.mp4"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
    return root


def described(root, number):
    """A folder of descriptions, which say a number."""
    root.mkdir(parents=True)
    for side in ("spatial", "temporal"):
        (root / f"{side}.json").write_text(json.dumps({str(label): [f"thing {number} {label}"] for label in range(3)}))
    (root / "rephrased.json").write_text(json.dumps({str(label): f"It: {number} {label}" for label in range(3)}))
    return str(root)


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory):
    return folder(tmp_path_factory.mktemp("first") / "kitchen")


@pytest.fixture(scope="module")
def sentences(tmp_path_factory):
    root = tmp_path_factory.mktemp("sentences")
    return SimpleNamespace(
        one=described(root / "one", 1),
        copy=described(root / "copy", 1),
        other=described(root / "other", 2),
    )


def trainer(**options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Trainer(**{**TRAINER, **options})


_TRAINER = trainer()


def identified(kitchen, *, method=None, data=None, seed=0, run=None, **writer):
    """Identity of a test, and what its checkpoint would say of a training, with some options."""
    method = method or ZeroShot(TINY)
    module = FolderVideosDataModule(**{"root": str(kitchen), "image_size": 32, "seed": seed, **(data or {})})
    method.use(module.dataset)
    method.setup("fit")
    run = run or _TRAINER
    records = RecordWriter(folder=None, **writer)
    records.use(module, seed=seed)
    records.setup(run, method, "fit")
    facts = method.describe_training()
    records.on_test_start(run, method)
    return records.identities[0], facts


TINY = build(ZeroShot).backbone


def sides(before, after):
    """What differs between two runs: the test, the training, or the validation alone."""
    (test, training), (other_test, other_training) = before, after
    digests = [
        (one.settings_behind("last"), one.settings_behind("heldout"), one.subset, one.seed, one.dataset, one.list)
        for one in (training, other_training)
    ]
    changed = set()
    if test.digest() != other_test.digest():
        changed.add("test")
    if settings_digest({"": digests[0]}) != settings_digest({"": digests[1]}):
        changed.add("training" if digests[0][0] != digests[1][0] or digests[0][2:] != digests[1][2:] else "validation")
    return changed


EXPECTED = {
    "both": {"test", "training"}, "test": {"test", "validation"}, "training": {"training"},
    "validation": {"validation"}, None: set(),
}  # fmt: skip


# The data ------------------------------------------------------------------------------------------------------------

DATA_OTHERS = {
    "heldout": 0.5, "frames": 4, "batch_size": 5, "num_workers": 3, "image_size": 48, "validate_on_test": True,
    "clip.sampling": "dense", "clip.segment_ends": "exclusive", "clip.views.clips": 2, "clip.views.crops": 3,
    "clip.views.right_edge": "quarters", "clip.views.order": "reversed",
    "clip.test_short_side": 1.5, "augmentation.short_side": 1.5,
    "augmentation.fused_resize": True, "augmentation.scale": (0.5, 1.0), "augmentation.flip": False,
    "augmentation.color_jitter": 0.1, "augmentation.gray": 0.1, "loading.effective_batch": 6,
    "loading.eval_batch_size": 3, "loading.epoch_size": 7, "loading.backend": "torchcodec", "loading.on_error": "skip",
    "loading.decode_on": "cuda", "augmentation.run_on": "device", "interpolation": "bilinear", "resize_mode": "squash",
    "train": Subset(shots=2), "test": Subset(classes="novel"), "seed": 3,
}  # fmt: skip
DATA_OPTIONS = {
    name: value
    for argument, parameter in inspect.signature(VideoDataModule).parameters.items()
    for name, value in ([(argument, None)] if argument in ("train", "test") else flat(argument, parameter.default))
}


def changed_data(name, value):
    """Arguments of the DataModule with another value of one option."""
    argument, *fields = name.split(".")
    if name == "loading.decode_on":  # which torchcodec alone has
        return {"loading": LoadingOptions(backend="torchcodec", decode_on=value)}
    for field in reversed(fields):
        default = inspect.signature(VideoDataModule).parameters[argument].default
        for part in fields[: fields.index(field)]:
            default = getattr(default, part)
        value = replace(default, **{field: value})
    return {argument: value}


def test_every_option_of_a_datamodule_is_on_one_side():
    known = [*(DATA_SIDES.keys() - {"dataset"}), *DATA_ELSEWHERE, *DATA_SAME_NUMBERS]
    assert sorted(known) == sorted(DATA_OPTIONS)
    assert all(DATA_ELSEWHERE.values())
    assert all(DATA_SAME_NUMBERS.values())
    assert all(inspect.signature(kind).parameters.keys() == {*inspect.signature(VideoDataModule).parameters}
               for kind in DATAMODULES if issubclass(kind, VideoDataModule))  # fmt: skip


@pytest.mark.parametrize(
    "name", [name for name in DATA_OPTIONS if name not in ("root", "variant", "splits_dir", "class_list")]
)
def test_an_option_of_the_data_changes_its_side(kitchen, name):
    change = changed_data(name, DATA_OTHERS[name])
    after = identified(kitchen, data=change, seed=change.get("seed", 0))
    changed = sides(identified(kitchen), after)
    if name in DATA_SIDES:
        assert changed == EXPECTED[DATA_SIDES[name]]
    else:
        assert bool(changed) == (name in DATA_ELSEWHERE)


def test_a_list_of_classes_changes_training_and_test(kitchen, tmp_path):
    names = FolderVideos(str(kitchen)).spec.class_names[1:]
    (tmp_path / "some.txt").write_text("\n".join(names))
    after = identified(kitchen, data={"class_list": str(tmp_path / "some.txt")})
    assert sides(identified(kitchen), after) == EXPECTED["both"]
    assert after[0].dataset == after[1].dataset == f"{identified(kitchen)[0].dataset}/some"


def test_folders_of_one_name_are_told_apart_by_what_lies_in_them(kitchen, tmp_path):
    same, more, others = (
        folder(tmp_path / "a" / "kitchen"),
        folder(tmp_path / "b" / "kitchen", videos=4),
        folder(tmp_path / "c" / "kitchen", classes="abd"),
    )
    before = identified(kitchen)
    assert identified(same)[0] == before[0]
    assert not sides(before, identified(same))
    for root in (more, others):
        test, _ = identified(root)
        assert test.dataset == before[0].dataset == "kitchen"
        assert sides(before, identified(root)) == {"test", "training"}
        assert test.settings != before[0].settings  # so that they are not one row of the leaderboard
    assert before[0].test_videos != identified(more)[0].test_videos


def test_class_names_are_part_of_a_dataset(kitchen, tmp_path):
    worded = folder(tmp_path / "kitchen")
    (worded / "classes.txt").write_text("a\tcutting\nb\tstirring\nc\tpouring\n")
    one, other = FolderVideos(str(kitchen)), FolderVideos(str(worded))
    assert one.content("test") != other.content("test")
    assert identified(kitchen)[0].test_videos != identified(worded)[0].test_videos


def test_two_ways_to_write_a_number_are_one(kitchen):
    def of(ratio):
        module = FolderVideosDataModule(root=str(kitchen), clip=ClipOptions(test_short_side=ratio))
        return module.settings("test")

    assert of(1.142857) == of(256 / 224) != of(1.15)
    assert settings_digest({"lr": 1}) == settings_digest({"lr": 1.0})


def test_an_argument_that_a_datamodule_does_not_keep_is_named(kitchen):
    class Forgetful(FolderVideosDataModule):
        def __init__(self, root, speed=1.0):
            super().__init__(root)

    with pytest.raises(ConfigError, match=r"Forgetful does not keep its argument speed.*set self\.speed = speed"):
        Forgetful(str(kitchen)).settings("test")


# The methods ---------------------------------------------------------------------------------------------------------

METHOD_OPTIONS = [
    pytest.param(method, name, group, default, id=f"{method.__name__}-{name}")
    for method in METHODS
    for name, group, default in options_of(method)
    if name not in method.ELSEWHERE
]


@pytest.mark.parametrize("method", METHODS)
def test_every_option_of_a_method_is_on_one_side(method):
    names = {name for name, _, _ in options_of(method)}
    lists = (method.SIDES.keys(), method.ELSEWHERE.keys(), method.SAME_NUMBERS.keys())
    assert names <= set().union(*lists)
    assert sum(len(names & one) for one in lists) == len(names)
    assert all(method.SAME_NUMBERS.values())


@pytest.mark.parametrize(("method", "name", "group", "default"), METHOD_OPTIONS)
def test_an_option_of_a_method_changes_its_side(kitchen, sentences, method, name, group, default):
    fixed = {"descriptions": sentences.one} if "descriptions" in inspect.signature(method).parameters else {}
    files = {"descriptions": sentences.other, "rephrased": f"{sentences.other}/rephrased.json"}
    value = files[name] if name in files else other(name, default)
    if group is not None:
        value = replace(inspect.signature(method).parameters[group].default, **{name: value})
    after = identified(kitchen, method=build(method, **{**fixed, group or name: value}))
    assert sides(identified(kitchen, method=build(method, **fixed)), after) == EXPECTED[method.SIDES.get(name)]


def test_the_folder_of_descriptions_is_no_identity(kitchen, sentences):
    one, copy = (identified(kitchen, method=build(MSTA, descriptions=each)) for each in (sentences.one, sentences.copy))
    assert not sides(one, copy)
    one, copy, different = (
        identified(kitchen, method=build(FROSTER, rephrased=f"{each}/rephrased.json"))
        for each in (sentences.one, sentences.copy, sentences.other)
    )
    assert not sides(one, copy)
    assert sides(one, different) == {"test", "training"}


def test_prompts_are_the_same_by_name_and_as_templates(kitchen):
    named, given = (
        identified(kitchen, method=build(ZeroShot, prompts=prompts)) for prompts in ("video", ["a video of {}"])
    )
    assert not sides(named, given)


def test_options_and_weights_of_a_backbone_count():
    sizes = ViCLIPSizes(24, 32, 16, 32, 1, 2, 16, 1, 2, frames=4)
    plain = ViCLIP("small", sizes=sizes)
    assert plain.settings() != ViCLIP("small", sizes=sizes, temporal_resizing="interpolate").settings()
    assert plain.settings() != ViCLIP("small", sizes=replace(sizes, heads=4)).settings()
    assert plain.settings() == ViCLIP("small", sizes=sizes).settings()  # random weights are the seed's
    shipped = build(ZeroShot).backbone
    shipped.identity = replace(shipped.identity, pretrained="a file", digest="one")
    one = shipped.settings()
    shipped.identity = replace(shipped.identity, digest="another")
    assert one != shipped.settings()
    frames = InternVideo2("small", sizes=InternVideo2Sizes(24, 24, 32, 16, 32, 1, 2, 2, 16, 1, 2))
    for backbone in (plain, frames, VideoNetwork("x3d_m", frames=4, image_size=32)):
        stated = {"model", "pretrained", *(key.split(".")[0] for key in backbone.settings())}
        assert set(inspect.signature(type(backbone)).parameters) <= stated


def test_the_folder_of_weights_is_no_identity(kitchen):
    method = build(ZeroShot)
    names = []
    for path in ("/here/ViT.pt", "/there/ViT.pt"):
        method.backbone.identity = replace(method.backbone.identity, pretrained=path)
        names.append(identified(kitchen, method=method)[0].backbone)
    assert names == ["vlbench-tiny-clip:ViT.pt"] * 2


# The trainer ---------------------------------------------------------------------------------------------------------


class Rescaled(Callback):
    """A callback that may do anything."""

    def __init__(self, factor=1.0):
        self.factor = factor


TRAINER_OTHERS = {
    "accelerator": "auto", "strategy": "ddp_find_unused_parameters_true", "num_nodes": 2, "precision": "bf16-mixed",
    "logger": None, "callbacks": [Rescaled()], "fast_dev_run": True, "max_epochs": 3, "min_epochs": 2, "max_steps": 9,
    "min_steps": 2, "max_time": "00:00:00:09", "limit_train_batches": 1, "limit_val_batches": 1,
    "limit_test_batches": 1, "limit_predict_batches": 1, "overfit_batches": 1, "val_check_interval": 0.5,
    "check_val_every_n_epoch": 2, "num_sanity_val_steps": 0, "log_every_n_steps": 7, "enable_checkpointing": True,
    "enable_progress_bar": True, "enable_model_summary": True, "accumulate_grad_batches": 2, "gradient_clip_val": 1.0,
    "gradient_clip_algorithm": "value", "deterministic": True, "benchmark": True, "inference_mode": False,
    "use_distributed_sampler": True, "profiler": "simple", "detect_anomaly": True, "barebones": True, "plugins": None,
    "sync_batchnorm": True, "reload_dataloaders_every_n_epochs": 1, "default_root_dir": "/tmp",
    "enable_autolog_hparams": False, "model_registry": None, "devices": 4,
}  # fmt: skip
ALONE = {"barebones": {"logger": None, "enable_progress_bar": None, "enable_model_summary": None,
                       "enable_checkpointing": None}}  # fmt: skip
"""What another option must not be set beside; null leaves it to Lightning."""


def test_every_option_of_the_trainer_is_on_one_side():
    assert sorted([*TRAINER_SIDES, *TRAINER_SAME_NUMBERS]) == sorted(
        {*inspect.signature(Trainer).parameters} - {"self"}
    )
    assert all(TRAINER_SAME_NUMBERS.values())
    assert all(CALLBACKS_SAME_NUMBERS.values())


@pytest.mark.parametrize("name", [name for name in inspect.signature(Trainer).parameters if name != "self"])
def test_an_option_of_the_trainer_changes_its_side(kitchen, name):
    with_batch = {"loading": LoadingOptions(effective_batch=12)} if name in ("devices", "num_nodes") else {}
    after = identified(kitchen, data=with_batch, run=trainer(**{name: TRAINER_OTHERS[name], **ALONE.get(name, {})}))
    assert sides(identified(kitchen, data=with_batch), after) == EXPECTED[TRAINER_SIDES.get(name)]


def test_the_number_of_processes_counts_where_it_makes_the_batch(kitchen):
    assert sides(identified(kitchen), identified(kitchen, run=trainer(devices=4))) == {"training"}


def test_the_number_of_processes_counts_where_it_says_which_clips_come_together(kitchen):
    twelve = [
        identified(kitchen, data={"batch_size": size}, run=trainer(devices=devices))
        for size, devices in ((12, 1), (3, 4))
    ]
    assert sides(*twelve) == {"training"}


def test_convolutions_in_tf32_count_on_a_gpu(kitchen, monkeypatch):
    runs = []
    for allowed in (False, True):
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", allowed)
        runs.append(identified(kitchen))
        run = trainer()
        monkeypatch.setattr(type(run.strategy), "root_device", torch.device("cuda"))
        runs.append(identified(kitchen, run=run))
        monkeypatch.undo()
    assert runs[0] == runs[1] == runs[2]  # on a CPU, and where they are float32
    assert sides(runs[0], runs[3]) == {"test", "training"}


def test_the_precision_of_matrix_products_counts(kitchen):
    plain = identified(kitchen)
    torch.set_float32_matmul_precision("high")
    try:
        assert sides(plain, identified(kitchen)) == {"test", "training"}
    finally:
        torch.set_float32_matmul_precision("highest")


def test_one_batch_is_not_all_of_them(kitchen):
    one, share = (identified(kitchen, run=trainer(limit_train_batches=limit)) for limit in (1, 1.0))
    assert sides(one, share) == {"training"}


@pytest.mark.parametrize("limit", [{"limit_train_batches": 1}, {"limit_train_batches": 0.5}, {"overfit_batches": 2}])
def test_a_limit_counts_batches_that_gradients_are_accumulated_over(kitchen, limit):
    """The same number of them is another number of optimizer steps, and of clips, where each holds fewer."""

    def of(size, **options):
        data = {"batch_size": size, "loading": LoadingOptions(effective_batch=6)}
        return identified(kitchen, data=data, run=trainer(**options))

    assert not sides(of(3), of(1))
    assert sides(of(3, **limit), of(1, **limit)) == {"training"}


@pytest.mark.parametrize(
    ("limit", "sizes"),
    [
        ({"limit_val_batches": 1}, {"eval_batch_size": 2}),
        ({"limit_val_batches": 0.5}, {"eval_batch_size": 2}),
        ({"val_check_interval": 1}, {"batch_size": 1}),
        ({"val_check_interval": 0.5}, {"batch_size": 1}),
    ],
)
def test_a_validation_counts_batches_of_the_validation_or_of_the_training(kitchen, limit, sizes):
    """The same number of them is other videos, or other moments: another epoch may be the best."""

    def of(batch_size=3, eval_batch_size=3, **options):
        loading = LoadingOptions(effective_batch=6, eval_batch_size=eval_batch_size)
        return identified(kitchen, data={"batch_size": batch_size, "loading": loading}, run=trainer(**options))

    assert not sides(of(), of(**sizes))
    assert sides(of(**limit), of(**sizes, **limit)) == {"validation"}


def test_a_validation_of_nothing_has_no_batches(kitchen):
    def of(size):
        loading = LoadingOptions(eval_batch_size=size)
        return identified(kitchen, data={"loading": loading}, run=trainer(limit_val_batches=0))

    assert not sides(of(2), of(3))


def test_callbacks_count_with_their_options_unless_they_are_known_to_change_nothing(kitchen):
    plain = identified(kitchen)
    runs = [
        identified(kitchen, run=trainer(callbacks=[callback]))
        for callback in (EarlyStopping("val/top1"), EarlyStopping("val/top1", patience=9), Rescaled(), Rescaled(2.0))
    ]
    digests = {run[1].settings_behind("last")["trainer.callbacks"][0] for run in runs}
    assert len(digests) == 4
    assert all("training" in sides(plain, run) for run in runs)
    assert not sides(plain, identified(kitchen, run=trainer(callbacks=[LearningRateMonitor()], logger=None)))


# The rest of a run ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{"protocol": "few_shot@1"}, {"selection": "heldout"}])
def test_protocol_and_selection_are_part_of_the_identity(kitchen, changes):
    assert identified(kitchen)[0].digest() != identified(kitchen, **changes)[0].digest()


@pytest.mark.parametrize("command", ["fit", "test"])
def test_every_option_of_a_command_is_known(command, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["vlbench"])
    options = ["zero_shot.yaml", "backbone/tiny.yaml", "data/synthetic.yaml"]
    words = [part for name in options for part in ("--config", name)]
    assert main([command, *words, "--print_config"]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    known = {**ELSEWHERE, **SAME_NUMBERS}
    assert printed.keys() <= known.keys()
    assert all(known.values())


def test_a_training_that_was_broken_off_is_another_one(kitchen):
    run = trainer(max_epochs=3)
    epochs = run.fit_loop.epoch_progress.current
    steps = run.fit_loop.epoch_loop.automatic_optimization.optim_progress.optimizer.step.total
    settings = []
    for epochs.processed, steps.completed in ((1, 10), (1, 14), (2, 20), (3, 30)):
        settings.append(identified(kitchen, run=run)[1].settings_behind("last"))
    assert [each.get("steps") for each in settings] == [10, 14, 20, None]
    assert len({settings_digest(each) for each in settings}) == 4


def test_a_training_that_began_with_another_one_is_told_apart_and_a_resumed_one_is_not(kitchen):
    def begun(with_, **options):
        method = build(ZeroShot)
        method.provenance = with_
        return identified(kitchen, method=method, **options)[1]

    whole = begun(None)
    assert begun(whole).settings == whole.settings
    other = begun(begun(None, run=trainer(gradient_clip_val=1.0)))
    assert other.settings.keys() - whole.settings.keys() == {"started_from"}
    assert begun(other).settings == other.settings  # resumed once more
    assert begun(whole, seed=1).settings["started_from"] != other.settings["started_from"]
    assert "started_from" in begun(replace(whole, settings=None)).settings


def test_a_method_that_trains_is_untrained_without_a_checkpoint(kitchen, sentences):
    trains = identified(kitchen, method=build(MSTA, descriptions=sentences.one))[0]
    assert trains.untrained
    assert not identified(kitchen)[0].untrained


# Files ---------------------------------------------------------------------------------------------------------------


def writer(kitchen, out, prompts, **options):
    """A record writer at the start of a test."""
    method = build(ZeroShot, prompts=prompts)
    data = FolderVideosDataModule(str(kitchen), image_size=32)
    method.use(data.dataset)
    method.setup("test")
    records = RecordWriter(folder=str(out), **options)
    records.use(data, seed=0)
    records.on_test_start(_TRAINER, method)
    return records


def left(records, path, stage=None):
    """Leaves the record that a test would end with."""
    made = Record(
        records.identities[0], {"top1": 1.0, "top5": 1.0, "mean_per_class": 1.0}, expected=0, evaluated=0
    )  # fmt: skip
    made = replace(made, details=replace(made.details, stage=stage, settings=records.settings))
    return made.write(path.parent, path.stem)


def test_a_name_of_another_record_is_refused_before_the_evaluation(kitchen, tmp_path):
    path = tmp_path / "records" / "mine.json"
    left(writer(kitchen, tmp_path, "video", name="mine"), path)
    before = path.read_bytes()
    with pytest.raises(
        ConfigError, match=r"mine\.json is .* \(prompts=video\) than this one \(prompts=mote\).*--record.name"
    ):
        writer(kitchen, tmp_path, "mote", name="mine")
    assert path.read_bytes() == before
    writer(kitchen, tmp_path, "video", name="mine")
    writer(kitchen, tmp_path, "mote", name="yours")


def test_a_damaged_record_is_replaced_by_the_runner_only(kitchen, tmp_path):
    path = tmp_path / "records" / "mine.json"
    path.parent.mkdir()
    path.write_text("{")
    with pytest.raises(DataError, match=r"mine\.json"):
        writer(kitchen, tmp_path, "video", name="mine")
    writer(kitchen, tmp_path, "video", name="mine", stage="s1")


def test_a_stage_replaces_what_it_left_before_its_configuration_changed(kitchen, tmp_path):
    path = tmp_path / "records" / "mine.json"
    left(writer(kitchen, tmp_path, "video", name="mine", stage="s1"), path, stage="s1")
    writer(kitchen, tmp_path, "mote", name="mine", stage="s2")
    with pytest.raises(ConfigError, match="another evaluation"):
        writer(kitchen, tmp_path, "mote", name="mine")
    left(writer(kitchen, tmp_path, "video", name="mine"), path)  # the user's own
    with pytest.raises(ConfigError, match="another evaluation"):
        writer(kitchen, tmp_path, "mote", name="mine", stage="s2")


def test_names_without_a_name_differ_with_the_settings(kitchen, tmp_path):
    names = {Record(writer(kitchen, tmp_path, prompts).identities[0], {}, 0, 0).name for prompts in ("video", "mote")}
    assert len(names) == 2
