"""Functions on torch tensors, custom autograd Functions, and nn.Modules.

The claim is made in the user's dtype. Differences are taken on a float64 twin (inputs, parameters and buffers in float64)
where the target runs in float64 and its value is the same there; else in its own dtype.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gradcheck.backends import batched, combined, devices, lazy, lines, modules, second, sparse, state, steps
from gradcheck.backends.called import Called, called_with, densely, is_differentiable
from gradcheck.backends.calls import Binding, shapes_of
from gradcheck.backends.claimed import claims, connected
from gradcheck.backends.held import until_differentiated
from gradcheck.backends.layer import layer_of
from gradcheck.backends.numpy import call_user, differing, outputs_of
from gradcheck.backends.points import leaves_at, numbers_of
from gradcheck.backends.program import (
    EPS,
    F64,
    Composed,
    Member,
    Program,
    layout_leaves,
    same_function,
    wider,
)
from gradcheck.backends.tensors import (
    WIDE,
    carries_gradient,
    default_of,
    flat_of,
    flat_of_all,
    name_of,
    to_numpy,
    with_moved,
)
from gradcheck.backends.widened import is_half, plainly, wide_default
from gradcheck.errors import TargetError
from gradcheck.seeds import generator
from gradcheck.targets.framework import Kind, kind_of
from gradcheck.targets.signature import Inputs
from gradcheck.tracebacks import one_line
from gradcheck.trees import flatten

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradcheck.targets.case import Case


LEAF_OVERWRITTEN = "a leaf Variable that requires grad"  # how PyTorch begins to say so
CARRIED = (
    "the output depends on {}, which the forward updates outside of autograd: gradients leave that out, differences do not;"
    " .eval() may hold it still"
)

EXPLAINED = 0.25  # of a difference may be left

kept = modules.kept
placed = devices.placed
initialised = lazy.initialised


def from_numpy(array: NDArray[Any], layout: str | None = None, dtype: str | None = None) -> torch.Tensor:
    """Turn a drawn array into a tensor of the same layout, or of a sparse one; in another dtype, if asked for.

    Raises:
        InputError: where a sparse layout has other axes.
    """
    made = torch.from_numpy(array) if dtype is None else torch.from_numpy(array).to(getattr(torch, dtype))
    return made if layout is None else sparse.made_sparse(made, layout)


def default_dtype(target: Any) -> str | None:
    """The dtype of a module's first floating parameter or buffer; None for anything else."""
    if kind_of(target) is not Kind.MODULE:
        return None
    floats = [t for t in (*target.parameters(), *target.buffers()) if t.dtype.is_floating_point or t.dtype.is_complex]
    return name_of(floats[0].dtype) if floats else None


def construct(case: Case, dtype: str, seed: int = 0, trial: int = 0) -> Callable[..., Any]:
    """Build a module from its class, or a target from a factory, with parameters drawn from the seed, in `dtype`.

    Raises:
        TargetError: where the constructor raises, or returns what cannot be called.
    """
    torch.manual_seed(int(generator(seed, case.stream, trial, "init").integers(2**31)))
    with default_of(getattr(torch, dtype)):
        made = call_user("the constructor", case.fn, (), dict(case.init or {}))
    if not callable(made):
        raise TargetError(
            f"{case.target or case.fn.__name__} returned {type(made).__name__}: expected a function or module to check"
        )
    return made.to(getattr(torch, dtype)) if kind_of(made) is Kind.MODULE else made  # type: ignore[no-any-return]


