"""Contract `adjoint`: forward mode and reverse mode are adjoint, <v, J u> = <J^T v, u>. No differences are taken."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torch.autograd import forward_ad

from gradcheck.backends.torch.derivatives import forward_mode_level
from gradcheck.backends.torch.tensors import flat_of
from gradcheck.checks.contracts.torch.support.directional import draw_like
from gradcheck.checks.contracts.torch.support.plain_vjp import (
    SAMPLE,
    Baseline,
    NotApplicable,
    Remark,
    compute_flat_vjp,
    flatten_gradients,
)
from gradcheck.compare import identity
from gradcheck.evidence.line import F64
from gradcheck.seeds import make_generator
from gradcheck.tracebacks import format_user_line, summarise_error

NAME = "adjoint"
FIX = "compare jvp and backward line by line: each must use what the other uses, one of them transposed"
# A displacement of this size, relative to the inputs, leaves a kink behind.
KINK_OFFSET = 2.0**-9
KINK = (
    "at these inputs forward and reverse mode differ, but near them they agree: at a kink or tie each mode may choose another"
    " subgradient"
)


def find_breach(base: Baseline) -> str:
    """Describe how the two modes differ, and for which leaves; '' if they agree.

    Raises:
        Remark: if they differ at exactly these inputs only, or if a jvp of the user raises.
        NotApplicable: if there is no forward mode.
    """
    tangents = [draw_like(x, np.asarray, "tangent", k) for k, x in enumerate(base.inputs)]
    for moved in _subsets(len(tangents)):
        difference = _compare_modes(base, base.inputs, base.gradients, tangents, moved)
        if difference and not _compare_modes(base, *_move_off_kink(base), tangents, moved):
            raise Remark(KINK)
        if difference:
            is_single = len(moved) < len(tangents)
            return f"if only {base.layer.leaves[moved[0]].path} moves, {difference}" if is_single else difference
    return ""


def _subsets(count: int) -> Iterator[tuple[int, ...]]:
    """Yield the indices of all leaves together, then of some leaves one by one."""
    yield tuple(range(count))
    if count > 1:
        sample = make_generator(0, "adjoint", count).choice(count, min(SAMPLE, count), replace=False)
        yield from ((int(k),) for k in sorted(sample))


def _compare_modes(
    base: Baseline, inputs: Sequence[Tensor], gradients: Sequence[F64], tangents: Sequence[Tensor], moved: Sequence[int]
) -> str:
    """Describe how <v, J u> differs from <J^T v, u>; '' if it does by no more than rounding.

    Args:
        moved: indices of the leaves that have a tangent.
    """
    output_tangents = _compute_jvp(base, inputs, tangents, moved)
    left = [flat_of(v) * u for v, u in zip(base.cotangents, output_tangents, strict=True)]
    right = [gradients[k] * flat_of(tangents[k]) for k in moved]
    forward, reverse = (float(sum(np.sum(part) for part in terms)) for terms in (left, right))
    # A tangent that is NaN is a difference, and counts for nothing in what is allowed.
    eps, size = base.layer.eps, float(sum(np.nansum(np.abs(part)) for part in (*left, *right)))

    def measure_shift() -> float:
        shifts = (base.gradient_shift()[base.layer.leaves[k].span] for k in moved)
        return _norm([shift * flat_of(tangents[k]) for shift, k in zip(shifts, moved, strict=True)])

    unexplained = identity.find_unexplained(
        np.abs(forward - reverse),
        identity.bound_reordering(eps, float(np.fmax(_norm(left), _norm(right))))
        + identity.bound_round_off(eps, size + base.largest_output),
        identity.explain_by_shift(measure_shift),
        identity.explain_by_precision(base.internal_tolerance, size),
    )
    if unexplained is None:
        return ""
    return f"<v, J u> is {forward:.6g} in forward mode (jvp), but <J^T v, u> is {reverse:.6g} in reverse mode"


def _norm(parts: Sequence[F64]) -> float:
    return float(np.sqrt(sum(float(part @ part) for part in parts)))


def _move_off_kink(base: Baseline) -> tuple[list[Tensor], list[F64]]:
    """Return inputs a little away from the primal, and the gradients there."""
    offsets = [draw_like(x, np.asarray, "beside", k) for k, x in enumerate(base.inputs)]
    inputs = [x + KINK_OFFSET * u for x, u in zip(base.inputs, offsets, strict=True)]
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    return inputs, compute_flat_vjp(base.layer.call(leaves), leaves, base.new_cotangents())


def _compute_jvp(base: Baseline, inputs: Sequence[Tensor], tangents: Sequence[Tensor], moved: Sequence[int]) -> list[F64]:
    """Compute J u as flat arrays, with tangents for the leaves `moved` only.

    Raises:
        Remark: if a jvp of the user raises.
        NotApplicable: if there is no forward mode.
    """
    try:
        with forward_mode_level():
            duals = [
                forward_ad.make_dual(x.clone(), tangents[k].clone()) if k in moved else x.clone()  # type: ignore[no-untyped-call]
                for k, x in enumerate(inputs)
            ]
            outputs = base.layer.call(duals)
            output_tangents = [forward_ad.unpack_dual(out).tangent for out in outputs]  # type: ignore[no-untyped-call]
            if all(u is None for u in output_tangents) and any(np.any(base.gradients[k]) for k in moved):
                raise NotApplicable("no tangent comes out: an operator inside drops it")
            return flatten_gradients(output_tangents, outputs)
    except NotApplicable:
        raise
    except Exception as error:
        if not isinstance(error, NotImplementedError) and _is_raised_in_user_jvp(error):
            raise Remark(f"its jvp raises {summarise_error(error, 200)}{format_user_line(error)}") from error
        raise NotApplicable(f"there is no forward mode: {summarise_error(error, 120)}") from error


def _is_raised_in_user_jvp(error: Exception) -> bool:
    """Whether an exception comes out of a jvp that the user wrote, whatever its name."""
    frames = [frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)]
    callees = {callee.co_filename for caller, callee in pairwise(frames) if caller.co_name == "apply_jvp"}
    return bool(callees) and torch.autograd.function.__file__ not in callees
