"""How accurate a claim and a value are in half precision, beside a plain implementation in the same dtype.

No fixed tolerance fits bfloat16 and float16: what a good implementation is off by depends on how the function amplifies the
rounding of its inputs. So the error against float64 is held against the error that a plain implementation would have, which
rounds its inputs, the result of every operation and its output, and adds sums up exactly: at most a small multiple of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.backends.flat import HALF
from gradcheck.backends.program import Program, Unavailable
from gradcheck.compare import conditioning, ulp_error
from gradcheck.evidence import directions
from gradcheck.results import Comparison, Reason
from gradcheck.seeds import generator
from gradcheck.verdict.interval import default_rtol

if TYPE_CHECKING:
    from gradcheck.backends.flat import Leaf
    from gradcheck.backends.program import Claim
    from gradcheck.checks.derivative.check import Finding
    from gradcheck.evidence.line import F64
    from gradcheck.options import Options

AGAINST = "float64"
PRECISE = 2.0**-52
LIMIT = 4.0  # times the error of a plain implementation
UNSEEN = 4.0  # times more where its operations cannot be seen, and only its inputs and its output are rounded
SAMPLES, OF_FEW = 6, 24  # of the error of a plain implementation; of an output or leaf with so few entries, that share none
FEW = 16
MOVED = 1 / math.sqrt(12)  # of a move by one unit in the last place: the standard deviation of rounding
COTANGENTS = 2
ROOM = 64.0  # times: by so much what a backward computes on its way may be larger than the gradient
LESS = 2.0**-6  # times: so much smaller a cotangent may be made to leave that room
EVEN = 64.0  # times: no output counts for more or less than that in a cotangent, whose numbers the low dtype must hold
UNTOLD = "how accurate it is cannot be told: it does not run in float64, or returns another value there; a reference= can tell"


@dataclass(frozen=True)
class Truth:
    """What a claim or value is held against.

    Attributes:
        exact: from a point (and cotangents) to the numbers in float64; `plain`: as a plain implementation computes them.
    """

    exact: Callable[[F64, F64], F64]
    plain: Callable[[F64, F64], F64] | None
    against: str


def added(found: Finding, program: Program, other: Program | None, options: Options, label: str, trial: int) -> Finding:
    """What was found of a target, with how accurate it is where it is in half precision.

    Args:
        other: the reference, bound to the same inputs.
        label: names the random streams.
    """
    eps = max((HALF[leaf.dtype] for leaf in (*program.leaves, *program.outputs) if leaf.dtype in HALF), default=0.0)
    if not eps or found.stop not in (None, Reason.NOTHING_CLAIMED, Reason.NON_FINITE):
        return found
    sampled = Sampled(program, other, eps)
    held = list(_value(sampled))
    if found.stop is not Reason.NON_FINITE:
        held += _gradients(sampled, label)
    lines = [replace(line, trial=trial, rtol=options.rtol or default_rtol(eps)) for line, _ in held]
    notes = [told for _, remarks in held for told in remarks] if held else [UNTOLD]
    return replace(
        found,
        comparisons=(*(c for c in lines if c.order == 0), *found.comparisons, *(c for c in lines if c.order)),
        notes=(*found.notes, *notes),
        evaluations=found.evaluations + SAMPLES,
    )


@dataclass(frozen=True)
class Sampled:
    """A target in half precision and what it is held against.

    Attributes:
        other: its reference, if it has one.
        eps: relative spacing of the coarsest dtype among its inputs and outputs.
    """

    program: Program
    other: Program | None
    eps: float

    def expected(self, truth: Truth, cotangents: F64, low: F64 | None, fewest: int) -> tuple[F64, F64]:
        """The numbers in float64, and the error to be expected of a plain implementation at each.

        It is sampled at inputs and cotangents that are moved by a unit in the last place: what its operations are off by
        there, and what rounding the inputs does.

        Args:
            low: what the reference is off by in the same dtype; None where it does not run in it.
            fewest: entries of a leaf that is judged by itself.
        """
        count = SAMPLES if fewest >= FEW else OF_FEW
        point, eps = self.program.point, self.eps
        exact = truth.exact(point, cotangents)
        squares: list[F64] = []
        moved = (
            conditioning.points_around(x, eps, name, count) for x, name in ((point, "accuracy"), (cotangents, "cotangents"))
        )
        for at, v in zip(*moved, strict=True):
            x, g = ulp_error.rounded(at, eps), ulp_error.rounded(v, eps)
            try:
                there = truth.exact(x, g)
                apart = truth.plain(x, g) - there if truth.plain else np.zeros(exact.shape)
            except Exception:
                continue  # off the primal a function need not exist
            with np.errstate(all="ignore"):
                found = apart**2 + (MOVED * (there - exact)) ** 2
            squares.append(np.where(np.isfinite(found), found, 0.0))
        operations = np.mean(squares, axis=0) if squares else np.zeros(exact.shape)
        own = np.zeros(exact.shape) if low is None else np.where(np.isfinite(low), low, 0.0)
        with np.errstate(all="ignore"):
            return exact, np.sqrt(operations + own**2 + (MOVED * eps * exact) ** 2 + ulp_error.smallest(eps) ** 2)

    def held(self, leaf: Leaf, numbers: tuple[F64, F64, F64], *, seen: bool) -> ulp_error.Held:
        """A leaf's part of claim, float64 and expected error, (C, N) each."""
        claim, exact, expected = (a[:, leaf.span] for a in numbers)
        limit = LIMIT * (1 + claim.size**-0.5)  # the fewer errors, the further their mean may be off
        return ulp_error.Held(leaf, claim, exact, expected, self.eps, limit if seen else limit * UNSEEN)


