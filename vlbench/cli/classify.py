"""`vlbench classify`. torch is imported only where it is needed."""

from __future__ import annotations

import codecs
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from os.path import isdir, isfile  # no error at names that no file can have, unlike those of `Path`
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vlbench.cli.declaration import RESULTS
from vlbench.datasets.lists.class_names import listed_class_names
from vlbench.datasets.lists.index import FileIndex
from vlbench.datasets.specs import VIDEO_EXTENSIONS
from vlbench.errors import ConfigError, DataError
from vlbench.files import check_writable
from vlbench.names import one_line, quoted
from vlbench.ranges import COUNTS, SECONDS

_SECONDS = re.compile(r"(\d+(?:\.\d+)?|\.\d+)\s*(ms|s)?")


def classify(
    videos: Sequence[str],
    classes: Sequence[str] = (),
    config: Sequence[str] = (),
    ckpt_path: Path | None = None,
    record: str | None = None,
    top: int = 5,
    window: str | None = None,
    stride: str | None = None,
    format: Literal["table", "jsonl", "csv"] = "table",  # noqa: A002 - the name of the option
    html: Path | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    folder: Path | None = None,
) -> int:
    """Name the best classes of videos, with probabilities, as a test of the same weights scores them.

    Without CONFIG, CKPT_PATH and RECORD it is zero-shot CLIP, zero_shot.yaml. Videos that cannot be read are named, and
    the others are done.

    Args:
        videos: Video files, folders that are searched for videos, or - for a list on standard input.
        classes: Names of the classes, or one file with a name a line; not for a method that knows its own only.
        config: Configurations of the model by name, later ones over earlier ones.
        ckpt_path: Checkpoint of the model; without CONFIG it says itself how the model is configured.
        record: Path of a record, or the name of one below FOLDER, whose model is taken.
        top: Number of classes that are named of each video.
        window: Length of the windows that long videos are cut into, such as 2s or 500ms; whole videos by default.
        stride: Time from the beginning of a window to that of the next one; by default the length of a window.
        format: Form of the result: a table at the end, or a line for each video or class as soon as it is read.
        html: Page to write, with the frames that were looked at; it loads nothing from elsewhere.
        device: Device that computes; auto is CUDA where torch finds it, else the CPU.
        folder: Results folder in which RECORD is looked up; results by default.

    Returns:
        0, or 1 if a video cannot be read.
    """
    COUNTS.check("top", top)
    length, distance = seconds("window", window), seconds("stride", stride)
    if length is None and distance is not None:
        raise ConfigError(f"stride is {stride} and there are no windows; give --window, too")
    if folder is not None and record is None:
        raise ConfigError(f"folder is {folder}, where a record is looked up, and there is none; give --record, too")
    names, paths = class_names(classes), video_paths(videos)
    if html is not None:
        if html.is_dir():
            raise ConfigError(f"{html} is a folder, and the name of the page that is written; give another")
        if html.suffix.lower() not in (".html", ".htm"):  # `--html *.mp4` would replace the first of the videos
            raise ConfigError(f"html is {html}; allowed: a name of a page, which ends in .html or .htm")
        check_writable(html.parent, "--html")
    from vlbench.cli.process import importing

    with importing():
        from vlbench.cli.classify_model import decoders, notes, wanted_model
        from vlbench.cli.classify_output import OUTPUTS
        from vlbench.cli.classify_page import ClassifiedPage
        from vlbench.cli.quiet import silence
    silence()
    model = wanted_model(config, ckpt_path, record, folder or RESULTS, device)
    results = model.classify_videos(
        paths, names, window=length, stride=distance, num_workers=decoders(model, len(paths)),
        keep_frames=html is not None,
    )  # fmt: skip
    for note in notes(model, trained=ckpt_path is not None or record is not None):
        print(f"note: {note}", file=sys.stderr)  # noqa: T201 - what the result does not say
    output, page = OUTPUTS[format](model, top), ClassifiedPage(model, top) if html is not None else None
    failures: dict[str, str] = {}
    try:
        with ExitStack() as at_the_end:  # what was read is told, also where an error or Ctrl-C ends the reading
            if page is not None and html is not None:
                at_the_end.callback(page.write, html)
            at_the_end.callback(output.end)
            with _progress(len(paths), shown=format == "table" or not sys.stdout.isatty()) as advance:
                for result in results:
                    output.add(result)
                    if page is not None:
                        page.add(result)
                    if result.failure:
                        failures.setdefault(result.video, result.failure)
                    advance(result.video)
    except BrokenPipeError:  # whoever read the output has gone, as `| head` does
        return 1
    for video, cause in failures.items():
        print(f"unreadable: {quoted(video)}: {one_line(cause)}", file=sys.stderr)  # noqa: T201
    if failures:
        part = "" if length is None else " as a whole"
        print(f"vlbench: error: {len(failures)} of {len(paths)} videos cannot be read{part}", file=sys.stderr)  # noqa: T201
    return 1 if failures else 0


