"""Files that are no videos, no whole ones, or others than they seem; made byte by byte where no muxer makes them."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
from av.packet import Packet
from av.stream import Disposition

from tests.fakes import colored_frames, write_video


def remux(source: Path, target: Path, keep: Callable[[Packet], bool]) -> Path:
    """A copy of a video with some of its packets."""
    with av.open(str(source)) as original, av.open(str(target), "w") as copy:
        stream = copy.add_stream_from_template(original.streams.video[0])
        for packet in original.demux(video=0):
            if packet.size and keep(packet):
                packet.stream = stream
                copy.mux(packet)
    return target


def without_keyframe(path: Path) -> Path:
    """A video of which no frame can be decoded, although its container is sound."""
    whole = write_video(path.with_name(f"whole-{path.name}"), 24, gop=24)
    remux(whole, path, lambda packet: not packet.is_keyframe)
    whole.unlink()
    return path


def of_two_sizes(path: Path, count: int = 6) -> Path:
    """A video of 2 x `count` frames whose second half is larger."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        shown = 0
        for width, height in ((64, 48), (96, 64)):
            encoder = av.CodecContext.create("libx264", "w")
            encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
            encoder.time_base, encoder.framerate, encoder.thread_count = Fraction(1, 25), Fraction(25), 1
            encoder.gop_size, encoder.max_b_frames = count, 0
            encoder.options = {"x264-params": "repeat-headers=1"}
            images = [av.VideoFrame.from_ndarray(i, format="rgb24") for i in colored_frames(count, height, width)]
            for position, image in enumerate(images):
                image.pts = position
            for packet in [packet for image in (*images, None) for packet in encoder.encode(image)]:
                packet.stream, packet.time_base = stream, Fraction(1, 25)
                packet.pts = packet.dts = shown
                shown += 1
                container.mux(packet)
    return path


def of_streams(path: Path, sizes: Sequence[tuple[int, int]], dispositions: Sequence[Disposition]) -> Path:
    """A file of several video streams of 12 frames, attached pictures of one; the sizes are `(width, height)`."""
    with av.open(str(path), "w") as container:
        streams = []
        for (width, height), disposition in zip(sizes, dispositions, strict=True):
            picture = disposition == Disposition.attached_pic
            stream = container.add_stream("png" if picture else "libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = width, height, "rgb24" if picture else "yuv420p"
            stream.codec_context.gop_size = 4
            stream.disposition = disposition
            streams.append(stream)
        for stream in streams:
            images = [
                av.VideoFrame.from_ndarray(i, format="rgb24")
                for i in colored_frames(1 if stream.pix_fmt == "rgb24" else 12, stream.height, stream.width)
            ]
            for image in (*images, None):
                container.mux(stream.encode(image))
    return path


def edited(path: Path, first: int, stop: int, bframes: int = 0) -> Path:
    """A video of 24 frames whose edit list shows the frames `[first, stop)`."""
    write_video(path, 24, bframes=bframes)
    data = bytearray(path.read_bytes())
    (ticks,) = struct.unpack_from(">I", data, data.index(b"mdhd") + 16)
    (ticks_of_movie,) = struct.unpack_from(">I", data, data.index(b"mvhd") + 16)
    entry = data.index(b"elst") + 12
    (begin,) = struct.unpack_from(">i", data, entry + 4)
    duration = (stop - first) * ticks_of_movie // 25
    struct.pack_into(">Ii", data, entry, duration, begin + first * ticks // 25)
    struct.pack_into(">I", data, data.index(b"mvhd") + 20, duration)
    path.write_bytes(data)
    return path


def of_external_data(path: Path, data: Path) -> Path:
    """A MOV file whose frames lie in another file of the folder, which a Macintosh alias names."""
    content = data.read_bytes()
    movie = bytearray(content[content.index(b"moov") - 4 :])
    absolute = f"/{data.name}".encode()
    absolute += bytes(len(absolute) % 2)
    alias = b"".join(
        (
            bytes(10) + b"\0" + bytes(27) + bytes(12),  # a volume without a name
            bytes([len(data.name)]) + data.name.encode().ljust(63, b"\0") + bytes(16),
            struct.pack(">hh", 1, 1) + bytes(16),  # one level up, one level down
            struct.pack(">hH", 2, len(absolute)) + absolute,
            struct.pack(">hH", -1, 0),
        )
    )
    entry = struct.pack(">I4sI", 12 + len(alias), b"alis", 0) + alias
    start = movie.index(b"dref") + 12
    (old,) = struct.unpack_from(">I", movie, start)
    movie[start : start + old] = entry
    for box in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        position = movie.index(box) - 4
        (size,) = struct.unpack_from(">I", movie, position)
        struct.pack_into(">I", movie, position, size + len(entry) - old)
    path.write_bytes(content[: content.index(b"ftyp") + content[3] - 4] + movie)
    return path


def playlists(folder: Path, video: Path) -> dict[str, Path]:
    """Files that FFmpeg takes for lists of others, each of which names a video in the same folder; by the format."""
    texts = {
        "concat": f"ffconcat version 1.0\nfile {video.name}\n",
        "hls": f"#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{video.name}\n#EXT-X-ENDLIST\n",
        "dash": '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"'
        ' profiles="urn:mpeg:dash:profile:isoff-on-demand:2011" mediaPresentationDuration="PT1S">'
        '<Period><AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1">'
        f"<BaseURL>{video.name}</BaseURL></Representation></AdaptationSet></Period></MPD>",
        "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
        "a=rtpmap:96 H264/90000\n",
    }
    paths = {}
    for kind, text in texts.items():
        paths[kind] = folder / f"{kind}.mp4"
        paths[kind].write_text(text)
    return paths


def no_regular_files(folder: Path, suffix: str = ".mp4") -> dict[str, Path]:
    """What has a video's name and is no file; by the cause that a reader gives."""
    paths = {
        "it is a folder": folder / f"folder{suffix}",
        "it is a named pipe": folder / f"pipe{suffix}",
        "it is a device": folder / f"zero{suffix}",
        "No such file or directory, it is a link to": folder / f"dangling{suffix}",
        "Too many levels of symbolic links": folder / f"loop{suffix}",
    }
    folder_path, pipe, zero, dangling, loop = paths.values()
    folder_path.mkdir()
    os.mkfifo(pipe)
    zero.symlink_to("/dev/zero")
    dangling.symlink_to("nowhere.mp4")
    loop.symlink_to(loop.name)
    return paths
