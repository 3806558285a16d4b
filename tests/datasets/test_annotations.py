from __future__ import annotations

from pathlib import Path
from typing import Protocol

import pytest

from vlbench.datasets.lists.annotations import (
    read_class_folders,
    read_csv,
    read_path_label,
)
from vlbench.datasets.specs import VideoItem
from vlbench.datasets.ucf101 import read_ucf_list
from vlbench.datasets.ucf101_names import OFFICIAL_NAMES
from vlbench.errors import DataError

pytestmark = pytest.mark.quick

ROOT = Path("/videos")
NAMES = ("kick", "brush hair", "sword")


class Write(Protocol):
    def __call__(self, text: str | bytes, name: str = ...) -> Path: ...


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_file(text: str | bytes, name: str = "list.txt") -> Path:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write_file


def message(error: pytest.ExceptionInfo[DataError]) -> str:
    return str(error.value)


# ---- path label ----


def test_path_label_reads_paths_with_spaces_and_skips_blank_lines(write: Write) -> None:
    path = write("a/my clip.avi 0\n\n  \nb.avi\t2\n")
    assert read_path_label(path, ROOT, class_names=NAMES) == [
        VideoItem(ROOT / "a/my clip.avi", 0, "a/my clip.avi"),
        VideoItem(ROOT / "b.avi", 2, "b.avi"),
    ]


def test_path_label_accepts_windows_line_ends_byte_order_mark_and_odd_spaces_in_names(write: Write) -> None:
    path = write(b"\xef\xbb\xbfa.avi 0\r\nb\xe2\x80\xa8c.avi 1\r\n")
    assert [(item.id, item.label) for item in read_path_label(path, ROOT)] == [("a.avi", 0), ("b\u2028c.avi", 1)]


def test_path_label_ids_are_normalised(write: Write) -> None:
    items = read_path_label(write("./a//b.avi 0\n"), "videos")
    assert items == [VideoItem(Path("videos/a/b.avi"), 0, "a/b.avi")]


def test_path_label_without_class_names_has_no_upper_limit(write: Write) -> None:
    assert read_path_label(write("a.avi 999\n"), ROOT)[0].label == 999


@pytest.mark.parametrize(
    ("line", "value", "allowed"),
    [
        ("b.avi", "'b.avi'", "a path, a space and a label"),
        ("b.avi one", "'one'", "0 to 2"),
        ("b.avi 1.0", "'1.0'", "0 to 2"),
        ("b.avi 1_0", "'1_0'", "0 to 2"),
        ("b.avi ²", "'²'", "0 to 2"),
        ("b.avi -1", "-1", "0 to 2"),
        ("b.avi 3", "label 3", "0 to 2"),
        ("/etc/b.avi 0", "'/etc/b.avi'", "relative to /videos"),
        ("a/../../b.avi 0", "'a/../../b.avi'", "stays below"),
        (". 0", "'.'", "relative to /videos"),
        ("a.avi 1", "'a.avi' was listed before, at ", "listed once"),
        ("./a.avi 0", "'a.avi' was listed before, at ", "listed once"),
    ],
)
def test_path_label_refuses_bad_lines(write: Write, line: str, value: str, allowed: str) -> None:
    path = write(f"a.avi 0\n\n{line}\n")
    with pytest.raises(DataError) as error:
        read_path_label(path, ROOT, class_names=NAMES)
    assert message(error).startswith(f"{path}:3: ")
    assert value in message(error)
    assert allowed in message(error)


def test_second_mention_names_the_first(write: Write) -> None:
    path = write("a.avi 0\nb.avi 0\na.avi 0\n")
    with pytest.raises(DataError, match=r"list\.txt:3: 'a\.avi' was listed before, at .*list\.txt:1;"):
        read_path_label(path, ROOT)


