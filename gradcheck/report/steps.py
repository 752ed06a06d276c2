"""How an estimate was made: a table of steps with the error at each, and a sentence that sums it up."""

from __future__ import annotations

import math

from rich.table import Table
from rich.text import Text

from gradcheck.report.terminal.layout import new_table
from gradcheck.results import Comparison, Estimate

BAR_LENGTH = 24  # characters of the longest bar in a table of the terminal
BAR_DECADES = 16.0  # decades of relative error that the longest bar spans, from 1e-16 to 1
# Smallest magnitude that errors are divided by, so that they stay finite if the claim and the estimate are 0.
MIN_SCALE = 1e-300
SMOOTHNESS_PHRASES = {
    "": "too few values to say how smooth the function is",
    "one-sided": "the function is defined on one side only",
}


def describe_estimate(story: Estimate) -> str:
    """Sum up in a sentence what the steps show."""
    if story.plateau is None:
        agreement = "no steps agree"
    else:
        coarse, fine = story.plateau
        agreement = f"steps {coarse:.1e} to {fine:.1e} agree on {story.value:.9g} ± {story.bound:.0e}"
    low, high = story.one_sided
    kink = "" if math.isnan(story.kink_distance) else f", a kink at a distance of {story.kink_distance:.1e}"
    if not math.isnan(low):
        kink = f", one-sided slopes {low:.6g} and {high:.6g}"
    smoothness = SMOOTHNESS_PHRASES.get(story.smoothness, story.smoothness)
    return f"{agreement}; {smoothness}{kink}; noise of a difference {story.noise:.0e}"


def build_table(comparison: Comparison, story: Estimate) -> Table:
    """List every step with its central difference, the bound of its noise, and its distance from the chosen value."""
    table = new_table()
    for name in ("step", "difference", "± noise", "off by"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    scale = max(abs(comparison.claimed), abs(story.value), MIN_SCALE)
    for h, difference, bound in zip(story.steps, story.differences, story.bounds, strict=True):
        error = abs(difference - story.value)
        chosen = story.plateau is not None and story.plateau[1] <= h <= story.plateau[0]
        cells = (f"{h:.1e}", f"{difference:.9g}", f"{bound:.0e}", f"{error:.0e}")
        table.add_row(*cells, Text(_error_bar(error / scale) + (" chosen" if chosen else "")))
    return table


def _error_bar(relative_error: float) -> str:
    """Draw the error on a logarithmic scale: no bar at 1e-16, the longest at 1."""
    if math.isnan(relative_error):
        return "outside the domain"
    decades = BAR_DECADES + math.log10(relative_error) if relative_error > 0 else 0.0
    return "▪" * round(BAR_LENGTH * min(max(decades / BAR_DECADES, 0.0), 1.0))