Judged = tuple[Comparison, list[str]]  # with remarks


def _value(sampled: Sampled) -> Iterator[Judged]:
    program, other = sampled.program, sampled.other
    truth = _of_value(program, other)
    if truth is None:
        return
    low = other.native(other.point) - other.evaluate(other.point) if other is not None and other.native else None
    value = (program.native or program.evaluate)(program.point)
    exact, expected = sampled.expected(truth, np.zeros(0), low, _fewest(program.outputs))
    numbers = value[None], exact[None], expected[None]
    for leaf in program.outputs:
        if leaf.entries:
            held = sampled.held(leaf, numbers, seen=truth.plain is not None)
            yield replace(ulp_error.judged(held, "primal", truth.against, leaf.path), order=0), []


def _gradients(sampled: Sampled, label: str) -> Iterator[Judged]:
    """Every claim in reverse mode, along a few random cotangents."""
    program = sampled.program
    cotangents = _cotangents(program, sampled.eps, label)
    output = "combination" if program.value.size > 1 else program.outputs[0].path
    for claim in program.claims:
        truth = _of_claim(claim, program, sampled.other)
        if claim.vjp is None or claim.derived or claim.eps not in ulp_error.NAMES or truth is None:
            continue
        try:
            given = _aligned(cotangents, program, truth, sampled.eps)
            rows = claim.vjp(program.point, given)
            low = _low_rows(sampled.other, given)
            numbers = rows, *sampled.expected(truth, given, low, _fewest(program.leaves))
        except Unavailable:
            continue
        for leaf in program.leaves:
            if leaf.entries:
                held = sampled.held(leaf, numbers, seen=truth.plain is not None)
                yield ulp_error.judged(held, claim.method, truth.against, output), ulp_error.remarks(held)


def _fewest(leaves: Sequence[Leaf]) -> int:
    return min((leaf.entries for leaf in leaves if leaf.entries), default=0)


def _of_value(program: Program, other: Program | None) -> Truth | None:
    """The target's twin, or its reference."""
    for one, against in ((program if program.native else None, AGAINST), (other, "reference")):
        if one is not None and one.eps <= PRECISE:
            return Truth(_ignoring(one.evaluate), _ignoring(one.plain) if one.plain else None, against)
    return None


def _ignoring(evaluate: Callable[[F64], F64]) -> Callable[[F64, F64], F64]:
    return lambda at, _: evaluate(at)


def _of_claim(claim: Claim, program: Program, other: Program | None) -> Truth | None:
    """A claim's own twin, or that of another claim, or the reference's derivative."""
    for c in (claim, *program.claims):
        if c.twin is not None and not c.derived:
            return Truth(c.twin, c.plain, AGAINST)
    for c in other.claims if other is not None and other.eps <= PRECISE else ():
        exact = c.twin or (c.vjp if c.eps <= PRECISE else None)
        if exact is not None and not c.derived:
            return Truth(exact, c.plain, "reference")
    return None


def _low_rows(other: Program | None, cotangents: F64) -> F64 | None:
    """What the reference's own derivative is off by in the same dtype."""
    for claim in other.claims if other is not None else ():
        if claim.vjp is not None and claim.twin is not None and other is not None:
            return claim.vjp(other.point, cotangents) - claim.twin(other.point, cotangents)
    return None


def _aligned(cotangents: F64, program: Program, truth: Truth, eps: float) -> F64:
    """The same, the last with the signs of the outputs, (C, M).

    Sums that a backward takes of its products with them, as those of softmax and RMSNorm are, then add up instead of
    cancelling, and show it if partial sums were rounded. It is made smaller where the gradient would leave a short range, and
    keeps its random signs where that is not enough.
    """
    if len(cotangents) == 1:
        return cotangents
    last = np.copysign(cotangents[-1:], program.value)
    if eps in ulp_error.SHORT:
        largest = np.max(np.abs(truth.exact(program.point, last)), initial=0.0)
        with np.errstate(all="ignore"):
            less = 2.0 ** np.floor(np.log2(ulp_error.LARGEST[eps] / (ROOM * largest)))
        if not less >= LESS:
            return cotangents
        last = last * min(less, 1.0)
    return np.vstack([cotangents[:-1], last])


def _cotangents(program: Program, eps: float, label: str) -> F64:
    """Random cotangents that the low dtype holds exactly, (C, M); of a single output number 1."""
    if program.value.size == 1:
        return np.ones((1, 1))
    sizes = np.concatenate(
        [np.full(leaf.entries * leaf.width, directions.scale_of(program.value[leaf.span])) for leaf in program.outputs]
    )
    weights = np.clip(np.median(sizes) / sizes, 1 / EVEN, EVEN)
    drawn = np.stack([generator(0, "accuracy", label, k).standard_normal(sizes.size) for k in range(COTANGENTS)])
    return ulp_error.rounded(weights * drawn, eps)
