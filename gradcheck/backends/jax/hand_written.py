"""Derivatives written by hand for a JAX target, with respect to complex inputs in JAX's convention."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from gradcheck.backends import hand_written
from gradcheck.backends.flat import F64, Leaf
from gradcheck.backends.flat_call import rebuild_outputs
from gradcheck.backends.jax.arrays import arrays_at, conjugate
from gradcheck.backends.jax.functional import JaxFunctionalCall, fill_leaves
from gradcheck.backends.program import Claim
from gradcheck.targets.case import Case

if TYPE_CHECKING:
    from gradcheck.backends.jax.derivatives import TracedTarget


def make_analytic_claim(case: Case, call: JaxFunctionalCall, native: TracedTarget, returned: Any) -> tuple[Claim, ...]:
    """Make the claim from derivatives that the user gave; () if there are none.

    Args:
        native: the target in its own dtype.
        returned: what the target returned at the primal.
    """
    binding, is_jvp = native.binding, "jvp" in case.claims

    def leaves(at: F64) -> list[Any]:
        return fill_leaves(binding, [jnp.array(x) for x in arrays_at(at, binding.leaves, twin=False)])

    def cotangent(v: F64) -> Any:
        arrays = [conjugate(jnp.array(array)) for array in arrays_at(v, binding.outputs, twin=False)]
        return rebuild_outputs(returned, binding, arrays)

    def to_numpy(part: Any, _: Leaf) -> NDArray[Any]:
        array = np.asarray(part)
        return array if is_jvp else np.conj(array)

    adapter = hand_written.Adapter(
        binding.call,
        binding.leaves,
        binding.outputs,
        native.eps,
        lambda at: call.arguments(leaves(at)),
        cotangent,
        lambda u: [jnp.array(x) for x in arrays_at(u, binding.leaves, twin=False)],
        to_numpy,
        binding.call.paths,
        (lambda at: call.params(leaves(at))) if call.tree else None,
        rebuild=lambda every: (*call.arguments(every), call.params(every)),
        rebuild_outputs=lambda arrays: rebuild_outputs(returned, binding, arrays),
    )
    return hand_written.make_claims(case.claims, adapter)
