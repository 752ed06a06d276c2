"""The predicted time of a takeover, from gradcheck on some of the calls."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

from gradcheck.takeover.records import NOT_SAMPLED, TakeoverRun

FIRST, EVERY = 20, 10  # the first calls of each process are compared, and later each tenth
DEVIATIONS = 2.0  # standard errors of the range


def is_sampled(number: int) -> bool:
    """Say whether `predict` compares a call.

    Args:
        number: of the call in its process, from 1.
    """
    return number <= FIRST or number % EVERY == 0


@dataclass(frozen=True)
class Prediction:
    """The time that a takeover adds to that of a suite.

    Attributes:
        calls: number of calls.
        sampled: number of calls on which gradcheck ran.
        seconds: predicted seconds of all calls together.
        low: lower end of the range.
        high: upper end of the range.
    """

    calls: int
    sampled: int
    seconds: float
    low: float
    high: float


def predict(run: TakeoverRun) -> Prediction:
    """Predict what `report` adds, from the sampled calls of each test function and the number of the others."""
    costs = [call.ours_seconds + call.extra_seconds for call in run.calls if call.not_compared != NOT_SAMPLED]
    known, unknown = sum(costs), len(run.calls) - len(costs)
    # The first calls load modules, and would count for all.
    typical = sorted(costs)[: math.ceil(0.98 * len(costs))] if len(costs) > FIRST else costs
    mean = statistics.fmean(typical) if typical else 0.0
    error = statistics.stdev(typical) / math.sqrt(len(typical)) if len(typical) > 1 else mean
    low, high = max(mean - DEVIATIONS * error, 0.0), mean + DEVIATIONS * error
    return Prediction(len(run.calls), len(costs), known + unknown * mean, known + unknown * low, known + unknown * high)
