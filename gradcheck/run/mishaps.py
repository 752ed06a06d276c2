"""What kind of ERROR an exception stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck.errors import BadReferenceError, ClaimError, DerivativeError, NoMemoryError
from gradcheck.results import Reason

if TYPE_CHECKING:
    from gradcheck.errors import TargetError

REASONS = {
    ClaimError: Reason.BAD_CLAIM,
    BadReferenceError: Reason.BAD_REFERENCE,
    DerivativeError: Reason.DERIVATIVE_RAISED,
    NoMemoryError: Reason.OUT_OF_MEMORY,
}


def reason_of(error: TargetError) -> Reason:
    """The reason of a case that it ended."""
    return next((reason for kind, reason in REASONS.items() if isinstance(error, kind)), Reason.TARGET_RAISED)
