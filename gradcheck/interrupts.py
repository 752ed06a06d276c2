"""Ctrl-C and time limits, kept apart from an exception of the user's code that would end Python as well."""

from __future__ import annotations

import signal
import threading
import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator


class Interrupted(KeyboardInterrupt):
    """The user pressed Ctrl-C."""


@contextmanager
def marking_interrupts() -> Iterator[None]:
    """Have Ctrl-C raise `Interrupted` inside the context.

    The context changes nothing in a thread, or if the caller has installed a handler of its own.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    try:
        signal.signal(signal.SIGINT, _raise_interrupted)
        yield
    except Interrupted as error:  # outside, Python itself looks for this very class
        raise KeyboardInterrupt().with_traceback(error.__traceback__) from None
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def is_interrupt(error: BaseException) -> bool:
    """Whether an exception comes from Ctrl-C, or from the handler of an alarm, as `pytest.fail` does at a time limit.

    If nothing shows where a KeyboardInterrupt comes from, it counts.
    """
    if not isinstance(error, Exception) and _is_of_alarm(error):
        return True
    if isinstance(error, Interrupted) or not isinstance(error, KeyboardInterrupt):
        return isinstance(error, Interrupted)
    is_main = threading.current_thread() is threading.main_thread()  # the only thread that receives signals
    return is_main and signal.getsignal(signal.SIGINT) not in (_raise_interrupted, signal.SIG_IGN)


def _is_of_alarm(error: BaseException) -> bool:
    alarm = getattr(signal, "SIGALRM", None)  # which Windows lacks
    code = getattr(signal.getsignal(alarm), "__code__", None) if alarm else None
    return code is not None and any(frame.f_code is code for frame, _ in traceback.walk_tb(error.__traceback__))


def _raise_interrupted(*_: object) -> NoReturn:
    raise Interrupted
