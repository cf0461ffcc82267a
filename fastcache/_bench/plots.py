"""Strip plots on a logarithmic scale, as inline SVG whose text does not shrink with the page.

Every position is a percentage of the strip's width and every size is in pixels (no viewBox), so
one drawing serves a wide screen and a phone.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from html import escape

_TICKS = tuple(factor * 10.0**power for power in range(-2, 5) for factor in (1, 2, 5))
#: The few that are kept where all would not fit.
_FEW_TICKS = (0.01, 0.1, 0.5, 1.0, 2.0, 10.0, 100.0, 1000.0, 10000.0)
_LANE = 24
_RADIUS = 10
#: Markers nearer than this (percent of the width) are put on different lanes.
_NEAR = 7.0
_MARGIN = 4.0


@dataclasses.dataclass(frozen=True, slots=True)
class Mark:
    """A subject on a strip: `value` is how many times our figure theirs is."""

    subject: str
    letter: str
    value: float
    text: str
    low: float | None = None
    high: float | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Scale:
    """A logarithmic axis from `low` to `high`."""

    low: float
    high: float

    def x(self, value: float) -> float:
        """Return the position in percent; what lies outside is drawn at the edge."""
        clipped = min(max(value, self.low), self.high)
        share = math.log(clipped / self.low) / math.log(self.high / self.low)
        return _MARGIN + share * (100.0 - 2 * _MARGIN)

    def ticks(self) -> list[float]:
        """Return the ticks on the axis, thinned so that they can be read on a phone."""
        inside = [tick for tick in _TICKS if self.low <= tick <= self.high]
        if len(inside) > 8:
            inside = [tick for tick in inside if tick in _FEW_TICKS]
        return inside


def scale_for(values: Iterable[float]) -> Scale:
    """Return an axis that holds the values, 1 and a little room."""
    positive = [value for value in values if value > 0]
    low, high = min([0.5, *positive]), max([4.0, *positive])
    return Scale(max(low * 0.8, 0.01), min(high * 1.25, 10000.0))


def _lanes(marks: Sequence[Mark], scale: Scale) -> list[int]:
    """Return the lane of each mark, so that neighbours do not cover each other."""
    ends: list[float] = []
    lanes = []
    for mark in marks:
        x = scale.x(mark.value)
        for lane, end in enumerate(ends):
            if x - end >= _NEAR:
                ends[lane] = x
                lanes.append(lane)
                break
        else:
            ends.append(x)
            lanes.append(len(ends) - 1)
    return lanes


def axis(scale: Scale) -> str:
    """Return the axis of a group of strips: ticks with their labels."""
    parts = ['<svg class="axis" width="100%" height="22" aria-hidden="true">']
    for tick in scale.ticks():
        label = "us" if tick == 1 else f"{tick:g}x"
        weight = ' class="one"' if tick == 1 else ""
        parts.append(f'<text x="{scale.x(tick):.2f}%" y="15"{weight}>{label}</text>')
    return "".join(parts) + "</svg>"


def strip(marks: Sequence[Mark], scale: Scale, title: str) -> str:
    """Return one row's strip: grid, the line that is us, and a lettered disc per subject."""
    ordered = sorted(marks, key=lambda mark: mark.value)
    lanes = _lanes(ordered, scale)
    height = _LANE * (max(lanes, default=0) + 1) + 4
    words = "; ".join(mark.text for mark in ordered) or "nothing to compare"
    label = escape(f"{title}: {words}", quote=True)
    parts = [f'<svg class="strip" width="100%" height="{height}" role="img" aria-label="{label}">']
    one = scale.x(1.0)
    parts.append(f'<rect class="behind" x="0" y="0" width="{one:.2f}%" height="{height}"/>')
    for tick in scale.ticks():
        kind = "us" if tick == 1 else "grid"
        x = f"{scale.x(tick):.2f}%"
        parts.append(f'<line class="{kind}" x1="{x}" x2="{x}" y1="0" y2="{height}"/>')
    for mark, lane in zip(ordered, lanes, strict=True):
        parts.append(_mark(mark, scale, lane * _LANE + _LANE / 2 + 2))
    return "".join(parts) + "</svg>"


def _mark(mark: Mark, scale: Scale, y: float) -> str:
    x = f"{scale.x(mark.value):.2f}%"
    whisker = ""
    if mark.low is not None and mark.high is not None:
        ends = f'x1="{scale.x(mark.low):.2f}%" x2="{scale.x(mark.high):.2f}%"'
        whisker = f'<line class="whisker" {ends} y1="{y:g}" y2="{y:g}"/>'
    return (
        f'<g class="mark s-{escape(slug(mark.subject))}"><title>{escape(mark.text)}</title>{whisker}'
        f'<circle cx="{x}" cy="{y:g}" r="{_RADIUS}"/>'
        f'<text x="{x}" y="{y + 4:g}">{escape(mark.letter)}</text></g>'
    )


def slug(name: str) -> str:
    """Return a subject's name as part of a CSS class."""
    return "".join(character if character.isalnum() else "-" for character in name)
