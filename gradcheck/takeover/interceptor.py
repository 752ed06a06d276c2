"""The work at an intercepted call: the suite's own checker runs first, then gradcheck on the same arguments."""

from __future__ import annotations

import functools
import math
import numbers
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, NamedTuple

from gradcheck.compat.answer import Answer, ask
from gradcheck.compat.checker import Checker
from gradcheck.compat.policies import Policy
from gradcheck.errors import GradcheckError
from gradcheck.glossary.verdicts import Reason, Verdict
from gradcheck.interrupts import is_interrupt
from gradcheck.run.case import MAX_OVER_BUDGET
from gradcheck.takeover.call_place import find_place, read_current_test
from gradcheck.takeover.extra_runs import MAX_TOLERANCES, Incumbent, LoosenessMeter, find_cause
from gradcheck.takeover.prediction import is_sampled
from gradcheck.takeover.records import NOT_SAMPLED, TOLERATED, Outcome, TakeoverCall
from gradcheck.takeover.storage import Store
from gradcheck.takeover.undisturbed import undisturbed
from gradcheck.tracebacks import summarise_error

_IS_INSIDE: ContextVar[bool] = ContextVar("is_inside", default=False)
BUSY = "another thread was being compared"


class Theirs(NamedTuple):
    """The end of the suite's own checker: a value or an exception, after some seconds."""

    value: Any
    error: BaseException | None
    seconds: float


