"""Histogram of the confidence and reliability diagram as SVG, each with its numbers as a table."""

from __future__ import annotations

from collections.abc import Sequence

from vlbench.results.confidence import ConfidenceBin

_WIDTH, _HEIGHT = 400, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 12, 12, 44
_RIGHT_END, _FLOOR = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM


def histogram(bins: Sequence[ConfidenceBin]) -> str:
    """Numbers of right and wrong videos by confidence, stacked."""
    top = _round_up(max(each.videos for each in bins))
    parts = [_axes("confidence (probability of the predicted class)", [(k / 5, f"{k / 5:g}") for k in range(6)])]
    parts += [
        f'<line class="grid" x1="{_LEFT}" x2="{_RIGHT_END}" y1="{_y(k / 4):.1f}" y2="{_y(k / 4):.1f}"/>'
        f'<text x="{_LEFT - 6}" y="{_y(k / 4) + 4:.1f}" text-anchor="end">{top * k / 4:g}</text>'
        for k in range(5)
    ]
    for each in bins:
        right, videos = _y(each.correct / top), _y(each.videos / top)
        parts.append(
            f"<g><title>{_said(each)}</title>{_rectangle('right', each, right, _FLOOR)}"
            f"{_rectangle('wrong', each, videos, right)}</g>"
        )
    return _svg("Number of videos by confidence; blue: right, orange: wrong", parts)


def reliability(bins: Sequence[ConfidenceBin]) -> str:
    """Accuracy against confidence with intervals; on the diagonal a model is right as often as it says."""
    ticks = [(k / 5, f"{k / 5:g}") for k in range(6)]
    parts = [_axes("mean confidence", ticks)]
    for at, label in ticks:
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{_RIGHT_END}" y1="{_y(at):.1f}" y2="{_y(at):.1f}"/>'
            f'<text x="{_LEFT - 6}" y="{_y(at) + 4:.1f}" text-anchor="end">{label}</text>'
        )
    parts.append(f'<line class="diagonal" x1="{_LEFT}" y1="{_FLOOR}" x2="{_RIGHT_END}" y2="{_TOP}"/>')
    for each in bins:
        if each.confidence is None or each.interval is None:
            continue
        x, (low, high) = _x(each.confidence), each.interval
        parts.append(
            f"<g><title>{_said(each)}</title>"
            f'<line class="interval" x1="{x:.1f}" x2="{x:.1f}" y1="{_y(low):.1f}" y2="{_y(high):.1f}"/>'
            f'<circle cx="{x:.1f}" cy="{_y(each.correct / each.videos):.1f}" r="4"/></g>'
        )
    return _svg("Accuracy by confidence with 95 % intervals; the diagonal is a model that knows how sure to be", parts)


def numbers(bins: Sequence[ConfidenceBin]) -> str:
    """The numbers of both charts as a table, in a part of the page that opens."""
    rows = "".join(
        f"<tr><th scope=row>{each.low:.2f} to {each.high:.2f}</th><td>{each.videos}</td><td>{each.correct}</td>"
        f"<td>{_number(each.confidence)}</td><td>{_number(each.correct / each.videos if each.videos else None)}</td>"
        f"<td>{' to '.join(map(_number, each.interval)) if each.interval else ''}</td></tr>"
        for each in bins
    )
    heads = ("confidence", "videos", "right", "mean confidence", "accuracy", "95 % interval")
    return (
        '<details><summary>The numbers of both charts</summary><div class="scroll" tabindex="0" role="region"'
        f' aria-label="Numbers of both charts"><table><thead><tr>{"".join(f"<th scope=col>{h}</th>" for h in heads)}'
        f"</tr></thead><tbody>{rows}</tbody></table></div></details>"
    )


def _rectangle(kind: str, each: ConfidenceBin, top: float, bottom: float) -> str:
    left, width = _x(each.low) + 1, _x(each.high) - _x(each.low) - 2
    return f'<rect class="{kind}" x="{left:.1f}" width="{width:.1f}" y="{top:.1f}" height="{bottom - top:.1f}"/>'


def _said(each: ConfidenceBin) -> str:
    return f"confidence {each.low:.2f} to {each.high:.2f}: {each.correct} of {each.videos} videos right"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _x(share: float) -> float:
    return _LEFT + share * (_RIGHT_END - _LEFT)


def _y(share: float) -> float:
    return _FLOOR - share * (_FLOOR - _TOP)


def _round_up(value: int) -> int:
    """A number whose quarters are whole, not below a value."""
    power = 4
    while 5 * power < value:
        power *= 10
    return next(factor * power for factor in (1, 2, 3, 5) if factor * power >= value)


def _axes(label: str, ticks: Sequence[tuple[float, str]]) -> str:
    marks = "".join(
        f'<text x="{_x(at):.1f}" y="{_FLOOR + 16}" text-anchor="middle">{said}</text>' for at, said in ticks
    )
    middle = (_LEFT + _RIGHT_END) / 2
    return (
        f'<line class="axis" x1="{_LEFT}" x2="{_RIGHT_END}" y1="{_FLOOR}" y2="{_FLOOR}"/>{marks}'
        f'<text x="{middle}" y="{_HEIGHT - 6}" text-anchor="middle">{label}</text>'
    )


def _svg(label: str, parts: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'
