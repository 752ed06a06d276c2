"""Under torch.autocast, where tensors are half as wide, the backward gives what it gives without, as far as those can tell."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from gradcheck.backends.torch.graph import own_nodes
from gradcheck.backends.torch.tensors import flat_of
from gradcheck.checks.contracts.torch import plain_vjp as plain
from gradcheck.checks.contracts.torch.directional import random_like
from gradcheck.checks.contracts.torch.plain_vjp import Raised, Remarked, Unsupported
from gradcheck.tracebacks import one_line, user_line

if TYPE_CHECKING:
    from torch import Tensor

    from gradcheck.checks.contracts.torch.plain_vjp import Baseline
    from gradcheck.evidence.line import F64

NAME = "autocast"
MEND = "decorate forward and backward with torch.amp.custom_fwd and custom_bwd, and read memory by its dtype"
LOW = torch.bfloat16
WIDE = (torch.float32, torch.float64)
LEAST = torch.finfo(LOW).tiny  # smaller gradients lose their digits in bfloat16, or all of themselves
GROSS = 0.25  # of the size of a gradient: no rounding of a single layer
DRAWS = 5  # of inputs near the primal, which bfloat16 rounds in other ways each
MOVED = 2.0**-5  # of the inputs: eight units in the last place of bfloat16
CLEAR = 4.0  # times what the error varies among them: it is not by rounding
UNDECLARED = "torch.amp.custom_fwd and custom_bwd say in which dtype a Function wants its tensors"


def broken(base: Baseline) -> str:
    """How gradients differ under autocast; '' where they do no more than bfloat16 explains.

    Raises:
        Remarked: where a backward raises that makes no claim to work under autocast, or the outputs are others there.
        Unsupported: where autocast does not apply, or the forward refuses it aloud.
    """
    if os.environ.get("TRITON_INTERPRET") == "1" and base.layer.triton:
        raise Unsupported("Triton's interpreter, which TRITON_INTERPRET=1 chooses, computes bfloat16 on its bits")
    device = base.inputs[0].device.type
    if any(x.dtype not in WIDE for x in (*base.inputs, *base.outputs)) or not torch.amp.is_autocast_available(device):
        raise Unsupported("autocast is for real inputs in float32, on a device that has it")
    told = _off(base, device, ())
    activation = next((k for k, leaf in enumerate(base.layer.leaves) if not leaf.path.startswith("params[")), None)
    if told or activation is None:
        return f"under autocast {told}" if told else ""
    try:
        told = _off(base, device, (activation,))
    except Unsupported:  # an input in bfloat16 is refused: then the layer in front returns none
        return ""
    return f"under autocast, where {base.layer.leaves[activation].path} comes in bfloat16, {told}" if told else ""


def _off(base: Baseline, device: str, low: Sequence[int]) -> str:
    """What is off beyond bfloat16's rounding, which varies between inputs near each other; '' where nothing is.

    Args:
        low: the inputs that come in bfloat16, as those that a layer in front has made.
    """
    plain_, cast = _both(base, device, low, 0)
    if all(_norm(b - a) <= GROSS * _norm(a) for a, b in zip(plain_, cast, strict=True)):
        return ""
    if base.layer.random:
        raise Unsupported("random numbers are drawn, which fall elsewhere in another dtype")
    draws = [(plain_, cast), *(_both(base, device, low, k) for k in range(1, DRAWS))]
    count = len(base.layer.outputs)
    for j, leaf in enumerate((*base.layer.outputs, *base.layer.leaves)):
        errors = np.stack([after[j] - before[j] for before, after in draws])
        size = max(_norm(before[j]) for before, _ in draws)
        mean, spread = _norm(errors.mean(axis=0)), _norm(errors.std(axis=0))
        if mean <= GROSS * size + CLEAR * spread or size < LEAST:
            continue
        off = f"{leaf.path} is off by {mean / size if size else np.inf:.2g} times its size, which bfloat16 does not explain"
        if j < count:
            raise Remarked(f"under autocast the function is another: {off}")
        return f"the gradient of {off}"
    return ""


def _norm(x: F64) -> float:
    return float(np.linalg.norm(x))


def _both(base: Baseline, device: str, low: Sequence[int], draw: int) -> tuple[list[F64], list[F64]]:
    """Outputs and gradients in float32 and under autocast, at inputs that bfloat16 can hold; the first draw at the primal."""
    away = [random_like(x, np.asarray, "autocast", draw, k) if draw else torch.zeros_like(x) for k, x in enumerate(base.inputs)]
    inputs = [(x + MOVED * u).to(LOW) for x, u in zip(base.inputs, away, strict=True)]
    return _asked(base, device, inputs, ()), _asked(base, device, inputs, low, enabled=True)


def _asked(base: Baseline, device: str, inputs: list[Tensor], low: Sequence[int], *, enabled: bool = False) -> list[F64]:
    leaves = [x.float().requires_grad_() for x in inputs]
    given = [x.to(LOW) if k in low else x for k, x in enumerate(leaves)]
    how = "under autocast" if enabled else "in float32"
    try:
        with torch.autocast(device, dtype=LOW, enabled=enabled, cache_enabled=False):
            outputs = base.layer.call(given)
    except Exception as error:
        raise Unsupported(f"the forward does not run {how}: {one_line(error, 120)}") from error
    if any(a.shape != b.shape for a, b in zip(outputs, base.outputs, strict=True)):
        raise Unsupported(f"the outputs {how} have another shape")
    if not all(torch.isfinite(out).all() for out in outputs):
        raise (Remarked if enabled else Unsupported)(f"{how} the outputs are not finite")
    cotangents = [v.to(LOW).to(out.dtype) for v, out in zip(base.cotangents, outputs, strict=True)]
    try:
        gradients = plain.rows(outputs, leaves, cotangents)
    except Exception as error:
        raise _raised(error, how, outputs) from error
    return [*(flat_of(out) for out in outputs), *gradients]


def _raised(error: Exception, how: str, outputs: list[Tensor]) -> Exception:
    """What a backward that raises comes to: a breach where its Function says that it is made for autocast, else a remark."""
    if how == "in float32":
        return Unsupported(f"the backward does not run {how}: {one_line(error, 120)}")
    made_for_it = not isinstance(error, NotImplementedError)  # which PyTorch raises of an operator that knows no bfloat16
    if made_for_it and any(getattr(node, "_fwd_used_autocast", False) for node in own_nodes(outputs)):
        return Raised(f"{how}, in a backward whose forward has custom_fwd,")
    return Remarked(f"{how} the backward raises {one_line(error, 200)}{user_line(error)}; {UNDECLARED}")
