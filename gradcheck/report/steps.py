"""How an estimate was found: a table of steps with the error at each, and a sentence that says what it shows."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from gradcheck.results import Comparison, Estimate

BAR = 24  # characters of the longest bar
DECADES = 16.0  # that the longest bar stands for
SHAPES = {"": "too little was seen to say how smooth", "one-sided": "the function exists on one side only"}


def sentence(story: Estimate) -> str:
    """What the steps show, in words."""
    if story.plateau is None:
        told = "no steps agree"
    else:
        coarse, fine = story.plateau
        told = f"steps {coarse:.1e} to {fine:.1e} agree on {story.value:.9g} ± {story.bound:.0e}"
    low, high = story.one_sided
    kink = "" if math.isnan(story.kink_distance) else f", a kink at a distance of {story.kink_distance:.1e}"
    if not math.isnan(low):
        kink = f", one-sided slopes {low:.6g} and {high:.6g}"
    shape = SHAPES.get(story.smoothness, story.smoothness)
    return f"{told}; {shape}{kink}; noise of a difference {story.noise:.0e}"


def table(comparison: Comparison, story: Estimate) -> Table:
    """Every step with its central difference, what noise may do to it, and how far it is off the value chosen."""
    found = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1), collapse_padding=True)
    for name in ("step", "difference", "± noise", "off by"):
        found.add_column(name, justify="right", no_wrap=True)
    found.add_column("", no_wrap=True)
    scale = max(abs(comparison.claimed), abs(story.value), 1e-300)
    for h, difference, bound in zip(story.steps, story.differences, story.bounds, strict=True):
        apart = abs(difference - story.value)
        chosen = story.plateau is not None and story.plateau[1] <= h <= story.plateau[0]
        cells = (f"{h:.1e}", f"{difference:.9g}", f"{bound:.0e}", f"{apart:.0e}")
        found.add_row(*cells, Text(_bar(apart / scale) + (" chosen" if chosen else "")))
    return found


def _bar(relative: float) -> str:
    """The error on a scale of decades: no bar at 1e-16, the longest at 1."""
    if math.isnan(relative):
        return "outside the domain"
    decades = DECADES + math.log10(relative) if relative > 0 else 0.0
    return "▪" * round(BAR * min(max(decades / DECADES, 0.0), 1.0))
