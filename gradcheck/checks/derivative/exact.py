"""Decide each claim exactly: the identity that makes it the derivative, at random points of prime fields.

A proof is a row with the method `exact`, and so is an identity that does not hold, with the difference that high precision
shows. What the fields leave open is compared in high precision. What cannot be decided is a note.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gradcheck.backends.flat import EPS
from gradcheck.checks.derivative.high_precision import Difference, PreciseComparison, measure_in_float64
from gradcheck.compare.table_row import find_output_leaf
from gradcheck.compare.trial_recorder import BRANCH_TAKEN
from gradcheck.exact import identity
from gradcheck.exact.branches import TO_INTEGERS
from gradcheck.exact.graph import DEMOTES, NotAvailable
from gradcheck.exact.high_precision import NO_FLINT
from gradcheck.exact.identity import EQUAL_BY_CHANCE, IdentityDecision, IdentityOutcome
from gradcheck.results import Comparison, Reason, Verdict
from gradcheck.seeds import make_generator
from gradcheck.tracebacks import summarise_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradcheck.backends.flat import Leaf
    from gradcheck.backends.program import Claim, ExactProgram
    from gradcheck.compare.trial import Trial
    from gradcheck.exact.high_precision import Measurement

METHOD, HIGH_PRECISION = "exact", "high-precision"
CLAIMS = ("analytic", "reverse", "forward")
MAX_MESSAGE = 120  # characters of an error that a note shows
SECONDS = 10.0  # that the random points of a trial may take
MAX_NUMBERS = 500_000  # in a graph that is evaluated in high precision
# Nobody asked for it where `numeric` is INCONCLUSIVE: there it must cost little. Numbers of inputs and outputs, in the graph,
# and seconds of one evaluation.
MAX_SIZE_UNASKED, MAX_NUMBERS_UNASKED, MAX_SECONDS_UNASKED = 10_000, 100_000, 0.2
NOT_AVAILABLE, NOT_AVAILABLE_FOR = "exact not available: {}", "exact not available for {}: {}"
PROVED = (
    "exact: proved at {} random points modulo primes of 31 bits{}; `gradcheck explain identity-proved` says what that means"
)
AGREES = "high-precision: claim and derivative agree at these inputs{}; `gradcheck explain high-precision-agrees` says more"
ON_BRANCH = f", on {BRANCH_TAKEN} ({{}})"
DERIVED = "gradcheck derives the gradient of NumPy code; what is decided is one that you give by gradient=, vjp= or backward="
NO_TRACE = "the derivative cannot be traced"
DECLARED = "a straight-through estimator is not the derivative"
NOT_SHOWN = "the fields find a difference that {} does not show; a rule for {} may be missing"
ONLY_HERE = "exact: {} is the derivative at these inputs only: does it use numbers of an earlier call, such as a copy of {}?"
RECORDED = "{} does not depend on the inputs: right for recorded numbers, wrong for a cache"
# Reasons of INCONCLUSIVE that are the rounding of float64, if the code does not round on purpose.
BY_ROUNDING = (Reason.DULL, Reason.QUANTISED, Reason.METHODS_DISAGREE)
ROUNDING_OPERATORS = frozenset(("round", "floor", "ceil", "trunc", TO_INTEGERS))
# Where these are the reasons of the numerical method, the derivative on one branch does not refute a claim.
NOT_SMOOTH = (
    *(Reason.KINK_SUBGRADIENT, Reason.TIE, Reason.STRAIGHT_THROUGH, Reason.OUTSIDE_KINK, Reason.BESIDE_KINK),
    *(Reason.JUMP, Reason.SINGULAR, Reason.QUANTISED),
)


def check_exactly(trial: Trial, rows: Sequence[Comparison]) -> list[Comparison]:
    """Decide the claims on each leaf; notes say what could not be decided.

    Without the option `exact`, only claims that the rounding of float64 hides are decided, and notes are left out.

    Args:
        trial: what is checked.
        rows: the comparisons of the claims with other evidence.
    """
    compared, is_asked = {row.method for row in rows} & set(CLAIMS), bool(trial.options.exact)
    claims = [claim for claim in trial.program.claims if claim.method in compared and not claim.derived]
    refusals = dict[str, str]() if claims else {"": DERIVED if trial.program.framework == "numpy" else NO_TRACE}
    made = list[Comparison]()
    for claim in claims:
        of_claim = [row for row in rows if row.method == claim.method and row.order == 1]
        wanted = of_claim if is_asked else _list_hidden(trial, of_claim, claim)
        try:
            made += _check_claim(trial, claim, of_claim, {row.wrt for row in wanted}) if wanted else []
        except NotAvailable as why:
            refusals[_name_claim(claim)] = str(why)
    if is_asked:
        trial.recorder.note(*_describe_refusals(refusals, len(claims)))
    return made


def _describe_refusals(refusals: dict[str, str], claims: int) -> list[str]:
    """Say why claims are not decided: once if all are not for one reason, and else with their names."""
    if len(set(refusals.values())) == 1 and len(refusals) >= claims:
        return [NOT_AVAILABLE.format(next(iter(refusals.values())))]
    return [NOT_AVAILABLE_FOR.format(name, why) for name, why in refusals.items()]


def _list_hidden(trial: Trial, rows: Sequence[Comparison], claim: Claim) -> list[Comparison]:
    """List the comparisons that only the rounding of float64 leaves open, if it costs little to trace the claim."""
    program, seconds = trial.program, trial.evaluator.seconds
    is_cheap = program.point.size + program.value.size <= MAX_SIZE_UNASKED and not seconds > MAX_SECONDS_UNASKED
    # NumPy code would have to run on other arrays than plain ones, which it may keep.
    if not is_cheap or claim.eps > EPS["float64"] or program.framework == "numpy":
        return []
    decided = {row.wrt for row in rows if row.against not in CLAIMS and row.verdict is not Verdict.INCONCLUSIVE}
    hidden = [row for row in rows if row.verdict is Verdict.INCONCLUSIVE and row.reason in BY_ROUNDING]
    return [row for row in hidden if row.wrt not in decided]


def _check_claim(trial: Trial, claim: Claim, rows: Sequence[Comparison], wanted: set[str]) -> list[Comparison]:
    """Decide one claim on the leaves that are wanted.

    Raises:
        NotAvailable: if it cannot be decided on any.
    """
    program, is_asked = _trace(trial, claim), bool(trial.options.exact)
    if not is_asked and (program.branches.names & ROUNDING_OPERATORS or program.demotions):
        raise NotAvailable("the code rounds")
    seed = int(make_generator(trial.options.seed, trial.label, METHOD).integers(2**31))
    decision, made = _decide(program, seed), list[Comparison]()
    leaf_outcomes = list(zip(trial.program.leaves, decision.outcomes, strict=True))
    precise, why = None, ""
    if any(outcome is not IdentityOutcome.PROVED for leaf, outcome in leaf_outcomes if leaf.path in wanted):
        try:
            precise = _compare_precisely(trial, claim, program, decision)
        except NotAvailable as error:
            why = str(error)
    unshown = False
    for number, (leaf, outcome) in enumerate(leaf_outcomes):
        row = next((row for row in rows if row.wrt == leaf.path and row.wrt in wanted), None)
        if row is not None and outcome is IdentityOutcome.PROVED:
            made.append(_make_agreement(row))
        elif row is not None:
            judged = _judge(trial, claim, program, precise, [row, *rows], number, is_refuted=outcome is IdentityOutcome.REFUTED)
            if judged is None and outcome is IdentityOutcome.REFUTED and _is_recorded(claim, program, number):
                trial.recorder.note(NOT_AVAILABLE.format(RECORDED.format(_name_claim(claim))))
            else:
                unshown |= judged is None and outcome is IdentityOutcome.REFUTED
            made += [] if judged is None else [judged]
    trial.recorder.note(*([why] if why == NO_FLINT else []))
    if made and program.branches.names:
        trial.recorder.branches.add(f"{claim.method} {program.branches.fingerprint}")
    if is_asked or made:
        trial.recorder.note(*_describe(decision, program, made, unshown=unshown, by_flint=precise is not None))
    return made


def _decide(program: ExactProgram, seed: int) -> IdentityDecision:
    """Decide the identity in the fields; if they cannot, everything is unknown."""
    try:
        return identity.decide(program.identity, seed, SECONDS)
    except NotAvailable as error:
        why = str(error)
    except Exception as error:  # an operator may refuse numbers that are no results of a program
        why = f"the fields raised {summarise_error(error, MAX_MESSAGE)}"
    return IdentityDecision([IdentityOutcome.UNKNOWN] * len(program.identity.leaves), 0, set(), why)


def _compare_precisely(
    trial: Trial, claim: Claim, program: ExactProgram, decision: IdentityDecision
) -> PreciseComparison | None:
    """Prepare the comparison in high precision; None if it would say nothing.

    Raises:
        NotAvailable: if python-flint is missing, or the graph is too large.
    """
    if decision.why == EQUAL_BY_CHANCE or program.demotions:
        return None
    precise = PreciseComparison(trial, claim, program, MAX_NUMBERS if trial.options.exact else MAX_NUMBERS_UNASKED)
    return precise if precise.keeps_equal_numbers() else None


def _trace(trial: Trial, claim: Claim) -> ExactProgram:
    trace = trial.program.capabilities.trace_exactly
    if trace is None:
        raise NotAvailable(NO_TRACE)
    if trial.options.straight_through:
        raise NotAvailable(DECLARED)
    return trace(claim)


def _describe(
    decision: IdentityDecision, program: ExactProgram, made: Sequence[Comparison], *, unshown: bool, by_flint: bool
) -> list[str]:
    notes, reasons = [], {row.reason for row in made}
    branches = ", ".join(sorted(program.branches.names))
    on_branch = ON_BRANCH.format(branches) if branches else ""
    if IdentityOutcome.PROVED in decision.outcomes:
        notes.append(PROVED.format(decision.points, on_branch))
    if Reason.HIGH_PRECISION_AGREES in reasons:
        notes.append(AGREES.format(on_branch))
    if decision.why:
        notes.append(NOT_AVAILABLE.format(decision.why))
    if unshown:
        functions = ", ".join(sorted(decision.unknown)) or "logarithms or roots"
        notes.append(NOT_AVAILABLE.format(NOT_SHOWN.format("high precision" if by_flint else "floating point", functions)))
    if program.demotions:
        is_open = any(outcome is not IdentityOutcome.PROVED for outcome in decision.outcomes)
        prefix = NOT_AVAILABLE if is_open else "exact: {}"
        notes.append(prefix.format(DEMOTES.format(" and ".join(sorted(program.demotions)))))
    return notes


def _make_agreement(row: Comparison, measured: Measurement | None = None) -> Comparison:
    """Make the row of a proof, or of an agreement in high precision."""
    agreement = replace(_without_evidence(row), verdict=Verdict.PASS, reason=Reason.IDENTITY_PROVED)
    error = 0.0
    if measured is not None:
        error = measured.rel_err
        agreement = replace(agreement, against=HIGH_PRECISION, reason=Reason.HIGH_PRECISION_AGREES)
    size = error * abs(row.claimed)
    return replace(agreement, estimate=row.claimed, bound=size, abs_err=size, rel_err=error, resolution=error)


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


def _judge(
    trial: Trial,
    claim: Claim,
    program: ExactProgram,
    precise: PreciseComparison | None,
    rows: Sequence[Comparison],
    number: int,
    *,
    is_refuted: bool,
) -> Comparison | None:
    """Make the row of a leaf on which the claim is not proved; None if no difference is shown, and no agreement.

    Args:
        trial: what is checked.
        claim: by reverse or forward mode.
        program: traced with the claim.
        precise: compares in high precision, if that is available.
        rows: of the claim on this leaf, and then on all leaves.
        number: of the leaf.
        is_refuted: whether the fields show that the identity does not hold.
    """
    leaf, row = trial.program.leaves[number], rows[0]
    numerical = [other for other in rows if other.wrt == leaf.path and other.against not in CLAIMS]
    failed = next((r for r in numerical if r.verdict is Verdict.FAIL), None)
    is_smooth, looks_nearby = not any(other.reason in NOT_SMOOTH for other in numerical), is_refuted or trial.options.exact
    measured, difference = precise.compare(number) if precise else None, None
    if precise and measured and measured.differs:
        difference = precise.find_difference(number, measured)
    elif precise and measured:
        nearby = precise.compare(number, nearby=True) if looks_nearby else measured
        if nearby and not nearby.differs and not (is_refuted and failed):
            return _make_agreement(row, measured)
    elif is_refuted:
        difference = measure_in_float64(trial, program, number)
    is_hardly_seen = difference is None or difference.rel_err <= row.rtol
    if is_hardly_seen and looks_nearby and is_smooth and not failed and not _is_recorded(claim, program, number):
        clearer = _find_difference_nearby(trial, program, precise, number)
        if clearer is not None and (difference is None or clearer.rel_err > row.rtol):
            difference = clearer
            trial.recorder.note(ONLY_HERE.format(_name_claim(claim), leaf.path))
    if difference is None:  # PyTorch may differentiate the operators of the forward in the same wrong way
        return replace(_without_evidence(failed), reason=Reason.IDENTITY_REFUTED) if failed and is_refuted else None
    if not is_refuted and not is_smooth:
        return None
    return _make_refutation(trial, row, leaf, difference, failed=failed is not None, is_refuted=is_refuted)


def _find_difference_nearby(
    trial: Trial, program: ExactProgram, precise: PreciseComparison | None, number: int
) -> Difference | None:
    """Find the difference of a claim on a leaf near the primal; None if none is shown for certain."""
    difference = None
    if precise is None:
        difference = measure_in_float64(trial, program, number, nearby=True)
    elif (measured := precise.compare(number, nearby=True)) and measured.differs:
        difference = precise.find_difference(number, measured, nearby=True)
    return difference if difference is not None and difference.is_clear else None


def _is_recorded(claim: Claim, program: ExactProgram, number: int) -> bool:
    """Say whether a gradient by hand uses no input, as numbers that were recorded at the primal."""
    return claim.linear and bool(claim.direct_calls) and not program.identity.depends_on_leaves(number)


def _name_claim(claim: Claim) -> str:
    return claim.direct_calls[0].label if claim.direct_calls else f"{claim.method} mode"


def _make_refutation(
    trial: Trial, row: Comparison, leaf: Leaf, difference: Difference, *, failed: bool, is_refuted: bool
) -> Comparison | None:
    """Make the row of a leaf on which the claim is not the derivative; None if rounding may explain a large difference.

    Args:
        trial: what is checked.
        row: of the claim on this leaf.
        leaf: which it is.
        difference: of the claim from the derivative.
        failed: whether the numerical method fails there.
        is_refuted: whether the fields show it.
    """
    is_large = difference.rel_err > row.rtol
    fails = failed or (is_large and difference.is_clear)
    if is_large and not fails and not is_refuted:
        return None
    reason = Reason.IDENTITY_REFUTED if is_refuted else Reason.HIGH_PRECISION_DIFFERS
    return replace(
        _without_evidence(row),
        against=METHOD if is_refuted else HIGH_PRECISION,
        verdict=Verdict.FAIL if fails else Verdict.PASS,
        reason=reason if fails else Reason.SMALL_DIFFERENCE,
        claimed=difference.claimed,
        estimate=difference.derivative,
        bound=difference.bound,
        abs_err=difference.abs_err,
        rel_err=difference.rel_err,
        resolution=float("nan") if fails else difference.rel_err,
        **_name_place(trial, row, leaf, difference),
    )


def _name_place(trial: Trial, row: Comparison, leaf: Leaf, difference: Difference) -> dict[str, Any]:
    """Name the output and the entry of a difference: an entry for a random cotangent, or an output along a random tangent."""
    place = difference.place
    if place is None:
        return {"output": "combination", "worst_entry": None, "mode": "probe"}
    if difference.of_outputs:
        return {"output": find_output_leaf(trial.program, place).entry(place), "worst_entry": None, "mode": "probe"}
    output = row.output if trial.program.value.size == 1 else "combination"
    return {"output": output, "worst_entry": leaf.index(leaf.start + place)}
