import json
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tests.fakes import colored_frames, cut, retime, write_audio, write_video
from vlbench.datasets.base import VideoDataset
from vlbench.datasets.lists.annotations import read_path_label
from vlbench.datasets.specs import DatasetSpec, Subset
from vlbench.datasets.ucf101 import UCF101
from vlbench.errors import ConfigError, DataError
from vlbench.tools.doctor import Finding, Report, check, check_folder, check_lists, file_checks
from vlbench.tools.doctor.list_checks import label_in_path, plain
from vlbench.tools.doctor.probe import Probe, probe, uneven

NAMES = ("walk", "run", "jump")


class Fake(VideoDataset):
    """Two splits; lists `train1.txt`, `test1.txt`, .. of `class/video label` lines below the root."""

    folder = "fake"
    variants = ("fake",)
    counts = None
    names = NAMES

    def __init__(self, root):
        super().__init__(str(root), None, Subset(), Subset(), None)

    @property
    def spec(self):
        return DatasetSpec("fake", self.names, splits=2, counts=self.counts)

    def items(self, part, split):
        if part == "validation":
            return []
        return read_path_label(self.root / f"{part}{split}.txt", self.root, class_names=self.names)


pytestmark = pytest.mark.usefixtures("own_cache")


def make(root, lists):
    """Lists by name, `{"train1": ["walk/1 0", ..]}`, and a small file with content of its own for every video."""
    for name, lines in lists.items():
        (root / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines))
        for line in lines:
            video = root / line.rsplit(maxsplit=1)[0]
            video.parent.mkdir(exist_ok=True)
            video.write_text(line)
    return Fake(root)


def good_lists():
    return {
        "train1": [f"{name}/{k}.mp4 {label}" for label, name in enumerate(NAMES) for k in (1, 2)],
        "test1": [f"{name}/{k}.mp4 {label}" for label, name in enumerate(NAMES) for k in (3, 4)],
        "train2": [f"{name}/{k}.mp4 {label}" for label, name in enumerate(NAMES) for k in (5, 6)],
        "test2": [f"{name}/{k}.mp4 {label}" for label, name in enumerate(NAMES) for k in (7, 8)],
    }


def found(report):
    return {(finding.severity, finding.code, finding.where) for finding in report.findings}


def one(report, code):
    (finding,) = [finding for finding in report.findings if finding.code == code]
    return finding


def examine(dataset, **options):
    return check(dataset, workers=0, progress=False, **options)


# -- lists ------------------------------------------------------------------------------------------------------------


def test_a_sound_dataset_has_no_findings(tmp_path):
    report = examine(make(tmp_path, good_lists()))
    assert report.findings == ()
    assert report.exit_code == 0
    assert report.videos == 24


def test_swapped_class_names_are_reported_as_a_pair(tmp_path):
    dataset = make(tmp_path, good_lists())
    dataset.names = ("run", "walk", "jump")
    report = examine(dataset)
    swapped = one(report, "swapped")
    assert swapped.where == "labels 0 and 1"
    assert "'run'" in swapped.text
    assert "'walk'" in swapped.text
    mislabelled = [finding for finding in report.findings if finding.code == "mislabelled"]
    assert [len(finding.videos) for finding in mislabelled] == [4, 4, 4, 4]
    assert report.exit_code == 1


def test_class_names_in_another_order_are_reported_label_by_label(tmp_path):
    dataset = make(tmp_path, good_lists())
    dataset.names = ("run", "jump", "walk")
    assert {finding.where for finding in examine(dataset).findings if finding.code == "misnamed"} == {
        "label 0",
        "label 1",
        "label 2",
    }


def test_one_video_under_a_wrong_class_is_named(tmp_path):
    lists = good_lists()
    lists["test1"][0] = "walk/3.mp4 2"
    report = examine(make(tmp_path, lists))
    assert one(report, "mislabelled").videos == ("walk/3.mp4",)
    assert "swapped" not in {finding.code for finding in report.findings}


def test_training_on_test_videos_is_an_error_within_a_split_and_a_warning_across(tmp_path):
    lists = good_lists()
    lists["train1"] += ["walk/3.mp4 0", "walk/7.mp4 0", "run/8.mp4 1"]
    report = examine(make(tmp_path, lists))
    overlaps = {finding.severity: finding for finding in report.findings if finding.code == "overlap"}
    assert overlaps["error"].videos == ("walk/3.mp4",)
    assert overlaps["warning"].videos == ("run/8.mp4", "walk/7.mp4")
    assert "split 1 only" in overlaps["warning"].text


def test_another_test_set_under_the_same_name_is_noticed_by_its_size(tmp_path):
    dataset = make(tmp_path, good_lists())
    dataset.counts = {("test", 1): 6, ("test", 2): 14}
    count = one(examine(dataset), "count")
    assert count.where == "test split 2"
    assert "6 videos where 14 are expected" in count.text


