"""Pictures of a comparison as inline SVG: the steps of an estimate, and claimed against numeric derivatives.

Colours are classes of the page's style sheet, so that they follow its light and dark modes. No shape is marked by its colour
alone, and every picture has a title and a description.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape

from gradcheck.report.steps import MIN_SCALE
from gradcheck.results import Comparison, Estimate, Picture

WIDTH, HEIGHT = 380, 260  # size of a plot, in pixels; all plots have this height
LEFT, RIGHT, TOP, BOTTOM = 58, 12, 12, 40  # margins of a plot, in pixels
MIN_ERROR = 1e-17  # Smaller relative errors are drawn at this one.


@dataclass(frozen=True)
class Axis:
    """A logarithmic scale from `low` to `high`, drawn from pixel `start` to `end`."""

    low: float
    high: float
    start: float
    end: float

    def at(self, x: float) -> float:
        """Return the pixel of a number; numbers outside the scale are drawn at its edge."""
        share = (math.log10(min(max(x, self.low), self.high)) - math.log10(self.low)) / math.log10(self.high / self.low)
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self) -> list[int]:
        """Return the exponents of the decades to label, about eight at most."""
        first, last = math.ceil(math.log10(self.low)), math.floor(math.log10(self.high))
        every = max(1, -(-(last - first) // 8))
        return list(range(first, last + 1, every))


@dataclass(frozen=True)
class LinearAxis:
    """A linear scale from `-largest` to `largest`, drawn from pixel `start` to `end`."""

    largest: float
    start: float
    end: float

    def at(self, x: float) -> float:
        """Return the pixel of a number."""
        return self.start + (self.end - self.start) * (x / self.largest + 1) / 2


def draw_steps(comparison: Comparison, story: Estimate, name: str, description: str) -> str:
    """Draw the error of the central difference at every step on logarithmic axes, with the noise and the steps chosen.

    Args:
        story: the estimate that was made step by step.
        name: an id that is unique on the page.
        description: what the picture shows, in a sentence.
    """
    scale = max(abs(comparison.claimed) if math.isfinite(comparison.claimed) else 0.0, abs(story.value), MIN_SCALE)
    pairs = zip(story.steps, story.differences, strict=True)
    measured = [(h, abs(difference - story.value) / scale) for h, difference in pairs if math.isfinite(difference)]
    noise = [(h, bound / scale) for h, bound in zip(story.steps, story.bounds, strict=True) if math.isfinite(bound)]
    if not measured:
        return ""
    claim = abs(comparison.claimed - story.value) / scale if math.isfinite(comparison.claimed) else math.nan
    bound = story.bound / scale
    errors = [error for _, error in (*measured, *noise)] + [error for error in (claim, bound) if math.isfinite(error)]
    x = Axis(min(h for h, _ in measured) / 2, max(h for h, _ in measured) * 2, LEFT, WIDTH - RIGHT)
    y = Axis(max(min(errors) / 3, MIN_ERROR), max(max(errors) * 3, 10 * MIN_ERROR), HEIGHT - BOTTOM, TOP)
    parts = [_draw_frame(x, y, "step", "relative error")]
    if story.plateau is not None:
        coarse, fine = (x.at(h) for h in story.plateau)
        left, width = min(coarse, fine) - 4, abs(coarse - fine) + 8
        parts.append(f'<rect class="chosen" x="{left:g}" y="{TOP}" width="{width:g}" height="{HEIGHT - TOP - BOTTOM}"/>')
    if len(noise) > 1:
        points = " ".join(f"{x.at(h):g},{y.at(error):g}" for h, error in noise)
        parts.append(f'<polyline class="noise" points="{points}"/>')
    parts += [_draw_level(y, error, kind, label) for error, kind, label in _list_levels(claim, bound, comparison.method)]
    parts += [f'<circle class="measured" cx="{x.at(h):g}" cy="{y.at(error):g}" r="3"/>' for h, error in measured]
    title = f"Error of the central difference against the step, at {comparison.wrt}"
    return wrap_svg(name, WIDTH, HEIGHT, title, description, parts)


def _list_levels(claim: float, bound: float, method: str) -> list[tuple[float, str, str]]:
    """Return the errors to draw as horizontal lines, each with its class and label; those that a logarithm can show."""
    levels = [(claim, "claim", f"{method} is off by this"), (bound, "bound", "bound")]
    return [level for level in levels if math.isfinite(level[0]) and level[0] > 0]


def _draw_level(y: Axis, error: float, kind: str, label: str) -> str:
    height = y.at(error)
    line = f'<line class="{kind}" x1="{LEFT}" y1="{height:g}" x2="{WIDTH - RIGHT}" y2="{height:g}"/>'
    label_height = height - 4 if height > TOP + 12 else height + 12  # inside the frame
    # Both lines may be at the same height, so their labels are at opposite ends.
    x, anchor = (LEFT + 4, "start") if kind == "bound" else (WIDTH - RIGHT - 4, "end")
    return f'{line}<text x="{x}" y="{label_height:g}" text-anchor="{anchor}">{escape(label)}</text>'


def draw_scatter(picture: Picture, name: str, description: str, method: str) -> str:
    """Plot claimed against numeric derivatives for some entries of a leaf: a dot for a right one, a cross for a wrong one."""
    wrong = picture.wrong_entries or (False,) * len(picture.claimed)
    points = [
        (estimate, claim, is_wrong)
        for claim, estimate, is_wrong in zip(picture.claimed, picture.estimate, wrong, strict=True)
        if math.isfinite(claim) and math.isfinite(estimate)
    ]
    if len(points) < 2:
        return ""
    largest = max(max(abs(a), abs(b)) for a, b, _ in points) or 1.0
    side = HEIGHT - TOP - BOTTOM
    x = LinearAxis(largest, LEFT, LEFT + side)
    y = LinearAxis(largest, TOP + side, TOP)
    marks = dict.fromkeys(_draw_point(x.at(a), y.at(b), is_wrong) for a, b, is_wrong in sorted(points, key=lambda p: p[2]))
    box = f'<rect class="frame" x="{LEFT}" y="{TOP}" width="{side}" height="{side}"/>'
    diagonal = f'<line class="bound" x1="{LEFT}" y1="{TOP + side}" x2="{LEFT + side}" y2="{TOP}"/>'
    zero = f'<path class="grid" d="M{x.at(0):g} {TOP}v{side}M{LEFT} {y.at(0):g}h{side}"/>'
    labels = [
        *(
            f'<text x="{x.at(value):g}" y="{TOP + side + 14}" text-anchor="{anchor}">{value:.2g}</text>'
            for value, anchor in ((-largest, "start"), (0.0, "middle"), (largest, "end"))
        ),
        *(
            f'<text x="{LEFT - 6}" y="{y.at(value) + shift:g}" text-anchor="end">{value:.2g}</text>'
            for value, shift in ((-largest, 0), (0.0, 4), (largest, 8))
        ),
        f'<text x="{LEFT + side / 2:g}" y="{TOP + side + 30}" text-anchor="middle">numeric</text>',
        f'<text x="14" y="{TOP + side / 2:g}" text-anchor="middle" transform="rotate(-90 14 {TOP + side / 2:g})">'
        f"{escape(method)}</text>",
    ]
    parts = [box, zero, diagonal, *labels, *marks]
    return wrap_svg(name, LEFT + side + RIGHT, HEIGHT, f"{method} against numeric", description, parts)


def _draw_point(x: float, y: float, is_wrong: bool) -> str:
    if is_wrong:
        return f'<path class="off" d="M{x - 4:.1f} {y - 4:.1f}l8 8m-8 0l8 -8"/>'
    return f'<circle class="measured" cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>'


def _draw_frame(x: Axis, y: Axis, x_label: str, y_label: str) -> str:
    parts = [f'<rect class="frame" x="{LEFT}" y="{TOP}" width="{WIDTH - LEFT - RIGHT}" height="{HEIGHT - TOP - BOTTOM}"/>']
    for k in x.ticks():
        pixel = x.at(10.0**k)
        parts.append(f'<path class="grid" d="M{pixel:g} {TOP}V{HEIGHT - BOTTOM}"/>')
        parts.append(f'<text x="{pixel:g}" y="{HEIGHT - BOTTOM + 14}" text-anchor="middle">1e{k}</text>')
    for k in y.ticks():
        pixel = y.at(10.0**k)
        parts.append(f'<path class="grid" d="M{LEFT} {pixel:g}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{pixel + 4:g}" text-anchor="end">1e{k}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle:g}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x_label)}</text>')
    parts.append(
        f'<text x="14" y="{HEIGHT / 2:g}" text-anchor="middle" transform="rotate(-90 14 {HEIGHT / 2:g})">{y_label}</text>'
    )
    return "".join(parts)


def wrap_svg(name: str, width: float, height: float, title: str, description: str, parts: Iterable[str]) -> str:
    """Put the parts of a picture into an `svg` element with a title and a description.

    Args:
        name: prefix of the ids of title and description.
        title: title for screen readers, as plain text.
        description: what the picture shows, as plain text.
        parts: elements as markup.
    """
    return (
        f'<svg role="img" aria-labelledby="{name}-t {name}-d" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}" xmlns="http://www.w3.org/2000/svg"><title id="{name}-t">{escape(title)}</title>'
        f'<desc id="{name}-d">{escape(description)}</desc>{"".join(parts)}</svg>'
    )
