"""The runner, with a stand-in for `vlbench` that takes no time."""

import errno
import signal

import pytest
import yaml

from vlbench.datasets.specs import Subset
from vlbench.errors import ConfigError
from vlbench.files import TEMPORARY
from vlbench.protocols.plans import plan
from vlbench.protocols.stages import Stage
from vlbench.protocols.suites import MethodConfig, ProtocolConfig, Suite
from vlbench.results.record import Record


def test_runs_everything_once_and_then_nothing(lab):
    lab.behave("one")
    lab.behave("two")
    assert lab.runner().run() == []
    assert lab.calls == ["fit", "test"] * 2
    assert lab.runner().run() == []
    assert len(lab.calls) == 4
    *lines, summary = lab.runner().describe()
    assert all(line.startswith("done") for line in lines)
    assert summary == "4 of 4 stages done, 0 to do"


def test_a_failure_costs_its_own_stages_only_and_is_tried_again(lab):
    lab.behave("one", fail="fit")
    lab.behave("two")
    failed = [stage.name for stage in lab.runner().run()]
    assert failed == ["few_shot-data-one-2shot-seed0-fit", "few_shot-data-one-2shot-seed0-test"]
    assert "exit code 3" in lab.said
    assert "some progress\nout of luck" in lab.said
    assert "out of memory" not in lab.said
    assert lab.calls == ["fit", "fit", "test"]
    lab.behave("one")
    assert lab.runner().run() == []
    assert lab.calls[3:] == ["fit", "test"]
    # Whatever failed before is no cause of what may fail now.
    assert (lab.out / "logs/few_shot-data-one-2shot-seed0-fit.log").read_text() == ""


def test_the_page_of_trainings_is_written_after_each_and_costs_no_stage(lab):
    """Of a training that failed too; a page that cannot be written is said."""
    lab.behave("one", fail="fit")
    lab.behave("two")
    log = lab.out / "runs/few_shot-data-two-2shot-seed0-fit/lightning_logs/version_0/metrics.csv"
    log.parent.mkdir(parents=True)
    log.write_text("step,train/loss\n1,2.0\n3,1.0\n")
    lab.runner().run()
    page = (lab.out / "training.html").read_text()
    assert page.count("<h2>few_shot-data-") == 2
    assert (page.count("<polyline"), page.count("no entry of a log")) == (1, 1)
    lab.behave("one")
    (lab.out / "training.html").unlink()
    (lab.out / "training.html" / "x").mkdir(parents=True)
    assert lab.runner().run() == []
    assert "no training.html:" in lab.said


def test_the_page_of_trainings_has_the_whole_log_of_one_that_ran_beside_another(lab, monkeypatch):
    def section(name, folder):
        weights = lab.out / "checkpoints" / name / "last.ckpt"
        return f"{name}: {weights.read_text() if weights.is_file() else 'nothing'};"

    monkeypatch.setattr("vlbench.protocols.runner.curves_section", section)
    lab.behave("one")
    lab.behave("two", epochs=4, sleep=0.3)
    assert lab.runner(jobs=2).run() == []
    page = (lab.out / "training.html").read_text()
    assert 'one-2shot-seed0-fit: {"epochs": 1};' in page
    assert 'two-2shot-seed0-fit: {"epochs": 4};' in page


@pytest.mark.parametrize(
    ("behaviour", "advice"),
    [
        ({"message": "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate"}, "effective_batch keeps"),
        ({"signal": signal.SIGKILL}, "killed, by the kernel for lack of memory"),
        ({"message": "DataLoader worker (pid 7) is killed by signal: Killed. "}, "num_workers"),
    ],
)
def test_a_stage_without_memory_gets_the_advice_that_helps(lab, behaviour, advice):
    lab.behave("one", fail="fit", **behaviour)
    lab.behave("two", fail="test", message="out of memory")
    assert len(lab.runner().run()) == 3
    assert advice in lab.said
    assert "eval_batch_size, which changes no prediction" in lab.said


