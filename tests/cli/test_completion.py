"""Completion in real shells: what is offered for a line, and that nothing of vlbench but a list of names is asked."""

import os
import pty
import re
import select
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vlbench.cli.completion import arguments_of, script
from vlbench.cli.configs import config_names
from vlbench.cli.main import main
from vlbench.cli.registry import COMMANDS, lightning_commands

SHELLS = ("bash", "zsh", "fish")
SNAPSHOTS = Path(__file__).parent / "help"
PROGRAM = f'#!/bin/sh\necho "$@" >> "$(dirname "$0")/asked"\nexec {shlex.quote(sys.executable)} -m vlbench "$@"\n'


def needed(shell):
    path = shutil.which(shell)
    if path is None:
        pytest.skip(f"{shell} is not installed")
    return path


@pytest.fixture(scope="module")
def arguments():
    return {name: arguments_of(command) for name, command in COMMANDS.items()}


@pytest.fixture(scope="module")
def scripts(arguments, tmp_path_factory):
    """A folder with the script of every shell, and a program `vlbench` that writes down what it is asked."""
    folder = tmp_path_factory.mktemp("completion")
    for shell in SHELLS:
        (folder / shell).write_text(script(shell, arguments))
    (folder / "vlbench").write_text(PROGRAM)
    (folder / "vlbench").chmod(0o755)
    return folder


@pytest.fixture
def environment(scripts, tmp_path, monkeypatch):
    """A folder with one file, and configurations of the user's, one with a name that a shell could run."""
    (tmp_path / "my").mkdir()
    (tmp_path / "my" / "mine.yaml").touch()
    (tmp_path / "my" / "$(touch broken).yaml").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "video.mp4").touch()
    monkeypatch.chdir(tmp_path / "empty")
    path = os.pathsep.join([str(scripts), os.environ["PATH"]])
    root = str(Path(__file__).parents[2])
    return {
        **os.environ,
        "PATH": path,
        "PYTHONPATH": root,
        "VLBENCH_CONFIGS": str(tmp_path / "my"),
        "HOME": str(tmp_path),
    }


