"""The shape of the function at the primal: smooth, a kink, a jump, or a singular power.

`reports/accuracy.md` measures the verdicts at known kinks and jumps.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.evidence.line import STEP_RATIO

if TYPE_CHECKING:
    from gradcheck.evidence.line import F64

# A difference stands out if it is more than this many times the noise.
MIN_SIGNAL_TO_NOISE = 4.0
# A difference that was expected to be more than this many times the noise is gone if it does not stand out.
MIN_VANISHED_TO_NOISE = 8.0
# An order is read from this many steps. A smooth function shows fewer, as it sinks into the noise at noise^(1/2).
ORDER_STEPS = 4
# These bound the order p of |S| ~ h^p, where 2 is smooth, 1 a kink and 0 a jump.
MIN_SMOOTH_ORDER = 1.5
MIN_KINK_ORDER, MAX_KINK_ORDER = 0.8, 1.2
MAX_JUMP_ORDER = 0.2
# If the orders of the steps differ by more than this, there is no single order.
MAX_ORDER_SPREAD = 0.5
# A difference stays constant if it changes by less than this share of itself over the finest steps.
MAX_CONSTANT_CHANGE = 0.01


class Shape(Enum):
    """Classes of local behaviour, by the order at which the second difference falls with the step."""

    SMOOTH = "smooth"
    KINK = "kink"
    JUMP = "jump"
    SINGULAR = "singular"


def classify_shape(h: F64, right: F64, left: F64, noise: F64) -> Shape:
    """Classify the shape by the differences phi(h) - phi(0) and phi(0) - phi(-h), coarse to fine.

    Their own difference, the second difference S, falls like h^2 if the function is smooth, like h at a kink, and not at all
    at a jump. At a singularity such as that of the square root it falls like a power between 0 and 1. The finest steps that
    still stand out of the noise decide: a kink at a distance shows order 1 only at the steps that reach it, and none below. A
    difference that stays the same however fine the step is also a jump (at the middle of a symmetric jump S vanishes).
    """
    if stays_constant(right, noise) or stays_constant(left, noise):
        return Shape.JUMP
    second = right - left
    clear = np.abs(second) > MIN_SIGNAL_TO_NOISE * noise
    run = 0
    while run < h.size and clear[run]:
        run += 1
    if 0 < run < h.size and np.abs(second[run - 1]) / STEP_RATIO > MIN_VANISHED_TO_NOISE * noise[run]:
        # It would still stand out one step finer, but is gone: what the coarse steps saw lies at a distance.
        return Shape.SMOOTH
    if run < ORDER_STEPS:
        return Shape.SMOOTH
    tail = np.abs(second[run - ORDER_STEPS : run])
    orders = np.log(tail[:-1] / tail[1:]) / np.log(STEP_RATIO)
    order = float(np.median(orders))
    if order > MIN_SMOOTH_ORDER or np.ptp(orders) > MAX_ORDER_SPREAD:
        return Shape.SMOOTH
    if MIN_KINK_ORDER <= order <= MAX_KINK_ORDER:
        return Shape.KINK
    return Shape.JUMP if order < MAX_JUMP_ORDER else Shape.SINGULAR


def stays_constant(difference: F64, noise: F64) -> bool:
    """Whether a difference no longer changes as the step falls, over the four finest steps."""
    tail = difference[-ORDER_STEPS:]
    visible = tail.size == ORDER_STEPS and np.all(np.abs(tail) > noise[-ORDER_STEPS:])
    return bool(visible and np.ptp(tail) <= MAX_CONSTANT_CHANGE * np.abs(tail[-1]))


def distance_to_kink(h: F64, right: F64, left: F64, noise: F64) -> float:
    """Locate the nearest kink along the line, on either side; NaN if none is seen.

    Beyond a kink at distance d the second difference is the change of slope times (h - d); closer than d there is none. So it
    drops out of sight within one step, and the last two steps that see it give d.
    """
    second = np.abs(right - left)
    clear = second > MIN_SIGNAL_TO_NOISE * noise
    run = int(np.argmin(clear)) if not clear.all() else h.size
    if run < 2 or run == h.size or second[run - 1] / STEP_RATIO**2 <= MIN_VANISHED_TO_NOISE * noise[run]:
        return float("nan")
    (a, b), (far, near) = h[run - 2 : run], second[run - 2 : run]
    crossing = (a * near - b * far) / (near - far) if near != far else b
    return float(min(max(crossing, h[run]), b))
