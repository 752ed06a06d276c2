"""Functions on NumPy arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradcheck.backends import global_state, hand_written, optimizer_step
from gradcheck.backends.flat import (
    EPS,
    F64,
    from_flat,
    is_plain,
    lay_out_leaves,
    make_gradient_leaves,
    match_class,
    match_strides,
    to_flat,
)
from gradcheck.backends.flat_call import Binding, FlatCall, flatten_call, rebuild_outputs, select_inputs, shapes_of
from gradcheck.backends.numpy import array_api
from gradcheck.backends.numpy.complex_step import differentiate_combination, make_complex_step
from gradcheck.backends.program import Capabilities, Claim, Member, Program, Unavailable, VjpOfCombination, trace_on_demand
from gradcheck.backends.twin import is_same_function, prefer_twin_value
from gradcheck.backends.user_code import call_user_code, find_changed_arrays, lay_out_outputs
from gradcheck.errors import InputError
from gradcheck.targets.case import Case
from gradcheck.targets.signature import Inputs
from gradcheck.tracebacks import summarise_error
from gradcheck.trees import leaves_of

# Input numbers up to which a combination is differentiated by the complex step, which takes one evaluation per number.
MAX_COMPLEX_STEPS = 256
# Why PyTorch does not trace a function, and what its random generators are called in code.
NOT_NUMPY = "PyTorch traces calls of NumPy, not those of another namespace"
DRAWS = "the function draws from {}, which PyTorch does not trace"
GENERATORS = {"numpy.random": "np.random", "random": "Python's random", "torch": "torch"}


def bind(case: Case, target: Callable[..., Any], inputs: Inputs) -> Program:
    """Bind a function to its inputs, in NumPy arrays or those of another namespace of the array API.

    Raises:
        InputError: if nothing is differentiable or arrays of two namespaces are mixed.
        TargetError: if the function raises at the primal or returns no floating-point array.
    """
    original, (case, target, inputs) = target, array_api.convert_to_numpy(case, target, inputs)
    call = flatten_call(inputs)
    masked = [p for p, x in zip(call.paths, call.leaves, strict=True) if isinstance(x, np.ma.MaskedArray)]
    if masked:
        raise InputError(f"{', '.join(masked)} is a masked array: give plain arrays, and the mask as one of them")
    places = select_inputs(call.paths, call.leaves, case.wrt, is_differentiable)
    arrays = [np.asarray(call.leaves[i]) for i in places]
    leaves = lay_out_leaves([call.paths[i] for i in places], [a.shape for a in arrays], [a.dtype.name for a in arrays])
    point = np.concatenate([to_flat(a) for a in arrays])
    before = global_state.snapshot(original, call.leaves)
    given = _build_leaves(Binding(call, places, leaves, (), ()), point)
    args, kwargs = call.rebuild(given)
    first = call_user_code("the function", target, args, kwargs, call)
    draws = global_state.changes_since(before)
    case, function = hand_written.replay_draws(case, draws), global_state.replaying(target, draws)
    binding = Binding(call, places, leaves, *lay_out_outputs(first, is_differentiable, np.asarray))
    value = _flatten_outputs(first, binding)
    twin, refusal = _has_twin(function, binding, point, value)
    latest: list[Any] = [point, given]  # the point of the latest evaluation, and the leaves that the function was given

    def evaluate(at: F64) -> F64:
        latest[:] = [at, _build_leaves(binding, at, twin=twin)]
        args, kwargs = call.rebuild(latest[1])
        return _flatten_outputs(function(*args, **kwargs), binding)

    def mutated() -> list[str]:
        return find_changed_arrays(call.paths, _build_leaves(binding, latest[0], twin=twin), latest[1])

    if draws:
        names = dict.fromkeys(GENERATORS.get(source, "a generator of its own") for source in draws)
        obstacle = DRAWS.format(" and ".join(names))
    else:
        obstacle = _find_obstacle_to_tracing(call) if target is original else NOT_NUMPY
    derived = _make_untraced_claim(obstacle) if obstacle else _make_traced_claim(function, binding, twin=twin)
    claims = (*_make_written_claims(case, binding, first, twin=twin), derived)
    program = Program(
        framework="numpy",
        shapes=shapes_of(call, binding.outputs),
        name=case.name,
        fn=function,
        leaves=leaves,
        outputs=binding.outputs,
        point=point,
        value=prefer_twin_value(value, evaluate(point) if twin else None),
        native_value=value,
        evaluate=evaluate,
        eps=EPS["float64"] if twin else max(EPS[leaf.dtype] for leaf in (*leaves, *binding.outputs)),
        claims=claims,
        capabilities=Capabilities(
            evaluate_native=(lambda at: _evaluate(function, binding, at)) if twin else None,
            complex_step=make_complex_step(function, binding),
            vjp_of_combination=_make_vjp_of_combination(function, binding),
            optimizer_step=optimizer_step.make_step(leaves, np.asarray, np.asarray),
            upstream=_lay_out_upstream(case, binding),
        ),
        notes=(refusal,) if refusal else (),
        mutated_inputs=mutated,
        draws=draws,
    )
    if case.claims:
        trace = trace_on_demand(
            "numpy",
            program=program,
            function=function,
            binding=binding,
            make_values=lambda: _build_leaves(binding, program.point, twin=twin),
        )
        program = program.with_capabilities(trace_exactly=trace)
    return program.with_capabilities(gradient_program=_make_gradient_program(program, function, binding, twin=twin))


def _has_twin(function: Callable[..., Any], binding: Binding, point: F64, value: F64) -> tuple[bool, str]:
    """Whether the function computes in float64 when it is given float64, with the same value; and if not, why."""
    native_eps = max(EPS[leaf.dtype] for leaf in binding.leaves)
    if native_eps <= EPS["float64"]:
        return False, ""
    try:
        args, kwargs = _build_arguments(binding, point, twin=True)
        returned = function(*args, **kwargs)
        value_in_float64 = _flatten_outputs(returned, binding)
        outputs = leaves_of(returned)
        output_eps = max(EPS.get(np.asarray(outputs[i]).dtype.name, 1.0) for i in binding.output_places)
    except Exception as error:
        return False, f"differences in its own dtype: it does not run in float64 ({summarise_error(error, 100)})"
    if output_eps > EPS["float64"]:
        return False, "differences in its own dtype: it returns a lower precision than it is given"

    def evaluate_both(at: F64) -> tuple[F64, F64]:
        return _evaluate(function, binding, at), _evaluate(function, binding, at, twin=True)

    if not is_same_function(point, value, value_in_float64, native_eps, evaluate_both):
        return False, "differences in its own dtype: in float64 it returns another value"
    return True, ""


def _lay_out_upstream(case: Case, binding: Binding) -> F64 | None:
    """Lay out the cotangents that a model sends back, zero for an output that gets none; None without a model."""
    arrays = [case.upstream.get(place) for place in binding.output_places]
    if all(array is None for array in arrays):
        return None
    pairs = zip(arrays, binding.outputs, strict=True)
    return np.concatenate([np.zeros(leaf.entries * leaf.width) if array is None else to_flat(array) for array, leaf in pairs])


def _evaluate(function: Callable[..., Any], binding: Binding, at: F64, *, twin: bool = False) -> F64:
    args, kwargs = _build_arguments(binding, at, twin=twin)
    return _flatten_outputs(function(*args, **kwargs), binding)


def _flatten_outputs(returned: Any, binding: Binding) -> F64:
    outputs = leaves_of(returned)
    return np.concatenate([to_flat(outputs[i]) for i in binding.output_places])


def _make_written_claims(case: Case, binding: Binding, first: Any, *, twin: bool) -> tuple[Claim, ...]:
    claims = hand_written.make_claims(case.claims, _make_adapter(binding, first, twin=False))
    if not twin:
        return claims
    twins = hand_written.make_claims(case.claims, _make_adapter(binding, first, twin=True))
    return tuple(replace(claim, twin=other.vjp, twin_jvp=other.jvp) for claim, other in zip(claims, twins, strict=True))


def _make_adapter(binding: Binding, first: Any, *, twin: bool) -> hand_written.Adapter:
    return hand_written.Adapter(
        binding.call,
        binding.leaves,
        binding.outputs,
        max(EPS[leaf.dtype] for leaf in binding.leaves),
        lambda at: _build_arguments(binding, at, twin=twin),
        lambda v: _build_cotangent(first, binding, v, twin=twin),
        lambda u: [
            match_class(_cast(from_flat(u[leaf.span], leaf), leaf.dtype, twin), np.asanyarray(binding.call.leaves[i]))
            for i, leaf in zip(binding.input_places, binding.leaves, strict=True)
        ],
        lambda part, _: np.asarray(part),
        binding.call.paths,
        rebuild=lambda leaves: (*binding.call.rebuild(leaves), {}),
        rebuild_outputs=lambda arrays: rebuild_outputs(first, binding, arrays),
    )


def is_differentiable(leaf: Any) -> bool:
    """Whether a leaf is a floating or complex NumPy array or scalar."""
    return isinstance(leaf, np.ndarray | np.generic) and leaf.dtype.name in EPS


def _build_arguments(binding: Binding, point: F64, *, twin: bool = False) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Build the call's arguments at a point, with new arrays and containers: the user's own cannot be changed."""
    return binding.call.rebuild(_build_leaves(binding, point, twin=twin))


