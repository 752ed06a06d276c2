"""Decide each claim exactly: the identity that makes it the derivative, at random points of prime fields.

A proof is a row with the method `exact`, and so is an identity that does not hold. In floating point we then measure by how
much, since the identity alone does not say whether that matters. What cannot be decided is a note.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.compare.table_row import find_output_leaf
from gradcheck.exact import identity
from gradcheck.exact.graph import NotAvailable
from gradcheck.exact.identity import Decision, Outcome
from gradcheck.results import Comparison, Reason, Verdict
from gradcheck.seeds import make_generator
from gradcheck.tracebacks import summarise_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradcheck.backends.flat import F64, Leaf
    from gradcheck.backends.program import Claim, ExactProgram
    from gradcheck.compare.trial import Trial

METHOD = "exact"
CLAIMS = ("analytic", "reverse", "forward")
MAX_MESSAGE = 120  # characters of an error that a note shows
SECONDS = 10.0  # that the random points of a trial may take
NOT_AVAILABLE = "exact not available: {}"
PROVED = (
    "exact: proved at {} random points modulo primes of 31 bits{}; `gradcheck explain identity-proved` says what that means"
)
ON_BRANCH = ", on the branch taken at these inputs ({})"
NO_TRACE = "the derivative cannot be traced"
DECLARED = "a straight-through estimator is not the derivative"
NOT_SHOWN = "the fields find a difference that floating point does not show; a rule for {} may be missing"
# A difference of a claim from the derivative counts from this many times the rounding that moved inputs show, and from this
# many times the largest derivative of the leaf.
MIN_RATIO_TO_ROUNDING = 8.0
# Without a FAIL of the numerical method, one by the identity needs a difference of this many times the rounding.
MIN_RATIO_TO_ROUNDING_OF_FAIL = 1e3
MIN_RELATIVE_DIFFERENCE = 1e-14
# The difference is measured at this many points next to the primal, each with its own cotangent moved alike.
MEASUREMENTS = 4
NUDGE = 2.0**-48


def check_exactly(trial: Trial, rows: Sequence[Comparison]) -> list[Comparison]:
    """Decide the claims on each leaf; notes say what could not be decided.

    Args:
        trial: what is checked.
        rows: the comparisons of the claims with other evidence.
    """
    compared = {row.method for row in rows} & set(CLAIMS)
    claims = [claim for claim in trial.program.claims if claim.method in compared and not claim.derived]
    trial.recorder.note(*([] if claims else [NOT_AVAILABLE.format(NO_TRACE)]))
    made = list[Comparison]()
    for claim in claims:
        try:
            made += _check_claim(trial, claim, [row for row in rows if row.method == claim.method and row.order == 1])
        except NotAvailable as why:
            trial.recorder.note(NOT_AVAILABLE.format(why))
    return made


def _check_claim(trial: Trial, claim: Claim, rows: Sequence[Comparison]) -> list[Comparison]:
    """Decide one claim on each leaf.

    Raises:
        NotAvailable: if it cannot be decided on any.
    """
    program = _trace(trial, claim)
    seed = int(make_generator(trial.options.seed, trial.label, METHOD).integers(2**31))
    decision = _decide(program, seed)
    made, unshown = list[Comparison](), False
    for leaf, outcome in zip(trial.program.leaves, decision.outcomes, strict=True):
        row = next((row for row in rows if row.wrt == leaf.path), None)
        if row is not None and outcome is Outcome.PROVED:
            made.append(_make_proof(row))
        elif row is not None and outcome is Outcome.REFUTED:
            refutation = _make_refutation(trial, row, rows, leaf, _measure_differences(trial, claim, program, leaf))
            unshown |= refutation is None
            made += [] if refutation is None else [refutation]
    trial.recorder.note(*_describe(decision, program, unshown=unshown))
    return made


def _decide(program: ExactProgram, seed: int) -> Decision:
    try:
        return identity.decide(program.identity, seed, SECONDS)
    except NotAvailable:
        raise
    except Exception as error:  # an operator may refuse numbers that are no results of a program
        raise NotAvailable(f"the fields raised {summarise_error(error, MAX_MESSAGE)}") from error


def _trace(trial: Trial, claim: Claim) -> ExactProgram:
    trace = trial.program.capabilities.trace_exactly
    if trace is None:
        raise NotAvailable(NO_TRACE)
    if trial.options.straight_through:
        raise NotAvailable(DECLARED)
    return trace(claim)


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
    """The claim and the derivative of the traced operators for a random vector, and how far rounding moves their difference.

    In reverse mode each holds the numbers of a leaf, in forward mode those of the outputs.
    """

    claim: F64
    derivative: F64
    rounding: F64
    forward: bool


def _measure_differences(trial: Trial, claim: Claim, program: ExactProgram, leaf: Leaf) -> _Differences:
    """Measure in floating point how far the claim is from the derivative, at the primal and right next to it."""
    draw, target = make_generator(trial.options.seed, trial.label, "exact differences", leaf.path), trial.program
    forward = claim.vjp is None
    size = target.point.size if forward else target.value.size
    vector = draw.uniform(0.5, 1.0, size) * draw.choice([-1.0, 1.0], size)
    if forward:
        vector[[i for i in range(size) if not leaf.span.start <= i < leaf.span.stop]] = 0.0
    pairs = [program.differentiate(target.point, vector)]
    for _ in range(MEASUREMENTS):
        nudged = target.point * (1 + NUDGE * draw.uniform(-1.0, 1.0, target.point.size))
        pairs.append(program.differentiate(nudged, vector))
    span = slice(None) if forward else leaf.span
    with np.errstate(all="ignore"):
        apart = np.stack([claimed[span] - derivative[span] for claimed, derivative in pairs])
    claimed, derivative = pairs[0]
    return _Differences(claimed[span], derivative[span], np.max(np.abs(apart - apart[0]), axis=0), forward)


def _make_refutation(
    trial: Trial, row: Comparison, rows: Sequence[Comparison], leaf: Leaf, differences: _Differences
) -> Comparison | None:
    """Make the row of a leaf on which the identity does not hold; None if floating point does not show that.

    Args:
        trial: what is checked.
        row: of the claim on this leaf.
        rows: of the claim on all leaves.
        leaf: which it is.
        differences: of the claim from the derivative.
    """
    claim, derivative, rounding = differences.claim, differences.derivative, differences.rounding
    with np.errstate(all="ignore"):
        apart, scale = np.abs(claim - derivative), np.fmax(np.abs(claim), np.abs(derivative))
        least = np.fmax(MIN_RATIO_TO_ROUNDING * rounding, MIN_RELATIVE_DIFFERENCE * np.max(scale, initial=0.0))
        errors = np.where(apart > least, apart / scale, 0.0)
    worst = int(np.nanargmax(errors))
    numerical = [r for r in rows if r.wrt == leaf.path and r.against == "numeric"]
    failed = next((r for r in numerical if r.verdict is Verdict.FAIL), None)
    if not errors[worst] > 0:  # PyTorch differentiates the operators of the forward in the same wrong way
        return failed and replace(_without_evidence(failed), reason=Reason.IDENTITY_REFUTED)
    is_clear = apart[worst] > MIN_RATIO_TO_ROUNDING_OF_FAIL * rounding[worst]
    fails = failed is not None or (is_clear and errors[worst] > row.rtol)
    return replace(
        _without_evidence(row),
        verdict=Verdict.FAIL if fails else Verdict.PASS,
        reason=Reason.IDENTITY_REFUTED if fails else Reason.SMALL_DIFFERENCE,
        claimed=float(claim[worst]),
        estimate=float(derivative[worst]),
        bound=float(rounding[worst]),
        abs_err=float(apart[worst]),
        rel_err=float(errors[worst]),
        resolution=float("nan") if fails else float(errors[worst]),
        **_name_place(trial, row, leaf, worst, forward=differences.forward),
    )


def _name_place(trial: Trial, row: Comparison, leaf: Leaf, worst: int, *, forward: bool) -> dict[str, Any]:
    """Name the output and the entry of a difference: an entry for a random cotangent, or an output along a random tangent."""
    if forward:
        return {"output": find_output_leaf(trial.program, worst).entry(worst), "worst_entry": None, "mode": "probe"}
    output = row.output if trial.program.value.size == 1 else "combination"
    return {"output": output, "worst_entry": leaf.index(leaf.start + worst)}
