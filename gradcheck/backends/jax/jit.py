"""Functions of JAX arrays through `jax.jit`, if they can be traced: an evaluation then costs microseconds."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from gradcheck.tracebacks import advise_on_error, summarise_error

# Options of XLA that make it compile fast, to slower code.
LOW_OPTIMIZATION = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_use_fusion_emitters": False,
    "xla_cpu_parallel_codegen_split_count": 1,
}
Arrays = Sequence[Any]
ArrayFunction = Callable[[Arrays, Arrays], list[Any]]  # (arrays that vary, constant arrays) -> arrays


def describe_error(error: Exception) -> str:
    """Describe an exception in one line, with advice if there is some, as for a leaked tracer."""
    return summarise_error(error) + advise_on_error(error)


@functools.cache
def fast_compile_options() -> dict[str, Any]:
    """Return options of `jax.jit` for little optimisation, with which it compiles in a third of the time.

    A version of JAX that lacks them gets none.
    """
    try:
        jax.jit(jnp.negative, compiler_options=LOW_OPTIMIZATION)(1.0)
    except Exception:
        return {}
    return {"compiler_options": LOW_OPTIMIZATION}


def compile_function(jitted: ArrayFunction, unjitted: ArrayFunction, *, small: bool) -> ArrayFunction:
    """Compile a function; if it runs only outside of a trace, later calls are made without `jit`.

    Args:
        unjitted: the same function, without any `jit` of gradcheck's in it.
        small: whether to compile fast, to code that need not be.
    """
    compiled = jax.jit(jitted, **(fast_compile_options() if small else {}))
    is_traceable = True

    def run(moving: Arrays, constants: Arrays) -> list[Any]:
        nonlocal is_traceable
        if is_traceable:
            try:
                return list(compiled(moving, constants))
            except Exception:
                outputs = call_eagerly(unjitted, moving, constants)
                is_traceable = False  # only if the call without `jit` did not raise
                return outputs
        return call_eagerly(unjitted, moving, constants)

    return run


def call_eagerly(function: ArrayFunction, moving: Arrays, constants: Arrays) -> list[Any]:
    """Call a function without compiling it, with arrays that it may donate."""
    return list(function([jnp.array(x) for x in moving], [jnp.array(x, copy=True) for x in constants]))
