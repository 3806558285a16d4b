"""Pairs of videos as one HTML file that loads nothing: what each shows, side by side."""

from __future__ import annotations

from collections.abc import Mapping

from vlbench.datasets.specs import VideoItem
from vlbench.pages import head, picture, text
from vlbench.tools.doctor.findings import Report
from vlbench.tools.parallel import for_each
from vlbench.tools.strips import strip_of

_STYLE = """\
body { margin: 24px auto; max-width: 1100px; padding: 0 24px; font: 14px/1.5 system-ui, sans-serif; }
section { border-top: 1px solid #8886; padding: 12px 0; }
h1 { font-size: 20px; } h2 { font-size: 15px; margin: 0 0 8px; }
figure { margin: 0 0 8px; } figcaption { overflow-wrap: anywhere; }
img { display: block; max-width: 100%; height: auto; }
.none { padding: 12px; border: 1px dashed #8888; }
"""
_REASONS = {"id": "one id in both lists", "content": "files with the same content", "features": "alike by features"}


def to_html(report: Report, videos: Mapping[str, VideoItem], classes: Mapping[str, str], workers: int | None) -> str:
    """A page of the pairs of a report, with frames of both videos.

    Args:
        report: Report on a bank.
        videos: Videos whose files are there, by their ids.
        classes: Class name of each video, by its id.
        workers: Processes that decode; 0 for this one, `None` for one a core.
    """
    wanted = dict.fromkeys(video for pair in report.pairs for video in (pair.train, pair.test))
    tasks = {(videos[video].path, videos[video].span): video for video in wanted if video in videos}
    strips = {tasks[task]: strip for task, strip in for_each(strip_of, list(tasks), workers=workers)} if tasks else {}
    # Two ids may be one file.
    shown = {video: strips.get(tasks[videos[video].path, videos[video].span]) for video in wanted if video in videos}
    parts = [
        head("vlbench: videos that are alike", _STYLE),
        f"<h1>{text(report.subject)}</h1>\n<p>{len(report.pairs)} pairs of a training and a test video</p>\n",
    ]
    for pair in report.pairs:
        parts.append(f"<section>\n<h2>{pair.score:.3f} {_REASONS[pair.reason]}</h2>\n")
        sides = [("training", pair.train), ("test", pair.test)] if pair.train != pair.test else [("both", pair.test)]
        for side, video in sides:
            known = video in shown
            strip = (shown[video] or "the process that decoded it died") if known else "the file is not there"
            shown_as = picture(strip, video) if isinstance(strip, bytes) else f'<div class="none">{text(strip)}</div>'
            caption = f"{side}: {text(video)} ({text(classes.get(video, 'no class'))})"
            parts.append(f"<figure>{shown_as}<figcaption>{caption}</figcaption></figure>\n")
        parts.append("</section>\n")
    return "".join([*parts, "</body>\n</html>\n"])