def bind(case: Case, target: Callable[..., Any], inputs: Inputs, *, settled: bool = False) -> Program:
    """Bind a function, Function or module to its inputs; a module's trainable parameters are leaves `params['name']`.

    Args:
        settled: that the module makes parameters when it is called is no news.

    Raises:
        InputError: where nothing is differentiable.
        TargetError: where the target raises at the primal, or returns no floating-point tensor.
    """
    called, call, places = called_with(case, target, inputs)
    tensors = [torch.as_tensor(call.leaves[i]) for i in places]
    leaves = layout_leaves(
        [call.paths[i] for i in places], [tuple(t.shape) for t in tensors], [name_of(t.dtype) for t in tensors]
    )
    point = flat_of_all(tensors, leaves)
    empty = Binding(call, places, leaves, (), ())
    before, after = state.snapshot(), dict[str, Any]()

    def start() -> Any:
        return called(leaves_at(empty, point, requires_grad=True), empty, wide=False, buffers=after)

    try:
        with torch.enable_grad():
            first = call_user("the target", start, (), {}, called.given)
    except TargetError as error:
        if case.overwrites or LEAF_OVERWRITTEN not in str(error):
            raise
        program = bind(replace(case, overwrites=True), target, inputs, settled=settled)
        return replace(program, notes=(*program.notes, "it writes to its inputs: called with what is computed of them"))
    if not settled and lazy.grown(target, {*called.parameters, *called.frozen}):
        lazy.called_once(target, inputs, case.stream)
        return bind(case, target, inputs, settled=True)
    drawn = state.changed(before)
    run = state.replayed(called, drawn)
    bound, detached = _without_detached(Binding(call, places, leaves, *outputs_of(first, is_differentiable, to_numpy)), first)
    value = numbers_of(first, bound)
    again, refusal = _twin(run, bound, point, value)
    wide = again is not None
    given: list[Any] = []

    def evaluate(at: F64) -> F64:
        given[:] = [at, leaves_at(bound, at, wide=wide)]
        with wide_default(wide, bound.leaves):
            return numbers_of(run(given[1], bound, wide=wide), bound)

    def native(at: F64) -> F64:
        return numbers_of(run(leaves_at(bound, at), bound, wide=False), bound)

    def mutated() -> list[str]:
        at, seen = given
        given.clear()  # as large as the inputs
        return differing(call.paths, *_beside_each_other(bound, at, seen, wide=wide))

    program = Program(
        framework="torch",
        shapes=shapes_of(called.given, bound.outputs),
        name=case.name,
        fn=state.replayed(called.fn, drawn),
        composed=_composed(run, called, bound),
        stepped=steps.stepped(leaves, torch.from_numpy, to_numpy),
        leaves=leaves,
        outputs=bound.outputs,
        point=point,
        value=wider(value, again),
        evaluate=evaluate,
        along=lines.lines(run, bound, point, wide=wide),
        many=batched.many(run, bound, wide=wide),
        native=native if wide else None,
        exactly=devices.without_tf32 if devices.uses_tf32(called.given.leaves) else None,
        plain=(lambda at: _plainly(run, bound, at)) if wide and is_half(leaves) else None,
        layer=layer_of(
            bound,
            lambda: leaves_at(bound, point),
            lambda wrap: state.replayed(replace(called, enter=wrap(called.enter)), drawn),
            first,
            target,
            lambda: _carried_now(called, bound, point),
            random=bool(drawn),
            upstream=case.upstream,
        ),
        eps=EPS["float64"] if wide else max(EPS[leaf.dtype] for leaf in (*leaves, *bound.outputs)),
        claims=claims(case, target, called, bound, first, run, wide=wide),
        notes=(
            *called.notes,
            *_carried(called, after, drawn, bound, point, value),
            *(f"{path} carries no gradient: not compared" for path in detached),
            *filter(None, [refusal]),
        ),
        details=called.details,
        mutated=mutated,
    )
    if not connected(first, bound):
        return program
    return replace(program, second=lambda v: second.program(program, run, bound, v, wide=wide))


def _carried(
    called: Called, after: dict[str, Any], drawn: dict[str, Any], bound: Binding, point: F64, value: F64
) -> tuple[str, ...]:
    """What is to be said of buffers that a call changes and the next one reads, as those of a power iteration."""
    changed = [name for name, t in called.frozen.items() if not sparse.same(t, after[name])]
    if not changed:
        return ()
    later = state.replayed(replace(called, frozen=after), drawn)
    try:
        again = numbers_of(later(leaves_at(bound, point), bound, wide=False), bound)
    except Exception:
        return ()
    if np.array_equal(again, value, equal_nan=True):
        return ()
    return (CARRIED.format(", ".join(changed)),)


def _carried_now(called: Called, bound: Binding, point: F64) -> tuple[str, ...]:
    """The same of a call in the mode that the module is in by now."""
    states, after = state.snapshot(), dict[str, Any]()
    try:
        found = state.replayed(called, states)(leaves_at(bound, point), bound, wide=False, buffers=after)
        return _carried(called, after, states, bound, point, numbers_of(found, bound))
    except Exception:
        return ()


