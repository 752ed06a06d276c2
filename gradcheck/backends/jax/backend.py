"""The JAX backend."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
from numpy.typing import NDArray

from gradcheck.backends.jax.arrays import is_differentiable, is_x64_enabled, use_x64
from gradcheck.backends.jax.bind import bind
from gradcheck.backends.jax.functional import flatten_target
from gradcheck.backends.program import Program
from gradcheck.backends.stateless import StatelessBackend
from gradcheck.errors import InputError
from gradcheck.targets.case import Case

if TYPE_CHECKING:
    from gradcheck.backends.backend import Backend
    from gradcheck.targets.signature import Inputs


class JaxBackend(StatelessBackend):
    """Functions on JAX arrays and callable pytrees. Their arrays cannot change; see `Backend` for each method."""

    def bind(self, case: Case, target: Callable[..., Any], inputs: Inputs) -> Program:
        """Bind a function, or a callable pytree whose arrays become leaves `params['name']`."""
        return bind(case, target, inputs)

    def default_dtype(self, target: Any) -> str | None:
        """Return the dtype of the first floating array of a pytree; for a function, the dtype that JAX computes in."""
        tree = flatten_target(target)
        floats = [x.dtype.name for x in tree.leaves if is_differentiable(x)] if tree else []
        return floats[0] if floats else "float64" if is_x64_enabled() else "float32"

    def from_numpy(self, array: NDArray[Any], layout: str | None = None, dtype: str | None = None) -> Any:
        """Return a JAX array. One of 64 bits keeps them here, and is narrowed where a check needs it."""
        if layout is not None:
            raise InputError(f"layout={layout!r} is for torch targets: JAX arrays are dense; sparse(...) draws one with zeros")
        with use_x64(True):
            return jnp.array(array, dtype)


BACKEND: Backend = JaxBackend()