def test_a_list_has_to_exist_be_text_and_hold_videos(write: Write, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read the list .*none\.txt: No such file"):
        read_path_label(tmp_path / "none.txt", ROOT)
    with pytest.raises(DataError, match="not UTF-8 text"):
        read_path_label(write(b"a.avi \xff\n"), ROOT)
    with pytest.raises(DataError, match="lists no videos"):
        read_path_label(write("\n \n"), ROOT)


# ---- CSV ----


@pytest.mark.parametrize("header", ["path,label", "label_of,video,label", " Path , LABEL "])
def test_csv_with_labels(write: Write, header: str) -> None:
    row = "x,a/b.avi,1" if header.startswith("label_of") else "a/b.avi,1"
    items = read_csv(write(f"{header}\n{row}\n"), ROOT, class_names=NAMES)
    assert items == [VideoItem(ROOT / "a/b.avi", 1, "a/b.avi")]


@pytest.mark.parametrize("header", ["class", "class_name"])
def test_csv_with_class_names_quotes_and_blank_rows(write: Write, header: str) -> None:
    text = f'\ufeff{header},video,split\r\nbrush hair,"a, b.avi",train\r\n\r\nsword,c.avi,train\r\n'
    items = read_csv(write(text), ROOT, class_names=NAMES)
    assert [(item.id, item.label) for item in items] == [("a, b.avi", 1), ("c.avi", 2)]


@pytest.mark.parametrize(
    ("header", "problem", "columns"),
    [
        ("file,label", "lacks path or video;", "its columns: file, label;"),
        ("path,target", "lacks label or class or class_name;", "its columns: path, target;"),
        ("path,video,label", "has 2 columns where one is allowed, path or video;", "its columns: path, video, label;"),
        ("path,label,class", "has 2 columns where one is allowed, label or class or", "remove one"),
        ("path,path,label", "has 2 columns where one is allowed, path or", "its columns: path, path, label;"),
        ("", "lacks path or video, label or class or class_name;", "its columns: none;"),
    ],
)
def test_csv_refuses_other_headers(write: Write, header: str, problem: str, columns: str) -> None:
    with pytest.raises(DataError) as error:
        read_csv(write(f"{header}\n" if header else ""), ROOT, class_names=NAMES)
    assert "list.txt:1: the header" in message(error)
    assert problem in message(error)
    assert columns in message(error)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("path,label\na.avi,0\nb.avi,3\n", ":3: label 3 is out of range; allowed: 0 to 2"),
        ("path,label\na.avi,kick\n", ":2: label 'kick' is not an integer; allowed: 0 to 2"),
        (
            "path,class\na.avi,sward\n",
            ":2: class 'sward'; allowed: one of the dataset's 3 class names; did you mean 's",
        ),
        ("path,class\na.avi,0\n", ":2: class '0'; allowed: one of the dataset's 3 class names; the first is 'kick'"),
        ("path,label\na, b.avi,0\n", ":2: 3 fields where the header has 2"),
        ("path,label\na.avi\n", ":2: 1 fields where the header has 2"),
        ("path,label\n../a.avi,0\n", ":2: path '../a.avi'"),
        ("path,label\n,0\n", ":2: path ''"),
        ("path,label\na.avi,0\na.avi,0\n", ":3: 'a.avi' was listed before"),
        ('path,label\n"a.avi,0\n', "not valid CSV"),
        ("path,label\n", "lists no videos"),
    ],
)
def test_csv_refuses_bad_rows(write: Write, text: str, expected: str) -> None:
    with pytest.raises(DataError) as error:
        read_csv(write(text), ROOT, class_names=NAMES)
    assert expected in message(error)


def test_csv_refuses_ambiguous_class_names(write: Write) -> None:
    with pytest.raises(DataError, match="'kick' stands for labels 0 and 1"):
        read_csv(write("path,class\na.avi,kick\n"), ROOT, class_names=("kick", "kick"))


