"""Pictures of a comparison as inline SVG: the steps of an estimate, the errors over a leaf, claimed against numeric.

Colours are classes of the page's style sheet, so that they follow light and dark; every shape has a second sign beside its
colour, and every picture a title and a description.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradcheck.results import Comparison, Estimate, Picture

WIDTH, HEIGHT = 440, 260
LEFT, RIGHT, TOP, BOTTOM = 58, 12, 12, 40  # margins
FLOOR = 1e-17  # smaller relative errors are drawn here
CELL, LARGEST = 14, 420  # pixels of a cell, and of the longer side of a heat map
DECADES = (-14, -10, -6, -3, -1)  # relative errors from which on a cell is drawn in the next shade


@dataclass(frozen=True)
class Axis:
    """A logarithmic scale from `low` to `high`, drawn from pixel `start` to `end`."""

    low: float
    high: float
    start: float
    end: float

    def at(self, x: float) -> float:
        """The pixel of a number; those outside are drawn at the edge."""
        share = (math.log10(min(max(x, self.low), self.high)) - math.log10(self.low)) / math.log10(self.high / self.low)
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self) -> list[int]:
        """Decades to be labelled, at most eight."""
        first, last = math.ceil(math.log10(self.low)), math.floor(math.log10(self.high))
        every = max(1, -(-(last - first) // 8))
        return list(range(first, last + 1, every))


def steps(c: Comparison, story: Estimate, name: str, told: str) -> str:
    """The error of the central difference at every step, on logarithmic axes, with what noise may do and the steps chosen.

    Args:
        name: unique on the page.
        told: what it shows, in a sentence.
    """
    scale = max(abs(c.claimed) if math.isfinite(c.claimed) else 0.0, abs(story.value), 1e-300)
    seen = [(h, abs(d - story.value) / scale) for h, d in zip(story.steps, story.differences, strict=True) if math.isfinite(d)]
    noise = [(h, b / scale) for h, b in zip(story.steps, story.bounds, strict=True) if math.isfinite(b)]
    if not seen:
        return ""
    claim = abs(c.claimed - story.value) / scale if math.isfinite(c.claimed) else math.nan
    errors = [e for _, e in (*seen, *noise)] + [e for e in (claim, story.bound / scale) if math.isfinite(e)]
    x = Axis(min(h for h, _ in seen) / 2, max(h for h, _ in seen) * 2, LEFT, WIDTH - RIGHT)
    y = Axis(max(min(errors) / 3, FLOOR), max(max(errors) * 3, 10 * FLOOR), HEIGHT - BOTTOM, TOP)
    parts = [_frame(x, y, "step", "relative error")]
    if story.plateau is not None:
        coarse, fine = (x.at(h) for h in story.plateau)
        left, width = min(coarse, fine) - 4, abs(coarse - fine) + 8
        parts.append(f'<rect class="chosen" x="{left:g}" y="{TOP}" width="{width:g}" height="{HEIGHT - TOP - BOTTOM}"/>')
    if len(noise) > 1:
        parts.append(f'<polyline class="noise" points="{_points(x, y, noise)}"/>')
    parts += [_level(y, error, kind, label) for error, kind, label in _levels(claim, story.bound / scale, c.method)]
    parts += [f'<circle class="seen" cx="{x.at(h):g}" cy="{y.at(e):g}" r="3"/>' for h, e in seen]
    title = f"Error of the central difference against the step, at {c.wrt}"
    return _drawing(name, WIDTH, HEIGHT, title, told, parts)


def _levels(claim: float, bound: float, method: str) -> list[tuple[float, str, str]]:
    found = [(claim, "claim", f"{method} is off by this"), (bound, "bound", "bound")]
    return [level for level in found if math.isfinite(level[0]) and level[0] > 0]


def _level(y: Axis, error: float, kind: str, label: str) -> str:
    at = y.at(error)
    line = f'<line class="{kind}" x1="{LEFT}" y1="{at:g}" x2="{WIDTH - RIGHT}" y2="{at:g}"/>'
    beside = at - 4 if at > TOP + 12 else at + 12  # inside the frame
    x, anchor = (LEFT + 4, "start") if kind == "bound" else (WIDTH - RIGHT - 4, "end")  # the two may be at one height
    return f'{line}<text x="{x}" y="{beside:g}" text-anchor="{anchor}">{escape(label)}</text>'


def scatter(picture: Picture, name: str, told: str, method: str) -> str:
    """Claimed against numeric derivatives, of some entries of a leaf; right ones lie on the diagonal."""
    pairs = [(n, c) for c, n in zip(picture.claimed, picture.estimate, strict=True) if math.isfinite(c) and math.isfinite(n)]
    if len(pairs) < 2:
        return ""
    largest = max(max(abs(a), abs(b)) for a, b in pairs) or 1.0
    side = HEIGHT - TOP - BOTTOM

    def at(pair: tuple[float, float]) -> tuple[float, float]:
        return LEFT + side * (pair[0] / largest + 1) / 2, TOP + side * (1 - pair[1] / largest) / 2

    box = f'<rect class="frame" x="{LEFT}" y="{TOP}" width="{side}" height="{side}"/>'
    ends = [
        f'<text x="{LEFT}" y="{TOP + side + 14}" text-anchor="start">{-largest:.2g}</text>',
        f'<text x="{LEFT + side}" y="{TOP + side + 14}" text-anchor="end">{largest:.2g}</text>',
        f'<text x="{LEFT + side / 2:g}" y="{TOP + side + 30}" text-anchor="middle">numeric</text>',
        f'<text x="14" y="{TOP + side / 2:g}" text-anchor="middle" transform="rotate(-90 14 {TOP + side / 2:g})">'
        f"{escape(method)}</text>",
    ]
    diagonal = f'<line class="bound" x1="{LEFT}" y1="{TOP + side}" x2="{LEFT + side}" y2="{TOP}"/>'
    dots = [f'<circle class="seen" cx="{px:.1f}" cy="{py:.1f}" r="2.5"/>' for px, py in dict.fromkeys(map(at, pairs))]
    return _drawing(name, LEFT + side + RIGHT, HEIGHT, f"{method} against numeric", told, [box, diagonal, *ends, *dots])


def heat(picture: Picture, name: str, told: str) -> str:
    """The relative error over a leaf, a cell for each entry or block of entries; wrong ones bear a cross."""
    rows, columns = picture.grid
    if rows * columns < 2:
        return ""
    cell = max(2.0, min(CELL, LARGEST / columns, LARGEST / rows))
    shades: dict[int, list[int]] = {}
    for place, error in enumerate(picture.errors):
        shades.setdefault(_shade(error), []).append(place)
    parts = [
        f'<path class="shade{shade}" d="{"".join(f"M{k % columns} {k // columns}h1v1h-1z" for k in places)}"/>'
        for shade, places in sorted(shades.items())
    ]
    cross = "".join(
        f"M{k % columns + 0.2:g} {k // columns + 0.2:g}l.6 .6m-.6 0l.6 -.6" for k, wrong in enumerate(picture.wrong) if wrong
    )
    scaled = f'<g transform="scale({cell:g})">{"".join(parts)}<path class="cross" d="{cross}"/></g>'
    outline = f'<rect class="frame" x="0" y="0" width="{columns * cell:g}" height="{rows * cell:g}"/>'
    return _drawing(name, columns * cell, rows * cell, "Relative error over the leaf", told, [scaled, outline])


def _shade(error: float) -> int:
    """0 to 5, from right to wrong; 6 where it is not a number."""
    if math.isnan(error):
        return 6
    return sum(error >= 10.0**decade for decade in DECADES)


def _frame(x: Axis, y: Axis, below: str, beside: str) -> str:
    parts = [f'<rect class="frame" x="{LEFT}" y="{TOP}" width="{WIDTH - LEFT - RIGHT}" height="{HEIGHT - TOP - BOTTOM}"/>']
    for k in x.ticks():
        at = x.at(10.0**k)
        parts.append(f'<path class="grid" d="M{at:g} {TOP}V{HEIGHT - BOTTOM}"/>')
        parts.append(f'<text x="{at:g}" y="{HEIGHT - BOTTOM + 14}" text-anchor="middle">1e{k}</text>')
    for k in y.ticks():
        at = y.at(10.0**k)
        parts.append(f'<path class="grid" d="M{LEFT} {at:g}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{at + 4:g}" text-anchor="end">1e{k}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle:g}" y="{HEIGHT - 8}" text-anchor="middle">{escape(below)}</text>')
    parts.append(
        f'<text x="14" y="{HEIGHT / 2:g}" text-anchor="middle" transform="rotate(-90 14 {HEIGHT / 2:g})">{beside}</text>'
    )
    return "".join(parts)


def _points(x: Axis, y: Axis, pairs: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x.at(a):g},{y.at(b):g}" for a, b in pairs)


def _drawing(name: str, width: float, height: float, title: str, told: str, parts: Iterable[str]) -> str:
    return (
        f'<svg role="img" aria-labelledby="{name}-t {name}-d" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}" xmlns="http://www.w3.org/2000/svg"><title id="{name}-t">{escape(title)}</title>'
        f'<desc id="{name}-d">{escape(told)}</desc>{"".join(parts)}</svg>'
    )