def class_names(given: Sequence[str]) -> list[str] | None:
    """Names of classes that were given one by one or as a file; `None` if none were.

    Args:
        given: Names, or the path of one file with a name a line or of a CSV file with a column `name`.

    Raises:
        ConfigError: If a single name is given, which leaves nothing to choose among, or a file that names a class twice
            or none.
        DataError: If the file cannot be read.
    """
    if len(given) != 1:
        listed = next((name for name in given if name.endswith((".txt", ".csv")) and isfile(name)), None)  # noqa: PTH113
        if listed is not None:
            raise ConfigError(f"classes are {len(given)} names, of which {listed} is a file; give the file alone")
        return list(given) or None
    if not isfile(given[0]):  # noqa: PTH113
        raise ConfigError(
            f"classes is {given[0]!r}, one name and no file; allowed: two names or more, or a file with a name a line"
        )
    return listed_class_names(Path(given[0]))


def video_paths(given: Sequence[str]) -> list[str]:
    """Paths of videos, each once: files as they are given, the videos in folders, and those of a list.

    A folder has the videos that are named like one, as deep as need be. A list has a name a line, or names that end
    with a null character as `find -print0` prints them; a line that begins with a quotation mark is JSON.

    Args:
        given: Names of files and folders; `-` is a list on standard input.

    Raises:
        ConfigError: If a name is empty.
        DataError: If a folder cannot be read or holds no video, the list is empty, or a line of it is no name.
    """
    names: list[str] = []
    for name in given:
        if not name:  # a variable of a shell that is not set; as a path it is the folder that the command runs in
            raise ConfigError("a name of a video is empty; allowed: files, folders, or - for a list on standard input")
        listed = _listed(sys.stdin.buffer.read()) if name == "-" else [name]
        if not listed:
            raise DataError("the list on standard input is empty; allowed: a name of a video or a folder a line")
        for each in listed:
            names += _in_folder(Path(each)) if isdir(each) else [each]  # noqa: PTH112
    return list(dict.fromkeys(names))


def _in_folder(folder: Path) -> list[str]:
    index = FileIndex(folder)
    try:
        names = sorted(index.named(folder, VIDEO_EXTENSIONS))
    except OSError as error:
        raise DataError(f"{error.filename}: {error.strerror}; its videos would be missing, mend it") from error
    index.save()
    if not names:
        raise DataError(f"{folder} holds no video; looked for {', '.join(VIDEO_EXTENSIONS)}")
    return [str(folder / name) for name in names]


def _listed(content: bytes) -> list[str]:
    content = content.removeprefix(codecs.BOM_UTF8)  # with which Windows begins a text
    separator = b"\0" if b"\0" in content else b"\n"
    names = []
    for line in content.split(separator):
        name = line.removesuffix(b"\r").decode(errors="surrogateescape")  # the bytes of a file's name, UTF-8 or not
        if separator == b"\n" and name.startswith('"'):
            try:
                name = json.loads(name)
            except ValueError as error:
                raise DataError(f"the line {one_line(name)} on standard input is no JSON string: {error}") from error
        if name.strip():
            names.append(name)
    return names


def seconds(option: str, text: str | None) -> float | None:
    """Seconds that an option states, `None` if it is not given.

    Args:
        option: Name of the option.
        text: Number of seconds, also with `s` behind it, or of milliseconds with `ms`.

    Raises:
        ConfigError: If it is no such number, or out of the range.

    Example:
        >>> seconds("window", "2s"), seconds("window", "500ms"), seconds("window", "1.5")
        (2.0, 0.5, 1.5)
    """
    if text is None:
        return None
    match = _SECONDS.fullmatch(text.strip())
    if match is None:
        raise ConfigError(f"{option} is {text!r}; allowed: a number of seconds such as 2s, or of milliseconds, 500ms")
    value = float(match[1]) / (1000 if match[2] == "ms" else 1)
    SECONDS.check(option, value)
    return value


@contextmanager
def _progress(total: int, *, shown: bool) -> Iterator[Callable[[str], None]]:
    """Shows on a terminal how many videos are done; the function that it gives is told of which video a result is."""
    columns = TextColumn("classifying"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    shown = shown and total > 1 and sys.stderr.isatty()
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not shown) as progress:
        task, begun = progress.add_task("", total=total), set[str]()

        def advance(video: str) -> None:
            begun.add(video)
            progress.update(task, completed=len(begun))

        yield advance
