"""Random numbers of a float64 twin: drawn without 64 bits, since JAX draws other numbers with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import jax
import jax.numpy as jnp

from gradcheck.backends.jax.arrays import use_x64

# Functions of `jax.random` whose numbers do not depend on arrays that a lower precision would round.
SAMPLERS = (
    "bernoulli", "categorical", "cauchy", "exponential", "gumbel", "laplace", "logistic", "normal", "rademacher",
    "truncated_normal", "uniform",
)  # fmt: skip


@contextmanager
def drawing_without_x64() -> Iterator[None]:
    """Make the samplers of `jax.random` draw without 64 bits, and convert what they draw.

    The rules of a `custom_vjp` run long after the function was called, so this must hold for the whole of a derivative.
    """
    saved = {name: getattr(jax.random, name) for name in SAMPLERS}
    try:
        for name, sampler in saved.items():
            setattr(jax.random, name, _without_x64(sampler))
        yield
    finally:
        for name, sampler in saved.items():
            setattr(jax.random, name, sampler)


def _without_x64(sampler: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(sampler)
    def draw(*args: Any, **kwargs: Any) -> Any:
        narrowed_kwargs = {name: _narrow(value) for name, value in kwargs.items()}
        with use_x64(False):
            drawn = sampler(*map(_narrow, args), **narrowed_kwargs)
        return drawn.astype("float64") if drawn.dtype == "float32" else drawn

    return draw


def _narrow(value: Any) -> Any:
    """Convert an array of float64, or the dtype itself, to float32."""
    if isinstance(value, jax.Array) and value.dtype == "float64":
        return value.astype("float32")
    is_dtype = isinstance(value, str | type | jnp.dtype) and value is not float
    return "float32" if is_dtype and value == jnp.dtype("float64") else value
