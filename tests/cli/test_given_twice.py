"""An option that is given twice: its values add up, or it is refused; no value is left out in silence."""

from __future__ import annotations

import sys

import pytest

from vlbench.cli.declaration import options_of
from vlbench.cli.main import main
from vlbench.cli.registry import COMMANDS
from vlbench.errors import ConfigError

TINY = ["--config", "zero_shot.yaml", "--config", "data/synthetic.yaml", "--config", "backbone/tiny.yaml"]


@pytest.mark.quick
@pytest.mark.parametrize("name", [name for name, command in COMMANDS.items() if not command.lightning])
def test_of_no_option_the_last_value_counts_alone(name):
    command = COMMANDS[name]
    for action in command.parser()._actions:
        for option in action.option_strings:
            if option.startswith("--") and action.dest != "help" and action.nargs != 0 and not option.endswith("+"):
                adds_up = command.options.get(action.dest, {}).get("action") == "extend"
                with pytest.raises(ConfigError) as error:
                    command.run([*name.split(), option, "nothing", "--no-such-option", f"{option}=nothing"])
                assert ("is given 2 times" in str(error.value)) == (not adds_up), option


@pytest.mark.quick
def test_words_behind_two_dashes_are_no_options():
    assert options_of(["a.mp4", "--top=5", "--top", "1", "--", "--top", "--odd.mp4"]) == ["--top", "--top"]


@pytest.fixture
def answer(capsys, monkeypatch):
    """Runs a command in this process, which may not come to the data, and returns its error."""

    def answered(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["vlbench"])
        monkeypatch.setattr("vlbench.clips.datamodule.VideoDataModule.prepare_data", lambda _: 1 / 0)
        try:
            assert main(list(arguments)) == 2
        except ZeroDivisionError:
            return ""
        return capsys.readouterr().err

    return answered


@pytest.mark.parametrize(
    "values",
    [
        ("--record.keep=views", "--record.keep=templates"),
        ("--record.keep=[views]", "--record.keep=[templates]"),
        ("--record.keep_prompts=[video]", "--record.keep_prompts=[photo]"),
        ("--model.prompts=['a {}']", "--model.init_args.prompts=['the {}']"),
        ("--data.test=[{split: 1}]", "--data.test=[{split: 1}, {split: 2}]"),
        ("--trainer.callbacks=[Timer]", "--trainer.callbacks=[LearningRateMonitor]"),
    ],
)
def test_of_no_list_of_a_test_the_last_one_counts_alone(answer, values):
    first, second = values
    option = "model.prompts" if "prompts" in second and "model" in second else first[2:].partition("=")[0]
    for words in (values, (*first.split("=", 1), *second.split("=", 1)), (first, "--seed_everything=1", second)):
        assert f"--{option} is given 2 times, of which the last one alone would count" in answer("test", *TINY, *words)


def test_other_options_and_lists_that_are_added_to_override_as_ever(answer):
    words = ["--model.prompts=video", "--model.prompts=photo", "--seed_everything=1", "--seed_everything=2"]
    lists = ["--record.keep_prompts=[video]", "--record.keep_prompts+=photo"]
    assert answer("test", *TINY, *words, *lists) == ""