def test_a_class_without_videos_is_named(tmp_path):
    lists = good_lists()
    lists["test2"] = lists["test2"][:4]
    finding = one(examine(make(tmp_path, lists)), "no_videos")
    assert finding.severity == "warning"
    assert "'jump'" in finding.text


def test_an_unreadable_list_is_a_finding_and_the_rest_is_checked(tmp_path):
    dataset = make(tmp_path, good_lists())
    (tmp_path / "test1.txt").write_text("walk/3.mp4 0\nwalk/3.mp4 0\n")
    (tmp_path / "train2.txt").unlink()
    (tmp_path / "run" / "7.mp4").unlink()
    report = examine(dataset)
    assert found(report) >= {
        ("error", "list", "test split 1"),
        ("error", "list", "train split 2"),
        ("error", "missing", "run/7.mp4"),
    }


def test_configured_published_lists_are_checked_instead_of_official_ones(tmp_path):
    splits = tmp_path / "splits" / "ucf_splits"
    splits.mkdir(parents=True)
    (splits / "train1_few_shot_2.txt").write_text("v_YoYo_g01_c01.avi 100\nv_YoYo_g01_c02.avi 100\n")
    (splits / "val2.txt").write_text("v_YoYo_g01_c01.avi 100\nv_TaiChi_g02_c01.avi 90\n")
    (tmp_path / "UCF-101").mkdir()
    options = {"root": str(tmp_path), "splits_dir": str(splits.parent), "train": Subset(shots=2)}
    report = examine(UCF101(test=Subset(split=2), **options))
    overlap = one(report, "overlap")
    assert overlap.severity == "warning"
    assert overlap.videos == ("YoYo/v_YoYo_g01_c01.avi",)
    assert "2 videos where 3734 are expected" in one(report, "count").text
    assert [finding.where[:6] for finding in report.findings if finding.code == "altered"] == ["train1", "val2 ("]
    assert "no published test list" in one(examine(UCF101(test=Subset(split=3), **options)), "list").text


def test_two_seeds_that_are_one_list_are_named(tmp_path):
    labels = tmp_path / "labels.csv"
    labels.write_text("id,name\n0,walk\n1,run\n")
    lines = ["a.mp4 0\n", "b.mp4 1\n"]
    (tmp_path / "fs_base_s1_train.txt").write_text("".join(lines))
    (tmp_path / "fs_base_s2_train.txt").write_text("".join(reversed(lines)))
    (tmp_path / "fs_base_s3_train.txt").write_text("a.mp4 0\nc.mp4 1\n")
    report = check_lists([tmp_path], labels)
    finding = one(report, "same_list")
    assert finding.where.endswith("fs_base_s2_train.txt")
    assert "fs_base_s1_train.txt" in finding.text
    assert report.exit_code == 0


def test_lists_know_their_split_and_shots_by_name(tmp_path):
    labels = tmp_path / "labels.csv"
    labels.write_text("id,name\n0,walk\n1,run\n")
    (tmp_path / "train1_few_shot_2.txt").write_text("a.mp4 0\nb.mp4 0\nc.mp4 1\n")
    (tmp_path / "val1.txt").write_text("d.mp4 0\ne.mp4 1\n")
    (tmp_path / "val2.txt").write_text("a.mp4 0\ne.mp4 1\n")
    report = check_lists([tmp_path], labels)
    assert "'run' with 1" in one(report, "shots").text
    overlap = one(report, "overlap")
    assert overlap.severity == "warning"
    assert overlap.videos == ("a.mp4",)


def test_camel_case_names_are_noted(tmp_path):
    (tmp_path / "val.txt").write_text("v_YoYo_g01_c01.avi 1\nv_ApplyLipstick_g01_c01.avi 0\n")
    labels = tmp_path / "labels.csv"
    labels.write_text("id,name\n0,ApplyLipstick\n1,YoYo\n")
    assert "'Apply Lipstick'" in one(check_lists([tmp_path], labels), "wording").text
    labels.write_text("id,name\n0,Apply Lipstick\n1,Yo Yo\n")
    assert check_lists([tmp_path], labels).findings == ()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r":1: the header lacks id, name; its columns: none"),
        ("number,name\n0,a\n", r":1: the header lacks id; its columns: number, name"),
        ("id,name\nx,a\n", r":2: label 'x' is not an integer"),
        ("id,name\n0\n", r":2: 1 fields where the header has 2"),
        ("id,name\n", "ids or names are missing"),
        ("id,name\n0,a\n2,b\n", "ids or names are missing"),
        ("id,name\n0,a\n1,a\n", "come twice"),
        ("id,name\n0,\n", "ids or names are missing"),
    ],
)
def test_doubtful_class_names_are_refused(tmp_path, content, message):
    labels = tmp_path / "labels.csv"
    labels.write_text(content)
    with pytest.raises(DataError, match=rf"labels\.csv{message}" if message.startswith(":") else message):
        check_lists([tmp_path], labels)