def _build_leaves(binding: Binding, point: F64, *, twin: bool = False) -> list[Any]:
    """Build every leaf of the call at a point, with new arrays throughout."""
    values = [_cast(x.copy(order="K"), x.dtype, twin) if isinstance(x, np.ndarray) else x for x in binding.call.leaves]
    for i, leaf in zip(binding.input_places, binding.leaves, strict=True):
        values[i] = _like_template(from_flat(point[leaf.span], leaf), binding.call.leaves[i], twin)
    return values


def _cast(values: NDArray[Any], dtype: Any, twin: bool) -> NDArray[Any]:
    """Cast values to a dtype; on the twin a floating dtype becomes float64 or complex128."""
    dtype = np.dtype(dtype)
    widened = {"f": np.dtype(np.float64), "c": np.dtype(np.complex128)}.get(dtype.kind, dtype)
    return values.astype(widened if twin else dtype, copy=False)


def _like_template(values: NDArray[Any], template: Any, twin: bool) -> Any:
    if not isinstance(template, np.ndarray):
        return _cast(values, template.dtype, twin)[()] if isinstance(template, np.generic) else values.item()
    cast = _cast(values, template.dtype, twin)
    return match_strides(cast, template) if is_plain(template) else match_class(cast, template)


def _build_cotangent(returned: Any, binding: Binding, v: F64, *, twin: bool) -> Any:
    outputs, arrays = leaves_of(returned), []
    for i, leaf in zip(binding.output_places, binding.outputs, strict=True):
        cotangent = _cast(from_flat(v[leaf.span], leaf), leaf.dtype, twin)
        arrays.append(match_class(cotangent, outputs[i]) if isinstance(outputs[i], np.ndarray) else cotangent[()])
    return rebuild_outputs(returned, binding, arrays)


