"""Functions on NumPy arrays."""

from __future__ import annotations

from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.backends import handwritten, namespaces, state, steps
from gradcheck.backends.calls import Binding, Call, described, leaves_of, select, shapes_of, take_apart
from gradcheck.backends.program import (
    COMPLEX_STEP,
    EPS,
    F64,
    Claim,
    Composed,
    Leaf,
    Member,
    Program,
    Unavailable,
    from_flat,
    gradient_leaves,
    layout_leaves,
    like_layout,
    same_function,
    to_flat,
    wider,
)
from gradcheck.errors import InputError, NoMemoryError, TargetError
from gradcheck.tracebacks import advice_on, one_line, out_of_memory, user_frames
from gradcheck.trees import KINDS, flatten

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from gradcheck.targets.case import Case
    from gradcheck.targets.signature import Inputs

COLUMNS = 256  # inputs up to which a combination is differentiated by the complex step, one input at a time


def from_numpy(array: NDArray[Any], layout: str | None = None, dtype: str | None = None) -> NDArray[Any]:
    """Arrays drawn from specs are this framework's own.

    Raises:
        InputError: for a sparse layout, or a dtype that NumPy has not.
    """
    if dtype is not None:
        raise InputError(f"dtype={dtype!r}: NumPy has no such dtype; float16 is its half precision")
    if layout is not None:
        raise InputError(f"layout={layout!r} is for torch targets: NumPy arrays are dense; sparse(...) draws one with zeros")
    return array


def kept(_target: Any) -> AbstractContextManager[None]:
    """NumPy code holds no state that a check could not replay or copy."""
    return nullcontext()


def initialised(_target: Any, _inputs: Inputs, _stream: str, *, surely: bool) -> AbstractContextManager[None]:
    """Nothing is made late."""
    return nullcontext()


def default_dtype(_target: Any) -> str | None:
    """The dtype inputs are drawn in where nothing says: no preference."""
    return None


def construct(case: Case, _dtype: str) -> Callable[..., Any]:
    """Build the target from a factory.

    Raises:
        TargetError: where it raises, or returns what cannot be called.
    """
    made = call_user("the factory", case.fn, (), dict(case.init or {}))
    if not callable(made):
        raise TargetError(f"{case.target or case.fn.__name__} returned {type(made).__name__}: expected a function to check")
    return made  # type: ignore[no-any-return]


def call_user(
    what: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], call: Call | None = None
) -> Any:
    """Call the user's code; its exceptions become a TargetError with their frames, and the shapes of the inputs."""
    try:
        return function(*args, **kwargs)
    except TargetError:
        raise
    except Exception as error:
        given = f", given {described(call)}" if call is not None else ""
        if out_of_memory(error):
            raise NoMemoryError(f"{what} ran out of memory ({one_line(error, 160)}){given}", user_frames(error)) from None
        raise TargetError(f"{what} raised {one_line(error)}{given}{advice_on(error)}", user_frames(error)) from None


def bind(case: Case, target: Callable[..., Any], inputs: Inputs) -> Program:
    """Bind a function to its inputs, in NumPy arrays or those of another namespace of the array API.

    Raises:
        InputError: where nothing is differentiable, or arrays of two namespaces are mixed.
        TargetError: where the function raises at the primal, or returns no floating-point array.
    """
    given_by, (case, target, inputs) = target, namespaces.hosted(case, target, inputs)
    call = take_apart(inputs)
    masked = [p for p, x in zip(call.paths, call.leaves, strict=True) if isinstance(x, np.ma.MaskedArray)]
    if masked:
        raise InputError(f"{', '.join(masked)} is a masked array: give plain arrays, and the mask as one of them")
    places = select(call.paths, call.leaves, case.wrt, is_differentiable)
    arrays = [np.asarray(call.leaves[i]) for i in places]
    leaves = layout_leaves([call.paths[i] for i in places], [a.shape for a in arrays], [a.dtype.name for a in arrays])
    point = np.concatenate([to_flat(a) for a in arrays])
    before = state.snapshot()
    args, kwargs = _arguments(Binding(call, places, leaves, (), ()), point)
    first = call_user("the function", target, args, kwargs, call)
    function = state.replayed(target, state.changed(before))
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
        stepped=steps.stepped(leaves, np.asarray, np.asarray),
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
    found = handwritten.claim(case.claims, _host(bound, first, wide=False))
    if found is None or not wide:
        return found
    twin = handwritten.claim(case.claims, _host(bound, first, wide=True))
    return replace(found, twin=twin.vjp, twin_jvp=twin.jvp) if twin is not None else found


