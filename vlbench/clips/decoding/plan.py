"""Which packets of a video hold which frames, where the timestamps of its container tell it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import NamedTuple

from av.packet import Packet
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

# Containers that store a presentation time for every frame, with the codecs whose packets hold one shown frame each.
# MPEG-4 part 2 in Matroska may be a wrapped AVI; VP8 has packets that are never shown.
_PLANNED = {
    "mov": frozenset({"h264", "hevc", "mpeg4", "vp9", "av1"}),
    "matroska": frozenset({"h264", "hevc", "vp9", "av1"}),
}
_PROGRESSIVE_OR_UNKNOWN = (0, 1)  # AVFieldOrder


class Run(NamedTuple):
    """Packets `[start, stop)` in decoding order; `start` is a keyframe."""

    start: int
    stop: int


class Plan(NamedTuple):
    """Which packet holds which frame; positions of packets are those in decoding order.

    Attributes:
        times: Presentation time of each packet, in units of the stream's time base.
        keys: Positions of the keyframes, ascending.
        order: Positions of the packets of frame 0, 1, ..
    """

    times: list[int]
    keys: list[int]
    order: list[int]

    def time_of(self, index: int) -> int:
        """Presentation time of a frame, in units of the stream's time base.

        Args:
            index: Number of the frame.
        """
        return self.times[self.order[index]]

    def times_until_overtaken(self) -> list[int]:
        """Presentation times of the frames up to the first whose packet lies behind a later one's, and of the latter.

        That is a B-frame. A stream without B-frames is shown in the order of its packets, whatever times they carry:
        nothing is overtaken, and there are no such times.
        """
        overtaken = next((first for first, second in pairwise(self.order) if first > second), None)
        if overtaken is None:
            return []
        return [self.times[position] for position in self.order[: self.order.index(overtaken) + 2]]

    def starts_at(self, key: int, frame: VideoFrame) -> bool:
        """Whether a frame is that of a keyframe's packet, and intra; a periodic intra refresh yields none such.

        Args:
            key: Position of the packet of a keyframe.
            frame: Frame that came out of the decoder.
        """
        return frame.pts == self.times[key] and frame.pict_type == PictureType.I

    def runs(self, positions: Sequence[int]) -> list[Run]:
        """Fewest packets that yield some packets, as disjoint runs that start at keyframes.

        Args:
            positions: Positions of the packets, ascending.
        """
        starts = []
        for position in positions:
            # Frames shown before the keyframe that precedes them in the file (an open group) need the group before.
            key = bisect_right(self.keys, position) - 1
            while self.times[self.keys[key]] > self.times[position]:
                key -= 1
            starts.append(self.keys[key])
        runs: list[Run] = []
        for start, position in sorted(zip(starts, positions, strict=True)):
            if runs and start <= runs[-1].stop:
                runs[-1] = Run(runs[-1].start, max(runs[-1].stop, position + 1))
            else:
                runs.append(Run(start, position + 1))
        return runs


def stores_times(format_names: Collection[str], stream: VideoStream) -> bool:
    """Whether a container stores a presentation time for every frame of a stream, one frame a packet.

    Args:
        format_names: What FFmpeg calls the container's format.
        stream: Video stream of the container.
    """
    codecs = next((codecs for name, codecs in _PLANNED.items() if name in format_names), frozenset())
    context = stream.codec_context
    return stream.codec.canonical_name in codecs and context.field_order in _PROGRESSIVE_OR_UNKNOWN


def plan_of(packets: Sequence[Packet[VideoStream]]) -> Plan | None:
    """The plan that presentation times give; `None` if they contradict each other.

    Args:
        packets: All packets of a stream in decoding order.
    """
    times = [packet.pts for packet in packets if packet.pts is not None]
    # A first packet that is no keyframe, or leading frames without their reference, may decode to nothing.
    if len(set(times)) != len(packets) or not packets[0].is_keyframe or min(times) != times[0]:
        return None
    shown = [position for position, packet in enumerate(packets) if not packet.is_discard]
    keys = [position for position, packet in enumerate(packets) if packet.is_keyframe]
    return Plan(times, keys, sorted(shown, key=times.__getitem__))
