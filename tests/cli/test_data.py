"""`vlbench data`, `describe` and `methods show` through the command line."""

import json
from pathlib import Path

import pytest

from tests.official import diving48
from vlbench.cli.main import main
from vlbench.datasets import DATASETS


def output(capsys):
    return " ".join(capsys.readouterr().out.split())


def test_every_dataset_is_listed_with_licence_and_source(capsys):
    assert main(["data", "list"]) == 0
    text = output(capsys)
    for name in DATASETS:
        assert name in text
    for fact in ("hmdb51/legacy-names", "k600/vifi 160 classes, 3 splits", "13,978", "ucf101/camel", "3,734"):
        assert fact in text
    for fact in (
        "k700 700 classes",
        "moments/mit-339 339 classes, 1 split, test videos: 33,900",
        "breakfast 10 classes",
    ):
        assert fact in text
    assert text.count("licence:") == text.count("source:") >= len(DATASETS) - 1


def test_a_dataset_is_described_in_full(capsys):
    assert main(["data", "describe", "hmdb51"]) == 0
    text = output(capsys)
    assert "20 kick 21 kick ball" in text  # official
    assert "20 kick ball 21 kick" in text  # legacy names
    assert "26 base classes" in text
    assert main(["data", "describe", "hmdb52"]) == 2
    assert "allowed: UCF101, HMDB51" in capsys.readouterr().err


def test_a_dataset_is_described_without_and_with_the_file_of_its_classes(capsys, workplace, monkeypatch):
    assert main(["data", "describe", "diving48"]) == 0
    text = output(capsys)
    assert "classes 48, named by Diving48_vocab.json below the root" in text
    assert "train 1: 15,027, test 1: 1,970" in text
    assert "NoTwis" not in text
    monkeypatch.setenv("VLBENCH_DATA", str(workplace))
    diving48(workplace / "diving48", made=False)
    assert main(["data", "describe", "diving48"]) == 0
    assert "47 Back 47som NoTwis PIKE" in output(capsys)


def test_descriptions_of_classes_that_are_not_known_are_refused(capsys, tmp_path):
    options = ["--out", str(tmp_path), "--base_url", "http://localhost:1/v1", "--model", "none"]
    assert main(["describe", "kinetics700", *options]) == 1
    assert "val.csv, which names the classes, does not exist" in capsys.readouterr().err


def test_the_doctor_looks_at_a_configured_dataset(workplace, capsys):
    assert main(["data", "check", "--config", "data/synthetic.yaml", "--report", "report.json"]) == 0
    assert "errors 0" in output(capsys)
    assert json.loads(Path("report.json").read_text())["videos"] > 0
    assert main(["data", "check", "--config", "trainer/cpu.yaml"]) == 2
    assert "configure no dataset" in capsys.readouterr().err


def test_the_doctor_finds_a_broken_file_in_any_folder(workplace, capsys):
    folder = Path("mine")
    folder.mkdir()
    (folder / "text.mp4").write_text("no video")
    assert main(["data", "check", "--root", "mine", "--decode"]) == 1
    assert "text.mp4" in output(capsys)


@pytest.mark.parametrize("options", [[], ["--root", ".", "--config", "data/ucf101.yaml"], ["--lists", "a"]])
def test_the_doctor_wants_one_patient(options, capsys):
    assert main(["data", "check", *options]) == 2
    assert (
        "give one of --config NAME, --root DIR, --lists FILE with --labels CSV, or --bank DIR"
        in capsys.readouterr().err
    )


def test_a_subset_is_copied_and_resized(workplace, capsys):
    assert main(["data", "subset", "few", "--config", "data/synthetic.yaml", "--videos", "1"]) == 0
    assert main(["data", "prepare", "few", "small", "--resize", "32", "--workers", "1"]) == 0
    copied = sorted(path.relative_to("few") for path in Path("few").rglob("*.mp4"))
    assert copied
    assert copied == sorted(path.relative_to("small") for path in Path("small").rglob("*.mp4"))
    assert main(["data", "check", "--root", "small", "--decode"]) == 0


@pytest.mark.parametrize(
    ("configs", "trainable"),
    [
        (["msta_fewshot.yaml"], "1,744,000"),
        (["msta_fewshot.yaml", "backbone/viclip_b16.yaml"], "1,744,000"),
        (["msta_fully_supervised.yaml"], "8,712,192"),
        (["msta_base2novel.yaml"], "8,712,192"),
        (["msta_base2novel.yaml", "overlay/msta_base2novel_logs.yaml"], "1,744,000"),
    ],
)
def test_parameters_are_counted(configs, trainable, capsys):
    assert main(["methods", "show", *configs]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if " all " in line]
    assert trainable in rows[0]


def test_parameters_of_nothing_are_an_error(capsys):
    assert main(["methods", "show", "data/ucf101.yaml"]) == 2
    assert "configure no method" in capsys.readouterr().err


def test_descriptions_need_a_dataset_and_one_of_its_variants(capsys, tmp_path):
    options = ["--out", str(tmp_path), "--base_url", "http://localhost:1/v1", "--model", "none"]
    assert main(["describe", "UCF102", *options]) == 2
    assert "allowed: UCF101, HMDB51" in capsys.readouterr().err
    assert main(["describe", "HMDB51", "--variant", "other", *options]) == 2
    assert "allowed: hmdb51, legacy-names" in capsys.readouterr().err
