"""Second derivatives: the derivative of a vjp held against differences of it, and their symmetry."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.backends.program import Unavailable
from gradcheck.backends.views import silenced
from gradcheck.checks.derivative.check import Finding, derivative
from gradcheck.checks.second_order import double_adjoint, hessian_symmetry
from gradcheck.compare import internal_precision
from gradcheck.compare.evaluator import Evaluator
from gradcheck.compare.noise_floor import every_entry
from gradcheck.compare.output_scaling import LOST, seen_along
from gradcheck.evidence import directions, noise
from gradcheck.results import Reason, Verdict
from gradcheck.seeds import generator

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradcheck.backends.flat import F64
    from gradcheck.backends.program import Program
    from gradcheck.options import Options
    from gradcheck.results import Contract

ORDER = 2
WRONG = "second derivatives not looked at: the first are wrong"
NO_VJP = "there is no derivative by automatic differentiation (reverse) to differentiate again"
ROUNDING = "of {}, {} numbers are what rounding leaves of zero: not compared"
CANCELLED = 2.0**20  # units in the last place of the largest: what is larger is not rounding alone
LOUDER = 16.0  # times the standard deviation of noise
FAR = (2.0**-6, -(2.0**-6))
LEAST = 2.0**-24  # of a leaf's largest gradient
OF_SECOND = "second derivatives: {}"


def added(first: Finding, program: Program, options: Options, label: str, trial: int) -> Finding:
    """What one trial found, with what it finds of second derivatives; where the first are wrong, those are not looked at.

    Args:
        first: what it found of first derivatives.
        label: names the random streams.
    """
    if first.stop:
        return first
    wrong = [c.wrt for c in first.comparisons if c.verdict is Verdict.FAIL]
    if wrong or any(c.name == "linear-vjp" and c.verdict is Verdict.FAIL for c in first.contracts):
        return replace(first, notes=(*first.notes, WRONG))
    used = {c.method for c in first.comparisons}  # what drops tangents, or cannot be traced, does so here, too
    try:
        if program.second is None:
            raise Unavailable(NO_VJP)
        looked = Evaluator(program)
        cotangent, other = _cotangents(looked, label)
        again = program.second(cotangent)
        claims = tuple(claim for claim in again.claims if claim.method in used)
        if not claims:
            raise Unavailable(NO_VJP)
    except Unavailable as why:
        return replace(first, stop=Reason.ONCE_DIFFERENTIABLE, message=OF_SECOND.format(why))
    found = _examined(replace(again, claims=claims, rounding=_rounding(again, first)), options, f"{label}/{ORDER}", trial)
    lost = found.stop or internal_precision.explicable([*first.comparisons])  # in lower precision inside
    contracts = [] if lost else _adjoint(looked, again, options, label, other)
    first = replace(first, contracts=(*first.contracts, *contracts), evaluations=first.evaluations + looked.count - 1)
    return _joined(first, found)


def _adjoint(evaluator: Evaluator, second: Program, options: Options, label: str, cotangent: F64) -> list[Contract]:
    if not options.tries(double_adjoint.NAME) or second.by_cotangent is None:
        return []
    return [double_adjoint.examine(evaluator, second, options, label, cotangent)]


def _rounding(program: Program, first: Finding) -> F64 | None:
    """What rounding may do to the gradients at most, (N,), as the check of first derivatives has shown; None: not known."""
    if any(c.verdict is not Verdict.PASS for c in first.comparisons):
        return None
    resolution = max((c.resolution for c in first.comparisons if not np.isnan(c.resolution)), default=0.0)
    largest = [np.max(np.abs(program.value[leaf.span]), initial=0.0) for leaf in program.outputs]
    return max(resolution, LEAST) * np.repeat(largest, [leaf.entries * leaf.width for leaf in program.outputs])


def _cotangents(evaluator: Evaluator, label: str) -> F64:
    """Two random combinations of the outputs, in numbers that are the same in float32; a single number as it is."""
    program = evaluator.program
    if program.value.size == 1:
        return np.ones((2, 1))
    look = seen_along(program, evaluator.line(every_entry(program, generator(0, "second outlook", label))))
    scales = [np.full(leaf.entries * leaf.width, directions.scale_of(program.value[leaf.span])) for leaf in program.outputs]
    look = replace(look, scales=np.maximum(look.scales, program.eps**LOST * np.concatenate(scales)))
    found = [look.cotangent(generator(0, stream, label)) for stream in ("second", "double adjoint")]
    return np.stack(found).astype(np.float32).astype(np.float64)


def _examined(whole: Program, options: Options, label: str, trial: int) -> Finding:
    looked = Evaluator(whole)
    nothing = _rounding_alone(looked, label)
    looked.program = silenced(whole, nothing) if nothing.any() else whole
    found = derivative(looked.program, replace(options, checks=(), optimizer=None, partners=()), label, trial)
    kept = [replace(c, message=OF_SECOND.format(c.message)) for c in found.contracts if c.verdict is not Verdict.PASS]
    if not (found.stop or options.straight_through) and options.tries(
        hessian_symmetry.NAME
    ):  # such an estimator is no gradient
        kept.append(hessian_symmetry.examine(looked, options, label, ~nothing))
    remarks = [ROUNDING.format(leaf.path, np.sum(nothing[leaf.span])) for leaf in whole.outputs if nothing[leaf.span].any()]
    count = found.evaluations + looked.count - 1
    return replace(found, contracts=tuple(kept), notes=(*found.notes, *remarks), evaluations=count)


def _rounding_alone(evaluator: Evaluator, label: str) -> NDArray[np.bool_]:
    """Which gradients are zero but for what rounding leaves of terms that cancel, (M,): their differences are noise.

    As that of the bias before a batch norm, which takes it out again. They stay as small far from the primal.
    """
    program = evaluator.program
    scales = np.concatenate([directions.scales_of(program.point[leaf.span]) for leaf in program.leaves])
    phi = evaluator.line(every_entry(program, generator(0, "rounding alone", label)))
    around = np.abs(program.value)
    for t in FAR:
        around = np.maximum(around, np.abs(phi(t)))
    around *= scales
    small = around <= CANCELLED * program.eps * np.max(around, initial=0.0)
    if not small.any() or not np.all(np.isfinite(around)):
        return np.zeros(small.shape, dtype=bool)
    finest, few = directions.finest_step(program.eps), np.flatnonzero(small)
    level = np.zeros(small.shape)
    level[few] = noise.measure(lambda t: phi(t)[few], program.value[few], finest, program.eps, spacings=1) * scales[few]
    for leaf in program.outputs:
        level[leaf.span] = np.max(level[leaf.span], initial=0.0)  # a few evaluations say little of a single number
    return np.asarray(small & (level > 0) & (around <= LOUDER * level))


def _joined(first: Finding, second: Finding) -> Finding:
    """Both in one; a remark that is made of both is made once."""
    notes = [OF_SECOND.format(note) for note in second.notes if note not in first.notes]
    return replace(
        first,
        comparisons=(*first.comparisons, *(replace(c, order=ORDER) for c in second.comparisons)),
        contracts=(*first.contracts, *second.contracts),
        partials=(*first.partials, *second.partials),
        notes=(*first.notes, *notes),
        details=(*first.details, *second.details),
        stop=second.stop,
        message=OF_SECOND.format(second.message or second.stop.message) if second.stop else "",
        evaluations=first.evaluations + second.evaluations,
    )
