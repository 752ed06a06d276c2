"""Derivatives by one method as matrices: one row per channel, one column per number of the input."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.backends.program import Claim, Program, Unavailable
from gradcheck.backends.time_budget import refuse_after_deadline
from gradcheck.errors import DerivativeError
from gradcheck.evidence import directions
from gradcheck.evidence.line import F64
from gradcheck.number_format import FLOAT64
from gradcheck.tracebacks import format_user_frames
from gradcheck.verdict.interval import CLAIM_ROUNDING_ULPS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradcheck.compare.trial_recorder import Recorder

CUT_OFF_NOTE = "{} not used: the derivative of the traced code is not that of the function; `float(...)` may cut it off"
# The error of a single entry hardly ever exceeds this many times the root mean square of the errors in its leaf.
MAX_OVER_RMS = 6.0

# It evaluates the rows (C, N) of a forward-mode claim, given the Jacobian by another method.
EvaluateForward = Callable[[Claim, "Jacobian"], F64]


class Conditioning:
    """How far a claim's derivatives move when the inputs are rounded, (C, N); measured once for each dtype, when it is needed.

    All copies of a Jacobian share one.
    """

    def __init__(self) -> None:
        self._movements: dict[float, F64] = {}

    def measure_once(self, measure: Callable[[], F64], eps: float) -> F64:
        """Return the movement under rounding to a relative spacing of `eps`; the first call measures it."""
        if eps not in self._movements:
            self._movements[eps] = measure()
        return self._movements[eps]


@dataclass(frozen=True)
class Jacobian:
    """Derivatives by one method: row c is the gradient of channel c.

    Attributes:
        method: the method that computed them, 'reverse' for example.
        values: the derivatives, (C, N).
        error: bound of their error, (C, N): rounding, and conditioning once it is measured.
        rounding: the part of the error that is rounding alone, (C, N).
        eps: relative spacing of floats in the dtype that they were computed in.
        claim: the claim that they were evaluated from; None if there is none.
        twin: the same derivatives in the precision of the evaluation, if that is higher than the claim's; None otherwise.
        conditioning: their conditioning, shared by all copies.
    """

    method: str
    values: F64
    error: F64
    rounding: F64
    eps: float
    claim: Claim | None = None
    twin: Jacobian | None = None
    conditioning: Conditioning = field(default_factory=Conditioning)


def jacobian_of_claim(claim: Claim, values: F64, program: Program) -> Jacobian:
    """Make the Jacobian of a claim, with an error of a few units in the last place of each entry and of its leaf.

    The leaf counts because an entry may be the small difference of terms as large as its neighbours. If the inputs of a leaf
    differ much in size, what counts is the change that a neighbour makes, not its derivative. Numbers that are not normal
    have lost digits, or are lost.

    Args:
        values: the claimed derivatives, (C, N).
    """
    leaf_size = np.zeros(values.shape)
    for leaf in program.leaves:
        size, scales = np.abs(values[:, leaf.span]), directions.compute_entry_scales(program.point[leaf.span])
        size = np.where(np.isfinite(size), size, 0.0)
        with np.errstate(over="ignore"):
            by_change = np.max(size * scales, axis=1, keepdims=True, initial=0.0) / scales
        leaf_size[:, leaf.span] = np.minimum(np.max(size, axis=1, keepdims=True, initial=0.0), by_change)
    total_size = np.where(np.isfinite(values), np.abs(values), 0.0) + leaf_size
    rounding = CLAIM_ROUNDING_ULPS * (claim.eps * total_size + directions.smallest_subnormal(claim.eps) / claim.eps)
    return Jacobian(claim.method, values, rounding, rounding, claim.eps, claim)


def evaluate_claims(
    program: Program, cotangents: F64, recorder: Recorder, evaluate_forward: EvaluateForward | None = None
) -> list[Jacobian]:
    """Evaluate every claim that is available, and note each that is not.

    Args:
        cotangents: the channels, (C, M).
        evaluate_forward: evaluates a forward-mode claim for which the first Jacobian of another claim is known. None leaves
            forward-mode claims out.

    Raises:
        DerivativeError: if a derivative that the user wrote raises.
    """
    jacobians: list[Jacobian] = []
    for claim, twin_claim in claims_with_twins(program, only_vjp=evaluate_forward is None):
        with noting_unavailable(claim, recorder):
            first = jacobians[0] if jacobians else None
            jacobian = _evaluate_claim(claim, program, cotangents, evaluate_forward, first)
            jacobian = _count_tf32_as_rounding(jacobian, program, cotangents, recorder)
            if twin_claim:
                twin = _evaluate_claim(twin_claim, program, cotangents, evaluate_forward, first and first.twin)
                jacobian = replace(jacobian, twin=twin)
            jacobians.append(jacobian)
    return jacobians


def _evaluate_claim(
    claim: Claim, program: Program, cotangents: F64, evaluate_forward: EvaluateForward | None, first: Jacobian | None
) -> Jacobian:
    if claim.vjp is None and evaluate_forward and first:
        return jacobian_of_claim(claim, evaluate_forward(claim, first), program)
    return jacobian_of_claim(claim, evaluate_rows(claim, program.point, cotangents), program)


def _count_tf32_as_rounding(jacobian: Jacobian, program: Program, cotangents: F64, recorder: Recorder) -> Jacobian:
    """Add to the error of a Jacobian how far TF32 moves it."""
    if program.capabilities.without_tf32 is None or jacobian.claim is None or jacobian.claim.vjp is None:
        return jacobian
    with program.capabilities.without_tf32():
        movement = np.abs(evaluate_rows(jacobian.claim, program.point, cotangents) - jacobian.values)
    if not np.any(movement):
        return jacobian
    noise = np.zeros(movement.shape)
    for leaf in program.leaves:
        noise[:, leaf.span] = np.sqrt(np.mean(movement[:, leaf.span] ** 2, axis=1, keepdims=True))
    size = float(np.linalg.norm(movement) / np.linalg.norm(jacobian.values))
    recorder.note(f"TF32: without it the {jacobian.method} derivative moves by {size:.0e} of its size, which counts as noise")
    return replace(jacobian, error=jacobian.error + MAX_OVER_RMS * noise, rounding=jacobian.rounding + MAX_OVER_RMS * noise)


def claims_with_twins(program: Program, *, only_vjp: bool) -> Iterator[tuple[Claim, Claim | None]]:
    """Iterate over the claims to check, each with its twin.

    Args:
        only_vjp: leave out claims in forward mode.
    """
    return ((claim, make_twin(claim)) for claim in program.claims if claim.vjp is not None or not only_vjp)


def twin_if_half_precision(jacobian: Jacobian, program: Program) -> Jacobian:
    """Return the Jacobian by which two methods are compared: its twin in half precision, where rounding would hide all else."""
    return jacobian.twin if program.half and jacobian.twin is not None else jacobian


def make_twin(claim: Claim) -> Claim | None:
    """Make the claim in the precision of the evaluation; None if the claim's own precision is as high."""
    if claim.twin is None and claim.twin_jvp is None:
        return None
    return replace(claim, vjp=claim.twin, jvp=claim.twin_jvp, twin=None, twin_jvp=None, eps=FLOAT64.eps)


