"""Small copies of datasets as their official archives unpack: lists of a few videos, and all of their classes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from tests.fakes import moving_frames, write_video
from vlbench.datasets.jester import GESTURES

ACTIONS = tuple(f"doing thing {k:03}" for k in range(700))
"""Stand-ins for the classes of Kinetics-700, in alphabetical order."""

DIVES = tuple(["Back" if k % 2 else "Inward", f"{k:02}som", "NoTwis", "PIKE"] for k in range(48))
"""Stand-ins for the vocabulary of Diving48."""

EVENTS = ("adult+female+singing", *(f"eventing{k:03}" for k in range(338)))
"""Stand-ins for the classes of Moments in Time, the first edition's, in the order of their numbers."""

KINETICS_HEADER = "label,youtube_id,time_start,time_end,split\n"


def put(root: Path, *names: str, made: bool = True) -> None:
    """Videos that differ from each other, or empty files."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if made:
            write_video(path, moving_frames(10, 32, 32, seed=sum(map(ord, name))))
        else:
            path.touch()


def text(root: Path, name: str, content: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def kinetics700(root: Path, *, made: bool = True) -> None:
    """Kinetics-700: two training and two test videos, of which one is not there; clips of every class are listed."""
    train = "".join(f"doing thing {k:03},train{k:06},5,15,train\n" for k in (0, 699))
    test = "".join(f"{name},clip{k:07},0,10,validate\n" for k, name in enumerate(reversed(ACTIONS)))
    text(root, "annotations/train.csv", KINETICS_HEADER + train)
    text(root, "annotations/val.csv", KINETICS_HEADER + test)
    put(root, "train/train000000_000005_000015.mp4", "train/doing thing 699/train000699.mp4", made=made)
    put(root, "val/clip0000000_000000_000010.mp4", made=made)


def moments(root: Path, *, made: bool = True, classes: int = 305) -> None:
    """Moments in Time: two training and three test videos, of which one is not there."""
    numbered = [f"{name},{label}\n" for label, name in enumerate(EVENTS[:classes])]
    text(root, "moments_categories.txt", "".join(reversed(numbered)))
    text(
        root,
        "trainingSet.csv",
        "adult+female+singing/yt-a_1.mp4,adult+female+singing,3,0\neventing000/b.mp4,eventing000,3,1\n",
    )
    text(root, "validationSet.csv", "".join(f"eventing00{k}/c.mp4,eventing00{k},5,0\n" for k in (2, 0, 1)))
    put(root, "training/adult+female+singing/yt-a_1.mp4", "training/eventing000/b.mp4", made=made)
    put(root, "validation/eventing002/c.mp4", "validation/eventing000/c.mp4", made=made)


def diving48(root: Path, *, made: bool = True) -> None:
    """Diving48: two training and two test videos, with the lists of both editions, of which the first has two less."""
    text(root, "Diving48_vocab.json", json.dumps(DIVES))
    for part, entries in {"train": [("a_00001", 47), ("b_00002", 0)], "test": [("c_00003", 7), ("d_00004", 8)]}.items():
        listed = [{"vid_name": name, "label": label, "start_frame": 0, "end_frame": 9} for name, label in entries]
        text(root, f"Diving48_V2_{part}.json", json.dumps(listed))
        text(root, f"Diving48_{part}.json", json.dumps([{**entry, "label": 1} for entry in listed[:1]]))
        put(root, *(f"rgb/{name}.mp4" for name, _ in entries), made=made)


def jester(root: Path, *, made: bool = True) -> None:
    """Jester: two training and two test videos; videos if they are to be made, folders of frames otherwise."""
    text(root, "jester-v1-labels.csv", "".join(f"{name}\n" for name in GESTURES))
    text(root, "jester-v1-train.csv", "34870;Drumming Fingers\n56557;Sliding Two Fingers Right\n")
    text(root, "jester-v1-validation.csv", "9223;Thumb Up\n107090;Doing other things\n")
    for video in ("34870", "56557", "9223", "107090"):
        put(root, f"videos/{video}.webm" if made else f"20bn-jester-v1/{video}/00001.jpg", made=False)
    if made:
        for path in (root / "videos").iterdir():
            path.unlink()
            put(path.parent, f"{path.stem}.mp4")


def breakfast(root: Path, *, made: bool = True) -> None:
    """Breakfast: two activities of a person of each split, one of them by a stereo camera, with labels beside it."""
    for person in ("P03", "P28", "P29", "P54"):
        folder = root / "BreakfastII_15fps_qvga_sync" / person
        put(folder, f"cam01/{person}_friedegg.avi", f"stereo/{person}_salat_ch0.avi", made=made)
        shutil.copyfile(folder / f"stereo/{person}_salat_ch0.avi", folder / f"stereo/{person}_salat_ch1.avi")
        text(folder, f"cam01/{person}_friedegg.avi.labels", "1-9 SIL\n")


def charades(root: Path, *, made: bool = True) -> None:
    """Charades: two training and four test videos, of which one has no action and one is not there."""
    text(root, "Charades/Charades_v1_classes.txt", "".join(f"c{k:03} Doing deed {k:03}\n" for k in range(157)))
    header = "id,subject,scene,quality,relevance,verified,script,objects,descriptions,actions,length\n"

    def row(video: str, actions: str) -> str:
        return f'{video},S1,Kitchen,6,7,Yes,"A person, at home.",bag;cup,"Eats, then sits.",{actions},24.83\n'

    train = row("46GP8", "c092 11.90 21.20;c147 0.00 12.60") + row("N11GT", "c098 8.60 14.20")
    test = row("YSKX3", "c156 0.00 9.00;c001 2.00 4.50;c001 6 8") + row("EDNNV", "") + row("5W5B7", "c001 0.00 3.00")
    text(root, "Charades/Charades_v1_train.csv", header + train)
    text(root, "Charades/Charades_v1_test.csv", header + test + row("GONE0", "c156 1.00 2.00;c000 1.00 2.00"))
    put(root, *(f"Charades_v1_480/{video}.mp4" for video in ("46GP8", "N11GT", "YSKX3", "EDNNV", "5W5B7")), made=made)


OFFICIAL: dict[str, Callable[..., None]] = {
    "kinetics700": kinetics700,
    "moments": moments,
    "diving48": diving48,
    "jester": jester,
    "breakfast": breakfast,
    "charades": charades,
}
"""What writes a small copy, by the folder of the dataset, which its configuration is called after too."""
