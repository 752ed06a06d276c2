"""From gradcheck's results to what PyTorch's checkers return or raise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gradcheck.compat.answer import Answer, CheckCall, ask, has_lost_its_value, passes
from gradcheck.compat.torch.call import Call
from gradcheck.compat.torch.translation import as_first_order_keywords, translate_gradient
from gradcheck.glossary.verdicts import Reason, Verdict

if TYPE_CHECKING:
    from gradcheck.results import CheckResult


def conclude(answer: Answer, call: Call, make_check: Callable[[], CheckCall], *, stacklevel: int = 2) -> bool:
    """Return or raise what PyTorch's checker would for an answer.

    Args:
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
    if call.of_gradient and _has_wrong_gradient(answer):
        return _conclude_on_gradient(answer, call, make_check, stacklevel=stacklevel + 1)
    failure = find_failure(answer, call, make_check, stacklevel=stacklevel + 1)
    return _raise_or_return(failure, answer, call)


def _raise_or_return(failure: str, answer: Answer, call: Call) -> bool:
    __tracebackhide__ = True
    if failure and call["raise_exception"]:
        from torch.autograd.gradcheck import GradcheckError

        raise GradcheckError(f"{failure}\n{answer.describe()}".rstrip())
    return not failure


def _has_wrong_gradient(answer: Answer) -> bool:
    """Whether first derivatives are wrong, tolerated or not, so that second ones were not checked."""
    rows = (row for result in answer.results for row in result.comparisons)
    return any(row.verdict is Verdict.FAIL and row.order == 1 for row in rows)


def _conclude_on_gradient(answer: Answer, call: Call, make_check: Callable[[], CheckCall], *, stacklevel: int) -> bool:
    """Conclude by the derivative of the gradient as it is, right or wrong: PyTorch's `gradgradcheck` asks for no more."""
    __tracebackhide__ = True
    from gradcheck.compat.torch.target import as_pytorch_checks

    translation = translate_gradient(call, as_pytorch_checks(make_check(), call))
    (check,) = translation.checks
    first_order = replace(call, of_gradient=False, keywords=as_first_order_keywords(call))
    return conclude(ask(translation, answer.policy), first_order, lambda: check, stacklevel=stacklevel + 1)


def find_failure(answer: Answer, call: Call, make_check: Callable[[], CheckCall], *, stacklevel: int) -> str:
    """Return what PyTorch's checker would say first; '' if everything is right.

    Raises:
        Exception: if the function or its derivative raises, that exception.
    """
    from gradcheck.compat.torch import backward_form, failure_texts, replay
    from gradcheck.compat.torch.target import as_pytorch_checks

    def make_pytorch_check() -> CheckCall:
        return as_pytorch_checks(make_check(), call)

    (result,) = answer.results
    if answer.verdict is Verdict.ERROR:
        return _replay_error(make_pytorch_check(), call, result)
    if answer.verdict is Verdict.FAIL:
        if call.of_gradient and not replay.has_differentiable_output(make_pytorch_check()):
            return failure_texts.NOT_ZERO
        return failure_texts.describe_failure(answer, make_check(), of_gradient=call.of_gradient)
    if result.reason is Reason.ONCE_DIFFERENTIABLE:
        return _replay_error(make_pytorch_check(), call, result) and failure_texts.MISMATCH.format("", "", 0, 0)
    if call.checks_forward and _lacks_forward_mode(result, call) and replay.forward_mode_is_lost(make_pytorch_check()):
        return failure_texts.MISMATCH.format("", failure_texts.FORWARD, 0, 0)
    if call["nondet_tol"] and call.checks_reverse and not backward_form.is_reentrant(make_pytorch_check(), call):
        return failure_texts.NOT_REENTRANT
    unmet = backward_form.find_fault_of_form(make_pytorch_check(), call, result) if answer.policy.contracts else ""
    if unmet:
        return unmet
    if has_lost_its_value(answer):  # which PyTorch finds to differ from any derivative
        return failure_texts.MISMATCH.format("", "", 0, 0)
    return "" if passes(answer, stacklevel=stacklevel + 1) else failure_texts.UNDECIDED


def _lacks_forward_mode(result: CheckResult, call: Call) -> bool:
    """Whether no derivative in forward mode was compared, although there may be one to compare."""
    rows = [row for row in result.comparisons if row.order == (2 if call.of_gradient else 1)]
    is_zero = result.reason is Reason.EMPTY or any(row.reason is Reason.BOTH_ZERO for row in rows)
    return not is_zero and all(row.method != "forward" for row in rows)


def _replay_error(check: CheckCall, call: Call, result: CheckResult) -> str:
    """Have the exception of the user's code raised again, from where it was raised.

    Returns:
        '' if PyTorch would pass the call, as it does without a floating-point output; a text if nothing is raised this time.
    """
    from gradcheck.compat.torch import replay

    returned: Any = replay.run_as_pytorch(check, call)
    if result.reason is not Reason.DERIVATIVE_RAISED and not replay.has_floating_output(returned):
        return ""
    return result.summary
