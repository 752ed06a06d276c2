"""Estimates of known derivatives by gradcheck's evidence and by other tools, with their true errors."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jacobi
import numdifftools
import numpy as np
from known_derivatives import Case, Float64
from scipy import differentiate

from gradcheck import Reason, Verdict
from gradcheck.backends.flat import Leaf
from gradcheck.compare.estimates import estimate_lines
from gradcheck.compare.judge import ClaimAlongLines, judge_and_refine
from gradcheck.compare.noise_floor import NOISE_DIRECTIONS
from gradcheck.evidence import directions, ladder, noise
from gradcheck.evidence.line import Phi, Setting, choose_slack
from gradcheck.number_format import FLOAT64
from gradcheck.seeds import make_generator
from gradcheck.verdict.interval import CLAIM_ROUNDING_ULPS, VERDICTS, default_rtol

OURS = "gradcheck"
ESTIMATES = (OURS, "cheap alone", "careful alone")
OTHER_TOOLS = ("numdifftools", "scipy.differentiate", "jacobi")
LEAF = Leaf("x", (), "float64", 0)


@dataclass(frozen=True)
class Answer:
    """A tool's estimate of one derivative.

    Attributes:
        value: the estimate; NaN if the tool gives no answer.
        bound: the error that the tool states; infinite if it gives no answer.
        evaluations: points at which the function was evaluated.
        verdict, reason: gradcheck's verdict on the true derivative.
    """

    value: float
    bound: float
    evaluations: int
    verdict: Verdict | None = None
    reason: Reason | None = None

    @property
    def exists(self) -> bool:
        """Whether value and bound are finite."""
        return math.isfinite(self.value) and math.isfinite(self.bound)


@dataclass(frozen=True)
class CaseResult:
    """One case and every tool's answer to it."""

    case: Case
    answers: dict[str, Answer]

    def error(self, tool: str) -> float:
        """Return the distance of the answer from the truth, at least half a unit in the truth's last place."""
        return max(abs(self.answers[tool].value - self.case.exact), self.truth_rounding)

    @property
    def truth_rounding(self) -> float:
        """The most that the truth itself may be off by rounding: half a unit in its last place."""
        return 0.5 * float(np.spacing(abs(self.case.exact)))

    def is_covered(self, tool: str) -> bool:
        """Whether the true error lies within the bound."""
        answer = self.answers[tool]
        return answer.exists and abs(answer.value - self.case.exact) <= answer.bound + self.truth_rounding


class CountingFunction:
    """A function that counts the points it is evaluated at."""

    def __init__(self, function: Callable[[Float64], Float64]) -> None:
        self.function, self.count = function, 0

    def __call__(self, t: Any) -> Float64:
        """Evaluate the function elementwise."""
        self.count += int(np.size(t))
        return self.function(np.asarray(t, dtype=np.float64))


# --- gradcheck


def ask_gradcheck(case: Case) -> dict[str, Answer]:
    """Gather the evidence as `check` does for a right claim, and the cheap and the careful estimate alone."""
    function = CountingFunction(case.function)
    setting = measure_setting(function, case)
    unit = float(directions.entry_displacements(np.array([case.x]), case.eps)[0])
    phi = make_line(function, case.x, unit)
    before = function.count
    estimates = estimate_lines(LEAF, [phi], [setting], case.eps)
    cheap = Answer(estimates.value[0, 0] / unit, estimates.bound[0, 0] / abs(unit), function.count)
    claim = np.array([[case.exact if case.eps <= FLOAT64.eps else float(np.float32(case.exact))]]) * unit
    rounding = 2 * CLAIM_ROUNDING_ULPS * case.eps * np.abs(claim)
    judged = judge_and_refine(
        estimates,
        ClaimAlongLines(claim, rounding, rounding, np.abs(claim), is_combination=False),
        default_rtol(case.eps),
        demanded=False,
    )
    verdict, reason = VERDICTS[int(judged.code[0, 0])], estimates.reason[0, 0]
    refined_answer = Answer(estimates.value[0, 0] / unit, estimates.bound[0, 0] / abs(unit), function.count, verdict, reason)
    if estimates.refined[0]:
        careful = Answer(refined_answer.value, refined_answer.bound, refined_answer.evaluations - cheap.evaluations + before)
    else:
        after, slope = function.count, ladder.estimate_slopes_by_ladder(phi, setting)
        careful = Answer(slope.value[0] / unit, slope.bound[0] / abs(unit), function.count - after + before)
    return dict(zip(ESTIMATES, (refined_answer, cheap, careful), strict=True))


def measure_setting(function: CountingFunction, case: Case) -> Setting:
    """Measure the noise as gradcheck.compare.noise_floor does for a check."""
    base, finest = function([case.x]), directions.finest_step(case.eps)
    noises = np.zeros(1)
    for k in range(1 if case.eps <= FLOAT64.eps else NOISE_DIRECTIONS):
        rng = make_generator(0, "noise", f"{case.condition}/{case.name}/{case.x!r}", k)
        tangent = float(rng.standard_normal() * directions.compute_entry_scales(np.array([case.x]))[0])
        noises = np.maximum(noises, noise.measure_noise(make_line(function, case.x, tangent), base, finest, case.eps))
    return Setting(base, noises, case.eps, None, finest, choose_slack(1))


def make_line(function: CountingFunction, x: float, tangent: float) -> Phi:
    """Return the line t -> f(x + t u)."""
    return lambda t: function([x + t * tangent])


# --- the other tools


def ask_numdifftools(function: CountingFunction, x: float) -> tuple[float, float]:
    """Return the value and the error estimate of `numdifftools.Derivative`."""
    derivative = numdifftools.Derivative(function, full_output=True)(x)
    return float(derivative.estimate), float(np.squeeze(derivative.error_estimate))


def ask_scipy(function: CountingFunction, x: float) -> tuple[float, float]:
    """Return the value and the error estimate of `scipy.differentiate.derivative`."""
    derivative = differentiate.derivative(function, np.array(x))
    return float(derivative.df), float(derivative.error)


def ask_jacobi(function: CountingFunction, x: float) -> tuple[float, float]:
    """Return the value and the error estimate of `jacobi.jacobi`."""
    value, error = jacobi.jacobi(function, x)
    return float(np.squeeze(value)), float(np.squeeze(error))


ASK_TOOL = dict(zip(OTHER_TOOLS, (ask_numdifftools, ask_scipy, ask_jacobi), strict=True))


def ask_other_tools(case: Case) -> dict[str, Answer]:
    """Run the other tools at their defaults; an exception counts as no answer."""
    answers = {}
    for name, tool in ASK_TOOL.items():
        function = CountingFunction(case.function)
        try:
            value, error = tool(function, case.x)
        except Exception:
            value, error = math.nan, math.nan
        answers[name] = Answer(value, error, function.count)
    return answers
