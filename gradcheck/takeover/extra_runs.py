"""Further runs of the suite's own checker: what else would it pass?"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from gradcheck.backends import global_state
from gradcheck.compat.answer import Answer
from gradcheck.compat.checker import Arguments, Checker
from gradcheck.glossary.verdicts import Reason
from gradcheck.interrupts import is_interrupt
from gradcheck.results import Comparison
from gradcheck.takeover.records import TakeoverCall

STEP = 100.0  # factor between two tolerances that are tried
MAX_LOOSENESS = 1e12  # factor up to which tolerances are divided
MAX_TOLERANCES = 6  # tolerances that are tried for the first call at a place: 1e-2, 1e-4, ... 1e-12 times its own
LOOSER = 100.0  # factor for a call that fails: if it passes then, its estimate is nearly good enough
KINKS = (Reason.KINK_SUBGRADIENT, Reason.TIE)
LOW_PRECISION = ("float32", "float16", "bfloat16", "complex64")
RAISES = "raise_exception"  # the parameter that has a checker raise, with a message, instead of returning False
# Words in the message of a checker that fails for something else than a wrong value, and what that is.
OTHER_DEMANDS = {
    "reentrant": "nondeterminism",
    "nondeterministic": "nondeterminism",
    "batched": "batched gradients",
    "undefined": "undefined gradients",
}


@dataclass(frozen=True)
class Incumbent:
    """A checker as it was before the takeover, with the arguments of a call."""

    checker: Checker
    original: Callable[..., Any]
    arguments: Arguments

    def passes(self, change: Callable[[Arguments], Arguments], returned: Any = None) -> bool | None:
        """Say whether the checker passes when the arguments are changed; None if only its caller can know.

        Args:
            change: changes the arguments.
            returned: what the checker returned for the call as it is. An error that is not larger passes whatever that passed.
        """
        try:
            args, kwargs = change(self.arguments)
        except Exception:  # not every call can be changed
            return None
        try:
            with self.checker.without_message():
                value = self.original(*args, **kwargs)
            passed = self.checker.has_passed(value)
            return True if passed is None and returned is not None and value <= returned else passed
        except BaseException as error:  # pytest.fail() and its like count too
            if is_interrupt(error):
                raise
            return False

    def chooses_tolerances(self, tolerances: Mapping[str, float]) -> bool:
        """Say whether the call has tolerances other than the defaults of the checker."""
        parameters = inspect.signature(self.original).parameters
        defaults = {name: parameters[name].default for name in tolerances if name in parameters}
        return any(value and value != defaults.get(name) for name, value in tolerances.items())

    def find_message(self) -> str:
        """Return what the checker raises with `raise_exception=True`; '' if it lacks that parameter, or returns."""
        signature = inspect.signature(self.original)
        if RAISES not in signature.parameters:
            return ""
        try:
            bound = signature.bind(*self.arguments[0], **self.arguments[1])
            bound.arguments[RAISES] = True
            self.original(*bound.args, **bound.kwargs)
        except Exception as error:
            return str(error)
        return ""

    def draws(self) -> bool:
        """Say whether the function that is checked draws random numbers."""
        with suppress(Exception):  # not everything that can be checked can be called with these inputs
            for check in self.checker.translate(self.arguments).checks:
                before = global_state.snapshot(check.fn)
                check.fn(*check.inputs)
                if global_state.changes_since(before):
                    return True
        return False

    def passes_scaled(self, factor: float) -> bool:
        """Say whether the checker passes with its tolerances multiplied by a factor."""
        scale = self.checker.scale_tolerances
        return scale is not None and self.passes(lambda arguments: scale(arguments, factor)) is True

    def passes_zero_gradient(self, answer: Answer, returned: Any) -> bool | None:
        """Say whether the checker passes a derivative of zero; None if it cannot be tried, or is that of the call.

        Args:
            returned: what the checker returned for the call as it is.
        """
        make_zero = self.checker.with_zero_gradient
        rows = [row for result in answer.results for row in result.comparisons]
        if make_zero is None or all(_is_zero(row) for row in rows):
            return None
        return self.passes(make_zero, returned)


def _is_zero(row: Comparison) -> bool:
    """Say whether a derivative is claimed to be zero, and is zero as far as is known."""
    return row.reason is Reason.BOTH_ZERO or not (row.claimed or row.largest)


class LoosenessMeter:
    """Measures by how much the tolerances of each place in the suite are looser than needed.

    The first call at a place finds the factor; each later call only confirms it, or lowers it. A place that needs its
    tolerances is not tried again.
    """

    def __init__(self) -> None:
        self._factors: dict[tuple[Any, ...], float] = {}

    def measure(self, incumbent: Incumbent, call: TakeoverCall) -> float:
        """Return the factor by which the tolerances of a call that passes can be divided; NaN if they are the defaults."""
        place = (call.checker, call.file, call.line, call.test_function, *call.tolerances.items())
        if incumbent.checker.scale_tolerances is None or not incumbent.chooses_tolerances(call.tolerances):
            return math.nan
        if place not in self._factors:
            factor = _find_looseness(incumbent)
        else:
            factor = self._factors[place]
            while factor > 1 and not incumbent.passes_scaled(1 / factor):
                factor /= STEP
        self._factors[place] = max(factor, 1.0)
        return self._factors[place]


def _find_looseness(incumbent: Incumbent) -> float:
    factor = 1.0
    while factor < MAX_LOOSENESS and incumbent.passes_scaled(1 / (STEP * factor)):
        factor *= STEP
    return factor


def find_cause(incumbent: Incumbent, message: str, answer: Answer) -> str:
    """Say why the checker fails where gradcheck passes.

    Args:
        message: what it raised; '' if it returned.
    """
    rows = [row for result in answer.results for row in result.comparisons]
    message = message or incumbent.find_message()
    demanded = next((what for words, what in OTHER_DEMANDS.items() if words in message.lower()), "")
    if demanded:
        return demanded
    if incumbent.draws():
        return "nondeterminism"
    if any(row.reason in KINKS for row in rows):
        return "kink"
    low = next((row.dtype for row in rows if row.dtype in LOW_PRECISION), "")
    if low:
        return low
    if incumbent.passes_scaled(LOOSER):
        return "tolerance"
    return "step size" if message else "unknown cause"
