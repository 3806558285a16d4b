from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlbench.cli.configs import config_names, find_config
from vlbench.datasets.specs import Subset
from vlbench.errors import ConfigError
from vlbench.protocols.plans import PROTOCOLS, plan
from vlbench.protocols.suites import MethodConfig, ProtocolConfig, Suite

pytestmark = pytest.mark.quick

METHODS = {"zero": MethodConfig(["zero.yaml"], trains=False), "msta": MethodConfig(["msta.yaml", "small.yaml"])}


def suite(protocol, datasets=("data/a.yaml", "data/b.yaml"), methods=METHODS, **options):
    return Suite([ProtocolConfig(protocol, list(datasets), **options)], dict(methods), ["cpu.yaml"])


def unique(values, most=3):
    return st.lists(values, min_size=1, max_size=most, unique=True)


QUICK = settings(max_examples=40, deadline=None)
numbers = unique(st.integers(1, 32))


@st.composite
def suites(draw, protocols=tuple(PROTOCOLS)):
    """Suites of one to three entries, of which no two are about the same protocol."""
    entries = []
    for protocol in draw(unique(st.sampled_from(protocols), 3)):
        options = {
            "seeds": draw(numbers),
            "views": draw(st.sampled_from([[], ["v/1x1.yaml"], ["v/1x1.yaml", "v/3.yaml"]])),
        }
        options["selection"] = draw(st.sampled_from(["last", "heldout"]))
        if "shots" in PROTOCOLS[protocol].options:
            options["shots"] = draw(numbers)
        if protocol == "zero_shot@1":
            options |= {
                "train": "data/k.yaml",
                "splits": draw(unique(st.integers(1, 3), 3)),
                "half_classes": draw(st.booleans()),
            }
        entries.append(
            ProtocolConfig(protocol, draw(unique(st.sampled_from(["data/a.yaml", "data/b.yaml"]), 2)), **options)
        )
    return Suite(entries, dict(METHODS), ["cpu.yaml"])


def entry_of(stage, suite):
    (entry,) = (entry for entry in suite.protocols if entry.protocol == stage.protocol)
    return entry


@QUICK
@given(suites())
def test_a_plan_is_deterministic_and_its_names_are_unique(suite):
    stages = plan(suite)
    assert stages == plan(suite)
    names = [stage.name for stage in stages] + [record for stage in stages for record in stage.records]
    counts = Counter(names)
    assert all(counts[stage.name] == 1 + (stage.records == (stage.name,)) for stage in stages)
    records = [record for stage in stages for record in stage.records]
    assert len(set(records)) == len(records)


@QUICK
@given(suites())
def test_weights_come_from_an_earlier_training_with_the_same_seed_and_method(suite):
    stages = plan(suite)
    names = [stage.name for stage in stages]
    for position, stage in enumerate(stages):
        assert (stage.weights_from is None) == (stage.action == "fit" or stage.configs[0] == "zero.yaml")
        if stage.weights_from is None:
            continue
        fit = stages[names.index(stage.weights_from)]
        assert names.index(fit.name) < position
        assert (fit.action, fit.seed, fit.configs[:2]) == ("fit", stage.seed, stage.configs[:2])
        assert stage.train in (None, fit.train)
        assert stage.selection in ("last", fit.selection)
        assert fit.train.seed in (0, fit.seed)


@QUICK
@given(suites())
def test_every_training_is_tested_and_none_runs_twice(suite):
    stages = plan(suite)
    fits = [stage for stage in stages if stage.action == "fit"]
    assert {fit.name for fit in fits} == {stage.weights_from for stage in stages} - {None}
    keys = [(fit.configs, fit.train, fit.test, fit.seed, fit.selection) for fit in fits]
    assert len(set(keys)) == len(keys)


