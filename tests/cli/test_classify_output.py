"""What `vlbench classify` prints of results made by hand: the video, the times, the class and the numbers of each."""

import csv
import io
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.pages import assert_loads_nothing
from vlbench.cli.classify_output import OUTPUTS
from vlbench.cli.classify_page import ClassifiedPage
from vlbench.clips.options import ClipOptions, Views
from vlbench.evaluation.measures import Probability
from vlbench.inference import Classification

pytestmark = pytest.mark.quick

CLASSES = ("run", "sit", "jump")
STATED, VOTES = Probability("cosines", 100.0), Probability(None, reason="votes are no probabilities")


def result(video, scores, shares=None, **changes):
    """Classes of a video; without scores it cannot be read."""
    probabilities = None if shares is None else np.array(shares)
    return Classification(video, CLASSES, np.array(scores, np.float32), probabilities, **changes)


LOST = result("lost.mp4", [], failure="no frames")
WHOLE = [result("a.mp4", [0.5, 0.25, 0.75], [0.25, 0.125, 0.625]), LOST]
WINDOWS = [
    LOST,
    result("a.mp4", [0.5, 0.25, 0.75], [0.25, 0.125, 0.625], span=(0.0, 1.23456)),
    result("a.mp4", [], span=(1.23456, 2.5), failure="a frame is damaged"),
    result("a.mp4", [0.9, 0.25, 0.75], [0.5, 0.125, 0.375], span=(2.0, 3.25)),
]
SCORES = [result("a.mp4", [3.0, 1.0, 2.0])]


def model(probability=STATED):
    identity = SimpleNamespace(name="a backbone")
    method = SimpleNamespace(name="mine", probability=probability, backbone=SimpleNamespace(identity=identity))
    return SimpleNamespace(method=method, frames=8, clip=ClipOptions())


def printed(capsys, form, results, *, top=2, probability=STATED):
    output = OUTPUTS[form](model(probability), top)
    for each in results:
        output.add(each)
    output.end()
    return capsys.readouterr().out


def test_lines_of_json(capsys):
    lines = [json.loads(line) for line in printed(capsys, "jsonl", WINDOWS).splitlines()]
    jump, run = (
        {"class": "jump", "probability": 0.625, "score": 0.75}, {"class": "run", "probability": 0.25, "score": 0.5},
    )  # fmt: skip
    assert lines[0] == {"video": "lost.mp4", "start": None, "end": None, "best": [], "error": "no frames"}
    assert lines[1] == {"video": "a.mp4", "start": 0, "end": 1.235, "best": [jump, run], "error": None}
    assert (lines[2]["start"], lines[2]["end"], lines[2]["error"]) == (1.235, 2.5, "a frame is damaged")
    assert [each["class"] for each in lines[3]["best"]] == ["run", "jump"]
    (line,) = map(json.loads, printed(capsys, "jsonl", SCORES, top=1, probability=VOTES).splitlines())
    assert line["best"] == [{"class": "run", "probability": None, "score": 3.0}]


def test_lines_of_csv(capsys):
    rows = [*csv.reader(io.StringIO(printed(capsys, "csv", WINDOWS)))]
    assert rows == [
        ["video", "start", "end", "rank", "class", "probability", "score", "error"],
        ["lost.mp4", "", "", "", "", "", "", "no frames"],
        ["a.mp4", "0.0", "1.235", "1", "jump", "0.625", "0.75", ""],
        ["a.mp4", "0.0", "1.235", "2", "run", "0.25", "0.5", ""],
        ["a.mp4", "1.235", "2.5", "", "", "", "", "a frame is damaged"],
        ["a.mp4", "2.0", "3.25", "1", "run", "0.5", "0.9", ""],
        ["a.mp4", "2.0", "3.25", "2", "jump", "0.375", "0.75", ""],
    ]
    rows = [*csv.DictReader(io.StringIO(printed(capsys, "csv", SCORES, probability=VOTES)))]
    assert [(row["class"], row["probability"], row["score"]) for row in rows] == [
        ("run", "", "3.0"),
        ("jump", "", "2.0"),
    ]


def cells(text):
    """Rows of a printed table, of the words between its lines."""
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if line.startswith("│")]


