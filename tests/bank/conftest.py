"""Small sets of videos and banks of them, made once."""

import pytest
import yaml

from tests.fakes import moving_frames, write_video
from vlbench.cli.main import main

CLASSES = ("cut", "pour", "stir")
UCF = ("ApplyEyeMakeup", "Archery", "Basketball", "WritingOnBoard")


def write_kitchen(root, train=5, test=3):
    """Three classes of videos that pan over different pictures; one test video is no video."""
    seed = 0
    for part, count in (("train", train), ("test", test)):
        for name in CLASSES:
            for index in range(count):
                path = root / part / name / f"{index}.mp4"
                path.parent.mkdir(parents=True, exist_ok=True)
                write_video(path, moving_frames(10, seed=seed))
                seed += 1
    (root / "test" / "stir" / "0.mp4").write_bytes(b"no video")
    return root


def write_ucf(root):
    """Four classes of UCF-101 in its layout."""
    lists = {"train": [], "test": []}
    for label, name in enumerate(UCF):
        for group in range(1, 8):
            part = "train" if group < 5 else "test"
            video = f"{name}/v_{name}_g{group:02}_c01.avi"
            path = root / "UCF-101" / video
            path.parent.mkdir(parents=True, exist_ok=True)
            write_video(path, moving_frames(12, seed=10 * label + group), codec="mpeg4")
            lists[part].append(video)
    (root / "ucfTrainTestlist").mkdir()
    for part, videos in lists.items():
        (root / "ucfTrainTestlist" / f"{part}list01.txt").write_text("".join(f"{video}\n" for video in videos))
    return root


def write_config(path, kind, root, **options):
    """A configuration of a DataModule whose videos lie in a folder."""
    init = {"root": str(root), "frames": 4, "batch_size": 4, "num_workers": 0, **options}
    path.write_text(yaml.safe_dump({"data": {"class_path": kind, "init_args": init}}))
    return str(path)


def made(out, config, *options):
    """The folder of the bank that a command makes."""
    words = ["features", "--config", config, "--config", "backbone/tiny.yaml", "--out", str(out), *options]
    assert main(words) == 0
    (folder,) = out.iterdir()
    return folder


@pytest.fixture(scope="session")
def kitchen(tmp_path_factory):
    return write_kitchen(tmp_path_factory.mktemp("kitchen") / "kitchen")


@pytest.fixture(scope="session")
def kitchen_config(kitchen, tmp_path_factory):
    return write_config(tmp_path_factory.mktemp("configs") / "kitchen.yaml", "FolderVideosDataModule", kitchen)


@pytest.fixture(scope="session")
def kitchen_bank(kitchen_config, tmp_path_factory):
    """A bank of the kitchen in float32 with two augmented passes; not to be changed."""
    return made(tmp_path_factory.mktemp("banks"), kitchen_config, "--dtype", "float32", "--augmented", "2")
