"""Published files of sentences, as made-up ones stand for them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vlbench.cli.main import main
from vlbench.datasets.descriptions import read_descriptions, read_rephrased
from vlbench.datasets.hmdb51 import LEGACY_NAMES, OFFICIAL_NAMES
from vlbench.errors import ConfigError, DataError
from vlbench.tools import describe_import
from vlbench.tools.describe_import import import_descriptions

NAMES = ("run", "jump", "jump rope")
FILES = {
    "etl4video": ("{n}_s_description_ucf_101.json", "{n}_t_description_ucf_101.json"),
    "ost": ("ucf/spatio_descriptors/{n}_descriptors.json", "ucf/temporal_descriptors/{n}_descriptors.json"),
}


def published(
    folder: Path, source: str, names: tuple[str, ...] = NAMES, number: int = 2, dataset: str = "ucf101"
) -> Path:
    """A folder of a source's files, in which each class is named."""
    for kind, file in zip(("spatial", "temporal"), FILES[source], strict=True):
        path = folder / file.format(n=number).replace("ucf_101", dataset).replace("ucf/", f"{dataset}/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            json.dumps({str(i): [f"{kind} {k} of {name}" for k in range(number)] for i, name in enumerate(names)})
        )
    return folder


@pytest.mark.parametrize(("source", "number"), [("etl4video", 2), ("ost", 4)])
def test_the_papers_number_of_sentences_is_the_default(tmp_path: Path, source: str, number: int) -> None:
    for each in (2, 4, 8):
        published(tmp_path / "from", source, number=each, dataset={"etl4video": "ucf_101", "ost": "ucf"}[source])
    out = tmp_path / "out"
    assert import_descriptions(source, tmp_path / "from", "ucf101", NAMES, out) == f"--model.descriptions {out}"
    described = read_descriptions(out, NAMES)
    assert described.spatial[2] == tuple(f"spatial {k} of jump rope" for k in range(number))
    assert described.temporal[0] == tuple(f"temporal {k} of run" for k in range(number))
    import_descriptions(source, tmp_path / "from", "ucf101", NAMES, tmp_path / "eight", number=8)
    assert {len(each) for each in read_descriptions(tmp_path / "eight", NAMES).spatial} == {8}


def test_another_order_of_the_classes_is_refused_and_nothing_written(tmp_path: Path) -> None:
    published(tmp_path, "etl4video", ("run", "jump rope", "jump"), dataset="ucf_101")
    with pytest.raises(
        DataError, match=r"key '1' \(jump\) is about 'jump rope'; key '2' \(jump rope\) is about 'jump'"
    ):
        import_descriptions("etl4video", tmp_path, "ucf101", NAMES, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("source", ["etl4video", "ost"])
def test_classes_of_hmdb51_get_their_sentences_under_either_names(tmp_path: Path, source: str) -> None:
    published(tmp_path, source, LEGACY_NAMES, {"etl4video": 2, "ost": 4}[source], dataset="hmdb")
    for names in (OFFICIAL_NAMES, LEGACY_NAMES):
        out = tmp_path / names[20]
        import_descriptions(source, tmp_path, "hmdb51", names, out)
        assert all(
            pair[0] == f"spatial 0 of {name}"
            for name, pair in zip(names, read_descriptions(out, names).spatial, strict=True)
        )
    published(tmp_path / "official", source, OFFICIAL_NAMES, {"etl4video": 2, "ost": 4}[source], dataset="hmdb")
    with pytest.raises(DataError, match=r"key '20' \(kick ball\) is about 'kick'"):
        import_descriptions(source, tmp_path / "official", "hmdb51", OFFICIAL_NAMES, tmp_path / "none")


def test_rephrased_names(tmp_path: Path) -> None:
    file, out = tmp_path / "rephrased.json", tmp_path / "out"
    file.write_text(json.dumps({str(i): f"{name.title()}: someone can be seen." for i, name in enumerate(NAMES)}))
    assert import_descriptions("froster", file, "ucf101", NAMES, out) == f"--model.rephrased {out / 'rephrased.json'}"
    assert read_rephrased(out / "rephrased.json", NAMES)[2] == "Jump Rope: someone can be seen."
    with pytest.raises(DataError, match="is about"):
        import_descriptions("froster", file, "ucf101", NAMES[::-1], tmp_path / "reversed")
    with pytest.raises(ConfigError, match="number is 2; allowed: none with froster"):
        import_descriptions("froster", file, "ucf101", NAMES, out, number=2)


def test_other_sentences_are_not_replaced_and_the_same_may_be_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published(tmp_path, "etl4video", dataset="ucf_101")

    def run(number: int | None = None) -> None:
        import_descriptions("etl4video", tmp_path, "ucf101", NAMES, tmp_path / "out", number=number)

    def killed_after_one(path: Path, content: bytes) -> None:
        if path.name == "temporal.json":
            raise KeyboardInterrupt
        write(path, content)

    write = describe_import.write_atomically
    with monkeypatch.context() as patch:
        patch.setattr(describe_import, "write_atomically", killed_after_one)
        with pytest.raises(KeyboardInterrupt):
            run()
    run()
    whole = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert set(whole) == {"spatial.json", "temporal.json"}
    published(tmp_path, "etl4video", number=4, dataset="ucf_101")
    with pytest.raises(ConfigError, match=r"spatial\.json holds something else"):
        run(4)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == whole


def test_what_a_source_does_not_have_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="source is 'msta'; allowed: etl4video, ost, froster"):
        import_descriptions("msta", tmp_path, "ucf101", NAMES, tmp_path)
    with pytest.raises(
        ConfigError, match="ost has no file of all classes of k600; it has: ucf101, hmdb51, kinetics400, ssv2"
    ):
        import_descriptions("ost", tmp_path, "k600", NAMES, tmp_path)
    with pytest.raises(ConfigError, match=r"number is 0; allowed: 1 to 100"):
        import_descriptions("ost", tmp_path, "ucf101", NAMES, tmp_path, number=0)
    with pytest.raises(DataError, match=r"cannot read the descriptions .*3_s_description_ucf_101\.json: No such file"):
        import_descriptions("etl4video", tmp_path, "ucf101", NAMES, tmp_path, number=3)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    published(tmp_path, "etl4video", LEGACY_NAMES, dataset="hmdb")
    command = ["describe", "import", "etl4video", str(tmp_path), "--dataset", "hmdb51", "--out", str(tmp_path / "out")]
    assert main(command) == 0
    assert capsys.readouterr().out.strip() == f"51 classes; give --model.descriptions {tmp_path / 'out'}"
    assert read_descriptions(tmp_path / "out", OFFICIAL_NAMES).spatial[20][0] == "spatial 0 of kick"
    assert main([*command[:-1], str(tmp_path / "legacy"), "--variant", "legacy-names"]) == 0
    assert read_descriptions(tmp_path / "legacy", LEGACY_NAMES).spatial[20][0] == "spatial 0 of kick ball"
    assert main([*command, "--variant", "latest"]) == 2
    assert "hmdb51 has no variant 'latest'; allowed: hmdb51, legacy-names" in capsys.readouterr().err
