"""Derivatives written by hand for a JAX target; those with respect to complex inputs are in JAX's convention."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from gradcheck.backends import analytic
from gradcheck.backends.flat import from_flat
from gradcheck.backends.jax.arrays import at_point, dtype_at
from gradcheck.backends.jax.functional import leaves_with
from gradcheck.trees import flatten

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradcheck.backends.flat import F64, Leaf
    from gradcheck.backends.jax.derivatives import Traced
    from gradcheck.backends.jax.functional import Called
    from gradcheck.backends.program import Claim
    from gradcheck.targets.case import Case


def written(case: Case, called: Called, native: Traced, first: Any) -> tuple[Claim, ...]:
    """The claim made by hand, where there is one.

    Args:
        first: what the target returned.
    """
    bound, pushed = native.bound, "jvp" in case.claims

    def leaves(at: F64) -> list[Any]:
        return leaves_with(bound, [jnp.array(x) for x in at_point(at, bound.leaves, wide=False)])

    def cotangent(v: F64) -> Any:
        flat = flatten(first)
        values = list(flat.leaves)
        for i, leaf in zip(bound.kept, bound.outputs, strict=True):
            values[i] = jnp.array(np.conj(from_flat(v[leaf.span], leaf)).astype(dtype_at(leaf, wide=False)))
        return flat.rebuild(values)

    def read(part: Any, _: Leaf) -> NDArray[Any]:
        found = np.asarray(part)
        return found if pushed else np.conj(found)

    host = analytic.Host(
        bound.leaves,
        bound.outputs,
        native.eps,
        lambda at: called.arguments(leaves(at)),
        cotangent,
        lambda u: [jnp.array(x) for x in at_point(u, bound.leaves, wide=False)],
        read,
        (lambda at: called.params(leaves(at))) if called.tree else None,
    )
    found = analytic.claim(case.claims, host)
    return () if found is None else (found,)
