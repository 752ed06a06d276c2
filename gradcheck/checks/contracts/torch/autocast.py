"""Contract `autocast`: under torch.autocast the gradient is the same as without, as far as bfloat16 can show."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from gradcheck.backends.torch.graph import find_user_nodes
from gradcheck.backends.torch.tensors import flat_of
from gradcheck.checks.contracts.torch.support.directional import draw_like
from gradcheck.checks.contracts.torch.support.plain_vjp import Baseline, NotApplicable, Remark, UserCodeRaised, compute_flat_vjp
from gradcheck.evidence.line import F64
from gradcheck.tracebacks import format_user_line, summarise_error

NAME = "autocast"
FIX = "decorate forward and backward with torch.amp.custom_fwd and custom_bwd, and read memory by its dtype"
LOW = torch.bfloat16
WIDE = (torch.float32, torch.float64)
# Gradients smaller than this lose digits in bfloat16, or vanish.
SMALLEST = torch.finfo(LOW).tiny
# Rounding in a single layer causes no larger error than this, relative to the size of a gradient.
MAX_AUTOCAST_DIFFERENCE = 0.25
# This many inputs at and near the primal are tried, since bfloat16 rounds each in its own way.
DRAWS = 5
# These inputs are displaced by this much, relative to their size: eight units in the last place of bfloat16.
DRAW_OFFSET = 2.0**-5
# An error of more than this many times its spread among the draws is not caused by rounding.
MIN_ERROR_TO_SPREAD = 4.0
UNDECLARED = "use torch.amp.custom_fwd and custom_bwd to declare in which dtype a Function wants its tensors"


def find_breach(base: Baseline) -> str:
    """Describe how gradients differ under autocast; '' if by no more than the rounding of bfloat16 explains.

    Raises:
        UserCodeRaised: if a backward raises although its Function is declared to work under autocast.
        Remark: if another backward raises, or if the outputs differ under autocast.
        NotApplicable: if autocast does not apply, or the forward refuses it with an exception.
    """
    if os.environ.get("TRITON_INTERPRET") == "1" and base.layer.uses_triton:
        raise NotApplicable("with TRITON_INTERPRET=1, Triton's interpreter computes with the bits of bfloat16 numbers")
    device = base.inputs[0].device.type
    if any(x.dtype not in WIDE for x in (*base.inputs, *base.outputs)) or not torch.amp.is_autocast_available(device):
        raise NotApplicable("autocast needs real inputs in float32 or float64, on a device that supports it")
    wide = _evaluate(base, device, _draw_inputs(base, 0), ())
    difference = _compare(base, device, (), wide)
    activation = next((k for k, leaf in enumerate(base.layer.leaves) if not leaf.path.startswith("params[")), None)
    if difference or activation is None:
        return f"under autocast {difference}" if difference else ""
    try:
        difference = _compare(base, device, (activation,), wide)
    except NotApplicable:  # the layer refuses inputs in bfloat16, so no layer in front of it can return one
        return ""
    return f"under autocast, with {base.layer.leaves[activation].path} in bfloat16, {difference}" if difference else ""


def _compare(base: Baseline, device: str, low: Sequence[int], wide: list[F64]) -> str:
    """Describe the first error that is larger than the rounding of bfloat16; '' if there is none.

    Rounding varies between inputs that are near each other, an error of the code does not.

    Args:
        low: indices of the inputs that are passed in bfloat16, as those made by a layer in front would be.
        wide: outputs and gradients at the primal in float32.
    """
    cast = _evaluate(base, device, _draw_inputs(base, 0), low, enabled=True)
    if all(_norm(b - a) <= MAX_AUTOCAST_DIFFERENCE * _norm(a) for a, b in zip(wide, cast, strict=True)):
        return ""
    if base.layer.draws_random:
        raise NotApplicable("random numbers are drawn, and another dtype draws others")
    if any(np.any((out != 0) & (np.abs(out) < SMALLEST)) for out in wide[: len(base.layer.outputs)]):
        raise NotApplicable("outputs are below the smallest normal number of bfloat16, where different values become equal")
    draws = [(wide, cast)]
    for k in range(1, DRAWS):
        inputs = _draw_inputs(base, k)
        draws.append((_evaluate(base, device, inputs, ()), _evaluate(base, device, inputs, low, enabled=True)))
    count = len(base.layer.outputs)
    for j, leaf in enumerate((*base.layer.outputs, *base.layer.leaves)):
        errors = np.stack([after[j] - before[j] for before, after in draws])
        size = max(_norm(before[j]) for before, _ in draws)
        mean, spread = _norm(errors.mean(axis=0)), _norm(errors.std(axis=0))
        if mean <= MAX_AUTOCAST_DIFFERENCE * size + MIN_ERROR_TO_SPREAD * spread or size < SMALLEST:
            continue
        ratio = mean / size if size else np.inf
        error = f"{leaf.path} is off by {ratio:.2g} times its size, which the rounding of bfloat16 does not explain"
        if j < count:
            raise Remark(f"under autocast the target computes a different function: {error}")
        return f"the gradient of {error}"
    return ""


def _norm(x: F64) -> float:
    return float(np.linalg.norm(x))


def _draw_inputs(base: Baseline, draw: int) -> list[Tensor]:
    """Draw inputs near the primal that bfloat16 represents exactly; draw 0 is at the primal."""
    offsets = [torch.zeros_like(x) for x in base.inputs]
    if draw:
        offsets = [draw_like(x, np.asarray, "autocast", draw, k) for k, x in enumerate(base.inputs)]
    return [(x + DRAW_OFFSET * u).to(LOW) for x, u in zip(base.inputs, offsets, strict=True)]


def _evaluate(base: Baseline, device: str, inputs: list[Tensor], low: Sequence[int], *, enabled: bool = False) -> list[F64]:
    """Compute outputs and gradients in float32, or under autocast if `enabled`, as flat arrays."""
    leaves = [x.float().requires_grad_() for x in inputs]
    arguments = [x.to(LOW) if k in low else x for k, x in enumerate(leaves)]
    situation = "under autocast" if enabled else "in float32"
    try:
        with torch.autocast(device, dtype=LOW, enabled=enabled, cache_enabled=False):
            outputs = base.layer.call(arguments)
    except Exception as error:
        raise NotApplicable(f"the forward does not run {situation}: {summarise_error(error, 120)}") from error
    if any(a.shape != b.shape for a, b in zip(outputs, base.outputs, strict=True)):
        raise NotApplicable(f"the outputs {situation} have another shape")
    if not all(torch.isfinite(out).all() for out in outputs):
        raise (Remark if enabled else NotApplicable)(f"{situation} the outputs are not finite")
    cotangents = [v.to(LOW).to(out.dtype) for v, out in zip(base.cotangents, outputs, strict=True)]
    try:
        gradients = compute_flat_vjp(outputs, leaves, cotangents)
    except Exception as error:
        raise _classify(error, situation, outputs) from error
    return [*(flat_of(out) for out in outputs), *gradients]


def _classify(error: Exception, situation: str, outputs: list[Tensor]) -> Exception:
    """Return what to raise for a backward that raises: a breach if its Function is made for autocast, else a remark."""
    if situation == "in float32":
        return NotApplicable(f"the backward does not run {situation}: {summarise_error(error, 120)}")
    is_by_user = not isinstance(error, NotImplementedError)  # PyTorch raises that if an operator does not support bfloat16
    if is_by_user and any(getattr(node, "_fwd_used_autocast", False) for node in find_user_nodes(outputs)):
        return UserCodeRaised(f"{situation}, in a backward whose forward has custom_fwd,")
    return Remark(f"{situation} the backward raises {summarise_error(error, 200)}{format_user_line(error)}; {UNDECLARED}")
