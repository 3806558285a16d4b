"""Commands of one run and of many."""

from __future__ import annotations

from vlbench.cli.declaration import Command
from vlbench.cli.declared.forms import CONFIG, RECORD, flag, lightning

RUNS = (
    lightning("fit", "train a method", "vlbench fit --config msta_fewshot.yaml"),
    lightning("validate", "evaluate on the validation part"),
    lightning("test", "evaluate on the test part and write a record"),
    Command(
        "sweep",
        "many runs",
        "a head on many draws of training videos of a bank, in one process",
        "vlbench.cli.sweep:run_sweep",
        lightning=True,
    ),
    lightning("predict", "name the best class of every test video"),
    Command(
        "classify",
        "one run",
        "name the best classes of any videos",
        "vlbench.cli.classify:classify",
        "vlbench classify VIDEO --classes juggling skating",
        positional={
            "videos": {
                "type": str,
                "nargs": "+",
                "help": "video files, folders of them, or - for a list of names on standard input",
            }
        },
        options={
            "classes": {
                "nargs": "+",
                "type": str,
                "action": "extend",
                "default": [],
                "help": 'names of the classes, such as juggling "flipping a pancake", or one file with a name a line',
            },
            "config": {
                **CONFIG,
                "default": [],
                "help": "configurations of the model by name, such as zero_shot.yaml backbone/vit_b32.yaml",
            },
        },
        inputs={"record": "record", "ckpt_path": "file", "config": "configuration"},
    ),
    Command(
        "run",
        "many runs",
        "every run of a suite, skipping what is recorded",
        "vlbench.cli.commands:run",
        "vlbench run --suite demo.yaml --out results/demo",
        options={
            "dry_run": flag("print the commands, what is done and what remains; run nothing"),
            "overlays": {
                "nargs": "+",
                "type": str,
                "action": "extend",
                "default": [],
                "help": "configurations that come after the suite's, such as trainer/ddp.yaml",
            },
        },
        inputs={"suite": "suite", "overlays": "configuration"},
    ),
    Command(
        "regress",
        "many runs",
        "whether a suite's numbers still are what they were",
        "vlbench.cli.regress:regress",
        options={
            "update": flag("write EXPECTED instead, from a run with each of SEEDS"),
            "seeds": {
                "nargs": "+",
                "type": int,
                "default": [0, 1, 2, 3, 4],
                "help": "seeds of the runs that --update makes bands of",
            },
        },
        inputs={"suite": "suite"},
    ),
    Command(
        "leaderboard",
        "many runs",
        "records to a table",
        "vlbench.cli.results:print_leaderboard",
        "vlbench leaderboard results/demo --csv leaderboard.csv",
        positional={"folders": {"nargs": "+", "help": "results folders"}},
        options={
            "allow_dirty": flag("take records of code that differed from its commit"),
            "allow_mixed": flag("take records of different schemas in one table"),
        },
        inputs={"folders": "folder"},
    ),
    Command(
        "verify",
        "many runs",
        "whether records say what follows from their scores",
        "vlbench.cli.results:verify",
        "vlbench verify results/demo",
        positional={"folders": {"nargs": "+", "help": "results folders"}},
        inputs={"folders": "folder"},
    ),
    Command(
        "compare",
        "many runs",
        "whether two evaluations differ by more than chance",
        "vlbench.cli.results:compare",
        "vlbench compare RECORD RECORD",
        positional={"a": RECORD, "b": {"type": str, "help": "path or name of the other record"}},
        inputs={"a": "record", "b": "record"},
    ),
    Command(
        "compare draws",
        "many runs",
        "whether two methods differ by more than their draws of training videos",
        "vlbench.cli.draws:compare_draws",
        positional={
            "a": {"type": str, "help": "name of a method, such as tip_adapter"},
            "b": {"type": str, "help": "name of the other method"},
        },
        inputs={"folder": "folder"},
    ),
    Command(
        "multiverse",
        "many runs",
        "whether the order of methods survives other protocols",
        "vlbench.cli.multiverse:multiverse",
        positional={"folders": {"nargs": "+", "help": "results folders of tests that kept views and templates"}},
        options={"allow_dirty": flag("take records of code that differed from its commit")},
        inputs={"folders": "folder"},
    ),
    Command(
        "report",
        "many runs",
        "one evaluation class by class",
        "vlbench.cli.results:report",
        positional={"record": RECORD},
        inputs={"record": "record"},
    ),
    Command(
        "rescore",
        "many runs",
        "one evaluation under another list of classes",
        "vlbench.cli.results:rescore",
        positional={"record": RECORD},
        options={
            "half": flag("ten random halves of the classes, as MoTE draws them"),
            "config": {**CONFIG, "default": [], "help": "configurations of the test, for the text tower"},
        },
        inputs={"record": "record", "classes": "file", "ckpt_path": "file", "config": "configuration"},
    ),
    Command(
        "audit",
        "many runs",
        "whether one evaluation uses time: its videos again, reversed, shuffled, as one frame",
        "vlbench.cli.audit:audit",
        positional={"record": RECORD},
        options={
            "config": {**CONFIG, "default": [], "help": "configurations of the test, where the record names none"},
            "subset": {
                "nargs": "+",
                "type": str,
                "action": "extend",
                "default": [],
                "help": "subsets of the classes, each with a file of their names, such as temporal=temporal32.csv",
            },
        },
        inputs={"record": "record", "ckpt_path": "file", "config": "configuration"},
    ),
)
