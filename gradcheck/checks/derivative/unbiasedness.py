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
    from gradcheck.backends.program import Claim, Program
    from gradcheck.compare.trial import Trial

# Probability that a right claim of a case is ever refused.
ALPHA = 1e-6
# Each leaf is moved along two directions, which are the same for all draws. The signs of the first are those of the mean of
# some claims, so that a gradient of a wrong size cannot cancel in it; those of the second are random.
DIRECTIONS = 2
SIGN_DRAWS = 32
# Half of the length of the segment, in units of the direction; shorter if the function is not finite at its ends.
REACHES = (0.5, 0.125, 0.03125)
PILOT_DRAWS = 4
# Numbers of draws after which the means are judged.
JUDGED_AFTER = [int(256 * 1.5**k) for k in range(16)]
DEFAULT_BUDGET = 10.0  # seconds
# Without rtol, the mean passes if it is known to this share of its size.
DEFAULT_RESOLUTION = 0.1
NOTHING_DRAWN = (
    "expect='unbiased': the function draws nothing from the generators of Python, NumPy and PyTorch, nor from one that it"
    " holds; remove expect=, or draw inside the function"
)


@dataclass(frozen=True)
class _Segment:
    """A direction of one leaf.

    Attributes:
        leaf: the leaf.
        tangent: the direction, (N,), zero elsewhere.
    """

    leaf: Leaf
    tangent: F64


@dataclass(frozen=True)
class _Means:
    """What some draws say of one claim along one segment.

    Attributes:
        claim: the claim.
        segment: the segment.
        draws: the number of draws.
        claimed: the mean of the claims.
        estimate: the mean of the differences.
        bound: how far the difference of the two may be from its expectation.
        scale: the size of the mean of the claims along such a direction.
        is_known: whether the draws are enough for the bound.
        target: the share of the scale that the means may differ by.
        is_given: whether the user gave that share.
    """

    claim: Claim
    segment: _Segment
    draws: int
    claimed: float
    estimate: float
    bound: float
    scale: float
    is_known: bool
    target: float
    is_given: bool

    @property
    def difference(self) -> float:
        """The difference of the means: the bias, up to the bound."""
        return abs(self.claimed - self.estimate)

    @property
    def verdict(self) -> Verdict:
        """FAIL if there certainly is a bias that matters; PASS if there certainly is none."""
        if not self.is_known:
            return Verdict.INCONCLUSIVE
        if self.difference - self.bound > (self.target if self.is_given else 0.0) * self.scale:
            return Verdict.FAIL
        is_small = self.difference + self.bound <= self.target * self.scale
        return Verdict.PASS if is_small or self.is_zero else Verdict.INCONCLUSIVE

    @property
    def is_zero(self) -> bool:
        """Whether every draw gave zero for both."""
        return self.scale == 0 and self.difference == 0

    def count_missing(self) -> int | None:
        """Estimate how many more draws would decide; None if the mean is too near zero to say."""
        margin = max(self.target * self.scale - self.difference, self.difference)
        return None if not self.scale or not margin else max(0, int(self.draws * (self.bound / margin) ** 2) - self.draws)


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
        segments: directions of the leaves.
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
        leaves, signs = [leaf for leaf in program.leaves if leaf.entries], self._find_signs()
        self.segments = [_draw_segment(program, leaf, k, trial.label, signs) for leaf in leaves for k in range(DIRECTIONS)]
        self.reach = next((reach for reach in REACHES if self._is_finite(reach)), None)

    def _find_signs(self) -> F64:
        """Return the signs of the mean of some claims at the primal, (N,)."""
        program, total = self.trial.program, np.zeros(self.trial.program.point.size)
        for _ in range(SIGN_DRAWS):
            total += self._claim(0, program.point)
            self.trial.evaluator(program.point)
            global_state.draw_next(program.draws)
        return np.sign(total)

    def _claim(self, claim: int, point: F64) -> F64:
        """Return the claimed gradient of the combination of the outputs, (N,)."""
        vjp = self.precise[claim].vjp
        assert vjp is not None
        gradient: F64 = vjp(point, self.cotangent[None])[0]
        return gradient

    def _is_finite(self, reach: float) -> bool:
        for _ in range(PILOT_DRAWS):
            if not all(np.isfinite(self._evaluate(s.tangent * sign * reach)) for s in self.segments for sign in (1, -1)):
                return False
            global_state.draw_next(self.trial.program.draws)
        return True

    def _evaluate(self, displacement: F64) -> float:
        """Return the combination of the outputs at a displaced point; NaN if the function raises there."""
        with np.errstate(all="ignore"):
            value = float(self.cotangent @ self.trial.evaluator(self.trial.program.point + displacement))
        self.largest = np.fmax(self.largest, abs(value))
        return value

    def draw(self) -> F64:
        """Return the claimed slopes of every claim, and the slope by differences in the last row, (claims + 1, segments)."""
        assert self.reach is not None
        slopes, point = np.empty((len(self.claims) + 1, len(self.segments))), self.trial.program.point
        for k, segment in enumerate(self.segments):
            shift = self.rng.uniform(0, self.reach) * segment.tangent
            for c in range(len(self.claims)):
                gradient = (self._claim(c, point + shift) + self._claim(c, point - shift)) / 2
                slopes[c, k] = gradient @ segment.tangent
                if k % DIRECTIONS == 0:
                    span = segment.leaf.span
                    self.moments[:, c, span] += gradient[span], gradient[span] ** 2
            ends = [self._evaluate(sign * self.reach * segment.tangent) for sign in (1, -1)]
            slopes[-1, k] = (ends[0] - ends[1]) / (2 * self.reach)
        global_state.draw_next(self.trial.program.draws)
        return slopes

    def measure_scales(self, draws: int) -> F64:
        """Measure the size of the mean of each claim along each segment, without what the draws scatter, (claims, segments)."""
        mean, square = self.moments / draws
        energy = mean**2 - (square - mean**2) / draws
        squares = np.stack([segment.tangent**2 for segment in self.segments])
        return np.asarray(np.sqrt(np.maximum(energy @ squares.T, 0.0)))


