"""A torch target at many points at once, through `torch.func.vmap`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from gradcheck.backends.flat import F64, Leaf
from gradcheck.backends.program import Unavailable
from gradcheck.backends.torch.tensors import TWIN_DTYPES, align, replace_leaves, view_as_leaf
from gradcheck.backends.torch.twin_precision import twin_precision
from gradcheck.tracebacks import summarise_error
from gradcheck.trees import flatten

if TYPE_CHECKING:
    from gradcheck.backends.flat_call import Binding


def make_batched_evaluate(run: Callable[..., Any], binding: Binding, *, twin: bool) -> Callable[[F64], F64]:
    """Make the function points (B, N) -> outputs (B, M).

    The target draws random numbers once for all points, the same as it would draw for each alone. The function raises
    Unavailable if the target, or an operator in it, cannot be mapped.
    """
    moving_leaves = dict(zip(binding.input_places, binding.leaves, strict=True))

    def evaluate_one(point: torch.Tensor) -> torch.Tensor:
        moving_tensors = {i: _read_leaf(point, leaf, binding.call.leaves[i], twin) for i, leaf in moving_leaves.items()}
        tensors = replace_leaves(binding.call.leaves, moving_tensors, twin)
        returned = flatten(run(tensors, binding, twin=twin)).leaves
        return torch.cat([_flatten_output(returned[i]) for i in binding.output_places])

    def outputs(points: F64) -> F64:
        try:
            with torch.no_grad(), twin_precision(twin, binding.leaves):
                values: F64 = torch.func.vmap(evaluate_one, randomness="same")(torch.from_numpy(points)).numpy()
        except Exception as error:
            raise Unavailable(summarise_error(error, 100)) from None
        return values

    return outputs


def _read_leaf(point: torch.Tensor, leaf: Leaf, template: Any, twin: bool) -> torch.Tensor:
    dtype = getattr(torch, leaf.dtype)
    device = template.device if isinstance(template, torch.Tensor) else "cpu"
    return view_as_leaf(align(point[leaf.span], leaf), leaf).to(TWIN_DTYPES.get(dtype, dtype) if twin else dtype).to(device)


def _flatten_output(output: Any) -> torch.Tensor:
    value = torch.view_as_real(output.resolve_conj()) if output.is_complex() else output
    return value.reshape(-1).to("cpu").to(torch.float64)  # to the host first: a device may lack float64