def test_a_table(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    text = printed(capsys, "table", WHOLE)
    assert "mine on a backbone" in text
    assert [name in text for name in ("probability", "score", "from", "to ")] == [True, False, False, False]
    assert cells(text) == [
        ["a.mp4", "jump", "0.625"],
        ["", "run", "0.250"],
        ["lost.mp4", "cannot be read: no frames", ""],
    ]
    text = printed(capsys, "table", WINDOWS, top=1)
    assert cells(text) == [
        ["lost.mp4", "", "", "cannot be read: no frames", ""], ["a.mp4", "0.00 s", "1.23 s", "jump", "0.625"],
        ["a.mp4", "1.23 s", "2.50 s", "cannot be read: a frame is damaged", ""],
        ["a.mp4", "2.00 s", "3.25 s", "run", "0.500"],
    ]  # fmt: skip
    text = printed(capsys, "table", SCORES, top=3, probability=VOTES)
    assert ("score" in text, "probability" in text) == (True, False)
    assert [row[-2:] for row in cells(text)] == [["run", "3.000"], ["jump", "2.000"], ["sit", "1.000"]]


def test_numbers_have_six_digits_in_lines_and_three_in_a_table(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    results = [result("a.mp4", [11.0625, 3.125, 0], [0.12345649, 0.0000016, 0.5])]
    line = json.loads(printed(capsys, "jsonl", results))
    assert [(each["probability"], each["score"]) for each in line["best"]] == [(0.123456, 11.0625), (2e-6, 3.125)]
    (first, second) = csv.DictReader(io.StringIO(printed(capsys, "csv", results)))
    assert (first["probability"], first["score"], second["score"]) == ("0.123456", "11.0625", "3.125")
    text = printed(capsys, "table", results, probability=VOTES)
    assert [row[-1] for row in cells(text)] == ["0.123", "0.000"]
    text = printed(capsys, "table", [replace(results[0], probabilities=None)], probability=VOTES)
    assert "│ 11.062 │" in text
    assert "│  3.125 │" in text  # numbers end below each other


def test_names_are_text_and_stay_in_their_line_of_a_table(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    mine = model()
    mine.method.name, mine.method.backbone.identity.name = "[b]mine", "[i]tower\n2"
    output = OUTPUTS["table"](mine, 1)
    output.add(replace(result("[red]\t.mp4", [1.0, 0, 0], [1.0, 0, 0]), classes=("[u]run\nfast", "sit", "jump")))
    output.add(result("lost.mp4", [], failure="[s]no\nframes"))
    output.end()
    text = capsys.readouterr().out
    assert "[b]mine on [i]tower\\n2" in text
    assert cells(text) == [
        ['"[red]\\t.mp4"', "[u]run\\nfast", "1.000"],
        ["lost.mp4", "cannot be read: [s]no\\nframes", ""],
    ]


def test_a_page():
    page = ClassifiedPage(model(), 2)
    frames = torch.zeros(2, 3, 3, 32, 32, dtype=torch.uint8)
    for each in [*WINDOWS, result("a.mp4", [0.5, 0.25, 0.75], [0.25, 0.125, 0.625], frames=frames)]:
        page.add(each)
    content = assert_loads_nothing(page.html())
    assert content.text.count("a.mp4") == 1
    assert "2 classified videos" in content.text
    assert "Videos that cannot be read: 2." in content.text  # a damaged window counts for its video
    assert "0.00 to 1.23 s" in content.text
    assert len(content.all("img")) == 2
    assert [content.text.count(name) for name in ("jump", "run", "sit")] == [3, 3, 0]
    assert "votes are no probabilities" in ClassifiedPage(model(VOTES), 1).html()


def test_a_page_says_what_was_looked_at_and_every_name_is_text():
    mine = model(Probability(None, reason="<u>votes</u>"))
    mine.method.name, mine.frames, mine.clip = "<b>mine</b>", 3, ClipOptions(views=Views(clips=2, crops=1))
    page = ClassifiedPage(mine, 2)
    page.add(result("<i>a</i>\n.mp4", [0.25, 3.03125, 2.0], frames=torch.zeros(2, 3, 3, 32, 32, dtype=torch.uint8)))
    page.add(result("b.mp4", [], failure="<s>gone</s>"))
    html = page.html()
    for tag in ("<b>", "<i>", "<u>", "<s>"):
        assert tag not in html
    content = assert_loads_nothing(html)
    facts = (
        "<b>mine</b> on a backbone. Clips of each video, or of each window: 2; frames of a clip: 3; crops of a frame: 1"
    )
    assert facts in content.text
    for said in ("<i>a</i>\\n.mp4", "It cannot be read: <s>gone</s>", "There are no probabilities: <u>votes</u>"):
        assert said in content.text
    assert [picture["alt"] for picture in content.all("img")] == [
        f"The 3 frames of clip {number} of <i>a</i>\\n.mp4" for number in (1, 2)
    ]
    assert [content.text.count(number) for number in ("3.0312", "2.0000", "0.2500")] == [1, 1, 0]
    page = ClassifiedPage(model(), 1)
    page.add(WHOLE[0])
    assert "0.6250" in page.html()
