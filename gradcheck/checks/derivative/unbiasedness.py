"""Gradients of a function that draws random numbers: the mean of the claims over draws and the derivative of the mean.

If the claim g is unbiased at every point between x - h t and x + h t, the expectation of <g(x + s t), t>, with s uniform
between -h and h, is (F(x + h t) - F(x - h t)) / 2h, where F is the mean of the function. There is no truncation error, however
large h is, and the function may jump at a draw, as that of a discrete sample does. A draw gives one value of each side, with
the same random numbers for both; the mean of their difference is bounded by a confidence sequence.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.backends import global_state
from gradcheck.checks.derivative.comparisons import Comparisons, measure_trial_noise
from gradcheck.compare import claimed_jacobians
from gradcheck.compare.identity import ROUNDING_UNITS
from gradcheck.errors import InputError
from gradcheck.evidence import directions
from gradcheck.evidence.confidence import bound_mean, is_representative
from gradcheck.results import Comparison, Reason, Verdict
from gradcheck.seeds import make_generator

if TYPE_CHECKING:
    from gradcheck.backends.flat import F64, Leaf
    from gradcheck.backends.program import Claim
    from gradcheck.compare.trial import Trial

# Probability that a right claim of a case is ever refused.
ALPHA = 1e-6
# Each leaf is moved along two directions, which are the same for all draws. The signs of the first are those of the mean of
# some claims, so that a gradient of a wrong size cannot cancel in it; those of the second are random.
DIRECTIONS, SIGN_DRAWS = 2, 32
# Half of the length of the segment, in units of the direction; shorter if the function is not finite at its ends.
REACHES, PILOT_DRAWS = (0.5, 0.125, 0.03125), 4
# Numbers of draws after which the means are judged.
JUDGED_AFTER = [int(256 * 1.5**k) for k in range(16)]
DEFAULT_BUDGET = 10.0  # seconds
# Without rtol, the mean passes if it is known to this share of its size.
DEFAULT_RESOLUTION = 0.1
REASONS = {Verdict.PASS: Reason.UNBIASED, Verdict.FAIL: Reason.BIASED, Verdict.INCONCLUSIVE: Reason.FEW_DRAWS}
NOTHING_DRAWN = (
    "expect='unbiased': the function draws nothing from the generators of Python, NumPy and PyTorch, nor from one that it"
    " holds; remove expect=, or draw inside the function"
)


@dataclass(frozen=True)
class _Means:
    """Means over draws along one direction of one leaf.

    Attributes:
        draws: the number of draws.
        claimed: the mean of the claims.
        estimate: the mean of the differences.
        bound: how far the difference of the two may be from its expectation; the largest difference at a draw, if that is more
            and the draws are too few for a bound.
        scale: the size of the mean of the claims along such a direction.
        target: the share of the scale that the difference must be known to.
        tolerated: the share of the scale that a bias may have.
    """

    draws: int
    claimed: float
    estimate: float
    bound: float
    scale: float
    target: float
    tolerated: float

    @property
    def difference(self) -> float:
        """The difference of the means: the bias, up to the bound."""
        return abs(self.claimed - self.estimate)

    @property
    def verdict(self) -> Verdict:
        """FAIL if there certainly is a bias that matters; PASS if there certainly is none."""
        if self.difference - self.bound > self.tolerated * self.scale:
            return Verdict.FAIL
        return Verdict.PASS if self.difference + self.bound <= self.target * self.scale else Verdict.INCONCLUSIVE

    @property
    def reason(self) -> Reason:
        """The reason of the verdict."""
        return REASONS[self.verdict] if self.scale else Reason.BOTH_ZERO

    def __str__(self) -> str:
        """Return what the draws show, and how many more are needed."""
        slopes = f"{self.claimed:.4g} claimed, {self.estimate:.4g} by differences"
        text = f"mean slope over {self.draws:,} draws: {slopes}, bias {self.claimed - self.estimate:.2g} ± {self.bound:.1g}"
        margin = max(self.target * self.scale - self.difference, self.difference)
        if self.verdict is not Verdict.INCONCLUSIVE or not margin:
            return text
        missing = self.draws * ((self.bound / margin) ** 2 - 1)
        return f"{text}; about {max(missing, self.draws):,.0f} more draws would decide: raise --budget, or rtol="


def compare_means(trial: Trial, spread: F64) -> Comparisons:
    """Compare the mean of every claim with the derivative of the mean, until each is decided or the budget is used up.

    Args:
        trial: what is checked.
        spread: how far repeated evaluations at the primal differ, (M,).

    Raises:
        InputError: if the function draws no random numbers.
    """
    program = trial.program
    if not program.draws:
        raise InputError(NOTHING_DRAWN)
    measured = measure_trial_noise(trial, spread)
    claims = [claim for claim in program.claims if claim.vjp is not None and not claim.derived]
    first_draws = dict(program.draws)
    try:
        rows = _compare(_Sampler(trial, claims)) if claims else []
    finally:
        program.draws.update(first_draws)
    return Comparisons(measured, rows, "draws")


class _Sampler:
    """Draws values of both sides.

    Attributes:
        trial: what is checked.
        claims: whose means are compared.
        lines: leaves, each with a direction of its entries.
        reach: half of the length of a segment in units of its direction; None: the function is not finite anywhere near.
    """

    def __init__(self, trial: Trial, claims: list[Claim]) -> None:
        self.trial, self.claims, program = trial, claims, trial.program
        self.cotangent = np.ones(program.value.size)
        if program.value.size > 1:
            directions.fill_even(make_generator(0, "unbiased", trial.label), np.ones(program.value.size), self.cotangent)
        self.rng = make_generator(0, "unbiased positions", trial.label)
        self.precise = [claimed_jacobians.make_twin(claim) or claim for claim in claims]
        self.largest = 0.0  # of the combined outputs
        self.moments = np.zeros((2, len(claims), program.point.size))  # of the claims, for the size of their mean
        signs = self._find_signs()
        self.lines = [
            (leaf, self._draw_line(leaf, k, signs)) for leaf in program.leaves if leaf.entries for k in range(DIRECTIONS)
        ]
        self.reach = next((reach for reach in REACHES if self._is_finite(reach)), None)

    def _find_signs(self) -> F64:
        """Return the signs of the mean of some claims at the primal, (N,)."""
        program, total = self.trial.program, np.zeros(self.trial.program.point.size)
        for _ in range(SIGN_DRAWS):
            total += self._claim(0, program.point)
            self.trial.evaluator(program.point)
            global_state.draw_next(program.draws)
        return np.sign(total)

    def _draw_line(self, leaf: Leaf, k: int, signs: F64) -> F64:
        tangent, own_signs = np.empty(leaf.entries * leaf.width), signs[leaf.span]
        rng = make_generator(0, "unbiased", self.trial.label, leaf.path, k)
        directions.fill_even(rng, self.trial.program.point[leaf.span], tangent)
        return np.where((own_signs == 0) | (k > 0), tangent, np.abs(tangent) * own_signs)

    def _is_finite(self, reach: float) -> bool:
        for _ in range(PILOT_DRAWS):
            if not all(np.isfinite(self._evaluate(k, t)) for k in range(len(self.lines)) for t in (reach, -reach)):
                return False
            global_state.draw_next(self.trial.program.draws)
        return True

    def _move(self, k: int, t: float) -> F64:
        """Return the point at `t` on a line, (N,)."""
        (leaf, tangent), point = self.lines[k], self.trial.program.point.copy()
        point[leaf.span] += t * tangent
        return point

    def _claim(self, claim: int, point: F64) -> F64:
        """Return the claimed gradient of the combination of the outputs, (N,)."""
        vjp = self.precise[claim].vjp
        assert vjp is not None
        gradient: F64 = vjp(point, self.cotangent[None])[0]
        return gradient

    def _evaluate(self, k: int, t: float) -> float:
        """Return the combination of the outputs on a line; NaN if the function raises there."""
        with np.errstate(all="ignore"):
            value = float(self.cotangent @ self.trial.evaluator(self._move(k, t)))
        self.largest = np.fmax(self.largest, abs(value))
        return value

    def draw(self, reach: float) -> F64:
        """Return the claimed slopes of every claim, and the slope by differences in the last row, (claims + 1, lines)."""
        slopes = np.empty((len(self.claims) + 1, len(self.lines)))
        for k, (leaf, tangent) in enumerate(self.lines):
            t = self.rng.uniform(0, reach)
            for c in range(len(self.claims)):
                gradient = ((self._claim(c, self._move(k, t)) + self._claim(c, self._move(k, -t))) / 2)[leaf.span]
                slopes[c, k] = gradient @ tangent
                if k % DIRECTIONS == 0:
                    self.moments[:, c, leaf.span] += gradient, gradient**2
            slopes[-1, k] = (self._evaluate(k, reach) - self._evaluate(k, -reach)) / (2 * reach)
        global_state.draw_next(self.trial.program.draws)
        return slopes

    def judge(self, slopes: F64, reach: float) -> list[list[_Means]]:
        """Judge the slopes of all draws, (claims + 1, lines, n): the means of each claim along each line."""
        draws, options = slopes.shape[-1], self.trial.options
        alpha = ALPHA / (len(self.claims) * len(self.lines))
        mean, square = self.moments / draws
        energy = np.maximum(mean**2 - (square - mean**2) / draws, 0.0)  # of the mean, without what the draws scatter
        target, tolerated = options.rtol or DEFAULT_RESOLUTION, options.rtol or 0.0

        def judge_line(c: int, k: int) -> _Means:
            (leaf, tangent), differences = self.lines[k], slopes[c, k] - slopes[-1, k]
            claimed, estimate, largest = slopes[c, k].mean(), slopes[-1, k].mean(), np.max(np.abs(differences))
            rounding = ROUNDING_UNITS * self.trial.program.eps * (self.largest / reach + abs(claimed))
            bound = bound_mean(differences[None], alpha)[0] + rounding if largest else 0.0
            if largest > rounding and not is_representative(differences):
                bound = max(bound, largest)
            scale = max(np.sqrt(energy[c, leaf.span] @ tangent**2), abs(claimed), abs(estimate))
            return _Means(draws, float(claimed), float(estimate), float(bound), float(scale), target, tolerated)

        return [[judge_line(c, k) for k in range(len(self.lines))] for c in range(len(self.claims))]


def _compare(sampler: _Sampler) -> list[Comparison]:
    """Draw until everything is decided; return the rows of the table, and note what they rest on."""
    trial, reach = sampler.trial, sampler.reach
    leaves = [leaf for leaf, _ in sampler.lines[::DIRECTIONS]]
    if reach is None:
        return [_make_row(trial, claim, leaf, None) for claim in sampler.claims for leaf in leaves]
    budget, start = trial.options.budget or DEFAULT_BUDGET, time.perf_counter()
    slopes: list[F64] = []
    for count in JUDGED_AFTER:
        while len(slopes) < count and (len(slopes) < JUDGED_AFTER[0] or time.perf_counter() - start < budget):
            slopes.append(sampler.draw(reach))
        means = sampler.judge(np.stack(slopes, axis=-1), reach)
        is_decided = all(mean.verdict is not Verdict.INCONCLUSIVE for of_claim in means for mean in of_claim)
        if is_decided or len(slopes) < count:
            break
    severity, rows = (Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL), []
    for claim, of_claim in zip(sampler.claims, means, strict=True):
        for i, leaf in enumerate(leaves):
            own = of_claim[DIRECTIONS * i : DIRECTIONS * (i + 1)]
            worst = max(own, key=lambda m: (severity.index(m.verdict), (m.difference + m.bound) / (m.scale or 1.0)))
            rows.append(_make_row(trial, claim, leaf, worst))
            trial.recorder.note(f"{leaf.path}: {worst}")
    return rows


def _make_row(trial: Trial, claim: Claim, leaf: Leaf, mean: _Means | None) -> Comparison:
    """Make the row of one leaf and claim; without means the function is not finite nearby."""
    nan, size = float("nan"), trial.program.value.size
    verdict = mean.verdict if mean else Verdict.INCONCLUSIVE
    scale = mean.scale if mean and mean.scale else nan
    return Comparison(
        wrt=leaf.path,
        output="combination" if size > 1 else trial.program.outputs[0].path,
        method=claim.method,
        against="numeric",
        verdict=verdict,
        reason=mean.reason if mean else Reason.NOT_FINITE_NEARBY,
        claimed=mean.claimed if mean else nan,
        estimate=mean.estimate if mean else nan,
        bound=mean.bound if mean else nan,
        abs_err=mean.difference if mean else nan,
        rel_err=mean.difference / scale if mean else nan,
        rtol=mean.target if mean else trial.rtol_of(claim.eps),
        resolution=(mean.difference + mean.bound) / scale if mean and verdict is Verdict.PASS else nan,
        shape=leaf.shape,
        dtype=leaf.dtype,
        entries=leaf.entries,
        trial=trial.number,
        mode="draws",
        certainty=1 - ALPHA,
    )
