"""Opening a video file's container, alike with every release of PyAV that vlbench supports."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import av
import av.logging
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from vlbench.errors import DecodeError
from vlbench.regular_files import descriptor_path, open_regular

FORMATS: tuple[str, ...] = (
    "4xm", "amv", "apng", "asf", "asf_o", "av1", "avi", "avs", "avs2", "avs3", "bethsoftvid", "bfi", "bink", "bmv",
    "c93", "cavsvideo", "cdxl", "cine", "dhav", "dirac", "dnxhd", "dsicin", "dv", "dxa", "ea", "evc", "film_cpk",
    "filmstrip", "flic", "flv", "frm", "gdv", "gif", "gxf", "h261", "h263", "h264", "hevc", "hnm", "idcin", "iff",
    "ingenient", "ipmovie", "ipu", "iv8", "ivf", "ivr", "jpegxl_anim", "jv", "kux", "live_flv", "lmlm4", "lvf", "lxf",
    "m4v", "matroska", "mjpeg", "mjpeg_2000", "mm", "moflex", "mov", "mpeg", "mpegts", "mpegvideo", "mtv", "mv", "mvi",
    "mxf", "mxg", "nc", "nsv", "nut", "nuv", "obu", "ogg", "paf", "pmp", "pva", "r3d", "rl2", "rm", "roq", "rpl", "sdx",
    "ser", "sga", "siff", "smjpeg", "smk", "smush", "sol", "swf", "thp", "tiertexseq", "tmv", "ty", "usm", "vc1",
    "vc1test", "vividas", "vivo", "vmd", "vvc", "wc3movie", "webm", "wsvqa", "wtv", "xmv", "yop", "yuv4mpegpipe",
)  # fmt: skip
"""Names of FFmpeg's demuxers of formats that hold a whole video in one file.

What opens other files (concat, HLS, DASH, image sequences, SDP, MLV), a device or an address, draws text, or holds one
picture or sound alone is not among them.
"""
_OPTIONS = {"format_whitelist": ",".join(FORMATS), "protocol_whitelist": "file"}

# PyAV 18 refuses a file whose title is no UTF-8 unless it is given this argument. PyAV 19 always escapes such bytes and
# no longer has the argument.
_BADLY_ENCODED_TITLES: dict[str, Any] = (
    {"metadata_errors": "surrogateescape"} if int(av.__version__.split(".")[0]) < 19 else {}
)


def open_container(path: Path) -> InputContainer:
    """The container of a video file, opened for reading; a context manager that closes it.

    The file is a regular one, see `vlbench.regular_files`, and of one of `FORMATS`, whatever it is called. Titles and
    comments that are no UTF-8 are no reason to refuse a video: their bytes are read as surrogates.

    Args:
        path: Path of the video file, with any name that the file system takes.

    Raises:
        OSError: If the file cannot be read or is no regular file.
        DecodeError: If it has a format that is none of `FORMATS`.
        av.FFmpegError: If FFmpeg knows no container like it.
    """
    with open_regular(path) as file:
        name = descriptor_path(file)
        try:
            container: InputContainer = av.open(name, container_options=_OPTIONS, **_BADLY_ENCODED_TITLES)
        except av.FFmpegError as error:
            other = _other_format(name) if error.errno == errno.EINVAL else ""
            if not other:
                raise
            raise DecodeError(
                path, f"its format is {other!r}, none of those that hold a whole video in one file; convert it to MP4"
            ) from error
    return container


def best_video_stream(container: InputContainer) -> VideoStream | None:
    """The video stream that FFmpeg calls the best, which its tools read too; pictures such as a cover are none.

    Args:
        container: Container that is open for reading.
    """
    streams = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    best = container.streams.best("video")
    return best if best in streams else next(iter(streams), None)


def _other_format(name: str) -> str:
    """The format for which FFmpeg refuses a file, empty if it refuses it for another reason; only its log tells."""
    level, skips = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_level(av.logging.ERROR)
    av.logging.set_skip_repeated(False)  # what was said of another file may not be said again of this one
    try:
        with av.logging.Capture() as messages:
            av.open(name, container_options=_OPTIONS).close()
    except av.FFmpegError:
        return next((origin for _, origin, message in messages if "not on whitelist" in message), "")
    finally:
        av.logging.set_level(level)
        av.logging.set_skip_repeated(skips)
    return ""


def cause_of(error: BaseException) -> str:
    """What went wrong with a file, in a few words."""
    if isinstance(error, OSError | ValueError | av.FFmpegError):
        return getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")
