"""A function of JAX arrays through `jax.jit`, where it can be traced: an evaluation then costs microseconds."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from gradcheck.tracebacks import advice_on, one_line

LITTLE = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_use_fusion_emitters": False,
    "xla_cpu_parallel_codegen_split_count": 1,
}
Arrays = Sequence[Any]
Function = Callable[[Arrays, Arrays], list[Any]]  # (arrays that move, arrays that stand still) -> arrays


def said(error: Exception) -> str:
    """What was raised, in a line; of a leaked tracer what to do about it."""
    return one_line(error) + advice_on(error)


@functools.cache
def quickly() -> dict[str, Any]:
    """Options of `jax.jit` that make it optimise little, where this version has them: it compiles in a third of the time."""
    try:
        jax.jit(jnp.negative, compiler_options=LITTLE)(1.0)
    except Exception:
        return {}
    return {"compiler_options": LITTLE}


def compiled(jitted: Function, plain: Function, *, small: bool) -> Function:
    """A function compiled; or as it is, where it does not run under a trace but does without.

    Args:
        jitted: from which a trace is made; `plain` is the same without any `jit` of ours in it.
        small: it is compiled quickly, to code that need not be fast.
    """
    traced, plainly = jax.jit(jitted, **(quickly() if small else {})), list[bool]()

    def run(moving: Arrays, still: Arrays) -> list[Any]:
        if not plainly:
            try:
                return list(traced(moving, still))
            except Exception:
                found = eager(plain, moving, still)
                plainly.append(True)
                return found
        return eager(plain, moving, still)

    return run


def eager(function: Function, moving: Arrays, still: Arrays) -> list[Any]:
    """Call a function as it is, with arrays that it may donate."""
    return list(function([jnp.array(x) for x in moving], [jnp.array(x, copy=True) for x in still]))