class Interceptor:
    """Receives the calls of all checkers of this process, compares, and records."""

    def __init__(self, mode: str, budget: float, store: Store) -> None:
        self._mode, self._budget, self._store = mode, budget, store
        self._meter = LoosenessMeter()
        self._pid, self._lock, self._number = os.getpid(), threading.Lock(), 0

    def receive(self, checker: Checker, original: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Run a call that was intercepted; calls that it leads to run as they would without us."""
        __tracebackhide__ = True
        if _IS_INSIDE.get():
            return original(*args, **kwargs)
        token = _IS_INSIDE.set(True)
        try:
            theirs = _run_theirs(original, args, kwargs)
            conclude = self._examine(Incumbent(checker, original, (args, kwargs)), theirs)
        finally:
            _IS_INSIDE.reset(token)
        try:
            if conclude is not None:
                return conclude()
            if theirs.error is not None:
                raise theirs.error
            return theirs.value
        finally:
            del theirs  # the traceback of its error refers to this frame, which would keep the arguments alive

    def _examine(self, incumbent: Incumbent, theirs: Theirs) -> Callable[[], Any] | None:
        """Compare and record a call; return what concludes it instead of the checker, if `enforce` decides otherwise."""
        call, answer = TakeoverCall(incumbent.checker.name, theirs_seconds=theirs.seconds), None
        try:
            call = _describe_call(incumbent, call, theirs)
            if not call.not_compared:
                call, answer = self._compare(incumbent, call, theirs)
        except BaseException as error:  # whatever happens on our side, the suite goes on
            call = replace(call, not_compared=_describe_error(error))
            if is_interrupt(error):
                raise
        finally:
            with suppress(OSError):  # a full disk must not fail the suite
                self._store.write(call)
        if self._mode != "enforce" or answer is None or call.not_compared or answer.verdict is Verdict.INCONCLUSIVE:
            return None
        return functools.partial(incumbent.checker.conclude, answer, incumbent.arguments)

    def _compare(self, incumbent: Incumbent, call: TakeoverCall, theirs: Theirs) -> tuple[TakeoverCall, Answer | None]:
        """Run gradcheck, and then the checker in other ways."""
        self._number += 1
        if self._mode == "predict" and not is_sampled(self._number):
            return replace(call, not_compared=NOT_SAMPLED), None
        with self._alone() as is_alone:
            if not is_alone:
                return replace(call, not_compared=BUSY), None
            with undisturbed(incumbent.arguments):
                call, answer = self._ask(incumbent, call)
                if answer is not None and call.theirs is Outcome.UNKNOWN:
                    call = replace(call, error_share=_measure_error(theirs.value, answer))
                if answer is None or call.not_compared or theirs.seconds > self._budget:
                    return call, answer
                began = time.perf_counter()
                call = self._run_more(incumbent, call, theirs, answer)
                return replace(call, extra_seconds=time.perf_counter() - began), answer

    def _ask(self, incumbent: Incumbent, call: TakeoverCall) -> tuple[TakeoverCall, Answer | None]:
        """Run gradcheck."""
        answer, failure, began = None, "", time.perf_counter()
        try:
            translation = incumbent.checker.translate(incumbent.arguments)
            # The budget is that of the call, and a check is stopped at a multiple of its own.
            seconds = self._budget / MAX_OVER_BUDGET / max(len(translation.checks), 1)
            answer = ask(translation, Policy(contracts=False, budget=seconds))
        except BaseException as error:
            if is_interrupt(error):
                raise
            both = isinstance(error, TypeError) and call.theirs_message.startswith("TypeError: ")  # which has been recorded
            failure = "the arguments do not fit" if both else _describe_error(error)
        call = replace(call, ours_seconds=time.perf_counter() - began, not_compared=failure)
        return call if answer is None else _add_answer(call, answer), answer

    def _run_more(self, incumbent: Incumbent, call: TakeoverCall, theirs: Theirs, answer: Answer) -> TakeoverCall:
        """Run the checker in other ways: with a derivative of zero, and with other tolerances."""
        if call.theirs is not Outcome.FAILED:
            call = replace(call, passes_zero_gradient=incumbent.passes_zero_gradient(answer, theirs.value))
            is_fast = theirs.seconds * MAX_TOLERANCES <= self._budget
            return replace(call, looseness=self._meter.measure(incumbent, call)) if is_fast else call
        if answer.verdict is Verdict.PASS:
            return replace(call, cause=find_cause(incumbent, str(theirs.error or ""), answer))
        return call

    @contextmanager
    def _alone(self) -> Iterator[bool]:
        """Keep other threads from comparing at the same time; yield False if one of them takes longer than the budget."""
        if self._pid != os.getpid():  # a lock that another thread held at the time of a fork is never released here
            self._pid, self._lock = os.getpid(), threading.Lock()
        is_alone = self._lock.acquire(timeout=self._budget)
        try:
            yield is_alone
        finally:
            if is_alone:
                self._lock.release()


def _run_theirs(original: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Theirs:
    __tracebackhide__ = True
    began = time.perf_counter()
    try:
        return Theirs(original(*args, **kwargs), None, time.perf_counter() - began)
    except BaseException as error:
        return Theirs(None, error, time.perf_counter() - began)


def _describe_call(incumbent: Incumbent, call: TakeoverCall, theirs: Theirs) -> TakeoverCall:
    """Add where a call was made and what the checker said to its record."""
    checker, test = incumbent.checker, read_current_test()
    place = find_place(checker.module, test)
    call = replace(call, test=test, file=place.file, line=place.line, source=place.source)
    with suppress(Exception):  # the arguments may not fit; the checker has said so
        tolerances = checker.read_tolerances(incumbent.arguments).items()
        call = replace(call, tolerances={name: float(value) for name, value in tolerances})
    if theirs.error is not None:
        message = summarise_error(theirs.error)
        ended = "" if isinstance(theirs.error, Exception) else f"the call was ended by {message}"
        return replace(call, theirs=Outcome.FAILED, theirs_message=message, not_compared=ended)
    passed = checker.has_passed(theirs.value)
    return call if passed is None else replace(call, theirs=Outcome.PASSED if passed else Outcome.FAILED)


def _add_answer(call: TakeoverCall, answer: Answer) -> TakeoverCall:
    """Add the answer of gradcheck to the record of a call."""
    if not answer.results:
        return replace(call, not_compared="there is nothing to check: no input requires a gradient")
    # A failure that the caller's tolerances allow is no longer in the verdict of the answer.
    worst = next((result for result in answer.results if result.outcome is answer.verdict), answer.results[0])
    call = replace(call, verdict=answer.verdict, reason=worst.reason.code, summary=worst.summary, function=worst.target)
    if answer.verdict is Verdict.PASS and not worst.ok:
        return replace(call, reason=TOLERATED, summary=worst.summary)
    if worst.reason is Reason.OVER_BUDGET:
        return replace(call, not_compared="over the budget")
    if answer.verdict is Verdict.ERROR:
        return replace(call, not_compared=f"{worst.reason.code}: {worst.message or worst.reason.message}")
    return call


def _measure_error(value: Any, answer: Answer) -> float | None:
    """Return an error that the checker returned as a part of the largest derivative; None if that cannot be said."""
    rows = [row for result in answer.results for row in result.comparisons]
    sizes = [abs(size) for row in rows for size in (row.claimed, row.largest or 0.0)]
    largest = max(filter(math.isfinite, sizes), default=0.0)
    return float(value) / largest if largest and isinstance(value, numbers.Real) else None


def _describe_error(error: BaseException) -> str:
    """Say why a call was not compared: by an exception on our side."""
    message = summarise_error(error)
    return (
        f"gradcheck does not take this call: {message}"
        if isinstance(error, GradcheckError | TypeError | ValueError)
        else message
    )