@QUICK
@given(suites())
def test_every_view_and_selection_is_tested_exactly_once(suite):
    stages = plan(suite)
    for fit in (stage for stage in stages if stage.action == "fit"):
        tests = [stage for stage in stages if stage.weights_from == fit.name]
        for protocol in {stage.protocol for stage in tests}:
            of_protocol = [stage for stage in tests if stage.protocol == protocol]
            entry = entry_of(of_protocol[0], suite)
            datasets = len(entry.datasets) if protocol == "zero_shot@1" else 1
            settings = len(entry.views or [None]) * len({"last", entry.selection})
            assert len(of_protocol) == datasets * settings
            assert len({(stage.configs, stage.selection) for stage in of_protocol}) == len(of_protocol)
            assert {stage.selection for stage in of_protocol} == {"last", entry.selection}
        assert fit.checkpoints == (("last.ckpt",) if fit.selection == "last" else ("last.ckpt", "best.ckpt"))


@QUICK
@given(suites(("few_shot@1",)))
def test_few_shot_has_exact_shots_and_tests_the_first_split_only(suite):
    (entry,) = suite.protocols
    stages = plan(suite)
    # Only the first split is tested: the published training lists overlap the others' test lists.
    assert all(stage.test == (Subset(),) for stage in stages)
    fits = [(stage.train, stage.seed, stage.configs[2]) for stage in stages if stage.action == "fit"]
    expected = [(Subset(shots=k, seed=s), s, d) for k in entry.shots for s in entry.seeds for d in entry.datasets]
    assert Counter(fits) == Counter(expected)


@QUICK
@given(suites(("base_to_novel@1",)))
def test_base_to_novel_trains_on_the_base_half_only_and_tests_both_in_one_pass(suite):
    (entry,) = suite.protocols
    for stage in plan(suite):
        if stage.action == "fit":
            assert stage.train == Subset("base", stage.train.shots, seed=stage.seed)
            assert stage.train.shots in entry.shots
            assert stage.test == (Subset("base"),)
        else:
            assert stage.test == (Subset("base"), Subset("novel"))
            assert stage.records == (f"{stage.name}-base-split1", f"{stage.name}-novel-split1")
    fits = [(s.train.shots, s.seed, s.configs[2]) for s in plan(suite) if s.action == "fit"]
    assert Counter(fits) == Counter((k, s, d) for k in entry.shots for s in entry.seeds for d in entry.datasets)


@QUICK
@given(suites(("zero_shot@1",)))
def test_zero_shot_never_trains_on_a_test_dataset(suite):
    (entry,) = suite.protocols
    stages = plan(suite)
    fits = [stage for stage in stages if stage.action == "fit"]
    assert [(fit.seed, fit.train) for fit in fits] == [(seed, Subset()) for seed in entry.seeds]
    trained = {config for fit in fits for config in fit.configs if config.startswith("data/")}
    assert trained == {"data/k.yaml"}
    for stage in stages:
        if stage.action == "test":
            assert not trained & set(stage.configs)
            assert stage.train is None
            assert stage.test == tuple(Subset(split=split) for split in entry.splits)
            assert stage.half_classes == entry.half_classes


def test_fully_supervised_and_zero_shot_share_a_training():
    entries = [
        ProtocolConfig("fully_supervised@1", ["data/k.yaml"], views=["v/1x1.yaml", "v/4x3.yaml"]),
        ProtocolConfig("zero_shot@1", ["data/a.yaml"], train="data/k.yaml"),
    ]
    stages = plan(Suite(entries, {"msta": METHODS["msta"]}))
    assert [stage.name for stage in stages] == [
        "fully_supervised-k-msta-seed0-fit",
        "fully_supervised-k-msta-seed0-test-1x1",
        "fully_supervised-k-msta-seed0-test-4x3",
        "zero_shot-a-msta-seed0-test",
    ]
    assert {stage.weights_from for stage in stages[1:]} == {stages[0].name}
    assert stages[2].configs == ("msta.yaml", "small.yaml", "data/k.yaml", "v/4x3.yaml")


def test_trainings_that_keep_other_epochs_are_two():
    """One that keeps the last epoch alone leaves no `best.ckpt` for the other's test."""
    entries = [
        ProtocolConfig("fully_supervised@1", ["data/k.yaml"]),
        ProtocolConfig("zero_shot@1", ["data/a.yaml"], train="data/k.yaml", selection="heldout"),
    ]
    fits = [stage for stage in plan(Suite(entries, {"msta": METHODS["msta"]})) if stage.action == "fit"]
    assert [fit.checkpoints for fit in fits] == [("last.ckpt",), ("last.ckpt", "best.ckpt")]


