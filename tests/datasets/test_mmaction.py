"""mmaction2's lists of HMDB-51, UCF-101 and Something-Something V2, read where its tools leave them."""

import json
import re

import pytest

from tests.fakes import colored_frames, dump_frames, indices_from_pixels, write_video
from vlbench.clips.datamodules import HMDB51DataModule
from vlbench.clips.options import LoadingOptions
from vlbench.datasets import HMDB51, UCF101, SomethingSomethingV2
from vlbench.datasets.hmdb51 import CLASS_FOLDERS
from vlbench.datasets.lists.splits import draw_shots
from vlbench.datasets.specs import Subset
from vlbench.datasets.ucf101_names import OFFICIAL_NAMES
from vlbench.errors import DataError
from vlbench.tools.doctor import check

pytestmark = [pytest.mark.quick, pytest.mark.usefixtures("own_cache")]

ARCHERY, KICK = OFFICIAL_NAMES.index("Archery"), CLASS_FOLDERS.index("kick")
UCF = f"Archery/v_Archery_g0{{}}_c01 {{}} {ARCHERY}"


@pytest.fixture(autouse=True)
def folders(tmp_path):
    (tmp_path / "rawframes").mkdir()
    (tmp_path / "videos").mkdir()


def write(root, name, *lines):
    path = root / f"{name}.txt"
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def frames(kind, root, **options):
    return kind(root=str(root), stored="frames", **options)


def test_frames_are_counted_and_have_the_official_ids(tmp_path):
    write(tmp_path, "ucf101_train_split_2_rawframes", UCF.format(1, 30), UCF.format(2, 9))
    write(tmp_path, "ucf101_val_split_2_rawframes", f"HandstandPushups/v_HandStandPushups_g01_c01 7 {36}")
    (tmp_path / "rawframes/Archery/v_Archery_g01_c01").mkdir(parents=True)
    data = frames(UCF101, tmp_path, train=Subset(split=2), test=Subset(split=2))
    assert [(item.id, item.frames, item.label) for item in data.videos("train")] == [
        ("Archery/v_Archery_g01_c01.avi", 30, ARCHERY),
        ("Archery/v_Archery_g02_c01.avi", 9, ARCHERY),
    ]
    assert [item.path for item in data.videos("train")] == [
        tmp_path / "rawframes/Archery/v_Archery_g01_c01",
        tmp_path / "rawframes/Archery/v_Archery_g02_c01",
    ]
    assert [item.id for item in data.videos("test")] == ["HandstandPushups/v_HandStandPushups_g01_c01.avi"]
    assert data.list_name("train") == "mmaction2/split 2"


def test_few_shot_draws_are_those_of_the_official_list_and_say_whose_list_they_are_of(tmp_path):
    names = [f"Archery/v_Archery_g{k:02}_c01" for k in range(1, 9)]
    write(tmp_path, "ucf101_train_split_1_rawframes", *(f"{name} 30 {ARCHERY}" for name in names))
    official = tmp_path / "ucfTrainTestlist"
    official.mkdir()
    write(official, "trainlist01", *(f"{name}.avi {ARCHERY + 1}" for name in names))
    lists = [kind.items("train", 1) for kind in (frames(UCF101, tmp_path), UCF101(root=str(tmp_path)))]
    drawn = [[item.id for item in draw_shots(items, 4, seed=3)] for items in lists]
    assert drawn[0] == drawn[1]

    class Archers(UCF101):
        def _labels(self, part, subset):
            return (ARCHERY,)

    data = frames(Archers, tmp_path, train=Subset(shots=4, seed=3))
    assert [item.id for item in data.videos("train")] == drawn[0]
    assert data.list_name("train") == "own of mmaction2/4-shot seed 3"


def test_lists_of_videos_count_where_there_is_no_official_list(tmp_path):
    write(tmp_path, "hmdb51_train_split_1_videos", f"kick/a_kick_f_cm_np1_fr_med_0.avi {KICK}")
    write(tmp_path, "hmdb51_val_split_1_videos", f"kick/odd name (1).avi {KICK}")
    data = HMDB51(root=str(tmp_path))
    assert [(item.id, item.path, item.frames) for item in data.videos("test")] == [
        ("kick/odd name (1).avi", tmp_path / "videos/kick/odd name (1).avi", None)
    ]
    assert data.list_name("test") == "mmaction2/split 1"
    (tmp_path / "testTrainMulti_7030_splits").mkdir()
    assert HMDB51(root=str(tmp_path)).lineage("test", 1) == "official"


