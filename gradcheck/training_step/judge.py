"""Two gradients that should be equal: how far apart they are, how far rounding explains, and the verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from gradcheck.results import Law as Law
from gradcheck.results import Row, Verdict
from gradcheck.training_step.experiment import Gradients, difference, norm

# A bound is this many times the largest change that was seen when every number moved by one rounding.
SLACK = 32.0
# A difference that is smaller than this, relative to the gradient, matters to nobody.
NEGLIGIBLE = 1e-6
# A gradient whose noise is larger than this, relative to its size, cannot be judged.
MAX_NOISE = 1e-2
# A parameter's gradient counts as at least this share of the whole gradient: some are zero but for rounding.
LEAST_SHARE = 1e-6
SHOWN_ROWS = 5


@dataclass(frozen=True)
class GradientDifference:
    """Two gradients, compared parameter by parameter.

    Attributes:
        verdict: PASS, FAIL or INCONCLUSIVE.
        worst: the parameter that exceeds its bound the most.
        value: its difference, relative to its gradient.
        bound: how large that may be by rounding.
        rows: the parameters that exceed their bound the most: difference and bound.
    """

    verdict: Verdict
    worst: str
    value: float
    bound: float
    rows: tuple[Row, ...]

    def to_law(self, name: str, passed: str, failed: str = "") -> Law:
        """Return the line of a law.

        Args:
            name: the law's.
            passed: the message if the two are equal.
            failed: the message if they differ.
        """
        unclear = "rounding alone moves this gradient so far that nothing can be said; use float64, or another batch"
        unclear = (
            unclear if math.isfinite(self.value) else "the gradient is NaN or infinite, so that there is nothing to compare"
        )
        message = {Verdict.PASS: passed, Verdict.FAIL: failed}.get(self.verdict, unclear)
        rows = () if self.verdict is Verdict.PASS else self.rows
        return Law(name, self.verdict, message, self.value, self.bound, self.worst, rows)


def make_law(name: str, verdict: Verdict, message: str, shown: Row, rows: Sequence[Row] = (), worst: str = "") -> Law:
    """Return the line of a law from the row with its difference and bound."""
    size, bound = shown.values
    return Law(name, verdict, message, size, bound, worst, tuple(rows[:SHOWN_ROWS]))


def compare(a: Gradients, b: Gradients, noise: Mapping[str, float], eps: float) -> GradientDifference:
    """Compare two gradients.

    Args:
        a: the gradient in question.
        b: the gradient that it should equal.
        noise: how far rounding moves each parameter's gradient.
        eps: the relative spacing of floats that they were computed with.
    """
    sizes = {name: norm(values) for name, values in b.items()}
    total = math.hypot(*sizes.values())
    if not math.isfinite(total):
        return GradientDifference(
            Verdict.INCONCLUSIVE, next(n for n, size in sizes.items() if not math.isfinite(size)), math.nan, math.nan, ()
        )
    rows, decided = [], []
    for name, size in sizes.items():
        scale = max(size, LEAST_SHARE * total) or 1.0
        value = norm(difference(a.get(name), b[name])) / scale
        bound = SLACK * max(noise.get(name, 0.0), eps * size, eps * LEAST_SHARE * total) / scale
        value = math.inf if math.isnan(value) else value
        rows.append(Row(name, (value, bound)))
        decided.append(bound * scale)
    rows.sort(key=lambda row: -(row.values[0] / max(row.values[1], torch.finfo(torch.float64).tiny)))
    if not rows:
        return GradientDifference(Verdict.INCONCLUSIVE, "", math.nan, math.nan, ())
    broken = [row for row in rows if row.values[0] > max(row.values[1], NEGLIGIBLE)]
    unclear = math.hypot(*decided) > MAX_NOISE * total
    verdict = Verdict.FAIL if broken else Verdict.INCONCLUSIVE if unclear else Verdict.PASS
    shown = max(broken, key=lambda row: row.values[0]) if broken else rows[0]
    value, bound = shown.values
    return GradientDifference(verdict, shown.label, value, bound, tuple((broken or rows)[:SHOWN_ROWS]))
