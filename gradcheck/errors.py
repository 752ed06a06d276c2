"""Exceptions of gradcheck.

GradcheckError
├── UsageError            the call cannot be understood; nothing was checked (exit code 2)
│   ├── TargetNotFoundError   no such module, file or name
│   ├── SpecError             an input spec does not parse or cannot be drawn
│   └── InputError            inputs missing, superfluous, or of a form the target cannot take
├── TargetError           the user's code raised, or broke a contract that makes checking impossible (exit code 3)
│   ├── DerivativeError       the function runs, but its derivative raises
│   ├── RankDiedError, RankTimeoutError   one of several ranks died, or did not return in time
│   ├── NoMemoryError         the device or the host has too little memory for the target
│   ├── ClaimError            a hand-written derivative has the wrong form
│   └── BadReferenceError     a reference does not take the target's inputs, or returns something else
└── GradientError         a derivative is wrong or could not be confirmed; also an AssertionError
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from gradcheck.untrusted_text import escape_control_characters

if TYPE_CHECKING:
    from gradcheck.results import CheckResult


class ExitCode(IntEnum):
    """Exit codes of the command line."""

    OK = 0
    """Every case passes."""
    FAIL = 1
    """A case is FAIL."""
    USAGE = 2
    """The command line, the configuration or the baseline cannot be understood."""
    ERROR = 3
    """A target raised, or gradcheck itself broke."""
    INCONCLUSIVE = 4
    """A case is INCONCLUSIVE, under `--strict`."""
    NOTHING_COLLECTED = 5
    """There is no case to run."""
    INTERRUPTED = 130
    """Ctrl-C ended the run, as in a shell: 128 plus the number of the signal."""


class GradcheckError(Exception):
    """Base of every exception gradcheck raises on purpose."""

    exit_code = ExitCode.ERROR

    def __str__(self) -> str:
        """Return the message; control characters in it, which the user's code may have put there, are visible."""
        return escape_control_characters(super().__str__())


class UsageError(GradcheckError):
    """The call cannot be understood: an option, a target or an input is not what it must be."""

    exit_code = ExitCode.USAGE


class TargetNotFoundError(UsageError):
    """The module, file or name of a target does not exist; the message lists near names."""


class SpecError(UsageError):
    """An input spec does not parse; the message points at the place with a caret."""


class InputError(UsageError):
    """Inputs are missing, superfluous, or not differentiable."""


class TargetError(GradcheckError):
    """The user's code raised, or returned what cannot be checked.

    `frames` is the traceback of the user's own frames, ready to print; '' if nothing was raised.
    """

    def __init__(self, message: str, frames: str = "") -> None:
        super().__init__(message)
        self.frames = escape_control_characters(frames)


class DerivativeError(TargetError):
    """A backward or a hand-written derivative raises where the function itself runs."""


class NoMemoryError(TargetError):
    """The target, or its derivative, needs more memory than the device or the host has."""


class RankDiedError(TargetError):
    """One of several ranks died without an answer."""


class RankTimeoutError(TargetError):
    """Some of several ranks did not return in time, most often since they wait for each other."""


class ClaimError(TargetError):
    """A hand-written derivative has the wrong number, shape or dtype, or is None."""


class BadReferenceError(TargetError):
    """A reference raises, does not take the target's inputs, or returns arrays of other shapes."""


class GradientError(GradcheckError, AssertionError):
    """A derivative failed its check; the message is the table, `result` all evidence."""

    exit_code = ExitCode.FAIL

    def __init__(self, message: str, result: CheckResult) -> None:
        super().__init__(message)
        self.result = result
