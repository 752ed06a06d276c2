"""How far the function's values are off: ECnoise.

J. J. Moré and S. M. Wild, Estimating Computational Noise, SIAM J. Sci. Comput. 33 (2011), 1292-1314.
"""

from __future__ import annotations

from math import factorial
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradcheck.evidence.line import F64, Phi

POINTS = 7
COARSE, WIDEST = 2.0**-8, 2.0**-10
WIDENINGS = 3
LIKELY = 4.0  # units in the last place of the largest output: up to that what shows is round-off
SPACINGS = ((0.875, 1.17), (1.0, 1.0), (0.75, 1.37))  # (power, factor) of the one given: wider, and no power of two


def measure(
    phi: Phi, base: F64, finest: float, eps: float, *, spacings: int = len(SPACINGS), coarsest: F64 | None = None
) -> F64:
    """Standard deviation of the evaluation error of each output, (M,), from twelve evaluations a spacing.

    The k-th differences of a smooth function vanish like spacing^k, those of noise do not: level k estimates
    sigma_k^2 = (k!)^2/(2k)! mean(T_k^2). The first level that agrees with the next two within a factor of 4 and changes
    sign is taken; of the two sides of the primal the quieter one, since a kink or a jump lies on one of them. The spacing is
    made odd: at a power of two the points may all lie on the grid of the values, and show no rounding at all. Other spacings
    count where they show noise clearly. Of many outputs some are by accident on their grid at each of these; those that show
    nothing are held against the straight line to a point further off. Outputs that stand still at these spacings, here and at
    a distance, although they move at a coarse step, have values in steps (rounded, or computed in a lower precision): they are
    measured again further apart. Never less than half an ulp of the output.

    Args:
        phi: the line, along a direction that moves every entry.
        base: phi(0).
        finest: the smallest step t that displaces the primal exactly; spacings are near it.
        eps: relative spacing of floats in the precision the function computes in.
        spacings: at how many to look; few inputs can be on the grid of the values at one of them by accident, many cannot.
        coarsest: what rounding may do to each output at most, (M,), where that is known; more is a jump, and no noise.
    """
    limit = np.full(base.shape, np.inf) if coarsest is None else coarsest
    spacing, *others, far = (factor * finest**power for power, factor in SPACINGS)
    with np.errstate(all="ignore"):
        looked = [_sides(phi, base, s) for s in (spacing, *others, far)[:spacings]]
        found = np.fmax.reduce([_quieter(sides, clear=k > 0) for k, sides in enumerate(looked)])
        found = _with_hidden(found, _off_the_line(phi, looked[0], spacing, (POINTS - 1) * far), base, eps)
        still = np.all([_stands(sides) for sides in looked], axis=0)
        moves = _in_steps(phi, base, still, spacing) if still.any() else still
        wider = (WIDEST / spacing) ** (1 / WIDENINGS)
        for _ in range(WIDENINGS if moves.any() else 0):
            spacing *= wider
            sides = _sides(phi, base, spacing)
            again = _quieter(sides)
            found = np.where(moves & (again <= limit), again, found)
            moves &= _stands(sides)
            if not moves.any():
                break
        floor = 0.5 * eps * np.abs(base)
    return np.asarray(np.maximum(np.minimum(np.nan_to_num(found, posinf=0.0), limit), np.nan_to_num(floor, posinf=0.0)))


def _in_steps(phi: Phi, base: F64, still: NDArray[np.bool_], spacing: float) -> NDArray[np.bool_]:
    """Outputs that stand still at most places though they move from one to another; a flat branch beside a kink does not."""
    places = (COARSE, -COARSE, COARSE / 8, -COARSE / 8)
    values = [phi(place) for place in places]
    stands = np.sum([phi(p + POINTS / 2 * spacing) == v for p, v in zip(places, values, strict=True)], axis=0)
    return np.asarray(still & (stands >= len(places) - 1) & ((values[0] != base) | (values[1] != base)))


def like_rounding(phi: Phi, base: F64, spacing: float) -> F64:
    """The noise of each output at one spacing, (M,): what the higher differences agree on, as those of smooth ones do not."""
    middle = POINTS // 2
    levels, _ = _levels(np.stack([base if k == middle else phi((k - middle) * spacing) for k in range(POINTS)]))
    windows = [levels[k : k + 3] for k in range(2, levels.shape[0] - 2)]
    agree = np.any([(w.max(axis=0) <= 4 * w.min(axis=0)) for w in windows], axis=0)
    return np.where(agree, np.median(levels[2:], axis=0), 0.0)


def spread(phi: Phi, base: F64, repeats: int = 4) -> F64:
    """Half range of each output over repeated evaluations at the primal, (M,): noise of a random function."""
    values = np.stack([base, *(phi(0.0) for _ in range(repeats))])
    return np.asarray(np.ptp(values, axis=0))


def _sides(phi: Phi, base: F64, spacing: float) -> F64:
    """Values at the primal and at equal spacings on its right and on its left, (2, 7, M)."""
    return np.stack([[base, *(phi(k * step) for k in range(1, POINTS))] for step in (spacing, -spacing)])


def _quieter(sides: F64, *, clear: bool = False) -> F64:
    """The noise seen on the quieter side, (M,); with `clear` 0 where no levels agree, instead of the likeliest."""
    return np.asarray(np.fmin(*(_choose(*_levels(values), clear=clear) for values in sides)))


def _stands(sides: F64) -> NDArray[np.bool_]:
    """Which outputs did not move at all."""
    return np.asarray(np.all(sides == sides[:, :1], axis=(0, 1)))


def _off_the_line(phi: Phi, sides: F64, spacing: float, far: float) -> F64:
    """How far the values are off the straight line to a point further off, on the louder side, (M,)."""
    steps = spacing * np.arange(POINTS)[:, None]
    off = [
        values - values[0] - steps * (phi(sign * far) - values[0]) / far for sign, values in zip((1, -1), sides, strict=True)
    ]
    return np.asarray(np.fmax(*np.sqrt(np.mean(np.square(off), axis=1))))


def _with_hidden(found: F64, off: F64, base: F64, eps: float) -> F64:
    """The noise, where none was found what shows off the line, as long as that may be the round-off of the largest output."""
    size = np.abs(base)
    likely = off <= LIKELY * eps * np.max(size, initial=0.0, where=np.isfinite(size))
    return np.where((found <= 0.5 * eps * size) & likely, np.fmax(found, off), found)


def _levels(values: F64) -> tuple[F64, NDArray[np.bool_]]:
    table, levels, changes = values, [], []
    for k in range(1, POINTS):
        table = np.diff(table, axis=0)
        weight = factorial(k) ** 2 / factorial(2 * k)
        levels.append(np.sqrt(weight * np.mean(table**2, axis=0)))
        changes.append(np.any(table[:-1] * table[1:] < 0, axis=0))
    return np.stack(levels), np.stack(changes)


def _choose(levels: F64, changes: NDArray[np.bool_], *, clear: bool) -> F64:
    likeliest = np.median(levels[2:], axis=0)  # none qualifies: the high levels are the freest of the smooth part
    chosen = np.zeros(likeliest.shape) if clear else likeliest
    for k in range(levels.shape[0] - 3, -1, -1):
        window = levels[k : k + 3]
        agree = (window.max(axis=0) <= 4 * window.min(axis=0)) & changes[k]
        chosen = np.where(agree, levels[k], chosen)
    return chosen
