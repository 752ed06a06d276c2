"""Derivatives of NumPy code by PyTorch: `torch.compiler.wrap_numpy` traces NumPy calls as tensor operations."""

from __future__ import annotations

import logging
import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
import torch._dynamo
import torch._dynamo.guards
from numpy.typing import NDArray
from torch._dynamo import symbolic_convert
from torch.autograd.graph import saved_tensors_hooks

from gradcheck.backends import time_budget
from gradcheck.backends.flat import F64
from gradcheck.backends.flat_call import Binding, flatten_arguments
from gradcheck.backends.program import Member, Unavailable
from gradcheck.backends.torch import composition, derivatives
from gradcheck.backends.torch.silence_logging import silence_logging
from gradcheck.backends.torch.tensors import backpropagate, leaf_part
from gradcheck.backends.torch.time_limit import TimeLimitExceeded
from gradcheck.backends.torch.vjp_program import GradientFunction
from gradcheck.errors import GradcheckError
from gradcheck.tracebacks import read_message, shorten, strip_addresses, summarise_error
from gradcheck.trees import flatten

# The traced form of the last functions, by the id of the function; the function is kept so that its id stays taken.
_compiled: dict[int, tuple[Callable[..., Any], Callable[..., Any]]] = {}
_seconds_spent: WeakKeyDictionary[Callable[..., Any], float] = WeakKeyDictionary()  # by the traced form
MAX_COMPILED = 16  # functions that are kept: a check traces a few, again and again


@contextmanager
def _raising_unavailable() -> Iterator[None]:
    """Turn any exception of the traced code into Unavailable: NumPy runs the code, so the tracing is at fault.

    Raises:
        Unavailable: if something raises inside the context.
    """
    try:
        yield
    except Unavailable:
        raise
    except Exception as error:
        raise Unavailable(f"PyTorch cannot differentiate the traced code ({_describe_obstacle(error)})") from None


@_raising_unavailable()
def evaluate_vjp(
    function: Callable[..., Any], arguments: tuple[tuple[Any, ...], dict[str, Any]], binding: Binding, cotangents: F64
) -> F64:
    """Return vector-Jacobian products of a NumPy function, (C, N), by tracing it into PyTorch.

    Args:
        arguments: (args, kwargs) at the point.
        cotangents: (C, M).

    Raises:
        Unavailable: if the code cannot be traced or differentiated, or returns another value or no derivative when traced.
    """
    values = _make_tensors(arguments, binding)
    returned = _call_traced(function, values, binding)
    parts = [returned[i] for i in binding.output_places]
    if not all(isinstance(p, torch.Tensor) and p.requires_grad for p in parts):
        raise Unavailable("the traced code carries no derivative; float(...) or .item() cuts it off")
    args, kwargs = arguments
    expected = flatten(function(*args, **kwargs)).leaves
    for i, part in zip(binding.output_places, parts, strict=True):
        if not np.allclose(part.detach().numpy(), expected[i], rtol=1e-6, atol=0, equal_nan=True):
            raise Unavailable("the traced code gives another value than NumPy")
    inputs = [values[i] for i in binding.input_places]
    seeds = [[leaf_part(v, leaf, part) for leaf, part in zip(binding.outputs, parts, strict=True)] for v in cotangents]
    return np.stack([backpropagate(parts, inputs, of_row, binding.leaves) for of_row in seeds])


def make_second_vjp(function: Callable[..., Any], binding: Binding, cotangent: F64, *, twin: bool) -> Callable[[F64, F64], F64]:
    """Make the vjp of a vjp: (point (N,), cotangents of the gradients (C, N)) -> (C, N).

    Args:
        cotangent: of the function's outputs, (M,); it stays fixed.
        twin: whether to compute in float64.
    """

    def run(values: list[Any], _binding: Binding, **_: bool) -> Sequence[Any]:
        return _call_traced(function, values, binding)

    tensors = tuple(_to_tensor(x) if isinstance(x, np.ndarray) else x for x in binding.call.leaves)
    gradient_function = GradientFunction(run, replace(binding, call=replace(binding.call, leaves=tensors)), cotangent)
    return _raising_unavailable()(derivatives.make_vjp(gradient_function, gradient_function.gradient_binding, twin=twin))


@_raising_unavailable()
def evaluate_composed_vjp(
    function: Callable[..., Any],
    arguments: tuple[tuple[Any, ...], dict[str, Any]],
    binding: Binding,
    members: Sequence[Member],
    combine: Callable[..., Any],
    cotangent: F64,
) -> F64:
    """Return the vector-Jacobian product of a combination of NumPy functions, (N,), by tracing each into PyTorch.

    Args:
        function: the target, which a member None stands for.
        arguments: (args, kwargs) at the point.
        members: the functions, and a factor for each leaf.
        combine: makes one output of as many as there are members.
        cotangent: (M,).

    Raises:
        Unavailable: if one of them cannot be traced.
    """

    def call(member: Callable[..., Any] | None, values: list[Any]) -> Sequence[Any]:
        return _call_traced(member or function, values, binding)

    return composition.evaluate_vjp(call, _make_tensors(arguments, binding), binding, members, combine, cotangent)


