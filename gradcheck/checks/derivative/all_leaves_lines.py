"""Lines that move leaves of the input: their tangents, and how far the outputs stand still along them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradcheck.evidence import directions
from gradcheck.seeds import make_generator

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradcheck.backends.flat import Leaf
    from gradcheck.backends.program import Program
    from gradcheck.compare.evaluator import Evaluator
    from gradcheck.evidence.line import F64, Setting

# Slopes are taken along the lines of these numbers; the next one measures the outputs, and the one after looks far.
LINES = 2
# The outputs must not change at these displacements (in units of t) where a zero gradient is claimed.
STANDSTILL_STEPS = (0.25, -0.25, 0.0625)
# In a leaf of at least this many entries some move one way and some the other, so that the first of these steps is enough.
MIN_ENTRIES_FOR_ONE_STEP = 64


def fill_tangent(tangent: F64, program: Program, leaves: list[Leaf], label: str, k: int) -> None:
    """Fill a tangent with random displacements of some leaves, those of line number `k`."""
    for leaf in leaves:
        directions.fill_even(make_generator(0, "joint", label, leaf.path, k), program.point[leaf.span], tangent[leaf.span])


def find_least_noise(setting: Setting) -> F64:
    """Return the least noise that each channel can have, (C,)."""
    return np.maximum(setting.contract_noise(setting.noise), np.finfo(np.float64).tiny)


def find_still_leaves(
    evaluator: Evaluator, setting: Setting, leaves: dict[int, Leaf], tangent: F64, label: str
) -> dict[int, float]:
    """Find the leaves along which the outputs stand still, each with a bound of the slope there.

    An example is the bias of the keys in attention, which the softmax takes out again. All leaves are moved at once, then each
    alone: factors that are all zero stand still only alone.
    """
    bound = _bound_still_slope(evaluator, setting, list(leaves.values()), tangent, label)
    if bound is not None:
        return dict.fromkeys(leaves, bound)
    if len(leaves) == 1:
        return {}
    bounds = {i: _bound_still_slope(evaluator, setting, [leaf], tangent, label) for i, leaf in leaves.items()}
    return {i: leaf_bound for i, leaf_bound in bounds.items() if leaf_bound is not None}


def _bound_still_slope(evaluator: Evaluator, setting: Setting, leaves: list[Leaf], tangent: F64, label: str) -> float | None:
    """Bound the slopes along some leaves at once, if the outputs stand still far along them; None if they do not.

    Args:
        tangent: a vector (N,) that is overwritten.
    """
    has_few_entries = min(leaf.entries for leaf in leaves) < MIN_ENTRIES_FOR_ONE_STEP
    steps = STANDSTILL_STEPS if has_few_entries else STANDSTILL_STEPS[:1]
    _, is_still = _look_far(evaluator, setting, leaves, tangent, label, steps)
    return float(np.max(setting.slack * find_least_noise(setting))) / max(STANDSTILL_STEPS) if np.all(is_still) else None


def find_farther_slopes(evaluator: Evaluator, setting: Setting, leaves: list[Leaf], label: str) -> F64:
    """Find how steep each channel is farther along the leaf in which it is flattest, (C,).

    A leaf along which it stands still does not count. It is 0 if all are such leaves.
    """
    tangent = np.zeros(evaluator.program.point.size)
    looks = [_look_far(evaluator, setting, [leaf], tangent, label, STANDSTILL_STEPS) for leaf in leaves]
    flattest = np.min([np.where(is_still, np.inf, steepest) for steepest, is_still in looks], axis=0)
    return np.where(np.isinf(flattest), 0.0, flattest)


def _look_far(
    evaluator: Evaluator, setting: Setting, leaves: list[Leaf], tangent: F64, label: str, steps: tuple[float, ...]
) -> tuple[F64, NDArray[np.bool_]]:
    """Look at each channel far along some leaves.

    Args:
        tangent: a vector (N,) that is overwritten.
        steps: displacements in units of t.

    Returns:
        The steepest slope between the primal and those points, (C,), and whether the channel stands still at all of them, (C,).
    """
    assert setting.channels is not None
    tangent[:] = 0.0
    fill_tangent(tangent, evaluator.program, leaves, label, LINES + 1)
    phi = evaluator.line_without_copies(tangent)
    changes = np.stack([np.abs(setting.channels @ (phi(t) - setting.base)) for t in steps])
    is_still = np.all(changes <= setting.slack * find_least_noise(setting), axis=0)
    return np.max(changes / np.abs(steps)[:, None], axis=0), is_still