def _host(bound: Binding, first: Any, *, wide: bool) -> handwritten.Host:
    return handwritten.Host(
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


def outputs_of(
    returned: Any, differentiable: Callable[[Any], bool], to_numpy: Callable[[Any], NDArray[Any]]
) -> tuple[tuple[int, ...], tuple[Leaf, ...]]:
    """Places of the floating outputs among all leaves, and their layout.

    Raises:
        TargetError: where there is none.
    """
    flat = flatten(returned, "output")
    kept = tuple(i for i, leaf in enumerate(flat.leaves) if differentiable(leaf) or isinstance(leaf, float | complex))
    if not kept:
        got = ", ".join(str(getattr(leaf, "dtype", type(leaf).__name__)) for leaf in flat.leaves) or "None"
        hint = "; is a return missing?" if returned is None else ""
        raise TargetError(f"the function returned {got}: expected a floating-point array, or {KINDS} with one{hint}")
    arrays = [to_numpy(flat.leaves[i]) for i in kept]
    return kept, layout_leaves([flat.paths[i] for i in kept], [a.shape for a in arrays], [a.dtype.name for a in arrays])


def differing(paths: tuple[str, ...], before: list[Any], after: list[Any]) -> list[str]:
    """Paths of the arrays that are no longer what they were."""
    return [
        path
        for path, a, b in zip(paths, before, after, strict=True)
        if isinstance(a, np.ndarray) and not np.array_equal(a, b, equal_nan=a.dtype.kind in "fc")
    ]


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
            from gradcheck.backends import traced  # PyTorch is loaded only when its derivative is asked for

        return traced.vjp(function, _arguments(bound, point, wide=wide), bound, cotangents)

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
            from gradcheck.backends import traced  # PyTorch is loaded only when its derivative is asked for
        return replace(
            first,
            outputs=gradient_leaves(first.leaves),
            value=vjp(first.point, v[None])[0],
            evaluate=lambda at: vjp(at, v[None])[0],
            native=None,
            claims=(Claim("reverse", first.eps, traced.second(function, bound, v, wide=wide)),),
            complex_step=None,
            composed=None,
            stepped=None,
            second=None,
            notes=(),
            mutated=list,
        )

    return second


def _complex_step(function: Callable[..., Any], bound: Binding) -> Callable[[F64, F64], F64] | None:
    """Im f(x + i h u) / h. W. Squire and G. Trapp, SIAM Rev. 40 (1998), 110-112."""
    if any(leaf.dtype != "float64" for leaf in (*bound.leaves, *bound.outputs)):
        return None

    def derivative(point: F64, tangent: F64) -> F64:
        parts = _complex_outputs(function, bound, point, tangent)
        return np.concatenate([np.imag(part).reshape(-1) for part in parts]) / COMPLEX_STEP

    return derivative


def _complex_outputs(function: Callable[..., Any], bound: Binding, point: F64, tangent: F64) -> list[NDArray[Any]]:
    """The outputs at x + i h u.

    Raises:
        Unavailable: where the function does not take complex numbers, or drops the imaginary part.
    """
    values = [x.copy() if isinstance(x, np.ndarray) else x for x in bound.call.leaves]
    for i, leaf in zip(bound.places, bound.leaves, strict=True):
        values[i] = (point[leaf.span] + 1j * COMPLEX_STEP * tangent[leaf.span]).reshape(leaf.shape)
    args, kwargs = bound.call.rebuild(values)
    try:
        found = flatten(function(*args, **kwargs)).leaves
        parts = [np.asarray(found[i]) for i in bound.kept]
    except Exception as error:
        raise Unavailable(f"the function does not take complex numbers ({one_line(error)})") from None
    if [part.shape for part in parts] != [leaf.shape for leaf in bound.outputs]:
        raise Unavailable("the function returns another shape for complex numbers")
    if not any(np.iscomplexobj(part) for part in parts):
        raise Unavailable("the function drops the imaginary part")
    return parts


def _composed(function: Callable[..., Any], bound: Binding) -> Composed:
    """The derivative of a combination: by PyTorch where the functions can be traced, else by the complex step."""

    def composed(at: F64, members: Sequence[Member], combine: Callable[..., Any], cotangent: F64, used: frozenset[str]) -> F64:
        try:
            if "reverse" not in used:
                raise Unavailable("neither the traced code nor the complex step gives the function's derivative")
            with _torch_wanted():
                from gradcheck.backends import traced

            return traced.composed(function, _arguments(bound, at), bound, members, combine, cotangent)
        except Unavailable:
            if at.size > COLUMNS or "complex-step" not in used or _complex_step(function, bound) is None:
                raise
        return np.asarray([cotangent @ _pushed(function, bound, at, u, members, combine) for u in np.eye(at.size)])

    return composed


def _pushed(
    function: Callable[..., Any], bound: Binding, at: F64, u: F64, members: Sequence[Member], combine: Callable[..., Any]
) -> F64:
    """A combination's derivative along a tangent by the complex step, (M,)."""
    outputs = []
    for member, scales in members:
        wide = np.concatenate([np.full(leaf.entries, s) for leaf, s in zip(bound.leaves, scales, strict=True)])
        outputs.append(_complex_outputs(member or function, bound, at * wide, u * wide))
    totals = [np.imag(combine(*parts)).reshape(-1) for parts in zip(*outputs, strict=True)]
    return np.concatenate(totals) / COMPLEX_STEP