def _make_traced_claim(function: Callable[..., Any], binding: Binding, *, twin: bool) -> Claim:
    """Claim PyTorch's derivative of the code, in the precision of the evaluation: it is evidence as much as a claim."""

    def vjp(point: F64, cotangents: F64) -> F64:
        with _importing_torch():
            from gradcheck.backends.numpy import torch_tracing  # PyTorch is loaded only when its derivative is asked for

        return torch_tracing.evaluate_vjp(function, _build_arguments(binding, point, twin=twin), binding, cotangents)

    eps = EPS["float64"] if twin else max(EPS[leaf.dtype] for leaf in binding.leaves)
    return Claim("reverse", eps, vjp, optional=True, derived=True)


def _find_obstacle_to_tracing(call: FlatCall) -> str:
    """Say why PyTorch does not trace a call, if an array is of a class derived from NumPy's; '' if none is."""
    derived = [type(x).__name__ for x in call.leaves if isinstance(x, np.ndarray) and not is_plain(x)]
    return f"PyTorch traces plain arrays of NumPy, not {derived[0]}" if derived else ""


def _make_untraced_claim(why: str) -> Claim:
    def vjp(point: F64, cotangents: F64) -> F64:
        raise Unavailable(why)

    return Claim("reverse", EPS["float64"], vjp, optional=True, derived=True)


@contextmanager
def _importing_torch() -> Iterator[None]:
    """Import PyTorch, if it is installed.

    Raises:
        Unavailable: if it is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise Unavailable(f"PyTorch traces NumPy code, and {error.name!r} is not installed") from None


def _make_gradient_program(
    first: Program, function: Callable[..., Any], binding: Binding, *, twin: bool
) -> Callable[[F64], Program]:
    """Return cotangent (M,) -> the program of its vjp: the hand-written one if any, differentiated by tracing the code."""
    first_claim = next(claim for claim in first.claims if claim.vjp is not None)
    vjp = first_claim.twin or first_claim.vjp
    assert vjp is not None

    def gradient_program(v: F64) -> Program:
        with _importing_torch():
            from gradcheck.backends.numpy import torch_tracing  # PyTorch is loaded only when its derivative is asked for
        second_vjp = torch_tracing.make_second_vjp(function, binding, v, twin=twin)
        return replace(
            first,
            outputs=make_gradient_leaves(first.leaves),
            value=vjp(first.point, v[None])[0],
            evaluate=lambda at: vjp(at, v[None])[0],
            claims=(Claim("reverse", first.eps, second_vjp, optional=True),),
            capabilities=Capabilities(),
            notes=(),
            mutated_inputs=list,
        )

    return gradient_program


def _make_vjp_of_combination(function: Callable[..., Any], binding: Binding) -> VjpOfCombination:
    """Differentiate a combination by PyTorch if the functions can be traced, else by the complex step."""

    def vjp_of_combination(
        at: F64, members: Sequence[Member], combine: Callable[..., Any], cotangent: F64, used: frozenset[str]
    ) -> F64:
        try:
            if "reverse" not in used:
                raise Unavailable("neither the traced code nor the complex step gives the function's derivative")
            with _importing_torch():
                from gradcheck.backends.numpy import torch_tracing

            return torch_tracing.evaluate_composed_vjp(
                function, _build_arguments(binding, at), binding, members, combine, cotangent
            )
        except Unavailable:
            if at.size > MAX_COMPLEX_STEPS or "complex-step" not in used or make_complex_step(function, binding) is None:
                raise
        return np.asarray(
            [cotangent @ differentiate_combination(function, binding, at, u, members, combine) for u in np.eye(at.size)]
        )

    return vjp_of_combination
