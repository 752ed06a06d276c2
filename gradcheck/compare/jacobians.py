"""What the claims say, as matrices: one row per channel, one column per input number."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.backends.program import Claim, Program, Unavailable
from gradcheck.errors import DerivativeError
from gradcheck.evidence import directions
from gradcheck.evidence.line import F64
from gradcheck.tracebacks import user_frames
from gradcheck.verdict.interval import ROUNDING

if TYPE_CHECKING:
    from collections.abc import Iterator

CUT_OFF = "{} not used: the traced code's derivative is not that of the function; float(...) may cut it off"
POOLED = 6.0  # times the leaf's root mean square: what a single entry's rounding hardly ever exceeds


Columns = Callable[[Claim, "Rows"], F64]


@dataclass(frozen=True)
class Rows:
    """Derivatives by one method, (C, N): row c is the gradient of channel c.

    Attributes:
        method: that computed them.
        own: their error: rounding, and conditioning once it is measured.
        slip: rounding alone.
        eps: relative spacing of floats in the dtype they were computed in.
        fine: the same computed in the precision of the evaluation, where that is higher than the claim's.
        conditioning: how far they move under jitter, (C, N), once that was measured; shared by all copies.
    """

    method: str
    rows: F64
    own: F64
    slip: F64
    eps: float
    claim: Claim | None = None
    fine: Rows | None = None
    conditioning: list[F64] = field(default_factory=list)


def of_claim(claim: Claim, rows: F64, program: Program) -> Rows:
    """A claim's rows; until more is known their error is a few units in the last place, of the entry and of its leaf.

    The latter because an entry may be the small difference of terms as large as its neighbours: as large as they are, or as
    the changes are that they make, where inputs differ much in size. And what is no normal number has lost digits, or is lost.
    """
    whole = np.zeros(rows.shape)
    for leaf in program.leaves:
        part, scales = np.abs(rows[:, leaf.span]), directions.scales_of(program.point[leaf.span])
        part = np.where(np.isfinite(part), part, 0.0)
        with np.errstate(over="ignore"):
            changes = np.max(part * scales, axis=1, keepdims=True, initial=0.0) / scales
        whole[:, leaf.span] = np.minimum(np.max(part, axis=1, keepdims=True, initial=0.0), changes)
    size = np.where(np.isfinite(rows), np.abs(rows), 0.0) + whole
    slip = ROUNDING * (claim.eps * size + directions.smallest(claim.eps) / claim.eps)
    return Rows(claim.method, rows, slip, slip, claim.eps, claim)


def evaluate(program: Program, cotangents: F64, notes: list[str], columns: Columns | None = None) -> list[Rows]:
    """Evaluate every claim that is available; a note for each that is not.

    Args:
        columns: how to ask a claim in forward mode, beside another claim; None: such claims are left out.

    Raises:
        DerivativeError: where a derivative of the user's own raises.
    """
    found: list[Rows] = []
    for claim, twin in asked(program, only_vjp=columns is None):
        with remarked(claim, notes):
            known = found[0] if found else None
            rows = _without_tf32(_rows(claim, program, cotangents, columns, known), program, cotangents, notes)
            fine = _rows(twin, program, cotangents, columns, known and known.fine) if twin else None
            found.append(replace(rows, fine=fine))
    return found


def _rows(claim: Claim, program: Program, cotangents: F64, columns: Columns | None, known: Rows | None) -> Rows:
    if claim.vjp is None and columns and known:
        return of_claim(claim, columns(claim, known), program)
    return of_claim(claim, rows_of(claim, program.point, cotangents), program)


def _without_tf32(rows: Rows, program: Program, cotangents: F64, notes: list[str]) -> Rows:
    """The rows with what TF32 does to them counted as rounding."""
    if program.exactly is None or rows.claim is None or rows.claim.vjp is None:
        return rows
    with program.exactly():
        moved = np.abs(rows_of(rows.claim, program.point, cotangents) - rows.rows)
    if not np.any(moved):
        return rows
    noise = np.zeros(moved.shape)
    for leaf in program.leaves:
        noise[:, leaf.span] = np.sqrt(np.mean(moved[:, leaf.span] ** 2, axis=1, keepdims=True))
    size = float(np.linalg.norm(moved) / np.linalg.norm(rows.rows))
    notes.append(f"TF32: without it the {rows.method} derivative moves by {size:.0e} of its size, which counts as noise")
    return replace(rows, own=rows.own + POOLED * noise, slip=rows.slip + POOLED * noise)


def asked(program: Program, *, only_vjp: bool) -> Iterator[tuple[Claim, Claim | None]]:
    """The claims to be proved, each with its twin."""
    return ((claim, twin_of(claim)) for claim in program.claims if claim.vjp is not None or not only_vjp)


def between(rows: Rows, program: Program) -> Rows:
    """What two methods are compared by: in half precision their twins, where rounding would hide all else."""
    return rows.fine if program.half and rows.fine is not None else rows


def twin_of(claim: Claim) -> Claim | None:
    """The claim in the precision of the evaluation; None where its own is as high."""
    if claim.twin is None and claim.twin_jvp is None:
        return None
    return replace(claim, vjp=claim.twin, jvp=claim.twin_jvp, twin=None, twin_jvp=None, eps=2.0**-52)


def pushed(claim: Claim, point: F64, tangents: F64, notes: list[str]) -> F64 | None:
    """A forward-mode claim along some tangents, (P, M); None with a note where it is not available."""
    assert claim.jvp is not None
    with remarked(claim, notes):
        return claim.jvp(point, tangents)
    return None


@contextmanager
def remarked(claim: Claim, notes: list[str]) -> Iterator[None]:
    """Note that a claim is not available, where it may be.

    Raises:
        DerivativeError: where that is the user's fault.
    """
    try:
        yield
    except Unavailable as why:
        if not claim.optional:
            frames = user_frames(why.__cause__) if why.__cause__ else ""
            raise DerivativeError(f"the {claim.method} derivative cannot be computed: {why}", frames) from None
        note = f"{claim.method} not available: {why}"
        if note not in notes:
            notes.append(note)


def rows_of(claim: Claim, point: F64, cotangents: F64) -> F64:
    """Vector-Jacobian products, (C, N); a forward-mode claim is asked for every column of its Jacobian."""
    if claim.vjp is not None:
        return claim.vjp(point, cotangents)
    assert claim.jvp is not None
    columns = claim.jvp(point, np.eye(point.size))
    return contracted(cotangents, columns)


def contracted(cotangents: F64, columns: F64) -> F64:
    """Rows, (C, N), of a Jacobian's columns, (N, M); outputs that do not count may be anything."""
    if np.all(np.isfinite(columns)):
        return np.asarray(cotangents @ columns.T)
    return np.stack([np.sum(np.where(v == 0, 0.0, v * columns), axis=1) for v in cotangents])
