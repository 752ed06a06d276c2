"""The charts of the detection study."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import study_page
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from tables import CHECKERS, OURS, select
from trial import DTYPES, MAGNITUDES, Outcome

STYLES = dict(zip(CHECKERS, ["P-", "o-", "s-", "^--", "v--", "D:"], strict=True))
COLOURS = dict(zip(CHECKERS, ["#e69f00", "#0072b2", "#d55e00", "#009e73", "#56b4e9", "#cc79a7"], strict=True))
MIN_FAULTS = 5  # a bin of the chart with fewer faults gets no point


def draw_curves(faults: Sequence[Outcome], folder: Path) -> list[str]:
    """Draw detection against the size of the fault, with a panel per dtype."""
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True)
    for panel, dtype in zip(panels, DTYPES, strict=True):
        for checker in CHECKERS:
            chosen = select(faults, checker, dtype=dtype)
            line = (
                [statistics.mean(outcome.caught for outcome in chosen if outcome.magnitude == m) for m in MAGNITUDES]
                if chosen
                else []
            )
            if line:
                panel.plot(MAGNITUDES, line, STYLES[checker], color=COLOURS[checker], label=checker, markersize=4)
        style_axes(panel, dtype, "relative size of the fault")
        panel.invert_xaxis()
    panels[0].set_ylabel("faults caught")
    panels[1].legend(fontsize=7)
    text = "share of the planted faults that each checker catches, against their relative size, from 1 to 1e-8"
    return study_page.save_chart(figure, folder / "detection_curves.svg", "Detection against fault size", text)


def draw_step(faults: Sequence[Outcome], folder: Path) -> list[str]:
    """Draw detection by gradcheck against the fault's error in units of what is stated as detectable."""
    figure, panels = plt.subplots(1, len(OURS), figsize=(13, 3.2), sharey=True)
    edges = np.arange(-4, 8.5, 0.5)
    for panel, checker in zip(panels, OURS, strict=True):
        for dtype, style in zip(DTYPES, ("o-", "s--"), strict=True):
            chosen = [outcome for outcome in select(faults, checker, dtype=dtype) if outcome.ratio > 0]
            place = np.digitize([math.log10(outcome.ratio) for outcome in chosen], edges) - 1
            bins = [[outcome for outcome, k in zip(chosen, place, strict=True) if k == j] for j in range(edges.size)]
            full = [
                (10 ** (edges[j] + 0.25), statistics.mean(outcome.caught for outcome in b))
                for j, b in enumerate(bins)
                if len(b) >= MIN_FAULTS
            ]
            panel.plot(*zip(*full, strict=True) if full else ([], []), style, label=dtype, markersize=4)
        style_axes(panel, checker, "error of the fault / what is stated as detectable")
        panel.axvline(1.0, color="black", linewidth=0.8)
    panels[0].set_ylabel("faults caught")
    panels[0].legend(fontsize=7)
    text = "share of the faults that gradcheck catches, against their error in units of resolution plus rtol: a step at 1"
    return study_page.save_chart(figure, folder / "detection_step.svg", "Detection against the stated resolution", text)


def style_axes(panel: Axes, title: str, label: str) -> None:
    """Style a panel as both charts share it."""
    panel.set_xscale("log")
    panel.set_title(title, fontsize=10)
    panel.set_xlabel(label)
    panel.set_ylim(-0.03, 1.03)
    panel.grid(alpha=0.3)
