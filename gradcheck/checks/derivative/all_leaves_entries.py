"""What two directions that move all leaves show of single entries: whether they are known, and to within what error."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.checks.derivative.swamped_entries import MAX_SWAMPED_ULPS
from gradcheck.compare.judge import MANY_LINES, MAX_CHEAP_UNCERTAINTY
from gradcheck.evidence import directions
from gradcheck.verdict.interval import MAX_RESOLUTION, default_rtol

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradcheck.backends.flat import Leaf
    from gradcheck.backends.program import Program
    from gradcheck.checks.derivative.all_leaves_table import ComparedSum
    from gradcheck.evidence.line import F64


# Among many entries, a small one counts as known if its error is at most this share of itself, and also at most rtol of the
# leaf's largest. Groups of entries allow 1e-2 (`reports/detection.md`).
MAX_SMALL_ENTRY_ERROR = 1e-3


@dataclass(frozen=True)
class EntryChanges:
    """How much each entry changes each channel as it moves by its scale.

    Attributes:
        by_leaf: the changes, (C, n), of each leaf.
        scale_shares: the scale of each entry as a share of its leaf's largest, (n,), of each leaf.
        is_swamped: whether a leaf has an entry so small that the numbers of other entries may absorb all its steps, (L,).
        largest: the largest of each channel, (C,).
        lost: a change up to this is lost in the last bits of the channel, (C,).
    """

    by_leaf: list[F64]
    scale_shares: list[F64]
    is_swamped: NDArray[np.bool_]
    largest: F64
    lost: F64

    @property
    def is_zero(self) -> NDArray[np.bool_]:
        """Whether a channel's whole gradient is zero, or lost in the last bits, (C,)."""
        return self.largest <= self.lost

    def mark_unseen_channels(self, compared: ComparedSum, eps: float, rtol: float | None, farther_slopes: F64) -> EntryChanges:
        """Count as zero what the evidence cannot tell from zero, in channels that are far steeper farther away.

        A loss at its optimum is an example: its gradient is what rounding leaves.
        """
        uncertainty = find_entry_uncertainty(compared)
        is_unseen = (self.largest <= uncertainty) & (uncertainty <= find_zero_limit(eps, rtol) * farther_slopes)
        return replace(self, lost=np.where(is_unseen, np.maximum(self.lost, uncertainty), self.lost))

    def find_known_leaves(
        self, compared: ComparedSum, eps: float, rtol: float | None, farther_slopes: F64
    ) -> NDArray[np.bool_]:
        """Mark the leaves whose every entry is known in every channel, so well that full mode would leave it at that, (L,).

        That is relative to the entry's own size (less strictly for small ones of many), and to `rtol` if the user set it.
        A zero must be known well compared with the largest derivative of the channel; if all are zero, with the slopes farther
        away, unless there are none. A zero of an entry that moves far less than its neighbours is not known.

        Args:
            compared: the sums of the claim that makes these changes.
            eps: relative spacing of floats in the precision of its gradients.
            rtol: relative error that matters, if the user set it.
            farther_slopes: how steep the channels are between the primal and points far along the flattest leaf, (C,).
        """
        uncertainty = find_entry_uncertainty(compared)[:, None]
        limit, zero_limit = find_limit(eps, rtol), find_zero_limit(eps, rtol)
        is_long = rtol is None and sum(change.shape[1] for change in self.by_leaf) > MANY_LINES
        reference = np.where(self.is_zero, farther_slopes, self.largest)[:, None]
        is_known = []
        for change, share in zip(self.by_leaf, self.scale_shares, strict=True):
            is_zero_known = np.where(reference > 0, uncertainty <= zero_limit * reference * share, share == 1)
            allowed = limit * change
            if is_long:
                largest = np.max(change, axis=1, keepdims=True)
                allowed = np.maximum(allowed, np.minimum(MAX_SMALL_ENTRY_ERROR * change, zero_limit * largest))
            is_known.append(np.all(np.where(change > self.lost[:, None], uncertainty <= allowed, is_zero_known)))
        return np.array(is_known)

    def compute_resolution(self, compared: ComparedSum) -> F64:
        """Compute the relative error to within which every entry of each leaf is right that is not zero, (L,)."""
        uncertainty = find_entry_uncertainty(compared, compared.difference)[:, None]
        with np.errstate(all="ignore"):
            errors = [np.where(change > self.lost[:, None], uncertainty / change, 0.0) for change in self.by_leaf]
        return np.array([np.max(error, initial=0.0) for error in errors])


def find_entry_uncertainty(compared: ComparedSum, difference: F64 | float = 0.0) -> F64:
    """Find how uncertain the change is that any entry makes to each channel, (C,)."""
    return np.asarray(np.max(difference + compared.uncertainty, axis=0) / directions.MIN_EVEN_STEP)


def find_limit(eps: float, rtol: float | None) -> float:
    """Return the uncertainty relative to its own size up to which an entry is known."""
    return rtol or min(MAX_RESOLUTION, MAX_CHEAP_UNCERTAINTY * default_rtol(eps))


def find_zero_limit(eps: float, rtol: float | None) -> float:
    """Return the uncertainty up to which a zero is known, relative to slopes that are not zero."""
    return min(find_limit(eps, rtol), default_rtol(eps))


def find_changes(gradients: F64, program: Program, leaves: list[Leaf], lost: F64) -> EntryChanges:
    """Find how much each entry changes each channel as it moves by its scale, as far as is claimed.

    Args:
        gradients: the claimed gradients of the channels, (C, N).
        program: what is checked.
        leaves: the leaves that are not empty.
        lost: a change up to this is lost in the last bits of the channel, (C,).
    """
    scales = [directions.compute_entry_scales(program.point[leaf.span]) for leaf in leaves]
    changes = [np.abs(gradients[:, leaf.span]) * scale for leaf, scale in zip(leaves, scales, strict=True)]
    largest_scale = max(float(np.max(scale)) for scale in scales)
    shares = [scale / np.max(scale) for scale in scales]
    is_swamped = np.array([np.min(scale) < MAX_SWAMPED_ULPS * program.eps * largest_scale for scale in scales])
    largest = np.max([np.max(change, axis=1) for change in changes], axis=0)
    return EntryChanges(changes, shares, is_swamped, largest, lost)
