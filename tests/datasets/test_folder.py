import os
import random

import pytest

from vlbench.datasets.folder import FolderVideos
from vlbench.errors import DataError


@pytest.fixture
def root(tmp_path):
    path = tmp_path / "my kitchen"
    path.mkdir()
    return path


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def listed(root, part):
    """Id and class text of every video of a part."""
    data = FolderVideos(root=str(root))
    return [(item.id, data.spec.class_names[item.label]) for item in data.items(part, 1)]


def test_class_folders(root):
    touch(root, "train/stir_soup/a.mp4", "train/Cut/b.mkv", "test/Cut/c.MP4", "test/stir_soup/deep/a.mp4")
    touch(root, "train/stir_soup/notes.txt", "train/.cache/x.mp4")
    data = FolderVideos(root=str(root))
    assert data.label == data.spec.name == "my kitchen"
    assert data.spec.class_names == ("Cut", "stir_soup")
    assert listed(root, "train") == [("train/Cut/b.mkv", "Cut"), ("train/stir_soup/a.mp4", "stir_soup")]
    assert listed(root, "test") == [("test/Cut/c.MP4", "Cut"), ("test/stir_soup/deep/a.mp4", "stir_soup")]
    assert [item.path.is_file() for item in data.videos("train") + data.videos("test")] == [True] * 4
    assert data.videos("validation") == []


def test_classes_txt_gives_order_and_wording(root):
    touch(root, "train/stir_soup/a.mp4", "train/Cut/b.mp4", "train/zest/c.mp4")
    (root / "classes.txt").write_text("zest\nstir_soup\tstir soup\n\nCut\tcut with a knife\n")
    assert FolderVideos(root=str(root)).spec.class_names == ("zest", "stir soup", "cut with a knife")
    assert listed(root, "train") == [
        ("train/Cut/b.mp4", "cut with a knife"),
        ("train/stir_soup/a.mp4", "stir soup"),
        ("train/zest/c.mp4", "zest"),
    ]


def test_lists_of_all_kinds_beside_folders(root):
    touch(root, "clips/a.mp4", "test/cut/c.mp4", "test/stir/d.mp4")
    (root / "train.csv").write_text("path,class\nclips/a.mp4,stir\nclips/gone.mp4,cut\n")
    (root / "validation.txt").write_text("clips/a.mp4 1\n")
    (root / "classes.txt").write_text("stir\ncut\n")
    assert listed(root, "train") == [("clips/a.mp4", "stir"), ("clips/gone.mp4", "cut")]
    assert listed(root, "validation") == [("clips/a.mp4", "cut")]
    assert listed(root, "test") == [("test/cut/c.mp4", "cut"), ("test/stir/d.mp4", "stir")]


def test_a_list_wins_over_the_folder_its_videos_are_in(root):
    touch(root, "train/a.mp4", "train/b.mp4")
    (root / "train.csv").write_text("video, Class_Name \ntrain/a.mp4,stir\ntrain/b.mp4, cut\n")
    assert listed(root, "train") == [("train/a.mp4", "stir"), ("train/b.mp4", "cut")]
    assert FolderVideos(root=str(root)).spec.class_names == ("cut", "stir")


@pytest.mark.parametrize("seed", range(5))
def test_folders_and_lists_of_the_same_videos_agree(tmp_path, seed):
    rng = random.Random(seed)
    names = rng.sample(["a", "B", "c_d", "é", "f g", "10", "9"], 4)
    videos = [(f"{name}/{number}.mp4", name) for name in names for number in range(rng.randint(1, 3))]
    touch(tmp_path, *(f"folders/train/{path}" for path, _ in videos), *(f"lists/train/{path}" for path, _ in videos))
    rng.shuffle(videos)
    text = "path,class\n" + "".join(f"train/{path},{name}\n" for path, name in videos)
    (tmp_path / "lists/train.csv").write_text(text, encoding="utf-8")
    folders, lists = FolderVideos(root=str(tmp_path / "folders")), FolderVideos(root=str(tmp_path / "lists"))
    assert folders.spec.class_names == lists.spec.class_names == tuple(sorted(names))
    assert {(item.id, item.label) for item in folders.videos("train")} == {
        (item.id, item.label) for item in lists.videos("train")
    }


def test_the_name_is_that_of_the_folder_wherever_one_stands(root, monkeypatch):
    touch(root, "test/cut/a.mp4")
    monkeypatch.chdir(root)
    assert FolderVideos(root=os.curdir).label == "my kitchen"


def test_the_same_file_name_in_two_parts_is_two_videos(root):
    touch(root, "train/cut/a.mp4", "test/cut/a.mp4")
    assert listed(root, "train") != listed(root, "test")


@pytest.mark.parametrize("name", ["train.txt", "train.csv"])
def test_a_list_with_labels_needs_the_names(root, name):
    (root / name).write_text("path,label\na.mp4,0\n" if name.endswith("csv") else "a.mp4 0\n")
    with pytest.raises(DataError, match=rf"{name} has labels and no class names.*classes\.txt"):
        FolderVideos(root=str(root)).videos("train")


def test_parts_with_other_classes_are_refused(root):
    touch(root, "train/cut/a.mp4", "train/stir/a.mp4", "test/cut/b.mp4", "test/Stir/b.mp4")
    with pytest.raises(DataError, match=r"other classes than .*train, in one of them only: Stir, stir;.*classes\.txt"):
        FolderVideos(root=str(root)).videos("test")


def test_a_folder_that_is_no_class_is_refused(root):
    touch(root, "train/cut/a.mp4", "train/stir/a.mp4")
    (root / "classes.txt").write_text("cut\n")
    with pytest.raises(DataError, match=r"the folders stir are none of the 1 classes of .*classes\.txt"):
        FolderVideos(root=str(root)).videos("train")


def test_a_class_without_videos_is_allowed_where_it_is_stated(root):
    touch(root, "train/cut/a.mp4")
    (root / "classes.txt").write_text("stir\ncut\n")
    assert FolderVideos(root=str(root)).videos("train")[0].label == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "0 lines give 0 classes"),
        ("cut\ncut\n", "2 lines give 1 classes"),
        ("cut\tstir\nstir\n", "2 lines give 1 classes"),
        ("cut\n\tstir\n", "2 lines give 2 classes; allowed: .* its name"),
    ],
)
def test_doubtful_classes_are_refused(root, text, message):
    touch(root, "train/cut/a.mp4")
    (root / "classes.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        FolderVideos(root=str(root)).videos("train")


@pytest.mark.parametrize("exists", [True, False])
def test_a_folder_without_parts_says_what_is_allowed(root, exists):
    where = root if exists else root / "none"
    with pytest.raises(DataError, match=r"my kitchen.* has no videos for FolderVideos; allowed: train.*data\.root"):
        FolderVideos(root=str(where)).videos("test")
