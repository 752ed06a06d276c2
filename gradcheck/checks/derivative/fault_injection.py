"""Is the evidence blind? The claim that passed is spoilt on purpose and held against the same estimates: it must not pass.

It costs no evaluation. What a fault must be to count is taken from what the PASS states of itself: `MARGIN` times the stated
resolution, or the relative error that matters where that is larger.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.compare.judge import look
from gradcheck.results import Comparison, Reason, SelfTest, Verdict
from gradcheck.verdict.planted_faults import planted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from gradcheck.compare.estimates import Sheet
    from gradcheck.compare.judge import Along, Compared
    from gradcheck.evidence.line import F64

MARGIN = 10.0
OF_NOTHING = 1e-2  # of the slopes nearby and the outputs: what an entry that passed as zero may not be taken for
EXACT = 1e-6  # relative: a fault that should be just large enough is


def scored(
    line: Comparison,
    gradient: F64,
    slips: Callable[[F64], bool],
    error: Callable[[F64], F64],
    rng: np.random.Generator,
    *,
    shape: tuple[int, ...],
    something: float = 1.0,
) -> Comparison:
    """The same PASS with the score of its self-test; INCONCLUSIVE, with the faults' names, where one slips through.

    Args:
        gradient: the claim, (C, n).
        slips: whether a gradient passes, held against the same evidence.
        error: how large the fault in a spoilt gradient is, in terms of the resolution that the PASS states.
        shape: of the gradient, with a last axis of one number an entry, or two where it is complex.
        something: an entry that is not zero, for a gradient that is.
    """
    size = size_for(line)

    def held() -> Iterator[tuple[str, bool]]:
        for name, spoilt in planted(gradient.reshape(len(gradient), *shape), size, something, rng):
            spoilt = spoilt.reshape(gradient.shape)
            if np.any(error(spoilt) >= size * (1 - EXACT)):
                yield name, slips(spoilt)

    return marked(line, held()) if size < 1 else line


def size_for(line: Comparison) -> float:
    """How large a fault in a claim that passed must be to count, relative; infinite where none does."""
    if line.verdict is not Verdict.PASS or line.reason in (Reason.STRAIGHT_THROUGH, Reason.TIE):
        return float("inf")  # what is declared not to be a derivative may be anything, and a tie was judged by other estimates
    return OF_NOTHING if np.isnan(line.resolution) else MARGIN * max(line.resolution, line.rtol)


def marked(line: Comparison, found: Iterable[tuple[str, bool]]) -> Comparison:
    """The same PASS with its score, from the faults that were tried and whether each slipped through."""
    tried = dict(found)
    slipped = tuple(name for name, passed in tried.items() if passed)
    scored = replace(line, self_test=SelfTest(tuple(tried), slipped))
    return replace(scored, verdict=Verdict.INCONCLUSIVE, reason=Reason.BLIND) if slipped else scored


def slips_through(sheet: Sheet, along: Callable[[F64], Along], rtol: float) -> Callable[[F64], bool]:
    """Whether a gradient passes against a sheet's estimates; `along` gives it along the sheet's lines."""

    def slips(spoilt: F64) -> bool:
        judged = look(sheet, along(spoilt), rtol, demanded=False)
        return not np.any((judged.code > 0) | judged.doubtful)

    return slips


def error_at_entries(sheet: Sheet, passed: Compared, units: F64, gradient: F64) -> Callable[[F64], F64]:
    """Errors relative to what each entry was judged by, (C, n); where the claim lies at a kink it proves nothing: 0."""
    s = passed.sides
    kink = passed.seen == Reason.KINK_SUBGRADIENT
    zero = s.size <= s.allowed
    nothing = OF_NOTHING * np.max(np.maximum(s.nearby, sheet.outputs), initial=0.0)

    def error(spoilt: F64) -> F64:
        apart = np.abs((spoilt - gradient) * units)
        own = np.abs(np.where(gradient == 0, spoilt, gradient) * units)
        scale = np.where(passed.unresolved | zero, s.whole, own)
        with np.errstate(all="ignore"):
            found = np.where(zero & (apart <= nothing), 0.0, apart / scale)
        return np.where(kink | (apart == 0), 0.0, found)

    return error


def error_along_probes(scales: F64, gradient: F64, nothing: float) -> Callable[[F64], F64]:
    """The single entry of typical size whose error would move a probe as much, (C,).

    Args:
        nothing: what a gradient that passed as zero is small beside; 0 for one that did not.
    """
    typical = np.maximum(np.sqrt(np.mean((gradient * scales) ** 2, axis=1)), nothing)

    def error(spoilt: F64) -> F64:
        size = np.sqrt(np.sum(((spoilt - gradient) * scales) ** 2, axis=1))
        return np.asarray(np.where(typical > 0, size / np.where(typical > 0, typical, 1.0), 0.0))

    return error