def test_a_changed_configuration_runs_again_and_a_changed_comment_does_not(lab):
    lab.behave("one")
    lab.runner(["one"]).run()
    path = lab.folder / "one.yaml"
    path.write_text(f"# What it is.\n{path.read_text()}")
    assert [line.split()[0] for line in lab.runner(["one"]).describe()[:2]] == ["done", "done"]
    lab.behave("one", note="another learning rate")
    assert [line.split()[0] for line in lab.runner(["one"]).describe()[:2]] == ["to", "to"]
    lab.runner(["one"]).run()
    assert lab.calls == ["fit", "test"] * 2


def test_a_damaged_record_or_a_lost_checkpoint_runs_again(lab):
    lab.behave("one")
    lab.runner(["one"]).run()
    (record,) = (lab.out / "records").iterdir()
    record.write_text("{")
    lab.runner(["one"]).run()
    assert lab.calls == ["fit", "test", "test"]
    Record.read(record)
    (lab.out / "checkpoints" / "few_shot-data-one-2shot-seed0-fit" / "last.ckpt").unlink()
    lab.runner(["one"]).run()
    assert lab.calls[3:] == ["fit"]


def test_a_test_without_its_scores_runs_again(lab):
    lab.behave("one")
    lab.runner(["one"]).run()
    (scores,) = (lab.out / "predictions").iterdir()
    for damage in (scores.unlink, lambda: scores.write_bytes(b"others")):
        damage()
        assert lab.runner(["one"]).describe()[-1] == "1 of 2 stages done, 1 to do"
        assert lab.runner(["one"]).run() == []
        assert scores.read_bytes() == b"scores"
    assert lab.calls == ["fit", "test", "test", "test"]


def test_a_training_goes_on_from_its_checkpoint(lab):
    lab.behave("one", epochs=3)
    lab.runner(["one"]).run()
    (lab.out / "stages" / "few_shot-data-one-2shot-seed0-fit.done").unlink()
    (checkpoint,) = lab.out.glob("checkpoints/*/last.ckpt")
    checkpoint.write_text('{"epochs": 1}')
    assert lab.runner(["one"]).run() == []
    assert lab.noted.count("epoch") == 3 + 2
    assert checkpoint.read_text() == '{"epochs": 3}'


def test_a_test_of_several_subsets_is_done_when_all_its_records_are_there(lab):
    lab.behave("one")
    halves = (Subset("base"), Subset("novel"))
    stage = Stage("both", "test", ("one.yaml",), None, halves, 0, "base_to_novel@1")
    assert lab.of([stage]).run() == []
    assert sorted(path.stem for path in (lab.out / "records").iterdir()) == ["both-base-split1", "both-novel-split1"]
    assert lab.of([stage]).done(stage)
    (lab.out / "records" / "both-novel-split1.json").unlink()
    assert not lab.of([stage]).done(stage)


def test_the_best_epoch_is_tested_beside_the_last_one(lab):
    lab.behave("one")
    assert lab.runner(["one"], selection="best_on_test").run() == []
    assert lab.calls == ["fit", "test", "test"]
    (lab.out / "checkpoints" / "few_shot-data-one-2shot-seed0-fit" / "best.ckpt").unlink()
    assert lab.runner(["one"], selection="best_on_test").describe()[-1] == "2 of 3 stages done, 1 to do"


def test_what_a_killed_process_was_writing_is_removed_and_nothing_else(lab):
    lab.behave("one")
    lab.runner(["one"]).run()
    (lab.out / "checkpoints" / "some-fit").mkdir()
    strays = [
        lab.out / folder / f"{TEMPORARY}x1y2{suffix}"
        for folder, suffix in (
            ("records", ".json"),
            ("checkpoints/some-fit", ".ckpt"),
            (".", ".html"),
            ("jobs", ".json"),
        )
    ]
    notes = [lab.out / "records" / ".note", lab.out / "stages" / ".ipynb_checkpoints" / "x", lab.out / "logs" / ".keep"]
    for path in (*strays, *notes):
        path.parent.mkdir(exist_ok=True)
        path.write_text("half a fi")
    lab.runner(["one"]).run()
    assert not any(stray.exists() for stray in strays)
    assert all(note.exists() for note in notes)
    assert len(lab.calls) == 2


