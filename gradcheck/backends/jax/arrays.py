"""JAX arrays and float64 numbers: their dtypes, with 64 bits and without, and JAX's convention for complex derivatives.

JAX's vjp of a cotangent pairs as Re(v f), and its gradient of a real L with respect to a + ib is dL/da - i dL/db: both are
the conjugates of what a `Program` holds. Tangents and values are the same in both.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from gradcheck.backends.flat import EPS, F64, from_flat, to_flat

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradcheck.backends.flat import Leaf

WIDE = {"bfloat16": "float64", "float16": "float64", "float32": "float64", "complex64": "complex128"}
NARROW = {"float64": "float32", "complex128": "complex64"}


def x64(on: bool) -> AbstractContextManager[Any]:
    """A context in which JAX computes with 64 bits, or does not."""
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(on)  # type: ignore[no-any-return]
    from jax.experimental import enable_x64  # its home before

    return enable_x64(on)  # type: ignore[no-any-return]


def is_wide() -> bool:
    """Whether JAX computes with 64 bits now."""
    return bool(jax.dtypes.canonicalize_dtype("float64") == "float64")


def is_array(leaf: Any) -> bool:
    """Whether a leaf is an array of JAX or of NumPy, which JAX takes, or a NumPy scalar."""
    return isinstance(leaf, jax.Array | np.ndarray | np.generic)


def is_differentiable(leaf: Any) -> bool:
    """Whether a leaf is a floating or complex array."""
    return is_array(leaf) and leaf.dtype.name in EPS


def dtype_of(leaf: Any, *, bits64: bool) -> str:
    """The name of the dtype that JAX computes with where it is given a leaf, an array or a Python number."""
    name = str(np.asarray(leaf).dtype.name) if not is_array(leaf) else str(leaf.dtype.name)
    return name if bits64 else NARROW.get(name, name)


def at_point(point: F64, leaves: Sequence[Leaf], *, wide: bool) -> list[Any]:
    """NumPy arrays of the differentiable leaves, in their own dtype or widened."""
    return [from_flat(point[leaf.span], leaf).astype(dtype_at(leaf, wide=wide)) for leaf in leaves]


def dtype_at(leaf: Leaf, *, wide: bool) -> Any:
    """A leaf's dtype, or that of the twin."""
    return jnp.dtype(WIDE.get(leaf.dtype, leaf.dtype) if wide else leaf.dtype)


def widened(leaf: Any) -> Any:
    """A leaf that is not differentiated, as the twin is given it: floating arrays in float64, all else as it is."""
    if not (is_array(leaf) and leaf.dtype.name in WIDE):
        return leaf
    found = np.asarray(leaf).astype(WIDE[leaf.dtype.name])
    return jnp.array(found) if isinstance(leaf, jax.Array) else found


def narrowed(leaf: Any, *, bits64: bool) -> Any:
    """A JAX array that is not differentiated, in a dtype that JAX computes with."""
    name = str(leaf.dtype.name)
    return leaf if bits64 or name not in NARROW else jnp.array(np.asarray(leaf).astype(NARROW[name]))


def copied(leaf: Any) -> Any:
    """A leaf that the target may write to, or donate."""
    if isinstance(leaf, jax.Array):
        return jnp.array(leaf, copy=True)
    return leaf.copy() if isinstance(leaf, np.ndarray) else leaf


def numbers(arrays: Sequence[Any]) -> F64:
    """Arrays as one vector of float64 numbers."""
    return np.concatenate([to_flat(x) for x in arrays])


def turned(array: Any) -> Any:
    """From a cotangent or gradient in JAX's convention to that of a program, and back."""
    return jnp.conj(array) if jnp.issubdtype(array.dtype, jnp.complexfloating) else array