def _make_tensors(arguments: tuple[tuple[Any, ...], dict[str, Any]], binding: Binding) -> list[Any]:
    """Convert every array of the arguments to a tensor; the differentiable ones require a gradient."""
    values = [_to_tensor(x) if isinstance(x, np.ndarray) else x for x in flatten_arguments(arguments)]
    for i, leaf in zip(binding.input_places, binding.leaves, strict=True):
        values[i] = torch.as_tensor(values[i]).reshape(leaf.shape).requires_grad_()
    return values


def _to_tensor(array: NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("=")))


def _call_traced(function: Callable[..., Any], values: Sequence[Any], binding: Binding) -> list[Any]:
    """Call a traced function on copies of the inputs, which it may write to; return every leaf of what it returns.

    The outputs have the shapes that NumPy gives them: a traced `np.median` returns an axis of length 1 more.

    Raises:
        Unavailable: if the code cannot be traced, or an output is missing or has another number of entries than in NumPy.
    """
    args, kwargs = binding.call.rebuild([x.clone() if isinstance(x, torch.Tensor) else x for x in values])
    returned = list(_run_traced(function, args, kwargs))
    for i, leaf in zip(binding.output_places, binding.outputs, strict=True):
        if i >= len(returned):
            raise Unavailable(f"the traced code does not return {leaf.path}")
        shape = tuple(np.shape(returned[i]))
        if math.prod(shape) != leaf.entries:
            raise Unavailable(f"the traced code returns shape {shape} for {leaf.path}, and NumPy {leaf.shape}")
        if shape != leaf.shape:
            returned[i] = returned[i].reshape(leaf.shape)
    return returned


def _run_traced(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    traced = _trace(function)
    logger = logging.getLogger("torch._dynamo")
    level = logger.level
    try:
        logger.setLevel(logging.ERROR)
        with (
            warnings.catch_warnings(),
            silence_logging(),
            torch.enable_grad(),
            _without_recompile_limit(),
            _without_guard_timing(),
            _allowing_updates_in_place(),
            _time_limit(traced),
        ):
            warnings.simplefilter("ignore")
            return flatten(traced(*args, **kwargs)).leaves
    except TimeLimitExceeded:
        seconds = time_budget.SECONDS.get()
        raise Unavailable(f"PyTorch does not trace it within {seconds:g} s (--budget allows more)") from None
    except Exception as error:
        raise Unavailable(f"PyTorch cannot trace it ({_describe_obstacle(error)})") from None
    finally:
        logger.setLevel(level)


def _trace(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function as one of tensors, which PyTorch traces at its first call."""
    entry = _compiled.get(id(function))
    if entry is not None and entry[0] is function:
        return entry[1]
    wrapper = torch.compiler.wrap_numpy(function)  # type: ignore[no-untyped-call]
    # PyTorch keeps compiled code by code object, and searches all that it keeps: each function gets a code object of its own.
    wrapper.__code__ = wrapper.__code__.replace()
    traced = torch.compile(wrapper, backend="eager", fullgraph=True, dynamic=False)
    while len(_compiled) >= MAX_COMPILED:
        del _compiled[next(iter(_compiled))]
    _compiled[id(function)] = (function, traced)
    return traced


def _allowing_updates_in_place() -> AbstractContextManager[Any]:
    """Keep copies of what the backward pass needs, so that the code may write to its arrays later, as in `p /= p.sum()`."""
    return saved_tensors_hooks(torch.clone, lambda saved: saved)


def _without_recompile_limit() -> AbstractContextManager[Any]:
    """Lift PyTorch's limit on recompilation, which is eight: a function is traced anew for each shape of its inputs."""
    config = torch._dynamo.config
    prefix = "recompile" if hasattr(config, "recompile_limit") else "cache_size"
    limits: dict[str, object] = {f"{prefix}_limit": 2**16, f"accumulated_{prefix}_limit": 2**16}
    patched: AbstractContextManager[Any] = config.patch(limits)
    return patched


@contextmanager
def _without_guard_timing() -> Iterator[None]:
    """Leave out what PyTorch measures for its log after a trace: it empties the processor's caches first, 20 ms of about 60."""
    guards: Any = torch._dynamo.guards
    measure = getattr(guards, "profile_guard_manager", None)
    guards.profile_guard_manager = lambda *_: 0.0
    try:
        yield
    finally:
        guards.profile_guard_manager = measure


@contextmanager
def _time_limit(traced: Callable[..., Any]) -> Iterator[None]:
    """Stop the tracing of a function at an instruction after which its time is used up, that of earlier traces included.

    Raises:
        TimeLimitExceeded: if it is stopped.
    """
    translator: Any = symbolic_convert.InstructionTranslatorBase
    step, start = translator.step, time.process_time()
    seconds = time_budget.SECONDS.get() - _seconds_spent.get(traced, 0.0)

    def limited_step(self: Any) -> Any:
        if time.process_time() - start > seconds:
            raise TimeLimitExceeded
        return step(self)

    translator.step = limited_step
    try:
        yield
    finally:
        translator.step = step
        _seconds_spent[traced] = _seconds_spent.get(traced, 0.0) + time.process_time() - start


def _describe_obstacle(error: Exception) -> str:
    """Return the line of a tracing error that names the obstacle."""
    lines = [line.strip() for line in read_message(error).splitlines() if line.strip()]
    explanations = [line.removeprefix("Explanation: ") for line in lines if line.startswith("Explanation:")]
    summary = str(error) if isinstance(error, GradcheckError) else summarise_error(error)
    return shorten(strip_addresses((explanations or [summary])[0]), 140).rstrip(".")
