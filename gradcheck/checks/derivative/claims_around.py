"""The claims around a point where the function is not differentiable: is a claim there made of them?

A claim in the convex hull of the derivatives around is right (Clarke's generalised gradient). The hull is never known as a
whole, as each tie multiplies its corners. So it is searched from the claim: the mean of the known corners that is nearest to
the claim shows in which direction a corner is missing (the Frank-Wolfe algorithm, with all weights chosen anew each time). If
no corner reaches as far as the claim in that direction, the claim is outside.

Code that meets a tie in two places, as in `x.max() + x.median()`, may choose another entry in each, and its derivative is
outside of that hull. It lies between the claims around along most directions, and equals them along those that keep ties.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradcheck.checks.derivative.kinks import compute_leaf_factors
from gradcheck.compare import claimed_jacobians
from gradcheck.evidence import directions
from gradcheck.number_format import FLOAT64
from gradcheck.seeds import make_generator
from gradcheck.verdict.interval import Code

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gradcheck.backends.flat import Leaf
    from gradcheck.compare.claimed_jacobians import Jacobian
    from gradcheck.compare.trial import MeasuredTrial
    from gradcheck.evidence.line import F64

# Claims are taken this far from the primal, in an entry's scales, and at half of it, and extrapolated to it; in lower precision
# the second.
DISTANCE, COARSE_DISTANCE = 2.0**-16, 2.0**-10
# Each entry moves by this share of the step at least, in a size of its own, which breaks all ties.
TIE_BREAKING_SHARE = 2.0**-6
# A change of the claims is a jump if more than this share of it is left at a distance this many times smaller.
CLOSER, MIN_REMAINDER = 64.0, 0.125
# Two claims are the same if they differ by no more than this, relative to the largest entry; in lower precision the second.
TOLERANCE, COARSE_TOLERANCE = 1e-5, 1e-4
# Whether the claims around jump at all shows in this many random directions, or in so many if some entries are equal.
DRAWS, DRAWS_AT_TIE = 2, 12
# The search ends at this many corners, or at fewer if they are more than so many numbers.
MAX_CORNERS, MIN_CORNERS, MAX_NUMBERS = 48, 8, 2**25
# Claims in this many random directions show between which values a claim may lie ...
RANDOM_CORNERS = 32
# ... along this many random tangents, and along all those that keep the ties.
TANGENTS = 3


class ClaimsAround:
    """The limits of one channel of a claim on the way to the primal from all sides: corners."""

    def __init__(
        self, trial: MeasuredTrial, moved: Sequence[Leaf], compared: Sequence[Leaf], jacobian: Jacobian, cotangent: F64
    ) -> None:
        point = trial.program.point
        self._point, self._jacobian, self._cotangent, self._scales = point, jacobian, cotangent, np.zeros(point.size)
        for leaf, factor in zip(moved, compute_leaf_factors(trial.program, moved), strict=True):
            self._scales[leaf.span] = factor * directions.compute_entry_scales(point[leaf.span])
        self._compared = np.concatenate([np.arange(point.size)[leaf.span] for leaf in compared])
        # Ties are broken in the order of the entries, as by code that picks the first or the last of equal ones.
        self._order = np.linspace(0.5, 1.0, point.size) * (self._scales > 0)
        is_coarse = jacobian.eps > FLOAT64.eps
        self._distance, self._tolerance = (COARSE_DISTANCE, COARSE_TOLERANCE) if is_coarse else (DISTANCE, TOLERANCE)
        self._rng = make_generator(0, "around", trial.label, *(leaf.path for leaf in moved))
        self._max_corners = min(MAX_CORNERS, max(MIN_CORNERS, MAX_NUMBERS // self._compared.size))
        self._corners: list[F64] = []

    def _evaluate(self, signs: F64) -> F64:
        """Evaluate the claim a step away in a direction, as changes of the compared entries per scale, (n,)."""
        assert self._jacobian.claim is not None
        point = self._point + self._distance * self._scales * signs
        row = claimed_jacobians.evaluate_rows(self._jacobian.claim, point, self._cotangent)[0]
        return np.asarray((row * self._scales)[self._compared])

    def _add(self, signs: F64) -> F64:
        """Add the limit of the claims in a direction, (n,)."""
        self._corners.append(2 * self._evaluate(signs / 2) - self._evaluate(signs))
        return self._corners[-1]

    def find_jump(self, values: F64) -> tuple[F64, F64] | None:
        """Return two directions, (N,), in entry scales, such that a claim, (N,), and the limits there differ.

        None if no difference shows: then nothing speaks for a tie.
        """
        first = (values * self._scales)[self._compared]
        moving = self._point[self._scales > 0]
        is_tied = np.unique(moving).size < moving.size
        drawn = [self._draw_signs() for _ in range(DRAWS_AT_TIE if is_tied else DRAWS)]
        for signs in (self._order, -self._order, *drawn):
            if not self._is_close(self._add(signs), first):
                # The change of a smooth derivative, however steep, vanishes on the way to the primal; that of a tie does not.
                far, near = (self._evaluate(signs / share) for share in (1.0, CLOSER))
                is_jump = np.max(np.abs(near - first)) > MIN_REMAINDER * np.max(np.abs(far - first))
                return (signs, drawn[0]) if is_jump and not self._is_close(near, first) else None
        return None

    def _is_close(self, corner: F64, other: F64) -> bool:
        """Whether two gradients are the same to within the tolerance."""
        return bool(np.max(np.abs(corner - other)) <= self._tolerance * max(np.max(np.abs(corner)), np.max(np.abs(other))))

    def _draw_signs(self) -> F64:
        """Draw a direction in which every number moves, (N,)."""
        return self._rng.choice([-1.0, 1.0], self._point.size) * self._rng.uniform(0.5, 1.0, self._point.size)

    def contains(self, values: F64) -> bool:
        """Whether the hull of the corners contains a claim, (N,)."""
        claim = (values * self._scales)[self._compared]
        tolerance = self._tolerance * float(np.max(np.abs(claim), initial=0.0))
        ahead, behind = self._add(self._order), self._add(-self._order)
        self._add(self._choose_sides(self._order, np.abs(ahead - claim) <= np.abs(behind - claim)))
        self._find_farthest(claim)
        while len(self._corners) <= self._max_corners:
            corners = np.array(self._corners)
            residual = claim - find_weights(corners, claim) @ corners
            if np.max(np.abs(residual)) <= tolerance:
                return True
            if self._find_farthest(residual) < claim @ residual - tolerance * np.sum(np.abs(residual)):
                return False
        return False

    def _choose_sides(self, signs: F64, is_ahead: NDArray[np.bool_]) -> F64:
        """Turn a direction round in some of the compared entries."""
        chosen = signs.copy()
        chosen[self._compared] *= np.where(is_ahead, 1.0, -1.0)
        return chosen

    def _find_farthest(self, residual: F64) -> float:
        """Add corners that reach far along a residual, and return how far they do."""
        largest = float(np.max(np.abs(residual))) or 1.0
        along = TIE_BREAKING_SHARE * self._order
        along[self._compared] += residual / largest
        ahead, behind = self._add(along), self._add(-along)
        # A convex kink reaches farther ahead, a concave one behind.
        mixed = self._add(self._choose_sides(along, residual * ahead >= residual * behind))
        # If the second of equal entries counts more than the first, the smallest residual has to come first.
        turned = TIE_BREAKING_SHARE * self._order
        size = np.abs(residual) / largest
        turned[self._compared] += np.sign(residual) * np.where(
            size > 0, 1.0 + np.min(size, where=size > 0, initial=1.0) - size, 0.0
        )
        other = self._add(turned)
        return float(max(corner @ residual for corner in (ahead, behind, mixed, other)))

    def judge(self, values: F64) -> Code | None:
        """Judge a claim, (N,): PASS if it is in the hull, or along all tangents between the corners; FAIL if it is far outside.

        It is INCONCLUSIVE, and not FAIL, if it is right along all tangents that keep the ties. Code that meets a tie twice, as
        in `x.max() + x.min()`, may choose another entry each time, and nothing shows that from outside. None if the corners
        are all the same, and no tie explains the claim.
        """
        if self.contains(values):
            return Code.PASS
        for _ in range(min(RANDOM_CORNERS, self._max_corners)):
            self._add(self._draw_signs())
        claim = (values * self._scales)[self._compared]
        tangents = self._rng.standard_normal((TANGENTS, claim.size))
        _, group, counts = np.unique(self._point[self._compared], return_inverse=True, return_counts=True)

        def slopes(gradient: F64, tangents: F64) -> F64:
            # Entries that are equal move alike: all of them, and each group alone, of one entry or more.
            return np.concatenate([tangents @ gradient, [np.sum(gradient)], np.bincount(group, gradient)])

        around, claimed = np.array([slopes(corner, tangents) for corner in self._corners]), slopes(claim, tangents)
        low, high = np.min(around, axis=0), np.max(around, axis=0)
        margin = self._tolerance * slopes(np.abs(claim), np.abs(tangents))
        outside = np.maximum(low - claimed, claimed - high)
        keeps_ties = np.any(counts > 1) and np.all((outside <= margin)[TANGENTS:])
        if all(self._is_close(corner, self._corners[0]) for corner in self._corners):
            return Code.INCONCLUSIVE if keeps_ties else None
        if np.all(outside <= margin):
            return Code.PASS
        return Code.INCONCLUSIVE if keeps_ties else Code.FAIL


def find_weights(corners: F64, claim: F64) -> F64:
    """Find weights, at least 0 and 1 in sum, whose mean of some corners, (K, n), is nearest to a claim, (n,): (K,).

    Non-negative least squares by Lawson and Hanson (1974), with the sum as one more equation.
    """
    size = float(max(np.max(np.abs(corners), initial=0.0), np.max(np.abs(claim), initial=0.0))) or 1.0
    matrix = np.vstack([corners.T / size, np.ones(len(corners))])
    target = np.append(claim / size, 1.0)
    weights, active = np.zeros(len(corners)), np.zeros(len(corners), dtype=bool)
    for _ in range(3 * len(corners)):
        slope = matrix.T @ (target - matrix @ weights)
        candidate = int(np.argmax(np.where(active, -np.inf, slope)))
        if active.all() or slope[candidate] <= 1e-12:
            break
        active[candidate] = True
        while True:
            solution = np.zeros(len(corners))
            solution[active] = np.linalg.lstsq(matrix[:, active], target, rcond=None)[0]
            if np.all(solution[active] > 0):
                break
            shrinking = active & (solution <= 0)
            share = np.min(weights[shrinking] / np.maximum(weights[shrinking] - solution[shrinking], 1e-300))
            weights += share * (solution - weights)
            active &= weights > 1e-12
        weights = solution
    return weights
