"""The picture of accuracy over shots: what is in it, and that names stay text."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.results.fakes import record
from vlbench.cli.main import main
from vlbench.errors import DataError
from vlbench.results.leaderboard import rows
from vlbench.results.svg import to_svg

pytestmark = pytest.mark.quick

ROOT = Path(__file__).parents[2]
SVG = "{http://www.w3.org/2000/svg}"


def draws(method, shots, low, number=20, **changes):
    """Records of one method whose accuracies are one point apart."""
    return [
        record(low + seed, method=method, shots=shots, seed=seed, weights=f"{method}{shots}{seed}", **changes)
        for seed in range(number)
    ]


def points(picture):
    """Method and shots -> mean, ends of the interval, and the circle and the bar that show them."""
    found = {}
    for group in ElementTree.fromstring(picture).iter(f"{SVG}g"):
        title = group.find(f"{SVG}title")
        if title is None:
            continue
        method, shots, mean, _, low, high = re.fullmatch(
            r"(.*), (\w+) shots: ([\d.]+)(, 95 % of \d+ draws in ([\d.]+) to ([\d.]+))?", title.text
        ).groups()
        circle, bar = group.find(f"{SVG}circle"), group.find(f"{SVG}line")
        found[method, shots] = (float(mean), low and float(low), high and float(high), circle, bar)
    return found


def test_every_method_has_a_point_and_an_interval_at_every_number_of_shots():
    records = [
        each for method, low in (("mote", 30.0), ("msta", 40.0)) for shots in (1, 16)
        for each in draws(method, shots, low + shots)
    ]  # fmt: skip
    picture = to_svg(rows([*records, *draws("few", 4, 20.0, number=3), record(25.0, method="zero_shot", shots=0)]))
    shown = points(picture)
    expected = {(method, shots) for method in ("mote", "msta") for shots in ("1", "16")}
    assert shown.keys() == {*expected, ("few", "4")}
    assert shown["few", "4"][1] is shown["few", "4"][4] is None
    for key in expected:
        mean, low, high, circle, bar = shown[key]
        first = {"mote": 30, "msta": 40}[key[0]] + int(key[1])
        assert mean == first + 9.5
        assert (low, high) == (pytest.approx(first + 0.475, abs=0.01), pytest.approx(first + 18.525, abs=0.01))
        assert bar.get("x1") == bar.get("x2") == circle.get("cx")
        # Heights follow from the values by one scale.
        ends = float(bar.get("y1")), float(circle.get("cy")), float(bar.get("y2"))
        assert ends[0] - ends[1] == pytest.approx((ends[0] - ends[2]) / 2, abs=0.2)
    heights = sorted((-mean, float(circle.get("cy"))) for mean, _, _, circle, _ in shown.values())
    assert [height for _, height in heights] == sorted(height for _, height in heights)
    assert len({circle.get("cx") for _, _, _, circle, _ in shown.values()}) == 5
    (flat,) = [
        line for line in ElementTree.fromstring(picture).iter(f"{SVG}line") if line.find(f"{SVG}title") is not None
    ]
    assert flat.find(f"{SVG}title").text == "zero_shot, 0 shots: 25.00"
    assert "prefers-color-scheme: dark" in picture


@given(st.text(min_size=1).filter(str.strip))
def test_a_name_is_text(name):
    picture = to_svg(rows([record(50.0, method=name, dataset=name, train_dataset=name)]))
    root = ElementTree.fromstring(picture)
    assert {node.tag.removeprefix(SVG) for node in root.iter()} <= {
        "svg", "style", "rect", "g", "text", "line", "polyline", "circle", "title",
    }  # fmt: skip


def test_datasets_have_panels_and_lines_of_one_method_are_told_apart():
    records = [
        record(50.0, shots=2), record(60.0, shots=2, backbone="ViT-B-32:openai"),
        record(70.0, shots=4, dataset="hmdb51/words", train_dataset="hmdb51/words"),
    ]  # fmt: skip
    picture = to_svg(rows(records))
    titles = [node.text for node in ElementTree.fromstring(picture).iter(f"{SVG}text") if " on " in node.text]
    assert titles == ["few_shot@1 on hmdb51/words, accuracy in %", "few_shot@1 on ucf101/words, accuracy in %"]
    assert points(picture).keys() == {
        ("msta, ViT-B-16-quickgelu", "2"), ("msta, ViT-B-32", "2"), ("msta", "4"),
    }  # fmt: skip


def test_without_few_shot_records_there_is_no_picture(tmp_path, capsys):
    with pytest.raises(DataError, match="no accuracy after a training on some videos of a class"):
        to_svg(rows([record(50.0, shots=0)]))
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "a.json").write_text(record(50.0, shots=0).as_json())
    assert main(["leaderboard", str(tmp_path), "--svg", str(tmp_path / "a.svg")]) == 1
    assert "give folders with few-shot records" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "a.svg").exists()


def test_the_picture_of_the_documentation_is_of_the_whole_suite():
    suite = yaml.safe_load((ROOT / "configs/suite/bank_demo.yaml").read_text())
    (protocol,) = suite["protocols"]
    picture = (ROOT / "docs/bank_demo.svg").read_text()
    shown = points(picture)
    trained = [name for name, method in suite["methods"].items() if method.get("trains", True)]
    assert shown.keys() == {(name, str(shots)) for name in trained for shots in protocol["shots"]}
    assert all(low <= mean <= high for mean, low, high, _, _ in shown.values())
    names = {node.text for node in ElementTree.fromstring(picture).iter(f"{SVG}text")}
    assert suite["methods"].keys() <= names
