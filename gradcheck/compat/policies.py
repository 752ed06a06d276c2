"""What the drop-ins do where gradcheck and the checker that they replace differ."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any

from gradcheck.errors import UsageError

CHOICES = {"inconclusive": ("warn", "fail", "pass"), "tolerances": ("caller", "gradcheck")}


@dataclass(frozen=True)
class Policy:
    """How a drop-in turns the verdict of gradcheck into the answer of the checker that it replaces.

    Attributes:
        inconclusive: what INCONCLUSIVE means: 'warn' (the check passes with a warning), 'fail' or 'pass'.
        tolerances: 'caller': errors within the atol and rtol of the call pass, by the rule of
            `gradcheck.compat.answer.is_tolerated`; 'gradcheck': the call's tolerances are ignored.
        budget: seconds that one call may take; a check that needs more is INCONCLUSIVE. None: no limit.
        contracts: whether the contracts that the arguments of a call name are checked.
    """

    inconclusive: str = "warn"
    tolerances: str = "caller"
    budget: float | None = None
    contracts: bool = True

    def __post_init__(self) -> None:
        """Validate the policy.

        Raises:
            UsageError: if a value is not one of the choices, the budget not a positive number or `contracts` not a boolean.
        """
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise UsageError(f"{name}={getattr(self, name)!r}: expected one of {', '.join(map(repr, choices))}")
        if self.contracts not in (True, False):
            raise UsageError(f"contracts={self.contracts!r}: expected True or False")
        is_number = isinstance(self.budget, int | float) and not isinstance(self.budget, bool)
        if self.budget is not None and not (is_number and self.budget > 0):
            raise UsageError(f"budget={self.budget!r}: expected seconds, such as 5.0")


_current = [Policy()]  # the last one holds, in all threads


def current_policy() -> Policy:
    """Return the policy that drop-ins follow here."""
    return _current[-1]


def set_policy(**changes: Any) -> None:
    """Change the policy of every drop-in from here on, as in `set_policy(inconclusive="fail")`.

    Args:
        **changes: fields of `Policy`.

    Raises:
        UsageError: if a name is unknown or a value is wrong.
    """
    _current[-1] = _changed(changes)


@contextmanager
def policy(**changes: Any) -> Iterator[Policy]:
    """Change the policy of every drop-in inside a `with` block.

    Args:
        **changes: fields of `Policy`.

    Raises:
        UsageError: if a name is unknown or a value is wrong.
    """
    _current.append(_changed(changes))
    try:
        yield _current[-1]
    finally:
        _current.pop()


def _changed(changes: dict[str, Any]) -> Policy:
    known = [f.name for f in fields(Policy)]
    for name in changes:
        if name not in known:
            raise UsageError(f"unknown policy {name}={changes[name]!r} (there are: {', '.join(known)})")
    return replace(_current[-1], **changes)
