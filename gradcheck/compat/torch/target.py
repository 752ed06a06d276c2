"""The function that `gradcheck.check` is given for a call of PyTorch's checkers."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from gradcheck.backends.global_state import preserving, seed_generators
from gradcheck.backends.torch import sparse
from gradcheck.backends.torch.derivatives import tangent_of
from gradcheck.backends.torch.functional import is_differentiable
from gradcheck.compat.answer import CheckCall
from gradcheck.compat.torch.call import Call, as_tuple, requires_grad
from gradcheck.seeds import make_generator
from gradcheck.targets.framework import unwrap_apply
from gradcheck.targets.signature import resolve_inputs


def make_target(call: Call) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Return what is checked for a call: a function and its inputs.

    For `gradgradcheck` it is the inner product of the outputs with cotangents, whose second derivatives are those of the
    gradient with respect to inputs and cotangents.

    Raises:
        Exception: for `gradgradcheck`, whatever the function raises.
    """
    fn, inputs = _make_function(call)
    if not call.of_gradient:
        return fn, inputs
    with preserving(), torch.enable_grad():
        outputs = as_tuple(fn(*copy_inputs(inputs)))
        given = call["grad_outputs"]
        cotangents = _draw_cotangents(differentiable_outputs(outputs)) if given is None else as_tuple(given)
    places = [i for i, out in enumerate(outputs) if requires_grad(out)]
    if call["gen_non_contig_grad_outputs"] and given is None:
        fn = with_noncontiguous_cotangents(fn)
    return make_inner_product(fn, inputs, cotangents, places), (*inputs, *cotangents)


def as_pytorch_checks(check: CheckCall, call: Call) -> CheckCall:
    """Return what PyTorch's `gradcheck` is given for a call; for `gradgradcheck`, the gradient as a function.

    Args:
        check: what `make_target` returned for the call.
    """
    if not call.of_gradient:
        return check
    fn, inputs = _make_function(call)
    return replace(check, fn=make_gradient(fn, inputs, check.inputs[len(inputs) :]))


def _make_function(call: Call) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    fn = record_where_needed(call.func)
    return (fn, call.inputs) if call["masked"] else differentiate_every_entry(fn, call.inputs)