def _composed(run: Callable[..., Any], called: Called, bound: Binding) -> Composed:
    """The derivative of a combination, by PyTorch."""

    def call(function: Callable[..., Any] | None, values: list[Any]) -> list[Any]:
        if function is None:
            return flatten(run(values, bound, wide=False)).leaves  # type: ignore[return-value]
        args, kwargs, _ = called.arguments(values, bound)
        return flatten(densely(function(*args, **kwargs))).leaves  # type: ignore[return-value]

    def composed(at: F64, members: Sequence[Member], combine: Callable[..., Any], cotangent: F64, _used: frozenset[str]) -> F64:
        with torch.enable_grad(), until_differentiated():
            return combined.vjp(call, leaves_at(bound, at, requires_grad=True), bound, members, combine, cotangent)

    return composed


def _without_detached(bound: Binding, first: Any) -> tuple[Binding, list[str]]:
    """Leave out the outputs that carry no gradient; where none does, keep them all for a hand-written derivative."""
    found = flatten(first).leaves
    attached = [(i, leaf) for i, leaf in zip(bound.kept, bound.outputs, strict=True) if carries_gradient(found[i])]
    bare = [(leaf.path, found[i]) for i, leaf in zip(bound.kept, bound.outputs, strict=True) if not carries_gradient(found[i])]
    detached = [path if isinstance(x, torch.Tensor) else f"{path}, a Python {type(x).__name__}," for path, x in bare]
    if not attached or not detached:
        return bound, detached
    paths, shapes, dtypes = zip(*[(leaf.path, leaf.shape, leaf.dtype) for _, leaf in attached], strict=True)
    kept = tuple(i for i, _ in attached)
    return replace(bound, kept=kept, outputs=layout_leaves(list(paths), list(shapes), list(dtypes))), detached


def _beside_each_other(bound: Binding, at: F64, seen: list[Any], *, wide: bool) -> tuple[list[Any], list[Any]]:
    """Every leaf as arrays as it was given and as it is now; of the differentiable ones their numbers, without a copy."""
    moved = {i: at[leaf.span] for i, leaf in zip(bound.places, bound.leaves, strict=True)}
    before = [to_numpy(x) for x in with_moved(bound.call.leaves, moved, wide)]
    return before, [flat_of(t) if i in moved else to_numpy(t) for i, t in enumerate(seen)]


def _twin(run: Callable[..., Any], bound: Binding, point: F64, value: F64) -> tuple[F64 | None, str]:
    """The target's value in float64 where it runs there and is the same; else None, and why not."""
    dtypes = {t.dtype for t in bound.call.leaves if isinstance(t, torch.Tensor)}
    if not dtypes & WIDE.keys():
        return None, ""
    try:
        with wide_default(True, bound.leaves):
            again = numbers_of(run(leaves_at(bound, point, wide=True), bound, wide=True), bound)
    except Exception as error:
        return None, f"differences in its own dtype: it does not run in float64 ({one_line(error, 100)})"
    same = same_function(value, again, max(EPS[leaf.dtype] for leaf in bound.leaves))
    if not (same or (is_half(bound.leaves) and _rounding_explains(run, bound, point, value, again))):
        return None, "differences in its own dtype: in float64 it returns another value"
    return again, ""


def _plainly(run: Callable[..., Any], bound: Binding, at: F64, *, every: bool = False) -> F64:
    """The value as a plain implementation in the leaves' half precision would return it."""
    with torch.no_grad(), plainly(True, bound.leaves, every=every):
        return numbers_of(run(leaves_at(bound, at, wide=True), bound, wide=True), bound)


def _rounding_explains(run: Callable[..., Any], bound: Binding, point: F64, value: F64, again: F64) -> bool:
    """Whether rounding the result of every operation explains what a value and that of its twin differ by."""
    try:
        rounded = _plainly(run, bound, point, every=True)
    except Exception:
        return False
    if not rounded.shape == value.shape == again.shape:
        return False
    with np.errstate(all="ignore"):
        left, whole = np.linalg.norm(rounded - value), np.linalg.norm(again - value)
    return bool(left <= EXPLAINED * whole)
