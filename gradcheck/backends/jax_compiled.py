"""A function of JAX arrays through `jax.jit`, where it can be traced: an evaluation then costs microseconds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

Arrays = Sequence[Any]
Function = Callable[[Arrays, Arrays], list[Any]]


def compiled(function: Function) -> Function:
    """The same function, compiled; or as it is, where it does not run under a trace but does without.

    Args:
        function: (arrays that move, arrays that stand still) -> arrays. Given NumPy arrays, it sees JAX's.
    """
    traced, plainly = jax.jit(function), list[bool]()

    def run(moving: Arrays, still: Arrays) -> list[Any]:
        if not plainly:
            try:
                return list(traced(moving, still))
            except Exception:
                found = eager(function, moving, still)
                plainly.append(True)
                return found
        return eager(function, moving, still)

    return run


def eager(function: Function, moving: Arrays, still: Arrays) -> list[Any]:
    """Call a function as it is, with arrays that it may donate."""
    return list(function([jnp.array(x) for x in moving], [jnp.array(x, copy=True) for x in still]))
