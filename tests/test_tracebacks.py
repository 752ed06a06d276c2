"""Exceptions whose message or notes cannot be read are still reported as exceptions of the user's code."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch

import gradcheck
from gradcheck import Reason, Verdict, tracebacks

MAKERS = {"numpy": np.ones, "torch": torch.ones, "jax": jnp.ones}


class StrRaisesError(Exception):
    def __str__(self):
        raise RuntimeError("no message")


class NumberForStrError(Exception):
    def __str__(self):
        return 3


class NumberForNotesError(Exception):
    __notes__ = 3


class NumberAsNoteError(Exception):
    __notes__ = [3]  # noqa: RUF012 - the fault under test


UNREADABLE = [StrRaisesError, NumberForStrError, NumberForNotesError, NumberAsNoteError]


def make_raising(error):
    def raises(*_):
        raise error

    return raises


@pytest.mark.parametrize("framework", MAKERS)
@pytest.mark.parametrize("error", UNREADABLE)
def test_an_unreadable_exception_is_named_with_the_line_that_raised_it(error, framework):
    function, gradient = (lambda x: (x**2).sum()), (lambda x: 2 * x)
    of_target = gradcheck.check(make_raising(error), MAKERS[framework](3), gradient=gradient)
    of_derivative = gradcheck.check(function, MAKERS[framework](3), gradient=make_raising(error))
    assert (of_target.reason, of_derivative.reason) == (Reason.TARGET_RAISED, Reason.DERIVATIVE_RAISED)
    for result in (of_target, of_derivative):
        assert result.verdict is Verdict.ERROR
        assert error.__name__ in result.message
        assert "raise error" in result.traceback


def test_an_exception_without_a_readable_message_is_summarised():
    assert tracebacks.summarise_error(StrRaisesError()) == "StrRaisesError: <exception str() failed>"
    assert not tracebacks.is_out_of_memory(StrRaisesError())
    assert tracebacks.advise_on_error(NumberForStrError()) == ""
