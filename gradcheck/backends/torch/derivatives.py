"""What is to be proved of a torch target: the derivative by hand, and PyTorch's own in reverse and forward mode."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.autograd import forward_ad

from gradcheck.backends import analytic
from gradcheck.backends.flat import EPS, F64, Leaf, from_flat
from gradcheck.backends.program import Claim, Unavailable
from gradcheck.backends.torch import sparse, vjps
from gradcheck.backends.torch.parameter_swap import until_differentiated
from gradcheck.backends.torch.precision import is_half, plainly, wide_default
from gradcheck.backends.torch.tensors import (
    carries_gradient,
    flat_of_all,
    leaves_at,
    seed,
    tensor_of,
    to_numpy,
)
from gradcheck.backends.user_code import call_user
from gradcheck.targets.framework import Kind, kind_of
from gradcheck.tracebacks import one_line
from gradcheck.trees import flatten

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradcheck.backends.binding import Binding
    from gradcheck.backends.torch.functional import Called
    from gradcheck.targets.case import Case


def claims(
    case: Case, target: Any, called: Called, bound: Binding, first: Any, run: Callable[..., Any], *, wide: bool
) -> tuple[Claim, ...]:
    """The derivative by hand, where there is one, and PyTorch's in both modes, where an output carries one."""
    written = _written(case, bound, first, called)
    found = [] if written is None else [written]
    if not connected(first, bound):
        return tuple(found)
    optional = not _has_jvp(target) or bool(called.patterns) or any(map(_was_sparse, flatten(first).leaves))
    return (*found, *by_autograd(run, bound, wide=wide, optional=optional))


def by_autograd(run: Callable[..., Any], bound: Binding, *, wide: bool, optional: bool = True) -> tuple[Claim, Claim]:
    """PyTorch's derivative in reverse and in forward mode.

    Args:
        run: (every leaf of the inputs, binding, wide=) -> what the target returns.
        optional: whether forward mode may be unavailable.
    """
    eps = max(EPS[leaf.dtype] for leaf in bound.leaves)
    twin = wide and eps > EPS["float64"]
    plain = twin and is_half(bound.leaves)
    return (
        Claim(
            "reverse",
            eps,
            reverse(run, bound, wide=False),
            twin=reverse(run, bound, wide=True) if twin else None,
            plain=reverse(run, bound, wide=True, within=plainly) if plain else None,
        ),
        Claim(
            "forward",
            eps,
            jvp=_forward(run, bound, wide=False),
            twin_jvp=_forward(run, bound, wide=True) if twin else None,
            optional=optional,
        ),
    )


def _was_sparse(output: Any) -> bool:
    """Whether an output was made dense, which PyTorch has no forward mode for."""
    return carries_gradient(output) and output.grad_fn is not None and output.grad_fn.name() == "ToDenseBackward0"


def reverse(
    run: Callable[..., Any], bound: Binding, *, wide: bool, within: Callable[..., Any] = wide_default
) -> Callable[[F64, F64], F64]:
    """Vector-Jacobian products: (point (N,), cotangents (C, M)) -> (C, N); Unavailable where no output carries a gradient.

    Args:
        within: (wide, leaves) -> the context in which they are computed.
    """
    habit = vjps.Habit()

    def vjp(point: F64, cotangents: F64) -> F64:
        tensors = leaves_at(bound, point, wide=wide, requires_grad=True)
        with torch.enable_grad(), within(wide, bound.leaves), until_differentiated():
            found = flatten(call_user("the forward pass", lambda: run(tensors, bound, wide=wide), (), {})).leaves
            wanted = [tensors[i] for i in bound.places]
            attached = [
                (found[i], leaf) for i, leaf in zip(bound.kept, bound.outputs, strict=True) if carries_gradient(found[i])
            ]
            if not attached:
                raise Unavailable("no output is connected to the inputs")
            return vjps.rows(vjps.Graph(attached, wanted, bound.leaves), cotangents, habit)

    return vjp


