"""Commands of data."""

from __future__ import annotations

from pathlib import Path

from vlbench.cli.declaration import Command
from vlbench.cli.declared.forms import CONFIG, flag

DATA = (
    Command("data list", "data", "datasets, their sizes, licences and sources", "vlbench.cli.data:list_datasets"),
    Command(
        "data describe",
        "data",
        "one of them in full",
        "vlbench.cli.data:describe_dataset",
        "vlbench data describe ucf101",
        positional={"dataset": {"type": str, "help": "name, such as ucf101"}},
    ),
    Command(
        "data check",
        "data",
        "what is wrong with lists and videos",
        "vlbench.cli.data:check",
        "vlbench data check --config data/ucf101.yaml --decode",
        options={
            "decode": flag("decode every video from start to end"),
            "config": {**CONFIG, "default": []},
            "lists": {
                "nargs": "+",
                "type": Path,
                "action": "extend",
                "help": "published list files, or folders of them; needs --labels",
            },
        },
        inputs={"config": "configuration", "root": "folder", "labels": "file", "bank": "folder"},
    ),
    Command(
        "data prepare",
        "data",
        "a resized copy, faster to read",
        "vlbench.cli.data:prepare",
        "vlbench data prepare DIR COPY --resize 256",
        positional={
            "root": {"help": "folder of the dataset"},
            "out": {"help": "folder of the copy; same files, same names"},
        },
        inputs={"root": "folder"},
    ),
    Command(
        "data subset",
        "data",
        "a small copy for CI",
        "vlbench.cli.data:subset",
        positional={"out": {"help": "folder of the copy"}},
        options={"config": {**CONFIG, "required": True}},
        inputs={"config": "configuration"},
    ),
    Command(
        "data unpack",
        "data",
        "videos out of parquet files and webdataset shards",
        "vlbench.cli.data:unpack",
        "vlbench data unpack PACKED DIR",
        positional={
            "source": {"help": "folder of parquet files or webdataset shards"},
            "out": {"help": "folder of the videos, with lists"},
        },
        inputs={"source": "folder", "classes": "file"},
    ),
    Command(
        "data synth",
        "data",
        "render the synthetic dataset",
        "vlbench.cli.data:synth",
        "vlbench data synth DIR",
        positional={"folder": {"help": "where to; it becomes the root of SyntheticActions"}},
    ),
    Command(
        "features",
        "data",
        "frame features of a frozen tower, once for many trainings of heads",
        "vlbench.cli.banks:features",
        options={
            "config": {
                **CONFIG,
                "required": True,
                "help": "dataset and backbone by name, such as data/ucf101.yaml backbone/vit_b16.yaml",
            },
            "parts": {
                "nargs": "+",
                "type": str,
                "default": ["train", "test"],
                "help": "parts of the dataset that are encoded: train, validation, test",
            },
        },
        inputs={"config": "configuration"},
    ),
    Command(
        "features verify",
        "data",
        "whether a bank of features is what its videos give",
        "vlbench.cli.banks:verify",
        positional={"folder": {"help": "folder of the bank"}},
        inputs={"folder": "folder"},
    ),
    Command(
        "features export",
        "data",
        "a bank of features as tables, for pandas and others",
        "vlbench.cli.banks:export",
        positional={"folder": {"help": "folder of the bank"}},
        inputs={"folder": "folder"},
    ),
    Command(
        "describe",
        "data",
        "sentences on every class from a language model, for MSTA",
        "vlbench.cli.commands:describe",
        positional={"dataset": {"type": str, "help": "name, such as UCF101"}},
    ),
    Command(
        "describe import",
        "data",
        "published sentences on every class, for MSTA, OST and FROSTER",
        "vlbench.cli.commands:describe_import",
        positional={
            "source": {"type": str, "help": "whose files: etl4video (MSTA's), ost or froster"},
            "path": {"help": "folder of the files, which keep their published names; of froster, the file itself"},
        },
    ),
)