def test_the_defaults_are_those_of_the_field():
    def fits(protocol, **options):
        return [stage for stage in plan(suite(protocol, ["data/a.yaml"], **options)) if stage.action == "fit"]

    assert [fit.train.shots for fit in fits("few_shot@1")] == [2, 4, 8, 16]
    assert [(fit.train.shots, fit.seed) for fit in fits("base_to_novel@1")] == [(16, 1), (16, 2), (16, 3)]
    stages = plan(suite("zero_shot@1", ["data/a.yaml"], train="data/k.yaml"))
    assert {stage.test for stage in stages if stage.action == "test"} == {tuple(Subset(split=i) for i in (1, 2, 3))}


def test_configurations_come_in_the_order_method_dataset_views_overlay():
    datasets = [["data/a.yaml", "data/long.yaml"]]
    stages = plan(suite("few_shot@1", datasets, shots=[2], views=["v/1x1.yaml"]))
    assert stages[0].configs == ("zero.yaml", "data/a.yaml", "data/long.yaml", "v/1x1.yaml", "cpu.yaml")
    assert stages[1].configs == ("msta.yaml", "small.yaml", "data/a.yaml", "data/long.yaml", "cpu.yaml")
    assert stages[2].name == "few_shot-a-msta-2shot-seed0-test-1x1"


def test_a_method_of_a_protocol_replaces_the_suites_of_that_name():
    entry = ProtocolConfig("few_shot@1", ["data/a.yaml"], {"msta": MethodConfig(["other.yaml"], trains=False)})
    assert [stage.configs[0] for stage in plan(Suite([entry], dict(METHODS)))] == ["zero.yaml", "other.yaml"]


@pytest.mark.parametrize(
    ("refused", "message"),
    [
        (suite("few@9"), r"unknown protocol 'few@9'; allowed: few_shot@1, base_to_novel@1, zero_shot@1"),
        (suite("few_shot@1", ["x/a.yaml", "y/a.yaml"]), "two stages named few_shot-a-msta-16shot-seed0-fit"),
        (suite("few_shot@1", train="data/k.yaml"), r"few_shot@1 has no option train; .* one of zero_shot@1\)"),
        (suite("few_shot@1", half_classes=True), r"few_shot@1 has no option half_classes"),
        (
            suite("zero_shot@1", train="data/k.yaml", shots=[4]),
            r"no option shots; .* one of few_shot@1, base_to_novel@1",
        ),
        (suite("zero_shot@1"), "train is missing"),
        (suite("zero_shot@1", train="data/a.yaml"), r"data/a.yaml is trained on and tested on"),
        (suite("zero_shot@1", [["data/a.yaml", "data/k.yaml"]], train="data/k.yaml"), "is trained on and tested on"),
        (suite("zero_shot@1", train="data/k.yaml", selection="best_on_test"), "allowed: last, heldout"),
        (suite("base_to_novel@1", sweep=True), r"base_to_novel@1 has no option sweep; .* one of few_shot@1\)"),
        (suite("fully_supervised@1", shots=[4]), r"fully_supervised@1 has no option shots"),
        (suite("few_shot@1", methods={"a/b": METHODS["zero"]}), "the name of a method of the suite is 'a/b'"),
        (
            Suite([ProtocolConfig("few_shot@1", ["data/a.yaml"], {"a/b": METHODS["zero"]})]),
            "the name of a method of the suite is 'a/b'",
        ),
        (suite("few_shot@1", [f"data/{'a' * 200}.yaml"]), "the name of a stage, made of protocol, dataset and method,"),
    ],
)
def test_what_cannot_be_planned_is_refused(refused, message):
    with pytest.raises(ConfigError, match=message):
        plan(refused)