def test_no_list_is_refused(tmp_path):
    labels = tmp_path / "labels.csv"
    labels.write_text("id,name\n0,a\n")
    with pytest.raises(ConfigError, match=r"no list in .*; give"):
        check_lists([tmp_path], labels)


@pytest.mark.parametrize(
    ("video", "label"),
    [
        ("v_WalkFast_g01_c02.avi", 0),
        ("Some/where/v_WalkFast_g01_c02.avi", 0),
        ("v_Unknown_g01_c02.avi", None),
        ("My_film_draw_sword_u_nm_np2_ri_med_0.avi", 2),
        ("My_film_sword_u_nm_np1_ri_med_0.avi", 1),
        ("draw_my_sword_f_cm_np1_ba_bad_14.avi", 1),
        ("My_film_u_nm_np1_ri_med_0.avi", None),
        ("draw sword/abc.mp4", 2),
        ("draw_sword/000/abc.mp4", None),
        ("abc.mp4", None),
        ("sword.mp4", None),
    ],
)
def test_file_names_state_classes(video, label):
    names = {plain(name): k for k, name in enumerate(("Walk Fast", "sword", "draw_sword"))}
    assert label_in_path(video, names) == label


# -- files ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """One file of each kind, `<kind>.<extension>`; `.avi` and `.mkv` only where the kind is about them."""
    root = tmp_path_factory.mktemp("clips")
    good = write_video(root / "good.mp4", colored_frames(30))
    film = write_video(root / "film.mkv", colored_frames(100))
    write_video(root / "cartoon.avi", 20, codec="mpeg4")
    write_video(root / "turned.mp4", 10, rotation=90)
    write_video(root / "short.mp4", 3)
    (root / "empty.mp4").touch()
    (root / "text.mp4").write_text("no video at all\n" * 99)
    write_audio(root / "audio.mp4")
    cut(film, root / "cut.mkv", 0.5)
    whole = write_video(root / "whole.mp4", colored_frames(31), container_options={"movflags": "+faststart"})
    cut(whole, root / "cut.mp4", 0.8)
    damaged = bytearray(good.read_bytes())
    middle = damaged.index(b"mdat") + 4 + (len(damaged) - damaged.index(b"mdat")) // 4
    damaged[middle : middle + 400] = b"\x7f" * 400
    (root / "damaged.mp4").write_bytes(damaged)
    retime(good, root / "freeze.mp4", [*range(15), *range(60, 75)])
    return root


EXPECTED = {
    ("error", "empty", "empty.mp4"),
    ("error", "undecodable", "text.mp4"),
    ("error", "no_video", "audio.mp4"),
    ("error", "truncated", "cut.mp4"),
    ("error", "truncated", "cut.mkv"),
    ("error", "damaged", "damaged.mp4"),
    ("warning", "short", "short.mp4"),
    ("warning", "variable_rate", "freeze.mp4"),
    ("note", "rotated", "turned.mp4"),
}


def test_every_kind_of_file_is_told_from_the_others(clips):
    report = check_folder(clips, decode=True, workers=0, progress=False)
    assert found(report) == EXPECTED
    assert report.videos == 13
    assert report.decoded == 12
    assert report.exit_code == 1
    assert all(";" in finding.text for finding in report.findings), "each says what to do"


def test_frames_asked_for_decide_what_is_short(clips):
    report = check_folder(clips, decode=True, frames=25, workers=0, progress=False)
    assert {finding.where for finding in report.findings if finding.code == "short"} == {
        "short.mp4",
        "turned.mp4",
        "cartoon.avi",
    }


def test_a_second_check_decodes_nothing(clips, monkeypatch):
    first = check_folder(clips, decode=True, workers=0, progress=False)
    monkeypatch.setattr(file_checks, "probe", lambda path: pytest.fail(f"{path} was decoded again"))
    assert check_folder(clips, decode=True, workers=0, progress=False) == first


def test_only_a_changed_file_is_decoded_again(clips, tmp_path, monkeypatch):
    for name in ("good.mp4", "short.mp4"):
        shutil.copy(clips / name, tmp_path)
    check_folder(tmp_path, decode=True, workers=0, progress=False)
    shutil.copyfile(clips / "good.mp4", tmp_path / "short.mp4")
    decoded = []
    monkeypatch.setattr(file_checks, "probe", lambda path: decoded.append(path.name) or probe(path))
    report = check_folder(tmp_path, decode=True, workers=0, progress=False)
    assert decoded == ["short.mp4"]
    assert found(report) == {("warning", "duplicate", "good.mp4")}


