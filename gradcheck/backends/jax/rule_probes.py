"""Watch the calls of custom rules in a JAX function, inside of `jit`, `scan`, `vmap`, `grad` and `checkpoint` too.

Before a rule is called, JAX is given a function without outputs to run on the arguments, a probe. Whatever transformation the
call goes through, the probe goes through as well, and in the end it hands the concrete arguments to Python.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import jax
from jax.custom_derivatives import SymbolicZero

# reached: the places of the arrays that carry a tangent; mapped: of each `vmap` around, from the inside out, whether it maps
# each array, along its first axis; then the arrays.
Store = Callable[..., None]
RULE_CLASSES: tuple[Any, ...] = (jax.custom_vjp, jax.custom_jvp)
INERT_OPTION = "jax_hlo_source_file_canonicalization_regex"  # It only changes names of files in compiled code.
_counter = itertools.count()


@contextmanager
def watching_rules(before_call: Callable[[Any, tuple[Any, ...], dict[str, Any]], None]) -> Iterator[None]:
    """Call a function with every `custom_vjp` and `custom_jvp` object and its arguments, before the object is called."""
    originals = {cls: cls.__call__ for cls in RULE_CLASSES}
    try:
        for cls, original in originals.items():
            cls.__call__ = _wrap_call(original, before_call)
        with _tracing_anew():
            yield
    finally:
        for cls, original in originals.items():
            cls.__call__ = original


def _wrap_call(original: Callable[..., Any], before_call: Callable[..., None]) -> Callable[..., Any]:
    def call(rule: Any, *args: Any, **kwargs: Any) -> Any:
        if getattr(rule.fun, "__module__", "") != __name__:  # a probe
            before_call(rule, args, kwargs)
        return original(rule, *args, **kwargs)

    return call


@contextmanager
def _tracing_anew() -> Iterator[None]:
    """Make JAX trace again what it has traced before: traces depend on its configuration, and this one is never used twice."""
    before = getattr(jax.config, INERT_OPTION, None)
    jax.config.update(INERT_OPTION, f"(?!)gradcheck {next(_counter)}")  # an expression that matches nothing
    try:
        yield
    finally:
        jax.config.update(INERT_OPTION, before)


def probe_arrays(store: Store, arrays: Sequence[Any]) -> None:
    """Have JAX call `store(reached, mapped, *arrays)` with concrete arrays as often as it runs this part of the function.

    The arrays may be traced. `store` is called in a thread of JAX's; it must neither raise nor call JAX.
    """
    _make_probe(store, frozenset(), ())(*arrays)


def _make_probe(store: Store, reached: frozenset[int], mapped: tuple[tuple[bool, ...], ...]) -> Callable[..., Any]:
    """Make a probe that notes in its rules how it was transformed: under each transformation another probe runs."""

    def emit(*arrays: Any) -> tuple[()]:
        jax.debug.callback(partial(store, reached, mapped), *arrays)
        return ()

    def emit_batch(_: int, is_mapped: Sequence[bool], *arrays: Any) -> tuple[tuple[()], tuple[()]]:
        _make_probe(store, reached, (*mapped, tuple(is_mapped)))(*arrays)
        return (), ()

    def emit_tangents(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[tuple[()], tuple[()]]:
        carrying = {i for i, tangent in enumerate(tangents) if not isinstance(tangent, SymbolicZero)}
        _make_probe(store, reached | carrying, mapped)(*primals)
        return (), ()

    batched = jax.custom_batching.custom_vmap(emit)
    batched.def_vmap(emit_batch)
    probe = jax.custom_jvp(lambda *arrays: batched(*arrays))
    probe.defjvp(emit_tangents, symbolic_zeros=True)
    return probe  # type: ignore[no-any-return]
