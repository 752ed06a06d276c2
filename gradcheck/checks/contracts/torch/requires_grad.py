"""Contract `requires-grad`: the gradients are the same whichever inputs require one."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from gradcheck.checks.contracts.torch.support.plain_vjp import (
    SAMPLE,
    Baseline,
    NotApplicable,
    compare_gradients,
    compute_flat_vjp,
)
from gradcheck.seeds import make_generator

NAME = "requires-grad"
FIX = "does the backward read ctx.needs_input_grad correctly, and return None in the right places?"
# Every subset of the leaves is tried for up to this many leaves.
MAX_EXHAUSTIVE = 4


def find_breach(base: Baseline) -> str:
    """Name the subset of the inputs for which a gradient differs; '' if there is none.

    Raises:
        NotApplicable: if the forward refuses a subset.
    """
    paths = [leaf.path for leaf in base.layer.leaves]
    for subset in _subsets(len(paths)):
        leaves = [x.detach().clone().requires_grad_(i in subset) for i, x in enumerate(base.inputs)]
        names = ", ".join(paths[i] for i in subset)
        try:
            outputs = base.layer.call(leaves)
        except Exception as error:
            raise NotApplicable(f"it does not run if only {names} requires a gradient: {type(error).__name__}") from error
        gradients = compute_flat_vjp(outputs, [leaves[i] for i in subset], base.new_cotangents())
        by_leaf = dict(zip(subset, gradients, strict=True))
        difference = compare_gradients(base, [by_leaf.get(i) for i in range(len(paths))])
        if difference:
            return f"if only {names} requires a gradient, {difference}"
    return ""


def _subsets(count: int) -> Iterator[tuple[int, ...]]:
    """Yield every proper subset of a few leaves, or of many leaves some single ones and some random subsets."""
    if count <= MAX_EXHAUSTIVE:
        for size in range(1, count):
            yield from combinations(range(count), size)
        return
    rng = make_generator(0, "subsets", count)
    yield from ((int(i),) for i in rng.choice(count, min(SAMPLE, count), replace=False))
    for _ in range(SAMPLE):
        yield tuple(int(i) for i in sorted(rng.choice(count, int(rng.integers(2, count)), replace=False)))