def test_a_number_of_seeds_counts_from_zero_and_a_list_names_them():
    def seeds(value):
        stages = plan(suite("fully_supervised@1", ["data/a.yaml"], {"msta": METHODS["msta"]}, seeds=value))
        return [stage.seed for stage in stages if stage.action == "test"]

    assert (seeds(3), seeds([5, 0]), seeds(None)) == ([0, 1, 2], [5, 0], [0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"datasets": [[]]}, r"datasets are \[\[\]\]; allowed: names, and lists of one or more names"),
        ({"shots": [2, 0]}, "shots is 0; allowed: 1 to"),
        ({"seeds": 0}, "seeds is 0; allowed: 1 to"),
        ({"seeds": [-1]}, "seeds is -1; allowed: 0 to"),
        ({"splits": [0]}, "splits is 0; allowed: 1 to 1,000"),
        ({"splits": [1001]}, "splits is 1001; allowed: 1 to 1,000"),
    ],
)
def test_numbers_of_a_protocol_are_checked_when_it_is_read(options, message):
    with pytest.raises(ConfigError, match=message):
        ProtocolConfig(**{"protocol": "zero_shot@1", "datasets": ["data/a.yaml"], **options})


def test_a_sweep_is_one_stage_for_all_draws():
    head = {"tip": MethodConfig(["tip.yaml"], pretrained_from="start.ckpt")}
    (stage,) = plan(suite("few_shot@1", ["data/a.yaml"], head, shots=[2, 4], seeds=2, sweep=True))
    assert (stage.name, stage.action, stage.seed) == ("few_shot-a-tip", "sweep", 0)
    assert stage.configs == ("tip.yaml", "data/a.yaml", "cpu.yaml")
    assert (stage.train, stage.test) == (Subset(), (Subset(),))
    assert stage.draws == ((2, 0), (2, 1), (4, 0), (4, 1))
    assert stage.files == ("start.ckpt",)
    assert len(stage.records) == 4


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ({"grid": {"lr": [0.1]}}, {}, "sweep is true with a grid; leave one of them out"),
        ({}, {"views": ["v/1x1.yaml"]}, "sweep is true with views or a selection of epochs"),
        ({}, {"selection": "heldout"}, "sweep is true with views or a selection of epochs"),
    ],
)
def test_what_a_sweep_cannot_do_is_refused(method, options, message):
    with pytest.raises(ConfigError, match=message):
        plan(suite("few_shot@1", ["data/a.yaml"], {"tip": MethodConfig(["tip.yaml"], **method)}, sweep=True, **options))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_given_weights_are_tested_and_never_trained(protocol):
    imported = {"released": MethodConfig(["mote.yaml"], trains=False, checkpoint="mote_b16.ckpt")}
    (stage,) = plan(suite(protocol, ["data/a.yaml"], imported))
    assert (stage.action, stage.checkpoint, stage.train, stage.weights_from) == ("test", "mote_b16.ckpt", None, None)


def test_a_method_with_given_weights_does_not_train():
    with pytest.raises(ConfigError, match=r"checkpoint is 'x.ckpt' with trains: true"):
        MethodConfig(["mote.yaml"], checkpoint="x.ckpt")


def test_an_overlay_says_what_the_stage_is(tmp_path):
    stages = plan(suite("base_to_novel@1", ["data/a.yaml"], shots=[4], seeds=[2], selection="heldout"))
    fit, last, best = stages[1:]
    made = fit.overlay(tmp_path, "d1")
    half = {"classes": "base", "shots": None, "split": 1, "seed": 0}
    assert made["data"]["init_args"] == {"test": [half], "train": {**half, "shots": 4, "seed": 2}}
    assert (made["seed_everything"], made["selection"]) == (2, "heldout")
    assert [stage.overlay(tmp_path, "d2")["record"]["selection"] for stage in (last, best)] == ["last", "heldout"]
    folder = made["checkpoint"]["dirpath"]
    assert [s.overlay(tmp_path, "d")["ckpt_path"] for s in (last, best)] == [
        f"{folder}/last.ckpt",
        f"{folder}/best.ckpt",
    ]


