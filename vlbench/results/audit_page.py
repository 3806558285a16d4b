"""An audit as one HTML file that loads nothing, with a figure of the accuracy in each order of the frames."""

from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement, tostring

from vlbench.pages import head, text
from vlbench.results.audit import Audit, Section, said_of
from vlbench.results.page_parts import STYLE_OF_TABLES, asset, table
from vlbench.results.svg import label, stroke

_STYLE = """
.bar-normal { fill: var(--c0); } .bar-other { fill: var(--c7); } .interval { stroke: var(--text); stroke-width: 1.5; }
"""
_WIDTH, _LEFT, _RIGHT, _ROW, _AXIS = 760, 110, 60, 26, 24

MEANINGS = {
    "normal": "the frames as the sampling picks them",
    "reversed": "the last frame first",
    "shuffled": "the frames permuted, by the id of the video",
    "middle": "the middle frame of the view, again and again",
    "first_half": "the sampling of the first half of the video",
    "second_half": "the sampling of the second half of the video",
    "stripes": "the background, with stripes in place of what moves",
    "half_rate": "every second frame of the view, twice",
}
"""What a view shows in each order of its frames."""


def audit_html(audit: Audit) -> str:
    """A page of an audit: the two scores, a figure and a table for each section, and the classes.

    Args:
        audit: Audit of a record, whose names are shown as text.
    """
    parts = [
        head("vlbench: does it use time?", asset("leaderboard.css") + STYLE_OF_TABLES + _STYLE), "<main>\n",
        f"<h1>Does {text(audit.record)} use time?</h1>\n",
        "<p class='muted'>Top-1 in per cent. The same videos are scored in every order of their frames; bars end at the"
        f" accuracy, lines are the central 95 % over {audit.draws:,} resampled sets of videos. What is lost is paired,"
        " video by video. Another order than the normal one also shows a method what it was not trained on, so that a"
        " loss alone does not say that the method understands order.</p>\n",
    ]  # fmt: skip
    for section in audit.sections:
        title = "all classes" if section is audit.sections[0] else f"subset {section.name}"
        parts.append(f"<h2>{text(title)}: {section.videos:,} videos of {section.classes} classes</h2>\n")
        parts += [f"<p>{text(line)}</p>\n" for line in said_of(section, audit.draws)]
        parts += [f"<figure>{_figure(section)}</figure>\n", _views(section)]
    if audit.unreadable:
        parts.append(f"<p>{audit.unreadable} videos cannot be read and count as wrong in every order.</p>\n")
    parts += ["<h2>Classes</h2>\n", _classes(audit), "</main>\n</body>\n</html>\n"]
    return "".join(parts)


def _figure(section: Section) -> str:
    """Bars of the accuracy in each order, from 0 to 100 %."""
    height = _ROW * len(section.views) + _AXIS
    root = Element(
        "svg", {"role": "img", "viewBox": f"0 0 {_WIDTH} {height}", "aria-label": "top-1 by order of frames"}
    )
    room = _WIDTH - _LEFT - _RIGHT

    def x(value: float) -> float:
        return _LEFT + room * value / 100

    bottom = _ROW * len(section.views)
    for tick in range(0, 101, 20):
        stroke(root, "grid", x(tick), 0, x(tick), bottom)
        label(root, x(tick), bottom + 16, str(tick), "middle")
    for place, view in enumerate(section.views):
        top = _ROW * place
        bar = SubElement(root, "rect", {
            "class": "bar-normal" if place == 0 else "bar-other", "x": f"{_LEFT}", "y": f"{top + 5}",
            "width": f"{x(view.top1) - _LEFT:.1f}", "height": f"{_ROW - 10}",
        })  # fmt: skip
        SubElement(bar, "title").text = f"{view.order}: {view.top1:.2f}, 95 % in {view.low:.2f} to {view.high:.2f}"
        stroke(root, "interval", x(view.low), top + _ROW / 2, x(view.high), top + _ROW / 2)
        label(root, _LEFT - 8, top + _ROW / 2 + 4, view.order, "end")
        label(root, _WIDTH - 6, top + _ROW / 2 + 4, f"{view.top1:.1f}", "end")
    return tostring(root, encoding="unicode")


def _views(section: Section) -> str:
    rows = [
        (
            view.order, MEANINGS.get(view.order, ""), f"{view.top1:.2f}", f"{view.low:.2f} to {view.high:.2f}",
            *(
                ("", "", "", "", "")
                if place == 0
                else (
                    f"{view.loss:+.2f}", f"{view.loss_low:+.2f} to {view.loss_high:+.2f}", str(view.only_normal),
                    str(view.only_here), f"{view.p_value:.3g}",
                )
            ),
        )
        for place, view in enumerate(section.views)
    ]  # fmt: skip
    names = ("frames", "what a view shows", "top-1", "95 %", "normal - it", "95 %", "right only in normal",
             "right only here", "p")  # fmt: skip
    return table(names, rows, words=2)


def _classes(audit: Audit) -> str:
    orders = [view.order for view in audit.sections[0].views]
    rows = [
        (each.name, str(each.videos), *(f"{each.top1[order]:.1f}" for order in orders), f"{each.order_score:+.1f}",
         f"{each.time_score:+.1f}")
        for each in sorted(audit.classes, key=lambda each: (-each.order_score, each.name))
    ]  # fmt: skip
    return table(("class", "videos", *orders, "order score", "time score"), rows, words=1)
