"""Middle frames of videos that ids name."""

import numpy as np
import pytest
import torch
from torchvision.io import decode_jpeg

from tests.fakes import write_video
from vlbench.errors import DataError
from vlbench.tools.strips import middle_frames


def grey_frames(*levels):
    """Frames of one grey each."""
    greys = np.array(levels, np.uint8)[:, None, None, None]
    return np.ascontiguousarray(np.broadcast_to(greys, (len(levels), 36, 48, 3)))


def test_ids_name_files_below_the_folder_and_pictures_are_their_middle_frames(tmp_path):
    root = tmp_path / "videos"
    for name in ("test/jump/a.mp4", "test/run/b.avi", "train/c.mp4", "test/c.mp4", "d.mp4", "one/e.mp4", "two/e.mp4",
                 "sub/f.avi", "sub/f.mp4"):  # fmt: skip
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path.with_suffix(".mp4"), grey_frames(0, 60, 120, 180, 240)).rename(path)
    (root / "broken.mp4").write_text("no video")
    write_video(tmp_path / "outside.mp4", grey_frames(1, 2, 3))
    ids = {
        "jump/a.mp4": True,  # the path below the folder ends with it
        "run/b": True,  # without the extension
        "test/c.mp4": True,  # one of two is the very path
        "b_gone/d": True,  # only the name is the same
        "f.avi": True,  # of two names with one stem that one
        "e.mp4": "2 files of this name",
        "sub/f": "2 files of this name",
        "../outside.mp4": "no files of this name",
        str(tmp_path / "outside.mp4"): "no files of this name",
        "gone\udcff.mp4": "no files of this name",
        "": "no files of this name",
        "broken.mp4": "",
    }
    pictures = middle_frames(ids, root, height=30)
    assert pictures.keys() == ids.keys()
    for video, expected in ids.items():
        if expected is True:
            picture = decode_jpeg(torch.from_numpy(np.frombuffer(pictures[video], np.uint8).copy()))
            assert picture.shape == (3, 30, 40)
            assert abs(picture.float().mean().item() - 120) < 12
        else:
            assert isinstance(pictures[video], str)
            assert pictures[video].startswith(expected)
            assert pictures[video]


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(DataError, match="nowhere is no folder; give the folder that holds the videos"):
        middle_frames([], tmp_path / "nowhere")
