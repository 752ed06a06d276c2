"""The claims of a torch target: the derivative by hand, and PyTorch's derivatives in reverse and forward mode."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cache, partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.autograd import forward_ad

from gradcheck.backends import hand_written
from gradcheck.backends.flat import EPS, F64, Leaf, from_flat
from gradcheck.backends.flat_call import Binding, rebuild_outputs
from gradcheck.backends.program import Claim, Unavailable, make_zero_claim
from gradcheck.backends.torch import sparse, vjps
from gradcheck.backends.torch.attached import make_attached_vjp
from gradcheck.backends.torch.derived_backwards import Rederivation
from gradcheck.backends.torch.parameter_swap import swap_scope
from gradcheck.backends.torch.tensors import carries_gradient, flat_of_all, leaf_part, leaves_at, tensor_of, to_numpy
from gradcheck.backends.torch.twin_precision import emulated_half_precision, is_half, twin_precision
from gradcheck.backends.user_code import call_user_code
from gradcheck.targets.case import Case
from gradcheck.targets.framework import TargetKind, classify_target, unwrap_apply
from gradcheck.tracebacks import summarise_error
from gradcheck.trees import flatten, leaves_of

if TYPE_CHECKING:
    from gradcheck.backends.torch.functional import TorchFunctionalCall


def make_claims(
    case: Case, target: Any, call: TorchFunctionalCall, binding: Binding, returned: Any, run: Callable[..., Any], *, twin: bool
) -> tuple[Claim, ...]:
    """Make the claims: the derivative by hand, if the user gave one, and PyTorch's in both modes, if an output carries one.

    Without any of these, the claim is zero.

    Args:
        target: the function, Function or module.
        returned: what the target returned at the primal, with its graph.
        run: (every leaf of the inputs, binding, twin=) -> what the target returns.
        twin: whether the target has a twin.
    """
    analytic_claim = _make_analytic_claim(case, binding, returned, call)
    rederivation = Rederivation(run, lambda call: make_vjp(call, binding, twin=twin), binding.outputs[-1].span.stop)
    claims = [] if analytic_claim is None else [replace(analytic_claim, rederived=rederivation)]
    if not is_connected(returned, binding):
        eps = max(EPS[leaf.dtype] for leaf in binding.leaves)
        return tuple(claims) or (make_zero_claim(eps, binding.leaves[-1].span.stop),)
    optional = not _has_jvp(target) or bool(call.sparse_patterns) or any(map(_was_sparse, flatten(returned).leaves))
    reverse, forward = make_autograd_claims(run, binding, twin=twin, optional=optional)
    return (*claims, *(_add_rederivation(claim, rederivation, target) for claim in (reverse, forward)))


def _add_rederivation(claim: Claim, rederivation: Rederivation, target: Any) -> Claim:
    """Add what PyTorch derives from the forwards of autograd Functions; the calls of them unless the target is one."""
    product = claim.precise_product
    is_function = classify_target(unwrap_apply(target)) is TargetKind.AUTOGRAD_FUNCTION
    find = None if is_function or product is None else partial(rederivation.find_wrong_calls, product)
    return replace(claim, rederived=rederivation, find_wrong_calls=find)


def make_autograd_claims(
    run: Callable[..., Any], binding: Binding, *, twin: bool, optional: bool = True
) -> tuple[Claim, Claim]:
    """Make the claims of PyTorch's reverse and forward mode.

    Args:
        run: (every leaf of the inputs, binding, twin=) -> what the target returns.
        twin: whether the target has a twin.
        optional: whether forward mode may be unavailable.
    """
    eps = max(EPS[leaf.dtype] for leaf in binding.leaves)
    has_twin = twin and eps > EPS["float64"]
    has_rounded = has_twin and is_half(binding.leaves)
    attached = make_attached_vjp(run, lambda call: make_vjp(call, binding, twin=twin))
    return (
        Claim(
            "reverse",
            eps,
            make_vjp(run, binding, twin=False),
            attached=attached,
            twin=make_vjp(run, binding, twin=True) if has_twin else None,
            plain=make_vjp(run, binding, twin=True, precision=emulated_half_precision) if has_rounded else None,
        ),
        Claim(
            "forward",
            eps,
            jvp=_make_jvp(run, binding, twin=False),
            twin_jvp=_make_jvp(run, binding, twin=True) if has_twin else None,
            attached=attached,
            optional=optional,
        ),
    )


def _was_sparse(output: Any) -> bool:
    """Say whether an output was made dense, for which PyTorch has no forward mode."""
    return carries_gradient(output) and output.grad_fn is not None and output.grad_fn.name() == "ToDenseBackward0"


def make_vjp(
    run: Callable[..., Any], binding: Binding, *, twin: bool, precision: Callable[..., Any] = twin_precision
) -> Callable[[F64, F64], F64]:
    """Make the vector-Jacobian products: (point (N,), cotangents (C, M)) -> (C, N).

    The products raise Unavailable if no output carries a gradient.

    Args:
        run: (every leaf of the inputs, binding, twin=) -> what the target returns.
        twin: whether they are computed in the precision of the twin.
        precision: (twin, leaves) -> the context in which they are computed.
    """
    choice = vjps.BatchingChoice()

    def vjp(point: F64, cotangents: F64) -> F64:
        tensors = leaves_at(binding, point, twin=twin, requires_grad=True)
        with torch.enable_grad(), precision(twin, binding.leaves), swap_scope():
            returned = flatten(call_user_code("the forward pass", lambda: run(tensors, binding, twin=twin), (), {})).leaves
            inputs = [tensors[i] for i in binding.input_places]
            attached = [
                (returned[i], leaf)
                for i, leaf in zip(binding.output_places, binding.outputs, strict=True)
                if carries_gradient(returned[i])
            ]
            if not attached:
                raise Unavailable("no output is connected to the inputs")
            return vjps.evaluate_vjps(vjps.BackwardGraph(attached, inputs, binding.leaves), cotangents, choice)

    return vjp


def is_connected(returned: Any, binding: Binding) -> bool:
    """Say whether any output carries a gradient."""
    leaves = leaves_of(returned)
    return any(carries_gradient(leaves[i]) for i in binding.output_places)


def _make_jvp(run: Callable[..., Any], binding: Binding, *, twin: bool) -> Callable[[F64, F64], F64]:
    """Make the Jacobian-vector products: (point (N,), tangents (K, N)) -> (K, M)."""
    choice, eps = vjps.BatchingChoice(), max(EPS[leaf.dtype] for leaf in binding.leaves)

    def jvp(point: F64, tangents: F64) -> F64:
        products = np.empty((len(tangents), binding.outputs[-1].span.stop))

        def push_one_by_one(vectors: F64, rows: F64) -> None:
            for row, u in zip(rows, vectors, strict=True):
                _evaluate_jvp(run, binding, point, u, row, twin=twin)

        def push_at_once(vectors: F64, rows: F64) -> None:
            _evaluate_jvps(run, binding, point, vectors, rows, twin=twin)

        with twin_precision(twin, binding.leaves):
            vjps.evaluate_products(push_one_by_one, push_at_once, tangents, products, eps, choice)
        return products

    return jvp


def _evaluate_jvp(run: Callable[..., Any], binding: Binding, point: F64, u: F64, into: F64, *, twin: bool) -> None:
    tensors = leaves_at(binding, point, twin=twin)
    try:
        with forward_mode_level():
            for i, leaf in zip(binding.input_places, binding.leaves, strict=True):
                tensors[i] = forward_ad.make_dual(tensors[i], leaf_part(u, leaf, tensors[i]))  # type: ignore[no-untyped-call]
            outputs = leaves_of(run(tensors, binding, twin=twin))
            parts = [tangent_of(outputs[i]) for i in binding.output_places]
            if all(part is None for part in parts):
                raise Unavailable("no tangent comes out: an operator inside drops it")
            flat_of_all(parts, binding.outputs, into)
    except Unavailable:
        raise
    except Exception as error:
        raise Unavailable(summarise_error(error, 120)) from error


def _evaluate_jvps(run: Callable[..., Any], binding: Binding, point: F64, tangents: F64, rows: F64, *, twin: bool) -> None:
    """Fill rows with the products of many tangents at once; it raises whatever `vmap` raises."""
    tensors, batches = leaves_at(binding, point, twin=twin), []
    inputs = tuple(tensors[i] for i in binding.input_places)
    for x, leaf in zip(inputs, binding.leaves, strict=True):
        stacked = np.stack([from_flat(u[leaf.span], leaf) for u in tangents])
        batches.append(torch.from_numpy(stacked).to(x.dtype).to(x.device))

    def evaluate(*moving: torch.Tensor) -> tuple[torch.Tensor, ...]:
        values = list(tensors)
        for i, x in zip(binding.input_places, moving, strict=True):
            values[i] = x
        outputs = leaves_of(run(values, binding, twin=twin))
        return tuple(outputs[i] for i in binding.output_places)

    def push(*parts: torch.Tensor) -> Any:
        return torch.func.jvp(evaluate, inputs, parts)[1]

    products = torch.func.vmap(push, randomness="same")(*batches)
    for k, row in enumerate(rows):
        flat_of_all([product[k] for product in products], binding.outputs, row)


@contextmanager
def forward_mode_level() -> Iterator[None]:
    """Enter a level of PyTorch's forward mode."""
    _load_jvp_rules()
    with forward_ad.dual_level():
        yield


