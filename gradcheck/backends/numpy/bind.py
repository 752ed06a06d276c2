"""Functions on NumPy arrays."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.backends import analytic, global_state, optimizer_step
from gradcheck.backends.binding import (
    Binding,
    leaves_of,
    select,
    shapes_of,
    take_apart,
)
from gradcheck.backends.flat import EPS, F64, from_flat, gradient_leaves, layout_leaves, like_layout, to_flat
from gradcheck.backends.numpy import array_api
from gradcheck.backends.numpy.complex_step import _complex_step, _pushed
from gradcheck.backends.program import Claim, Composed, Member, Program, Unavailable, same_function, wider
from gradcheck.backends.user_code import call_user, differing, outputs_of
from gradcheck.errors import InputError
from gradcheck.tracebacks import one_line
from gradcheck.trees import flatten

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from gradcheck.targets.case import Case
    from gradcheck.targets.signature import Inputs

COLUMNS = 256  # inputs up to which a combination is differentiated by the complex step, one input at a time


def bind(case: Case, target: Callable[..., Any], inputs: Inputs) -> Program:
    """Bind a function to its inputs, in NumPy arrays or those of another namespace of the array API.

    Raises:
        InputError: where nothing is differentiable, or arrays of two namespaces are mixed.
        TargetError: where the function raises at the primal, or returns no floating-point array.
    """
    given_by, (case, target, inputs) = target, array_api.hosted(case, target, inputs)
    call = take_apart(inputs)
    masked = [p for p, x in zip(call.paths, call.leaves, strict=True) if isinstance(x, np.ma.MaskedArray)]
    if masked:
        raise InputError(f"{', '.join(masked)} is a masked array: give plain arrays, and the mask as one of them")
    places = select(call.paths, call.leaves, case.wrt, is_differentiable)
    arrays = [np.asarray(call.leaves[i]) for i in places]
    leaves = layout_leaves([call.paths[i] for i in places], [a.shape for a in arrays], [a.dtype.name for a in arrays])
    point = np.concatenate([to_flat(a) for a in arrays])
    before = global_state.snapshot()
    args, kwargs = _arguments(Binding(call, places, leaves, (), ()), point)
    first = call_user("the function", target, args, kwargs, call)
    function = global_state.replayed(target, global_state.changed(before))
    bound = Binding(call, places, leaves, *outputs_of(first, is_differentiable, np.asarray))
    value = _values(first, bound)
    wide, refusal = _twin(function, bound, point, value)
    given: list[Any] = [point, (args, kwargs)]

    def evaluate(at: F64) -> F64:
        given[:] = [at, _arguments(bound, at, wide=wide)]
        args, kwargs = given[1]
        return _values(function(*args, **kwargs), bound)

    def native(at: F64) -> F64:
        args, kwargs = _arguments(bound, at)
        return _values(function(*args, **kwargs), bound)

    def mutated() -> list[str]:
        return differing(call.paths, leaves_of(_arguments(bound, given[0], wide=wide)), leaves_of(given[1]))

    derived = _traced(function, bound, wide=wide) if target is given_by else _untraced()
    claims = tuple(c for c in (_written(case, bound, first, wide=wide), derived) if c is not None)
    program = Program(
        framework="numpy",
        shapes=shapes_of(call, bound.outputs),
        name=case.name,
        fn=function,
        composed=_composed(function, bound),
        stepped=optimizer_step.stepped(leaves, np.asarray, np.asarray),
        leaves=leaves,
        outputs=bound.outputs,
        point=point,
        value=wider(value, evaluate(point) if wide else None),
        evaluate=evaluate,
        native=native if wide else None,
        eps=EPS["float64"] if wide else max(EPS[leaf.dtype] for leaf in (*leaves, *bound.outputs)),
        claims=claims,
        complex_step=_complex_step(function, bound),
        notes=(refusal,) if refusal else (),
        mutated=mutated,
    )
    return replace(program, second=_second(program, function, bound, wide=wide))


def _twin(function: Callable[..., Any], bound: Binding, point: F64, value: F64) -> tuple[bool, str]:
    """Whether the function computes in float64 when it is given float64, with the same value; and why not."""
    low = max(EPS[leaf.dtype] for leaf in bound.leaves)
    if low <= EPS["float64"]:
        return False, ""
    try:
        args, kwargs = _arguments(bound, point, wide=True)
        returned = function(*args, **kwargs)
        again = _values(returned, bound)
        found = flatten(returned).leaves
        low_out = max(EPS.get(np.asarray(found[i]).dtype.name, 1.0) for i in bound.kept)
    except Exception as error:
        return False, f"differences in its own dtype: it does not run in float64 ({one_line(error, 100)})"
    if low_out > EPS["float64"]:
        return False, "differences in its own dtype: it returns a lower precision than it is given"
    if not same_function(value, again, low):
        return False, "differences in its own dtype: in float64 it returns another value"
    return True, ""


def _values(returned: Any, bound: Binding) -> F64:
    found = flatten(returned).leaves
    return np.concatenate([to_flat(found[i]) for i in bound.kept])


def _written(case: Case, bound: Binding, first: Any, *, wide: bool) -> Claim | None:
    found = analytic.claim(case.claims, _host(bound, first, wide=False))
    if found is None or not wide:
        return found
    twin = analytic.claim(case.claims, _host(bound, first, wide=True))
    return replace(found, twin=twin.vjp, twin_jvp=twin.jvp) if twin is not None else found


def _host(bound: Binding, first: Any, *, wide: bool) -> analytic.Host:
    return analytic.Host(
        bound.leaves,
        bound.outputs,
        max(EPS[leaf.dtype] for leaf in bound.leaves),
        lambda at: _arguments(bound, at, wide=wide),
        lambda v: _cotangent(first, bound, v, wide=wide),
        lambda u: [_as(from_flat(u[leaf.span], leaf), leaf.dtype, wide) for leaf in bound.leaves],
        lambda part, _: np.asarray(part),
    )


def is_differentiable(leaf: Any) -> bool:
    """Whether a leaf is a floating or complex NumPy array or scalar."""
    return isinstance(leaf, np.ndarray | np.generic) and leaf.dtype.name in EPS


def _arguments(bound: Binding, point: F64, *, wide: bool = False) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The call's arguments at a point: new arrays throughout, so that nothing of the user's can be changed."""
    values = [_as(x.copy(order="K"), x.dtype, wide) if isinstance(x, np.ndarray) else x for x in bound.call.leaves]
    for i, leaf in zip(bound.places, bound.leaves, strict=True):
        values[i] = _placed(from_flat(point[leaf.span], leaf), bound.call.leaves[i], wide)
    return bound.call.rebuild(values)