def with_grid(**grid):
    return {"msta": MethodConfig(["msta.yaml"], grid=grid)}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_grid_is_trainings_that_hold_videos_out_and_one_choice_that_is_tested(protocol, tmp_path):
    options = {"train": "data/k.yaml"} if protocol == "zero_shot@1" else {"seeds": [1]}
    if "shots" in PROTOCOLS[protocol].options:
        options["shots"] = [4]
    grid = {"lr": [0.1, 0.2], "bottleneck": [8]}
    *fits, choice, test = plan(suite(protocol, ["data/a.yaml"], with_grid(**grid), **options))
    plain, tested = plan(suite(protocol, ["data/a.yaml"], {"msta": MethodConfig(["msta.yaml"])}, **options))
    stem = plain.name.removesuffix("-fit")
    assert [fit.name for fit in fits] == [f"{stem}-lr{rate}-bottleneck8-fit" for rate in (0.1, 0.2)]
    assert {(fit.configs, fit.train, fit.seed) for fit in fits} == {(plain.configs, plain.train, plain.seed)}
    assert (choice.action, choice.candidates, choice.test) == ("choose", tuple(fit.name for fit in fits), ())
    assert choice.needs == choice.candidates
    assert (test.weights_from, test.selection, test.options) == (choice.name, "last", ())
    assert (choice.train, choice.seed) == (plain.train, plain.seed)
    assert (test.train, test.seed) == (tested.train, tested.seed)
    for fit, rate in zip(fits, (0.1, 0.2), strict=True):
        made = fit.overlay(tmp_path, "d")
        assert made["model"]["init_args"] == {"lr": rate, "bottleneck": 8}
        assert made["selection"] == "heldout"  # which a training without held-out videos refuses
    chosen = tmp_path / "checkpoints" / choice.name / "last.ckpt"
    assert test.overlay(tmp_path, "d")["ckpt_path"] == str(chosen)


def test_protocols_with_one_training_share_its_grid():
    entries = [
        ProtocolConfig("fully_supervised@1", ["data/k.yaml"]),
        ProtocolConfig("zero_shot@1", ["data/a.yaml"], train="data/k.yaml"),
    ]
    stages = plan(Suite(entries, with_grid(lr=[0.1, 0.2])))
    assert [stage.action for stage in stages] == ["fit", "fit", "choose", "test", "test"]
    assert {stage.weights_from for stage in stages[3:]} == {stages[2].name}


@pytest.mark.parametrize("selection", ["heldout", "best_on_test"])
def test_values_of_a_grid_are_compared_after_the_last_epoch(selection):
    with pytest.raises(ConfigError, match=f"selection is {selection} with a grid.*; allowed: last"):
        plan(suite("few_shot@1", ["data/a.yaml"], with_grid(lr=[0.1]), selection=selection))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"grid": {"lr": []}}, r"the grid of lr is \[\]; allowed: one or more values, each once"),
        ({"grid": {"lr": [0.1, 0.1]}}, r"the grid of lr is \[0.1, 0.1\]"),
        ({"grid": {"lr": [1, 1.0]}}, r"the grid of lr is \[1, 1.0\]"),  # one training under two names
        ({"grid": {"lr": [0.1]}, "trains": False}, "with trains: false; a grid is of trainings"),
    ],
)
def test_a_grid_without_a_choice_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        MethodConfig(["msta.yaml"], **options)


SUITES = [name for name in config_names() if name.startswith("suite/")]


@pytest.mark.parametrize("name", SUITES)
def test_every_suite_is_planned_and_all_its_configurations_exist(name):
    stages = plan(Suite.read(find_config(name, below="suite")))
    assert stages
    for config in {config for stage in stages for config in stage.configs}:
        assert find_config(config).is_file()


def planned(name):
    return Counter((s.protocol, s.action) for s in plan(Suite.read(find_config(name, below="suite"))))


def test_the_paper_suites_cover_the_papers():
    # 3 datasets x 4 shots; 4 datasets x 3 seeds x the paper's and the logs' settings; one training for the last two.
    msta = planned("msta_paper.yaml")
    assert [msta[p, "fit"] for p in PROTOCOLS] == [12, 24, 1, 0]
    assert [msta[p, "test"] for p in PROTOCOLS] == [12 + 3, 24 + 4, 3 + 3, 1 + 1]
    mote = planned("mote_paper.yaml")
    assert [mote[p, "fit"] for p in PROTOCOLS] == [12, 0, 0, 3]
    assert [mote[p, "test"] for p in PROTOCOLS] == [12, 0, 6, 5]