def test_a_log_that_somebody_removed_costs_its_stage_only(lab):
    lab.behave("one", fail="fit", remove=str(lab.out / "logs"))
    lab.behave("two")
    assert len(lab.runner().run()) == 2
    assert len(list((lab.out / "records").iterdir())) == 1


@pytest.mark.parametrize("name", ["../../x", "a/b", "/tmp/x", "a\0b", "a\nb", "", ".hidden", "x" * 300])
def test_a_name_that_would_be_another_file_is_refused(lab, name):
    lab.behave("one")
    suite = Suite([ProtocolConfig("few_shot@1", ["data.yaml"])], {name: MethodConfig(["one.yaml"])})
    with pytest.raises(ConfigError, match=r"the name of a method of the suite is .* allowed: printable characters"):
        plan(suite)
    suite = Suite([ProtocolConfig("few_shot@1", [f"{'d' * 190}.yaml"])], {"one": MethodConfig(["one.yaml"])})
    with pytest.raises(ConfigError, match="the name of a stage"):
        plan(suite)


def test_records_of_no_stage_are_pointed_out_and_kept(lab):
    lab.behave("one")
    lab.behave("two")
    lab.runner().run()
    assert "of no stage" not in lab.said
    lab.runner(["one"]).run()
    note = "1 records are of no stage of this suite and stay in the leaderboard until deleted: few_shot-data-two-2shot"
    assert note in lab.said
    assert note in lab.runner(["one"]).describe()[-1]
    assert len(list((lab.out / "records").iterdir())) == 2


def test_a_dry_run_shows_commands_and_starts_none(lab):
    lab.behave("one")
    *lines, summary = lab.runner(["one"]).describe()
    assert [line.split()[:4] for line in lines] == [["to", "do", "vlbench", "fit"], ["to", "do", "vlbench", "test"]]
    assert lines[0].endswith("--resume auto")
    assert summary == "0 of 2 stages done, 2 to do"
    assert lab.calls == []
    assert not lab.out.exists()


def test_given_weights_reach_the_command_and_the_digest(lab):
    lab.behave("one")
    weights = lab.folder / "mote.ckpt"
    weights.write_bytes(b"one")
    released = MethodConfig(["one.yaml"], trains=False, checkpoint=str(weights))
    stages = plan(Suite([ProtocolConfig("few_shot@1", ["data.yaml"])], {"one": released}))
    assert lab.of(stages).command(stages[0])[-2:] == ["--ckpt_path", str(weights)]
    assert lab.of(stages).run() == []
    assert lab.of(stages).done(stages[0])
    weights.write_bytes(b"another one")
    assert not lab.of(stages).done(stages[0])
    weights.unlink()
    with pytest.raises(ConfigError, match=r"cannot read the checkpoint .*mote.ckpt: No such file"):
        lab.of(stages)


def test_two_runners_do_not_share_a_folder(lab):
    lab.behave("one")
    first, second = lab.runner(["one"]), lab.runner(["one"])
    with first._locked(), pytest.raises(ConfigError, match="another `vlbench run`"):
        second.run()


