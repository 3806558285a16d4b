"""Attacks by what a video file is or is called: none ends, bends or silently shrinks an evaluation."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import av
import pytest
import torch
from av.stream import Disposition

from tests.attacks.files import (
    edited,
    no_regular_files,
    of_external_data,
    of_streams,
    of_two_sizes,
    playlists,
    without_keyframe,
)
from tests.fakes import FakeDataset, colored_frames, indices_from_pixels, write_video
from vlbench import regular_files
from vlbench.cli.main import main
from vlbench.clips import readers
from vlbench.clips.datamodule import VideoDataModule
from vlbench.clips.datamodules import FolderVideosDataModule
from vlbench.clips.decoding import Backend, open_video
from vlbench.clips.options import LoadingOptions
from vlbench.datasets.folder import FolderVideos
from vlbench.datasets.lists.annotations import read_csv
from vlbench.errors import ConfigError, DataError, DecodeError
from vlbench.names import quoted
from vlbench.regular_files import NotRegularError, open_regular
from vlbench.results.stored import StoredEvaluation
from vlbench.tools.doctor import check_folder
from vlbench.tools.doctor.probe import probe
from vlbench.tools.prepare import prepare, subset

# What hangs is a failure, and soon.
pytestmark = [pytest.mark.timeout(60), pytest.mark.usefixtures("own_cache")]


class ListedDataModule(VideoDataModule):
    dataset_class = FakeDataset


def listed(root: Path, names: Sequence[str], *, part: str = "test", **options: Any) -> VideoDataModule:
    (root / f"{part}.txt").write_text("".join(f"{name} 1\n" for name in names))
    options = {"num_workers": 0, "image_size": 32, "batch_size": 2, **options}
    return ListedDataModule(root=str(root), **options)


def evaluated(data: VideoDataModule) -> tuple[list[str], dict[str, str]]:
    """Ids of the test videos that are read, and the causes of the others."""
    data.setup("test")
    batches = list(data.test_dataloader())
    failures = {name: cause for batch in batches for name, (_, cause) in batch.failures.items()}
    return sorted(name for batch in batches for name in batch.ids), failures


# -- what is in a file ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_a_video_without_a_frame_or_of_two_sizes_costs_no_other(tmp_path: Path, backend: Backend, workers: int) -> None:
    for name in ("without.mp4", "without.mkv"):
        without_keyframe(tmp_path / name)
    for name in ("mixed.mp4", "mixed.mkv"):
        of_two_sizes(tmp_path / name)
    names = ["good.mp4", *(path.name for path in tmp_path.iterdir())]
    write_video(tmp_path / "good.mp4", 12)
    loading = LoadingOptions(backend=backend)
    read, failures = evaluated(listed(tmp_path, names, loading=loading, num_workers=workers))
    assert read == ["good.mp4"]
    assert failures.keys() == {*names} - {"good.mp4"}
    assert all("no frame" in failures[name] for name in ("without.mp4", "without.mkv"))
    assert all("differ in size" in failures[name] for name in ("mixed.mp4", "mixed.mkv"))


def test_frames_of_one_size_are_read_from_a_video_of_two(tmp_path: Path, backend: Backend) -> None:
    path = of_two_sizes(tmp_path / "mixed.mp4")
    with open_video(path, backend=backend) as reader:
        assert indices_from_pixels(reader.frames_at(range(6))) == list(range(6))
        assert reader.frames_at([7, 8]).shape == (2, 3, 64, 96)


class Failing:
    """A reader of which something else fails than a `DecodeError` says."""

    num_frames = 12

    def __init__(self, error: Exception | None) -> None:
        self.error = error

    def __enter__(self) -> Failing:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def frames_at(self, indices: Sequence[int]) -> torch.Tensor:
        if self.error is not None:
            raise self.error
        return torch.zeros(len(indices) - 1, 3, 48, 64, dtype=torch.uint8)


ERRORS: dict[str, tuple[Exception | None, str]] = {
    "memory": (MemoryError(), "MemoryError"),
    "key": (KeyError(3), "KeyError: 3"),
    "runtime": (RuntimeError("a library\nfails"), "RuntimeError: a library fails"),
    "recursion": (RecursionError("too deep"), "RecursionError: too deep"),
    "pyav": (av.error.BugError(558323010, "a bug"), "a bug"),
    "fewer": (None, "decoding yields 7 of the 8 frames of a clip"),
}


@pytest.mark.parametrize("workers", [0, 2])
def test_whatever_happens_to_a_video_is_its_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    opened = readers.open_video

    def open_or_fail(path: Path, **options: Any) -> Any:
        return Failing(ERRORS[path.stem][0]) if path.stem in ERRORS else opened(path, **options)

    monkeypatch.setattr(readers, "open_video", open_or_fail)
    write_video(tmp_path / "good.mp4", 12)
    names = [f"{kind}.mp4" for kind in ERRORS]
    read, failures = evaluated(listed(tmp_path, [*names, "good.mp4"], num_workers=workers))
    assert read == ["good.mp4"]
    assert failures == {f"{kind}.mp4": cause for kind, (_, cause) in ERRORS.items()}

    data = listed(tmp_path, [*names, "good.mp4"], part="train", num_workers=workers)
    batches = list(data.train_dataloader())
    assert {name for batch in batches for name in batch.failures} >= {*names[:2]}
    data.trainer = type("Training", (), {"training": True})()  # type: ignore[assignment]
    failed = next(batch for batch in batches if batch.failures)
    if not failed.ids:
        failed = failed._replace(ids=["read"])
    data.loading = LoadingOptions(on_error="skip")
    data.on_before_batch_transfer(failed, 0)
    assert data.skipped == set(failed.failures)
    data.loading = LoadingOptions(on_error="raise")
    with pytest.raises(DecodeError, match="on_error: skip"):
        data.on_before_batch_transfer(failed, 0)


def test_a_decoder_that_cannot_be_loaded_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_video(tmp_path / "good.mp4", 12)
    monkeypatch.setitem(sys.modules, "vlbench.clips.decoding.torchcodec", None)
    with pytest.raises(ConfigError, match="'torchcodec' cannot be loaded"):
        evaluated(listed(tmp_path, ["good.mp4"], loading=LoadingOptions(backend="torchcodec")))


def test_a_runtime_error_of_a_file_is_none_of_the_decoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vlbench.clips.decoding import pyav

    def fail(path: Path) -> object:
        raise NotImplementedError("of this file")

    write_video(tmp_path / "good.mp4", 12)
    monkeypatch.setattr(pyav, "open_container", fail)
    assert evaluated(listed(tmp_path, ["good.mp4"]))[1] == {"good.mp4": "NotImplementedError: of this file"}


# -- files that name others -------------------------------------------------------------------------------------------


def test_lists_of_other_files_are_no_videos(tmp_path: Path, backend: Backend) -> None:
    video = write_video(tmp_path / "good.mp4", 12)
    paths = playlists(tmp_path, video)
    with av.open(str(paths["concat"])) as container:
        assert len(list(container.decode(video=0))) == 12, "or it is no list that FFmpeg reads"
    write_video(tmp_path / "good.ts", 12)
    paths["m3u8"] = tmp_path / "list.m3u8"
    paths["m3u8"].write_text(paths["hls"].read_text().replace("good.mp4", "good.ts"))
    for path in paths.values():
        with pytest.raises(DecodeError, match=r"its format is '(concat|hls|dash|sdp)'|Invalid data"):
            open_video(path, backend=backend)
        assert probe(path).problem == "undecodable"
    with pytest.raises(DecodeError, match="its format is 'concat', none of those that hold a whole video in one file"):
        open_video(paths["concat"], backend=backend)


def test_sequences_of_pictures_are_no_videos(tmp_path: Path, backend: Backend) -> None:
    for k, image in enumerate(colored_frames(12)):
        write_video(tmp_path / f"frame{k:02}.png", image[None], codec="png", pix_fmt="rgb24")
    pattern = tmp_path / "frame%02d.png"
    with av.open(str(pattern)) as container:
        assert len(list(container.decode(video=0))) == 12
    with pytest.raises(DecodeError, match="No such file"):
        open_video(pattern, backend=backend)
    pattern.write_bytes((tmp_path / "frame00.png").read_bytes())
    with pytest.raises(DecodeError, match="its format is 'png_pipe'"):
        open_video(pattern, backend=backend)


@pytest.mark.parametrize(
    "name", ["concat:good.mp4", "file:good.mp4", "subfile,,start,0,end,0,,:good.mp4", "cache:good.mp4"]
)
def test_names_are_no_addresses(name: str, tmp_path: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_video(Path("good.mp4"), 12)
    with pytest.raises(DecodeError, match="No such file"):
        open_video(Path(name), backend=backend)
    write_video(tmp_path / "other.mp4", 6).rename(name)
    with open_video(Path(name), backend=backend) as reader:
        assert indices_from_pixels(reader.frames_at(range(reader.num_frames))) == list(range(6))


def test_frames_in_another_file_are_not_read(tmp_path: Path, backend: Backend) -> None:
    data = write_video(tmp_path / "data.mov", 12)
    path = of_external_data(tmp_path / "reference.mov", data)
    with av.open(str(path), container_options={"enable_drefs": "1"}) as container:
        assert len(list(container.decode(video=0))) == 12, "or the file refers to nothing"
    with pytest.raises(DecodeError, match="no video packet"):
        open_video(path, backend=backend)


# -- files that are none ----------------------------------------------------------------------------------------------


def class_folders(root: Path) -> Path:
    (root / "test/walk").mkdir(parents=True)
    (root / "test/run").mkdir()
    write_video(root / "test/walk/good.mp4", 12)
    write_video(root / "test/run/good.mp4", 12)
    return root


@pytest.mark.parametrize("workers", [0, 2])
def test_what_is_no_regular_file_stays_in_the_test_set(tmp_path: Path, backend: Backend, workers: int) -> None:
    paths = no_regular_files(class_folders(tmp_path) / "test/walk")
    loading = LoadingOptions(backend=backend)
    data = FolderVideosDataModule(str(tmp_path), image_size=32, num_workers=workers, loading=loading)
    read, failures = evaluated(data)
    assert read == ["test/run/good.mp4", "test/walk/good.mp4"]
    assert failures.keys() == {f"test/walk/{path.name}" for path in paths.values()}
    for cause, path in paths.items():
        assert failures[f"test/walk/{path.name}"].startswith(cause)


def test_the_doctor_names_what_is_no_regular_file(tmp_path: Path) -> None:
    paths = no_regular_files(class_folders(tmp_path) / "test/walk")
    report = check_folder(tmp_path, decode=True, workers=0, progress=False)
    found = {finding.where: finding for finding in report.findings if finding.code != "duplicate"}
    assert report.videos == 7
    assert found.keys() >= {f"test/walk/{path.name}" for path in paths.values()}
    codes = {"folder.mp4": "no_file", "pipe.mp4": "no_file", "zero.mp4": "no_file", "dangling.mp4": "missing"}
    assert {name: found[f"test/walk/{name}"].code for name in codes} == codes


def test_a_copy_ends_where_there_are_no_regular_files(tmp_path: Path) -> None:
    root, out = class_folders(tmp_path / "root"), tmp_path / "out"
    paths = no_regular_files(root / "test/walk")
    lists = no_regular_files(root, ".txt")
    report = prepare(root, out, resize=32, workers=0, progress=False)
    found = {finding.where: finding.code for finding in report.findings}
    assert found == {
        **{f"test/walk/{path.name}": "not_prepared" for path in paths.values()},
        **{path.name: "not_copied" for path in lists.values()},
    }
    assert sorted(path.name for path in out.rglob("*.mp4")) == ["good.mp4", "good.mp4"]


def test_a_file_that_becomes_a_pipe_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "video.mp4"
    path.touch()
    look = regular_files.regular_status

    def look_and_swap(path: Path) -> os.stat_result:
        status = look(path)
        path.unlink()
        os.mkfifo(path)
        return status

    monkeypatch.setattr(regular_files, "regular_status", look_and_swap)
    with pytest.raises(NotRegularError, match="named pipe"):
        open_regular(path)


def test_a_class_folder_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    class_folders(tmp_path)
    (tmp_path / "test/jump").symlink_to(tmp_path / "unmounted")
    with pytest.raises(DataError, match=r"jump is a link to .*unmounted, which is not there"):
        FolderVideos(str(tmp_path)).videos("test")


def test_links_to_files_and_folders_are_videos(tmp_path: Path) -> None:
    class_folders(tmp_path)
    (tmp_path / "test/walk/linked.mp4").symlink_to("good.mp4")
    (tmp_path / "test/walk/more").symlink_to(tmp_path / "test/run")
    assert [item.id for item in FolderVideos(str(tmp_path)).videos("test")] == [
        "test/run/good.mp4",
        "test/walk/good.mp4",
        "test/walk/linked.mp4",
        "test/walk/more/good.mp4",
    ]


def test_listing_looks_at_folders_and_at_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class_folders(tmp_path)
    for k in range(500):
        (tmp_path / f"test/walk/{k}.mp4").touch()
    looks: list[object] = []
    for module, name in ((Path, "stat"), (Path, "lstat"), (os, "stat"), (os, "lstat")):
        look: Callable[..., os.stat_result] = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, _look=look, **k: (looks.append(a), _look(*a, **k))[1])
    assert len(FolderVideos(str(tmp_path)).videos("test")) == 502
    assert len(looks) < 60


# -- several streams, hidden frames, odd rotations --------------------------------------------------------------------

STREAMS = {
    "default_last.mkv": ((64, 48), (96, 64), Disposition(0), Disposition.default, 1),
    "default_first.mkv": ((64, 48), (96, 64), Disposition.default, Disposition(0), 0),
    "cover.mp4": ((96, 64), (64, 48), Disposition.attached_pic, Disposition.default, None),
}


@pytest.mark.parametrize("name", STREAMS)
def test_the_best_stream_is_read(name: str, tmp_path: Path, backend: Backend) -> None:
    first, second, *dispositions, expected = STREAMS[name]
    path = of_streams(tmp_path / name, (first, second), dispositions)
    with av.open(str(path)) as container:
        best = container.streams.best("video")
        assert best is not None
        assert expected in (None, best.index)
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(best)]
    with open_video(path, backend=backend) as reader:
        read = reader.frames_at(range(12))
    assert torch.equal(read, torch.stack([torch.from_numpy(frame) for frame in frames]).permute(0, 3, 1, 2))


def test_a_cover_is_no_video(tmp_path: Path, backend: Backend) -> None:
    path = of_streams(tmp_path / "cover.mp4", [(64, 48)], [Disposition.attached_pic])
    with pytest.raises(DecodeError, match="no video stream"):
        open_video(path, backend=backend)


@pytest.mark.parametrize("bframes", [0, 2])
@pytest.mark.parametrize(("first", "stop"), [(5, 24), (14, 24), (14, 20), (0, 10)])
def test_the_doctor_judges_a_file_by_the_frames_that_are_shown(
    first: int, stop: int, bframes: int, tmp_path: Path, backend: Backend
) -> None:
    path = edited(tmp_path / "edited.mp4", first, stop, bframes)
    with open_video(path, backend=backend) as reader:
        shown = indices_from_pixels(reader.frames_at(range(reader.num_frames)))
    assert shown == list(range(first, stop))
    found = probe(path)
    assert (found.frames, found.problem) == (stop - first, None)


@pytest.mark.parametrize(("rotation", "severity"), [(90, "note"), (180, "note"), (45, "warning"), (-135, "warning")])
def test_only_what_is_turned_upright_is_called_so(rotation: int, severity: str, tmp_path: Path) -> None:
    write_video(tmp_path / "turned.mp4", 12, rotation=rotation)
    (finding,) = check_folder(tmp_path, decode=True, workers=0, progress=False).findings
    assert (finding.code, finding.severity) == ("rotated", severity)
    assert ("vlbench turns it upright" in finding.text) == (severity == "note")


# -- names ------------------------------------------------------------------------------------------------------------

NAMES = [
    "line\nbreak.mp4",
    "return\rcr.mp4",
    "tab\there.mp4",
    "sep\u2028arator.mp4",
    os.fsdecode(b"caf\xe9.mp4"),
    '"q".mp4',
    "' ,x.mp4",
]
OVERLAYS = [*("--config", "backbone/tiny.yaml"), *("--config", "trainer/cpu.yaml"), "--data.num_workers=0"]


@pytest.mark.timeout(300)
def test_any_name_comes_back_equal_from_an_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["vlbench"])
    root = class_folders(tmp_path / "da\nta")
    for name in NAMES:
        write_video(tmp_path / "made.mp4", 8).rename(root / "test/walk" / name)
        (root / "test/run" / name).write_text("broken")
    ids = {f"test/walk/{name}" for name in NAMES} | {"test/walk/good.mp4", "test/run/good.mp4"}
    broken = {f"test/run/{name}" for name in NAMES}
    options = ["--config", "zero_shot.yaml", "--config", "data/folder.yaml", "--data.root", str(root), *OVERLAYS]
    assert main(["test", *options]) == 0
    (path,) = Path("results/records").iterdir()
    stored = StoredEvaluation.load(str(path), Path("results"))
    assert set(stored.predictions.ids) == ids
    assert stored.record.failures.keys() == broken
    assert stored.labels() == {item.id: item.label for item in FolderVideos(str(root)).videos("test")}
    assert main(["report", str(path), "--csv", "report.csv"]) == 0
    assert main(["compare", str(path), str(path)]) == 0
    tables = [f"--{form}=table.{form}" for form in ("csv", "html", "markdown", "latex")]
    assert main(["leaderboard", "results", *tables, "--allow_dirty"]) == 0
    assert all(Path(f"table.{form}").read_text() for form in ("csv", "html", "markdown", "latex"))

    capsys.readouterr()
    assert main(["predict", *options]) == 1
    output = capsys.readouterr()
    fields = [line.split("\t") for line in output.out.split("\n") if "\t" in line]
    assert {len(line) for line in fields} == {3}
    assert {json.loads(video) if video.startswith('"') else video for video, _, _ in fields} == ids
    named = [line for line in output.err.split("\n") if line.startswith("unreadable: ")]
    assert len(named) == len(broken)
    assert all(any(quoted(video) in line for line in named) for video in broken)
    assert f"{len(broken)} of {len(broken) + len(ids)} videos cannot be read" in output.err


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_processes_name_each_unreadable_video_once(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "root")
    broken = [f"test/{folder}/broken{k}.mp4" for folder in ("walk", "run") for k in range(2)]
    for name in broken:
        (root / name).write_text("no video")
    options = ["--config", "zero_shot.yaml", "--config", "data/folder.yaml", "--data.root", str(root), *OVERLAYS]
    options += ["--trainer.devices=2", "--trainer.strategy=ddp", "--data.loading.eval_batch_size=1"]
    said = subprocess.run(
        [sys.executable, "-m", "vlbench", "predict", *options],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=240,
        check=False,
    )
    assert said.returncode == 1, said.stderr
    named = [line.split(": ")[1] for line in said.stderr.splitlines() if line.startswith("unreadable: ")]
    assert named == sorted(broken)
    assert "4 of 6 videos cannot be read" in said.stderr
    assert sum(line.count("\t") == 2 for line in said.stdout.splitlines()) == 2


def test_the_doctor_and_a_copy_name_files_of_any_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "root"
    root.mkdir()
    for name in NAMES:
        (root / name).write_text(f"no video: {name!r}")
    write_video(root / "good.mp4", 12)
    assert main(["data", "check", "--root", str(root), "--decode", "--workers=0", "--report=report.json"]) == 1
    lines = capfdbinary.readouterr().out.decode().split("\n")
    for name in NAMES:
        assert sum(quoted(name) in line for line in lines) == 1
    report = prepare(root, tmp_path / "out", resize=32, workers=0, progress=False)
    assert {finding.where for finding in report.findings} == set(NAMES)
    assert sorted(path.name for path in (tmp_path / "out").glob("*.mp4")) == sorted([*NAMES, "good.mp4"])


def test_a_quoted_field_of_a_list_keeps_its_line_break(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_bytes(b'path,class\r\n"a\rb.mp4",walk\r\n"c\nd.mp4",walk\r\n"e\r\nf.mp4",walk\r\n')
    ids = [item.id for item in read_csv(tmp_path / "list.csv", tmp_path, class_names=["walk"])]
    assert ids == ["a\rb.mp4", "c\nd.mp4", "e\r\nf.mp4"]


@pytest.mark.parametrize("name", NAMES)
def test_a_subset_keeps_a_name_or_refuses_it(name: str, tmp_path: Path) -> None:
    root, out = class_folders(tmp_path / "root"), tmp_path / "few"
    (root / "test/walk/good.mp4").rename(root / "test/walk" / name)
    if any("\ud800" <= sign <= "\udfff" for sign in name):
        with pytest.raises(DataError, match=r"caf\\udce9.mp4\" has a name with bytes that are no UTF-8"):
            subset(FolderVideos(str(root)), out, videos=1)
        return
    subset(FolderVideos(str(root)), out, videos=1)
    ids = [item.id for item in FolderVideos(str(out)).videos("test")]
    assert sorted(ids) == ["test/run/good.mp4", f"test/walk/{name}"]


def test_a_class_whose_name_is_no_text_is_refused(tmp_path: Path) -> None:
    class_folders(tmp_path)
    (tmp_path / "test/run").rename(tmp_path / "test" / os.fsdecode(b"caf\xe9"))
    with pytest.raises(DataError, match="no UTF-8"):
        FolderVideos(str(tmp_path)).videos("test")