def record_where_needed(func: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function so that it is called again with inputs that require a gradient, if it raises without them.

    PyTorch's checkers always call it with such inputs, which functions need that register hooks or differentiate inside. A
    module becomes a function, whose parameters are not checked.
    """
    if unwrap_apply(func) is not func:
        return func

    run = _keep_buffers(func) if isinstance(func, torch.nn.Module) else func

    @functools.wraps(func.forward if isinstance(func, torch.nn.Module) else func, updated=())
    def call(*inputs: Any) -> Any:
        try:
            return run(*inputs)
        except RuntimeError:
            if any(requires_grad(x) or tangent_of(x) is not None for x in inputs):
                raise
            with torch.enable_grad():
                return run(*(x.detach().requires_grad_() if is_differentiable(x) else x for x in inputs))

    return call


def _keep_buffers(module: torch.nn.Module) -> Callable[..., Any]:
    """Wrap a module so that each call writes to copies of its buffers, such as the running mean of a batch norm."""
    buffers = dict(module.named_buffers())
    if not buffers or isinstance(module, torch.jit.ScriptModule):
        return module

    def call(*inputs: Any) -> Any:
        return torch.func.functional_call(module, {name: buffer.clone() for name, buffer in buffers.items()}, inputs)

    return call


def differentiable_outputs(returned: Any) -> tuple[Any, ...]:
    """Return the outputs that carry a gradient."""
    return tuple(out for out in as_tuple(returned) if requires_grad(out))


def record_graph(check: CheckCall) -> tuple[Any, tuple[Any, ...], list[Any]]:
    """Call a function on copies of its inputs; return what it returns, and the outputs and the copies that have a graph."""
    inputs = copy_inputs(check.inputs)
    returned = check.fn(*inputs)
    return returned, differentiable_outputs(returned), [x for x in inputs if requires_grad(x)]


def copy_inputs(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Copy the tensors, with their graph: the function may write to the copies."""
    return tuple(x.clone() if isinstance(x, torch.Tensor) else x for x in inputs)


def _draw_cotangents(outputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """Draw a cotangent for each differentiable output, as PyTorch does, with a seed of our own."""
    seed_generators(make_generator(0, "cotangents of PyTorch's gradgradcheck"))
    return tuple(
        torch.testing.make_tensor(
            out.shape,
            dtype=out.dtype,
            device=out.device,
            low=-1,
            high=1,
            requires_grad=True,
        )
        for out in outputs
    )


def with_noncontiguous_cotangents(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function so that its outputs send back cotangents that are not contiguous."""

    @functools.wraps(fn, updated=())
    def call(*arguments: Any) -> tuple[Any, ...]:
        return tuple(
            torch.stack([out, out.detach()], -1).select(-1, 0) if is_differentiable(out) else out
            for out in as_tuple(fn(*arguments))
        )

    return call


def make_inner_product(
    fn: Callable[..., Any], inputs: tuple[Any, ...], cotangents: tuple[torch.Tensor, ...], places: Sequence[int]
) -> Callable[..., torch.Tensor]:
    """Return the real inner product of a function's outputs with cotangents, as a function of the inputs and the cotangents.

    Args:
        cotangents: one for each place.
        places: the outputs that are multiplied.
    """

    def inner_product(*arguments: Any) -> torch.Tensor:
        outputs = as_tuple(fn(*arguments[: len(inputs)]))
        pairs = zip((outputs[i] for i in places), arguments[len(inputs) :], strict=True)
        terms = [torch.sum(out * v.conj()).real if out.is_complex() else torch.sum(out * v) for out, v in pairs]
        return torch.stack(terms).sum() if terms else torch.zeros(())

    inner_product.__signature__ = _name_parameters(fn, inputs, cotangents)  # type: ignore[attr-defined]
    return inner_product


def make_gradient(
    fn: Callable[..., Any], inputs: tuple[Any, ...], cotangents: tuple[torch.Tensor, ...]
) -> Callable[..., tuple[torch.Tensor, ...]]:
    """Return the gradient of a function, as a function of its inputs followed by cotangents of its differentiable outputs.

    Args:
        inputs: its inputs, of which those that require a gradient are differentiated.
        cotangents: of the differentiable outputs.
    """
    places = [i for i, x in enumerate(inputs) if requires_grad(x)]
    moving = {i for i, x in enumerate((*inputs, *cotangents)) if requires_grad(x)}

    def gradient(*arguments: Any) -> tuple[torch.Tensor, ...]:
        values = [_requiring_grad(x) if i in moving else x for i, x in enumerate(arguments)]
        with torch.enable_grad():
            outputs = differentiable_outputs(fn(*values[: len(inputs)]))
            sources = [values[i] for i in places]
            gradients = torch.autograd.grad(outputs, sources, values[len(inputs) :], create_graph=True, allow_unused=True)
        return tuple(g for g in gradients if g is not None)

    gradient.__signature__ = _name_parameters(fn, inputs, cotangents)  # type: ignore[attr-defined]
    return gradient


def _name_parameters(
    fn: Callable[..., Any], inputs: tuple[Any, ...], cotangents: tuple[torch.Tensor, ...]
) -> inspect.Signature:
    """Return the signature of a gradient: the inputs as they are called in a report, then `grad_outputs`."""
    labels = resolve_inputs(unwrap_apply(fn), inputs, {}).labels
    names = [label if label.isidentifier() else f"inputs_{i}" for i, label in enumerate(labels)]
    names += [f"grad_outputs_{i}" for i in range(len(cotangents))]
    return inspect.Signature([inspect.Parameter(name, inspect.Parameter.POSITIONAL_ONLY) for name in names])


def _requiring_grad(x: torch.Tensor) -> torch.Tensor:
    """Return a tensor that requires a gradient: the same one if it does already, or carries a tangent."""
    if x.requires_grad:
        return x
    return (x.detach() if tangent_of(x) is None else x).requires_grad_()


def differentiate_every_entry(fn: Callable[..., Any], inputs: tuple[Any, ...]) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Make sparse inputs dense, so that entries that they do not store are differentiated too, as with `masked=False`."""
    patterns = {i: sparse.pattern_of(x.detach()) for i, x in enumerate(inputs) if sparse.is_sparse(x) and requires_grad(x)}
    if not patterns:
        return fn, inputs

    @functools.wraps(fn, updated=())
    def call(*arguments: Any) -> Any:
        return fn(*(_fill_pattern(x, patterns[i]) if i in patterns else x for i, x in enumerate(arguments)))

    dense = (x.detach().to_dense().requires_grad_() if i in patterns else x for i, x in enumerate(inputs))
    return call, tuple(dense)


def _fill_pattern(dense: torch.Tensor, pattern: sparse.Pattern) -> torch.Tensor:
    """Make a sparse tensor of a dense one; its gradient becomes the dense tensor's, with zeros where it stores none.

    Only the places of the pattern are stored if all other entries are zero; otherwise every entry is.
    """
    return _FillPattern.apply(dense, pattern)  # type: ignore[no-any-return,no-untyped-call]


class _FillPattern(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, dense: torch.Tensor, pattern: sparse.Pattern) -> torch.Tensor:
        ctx.set_materialize_grads(False)  # PyTorch has no zeros for some layouts
        stored = sparse.make_sparse(sparse.read_at_pattern(dense, pattern), pattern)
        if torch.equal(stored.to_dense(), dense):
            return stored
        full = _full_pattern(dense, pattern)
        return sparse.make_sparse(sparse.read_at_pattern(dense, full), full)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor | None) -> Any:
        return None if gradient is None else gradient.to_dense() if sparse.is_sparse(gradient) else gradient, None


def _full_pattern(dense: torch.Tensor, pattern: sparse.Pattern) -> sparse.Pattern:
    """Return the pattern of the same layout that stores every entry."""
    ones = torch.ones(dense.shape, device=dense.device)
    if pattern.layout is torch.sparse_coo:
        return sparse.pattern_of(ones.to_sparse(len(pattern.indices[0])))
    is_blocked = pattern.layout in (torch.sparse_bsr, torch.sparse_bsc)
    batch_axes = pattern.indices[0].dim()
    blocksize = tuple(pattern.stored[batch_axes : batch_axes + 2]) if is_blocked else None
    return sparse.pattern_of(ones.to_sparse(layout=pattern.layout, blocksize=blocksize))