# ---- class folders ----


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_class_folders_are_sorted_and_filtered(tmp_path: Path) -> None:
    touch(tmp_path, "walk/10.mp4", "walk/2.AVI", "Run/deep/a.webm", "Run/b.mp4", "Run/notes.txt")
    touch(tmp_path, "README.md", ".cache/x.mp4", "Run/._b.mp4", "Run/.old/c.mp4")
    class_names, items = read_class_folders(tmp_path)
    assert class_names == ("Run", "walk")
    assert items == [
        VideoItem(tmp_path / "Run/b.mp4", 0, "Run/b.mp4"),
        VideoItem(tmp_path / "Run/deep/a.webm", 0, "Run/deep/a.webm"),
        VideoItem(tmp_path / "walk/10.mp4", 1, "walk/10.mp4"),
        VideoItem(tmp_path / "walk/2.AVI", 1, "walk/2.AVI"),
    ]


def test_class_folders_take_other_extensions(tmp_path: Path) -> None:
    touch(tmp_path, "a/x.ogv", "a/y.mp4")
    assert [item.id for item in read_class_folders(tmp_path, extensions=(".OGV",))[1]] == ["a/x.ogv"]


def test_class_folders_refuse_what_would_be_dropped(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a folder"):
        read_class_folders(tmp_path / "none")
    with pytest.raises(DataError, match="has no folders"):
        read_class_folders(tmp_path)
    touch(tmp_path, "a/x.mp4", "b/x.txt")
    with pytest.raises(DataError, match=r"class folder .*b holds no video; allowed extensions: \.avi"):
        read_class_folders(tmp_path)
    touch(tmp_path, "b/x.mp4", "loose.mp4")
    with pytest.raises(DataError, match=r"loose\.mp4 lies in no class folder"):
        read_class_folders(tmp_path)


# ---- UCF-101 ----


def test_ucf_lists_with_and_without_numbers_agree(write: Write) -> None:
    videos = ("ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi", "HandstandPushups/v_HandStandPushups_g08_c01.avi")
    expected = [VideoItem(ROOT / videos[0], 0, videos[0]), VideoItem(ROOT / videos[1], 36, videos[1])]
    train = write(f"{videos[0]} 1\r\n{videos[1]} 37\r\n", "trainlist01.txt")
    test = write(f"{videos[0]}\r\n{videos[1]}\r\n", "testlist01.txt")
    assert read_ucf_list(train, ROOT, OFFICIAL_NAMES) == expected
    assert read_ucf_list(test, ROOT, OFFICIAL_NAMES) == expected


def test_ucf_list_accepts_the_other_folder_spelling(write: Write) -> None:
    path = write("HandStandPushups/v_HandStandPushups_g01_c01.avi\n")
    [item] = read_ucf_list(path, ROOT, OFFICIAL_NAMES)
    assert item.label == OFFICIAL_NAMES.index("HandstandPushups")
    assert item.path == ROOT / "HandStandPushups/v_HandStandPushups_g01_c01.avi"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("v_YoYo_g01_c01.avi 101", "allowed: 'Class/video.avi 1'"),
        ("a/YoYo/v_YoYo_g01_c01.avi", "allowed: 'Class/video.avi 1'"),
        ("YoYo/v_YoYo_g01_c01.avi 101 x", "allowed: 'Class/video.avi 1'"),
        ("Yoyo/v_YoYo_g01_c01.avi 101", "class 'Yoyo'; .* did you mean 'YoYo'"),
        ("YoYo/v_YoYo_g01_c01.avi 100", "class number '100'; allowed: 101 .YoYo., because .* count from 1"),
        ("YoYo/v_YoYo_g01_c01.avi x", "class number 'x'; allowed: 101"),
        ("YoYo/v_Typing_g01_c01.avi 101", "is a video of Typing in the folder of YoYo"),
        ("Archery/x.avi 3", "'Archery/x.avi' was listed before"),
    ],
)
def test_ucf_list_refuses_contradictions(write: Write, line: str, expected: str) -> None:
    path = write(f"Archery/x.avi 3\n{line}\n")
    with pytest.raises(DataError, match=rf"list\.txt:2: .*{expected}"):
        read_ucf_list(path, ROOT, OFFICIAL_NAMES)