def _as(values: NDArray[Any], dtype: Any, wide: bool) -> NDArray[Any]:
    """Values in a dtype, or in float64 or complex128 where it is a floating one to be widened."""
    dtype = np.dtype(dtype)
    widened = {"f": np.dtype(np.float64), "c": np.dtype(np.complex128)}.get(dtype.kind, dtype)
    return values.astype(widened if wide else dtype, copy=False)


def _placed(values: NDArray[Any], template: Any, wide: bool) -> Any:
    if not isinstance(template, np.ndarray):
        return _as(values, template.dtype, wide)[()] if isinstance(template, np.generic) else values.item()
    return like_layout(_as(values, template.dtype, wide), template)


def _cotangent(returned: Any, bound: Binding, v: F64, *, wide: bool) -> Any:
    flat = flatten(returned)
    values = list(flat.leaves)
    for i, leaf in zip(bound.kept, bound.outputs, strict=True):
        values[i] = _as(from_flat(v[leaf.span], leaf), leaf.dtype, wide)[()]
    return flat.rebuild(values)


def _traced(function: Callable[..., Any], bound: Binding, *, wide: bool) -> Claim:
    """PyTorch's derivative of the code, in the precision of the evaluation: it is evidence as much as a claim."""

    def vjp(point: F64, cotangents: F64) -> F64:
        with _torch_wanted():
            from gradcheck.backends.numpy import torch_tracing  # PyTorch is loaded only when its derivative is asked for

        return torch_tracing.vjp(function, _arguments(bound, point, wide=wide), bound, cotangents)

    eps = EPS["float64"] if wide else max(EPS[leaf.dtype] for leaf in bound.leaves)
    return Claim("reverse", eps, vjp, optional=True, derived=True)


def _untraced() -> Claim:
    def vjp(point: F64, cotangents: F64) -> F64:
        raise Unavailable("PyTorch traces calls of NumPy, not those of another namespace")

    return Claim("reverse", EPS["float64"], vjp, optional=True, derived=True)


@contextmanager
def _torch_wanted() -> Iterator[None]:
    """An import of PyTorch that may fail.

    Raises:
        Unavailable: where it is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise Unavailable(f"PyTorch traces NumPy code, and {error.name!r} is not installed") from None


def _second(first: Program, function: Callable[..., Any], bound: Binding, *, wide: bool) -> Callable[[F64], Program]:
    """From a cotangent to the program of its vjp, by hand if there is such; its derivative is that of the traced code."""
    given = next(claim for claim in first.claims if claim.vjp is not None)
    vjp = given.twin or given.vjp
    assert vjp is not None

    def second(v: F64) -> Program:
        with _torch_wanted():
            from gradcheck.backends.numpy import torch_tracing  # PyTorch is loaded only when its derivative is asked for
        return replace(
            first,
            outputs=gradient_leaves(first.leaves),
            value=vjp(first.point, v[None])[0],
            evaluate=lambda at: vjp(at, v[None])[0],
            native=None,
            claims=(Claim("reverse", first.eps, torch_tracing.second(function, bound, v, wide=wide)),),
            complex_step=None,
            composed=None,
            stepped=None,
            second=None,
            notes=(),
            mutated=list,
        )

    return second


def _composed(function: Callable[..., Any], bound: Binding) -> Composed:
    """The derivative of a combination: by PyTorch where the functions can be traced, else by the complex step."""

    def composed(at: F64, members: Sequence[Member], combine: Callable[..., Any], cotangent: F64, used: frozenset[str]) -> F64:
        try:
            if "reverse" not in used:
                raise Unavailable("neither the traced code nor the complex step gives the function's derivative")
            with _torch_wanted():
                from gradcheck.backends.numpy import torch_tracing

            return torch_tracing.composed(function, _arguments(bound, at), bound, members, combine, cotangent)
        except Unavailable:
            if at.size > COLUMNS or "complex-step" not in used or _complex_step(function, bound) is None:
                raise
        return np.asarray([cotangent @ _pushed(function, bound, at, u, members, combine) for u in np.eye(at.size)])

    return composed
