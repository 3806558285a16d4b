"""Dispatch. Imports little: `--help` has to answer before torch could be loaded."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import vlbench
from vlbench.cli.configs import TRAINER_COMMANDS
from vlbench.errors import VlbenchError

HELP = """\
usage: vlbench COMMAND [options]

one run
  fit          train a method                    vlbench fit --config msta_fewshot.yaml
  validate     evaluate on the validation part
  test         evaluate on the test part and write a record
  predict      name the best class of every test video

many runs
  run          every run of a suite, skipping what is recorded   vlbench run --suite demo.yaml --out results/demo
  regress      whether a suite's numbers still are what they were
  leaderboard  records to a table                vlbench leaderboard results/demo --csv leaderboard.csv
  compare      whether two evaluations differ by more than chance    vlbench compare RECORD RECORD
  report       one evaluation class by class
  rescore      one evaluation under another list of classes

data
  data list        datasets, their sizes, licences and sources
  data describe    one of them in full                   vlbench data describe ucf101
  data check       what is wrong with lists and videos   vlbench data check --config data/ucf101.yaml --decode
  data prepare     a resized copy, faster to read        vlbench data prepare DIR COPY --resize 256
  data subset      a small copy for CI
  data synth       render the synthetic dataset          vlbench data synth DIR
  describe         sentences on every class from a language model, for MSTA

methods
  methods show     trainable parameters of a method      vlbench methods show msta_fewshot.yaml

weights
  weights import mote   a released MoTE file to a checkpoint
  weights import viclip a released ViCLIP file to a backbone's weights
  weights export        a MoTE checkpoint with merged experts, as safetensors

`vlbench COMMAND --help` lists a command's options. Configurations are found by name and compose:
  vlbench fit --config msta_fewshot.yaml --config data/synthetic.yaml --config backbone/tiny.yaml \\
              --config trainer/cpu.yaml
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: without the program's name; `None` takes the process's.

    Returns:
        The exit code.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(HELP)  # noqa: T201
        return 0 if arguments else 2
    if arguments[0] == "--version":
        print(f"vlbench {vlbench.__version__}")  # noqa: T201
        return 0
    try:
        if arguments[0] in TRAINER_COMMANDS:
            from vlbench.cli.trainer import run_trainer

            run_trainer(arguments)
            return 0
        from vlbench.cli.commands import run_command

        return run_command(arguments)
    except Exception as error:
        mendable = _mendable(error)
        if mendable is None:
            raise
        print(f"vlbench: error: {mendable}", file=sys.stderr)  # noqa: T201
        return 1


def _mendable(error: BaseException | None) -> VlbenchError | None:
    """The user's error inside another one: jsonargparse wraps what a constructor raises."""
    while error is not None and not isinstance(error, VlbenchError):
        error = error.__cause__ or error.__context__
    return error


def entry() -> None:
    """The console script."""
    sys.exit(main())
