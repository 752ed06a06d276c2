"""The call of another checker as calls of `gradcheck.check`, and their results as one answer."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from gradcheck.compat.policies import Policy, current_policy
from gradcheck.glossary.verdicts import Reason, Verdict, worst_verdict

if TYPE_CHECKING:
    from gradcheck.results import CheckResult, Comparison

# An absolute tolerance is capped at this part of the leaf's largest derivative: a larger one would pass a gradient of zero.
MAX_ATOL_SHARE = 1e-2
# Up to so many inputs every entry is compared if the caller tolerates an error, which has no meaning along random directions.
MAX_ENTRIES = 2000
LOGGER = logging.getLogger("gradcheck.compat")
_IS_CHECKING: ContextVar[bool] = ContextVar("is_checking", default=False)
_SAID: set[str] = set()


class InconclusiveWarning(UserWarning):
    """The evidence of a drop-in's check cannot decide; the check counts as passed."""


@dataclass(frozen=True)
class CheckCall:
    """One call of `gradcheck.check`.

    Attributes:
        fn: what is checked.
        inputs: its inputs.
        arguments: keywords of `gradcheck.check`.
        parts: calls that together check the same. They are made if this one does not pass, to say which part is wrong.
    """

    fn: Callable[..., Any]
    inputs: tuple[Any, ...]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    parts: tuple[CheckCall, ...] = ()


@dataclass(frozen=True)
class Translation:
    """What a call of another checker asks for.

    Attributes:
        checks: the calls of `gradcheck.check`; all of them must pass.
        atol: the absolute error that the caller tolerates; 0 if the call leaves the checker's own default.
        rtol: the relative error that the caller tolerates; 0 if the call leaves the checker's own default.
        notes: arguments of the call that mean nothing here, each as a sentence, such as those for a step size.
    """

    checks: tuple[CheckCall, ...]
    atol: float = 0.0
    rtol: float = 0.0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answer:
    """The results of the checks that a call asks for.

    Attributes:
        verdict: the worst verdict, after the caller's tolerances.
        results: the result of each check.
        tolerated: the comparisons that fail by less than the caller tolerates.
        policy: the policy that the checks followed.
    """

    verdict: Verdict
    results: tuple[CheckResult, ...] = ()
    tolerated: tuple[Comparison, ...] = ()
    policy: Policy = field(default_factory=Policy)

    def describe(self) -> str:
        """Return the outcome of each check that does not pass in one line, followed by its table.

        Comparisons that the caller tolerates are left out where something else fails.
        """
        shown = (self._leave_out_tolerated(result) for result in self.results if not result.ok)
        return "\n".join(f"{result.summary}\n{result}" for result in shown)

    def _leave_out_tolerated(self, result: CheckResult) -> CheckResult:
        rows = tuple(row for row in result.comparisons if row not in self.tolerated)
        fails = Verdict.FAIL in [*(row.verdict for row in rows), *(contract.verdict for contract in result.contracts)]
        return replace(result, comparisons=rows) if rows and fails else result


def ask(translation: Translation, policy: Policy | None = None) -> Answer:
    """Run the checks that a call asks for.

    A function that is being checked may call a checker itself. Such a call is not checked and passes, since it would be
    repeated at every evaluation.

    Args:
        policy: how to answer; None: the current policy.

    Raises:
        UsageError: if gradcheck cannot take the inputs.
    """
    policy = policy or current_policy()
    if _IS_CHECKING.get():
        return Answer(Verdict.PASS)
    limits = {} if policy.budget is None else {"budget": policy.budget}
    token = _IS_CHECKING.set(True)
    try:
        runs = [*_run_checks(translation.checks, {**limits, "contracts": policy.contracts})]
    finally:
        _IS_CHECKING.reset(token)
    tolerances = (translation.atol, translation.rtol) if policy.tolerances == "caller" else (0.0, 0.0)
    results = tuple(result for _, result in runs)
    tolerated = tuple(row for result in results for row in result.comparisons if is_tolerated(row, *tolerances))
    verdicts = [_verdict_within_tolerances(result, call.arguments.get("order", 1), tolerated) for call, result in runs]
    return Answer(worst_verdict(verdicts), results, tolerated, policy)


