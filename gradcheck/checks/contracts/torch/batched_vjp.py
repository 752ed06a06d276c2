"""Many cotangents at once, under vmap, give what each gives by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from gradcheck.checks.contracts.torch import plain_vjp as plain
from gradcheck.checks.contracts.torch.plain_vjp import Unsupported

if TYPE_CHECKING:
    from torch import Tensor

    from gradcheck.checks.contracts.torch.plain_vjp import Baseline
    from gradcheck.evidence.line import F64

NAME = "batched-vjp"
MEND = "what runs under vmap sees one axis less than there is: use tensor operations alone, whose rules PyTorch knows"
WEIGHTS = (1.0, -0.5)


def broken(base: Baseline) -> str:
    """How a gradient that is asked for under vmap differs; '' where it does not.

    Raises:
        Unsupported: where it cannot be asked for so, which is said aloud.
    """
    refused = []
    told = _outputs(base)
    if told:
        return f"under vmap over the inputs {told}"
    weighted = [_apiece(base, weight) for weight in WEIGHTS]
    for ask in (_by_autograd, _by_func):
        stacked = [torch.stack([w * v for w in WEIGHTS]) for v in base.cotangents]
        try:
            found = ask(base, stacked)
        except Exception as error:
            refused.append(type(error).__name__)
            continue
        for k, expected in enumerate(weighted):
            row = plain.numbers([None if g is None else g[k] for g in found], base.inputs)
            told = plain.other(base, row, expected=expected)
            if told:
                return f"under vmap {told}"
    if len(refused) > 1:
        raise Unsupported(f"cannot be asked for under vmap: {refused[0]}")
    return ""


def _outputs(base: Baseline) -> str:
    """How the outputs differ under vmap over the inputs; '' where they do not, or where that is refused."""
    try:
        mapped = torch.func.vmap(lambda *given: tuple(base.layer.call(given)))(*(torch.stack([x, x]) for x in base.inputs))
    except Exception:
        return ""
    return plain.other_outputs(base, [out[1] for out in mapped])


def _apiece(base: Baseline, weight: float) -> list[F64]:
    leaves = base.leaves()
    return plain.rows(base.layer.call(leaves), leaves, [weight * v for v in base.cotangents])


def _by_autograd(base: Baseline, stacked: list[Tensor]) -> list[Tensor | None]:
    leaves = base.leaves()
    return plain.pulled(base.layer.call(leaves), leaves, stacked, is_grads_batched=True)


def _by_func(base: Baseline, stacked: list[Tensor]) -> list[Tensor | None]:
    pull = torch.func.vjp(lambda *given: tuple(base.layer.call(given)), *(x.clone() for x in base.inputs))[1]
    return list(torch.func.vmap(pull)(tuple(stacked)))
