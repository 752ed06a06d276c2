"""What the function looks like at the primal: smooth, a kink, a jump, or a singular power."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.evidence.line import RATIO

if TYPE_CHECKING:
    from gradcheck.evidence.line import F64


class Shape(Enum):
    """Classes of local behaviour, by the order at which the second difference falls with the step."""

    SMOOTH = "smooth"
    KINK = "kink"
    JUMP = "jump"
    SINGULAR = "singular"


def classify(h: F64, right: F64, left: F64, noise: F64) -> Shape:
    """Tell the shape from the differences phi(h) - phi(0) and phi(0) - phi(-h), coarse to fine.

    Their own difference, the second difference S, falls like h^2 where the function is smooth, like h at a kink, not at all
    at a jump, and like a power between 0 and 1 at a singularity such as that of the square root. The finest steps that still
    stand out of the noise decide: a kink at a distance shows order 1 only at the steps that reach it, and none below. A jump
    is also what stays the same however fine the step (at the middle of a symmetric jump S vanishes).
    """
    if stays(right, noise) or stays(left, noise):
        return Shape.JUMP
    second = right - left
    clear = np.abs(second) > 4 * noise
    run = 0
    while run < h.size and clear[run]:
        run += 1
    if 0 < run < h.size and np.abs(second[run - 1]) / RATIO > 8 * noise[run]:
        return (
            Shape.SMOOTH
        )  # it would still stand out one step finer, but is gone: what the coarse steps saw lies at a distance
    # A smooth function's second difference sinks into the noise at steps near noise^(1/2); a kink's at noise itself.
    if run < 4:
        return Shape.SMOOTH
    tail = np.abs(second[run - 4 : run])
    orders = np.log(tail[:-1] / tail[1:]) / np.log(RATIO)
    order = float(np.median(orders))
    if order > 1.5 or np.ptp(orders) > 0.5:
        return Shape.SMOOTH
    if 0.8 <= order <= 1.2:
        return Shape.KINK
    return Shape.JUMP if order < 0.2 else Shape.SINGULAR


def stays(difference: F64, noise: F64) -> bool:
    """Whether a difference no longer changes as the step falls, over the four finest steps."""
    tail = difference[-4:]
    return bool(tail.size == 4 and np.all(np.abs(tail) > noise[-4:]) and np.ptp(tail) <= 0.01 * np.abs(tail[-1]))


def distance_to_kink(h: F64, right: F64, left: F64, noise: F64) -> float:
    """How far along the line the nearest kink lies, on either side; NaN where none is seen.

    Beyond a kink at distance d the second difference is the change of slope times (h - d), before it there is none: it drops
    out of sight within one step, and the last two steps that see it give d.
    """
    second = np.abs(right - left)
    clear = second > 4 * noise
    run = int(np.argmin(clear)) if not clear.all() else h.size
    if run < 2 or run == h.size or second[run - 1] / RATIO**2 <= 8 * noise[run]:
        return float("nan")
    (a, b), (far, near) = h[run - 2 : run], second[run - 2 : run]
    meets = (a * near - b * far) / (near - far) if near != far else b
    return float(min(max(meets, h[run]), b))