def _run_checks(calls: Sequence[CheckCall], defaults: Mapping[str, Any]) -> Iterator[tuple[CheckCall, CheckResult]]:
    """Run some checks, and yield each with its result; in place of one that does not pass, its parts.

    It remains if it fails and none of its parts does.

    The parts of one that takes too long would take as long again.
    """
    from gradcheck.run.api import check

    for call in calls:
        result = check(call.fn, *call.inputs, **{**defaults, **call.arguments})
        is_final = result.outcome is Verdict.PASS or result.reason is Reason.OVER_BUDGET
        parts = [] if is_final else [*_run_checks(call.parts, defaults)]
        if not parts or (result.outcome is Verdict.FAIL and all(part.outcome is not Verdict.FAIL for _, part in parts)):
            yield call, result
        yield from parts


def is_tolerated(row: Comparison, atol: float, rtol: float) -> bool:
    """Whether a comparison fails by no more than a caller tolerates.

    Either the error of every entry is at most `rtol` times the numerical derivative, or the absolute error of every entry at
    most `atol`. `atol` is capped at a hundredth of the input's largest derivative: a larger one would pass a gradient of zero.
    Failures at a kink, and along random directions, where entries are not compared one by one, are not tolerated. No claim
    that is not a number is.

    Args:
        atol: absolute tolerance; 0: none.
        rtol: relative tolerance; 0: none. One of 1 or more would pass a gradient of zero, and counts as no tolerance.
    """
    # A row has one relative error, of the larger of claim and evidence. Up to r/(1 + r) of that is up to r of the evidence.
    if row.verdict is not Verdict.FAIL or row.reason is not Reason.DISAGREES or row.largest is None or row.max_abs_err is None:
        return False
    if not math.isfinite(row.rel_err):
        return False
    is_relatively_near = rtol < 1 and row.rel_err * (1 + rtol) <= rtol
    return is_relatively_near or row.max_abs_err <= min(atol, MAX_ATOL_SHARE * row.largest)


def _verdict_within_tolerances(result: CheckResult, order: int, tolerated: tuple[Comparison, ...]) -> Verdict:
    """Return the verdict of a result, leaving out the comparisons that the caller tolerates.

    Derivatives of a higher order are compared only if those below are right. One below that is tolerated leaves them undecided.
    """
    failing = [row for row in result.comparisons if row.verdict is Verdict.FAIL]
    breaks_more = any(contract.verdict is Verdict.FAIL and not contract.tolerated for contract in result.contracts)
    if result.verdict is not Verdict.FAIL or not failing or breaks_more or any(row not in tolerated for row in failing):
        return result.outcome
    if order > max(row.order for row in result.comparisons):
        return Verdict.INCONCLUSIVE
    return worst_verdict([row.verdict for row in result.comparisons if row not in tolerated])


def passes(answer: Answer, policy: Policy | None = None, *, stacklevel: int = 2) -> bool:
    """Whether an answer counts as passed; warn if it is INCONCLUSIVE and the policy says so.

    Args:
        policy: how to answer; None: the current policy.
        stacklevel: of the warning, as for `warnings.warn`, counted from the caller of this function.
    """
    policy = policy or current_policy()
    if answer.verdict is not Verdict.INCONCLUSIVE:
        return answer.verdict is Verdict.PASS
    if policy.inconclusive == "warn":
        warnings.warn(InconclusiveWarning(answer.describe()), stacklevel=stacklevel + 1)
    return policy.inconclusive != "fail"


def has_lost_its_value(answer: Answer) -> bool:
    """Whether a function returned NaN or infinity, so that there is nothing to differentiate."""
    return any(result.reason is Reason.NON_FINITE for result in answer.results)


def say_once(notes: tuple[str, ...]) -> None:
    """Log each note the first time that it comes up in this process: a warning would fail suites that turn them into errors."""
    for note in notes:
        if note not in _SAID:
            _SAID.add(note)
            LOGGER.warning("gradcheck.compat: %s", note)
