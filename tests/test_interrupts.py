import signal
import sys

import numpy as np
import pytest
import torch

import gradcheck
from gradcheck import Reason, Verdict, normal
from gradcheck.interrupts import Interrupted, is_interrupt, marking_interrupts
from gradcheck.options import Options
from gradcheck.run.api import build_case
from gradcheck.run.runner import run


def leave(x):
    sys.exit(7)


def skip(x):
    pytest.skip("no GPU")


def interrupt(x):
    raise KeyboardInterrupt


def press_ctrl_c(x):
    signal.raise_signal(signal.SIGINT)


def square(x):
    return np.sum(x**2)


def run_all(*functions):
    cases = [build_case(f, np.ones(3), gradient=lambda x: 2 * x) for f in functions]
    return run(cases, Options(), replay=lambda _: "")


class ExitsInBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, g):
        sys.exit(7)


ENDINGS = [(leave, "SystemExit: 7"), (skip, "Skipped: no GPU"), (interrupt, "KeyboardInterrupt")]


@pytest.mark.parametrize(("function", "text"), ENDINGS)
def test_an_exception_that_would_end_python_is_the_targets_error(function, text):
    result = gradcheck.check(function, np.ones(3))
    assert (result.verdict, result.reason) == (Verdict.ERROR, Reason.TARGET_RAISED)
    assert result.message.startswith(f"the function raised {text}, given x (3,)")
    assert f"in {function.__name__}" in result.traceback


@pytest.mark.parametrize(("gradient", "text"), ENDINGS)
def test_it_may_come_from_the_gradient(gradient, text):
    result = gradcheck.check(square, normal(3), gradient=gradient)
    assert (result.verdict, result.reason) == (Verdict.ERROR, Reason.DERIVATIVE_RAISED)
    assert f"gradient= raised {text}" in result.message


def test_it_may_come_from_a_backward():
    result = gradcheck.check(ExitsInBackward, normal(3))
    assert result.verdict is Verdict.ERROR
    assert "raised SystemExit: 7" in result.message


def test_it_may_come_after_the_first_evaluation():
    calls = []

    def later(x):
        calls.append(1)
        if len(calls) > 3:
            sys.exit("later")
        return square(x)

    result = gradcheck.check(later, normal(3), gradient=lambda x: 2 * x)
    assert (result.verdict, result.message) == (Verdict.ERROR, "the code raised SystemExit: later")


def test_the_other_cases_of_a_run_are_checked():
    result = run_all(leave, skip, interrupt, square)
    assert [r.reason for r in result.results] == [Reason.TARGET_RAISED] * 3 + [Reason.AGREES]
    assert not result.interrupted


def test_ctrl_c_stops_the_run():
    result = run_all(square, press_ctrl_c, square)
    assert (len(result.results), result.interrupted) == (1, True)
    with pytest.raises(KeyboardInterrupt) as caught:
        gradcheck.check(press_ctrl_c, np.ones(3))
    assert caught.type is KeyboardInterrupt
    assert "press_ctrl_c" in [entry.name for entry in caught.traceback]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_what_raises_keyboard_interrupt_in_a_handler_of_the_callers_is_ctrl_c():
    assert is_interrupt(KeyboardInterrupt())
    with marking_interrupts():
        assert not is_interrupt(KeyboardInterrupt())
        assert is_interrupt(Interrupted())
    handler = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        with marking_interrupts():
            assert is_interrupt(KeyboardInterrupt())
    finally:
        signal.signal(signal.SIGINT, handler)
