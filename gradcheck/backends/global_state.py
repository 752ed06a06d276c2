"""State that a target may change: saved before a check, restored after it, replayed before every evaluation."""

from __future__ import annotations

import functools
import os
import random
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.backends.generators import find_generators, state_accessors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


COMPILER_VARIABLES = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")  # set by torch.compile where the user did not


def _torch_states() -> Any:
    torch = sys.modules["torch"]
    states = [torch.get_rng_state()]
    if torch.cuda.is_initialized():
        states += torch.cuda.get_rng_state_all()
    return states


def _set_torch_states(states: Any) -> None:
    torch = sys.modules["torch"]
    torch.set_rng_state(states[0])
    if len(states) > 1:
        torch.cuda.set_rng_state_all(states[1:])


_SOURCES: dict[str, tuple[Callable[[], Any], Callable[[Any], None]]] = {
    "random": (random.getstate, random.setstate),
    "numpy.random": (lambda: np.random.get_state(legacy=False), np.random.set_state),
    "torch": (_torch_states, _set_torch_states),
}


States = dict[Any, Any]  # of random generators: the global ones by name, others by the generator itself


def snapshot(*holders: Any) -> States:
    """Return the state of every global random generator in use, and of those that some values hold.

    A generator that refuses to have its state read or set is left out.

    Args:
        holders: functions, objects and containers.
    """
    states: States = {name: read() for name, (read, _) in _SOURCES.items() if name != "torch" or "torch" in sys.modules}
    for generator in find_generators(*holders):
        with suppress(Exception):
            read, write = state_accessors(generator)
            state = read()
            write(state)
            states[generator] = state
    return states


def _accessors(source: Any) -> tuple[Callable[[], Any], Callable[[Any], None]]:
    return _SOURCES[source] if isinstance(source, str) else state_accessors(source)


def seed_generators(draw: np.random.Generator) -> None:
    """Seed every global random generator in use, so that what a function draws depends on `draw` alone."""
    random.seed(int(draw.integers(2**31)))
    np.random.seed(int(draw.integers(2**31)))
    if "torch" in sys.modules:
        _seed_torch(sys.modules["torch"], int(draw.integers(2**31)))


def _seed_torch(torch: Any, seed: int) -> None:
    """Seed PyTorch; without an accelerator in the build its CPU generator alone, as `manual_seed` would be 1 ms slower."""
    if torch.version.cuda is None and torch.version.hip is None and not torch.accelerator.is_available():
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


def restore(states: States) -> None:
    """Restore the states of random generators."""
    for source, state in states.items():
        _accessors(source)[1](state)


def changes_since(before: States) -> States:
    """Return the saved states of the generators that have drawn since."""
    return {source: state for source, state in before.items() if not _same(state, _accessors(source)[0]())}


def draw_next(states: States) -> None:
    """Have functions that replay these states draw the numbers that follow those of the latest call."""
    for source in states:
        states[source] = _accessors(source)[0]()


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(a[k], b[k]) for k in a)
    if isinstance(a, tuple):  # Python's own state holds plain numbers only.
        return bool(a == b)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(_same, a, b))
    return bool(np.array_equal(a, b))


def replaying(function: Callable[..., Any], states: States) -> Callable[..., Any]:
    """Return a function that restores random states before each call; the function itself if there are none."""
    if not states:
        return function

    @functools.wraps(function)
    def call_with_replayed_states(*args: Any, **kwargs: Any) -> Any:
        restore(states)
        return function(*args, **kwargs)

    return call_with_replayed_states


@contextmanager
def preserving(*holders: Any) -> Iterator[None]:
    """Restore on exit what a check may change for the whole process.

    These are random states, PyTorch's default dtype and grad mode, variables of the environment that its compiler sets, and
    whether JAX computes with 64 bits.

    Args:
        holders: whose generators are restored, too.
    """
    environment = {name: os.environ.get(name) for name in COMPILER_VARIABLES}
    states, torch, jax = snapshot(*holders), sys.modules.get("torch"), sys.modules.get("jax")
    x64_enabled = jax and jax.config.jax_enable_x64
    dtype, grad = (torch.get_default_dtype(), torch.is_grad_enabled()) if torch else (None, True)
    try:
        yield
    finally:
        restore(states)
        for variable, text in environment.items():
            if text is None:
                os.environ.pop(variable, None)
            else:
                os.environ[variable] = text
        if torch:
            torch.set_default_dtype(dtype)
            torch.set_grad_enabled(grad)
        if jax and jax.config.jax_enable_x64 != x64_enabled:
            jax.config.update("jax_enable_x64", x64_enabled)
