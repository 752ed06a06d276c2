"""TODO: describe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck import progress
from gradcheck.backends.flat import Leaf
from gradcheck.evidence import central, ladder
from gradcheck.evidence.line import F64, Phi, Setting, Slope

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Sheet:
    """Estimates along the lines of one leaf, (C, L) each; refined in place.

    Attributes:
        phis, settings: the lines, and the channels that each is read in.
        low, high: enclose the one-sided slopes at a kink; NaN elsewhere.
        eps: relative spacing of floats in the precision of the function.
        outputs: size of the channels: what a slope is negligible beside.
        story: how each careful estimate was found, None of the others.
        rough: not smooth as far as a cheap estimate can tell.
        refined: which lines have had the careful estimate, (L,).
    """

    leaf: Leaf
    phis: Sequence[Phi]
    settings: Sequence[Setting]
    eps: float
    value: F64
    bound: F64
    nearby: F64
    low: F64
    high: F64
    outputs: F64
    reason: NDArray[np.object_]
    story: NDArray[np.object_]
    rough: NDArray[np.bool_]
    refined: NDArray[np.bool_]


def measure(leaf: Leaf, phis: Sequence[Phi], settings: Sequence[Setting], eps: float) -> Sheet:
    """Estimate the derivative along every line cheaply."""
    sheet = blank(leaf, phis, settings, eps)
    for line in range(len(phis)):
        estimate(sheet, line, line, len(phis))
    return sheet


def blank(leaf: Leaf, phis: Sequence[Phi], settings: Sequence[Setting], eps: float) -> Sheet:
    """A sheet with nothing on it."""
    channels = settings[0].contract(settings[0].base).size if settings else 0
    shape = (channels, len(phis))
    sizes = {key: s.size for key, s in {id(s): s for s in settings}.items()}
    size = np.stack([sizes[id(s)] for s in settings], axis=1)
    empty: dict[str, Any] = {name: np.full(shape, np.nan) for name in ("value", "bound", "nearby", "low", "high")}
    reason, story = (np.full(shape, None, dtype=object) for _ in range(2))
    rough, refined = np.zeros(shape, dtype=bool), np.zeros(len(phis), dtype=bool)
    return Sheet(leaf, phis, settings, eps, **empty, outputs=size, reason=reason, story=story, rough=rough, refined=refined)


def estimate(sheet: Sheet, line: int, done: int, total: int) -> None:
    """Estimate the derivative along one line cheaply; `done` of `total` are there already."""
    progress.tell(sheet.leaf.path, done, total)
    setting = sheet.settings[line]
    _store(sheet, line, central.estimate(sheet.phis[line], setting, central.steps_for(setting, sheet.eps)))


def _store(sheet: Sheet, line: int, slope: Slope) -> None:
    names = ("value", "bound", "nearby", "low", "high", "reason", "story", "rough")
    for name in names:
        getattr(sheet, name)[:, line] = getattr(slope, name)


def refine(sheet: Sheet, line: int) -> None:
    """Make the estimates along one line again, with care."""
    _store(sheet, line, careful(sheet.phis[line], sheet.settings[line]))
    sheet.refined[line] = True


def careful(phi: Phi, setting: Setting) -> Slope:
    """The ladder's estimate; at a kink, the one-sided slopes of each output for itself.

    A combination of outputs may take another subgradient in each of them, so its interval is the sum of theirs.
    """
    slope = ladder.estimate(phi, setting)
    if setting.channels is None or np.all(np.isnan(slope.low)):
        return slope
    low, high = ladder.sides(phi, setting)
    up, down = np.maximum(setting.channels, 0), np.minimum(setting.channels, 0)
    kink = ~np.isnan(slope.low)
    wide_low, wide_high = up @ low + down @ high, up @ high + down @ low
    return replace(slope, low=np.where(kink, wide_low, np.nan), high=np.where(kink, wide_high, np.nan))
