"""The derivative of NumPy code by PyTorch: `torch.compiler.wrap_numpy` reads NumPy calls as tensor operations."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch._dynamo
from numpy.typing import NDArray

from gradcheck.backends.binding import Binding, leaves_of
from gradcheck.backends.flat import F64
from gradcheck.backends.program import Member, Unavailable
from gradcheck.backends.torch import composition, derivatives
from gradcheck.backends.torch.gradient_program import Gradient
from gradcheck.backends.torch.tensors import gradients, seed
from gradcheck.tracebacks import one_line, shortened
from gradcheck.trees import flatten

_compiled: dict[int, tuple[Callable[..., Any], Callable[..., Any]]] = {}


def vjp(
    function: Callable[..., Any], arguments: tuple[tuple[Any, ...], dict[str, Any]], bound: Binding, cotangents: F64
) -> F64:
    """Vector-Jacobian products of a NumPy function, (C, N), by tracing it into PyTorch.

    Raises:
        Unavailable: where the code does not trace, or the traced code gives another value or no derivative.
    """
    values = _values(arguments, bound)
    args, kwargs = bound.call.rebuild(values)
    found = _run(function, args, kwargs)
    parts = [found[i] for i in bound.kept] if len(found) > max(bound.kept) else []
    if not parts or not all(isinstance(p, torch.Tensor) and p.requires_grad for p in parts):
        raise Unavailable("the traced code carries no derivative; float(...) or .item() cuts it off")
    args, kwargs = arguments
    expected = flatten(function(*args, **kwargs)).leaves
    for i, part in zip(bound.kept, parts, strict=True):
        if not np.allclose(part.detach().numpy(), expected[i], rtol=1e-6, atol=0, equal_nan=True):
            raise Unavailable("the traced code gives another value than NumPy")
    wanted = [values[i] for i in bound.places]
    return np.stack([_row(parts, wanted, v, bound) for v in cotangents])


def second(function: Callable[..., Any], bound: Binding, cotangent: F64, *, wide: bool) -> Callable[[F64, F64], F64]:
    """The vjp of a vjp: (point (N,), cotangents of the gradients (C, N)) -> (C, N), for a cotangent (M,) of the function.

    Args:
        wide: in float64 throughout.
    """

    def run(values: list[Any], _bound: Binding, **_: bool) -> Sequence[Any]:
        args, kwargs = bound.call.rebuild(values)
        return _run(function, args, kwargs)

    leaves = tuple(_tensor(x) if isinstance(x, np.ndarray) else x for x in bound.call.leaves)
    gradients = Gradient(run, replace(bound, call=replace(bound.call, leaves=leaves)), cotangent)
    return derivatives.reverse(gradients, gradients.binding, wide=wide)


def composed(
    function: Callable[..., Any],
    arguments: tuple[tuple[Any, ...], dict[str, Any]],
    bound: Binding,
    members: Sequence[Member],
    combine: Callable[..., Any],
    cotangent: F64,
) -> F64:
    """The vector-Jacobian product of a combination of NumPy functions, (N,), by tracing each into PyTorch.

    Raises:
        Unavailable: where one of them does not trace.
    """

    def call(member: Callable[..., Any] | None, values: list[Any]) -> Sequence[Any]:
        args, kwargs = bound.call.rebuild(values)
        return _run(member or function, args, kwargs)

    return composition.vjp(call, _values(arguments, bound), bound, members, combine, cotangent)


def _values(arguments: tuple[tuple[Any, ...], dict[str, Any]], bound: Binding) -> list[Any]:
    """Every leaf of the arguments as a tensor, the differentiable ones with a gradient asked for."""
    values = [_tensor(x) if isinstance(x, np.ndarray) else x for x in leaves_of(arguments)]
    for i, leaf in zip(bound.places, bound.leaves, strict=True):
        values[i] = torch.as_tensor(values[i]).reshape(leaf.shape).requires_grad_()
    return values


def _tensor(array: NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("=")))


def _row(parts: list[Any], wanted: list[Any], v: F64, bound: Binding) -> F64:
    seeds = [seed(v, leaf, part) for leaf, part in zip(bound.outputs, parts, strict=True)]
    return gradients(parts, wanted, seeds, bound.leaves)


def _run(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    known = _compiled.get(id(function))
    if known is None or known[0] is not function:
        traced = torch.compile(
            torch.compiler.wrap_numpy(function),  # type: ignore[no-untyped-call]
            backend="eager",
            fullgraph=True,
            dynamic=False,
        )
        known = _compiled[id(function)] = (function, traced)
    logger = logging.getLogger("torch._dynamo")
    level = logger.level
    try:
        logger.setLevel(logging.ERROR)
        with warnings.catch_warnings(), torch.enable_grad(), _without_recompile_limit():
            warnings.simplefilter("ignore")
            return flatten(known[1](*args, **kwargs)).leaves
    except Exception as error:
        raise Unavailable(f"PyTorch cannot trace it ({_why(error)})") from None
    finally:
        logger.setLevel(level)


def _without_recompile_limit() -> AbstractContextManager[Any]:
    """Every function traced goes through the one wrapper of `wrap_numpy`, which PyTorch would stop compiling after eight."""
    config = torch._dynamo.config
    prefix = "recompile" if hasattr(config, "recompile_limit") else "cache_size"
    limits: dict[str, object] = {f"{prefix}_limit": 2**16, f"accumulated_{prefix}_limit": 2**16}
    found: AbstractContextManager[Any] = config.patch(limits)
    return found


def _why(error: Exception) -> str:
    """The line of a tracing error that names the obstacle."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    explained = [line.removeprefix("Explanation: ") for line in lines if line.startswith("Explanation:")]
    return shortened(re.sub(r" at 0x[0-9a-f]+", "", (explained or [one_line(error)])[0]), 140).rstrip(".")