@cache
def _load_jvp_rules() -> None:
    """Load the rules that PyTorch loads at first use, without its warning, which the user's filters may turn into an error."""
    with warnings.catch_warnings(), suppress(ModuleNotFoundError):
        warnings.simplefilter("ignore", DeprecationWarning)
        import_module("torch._decomp.decompositions_for_jvp")


def tangent_of(output: Any) -> torch.Tensor | None:
    """Return the tangent that an output carries in forward mode; None if it carries none."""
    return forward_ad.unpack_dual(output).tangent if isinstance(output, torch.Tensor) else None  # type: ignore[no-untyped-call]


def _has_jvp(target: Any) -> bool:
    return classify_target(target) is TargetKind.AUTOGRAD_FUNCTION and target.jvp is not torch.autograd.Function.jvp


def _make_analytic_claim(case: Case, binding: Binding, returned: Any, call: TorchFunctionalCall) -> Claim | None:
    patterns = {binding.call.paths[i]: pattern for i, pattern in call.sparse_patterns.items()}

    def tangent(u: F64, leaf: Leaf) -> torch.Tensor:
        dense = tensor_of(u[leaf.span], leaf, getattr(torch, leaf.dtype))
        return sparse.make_sparse(dense, patterns[leaf.path]) if leaf.path in patterns else dense

    def to_array(part: Any, leaf: Leaf) -> NDArray[Any]:
        pattern = patterns.get(leaf.path)
        has_full_shape = pattern is not None and isinstance(part, torch.Tensor) and part.shape == pattern.shape
        return to_numpy(sparse.read_at_pattern(part, pattern) if pattern is not None and has_full_shape else part)

    def rebuild(leaves: Sequence[Any]) -> tuple[Any, Any, Any]:
        args, kwargs, params = call.arguments(list(leaves), binding)
        return args, kwargs, {**call.frozen, **params}

    adapter = hand_written.Adapter(
        binding.call,
        binding.leaves,
        binding.outputs,
        max(EPS[leaf.dtype] for leaf in binding.leaves),
        lambda at: call.arguments(leaves_at(binding, at), binding)[:2],
        lambda v: _build_cotangent(returned, binding, v),
        lambda u: [tangent(u, leaf) for leaf in binding.leaves],
        to_array,
        call.user_call.paths,
        lambda at: {**call.frozen, **call.arguments(leaves_at(binding, at), binding)[2]},
        None if patterns else rebuild,
        lambda arrays: rebuild_outputs(returned, binding, arrays),
    )
    return next(iter(hand_written.make_claims(case.claims, adapter)), None)


def _build_cotangent(returned: Any, binding: Binding, v: F64) -> Any:
    outputs = leaves_of(returned)
    arrays = [
        leaf_part(v, leaf, outputs[i]) if isinstance(outputs[i], torch.Tensor) else from_flat(v[leaf.span], leaf).item()
        for i, leaf in zip(binding.output_places, binding.outputs, strict=True)
    ]
    return rebuild_outputs(returned, binding, arrays)
