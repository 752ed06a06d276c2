"""Whichever inputs want a gradient, those get theirs."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import TYPE_CHECKING

from gradcheck.checks.contracts.torch import plain_vjp as plain
from gradcheck.checks.contracts.torch.plain_vjp import Unsupported
from gradcheck.seeds import generator

if TYPE_CHECKING:
    from gradcheck.checks.contracts.torch.plain_vjp import Baseline

NAME = "requires-grad"
MEND = "does the backward read ctx.needs_input_grad rightly, and return None in the right places?"
ALL = 4  # leaves of which every subset is tried
SAMPLE = 8


def broken(base: Baseline) -> str:
    """For which subset of the inputs a gradient differs; '' where for none.

    Raises:
        Unsupported: where the forward refuses one.
    """
    paths = [leaf.path for leaf in base.layer.leaves]
    for chosen in _subsets(len(paths)):
        leaves = [x.detach().clone().requires_grad_(i in chosen) for i, x in enumerate(base.inputs)]
        try:
            outputs = base.layer.call(leaves)
        except Exception as error:
            which = ", ".join(paths[i] for i in chosen)
            raise Unsupported(f"it does not run where only {which} requires a gradient: {type(error).__name__}") from error
        asked = [leaves[i] for i in chosen]
        found = dict(zip(chosen, plain.rows(outputs, asked, base.given()), strict=True))
        told = plain.other(base, [found.get(i) for i in range(len(paths))])
        if told:
            return f"where only {', '.join(paths[i] for i in chosen)} requires a gradient, {told}"
    return ""


def _subsets(count: int) -> Iterator[tuple[int, ...]]:
    """Every true subset of a few, single ones and random ones of many."""
    if count <= ALL:
        for size in range(1, count):
            yield from combinations(range(count), size)
        return
    rng = generator(0, "subsets", count)
    yield from ((int(i),) for i in rng.choice(count, min(SAMPLE, count), replace=False))
    for _ in range(SAMPLE):
        yield tuple(int(i) for i in sorted(rng.choice(count, int(rng.integers(2, count)), replace=False)))
