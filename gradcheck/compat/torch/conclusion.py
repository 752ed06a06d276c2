"""From gradcheck's results to what PyTorch's checkers return or raise."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gradcheck.compat.answer import passes
from gradcheck.glossary.verdicts import Reason, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradcheck.compat.answer import Answer, CheckCall
    from gradcheck.compat.torch.call import Call
    from gradcheck.results import CheckResult


def conclude(answer: Answer, call: Call, make_check: Callable[[], CheckCall], *, stacklevel: int = 2) -> bool:
    """Return or raise what PyTorch's checker would for an answer.

    Args:
        answer: the answer.
        call: the call that it is for.
        make_check: () -> what gradcheck checked.
        stacklevel: of the warning if the answer is INCONCLUSIVE, counted from the caller of this function.

    Raises:
        GradcheckError: if a derivative is wrong or missing, unless `raise_exception` is False.
        Exception: if the function or its derivative raises, that exception.
    """
    __tracebackhide__ = True
    if not answer.results:  # a checker inside a function that is being checked
        return True
    answer = replace(answer, results=tuple(replace(result, replay="") for result in answer.results))  # the call repeats itself
    failure = find_failure(answer, call, make_check, stacklevel=stacklevel + 1)
    if failure and call["raise_exception"]:
        from torch.autograd.gradcheck import GradcheckError

        raise GradcheckError(f"{failure}\n{answer.describe()}".rstrip())
    return not failure


def find_failure(answer: Answer, call: Call, make_check: Callable[[], CheckCall], *, stacklevel: int) -> str:
    """Return what PyTorch's checker would say first; '' if everything is right.

    Raises:
        Exception: if the function or its derivative raises, that exception.
    """
    from gradcheck.compat.torch import backward_form, failure_texts, replay

    (result,) = answer.results
    if answer.verdict is Verdict.ERROR:
        return _replay_error(make_check(), call, result)
    if answer.verdict is Verdict.FAIL:
        return failure_texts.describe_failure(answer, make_check())
    if call.checks_forward and _lacks_forward_mode(result) and replay.forward_mode_is_lost(make_check()):
        return failure_texts.MISMATCH.format("", failure_texts.FORWARD, 0, 0)
    # Where the policy switches contracts off, none was tried.
    unmet = backward_form.find_fault_of_form(make_check(), call, result) if result.contracts else ""
    return unmet or ("" if passes(answer, stacklevel=stacklevel + 1) else failure_texts.UNDECIDED)


def _lacks_forward_mode(result: CheckResult) -> bool:
    """Whether no derivative in forward mode was compared, although there may be one to compare."""
    rows = result.comparisons
    is_zero = result.reason is Reason.EMPTY or any(row.reason is Reason.BOTH_ZERO for row in rows)
    return not is_zero and all(row.method != "forward" for row in rows)


def _replay_error(check: CheckCall, call: Call, result: CheckResult) -> str:
    """Have the exception of the user's code raised again, from where it was raised.

    Returns:
        '' if PyTorch would pass the call, as it does without a floating-point output; a text if nothing is raised this time.
    """
    from gradcheck.compat.torch import replay

    returned: Any = replay.run_as_pytorch(check, call)
    if result.reason is Reason.TARGET_RAISED and not replay.has_floating_output(returned):
        return ""
    return result.summary
