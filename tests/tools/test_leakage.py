"""`vlbench data check --bank`: training videos that are tested, by id, by content and by features."""

import json
import re
import shutil
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.bank.conftest import made, write_config, write_kitchen
from tests.fakes import moving_frames, write_video
from vlbench.bank.bank import FeatureBank
from vlbench.cli.main import main
from vlbench.clips.decoding import open_video
from vlbench.datasets.specs import VideoItem
from vlbench.errors import DataError
from vlbench.synthetic.classes import SETS
from vlbench.tools.doctor import check_bank, near_duplicates
from vlbench.tools.doctor.findings import Finding, Pair, Report
from vlbench.tools.doctor.near_duplicates import Whitening, similar_videos
from vlbench.tools.doctor.page import to_html

# Features ------------------------------------------------------------------------------------------------------------


class Fake:
    """Features by id, as a bank has them."""

    folder = "fake"

    def __init__(self, features):
        self.stored = features

    def shape(self):
        return next(iter(self.stored.values())).shape

    def features(self, ids):
        return np.stack([self.stored[video] for video in ids])


def random_bank(videos=40, shape=(2, 3, 16), dtype=np.float32, common=3.0):
    """Features that have a direction in common; the last five are those of the first five, a little off."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(videos, *shape)) * np.linspace(0.1, 2, shape[-1]) + common
    features[-5:] = features[:5] + 0.01 * rng.normal(size=(5, *shape))
    return Fake({f"v{k:03}": features[k].astype(dtype) for k in range(videos)})


def search(bank, threshold=0.8, most=100, known=()):
    ids = sorted(bank.stored)
    half = len(ids) // 2
    return similar_videos(Whitening(bank, ids), ids[:half], ids[half:], threshold, most, known)


@pytest.mark.quick
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_copies_are_found_among_videos_that_are_much_alike(dtype):
    bank = random_bank(dtype=dtype)
    means = np.stack([features.mean((0, 1), dtype=np.float64) for features in bank.stored.values()])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    assert (means[:20] @ means[20:].T).min() > 0.75, "plain cosines are high everywhere"
    found = search(bank)
    assert {pair[:2] for pair in found.pairs} == {(f"v{k:03}", f"v{35 + k:03}") for k in range(5)}
    assert found.total == 5
    scores = [score for *_, score in found.pairs]
    assert scores == sorted(scores, reverse=True)
    assert scores[-1] > 0.99


@pytest.mark.quick
def test_blocks_change_nothing(monkeypatch):
    bank = random_bank()
    whole = search(bank, threshold=0.1)
    monkeypatch.setattr(near_duplicates, "_ROWS", 3)
    blocks = search(bank, threshold=0.1)
    assert blocks.total == whole.total > 20
    assert [pair[:2] for pair in blocks.pairs] == [pair[:2] for pair in whole.pairs]
    np.testing.assert_allclose([pair[2] for pair in blocks.pairs], [pair[2] for pair in whole.pairs], atol=1e-5)
    few = search(bank, threshold=0.1, most=4)
    assert (few.pairs, few.total) == (blocks.pairs[:4], whole.total)


@pytest.mark.quick
def test_known_pairs_are_left_out():
    left = search(random_bank(), known={("v001", "v036"), ("v001", "v037"), ("gone", "v036")})
    assert {pair[:2] for pair in left.pairs} == {(f"v{k:03}", f"v{35 + k:03}") for k in (0, 2, 3, 4)}
    assert left.total == 4


@pytest.mark.quick
def test_equal_features_are_alike_also_where_all_are(tmp_path):
    same = np.ones((1, 4, 8), np.float16)
    found = search(Fake({f"v{k}": same for k in range(4)}), threshold=1.0)
    assert [score for *_, score in found.pairs] == pytest.approx([1.0] * 4)


@pytest.mark.quick
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_finite_are_refused(value):
    bank = random_bank()
    bank.stored["v007"][1, 2, 3] = value
    with pytest.raises(DataError, match="has features of v007 that are not finite; make it anew"):
        search(bank)


# The page ------------------------------------------------------------------------------------------------------------

EVIL = 'a"><script>alert(1)</script><img src=x onerror=alert(1)>\u202e\udcff.mp4'


class Elements(HTMLParser):
    """Elements of a page with their attributes, and its text."""

    def __init__(self, text):
        super().__init__()
        self.found, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


def test_the_page_shows_frames_and_names_as_text(tmp_path):
    good = write_video(tmp_path / "good.mp4", moving_frames(10))
    (tmp_path / "text.mp4").write_text("no video")
    videos = {EVIL: VideoItem(good, 0, EVIL), "broken.mp4": VideoItem(tmp_path / "text.mp4", 0, "broken.mp4"),
              "same.mp4": VideoItem(good, 1, "same.mp4", (0.0, 0.2))}  # fmt: skip
    pairs = (Pair("features", EVIL, "broken.mp4", 0.9), Pair("id", "same.mp4", "same.mp4", 1.0),
             Pair("content", "gone.mp4", EVIL, 1.0))  # fmt: skip
    page = to_html(Report("bank <i>", 3, 0, (), pairs), videos, {EVIL: "<b>cut</b>"}, workers=0)
    page.encode()  # bytes of a name that are no UTF-8 are escaped
    elements = Elements(page)
    assert {name for name, _ in elements.found}.isdisjoint({"script", "b", "i", "iframe"})
    assert not [name for _, attributes in elements.found for name in attributes if name.startswith("on")]
    pictures = elements.all("img")
    assert len(pictures) == 3
    assert all(picture["src"].startswith("data:image/jpeg;base64,/9j/") for picture in pictures)
    assert pictures[0]["alt"].startswith('a"><script>alert(1)')
    assert len(elements.all("div")) == 2  # in place of pictures
    assert "the file is not there" in elements.text
    assert "<b>cut</b>" in elements.text
    assert "0.900 alike by features" in elements.text
    assert "both: same.mp4" in elements.text
    assert not re.search(r"https?:|url\(|@import", page)
    (policy,) = [meta["content"] for meta in elements.all("meta") if "http-equiv" in meta]
    assert policy.startswith("default-src 'none'")


# A bank --------------------------------------------------------------------------------------------------------------


def pixels(path):
    with open_video(path) as reader:
        return reader.frames_at(range(reader.num_frames)).permute(0, 2, 3, 1).numpy()


def smaller(frames):
    scaled = torch.nn.functional.interpolate(
        torch.from_numpy(frames).permute(0, 3, 1, 2).float(), (64, 64), mode="bilinear", antialias=True
    )
    return scaled.round().byte().permute(0, 2, 3, 1).numpy()


COPIES = {
    "again": lambda frames: frames,
    "smaller": smaller,
    "brighter": lambda frames: (frames.astype(int) + 15).clip(0, 255).astype(np.uint8),
    "half": lambda frames: frames[::2],
}
"""What happens to a video that is uploaded again; each is encoded anew."""


@pytest.fixture(scope="module")
def planted(rendered, tmp_path_factory):
    """A bank of a part of shapes-s with copies of training videos among the test videos, and what was planted."""
    source, root = rendered / "synthetic" / "shapes-s", tmp_path_factory.mktemp("planted") / "shapes"
    root.mkdir()
    lines = {part: (source / f"{part}.txt").read_text().splitlines() for part in ("train", "test")}
    lines = {"train": lines["train"][::2], "test": lines["test"][::3]}
    for line in (*lines["train"], *lines["test"]):
        path = root / line.split()[0]
        path.parent.mkdir(exist_ok=True)
        shutil.copyfile(source / line.split()[0], path)
    pairs = {}
    for index, line in enumerate(lines["train"][5::11]):
        name, label = line.split()
        kind = [*COPIES, "content", "id"][index % 6]
        copy = name if kind == "id" else f"test/{kind}{index}.mp4"
        if kind == "content":
            shutil.copyfile(root / name, root / copy)
        elif kind != "id":
            write_video(root / copy, np.ascontiguousarray(COPIES[kind](pixels(root / name))), options={"crf": "20"})
        lines["test"].append(f"{copy} {label}")
        pairs[name, copy] = kind if kind in ("content", "id") else "features"
    for part, content in lines.items():
        (root / f"{part}.txt").write_text("".join(f"{line}\n" for line in content))
    (root / "classes.txt").write_text("".join(f"{member.name}\n" for member in SETS["shapes-s"]))
    options = {"frames": 8, "augmentation": {"short_side": 1.0}, "clip": {"test_short_side": 1.0}}
    config = write_config(root.parent / "shapes.yaml", "FolderVideosDataModule", root, **options)
    return SimpleNamespace(root=root, bank=made(root.parent / "banks", config), pairs=pairs)


def checked(bank, folder, *options):
    """Exit code, report and elements of the page of a check."""
    words = ["--report", str(folder / "r.json"), "--html", str(folder / "p.html"), "--workers", "0"]
    code = main(["data", "check", "--bank", str(bank), *words, *options])
    page = Elements((folder / "p.html").read_text())
    return code, json.loads((folder / "r.json").read_text()), page


@pytest.mark.usefixtures("own_cache")
def test_planted_copies_are_found_and_nothing_else(planted, tmp_path, capsys):
    code, report, page = checked(planted.bank, tmp_path)
    found = {(pair["train"], pair["test"]): pair["reason"] for pair in report["pairs"]}
    assert found == planted.pairs
    assert len(found) == 12
    assert code == 1  # of the videos that are there twice
    of_findings = [finding for finding in report["findings"] if finding["code"] in ("overlap", "duplicate", "similar")]
    severities = {finding["code"]: finding["severity"] for finding in of_findings}
    assert severities == {"overlap": "error", "duplicate": "error", "similar": "warning"}
    ids = sum(reason == "id" for reason in found.values())
    assert len(page.all("img")) == 2 * len(found) - ids
    said = capsys.readouterr().out
    for train, test in (pair for pair, reason in planted.pairs.items() if reason == "features"):
        assert re.search(rf"warning similar +{test}: 0\.\d+ like {train} of train/1 by features; look at both", said)


@pytest.mark.usefixtures("own_cache")
def test_features_are_compared_where_the_videos_are_not(planted, tmp_path):
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for name in ("train.txt", "test.txt", "classes.txt"):
        shutil.copyfile(planted.root / name, moved / name)
    code, report, page = checked(planted.bank, tmp_path, "--root", str(moved))
    (note,) = [finding for finding in report["findings"] if finding["code"] == "not_compared"]
    assert f"are not there; give the folder of the videos by --root DIR in place of {moved}" in note["text"]
    reasons = {(pair["train"], pair["test"]): pair["reason"] for pair in report["pairs"]}
    assert reasons == {pair: "id" if reason == "id" else "features" for pair, reason in planted.pairs.items()}
    assert code == 1
    assert not page.all("img")
    assert page.text.count("the file is not there") == len(page.all("div"))
    (moved / "test.txt").unlink()
    _, report, _ = checked(planted.bank, tmp_path, "--root", str(moved))
    assert "not_compared" in {finding["code"] for finding in report["findings"]}


@pytest.mark.usefixtures("own_cache")
def test_too_many_pairs_are_counted(planted, tmp_path, monkeypatch):
    monkeypatch.setattr("vlbench.tools.doctor.bank_checks.MOST_PAIRS", 2)
    _, report, _ = checked(planted.bank, tmp_path)
    similar = [Finding(**finding) for finding in report["findings"] if finding["code"] == "similar"]
    assert len(similar) == 3
    assert "more pairs with train/1 reach 0.78; raise --similar" in similar[-1].text


@pytest.mark.usefixtures("own_cache")
def test_a_bank_of_one_part_has_nothing_to_compare(tmp_path):
    root = write_kitchen(tmp_path / "kitchen", train=1, test=1)  # one test video is none
    config = write_config(tmp_path / "kitchen.yaml", "FolderVideosDataModule", root)
    folder = made(tmp_path / "banks", config, "--parts", "test")
    _, report, _ = checked(folder, tmp_path)
    texts = {finding["code"]: finding["text"] for finding in report["findings"]}
    assert texts["unread"] == "1 videos could not be read when the bank was made and are not compared"
    assert texts["not_compared"].startswith("features: it has readable videos of test/1, and of no training list")
    assert report["pairs"] == []


def test_a_folder_without_a_bank_is_refused(tmp_path, capsys):
    assert main(["data", "check", "--bank", str(tmp_path)]) == 1
    assert "holds no bank" in capsys.readouterr().err


@pytest.mark.usefixtures("own_cache")
def test_lists_of_different_splits_are_no_pair(planted):
    """Nobody trains on one split and tests on another: what is in both is a warning, and no pair."""
    bank = FeatureBank(planted.bank)
    bank.facts.dataset["splits"] = 2
    bank.facts.lists["test/2"] = bank.facts.lists.pop("test/1")
    report, _ = check_bank(bank, threshold=0.78, workers=0, progress=False)
    assert report.pairs == ()
    severities = {(finding.code, finding.severity) for finding in report.findings}
    assert severities == {("overlap", "warning"), ("duplicate", "warning"), ("not_compared", "note")}
    assert report.exit_code == 0


def test_a_dataset_that_vlbench_does_not_know_has_no_files(planted):
    """A bank of somebody's own dataset class: nothing that the bank names is imported."""
    bank = FeatureBank(planted.bank)
    bank.facts.dataset["class"] = "os.system"
    report, videos = check_bank(bank, threshold=0.78, workers=0, progress=False)
    texts = {finding.code: finding.text for finding in report.findings}
    assert texts["not_compared"] == "files: vlbench does not know the dataset os.system"
    assert videos == {}
    assert len(report.pairs) == len(planted.pairs)
