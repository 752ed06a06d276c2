"""One claim along one direction that moves every input at once, held against the evidence along it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.backends.flat import Leaf
from gradcheck.compare import conditioning, jacobians
from gradcheck.compare.entry_lines import along_tangents
from gradcheck.compare.estimates import measure
from gradcheck.compare.judge import settle
from gradcheck.compare.output_scaling import outlook
from gradcheck.evidence import directions
from gradcheck.results import Reason, Verdict
from gradcheck.seeds import generator
from gradcheck.verdict.interval import VERDICTS, reason_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradcheck.backends.program import Claim, Program
    from gradcheck.compare.jacobians import Rows
    from gradcheck.compare.trial import Bench
    from gradcheck.evidence.line import F64

ORDER = ("analytic", "reverse", "forward")  # what is looked at first: what the user wrote


@dataclass(frozen=True)
class Directional:
    """A claim along a direction, and what the evidence says of it.

    Attributes:
        claimed, estimate, bound: derivatives along the direction.
        change: t -> phi(t) - phi(0), in float64.
        noise: of such a change, as the bounds allow for it.
    """

    claimed: float
    estimate: float
    bound: float
    verdict: Verdict
    reason: Reason
    change: Callable[[float], float]
    noise: float


def chief(program: Program) -> Claim | None:
    """The claim that further checks look at: what was written by hand, else automatic differentiation."""
    return min(program.claims, key=lambda c: ORDER.index(c.method), default=None)


def displacement(bench: Bench, name: str, *more: object) -> F64:
    """A random tangent that moves every leaf at once; `name` and what follows name its random stream."""
    program = bench.program
    streams = [generator(0, name, bench.label, leaf.path, *more) for leaf in program.leaves]
    parts = [directions.dense(rng, program.point[o.span], program.eps) for rng, o in zip(streams, program.leaves, strict=True)]
    return np.concatenate(parts)


def combination(bench: Bench) -> F64:
    """The combination of the outputs that is looked at, (1, M): the output itself where there is only one number."""
    if bench.program.value.size == 1:
        return np.ones((1, 1))
    return outlook(bench.evaluator, bench.setting, bench.label).cotangent(generator(0, "combination", bench.label))[None]


def gradient(bench: Bench, claim: Claim, cotangents: F64) -> Rows:
    """The claim as rows, in the precision of the evaluation.

    Raises:
        Unavailable: where it cannot be had.
    """
    asked = jacobians.twin_of(claim) or claim
    return jacobians.of_claim(asked, jacobians.rows_of(asked, bench.program.point, cotangents), bench.program)


def along(bench: Bench, claim: Claim, rows: Rows, cotangents: F64, tangent: F64) -> Directional:
    """Hold a claim's rows, one of them, against the evidence along a direction."""
    program, rtol = bench.program, bench.rtol_of(claim.eps)
    everything = Leaf("inputs", program.point.shape, "float64", 0)
    setting = replace(bench.setting, channels=cotangents)
    phi = bench.evaluator.line(tangent)
    sheet = measure(everything, [phi], [setting], program.eps)
    first = settle(sheet, along_tangents(rows, everything.span, tangent[None]), rtol, demanded=bench.demanded)
    if first.code[0, 0] or first.doubtful[0, 0]:
        moved = conditioning.jittered(rows, program, cotangents)
        first = settle(sheet, along_tangents(moved, everything.span, tangent[None]), rtol, demanded=bench.demanded)
    s, code, seen = first.sides, int(first.code[0, 0]), first.seen[0, 0]
    claimed, estimate, allowed = float(s.claim[0, 0]), float(s.value[0, 0]), float(s.allowed[0, 0])
    verdict, reason = VERDICTS[code], reason_for(VERDICTS[code], claimed, estimate, allowed, seen)
    if seen in (Reason.KINK_SUBGRADIENT, Reason.OUTSIDE_KINK):  # no linear map is the differential of a kink
        verdict, reason = (verdict if verdict is Verdict.FAIL else Verdict.INCONCLUSIVE), seen

    def change(t: float) -> float:
        return float(setting.contract(phi(t) - program.value)[0])

    noise = setting.slack * float(setting.combined(np.maximum(setting.deviation, setting.rounding(program.value)))[0])
    return Directional(claimed, estimate, allowed, verdict, reason, change, noise)