def connected(returned: Any, bound: Binding) -> bool:
    """Whether an output carries a gradient."""
    found = flatten(returned).leaves
    return any(carries_gradient(found[i]) for i in bound.kept)


def _forward(run: Callable[..., Any], bound: Binding, *, wide: bool) -> Callable[[F64, F64], F64]:
    def jvp(point: F64, tangents: F64) -> F64:
        with wide_default(wide, bound.leaves):
            return np.stack([_push(run, bound, point, u, wide=wide) for u in tangents])

    return jvp


def _push(run: Callable[..., Any], bound: Binding, point: F64, u: F64, *, wide: bool) -> F64:
    tensors = leaves_at(bound, point, wide=wide)
    try:
        with forward_level():
            for i, leaf in zip(bound.places, bound.leaves, strict=True):
                tensors[i] = forward_ad.make_dual(tensors[i], seed(u, leaf, tensors[i]))  # type: ignore[no-untyped-call]
            found = flatten(run(tensors, bound, wide=wide)).leaves
            parts = [tangent(found[i]) for i in bound.kept]
            if all(part is None for part in parts):
                raise Unavailable("no tangent comes out: an operator inside drops it")
            return flat_of_all(parts, bound.outputs)
    except Unavailable:
        raise
    except Exception as error:
        raise Unavailable(one_line(error, 120)) from error


@contextmanager
def forward_level() -> Iterator[None]:
    """A level of PyTorch's forward mode."""
    _load_rules()
    with forward_ad.dual_level():
        yield


@cache
def _load_rules() -> None:
    """Load what PyTorch loads at first use, without its own warning, which a filter of the user's may turn into an error."""
    with warnings.catch_warnings(), suppress(ModuleNotFoundError):
        warnings.simplefilter("ignore", DeprecationWarning)
        import_module("torch._decomp.decompositions_for_jvp")


def tangent(output: Any) -> torch.Tensor | None:
    """What an output carries in forward mode."""
    return forward_ad.unpack_dual(output).tangent if isinstance(output, torch.Tensor) else None  # type: ignore[no-untyped-call]


def _has_jvp(target: Any) -> bool:
    return kind_of(target) is Kind.AUTOGRAD_FUNCTION and target.jvp is not torch.autograd.Function.jvp


def _written(case: Case, bound: Binding, first: Any, called: Called) -> Claim | None:
    patterns = {bound.call.paths[i]: pattern for i, pattern in called.patterns.items()}

    def tangent(u: F64, leaf: Leaf) -> torch.Tensor:
        made = tensor_of(u[leaf.span], leaf, getattr(torch, leaf.dtype))
        return sparse.laid(made, patterns[leaf.path]) if leaf.path in patterns else made

    def read(part: Any, leaf: Leaf) -> NDArray[Any]:
        pattern = patterns.get(leaf.path)
        whole = pattern is not None and isinstance(part, torch.Tensor) and part.shape == pattern.shape
        return to_numpy(sparse.read(part, pattern) if pattern is not None and whole else part)

    host = analytic.Host(
        bound.leaves,
        bound.outputs,
        max(EPS[leaf.dtype] for leaf in bound.leaves),
        lambda at: called.arguments(leaves_at(bound, at), bound)[:2],
        lambda v: _cotangent(first, bound, v),
        lambda u: [tangent(u, leaf) for leaf in bound.leaves],
        read,
        lambda at: {**called.frozen, **called.arguments(leaves_at(bound, at), bound)[2]},
    )
    return analytic.claim(case.claims, host)


def _cotangent(returned: Any, bound: Binding, v: F64) -> Any:
    flat = flatten(returned)
    values = list(flat.leaves)
    for i, leaf in zip(bound.kept, bound.outputs, strict=True):
        values[i] = seed(v, leaf, values[i]) if isinstance(values[i], torch.Tensor) else from_flat(v[leaf.span], leaf).item()
    return flat.rebuild(values)
