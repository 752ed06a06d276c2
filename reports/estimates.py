"""What gradcheck's evidence and other tools say of a known derivative, and how far that is off."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jacobi
import numdifftools
import numpy as np
from known import F64, Case
from scipy import differentiate

from gradcheck import Reason, Verdict
from gradcheck.backends.flat import Leaf
from gradcheck.compare.estimates import measure
from gradcheck.compare.judge import Along, settle
from gradcheck.compare.noise_floor import DIRECTIONS, PRECISE
from gradcheck.evidence import directions, ladder, noise
from gradcheck.evidence.line import Phi, Setting, slack_for
from gradcheck.seeds import generator
from gradcheck.verdict.interval import ROUNDING, VERDICTS, default_rtol

OURS = "gradcheck"
METHODS = (OURS, "cheap alone", "careful alone")
PEERS = ("numdifftools", "scipy.differentiate", "jacobi")
LEAF = Leaf("x", (), "float64", 0)


@dataclass(frozen=True)
class Answer:
    """What a tool says of one derivative, NaN or an infinite bound for no answer; ours with its verdict on the truth."""

    value: float
    bound: float
    evaluations: int
    verdict: Verdict | None = None
    reason: Reason | None = None

    @property
    def given(self) -> bool:
        """Whether there is an answer."""
        return math.isfinite(self.value) and math.isfinite(self.bound)


@dataclass(frozen=True)
class Row:
    """One case and every tool's answer to it."""

    case: Case
    answers: dict[str, Answer]

    def error(self, tool: str) -> float:
        """How far the answer is off the truth, at least half a unit in the truth's last place."""
        return max(abs(self.answers[tool].value - self.case.exact), self.last_bit)

    @property
    def last_bit(self) -> float:
        """What the truth itself is rounded by."""
        return 0.5 * float(np.spacing(abs(self.case.exact)))

    def covered(self, tool: str) -> bool:
        """Whether the true error lies inside the bound."""
        answer = self.answers[tool]
        return answer.given and abs(answer.value - self.case.exact) <= answer.bound + self.last_bit


class Counted:
    """A function that counts the points it is evaluated at."""

    def __init__(self, function: Callable[[F64], F64]) -> None:
        self.function, self.count = function, 0

    def __call__(self, t: Any) -> F64:
        """Evaluate elementwise."""
        self.count += int(np.size(t))
        return self.function(np.asarray(t, dtype=np.float64))


# --- ours


def ours(case: Case) -> dict[str, Answer]:
    """The evidence, as `check` gathers it for a right claim; and what either estimate says by itself."""
    function = Counted(case.function)
    setting = setting_for(function, case)
    unit = float(directions.one_hot(np.array([case.x]), case.eps)[0])
    phi = line(function, case.x, unit)
    before = function.count
    sheet = measure(LEAF, [phi], [setting], case.eps)
    cheap = Answer(sheet.value[0, 0] / unit, sheet.bound[0, 0] / abs(unit), function.count)
    claim = np.array([[case.exact if case.eps <= PRECISE else float(np.float32(case.exact))]]) * unit
    own = 2 * ROUNDING * case.eps * np.abs(claim)
    found = settle(sheet, Along(claim, own, own, np.abs(claim), many=False), default_rtol(case.eps), demanded=False)
    verdict, reason = VERDICTS[int(found.code[0, 0])], sheet.reason[0, 0]
    both = Answer(sheet.value[0, 0] / unit, sheet.bound[0, 0] / abs(unit), function.count, verdict, reason)
    if sheet.refined[0]:
        careful = Answer(both.value, both.bound, both.evaluations - cheap.evaluations + before)
    else:
        after, slope = function.count, ladder.estimate(phi, setting)
        careful = Answer(slope.value[0] / unit, slope.bound[0] / abs(unit), function.count - after + before)
    return dict(zip(METHODS, (both, cheap, careful), strict=True))


def setting_for(function: Counted, case: Case) -> Setting:
    """The noise, measured as in gradcheck.compare.evaluator.setting_for."""
    base, finest = function([case.x]), directions.finest_step(case.eps)
    found = np.zeros(1)
    for k in range(1 if case.eps <= PRECISE else DIRECTIONS):
        rng = generator(0, "noise", f"{case.condition}/{case.name}/{case.x!r}", k)
        tangent = float(rng.standard_normal() * directions.scales_of(np.array([case.x]))[0])
        found = np.maximum(found, noise.measure(line(function, case.x, tangent), base, finest, case.eps))
    return Setting(base, found, case.eps, None, finest, slack_for(1))


def line(function: Counted, x: float, tangent: float) -> Phi:
    """The line t -> f(x + t u)."""
    return lambda t: function([x + t * tangent])


# --- the other tools


def with_numdifftools(function: Counted, x: float) -> tuple[float, float]:
    """numdifftools.Derivative: value and error estimate."""
    told = numdifftools.Derivative(function, full_output=True)(x)
    return float(told.estimate), float(np.squeeze(told.error_estimate))


def with_scipy(function: Counted, x: float) -> tuple[float, float]:
    """scipy.differentiate.derivative: value and error estimate."""
    found = differentiate.derivative(function, np.array(x))
    return float(found.df), float(found.error)


def with_jacobi(function: Counted, x: float) -> tuple[float, float]:
    """jacobi.jacobi: value and error estimate."""
    value, error = jacobi.jacobi(function, x)
    return float(np.squeeze(value)), float(np.squeeze(error))


TOOLS = dict(zip(PEERS, (with_numdifftools, with_scipy, with_jacobi), strict=True))


def theirs(case: Case) -> dict[str, Answer]:
    """The other tools at their defaults; an exception is no answer."""
    found = {}
    for name, tool in TOOLS.items():
        function = Counted(case.function)
        try:
            value, error = tool(function, case.x)
        except Exception:
            value, error = math.nan, math.nan
        found[name] = Answer(value, error, function.count)
    return found
