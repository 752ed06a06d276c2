"""Many cotangents at once, under vmap, give what each gives by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from gradcheck.checks.contracts import baseline as plain
from gradcheck.checks.contracts.baseline import Unsupported

if TYPE_CHECKING:
    from torch import Tensor

    from gradcheck.checks.contracts.baseline import Baseline

NAME = "batched-vjp"
MEND = "a backward under vmap sees one more axis than it knows of: use tensor operations alone, or write vmap"
WEIGHTS = (1.0, -0.5)


def broken(base: Baseline) -> str:
    """How a gradient that is asked for under vmap differs; '' where it does not.

    Raises:
        Unsupported: where it cannot be asked for so, which is said aloud.
    """
    refused = []
    for ask in (_by_autograd, _by_func):
        stacked = [torch.stack([w * v for w in WEIGHTS]) for v in base.cotangents]
        try:
            found = ask(base, stacked)
        except Exception as error:
            refused.append(type(error).__name__)
            continue
        for k, weight in enumerate(WEIGHTS):
            row = plain.numbers([None if g is None else g[k] for g in found], base.inputs)
            told = plain.other(base, row, expected=[weight * g for g in base.gradients])
            if told:
                return f"under vmap {told}"
    if len(refused) > 1:
        raise Unsupported(f"cannot be asked for under vmap: {refused[0]}")
    return ""


def _by_autograd(base: Baseline, stacked: list[Tensor]) -> list[Tensor | None]:
    leaves = base.leaves()
    return plain.pulled(base.layer.call(leaves), leaves, stacked, is_grads_batched=True)


def _by_func(base: Baseline, stacked: list[Tensor]) -> list[Tensor | None]:
    pull = torch.func.vjp(lambda *given: tuple(base.layer.call(given)), *(x.clone() for x in base.inputs))[1]
    return list(torch.func.vmap(pull)(tuple(stacked)))
