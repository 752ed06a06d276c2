"""Fast evaluation of a torch target along a line: one buffer holds the point, and the leaves are views of it.

Nothing is built or copied from one evaluation to the next, so a large problem costs little more than its forward passes. On
a GPU the point stays there: one vector of outputs comes back for each evaluation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from gradcheck.backends.flat import EPS, F64, Leaf
from gradcheck.backends.torch.tensors import TWIN_DTYPES, dtype_name, flat_of, replace_leaves, view_as_leaf
from gradcheck.backends.torch.twin_precision import twin_precision
from gradcheck.trees import leaves_of

if TYPE_CHECKING:
    from gradcheck.backends.flat_call import Binding


def make_line_evaluator(
    run: Callable[..., Any], binding: Binding, point: F64, *, twin: bool
) -> Callable[[F64], Callable[[float], list[F64]]] | None:
    """Make the function tangent (N,) -> (t -> outputs at point + t tangent, one array per output leaf).

    The arrays may be memory of the target, so use them before the next call. None if the leaves cannot be views of one buffer.
    """
    templates = [binding.call.leaves[i] for i in binding.input_places]
    if not all(_can_be_view(t, leaf, twin) for t, leaf in zip(templates, binding.leaves, strict=True)):
        return None
    devices = {t.device for t in templates if isinstance(t, torch.Tensor)} or {torch.device("cpu")}
    if len(devices) > 1:
        return None
    device = devices.pop()
    buffers: list[torch.Tensor] = []  # one buffer, shared by all lines

    def along(tangent: F64) -> Callable[[float], list[F64]]:
        start, direction = torch.from_numpy(point).to(device), torch.from_numpy(tangent).to(device)
        if not buffers:
            buffers.append(torch.empty_like(start))
        buffer = buffers[0]
        views = {i: view_as_leaf(buffer[leaf.span], leaf) for i, leaf in zip(binding.input_places, binding.leaves, strict=True)}

        def values(t: float) -> list[F64]:
            torch.add(start, direction, alpha=t, out=buffer)
            tensors = replace_leaves(binding.call.leaves, views, twin)
            with twin_precision(twin, binding.leaves):
                outputs = leaves_of(run(tensors, binding, twin=twin))
            return [flat_of(outputs[i]) for i in binding.output_places]

        return values

    return along


def _can_be_view(template: Any, leaf: Leaf, twin: bool) -> bool:
    """Say whether a leaf can be a view of consecutive float64 numbers."""
    if leaf.width == 2 and leaf.start % 2:
        return False
    if not isinstance(template, torch.Tensor):
        return EPS[leaf.dtype] == EPS["float64"]
    dtype = TWIN_DTYPES.get(template.dtype, template.dtype) if twin else template.dtype
    contiguous = template.is_contiguous() and not (template.is_conj() or template.is_neg())
    return contiguous and EPS[dtype_name(dtype)] == EPS["float64"]
