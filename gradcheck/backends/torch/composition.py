"""Automatic differentiation by PyTorch of a combination of functions of the same inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gradcheck.backends.flat import F64
from gradcheck.backends.flat_call import Binding
from gradcheck.backends.program import Member, Unavailable
from gradcheck.backends.torch.tensors import backpropagate, carries_gradient, leaf_part


def evaluate_vjp(
    call: Callable[[Callable[..., Any] | None, list[Any]], Sequence[Any]],
    values: list[Any],
    binding: Binding,
    members: Sequence[Member],
    combine: Callable[..., Any],
    cotangent: F64,
) -> F64:
    """Return the vector-Jacobian product of the combination, (N,).

    Args:
        call: (function, every leaf of the inputs) -> every leaf of what it returns; None stands for the target.
        values: every leaf of the inputs, the differentiable ones as tensors that require a gradient.
        members: the functions, and a factor for each differentiable leaf.
        combine: makes one output of as many as there are members.
        cotangent: (M,).

    Raises:
        Unavailable: if no output carries a derivative.
    """
    outputs = []
    for function, scales in members:
        scaled = list(values)
        for i, scale in zip(binding.input_places, scales, strict=True):
            scaled[i] = values[i] if scale == 1 else values[i] * scale
        returned = call(function, scaled)
        outputs.append([returned[i] for i in binding.output_places])
    totals = [combine(*parts) for parts in zip(*outputs, strict=True)]
    attached = [(t, leaf) for t, leaf in zip(totals, binding.outputs, strict=True) if carries_gradient(t)]
    if not attached:
        raise Unavailable("the combination carries no derivative")
    cotangents = [leaf_part(cotangent, leaf, t) for t, leaf in attached]
    return backpropagate([t for t, _ in attached], [values[i] for i in binding.input_places], cotangents, binding.leaves)