def test_a_file_system_without_locks_is_said_and_used(lab, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("vlbench.protocols.runner.fcntl.flock", refuse)
    lab.behave("one")
    assert lab.runner(["one"]).run() == []
    assert "cannot be locked (Function not implemented): see to it that no other `vlbench run` works there" in lab.said
    assert lab.calls == ["fit", "test"]


def test_a_runner_that_torchrun_started_refuses(lab, monkeypatch):
    lab.behave("one")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    with pytest.raises(ConfigError, match="start it once, without"):
        lab.runner(["one"]).run()
    assert lab.calls == []


def test_jobs_have_to_be_some(lab):
    lab.behave("one")
    with pytest.raises(ConfigError, match="jobs is 0; allowed: 1 to 100,000"):
        lab.runner(["one"], jobs=0)


def started(lab):
    """A training of `two` and its test, which start from the training of `one`."""
    first = "few_shot-data-one-2shot-seed0-fit"
    methods = {"one": MethodConfig(["one.yaml"]), "two": MethodConfig(["two.yaml"], pretrained_from=first)}
    return lab.of(plan(Suite([ProtocolConfig("few_shot@1", ["data.yaml"], shots=[2])], methods, ["cpu.yaml"])))


def test_what_starts_from_a_training_runs_after_it_and_again_when_it_changes(lab):
    lab.behave("one")
    lab.behave("two")
    assert started(lab).run() == []
    assert started(lab).run() == []
    assert len(lab.calls) == 4
    lab.behave("one", epochs=2)
    assert started(lab).run() == []
    assert len(lab.calls) == 8


def test_what_starts_from_a_training_that_failed_is_left_out(lab):
    lab.behave("one", fail="fit")
    lab.behave("two")
    assert len(started(lab).run()) == 4
    assert lab.calls == ["fit"]
    assert "few_shot-data-two-2shot-seed0-fit: few_shot-data-one-2shot-seed0-fit failed" in lab.said


def test_a_start_that_is_no_file_is_refused_before_anything_runs(lab):
    lab.behave("two")
    methods = {"two": MethodConfig(["two.yaml"], pretrained_from="nothing.ckpt")}
    with pytest.raises(ConfigError, match=r"cannot read the checkpoint nothing\.ckpt"):
        lab.of(plan(Suite([ProtocolConfig("few_shot@1", ["data.yaml"], shots=[2])], methods, ["cpu.yaml"])))


def with_grid(rates, **options):
    entry = ProtocolConfig("few_shot@1", ["data.yaml"], shots=[2], **options)
    return plan(Suite([entry], {"one": MethodConfig(["one.yaml"], grid={"lr": rates})}, ["cpu.yaml"]))


def test_a_grid_is_trained_chosen_from_and_tested_once(lab):
    lab.behave("one")
    assert lab.of(with_grid([0.1, 0.2])).run() == []
    assert lab.calls == ["fit", "fit", "test"]
    stem = "few_shot-data-one-2shot-seed0"
    overlay = yaml.safe_load((lab.out / "stages" / f"{stem}-lr0.2-fit.yaml").read_text())
    assert overlay["model"]["init_args"] == {"lr": 0.2}
    tested = yaml.safe_load((lab.out / "stages" / f"{stem}-test.yaml").read_text())
    assert tested["ckpt_path"] == str(lab.out / "checkpoints" / f"{stem}-choose" / "last.ckpt")
    assert lab.of(with_grid([0.1, 0.2])).run() == []
    assert len(lab.calls) == 3
    # Another value: it alone is trained, and the test is of another choice.
    assert lab.of(with_grid([0.1, 0.2, 0.3])).run() == []
    assert lab.calls[3:] == ["fit", "test"]
    (lab.out / "checkpoints" / f"{stem}-choose" / "last.ckpt").unlink()
    assert lab.of(with_grid([0.1, 0.2, 0.3])).run() == []
    assert lab.calls[5:] == []


def test_nothing_is_chosen_where_a_training_of_the_grid_failed(lab):
    lab.behave("one", fail="fit")
    failed = [stage.name for stage in lab.of(with_grid([0.1, 0.2])).run()]
    assert [name.rpartition("-")[2] for name in failed] == ["fit", "fit", "choose", "test"]
