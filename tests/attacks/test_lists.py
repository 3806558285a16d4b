"""Lists and descriptions of any bytes: each is read, or is an error that a user can mend."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.official import DIVES, charades, diving48, moments
from vlbench.datasets.activitynet import ActivityNet
from vlbench.datasets.charades import Charades
from vlbench.datasets.descriptions import read_descriptions
from vlbench.datasets.diving48 import Diving48
from vlbench.datasets.folder import FolderVideos
from vlbench.datasets.hmdb51 import _class_items
from vlbench.datasets.jester import Jester
from vlbench.datasets.kinetics import Kinetics400, Kinetics700
from vlbench.datasets.lists.annotations import read_csv, read_path_label
from vlbench.datasets.lists.heldout import hold_out
from vlbench.datasets.lists.index import FileIndex
from vlbench.datasets.lists.published import PublishedLists
from vlbench.datasets.lists.splits import draw_shots
from vlbench.datasets.moments import MomentsInTime
from vlbench.datasets.something import SomethingSomethingV2
from vlbench.datasets.specs import Subset
from vlbench.datasets.ucf101 import OFFICIAL_NAMES, read_ucf_list
from vlbench.errors import VlbenchError
from vlbench.tools.describe import _answers, _parse, _Settings
from vlbench.tools.doctor import check_lists
from vlbench.tools.prepare import _done

pytestmark = pytest.mark.usefixtures("own_cache")

CASES = [pytest.param(200, id="200"), pytest.param(10_000, id="10000", marks=pytest.mark.soak)]
CLASSES = ("walk", "run", "jump")
SENTENCES = [["A person walks.", "Walking."], ["A person runs.", "Running."], ["A person jumps.", "Jumping."]]
SETTINGS = _Settings("http://localhost/v1", "model", None, 2, "{action}", list(CLASSES))


class Reader(NamedTuple):
    """A reader, the path of what it reads below a folder, and a valid content of that file."""

    name: str
    valid: bytes
    read: Callable[[Path], object]
    prepare: Callable[[Path], object] = lambda folder: None


def folder_videos(folder: Path) -> object:
    dataset = FolderVideos(str(folder))
    return dataset.videos("train"), dataset.label


def drawn(folder: Path) -> object:
    items = read_path_label(folder / "list.txt", folder, class_names=CLASSES)
    return draw_shots(items, 1, 0), hold_out(items, 0.5, 0, CLASSES)


def hmdb(folder: Path) -> object:
    return list(_class_items(folder / "brush_hair_test_split1.txt", folder, 0, "test"))


HMDB_LIST = "".join(f"video{k}.avi {1 if k < 70 else 2} \n" for k in range(100)).encode()


def published(folder: Path) -> object:
    spec = Kinetics400().spec
    lists = PublishedLists(folder, spec)
    path = lists.find("test", Subset())
    assert path is not None
    return lists.read(path, "test", Subset())


def answers(folder: Path) -> object:
    with _answers(folder, SETTINGS) as (_, read):
        return read


def parsed(folder: Path) -> object:
    try:
        return _parse((folder / "answer.txt").read_text(errors="replace"), 2)
    except ValueError:
        return None


def indexed(folder: Path) -> object:
    index = FileIndex(folder)
    return list(index.named(folder, (".mp4",))), index.get(folder / "a.mp4", "fact")


def answer(label: int) -> dict[str, object]:
    spatial, temporal = ([f"{kind} {side} {label}" for side in "ab"] for kind in ("frame", "motion"))
    return {"label": label, "class": CLASSES[label], "spatial": spatial, "temporal": temporal}


def as_lines(*values: object) -> bytes:
    return "".join(f"{json.dumps(value)}\n" for value in values).encode()


def make(*names: str) -> Callable[[Path], None]:
    def make_folders(folder: Path) -> None:
        for name in names:
            (folder / name).mkdir(parents=True)

    return make_folders


SEGMENT = {"segment": [0.5, 3], "label": "Archery"}
ACTIVITYNET = {"database": {"abc": {"subset": "validation", "annotations": [SEGMENT, SEGMENT]}}}
SOMETHING = [{"id": "1", "template": "Holding [something]"}, {"id": "2", "template": "Holding [something]"}]
KINETICS = b"label,youtube_id,time_start,time_end,split\nabseiling,abc,1,11,val\nyoga,def,0,10,val\n"

KINETICS700 = "label,youtube_id,time_start,time_end,split\n" + "".join(f"act {k},v{k},0,10,val\n" for k in range(700))
MOMENTS = "".join(f"acting{k},{k}\n" for k in range(305))

READERS: dict[str, Reader] = {
    "path_label": Reader("list.txt", b"a/b.mp4 0\nc d.mp4 0\n", drawn),
    "csv": Reader(
        "list.csv",
        b'path,class,note\n"a,b.mp4",walk,x\nc.mp4,jump,\n',
        lambda folder: read_csv(folder / "list.csv", folder, class_names=CLASSES),
    ),
    "folder_csv": Reader("train.csv", b"path,class\na.mp4,walk\nb.mp4,run\n", folder_videos),
    "folder_txt": Reader(
        "train.txt",
        b"a.mp4 0\nb.mp4 1\n",
        folder_videos,
        lambda folder: (folder / "classes.txt").write_text("walk\nrun\n"),
    ),
    "folder_classes": Reader(
        "classes.txt", b"walk\ta walk\nrun\n", folder_videos, lambda folder: (folder / "train.txt").write_text("a 0\n")
    ),
    "kinetics": Reader(
        "annotations/val.csv", KINETICS, lambda folder: Kinetics400(str(folder)).videos("test"), make("val")
    ),
    "something": Reader(
        "something-something-v2-validation.json",
        as_lines(SOMETHING),
        lambda folder: SomethingSomethingV2(str(folder)).videos("test"),
        make("20bn-something-something-v2"),
    ),
    "activitynet": Reader(
        "activity_net.v1-3.min.json",
        as_lines(ACTIVITYNET),
        lambda folder: ActivityNet(str(folder)).videos("test"),
        make("videos"),
    ),
    "kinetics700": Reader(
        "annotations/val.csv",
        KINETICS700.encode(),
        lambda folder: Kinetics700(str(folder)).videos("test"),
        make("val"),
    ),
    "moments": Reader(
        "moments_categories.txt",
        "".join(f"acting{k},{k}\n" for k in range(305)).encode(),
        lambda folder: MomentsInTime(str(folder)).spec,
    ),
    "moments_list": Reader(
        "validationSet.csv",
        b"acting3/a.mp4,acting3,3,0\nacting0/b.mp4,acting0,1,1\n",
        lambda folder: MomentsInTime(str(folder)).videos("test"),
        lambda folder: (moments(folder, made=False), (folder / "moments_categories.txt").write_text(MOMENTS)),
    ),
    "diving48": Reader("Diving48_vocab.json", as_lines(DIVES), lambda folder: Diving48(str(folder)).spec),
    "diving48_list": Reader(
        "Diving48_V2_test.json",
        as_lines([{"vid_name": "a", "label": 3, "start_frame": 0, "end_frame": 9}]),
        lambda folder: Diving48(str(folder)).videos("test"),
        lambda folder: diving48(folder, made=False),
    ),
    "jester": Reader(
        "jester-v1-validation.csv",
        b"12;Thumb Up\n3;No gesture\n",
        lambda folder: Jester(str(folder)).videos("test"),
        make("20bn-jester-v1"),
    ),
    "charades": Reader(
        "Charades_v1_test.csv",
        b'id,script,actions\nAB12C,"A, b.",c001 0.5 3;c156 1 2\nXX,,\n',
        lambda folder: Charades(str(folder)).videos("test"),
        lambda folder: (charades(folder, made=False), (folder / "Charades/Charades_v1_test.csv").unlink()),
    ),
    "charades_classes": Reader(
        "Charades_v1_classes.txt",
        "".join(f"c{k:03} Doing {k}\n" for k in range(157)).encode(),
        lambda folder: Charades(str(folder)).spec,
    ),
    "class_list": Reader(
        "classes.csv",
        b"id,name\n0,Thumb Up\n1,No gesture\n",
        lambda folder: Jester(class_list=str(folder / "classes.csv")).test_classes,
    ),
    "hmdb51": Reader("brush_hair_test_split1.txt", HMDB_LIST, hmdb),
    "ucf101": Reader(
        "testlist01.txt",
        b"Archery/v_Archery_g01_c01.avi\nYoYo/v_YoYo_g01_c01.avi\n",
        lambda folder: read_ucf_list(folder / "testlist01.txt", folder, OFFICIAL_NAMES),
    ),
    "published": Reader("k400_splits/val.txt", b"abseiling/a.mp4 0\nyoga/b.mp4 399\n", published),
    "descriptions": Reader(
        "spatial.json",
        json.dumps({str(label): sentences for label, sentences in enumerate(SENTENCES)}).encode(),
        lambda folder: read_descriptions(folder, CLASSES),
        lambda folder: (folder / "temporal.json").write_text(json.dumps(dict(enumerate(SENTENCES)))),
    ),
    "answers": Reader(
        "answers.jsonl", as_lines({"settings": vars(SETTINGS), "begun": "now"}, *map(answer, range(3))), answers
    ),
    "answer": Reader("answer.txt", b"Sure: ```" + as_lines(answer(0)) + b"```", parsed),
    "labels": Reader(
        "labels.csv",
        b"id,name\n0,walk\n1,run\n",
        lambda folder: check_lists([folder / "val.txt"], folder / "labels.csv"),
        lambda folder: (folder / "val.txt").write_text("a 0\nb 1\n"),
    ),
    "prepared": Reader(
        "prepared.jsonl",
        as_lines({"video": "a.mp4", "stamp": [1, 2], "resize": 32}),
        lambda folder: _done(folder / "prepared.jsonl"),
    ),
}

SIGNS = (b"\n", b"\r", b"\0", b"\xff", b'"', b"\xe2\x80\xa8", b"\xef\xbb\xbf", b"\\ud800", b" ", b",", b"/", b"../")
VALUES = (b"null", b"5", b"-1", b"true", b"NaN", b"1e999", b"9" * 5000, b"{}", b"[]", b"[" * 100_000, b'{"a":' * 20_000)
DAMAGE = st.binary(max_size=8) | st.sampled_from(SIGNS + VALUES)


@st.composite
def mutated(draw: st.DrawFn, valid: bytes) -> bytes:
    """A valid content with some parts replaced, or anything."""
    if draw(st.integers(0, 4)) == 0:
        return draw(st.binary(max_size=200))
    content = valid
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        stop = draw(st.integers(start, min(len(content), start + 30)))
        content = content[:start] + draw(DAMAGE) + content[stop:]
    return content


@pytest.mark.parametrize("cases", CASES)
@pytest.mark.parametrize("name", READERS)
def test_any_bytes_are_read_or_refused(name: str, cases: int, tmp_path: Path) -> None:
    reader = READERS[name]
    reader.prepare(tmp_path)
    path = tmp_path / reader.name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(reader.valid)
    reader.read(tmp_path)

    @settings(max_examples=cases, database=None)
    @given(mutated(reader.valid))
    def attack(content: bytes) -> None:
        path.write_bytes(content)
        with suppress(VlbenchError):
            reader.read(tmp_path)

    attack()


@pytest.mark.parametrize("cases", CASES)
def test_a_damaged_index_is_made_anew(cases: int, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    index = FileIndex(tmp_path)
    valid = json.dumps(
        {
            "version": 2,
            "root": str(tmp_path),
            "files": {"a.mp4": {"stamp": [0, 1], "fact": 1}},
            "folders": {".": {"changed": [0, 1], "files": [], "folders": []}},
        }
    ).encode()
    index.file.parent.mkdir(parents=True, exist_ok=True)

    @settings(max_examples=cases, database=None)
    @given(mutated(valid))
    def attack(content: bytes) -> None:
        index.file.write_bytes(content)
        assert indexed(tmp_path)[0] == ["a.mp4"]  # type: ignore[index]

    attack()
