"""Decide each claim exactly: the identity that makes it the derivative, at random points of prime fields.

A proof is a row with the method `exact`, and so is an identity that does not hold. In floating point we then measure by how
much, since the identity alone does not say whether that matters. What cannot be decided is a note.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.exact import identity
from gradcheck.exact.graph import NotAvailable
from gradcheck.exact.identity import Decision, Outcome
from gradcheck.results import Comparison, Reason, Verdict
from gradcheck.seeds import make_generator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradcheck.backends.flat import F64, Leaf
    from gradcheck.backends.program import ExactProgram
    from gradcheck.compare.trial import Trial

METHOD = "exact"
CLAIM = "reverse"
SECONDS = 10.0  # that the random points of a trial may take
NOT_AVAILABLE = "exact not available: {}"
PROVED = (
    "exact: proved at {} random points modulo primes of 31 bits{}; `gradcheck explain identity-proved` says what that means"
)
ON_BRANCH = ", on the branch taken at these inputs ({})"
NO_TRACE = "only the reverse mode of PyTorch targets can be traced"
DECLARED = "a straight-through estimator is not the derivative"
NOT_SHOWN = "the fields find a difference that floating point does not show; a rule for {} may be missing"
# A difference of a claim from the derivative counts from this many times the rounding that moved inputs show, and from this
# many times the largest derivative of the leaf.
MIN_RATIO_TO_ROUNDING = 8.0
MIN_RELATIVE_DIFFERENCE = 1e-14
# The difference is measured at this many points next to the primal, each with its own cotangent moved alike.
MEASUREMENTS = 4
NUDGE = 2.0**-48


def check_exactly(trial: Trial, rows: Sequence[Comparison]) -> list[Comparison]:
    """Decide the claim of reverse mode on each leaf; notes say what could not be decided.

    Args:
        trial: what is checked.
        rows: the comparisons of the claims with other evidence.
    """
    try:
        program = _trace(trial)
        decision = identity.decide(
            program.identity, int(make_generator(trial.options.seed, trial.label, "exact").integers(2**31)), SECONDS
        )
        differences = _measure_differences(trial, program) if Outcome.REFUTED in decision.outcomes else None
    except NotAvailable as why:
        trial.recorder.note(NOT_AVAILABLE.format(why))
        return []
    made, unshown = list[Comparison](), False
    for leaf, outcome in zip(trial.program.leaves, decision.outcomes, strict=True):
        row = _find_row(rows, leaf)
        if row is None:
            continue
        if outcome is Outcome.PROVED:
            made.append(_make_proof(row))
        elif outcome is Outcome.REFUTED:
            assert differences is not None
            refutation = _make_refutation(row, rows, leaf, differences, trial.program.value.size)
            unshown |= refutation is None
            made += [] if refutation is None else [refutation]
    trial.recorder.note(*_describe(decision, program, unshown=unshown))
    return made


def _trace(trial: Trial) -> ExactProgram:
    trace = trial.program.capabilities.trace_exactly
    if trace is None or all(claim.method != CLAIM for claim in trial.program.claims):
        raise NotAvailable(NO_TRACE)
    if trial.options.straight_through:
        raise NotAvailable(DECLARED)
    return trace()


def _describe(decision: Decision, program: ExactProgram, *, unshown: bool) -> list[str]:
    notes = []
    if Outcome.PROVED in decision.outcomes:
        branches = ", ".join(sorted(program.branches))
        notes.append(PROVED.format(decision.points, ON_BRANCH.format(branches) if branches else ""))
    if decision.why:
        notes.append(NOT_AVAILABLE.format(decision.why))
    if unshown:
        functions = ", ".join(sorted(decision.unknown)) or "logarithms or roots"
        notes.append(NOT_AVAILABLE.format(NOT_SHOWN.format(functions)))
    return notes


def _find_row(rows: Sequence[Comparison], leaf: Leaf) -> Comparison | None:
    """Return the row of the claim on a leaf, which says what else the table shows of it."""
    return next((row for row in rows if row.wrt == leaf.path and row.method == CLAIM and row.order == 1), None)


def _make_proof(row: Comparison) -> Comparison:
    proof = replace(_without_evidence(row), verdict=Verdict.PASS, reason=Reason.IDENTITY_PROVED)
    return replace(proof, estimate=row.claimed, bound=0.0, abs_err=0.0, rel_err=0.0, resolution=0.0)


def _without_evidence(row: Comparison) -> Comparison:
    """Return a row without what it says about numerical evidence."""
    return replace(
        row,
        against=METHOD,
        certainty=1.0,
        unresolved=0,
        diagnosis=None,
        self_test=None,
        story=None,
        where=None,
        picture=None,
        max_abs_err=None,
        largest=None,
    )


@dataclass(frozen=True)
class _Differences:
    """The claim and the derivative of the traced operators for a random cotangent, and how far rounding moves their difference.

    Each is of the shape (N,).
    """

    claim: F64
    derivative: F64
    rounding: F64


def _measure_differences(trial: Trial, program: ExactProgram) -> _Differences:
    """Measure in floating point how far the claim is from the derivative, at the primal and right next to it."""
    draw, target = make_generator(trial.options.seed, trial.label, "exact differences"), trial.program
    cotangent = draw.uniform(0.5, 1.0, target.value.size) * draw.choice([-1.0, 1.0], target.value.size)
    pairs = [program.differentiate(target.point, cotangent)]
    for _ in range(MEASUREMENTS):
        nudged = target.point * (1 + NUDGE * draw.uniform(-1.0, 1.0, target.point.size))
        pairs.append(program.differentiate(nudged, cotangent))
    with np.errstate(all="ignore"):
        apart = np.stack([claim - derivative for claim, derivative in pairs])
    return _Differences(*pairs[0], np.max(np.abs(apart - apart[0]), axis=0))


def _make_refutation(
    row: Comparison, rows: Sequence[Comparison], leaf: Leaf, differences: _Differences, outputs: int
) -> Comparison | None:
    """Make the row of a leaf on which the identity does not hold; None if floating point does not show that.

    Args:
        row: of the claim on this leaf.
        rows: of all leaves.
        leaf: which it is.
        differences: of the claim from the derivative.
        outputs: how many numbers the program returns.
    """
    claim, derivative, rounding = (
        array[leaf.span] for array in (differences.claim, differences.derivative, differences.rounding)
    )
    with np.errstate(all="ignore"):
        apart, scale = np.abs(claim - derivative), np.fmax(np.abs(claim), np.abs(derivative))
        least = np.fmax(MIN_RATIO_TO_ROUNDING * rounding, MIN_RELATIVE_DIFFERENCE * np.max(scale, initial=0.0))
        errors = np.where(apart > least, apart / scale, 0.0)
    worst = int(np.nanargmax(errors))
    numerical = [r for r in rows if r.wrt == leaf.path and r.method == CLAIM and r.against == "numeric"]
    failed = next((r for r in numerical if r.verdict is Verdict.FAIL), None)
    if not errors[worst] > 0:  # PyTorch differentiates the operators of the forward in the same wrong way
        return failed and replace(_without_evidence(failed), reason=Reason.IDENTITY_REFUTED)
    fails = errors[worst] > row.rtol or failed is not None
    return replace(
        _without_evidence(row),
        output=row.output if outputs == 1 else "combination",
        verdict=Verdict.FAIL if fails else Verdict.PASS,
        reason=Reason.IDENTITY_REFUTED if fails else Reason.SMALL_DIFFERENCE,
        claimed=float(claim[worst]),
        estimate=float(derivative[worst]),
        bound=float(rounding[worst]),
        abs_err=float(apart[worst]),
        rel_err=float(errors[worst]),
        resolution=float("nan") if fails else float(errors[worst]),
        worst_entry=leaf.index(leaf.start + worst),
    )
