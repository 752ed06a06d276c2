"""Contracts of a hand-written derivative: it leaves its inputs alone, and depends on its arguments only."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.backends import global_state
from gradcheck.backends.program import DIRECTION, Arguments, Claim, DirectCall
from gradcheck.checks.contracts.slope_comparison import compare_slope
from gradcheck.errors import TargetError
from gradcheck.evidence import directions
from gradcheck.evidence.line import F64
from gradcheck.results import Contract, Verdict
from gradcheck.seeds import make_generator

if TYPE_CHECKING:
    from gradcheck.compare.trial import Trial

# The contracts of one function take about this many calls of it, and of the target.
CALLS = 8
# If the user sets no budget, they may take this many seconds.
DEFAULT_BUDGET = 10.0
# Two calls may differ by this share of the largest number, as an iterative solver does that starts from its last result.
MAX_DIFFERENCE = 1e-4
# At other inputs, each entry is multiplied by a random factor in this range. A zero moves by a share of its entry's scale.
OTHER_INPUTS = (0.7, 0.8)
ZERO_SHIFT = 0.25
KEEPS_STATE = "keep nothing between calls, or keep it by the values of the arguments"

RECORDED_OR_CACHED = (
    "returns the same numbers at other inputs, where they are wrong: right for recorded numbers, wrong for a cache"
)


def check_direct_calls(trial: Trial) -> list[Contract]:
    """Call each hand-written derivative again and again; each contract assumes that those before it hold."""
    if trial.options.nondeterministic:
        return []
    return [contract for caller in _make_callers(trial) for contract in _check_call(caller)]


def call_at_other_inputs(trial: Trial) -> None:
    """Call each hand-written derivative at other inputs before anything else is done with it.

    One that keeps its first result, whatever the inputs are, is then wrong at the primal. Numbers that the user recorded there
    are right.
    """
    if trial.options.nondeterministic or not trial.options.tries("state"):
        return
    callers = _make_callers(trial)
    for caller in callers:
        with suppress(TargetError):  # it need not be defined there
            caller.numbers_at(caller.other_point)
    if callers:
        trial.evaluator(trial.program.point)  # for derivatives that use what the function keeps


Finding = tuple[Verdict, str]  # what is wrong with a hand-written derivative


class _Caller:
    """Calls a hand-written derivative in the way that it is used: after the function, at the same inputs."""

    def __init__(self, trial: Trial, claim: Claim, call: DirectCall) -> None:
        self.trial, self.claim, self.call = trial, claim, call
        rng = make_generator(0, "direct calls", trial.label, call.kind)
        size = trial.program.point.size if call.kind == "jvp" else trial.program.value.size
        self.direction, self.point = np.empty(size), trial.program.point
        directions.fill_even(rng, np.ones(size), self.direction)
        self.other_point = self.point * rng.uniform(*OTHER_INPUTS, self.point.size)
        for leaf in trial.program.leaves:
            scales = directions.compute_entry_scales(self.point[leaf.span])
            self.other_point[leaf.span] += np.where(self.point[leaf.span] == 0, ZERO_SHIFT * scales, 0.0)

    def new_arguments(self) -> Arguments:
        """Make new arguments at the primal."""
        return self.call.make_arguments(self.point, self.direction)

    def returned_at(self, point: F64) -> object:
        """Call the function and then the derivative, both at a point."""
        self.trial.evaluator(point)
        return self.call.call(self.call.make_arguments(point, self.direction))

    def describe_difference(self, first: F64, second: F64) -> str:
        """Show the largest difference between two results, as in 'at x[0] 2 and then 4'; '' if there is none to speak of."""
        if first.shape != second.shape:
            return f"{first.size} and then {second.size} of them"
        for span, entry in self._named_spans(first.size):
            difference = np.abs(np.nan_to_num(second[span] - first[span]))
            if np.any(difference > MAX_DIFFERENCE * np.max(np.abs(first[span]), initial=0.0)):
                worst = span.start + int(np.argmax(difference))
                return f"at {entry(worst)} {first[worst]:.6g} and then {second[worst]:.6g}"
        return ""

    def _named_spans(self, size: int) -> list[tuple[slice, Callable[[int], str]]]:
        """Return the parts of the numbers, each with a function from a position to the name of the entry there."""
        if self.call.kind == "jacobian":
            return [(slice(0, size), "number {}".format)]
        program = self.trial.program
        return [(leaf.span, leaf.entry) for leaf in (program.outputs if self.call.kind == "jvp" else program.leaves)]

    def numbers_at(self, point: F64) -> F64:
        """Return the numbers of the derivative at a point."""
        return self.call.read(self.returned_at(point))


def _make_callers(trial: Trial) -> list[_Caller]:
    return [_Caller(trial, claim, call) for claim in trial.program.claims for call in claim.direct_calls]


def _check_call(caller: _Caller) -> list[Contract]:
    label, options, contracts = caller.call.label, caller.trial.options, list[Contract]()
    finders = {name: find_breach for name, find_breach in FINDERS.items() if options.tries(name)}
    start = time.perf_counter()
    try:
        caller.numbers_at(caller.point)
        predicted = CALLS * (time.perf_counter() - start)
        if predicted > (options.budget or DEFAULT_BUDGET):
            why = f"{label} not tried: it would take about {predicted:.0f} s; --budget allows more"
            return [Contract(name, Verdict.PASS, why, is_untried=True) for name in finders]
        for name, find_breach in finders.items():
            verdict, finding = find_breach(caller) or (Verdict.PASS, HOLDS[name])
            contracts.append(Contract(name, verdict, f"{label} {finding}"))
            if verdict is Verdict.FAIL:
                break
    except TargetError:
        pass  # the check of the derivative itself reports it
    return contracts


def _find_changed_inputs(caller: _Caller) -> Finding | None:
    """Look at the arguments after a call; a vjp may write to its cotangent, as NumPy code often does."""
    arguments = caller.new_arguments()
    caller.call.call(arguments)
    changed = caller.call.find_changed(arguments, caller.point, caller.direction)
    inputs = [path for path in changed if path != DIRECTION]
    if inputs:
        inputs = [path for path in inputs if path not in _find_changed_by_function(caller)]
    if inputs:
        return Verdict.FAIL, f"changes its input {', '.join(inputs)} in place: compute into a new array"
    if DIRECTION in changed:
        return Verdict.INCONCLUSIVE, "changes its first argument in place: a caller that uses it again needs a copy"
    return None


def _find_changed_by_function(caller: _Caller) -> list[str]:
    """Find the inputs that the function itself changes, as a layer updates its running statistics."""
    arguments, function = caller.new_arguments(), caller.trial.program.fn
    args, kwargs = arguments
    with suppress(Exception):
        if function is not None:
            function(*args[caller.call.leading :], **kwargs)
    return caller.call.find_changed(arguments, caller.point, caller.direction)


def _find_randomness(caller: _Caller) -> Finding | None:
    first = caller.numbers_at(caller.point)
    difference = caller.describe_difference(first, caller.numbers_at(caller.point))
    if not difference:
        return None
    states = global_state.snapshot(caller.call.function)  # the search for generators costs more than a call
    caller.numbers_at(caller.point)
    drew = bool(global_state.changes_since(states))
    why = "it draws random numbers of its own" if drew else "it adds to what it keeps, or reads memory that was never written"
    return Verdict.FAIL, f"returns other numbers when it is called again, {difference}: {why}"


def _find_accumulation(caller: _Caller) -> Finding | None:
    """Call twice with the same inputs, not with copies of them, as for a second cotangent."""
    first_arguments, leading = caller.new_arguments(), caller.call.leading
    first = caller.call.read(caller.call.call(first_arguments))
    args = (*caller.new_arguments()[0][:leading], *first_arguments[0][leading:])
    difference = caller.describe_difference(first, caller.call.read(caller.call.call((args, first_arguments[1]))))
    if not difference:
        return None
    return Verdict.FAIL, f"returns other numbers for the same arrays the second time, {difference}: {KEEPS_STATE}"


def _find_kept_state(caller: _Caller) -> Finding | None:
    """Look at what the first call returned after another call at other inputs, and call again."""
    returned, numbers_there = caller.returned_at(caller.point), None
    before = caller.call.read(returned)
    with suppress(TargetError):  # it need not be defined at the other inputs
        numbers_there = caller.numbers_at(caller.other_point)
    if difference := caller.describe_difference(before, caller.call.read(returned)):
        return Verdict.FAIL, f"returns an array that the next call overwrites, {difference}: return a new array or a copy"
    numbers_here = caller.numbers_at(caller.point)
    if difference := caller.describe_difference(before, numbers_here):
        return Verdict.FAIL, f"returns other numbers after a call with other inputs, {difference}: {KEEPS_STATE}"
    if numbers_there is None or not np.any(numbers_here) or not np.array_equal(numbers_here, numbers_there):
        return None
    return _judge_stale_numbers(caller)


def _judge_stale_numbers(caller: _Caller) -> Finding | None:
    """Judge numbers that are the same at other inputs, to the last bit: they are stale if they are wrong at one of the two."""
    try:
        is_wrong_here, is_wrong_there = (_is_wrong_at(caller, point) for point in (caller.point, caller.other_point))
    except TargetError:
        return None
    if is_wrong_here and not is_wrong_there:
        return Verdict.FAIL, f"returns the numbers of the first inputs at these inputs too, where they are wrong: {KEEPS_STATE}"
    if is_wrong_there and not is_wrong_here:
        return Verdict.INCONCLUSIVE, RECORDED_OR_CACHED
    return None


def _is_wrong_at(caller: _Caller, point: F64) -> bool:
    """Whether the claim certainly contradicts differences along a random line through a point."""
    trial, claim = caller.trial, caller.claim
    program, rng = trial.program, make_generator(0, "stale", trial.label)
    u, v = np.empty(point.size), np.empty(program.value.size)
    directions.fill_even(rng, program.point, u)
    directions.fill_even(rng, np.ones(v.size), v)
    base = trial.evaluator(point)
    if caller.call.kind == "jvp":
        assert claim.jvp is not None
        terms = v * claim.jvp(point, u[None])[0]
    else:
        assert claim.vjp is not None
        terms = claim.vjp(point, v[None])[0] * u
    size = float(np.linalg.norm(terms))
    return compare_slope(
        lambda t: float(v @ (trial.evaluator(point + t * u) - base)),
        (float(np.sum(terms)), size),
        program.eps * float(np.sum(np.abs(v * base))),
        program.eps,
        claim_error=4 * claim.eps * size,
    ).differs


FINDERS = {
    "inputs-intact": _find_changed_inputs,
    "deterministic-backward": _find_randomness,
    "retain-graph": _find_accumulation,
    "state": _find_kept_state,
}
HOLDS = {
    "inputs-intact": "leaves its inputs unchanged",
    "deterministic-backward": "returns the same numbers when it is called again",
    "retain-graph": "returns the same numbers for the same arrays the second time",
    "state": "returns the same numbers after a call with other inputs",
}
