"""Classified videos as one HTML file that loads nothing, with the frames that were looked at."""

from __future__ import annotations

from pathlib import Path

from vlbench.files import write_atomically
from vlbench.inference import Classification, Model
from vlbench.pages import head, picture, text
from vlbench.results.page_parts import STYLE_OF_TABLES, asset, table
from vlbench.tools.strips import jpeg_strip

_HEIGHT = 96
"""Height of the frames in pixels."""

_STYLE = """
figure img { display: block; max-width: 100%; height: auto; margin: 2px 0; }
h2 { overflow-wrap: anywhere; }
"""


class ClassifiedPage:
    """A page of classified videos, to which results are added as they come.

    Args:
        model: Model of the results.
        top: Number of classes that are named of each video.
    """

    def __init__(self, model: Model, top: int) -> None:
        self.model = model
        self.top = top
        self._parts: list[str] = []
        self._videos: dict[str, str] = {}
        self._last: str | None = None

    def add(self, result: Classification) -> None:
        """Adds the frames and the classes of a video, or of a window of one.

        Args:
            result: Result with its frames, if the video can be read.
        """
        if result.video != self._last:
            self._parts.append(f"<h2>{text(result.video)}</h2>\n")
        self._last = result.video
        self._videos[result.video] = self._videos.get(result.video) or result.failure
        if result.span is not None:
            start, end = result.span
            self._parts.append(f"<h3>{start:.2f} to {end:.2f} s</h3>\n")
        if result.failure:
            self._parts.append(f"<p>It cannot be read: {text(result.failure)}</p>\n")
            return
        if result.frames is not None:
            pictures = (
                picture(jpeg_strip(frames, _HEIGHT), f"The {len(frames)} frames of clip {number} of {result.video}")
                for number, frames in enumerate(result.frames, 1)
            )
            self._parts.append(f"<figure>{''.join(pictures)}</figure>\n")
        rows = [
            (name, "" if probability is None else f"{probability:.4f}", f"{score:.4f}")
            for name, probability, score in result.best(self.top)
        ]
        self._parts.append(table(("class", "probability", "score"), rows, words=1))

    def write(self, path: Path) -> None:
        """Writes the page with what was added so far; nothing before the first result.

        Args:
            path: File of the page, which is replaced.

        Raises:
            WriteError: If the file system refuses.
        """
        if self._parts:
            write_atomically(path, self.html().encode())

    def html(self) -> str:
        """The page with what was added so far."""
        method, views = self.model.method, self.model.clip.views
        lost = sum(map(bool, self._videos.values()))
        facts = (
            f"{method.name} on {method.backbone.identity.name}. Clips of each video, or of each window: {views.clips};"
            f" frames of a clip: {self.model.frames}; crops of a frame: {views.crops}. The pictures show what is inside"
            " the crops. A score has a meaning only beside the other scores of the same video."
        )
        reason = method.probability.reason
        return "".join([
            head("vlbench: classified videos", asset("leaderboard.css") + STYLE_OF_TABLES + _STYLE), "<main>\n",
            f"<h1>{len(self._videos):,} classified videos</h1>\n<p class='muted'>{text(facts)}</p>\n",
            f"<p>There are no probabilities: {text(reason)}</p>\n" if reason else "",
            f"<p>Videos that cannot be read: {lost:,}.</p>\n" if lost else "",
            *self._parts, "</main>\n</body>\n</html>\n",
        ])  # fmt: skip