def _draw_segment(program: Program, leaf: Leaf, k: int, label: str, signs: F64) -> _Segment:
    tangent = np.zeros(program.point.size)
    directions.fill_even(make_generator(0, "unbiased", label, leaf.path, k), program.point[leaf.span], tangent[leaf.span])
    if k == 0:
        tangent = np.where(signs == 0, tangent, np.abs(tangent) * signs)
    return _Segment(leaf, tangent)


def _compare(sampler: _Sampler) -> list[Comparison]:
    """Draw until everything is decided; return the rows of the table, and note what they rest on."""
    trial = sampler.trial
    if sampler.reach is None:
        return [_make_row(sampler, claim, None, leaf) for claim in sampler.claims for leaf in trial.program.leaves]
    budget, start = trial.options.budget or DEFAULT_BUDGET, time.perf_counter()
    slopes: list[F64] = []
    means: list[_Means] = []
    for count in JUDGED_AFTER:
        while len(slopes) < count and (not means or time.perf_counter() - start < budget):
            slopes.append(sampler.draw())
        is_last = len(slopes) < count
        means = _judge(sampler, np.stack(slopes, axis=-1))
        if is_last or all(mean.verdict is not Verdict.INCONCLUSIVE for mean in means):
            break
    rows = []
    for claim in sampler.claims:
        for leaf in dict.fromkeys(segment.leaf for segment in sampler.segments):
            own = [mean for mean in means if mean.claim is claim and mean.segment.leaf is leaf]
            severity = (Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL)
            worst = max(own, key=lambda m: (severity.index(m.verdict), (m.difference + m.bound) / (m.scale or 1.0)))
            rows.append(_make_row(sampler, claim, worst, leaf))
            trial.recorder.note(_describe(worst))
    return rows


def _judge(sampler: _Sampler, slopes: F64) -> list[_Means]:
    """Judge the slopes of all draws, (claims + 1, segments, n)."""
    draws, trial, means = slopes.shape[-1], sampler.trial, list[_Means]()
    alpha = ALPHA / (len(sampler.claims) * len(sampler.segments))
    scales = sampler.measure_scales(draws)
    for c, claim in enumerate(sampler.claims):
        differences = slopes[c] - slopes[-1]
        bounds = bound_mean(differences, alpha)
        for k, segment in enumerate(sampler.segments):
            claimed, estimate = float(slopes[c, k].mean()), float(slopes[-1, k].mean())
            rounding = ROUNDING_UNITS * trial.program.eps * (sampler.largest / (sampler.reach or 1.0) + abs(claimed))
            largest = float(np.max(np.abs(differences[k])))
            is_known = largest <= rounding or is_representative(differences[k])
            scale = max(scales[c, k], abs(claimed), abs(estimate))
            target, is_given = trial.options.rtol or DEFAULT_RESOLUTION, trial.options.rtol is not None
            bound = float(bounds[k] + rounding) if largest else 0.0
            means.append(_Means(claim, segment, draws, claimed, estimate, bound, scale, is_known, target, is_given))
    return means


def _make_row(sampler: _Sampler, claim: Claim, mean: _Means | None, leaf: Leaf) -> Comparison:
    """Make the row of one leaf and claim; without means the function is not finite nearby."""
    trial = sampler.trial
    verdict = mean.verdict if mean else Verdict.INCONCLUSIVE
    reasons = {Verdict.PASS: Reason.UNBIASED, Verdict.FAIL: Reason.BIASED, Verdict.INCONCLUSIVE: Reason.FEW_DRAWS}
    reason = Reason.NOT_FINITE_NEARBY if mean is None else Reason.BOTH_ZERO if mean.is_zero else reasons[verdict]
    nan = float("nan")
    scale = mean.scale if mean and mean.scale else nan
    return Comparison(
        wrt=leaf.path,
        output="combination" if trial.program.value.size > 1 else trial.program.outputs[0].path,
        method=claim.method,
        against="numeric",
        verdict=verdict,
        reason=reason,
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


def _describe(mean: _Means) -> str:
    """Say what the draws show of one leaf, and how many more are needed."""
    digits = f"{mean.claimed:.4g} claimed, {mean.estimate:.4g} by differences, bias {mean.claimed - mean.estimate:.2g}"
    text = f"{mean.segment.leaf.path}: mean slope over {mean.draws:,} draws: {digits} ± {mean.bound:.1g}"
    if mean.verdict is not Verdict.INCONCLUSIVE:
        return text
    missing = mean.count_missing()
    if missing is None:
        return f"{text}; the mean is too near zero to say how many more are needed"
    return f"{text}; about {missing:,} more draws would decide: raise --budget, or rtol= for a coarser answer"