def test_something_something_has_no_class_folders(tmp_path):
    write(tmp_path, "sthv2_train_list_rawframes", "78687 40 3", "42326 35 173")
    write(tmp_path, "sthv2_val_list_videos", "74225.webm 0")
    train = frames(SomethingSomethingV2, tmp_path).videos("train")
    assert [(item.id, item.label, item.frames) for item in train] == [("78687", 3, 40), ("42326", 173, 35)]
    (test,) = SomethingSomethingV2(root=str(tmp_path)).videos("test")
    assert (test.id, test.label, test.path) == ("74225", 0, tmp_path / "videos/74225.webm")


def test_official_lists_are_read_for_frames_without_a_list_of_mmaction(tmp_path):
    entries = [{"id": "7", "template": "Holding [something]"}]
    (tmp_path / "something-something-v2-train.json").write_text(json.dumps(entries))
    (tmp_path / "rawframes/7").mkdir()
    data = frames(SomethingSomethingV2, tmp_path)
    assert [(item.id, item.path, item.frames) for item in data.videos("train")] == [
        ("7", tmp_path / "rawframes/7", None)
    ]
    assert data.list_name("train") == "official/split 1"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"Archery/v_Archery_g01_c01 {ARCHERY}", r"'folder frames label', such as"),
        (f"Archery/v_Archery_g01_c01 x {ARCHERY}", r"allowed: 'folder frames label'"),
        (f"Archery/v_Archery_g01_c01 {'9' * 5000} {ARCHERY}", r"allowed: 'folder frames label'"),
        (f"Archery/v_Archery_g01_c01 -3 {ARCHERY}", r"allowed: 'folder frames label'"),
        ("Archery/v_Archery_g01_c01 30 101", "label 101 is out of range; allowed: 0 to 100"),
        (
            "Archery/v_Archery_g01_c01 30 3",
            r"has label 3, 'Baby Crawling', and its name or folder says 2, 'Archery'; the",
        ),
        ("Archery/clip 30 3", r"has label 3, 'Baby Crawling', and its name or folder says 2"),
        ("v_Archery_g01_c01 30 3", r"has label 3, 'Baby Crawling', and its name or folder says 2"),
        ("Archers/clip 30 2", r"class 'Archers'; allowed: .* did you mean 'Archery'"),
        (f"../v_Archery_g01_c01 30 {ARCHERY}", r"class '\.\.'; allowed"),
        (UCF.format(2, 30), r"'Archery/v_Archery_g02_c01\.avi' was listed before, at .*:1"),
    ],
)
def test_a_doubtful_line_is_refused_in_one_sentence(tmp_path, line, message):
    path = write(tmp_path, "ucf101_train_split_1_rawframes", UCF.format(2, 9), line)
    with pytest.raises(DataError, match=message) as error:
        frames(UCF101, tmp_path).videos("train")
    assert re.match(rf"{re.escape(str(path))}:2: ", str(error.value))
    assert "\n" not in str(error.value)


def test_missing_frames_are_the_one_message(tmp_path):
    write(tmp_path, "ucf101_train_split_1_rawframes", UCF.format(1, 30))
    (tmp_path / "rawframes").rmdir()
    (tmp_path / "videos").rmdir()
    with pytest.raises(DataError, match=r"rawframes does not exist(.|\n)*UCF101\.rar"):
        frames(UCF101, tmp_path).videos("train")


def test_a_folder_with_other_frames_than_its_list_says_is_an_error_in_clips_and_in_the_doctor(tmp_path):
    video = write_video(tmp_path / "v.mp4", colored_frames(12))
    for name in ("whole", "short"):
        dump_frames(video, tmp_path / "rawframes/kick" / name, "img_{:05}.jpg")
        for flow in ("flow_x_00001.jpg", "flow_y_00001.jpg"):  # as mmaction2's tools leave them
            (tmp_path / "rawframes/kick" / name / flow).write_bytes(b"")
    (tmp_path / "rawframes/kick/short/img_00012.jpg").unlink()
    lines = [f"kick/{name} 12 {KICK}" for name in ("whole", "short")]
    for part in ("train", "val"):
        write(tmp_path, f"hmdb51_{part}_split_1_rawframes", *lines)
    loading = LoadingOptions(backend="rawframes")
    data = HMDB51DataModule(root=str(tmp_path), frames=3, image_size=32, num_workers=0, loading=loading)
    whole, short = data.test_views(data.dataset.videos("test"))
    assert indices_from_pixels(whole.video[0]) == [0, 4, 8]
    assert short.failure == "it has 11 frames, and its list says 12"
    report = check(data.dataset, decode=True, workers=0, progress=False)
    found = {
        (finding.code, finding.where, finding.text) for finding in report.findings if finding.code == "frame_count"
    }
    text = "it has 11 frames, and its list says 12; extract its frames again, or make the list anew"
    assert found == {("frame_count", "kick/short.avi", text)}
