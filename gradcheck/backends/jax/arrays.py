"""JAX arrays and flat float64 vectors: dtypes with 64 bits and without, and JAX's convention for complex derivatives.

JAX's vjp of a cotangent pairs as Re(v f), and its gradient of a real L with respect to a + ib is dL/da - i dL/db. Both are
the conjugates of what a `Program` holds. Tangents and values are the same in both.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gradcheck.backends.flat import EPS, F64, Leaf, from_flat, to_flat

# The dtype that the twin uses for each lower one.
TWIN_DTYPES = {"bfloat16": "float64", "float16": "float64", "float32": "float64", "complex64": "complex128"}
# The dtype that JAX uses for each dtype of 64 bits unless 64 bits are enabled.
NARROW_DTYPES = {"float64": "float32", "complex128": "complex64"}


def use_x64(on: bool) -> AbstractContextManager[Any]:
    """Return a context in which JAX computes with 64 bits, or does not."""
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(on)  # type: ignore[no-any-return]
    from jax.experimental import enable_x64  # Older versions have it here.

    return enable_x64(on)  # type: ignore[no-any-return]


def is_x64_enabled() -> bool:
    """Say whether JAX computes with 64 bits now."""
    return bool(jax.dtypes.canonicalize_dtype("float64") == "float64")


def is_array(leaf: Any) -> bool:
    """Say whether a leaf is an array that JAX takes: one of JAX or NumPy, or a NumPy scalar."""
    return isinstance(leaf, jax.Array | np.ndarray | np.generic)


def is_differentiable(leaf: Any) -> bool:
    """Say whether a leaf is a floating or complex array."""
    return is_array(leaf) and leaf.dtype.name in EPS


def dtype_of(leaf: Any, *, bits64: bool) -> str:
    """Return the name of the dtype that JAX uses for a leaf, which is an array or a Python number."""
    name = str(np.asarray(leaf).dtype.name) if not is_array(leaf) else str(leaf.dtype.name)
    return name if bits64 else NARROW_DTYPES.get(name, name)


def arrays_at(point: F64, leaves: Sequence[Leaf], *, twin: bool) -> list[Any]:
    """Return the differentiable leaves at a point (N,) as NumPy arrays, in their own dtype or that of the twin."""
    return [from_flat(point[leaf.span], leaf).astype(leaf_dtype(leaf, twin=twin)) for leaf in leaves]


def leaf_dtype(leaf: Leaf, *, twin: bool) -> Any:
    """Return the dtype of a leaf, in the target or in its twin."""
    return jnp.dtype(TWIN_DTYPES.get(leaf.dtype, leaf.dtype) if twin else leaf.dtype)


def widen(leaf: Any) -> Any:
    """Convert a leaf that is not differentiated for the twin: floating arrays to float64, anything else stays."""
    if not (is_array(leaf) and leaf.dtype.name in TWIN_DTYPES):
        return leaf
    converted = np.asarray(leaf).astype(TWIN_DTYPES[leaf.dtype.name])
    return jnp.array(converted) if isinstance(leaf, jax.Array) else converted


def narrow(leaf: Any, *, bits64: bool) -> Any:
    """Convert a JAX array that is not differentiated to a dtype that JAX computes with."""
    name = str(leaf.dtype.name)
    return leaf if bits64 or name not in NARROW_DTYPES else jnp.array(np.asarray(leaf).astype(NARROW_DTYPES[name]))


def copy_array(leaf: Any) -> Any:
    """Copy an array, so that the target may write to it or donate it; anything else stays."""
    if isinstance(leaf, jax.Array):
        return jnp.array(leaf, copy=True)
    return leaf.copy() if isinstance(leaf, np.ndarray) else leaf


def concatenate_flat(arrays: Sequence[Any]) -> F64:
    """Return the entries of arrays as one vector of float64 numbers."""
    return np.concatenate([to_flat(x) for x in arrays])


def conjugate(array: Any) -> Any:
    """Convert a cotangent or gradient from JAX's convention to that of a program, or back."""
    return jnp.conj(array) if jnp.issubdtype(array.dtype, jnp.complexfloating) else array