def evaluate_jvp(claim: Claim, point: F64, tangents: F64, recorder: Recorder) -> F64 | None:
    """Evaluate a forward-mode claim along tangents (K, N), giving (K, M); None, with a note, if it is not available."""
    assert claim.jvp is not None
    with noting_unavailable(claim, recorder):
        return claim.jvp(point, tangents)
    return None


@contextmanager
def noting_unavailable(claim: Claim, recorder: Recorder) -> Iterator[None]:
    """Note that an optional claim is not available, if it turns out so inside the context.

    Raises:
        DerivativeError: if the claim is not optional, so that the user's derivative is at fault.
    """
    try:
        yield
    except Unavailable as why:
        if not claim.optional:
            frames = format_user_frames(why.__cause__) if why.__cause__ else ""
            raise DerivativeError(f"the {claim.method} derivative cannot be computed: {why}", frames) from None
        recorder.note(f"{claim.method} not available: {why}")


def evaluate_rows(claim: Claim, point: F64, cotangents: F64) -> F64:
    """Evaluate the vector-Jacobian products of a claim, (C, N); in forward mode from every column of the Jacobian."""
    refuse_after_deadline()
    if claim.vjp is not None:
        return claim.vjp(point, cotangents)
    assert claim.jvp is not None
    columns = claim.jvp(point, np.eye(point.size))
    return contract_columns(cotangents, columns)


def make_vjps_of_jvps(program: Program) -> Program:
    """Return a program each of whose claims has a vjp. If all claims are jvps, each vjp comes from the whole Jacobian."""
    if any(claim.vjp is not None for claim in program.claims):
        return program

    def make_vjp(claim: Claim | None) -> Callable[[F64, F64], F64] | None:
        return None if claim is None else lambda point, cotangents: evaluate_rows(claim, point, cotangents)

    claims = (replace(claim, vjp=make_vjp(claim), twin=make_vjp(make_twin(claim))) for claim in program.claims)
    return replace(program, claims=tuple(claims))


def contract_columns(cotangents: F64, columns: F64) -> F64:
    """Contract the columns of a Jacobian, (N, M), with cotangents, (C, M), to rows (C, N).

    Outputs that a cotangent does not use may be infinite or NaN.
    """
    if np.all(np.isfinite(columns)):
        return np.asarray(cotangents @ columns.T)
    return np.stack([np.sum(np.where(v == 0, 0.0, v * columns), axis=1) for v in cotangents])