def test_processes_find_the_same(clips):
    assert found(check_folder(clips, decode=True, workers=2, progress=False)) == EXPECTED


def test_a_video_that_kills_its_process_is_a_finding(clips, monkeypatch):
    """What `parallel.for_each` gives for such a task, see its own tests."""

    def killed_by_good(function, paths, workers):
        return ((path, None if path.name == "good.mp4" else Probe(frames=30)) for path in paths)

    monkeypatch.setattr(file_checks, "for_each", killed_by_good)
    report = check_folder(clips, decode=True, progress=False)
    assert one(report, "crashed").where == "good.mp4"
    assert report.exit_code == 1


def test_without_decoding_no_video_is_opened(clips, monkeypatch):
    monkeypatch.setattr(file_checks, "probe", lambda path: pytest.fail("opened"))
    report = check_folder(clips, progress=False)
    assert found(report) == {("error", "empty", "empty.mp4")}
    assert report.decoded == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_without_permission_is_named(tmp_path):
    write_video(tmp_path / "secret.mp4", 3).chmod(0)
    assert found(check_folder(tmp_path, progress=False)) == {("error", "unreadable", "secret.mp4")}


def test_a_link_to_nothing_is_missing(tmp_path):
    (tmp_path / "link.mp4").symlink_to(tmp_path / "gone.mp4")
    assert found(check_folder(tmp_path, progress=False)) == {("error", "missing", "link.mp4")}


def test_a_folder_without_videos_is_refused(tmp_path):
    for wrong in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DataError, match=str(wrong)):
            check_folder(wrong)


@pytest.mark.parametrize(
    ("pair", "severity", "word"),
    [
        (("train1", 0, "test1", 0), "error", "trains on what"),
        (("train1", 0, "test2", 0), "warning", "several times"),
        (("train1", 0, "train1", 1), "warning", "several times"),
        (("train1", 0, "train1", 2), "error", "another class"),
    ],
)
def test_the_same_content_under_two_names(tmp_path, pair, severity, word):
    lists = good_lists()
    dataset = make(tmp_path, lists)
    one_list, one_position, other_list, other_position = pair
    paths = [
        tmp_path / lists[name][position].split()[0]
        for name, position in ((one_list, one_position), (other_list, other_position))
    ]
    shutil.copyfile(*paths)
    finding = one(examine(dataset), "duplicate")
    assert finding.severity == severity
    assert word in finding.text
    assert set(finding.videos) == {path.relative_to(tmp_path).as_posix() for path in paths}


# -- even spacing -----------------------------------------------------------------------------------------------------


@given(count=st.integers(0, 60), step=st.floats(0.005, 0.2), start=st.floats(0, 100))
def test_rounded_even_times_are_even(count, step, start):
    assert not uneven([round(start + k * step, 3) for k in range(count)])


def test_an_odd_last_step_is_even_enough_and_a_freeze_is_not():
    times = [k / 25 for k in range(50)]
    assert not uneven([*times, times[-1] + 2 / 25])
    assert uneven([*times[:25], *(time + 1 for time in times[25:])])
    assert uneven([*times, *(times[-1] + k / 10 for k in range(1, 20))])


# -- report -----------------------------------------------------------------------------------------------------------


def test_a_report_prints_one_line_a_finding_the_worst_first(capsys):
    findings = (
        Finding("note", "rotated", "c.mp4", "turned"),
        Finding("warning", "short", "b.mp4", "3 frames; take fewer"),
        Finding("error", "empty", "a[1].mp4", "0 bytes; " + "fetch it again " * 20),
    )
    Report("here", 3, 2, findings).print(Console(width=80, soft_wrap=True))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in lines[:3]] == [
        ["error", "empty", "a[1].mp4:"],
        ["warning", "short", "b.mp4:"],
        ["note", "rotated", "c.mp4:"],
    ]
    assert lines[3:] == ["here: 3 videos, 2 decoded; errors 1, warnings 1, notes 1"]


@pytest.mark.parametrize(("severity", "code"), [("error", 1), ("warning", 0), ("note", 0)])
def test_only_errors_fail(severity, code):
    assert Report("x", 1, 0, (Finding(severity, "any", "x", "y"),)).exit_code == code


def test_a_report_is_written_as_json(tmp_path):
    report = Report("here", 3, 2, (Finding("error", "overlap", "train1", "2 videos", ("a", "b")),))
    report.write(tmp_path / "deep" / "report.json")
    content = json.loads((tmp_path / "deep" / "report.json").read_text())
    assert content["schema_version"] == 1
    assert content["findings"][0]["videos"] == ["a", "b"]
