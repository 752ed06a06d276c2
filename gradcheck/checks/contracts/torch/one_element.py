"""Contract `one-element`: a batch of one row, and inputs of one element, have the right gradient, too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gradcheck.checks.contracts.torch.support import directional
from gradcheck.checks.contracts.torch.support.plain_vjp import Baseline, NotApplicable, Remark, compute_vjp
from gradcheck.checks.contracts.torch.support.shrink_batch import shrink_batch, shrink_leaves
from gradcheck.tracebacks import format_user_line, summarise_error

if TYPE_CHECKING:
    from gradcheck.backends.contract_target import LayerFunction

NAME = "one-element"
FIX = "look for squeeze(), a division by the number of rows or by that number minus one, and hard-coded sizes"
# Autograd's message for a gradient whose shape does not fit contains this text.
MISSHAPEN = "returned an invalid gradient"


def find_breach(base: Baseline) -> str:
    """Name the smaller inputs for which the gradient is wrong; '' if there are none.

    Raises:
        Remark: if the forward accepts smaller inputs but the backward refuses them.
        NotApplicable: if the forward refuses all of them, or nothing can be made smaller.
    """
    refusals = list[str]()
    for name, leaves, call in _smaller_inputs(base, refusals):
        try:
            error = _find_error(base, leaves, call)
        except NotApplicable as reason:
            refusals.append(f"{name}: {reason}")
            continue
        except Remark as remark:
            raise Remark(f"for {name}, accepted by the forward, {remark}") from remark
        if error:
            return f"for {name} {error}"
    if refusals:
        raise NotApplicable(refusals[0])
    return ""


def _smaller_inputs(base: Baseline, refusals: list[str]) -> Iterator[tuple[str, list[Tensor], LayerFunction]]:
    """Yield smaller inputs made of the layer's own, each with a name and a call of the layer with them."""
    try:
        rows, call = shrink_batch(base, 1)
        if any(len(x) != len(row) for x, row in zip(base.inputs, rows, strict=True) if x.dim()):
            yield "a batch of one row", rows, call
    except NotApplicable as reason:
        refusals.append(str(reason))
    (shape, *more_shapes) = {tuple(x.shape) for x in (*base.inputs, *base.outputs)}
    if more_shapes or any(leaf.path.startswith("params[") for leaf in base.layer.leaves):
        return
    if any(n > 1 for n in shape):
        yield "inputs of one element", *_shrink_all(base, shape, lambda x: x[(slice(1),) * x.dim()])
    if shape and all(shape):
        yield "inputs without an axis", *_shrink_all(base, shape, lambda x: x.reshape(-1)[0])


def _shrink_all(
    base: Baseline, shape: tuple[int, ...], shrink: Callable[[Tensor], Tensor]
) -> tuple[list[Tensor], LayerFunction]:
    """Shrink all leaves, and every other tensor of their shape."""
    return shrink_leaves(base, [shrink(x) for x in base.inputs], lambda x: shrink(x) if tuple(x.shape) == shape else x, 1)


def _find_error(base: Baseline, leaves: list[Tensor], call: LayerFunction) -> str:
    """Describe how the gradient at smaller inputs is wrong; '' if it is not."""
    try:
        outputs = call(leaves)
    except Exception as error:
        raise NotApplicable(f"they are refused: {type(error).__name__}") from error
    if any(out.shape == before.shape for out, before in zip(outputs, base.outputs, strict=True) if before.numel() > 1):
        raise NotApplicable("the outputs are as large as before")
    if not all(torch.isfinite(out).all() for out in outputs):
        raise NotApplicable("the outputs are not finite")
    try:
        compute_vjp(outputs, leaves, [torch.ones_like(out) for out in outputs])
    except Exception as error:
        if MISSHAPEN in str(error):
            return f"the gradient has the wrong shape: {summarise_error(error)}"
        raise Remark(f"the backward raises {summarise_error(error, 120)}{format_user_line(error)}") from error
    eps, names = base.layer.eps, [leaf.path for leaf in base.layer.leaves]
    here = partial(directional.compare_along_direction, base.layer.call, base.inputs, eps)
    there = partial(directional.compare_along_direction, call, leaves, eps)
    difference = directional.describe_wrong_gradient(there, here, names)
    return difference and (_describe_summed_gradient(call, leaves, names) or difference)


def _describe_summed_gradient(call: LayerFunction, leaves: list[Tensor], names: list[str]) -> str:
    """Describe a gradient of another shape than its input, which autograd sums up; '' if no backward returns one."""
    leaves = [x.detach().clone().requires_grad_() for x in leaves]
    for out in call(leaves):
        function = getattr(type(out.grad_fn), "_forward_cls", None)  # of a Function; its node is the context
        if function is None or out.grad_fn is None:
            continue
        try:
            gradients = function.backward(out.grad_fn, torch.ones_like(out))
        except Exception:
            continue  # it takes the gradients of several outputs
        gradients = gradients if isinstance(gradients, tuple) else (gradients,)
        for gradient, (node, _) in zip(gradients, out.grad_fn.next_functions, strict=False):
            for name, leaf in zip(names, leaves, strict=False):
                if leaf is getattr(node, "variable", None) and gradient is not None and gradient.shape != leaf.shape:
                    shapes = f"shape {tuple(gradient.shape)} for {name} of shape {tuple(leaf.shape)}"
                    return f"the backward returns {shapes}, and PyTorch sums it up: a size is written into the backward"
    return ""