def offered_by_bash(line, scripts, environment):
    """What the function of bash replies to words as readline takes a line apart."""
    words = [part for word in line.split(" ") for part in re.split("(=)", word) if part or not word]
    words += [""] if words[-1] == "=" else []
    program = (
        f"source {scripts}/bash; COMP_WORDS=({shlex.join(words)}); COMP_CWORD={len(words) - 1}\n"
        '_vlbench; [ ${#COMPREPLY[@]} -eq 0 ] || printf "%s\\n" "${COMPREPLY[@]}"'
    )
    ended = subprocess.run(
        [needed("bash"), "--noprofile", "--norc", "-c", program],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ended.stderr == ""
    return ended.stdout.splitlines()


def offered_by_fish(line, scripts, environment):
    program = f"source {scripts}/fish; complete -C {shlex.quote(line)}"
    ended = subprocess.run(
        [needed("fish"), "--no-config", "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert ended.stderr == ""
    return [text.split("\t")[0] for text in ended.stdout.splitlines()]


def offered_by_zsh(line, scripts, environment):
    """What the function of zsh hands to `compadd`, which replies in a widget only."""
    program = f"""
        compdef() {{ }}
        compset() {{ }}
        _files() {{ }}
        compadd() {{ shift; print -rl -- "$@"; (( $# )) }}
        words=({shlex.join(line.split(" "))})
        source {scripts}/zsh
        CURRENT=$#words
        _vlbench
    """
    ended = subprocess.run(
        [needed("zsh"), "-f", "-c", program], env=environment, capture_output=True, text=True, check=False
    )
    assert ended.stderr == ""
    current = line.split(" ")[-1].partition("=")[2] if re.search("--[^ ]*=", line) else line.split(" ")[-1]
    return [text for text in ended.stdout.splitlines() if text.startswith(current)]


OFFERED = {"bash": offered_by_bash, "zsh": offered_by_zsh, "fish": offered_by_fish}
"""Shell -> what it offers for a line up to the cursor."""


@pytest.fixture(params=SHELLS)
def offered(request, scripts, environment):
    needed(request.param)
    return lambda line: OFFERED[request.param](line, scripts, environment)


def test_the_words_of_commands(offered):
    assert set(offered("vlbench ")) >= {name.split()[0] for name in COMMANDS}
    assert set(offered("vlbench da")) == {"data"}
    assert set(offered("vlbench data ")) == {"list", "describe", "check", "prepare", "subset", "synth", "unpack"}
    assert set(offered("vlbench completion ")) == {"bash", "zsh", "fish"}
    assert set(offered("vlbench weights import vi")) == {"viclip"}
    assert "draws" in offered("vlbench compare ")


def test_options_are_those_of_the_command(offered):
    assert set(offered("vlbench weights export --")) == {"--help", "--out", "--format", "--classes", "--config"}
    assert set(offered("vlbench regress --se")) == {"--seeds"}
    assert "--folder" in offered("vlbench compare draws a b --")
    assert {"--trainer.max_epochs", "--selection", "--config"} <= set(offered("vlbench fit --"))
    assert set(offered("vlbench test --config zero_shot.yaml --trainer.max_ep")) == {"--trainer.max_epochs"}


def test_values_that_are_enumerated(offered):
    assert set(offered("vlbench fit --selection ")) == {"last", "heldout", "best_on_test"}
    assert set(offered("vlbench fit --selection be")) == {"best_on_test"}
    assert set(offered("vlbench run --suite demo.yaml --launcher s")) == {"slurm"}
    assert set(offered("vlbench fit --compile t")) == {"true"}


def test_values_behind_a_sign(offered):
    assert [text.removeprefix("--selection=") for text in offered("vlbench fit --selection=he")] == ["heldout"]
    names = [text.removeprefix("--config=") for text in offered("vlbench fit --config=data/ucf")]
    assert names == ["data/ucf101.yaml"]


def test_configurations_by_name(offered, monkeypatch):
    assert set(offered("vlbench fit --config data/")) == {name for name in config_names() if name.startswith("data/")}
    assert "mine.yaml" in offered("vlbench test --config zero_shot.yaml --config mi")
    assert set(offered("vlbench features --config data/ucf101.yaml backbone/tiny")) == {"backbone/tiny.yaml"}
    assert set(offered("vlbench methods show zero_sh")) == {"zero_shot.yaml"}
    assert "demo.yaml" in offered("vlbench run --suite de")
    assert offered("vlbench fit --selection last --compile tr") == ["true"]


def test_names_of_files_are_not_run(offered):
    assert any("touch broken" in text for text in offered("vlbench fit --config "))
    assert {path.name for path in Path().iterdir()} == {"video.mp4"}


def test_an_option_comes_after_a_value(offered):
    assert "--overlays" in offered("vlbench run --suite demo.yaml --")
    assert "--out" in offered("vlbench run --dry_run --")


def test_only_names_of_configurations_are_asked_for(offered, scripts):
    (scripts / "asked").write_text("")
    offered("vlbench fit --sel")
    assert (scripts / "asked").read_text() == ""
    offered("vlbench fit --config x")
    assert (scripts / "asked").read_text() == "completion configs\n"


def typed(start, line, environment):
    """What a shell at a terminal prints for a line with TABs, with a `vlbench` that prints its arguments."""
    process, terminal = pty.fork()
    if process == 0:
        os.execvpe(start[0], start, {**environment, "TERM": "dumb"})
    output, deadline = b"", time.monotonic() + 60
    try:
        os.write(terminal, line.encode())
        while b"<end>" not in output and time.monotonic() < deadline:
            if select.select([terminal], [], [], 1)[0]:
                output += os.read(terminal, 65536)
    except OSError:  # the shell has ended
        pass
    finally:
        os.kill(process, 9)
        os.waitpid(process, 0)
        os.close(terminal)
    return output.decode(errors="replace")


@pytest.mark.parametrize(
    ("shell", "start", "before"),
    [
        ("bash", ["--noprofile", "--norc", "-i"], ""),
        ("zsh", ["-f", "-i"], "autoload -U compinit; compinit -u -d dump; "),
    ],
)
def test_a_key_completes_at_a_terminal(shell, start, before, scripts, environment):
    # The second command must not be there as text before it runs, where the terminal echoes what is typed.
    functions = "vlbench() { printf '(%s)' \"$@\"; echo '<en''d>'; }"
    line = f"{before}source {scripts}/{shell}; {functions}\nvlbench weights exp\t--o\tout video\t\n"
    said = typed([needed(shell), *start], line, environment)
    assert "(weights)(export)(--out)(out)(video.mp4)<end>" in re.sub(r"\s", "", said), said


def test_every_option_of_the_help_is_there(arguments):
    """The help of a command is written down apart from the parser that the script is made of."""
    for name, given in arguments.items():
        if name not in lightning_commands():
            text = (SNAPSHOTS / f"{name.replace(' ', '-')}.txt").read_text()
            listed = set(re.findall(r"^(?:-h, )?(--[\w.]+)", text, re.MULTILINE))
            assert {option for one in given for option in one.names if option.startswith("--")} == listed, name


def test_every_word_of_a_script_is_plain(arguments):
    """None has a quote, a space or anything else that a shell would take for more than a letter."""
    for given in arguments.values():
        for argument in given:
            for word in (*argument.names, *argument.values):
                assert re.fullmatch(r"[@\w.+-]+", word), word


@pytest.mark.parametrize("shell", SHELLS)
def test_the_command_prints_the_script(shell, arguments, capsys, monkeypatch):
    monkeypatch.setattr("vlbench.cli.completion.arguments_of", lambda command: arguments[command.name])
    assert main(["completion", shell]) == 0
    assert capsys.readouterr().out == script(shell, arguments)


def test_another_shell_is_refused(capsys):
    assert main(["completion", "tcsh"]) == 2
    assert "bash, zsh, fish" in capsys.readouterr().err