def test_the_smoke_suite_has_every_protocol_and_method():
    stages = plan(Suite.read(find_config("suite/smoke.yaml")))
    for protocol in PROTOCOLS:
        methods = {stage.configs[0] for stage in stages if stage.protocol == protocol and stage.action == "test"}
        assert methods == {"zero_shot.yaml", "msta_fewshot.yaml", "mote_fewshot.yaml"}


def test_the_demo_keeps_its_stages():
    assert [
        stage.name.removeprefix("few_shot-synthetic-") for stage in plan(Suite.read(find_config("suite/demo.yaml")))
    ] == [
        "zero_shot-test",
        *(f"{m}-16shot-seed{k}-{a}" for m in ("msta", "mote") for k in range(2) for a in ("fit", "test")),
    ]


PRETRAINED = "zero_shot-k-msta-seed0-fit"


def started(start, first=True):
    """A suite whose second method starts from a training of the first."""
    entry = ProtocolConfig("zero_shot@1", ["data/a.yaml"], methods={"msta": METHODS["msta"]}, train="data/k.yaml")
    second = {"tuned": MethodConfig(["tuned.yaml"], pretrained_from=start)}
    few = ProtocolConfig("few_shot@1", ["data/b.yaml"], methods=second, shots=[2, 4])
    return Suite([entry, few] if first else [few, entry])


def test_training_and_tests_start_from_an_earlier_training():
    stages = {stage.name: stage for stage in plan(started(PRETRAINED))}
    own = [stage for stage in stages.values() if stage.configs[0] == "tuned.yaml"]
    assert len(own) == 4
    for stage in own:
        assert PRETRAINED in stage.needs
        path = stage.overlay(Path("/out"), "d")["model"]["init_args"]["pretrained_from"]
        assert path == f"/out/checkpoints/{PRETRAINED}/last.ckpt"
    assert all("model" not in stage.overlay(Path("/out"), "d") for stage in stages.values() if stage not in own)


def test_a_start_that_runs_once_for_two_protocols_is_found_by_either_name():
    suite = started("fully_supervised-k-msta-seed0-fit")
    same = ProtocolConfig("fully_supervised@1", ["data/k.yaml"], methods={"msta": METHODS["msta"]})
    stages = plan(Suite([suite.protocols[0], same, suite.protocols[1]]))
    starts = {stage.pretrained_from for stage in stages if stage.configs[0] == "tuned.yaml"}
    assert starts == {PRETRAINED}


def test_a_start_can_be_a_file_whose_content_counts():
    stages = [stage for stage in plan(started("given/start.ckpt")) if stage.configs[0] == "tuned.yaml"]
    for stage in stages:
        assert stage.start_file == "given/start.ckpt"
        assert stage.overlay(Path("/out"), "d")["model"]["init_args"]["pretrained_from"] == str(
            Path("given/start.ckpt").absolute()
        )
        contents = dict.fromkeys(stage.configs, b"") | {"given/start.ckpt": b"one"}
        assert stage.digest(contents) != stage.digest({**contents, "given/start.ckpt": b"two"})
        assert "given/start.ckpt" not in stage.needs


@pytest.mark.parametrize(("start", "first"), [("no-such-fit", True), (PRETRAINED, False)])
def test_a_start_that_does_not_come_before_is_refused(start, first):
    with pytest.raises(ConfigError, match=rf"starts from {start}, which is no training that comes before it"):
        plan(started(start, first))


def test_the_digest_of_a_stage_follows_that_of_its_start():
    stage = next(stage for stage in plan(started(PRETRAINED)) if stage.configs[0] == "tuned.yaml")
    contents = dict.fromkeys(stage.configs, b"")
    assert stage.digest(contents, ["one"]) != stage.digest(contents, ["two"])
