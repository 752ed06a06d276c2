"""Tensors and flat float64 vectors: conversions, copies, memory layouts and dtypes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from gradcheck.backends.flat import F64, Leaf, from_flat, to_flat
from gradcheck.errors import DerivativeError, NoMemoryError
from gradcheck.tracebacks import format_user_frames, is_out_of_memory, read_message, summarise_error
from gradcheck.trees import leaves_of

if TYPE_CHECKING:
    from gradcheck.backends.flat_call import Binding

# The dtype that the twin uses for each lower one.
TWIN_DTYPES = {
    torch.float32: torch.float64,
    torch.float16: torch.float64,
    torch.bfloat16: torch.float64,
    torch.complex64: torch.complex128,
}
# Autograd's message contains this if a backward returns a complex gradient for a real input.
COMPLEX_GRADIENT = "input_is_complex == grad_is_complex"


def copy_detached(t: torch.Tensor, twin: bool) -> torch.Tensor:
    """Copy a tensor without its graph, in its own dtype or that of the twin."""
    copy = t.detach().clone()
    return copy.to(TWIN_DTYPES.get(copy.dtype, copy.dtype)) if twin else copy


def match_layout(values: torch.Tensor, template: torch.Tensor) -> torch.Tensor:
    """Return values in the memory layout of a template, lazily conjugated or negated as the template is.

    If entries of the template share memory, the values keep their layout, unless the template is an expanded tensor and they
    are equal there.
    """
    if template.is_conj():
        return match_layout(values.conj_physical(), template.conj()).conj()
    if template.is_neg():
        return torch._neg_view(match_layout(-values, torch._neg_view(template)))
    if template.layout is not torch.strided or values.stride() == template.stride() or values.numel() == 0:
        return values
    sizes_and_strides = list(zip(template.shape, template.stride(), strict=True))
    expanded_axes = [axis for axis, (n, stride) in enumerate(sizes_and_strides) if n > 1 and stride == 0]
    for axis in expanded_axes:
        if not torch.equal(values, values.narrow(axis, 0, 1).expand_as(values)):
            return values
        values = values.narrow(axis, 0, 1)
    if expanded_axes:
        return values.contiguous().expand(template.shape)
    extent = 1
    for n, stride in sorted(sizes_and_strides, key=lambda axis: axis[1]):
        if stride < extent and n > 1:
            return values
        extent += stride * (n - 1)
    buffer = torch.zeros(extent, dtype=values.dtype, device=values.device)
    return buffer.as_strided(template.shape, template.stride()).copy_(values)


def to_numpy(value: Any) -> NDArray[Any]:
    """Convert a tensor or number to a NumPy array on the host.

    Lower precision becomes float32, which holds it exactly; a sparse tensor becomes dense.
    """
    if not isinstance(value, torch.Tensor):
        return np.asarray(value)
    ended = value.wait() if hasattr(value, "wait") else value  # the result of a collective
    dense: torch.Tensor = ended if ended.layout is torch.strided else ended.to_dense()
    narrow = dense.dtype.is_floating_point and dense.dtype.itemsize < torch.float32.itemsize  # includes float8
    host = dense.to(torch.float32) if narrow else dense
    return host.numpy(force=True)  # `force` also reads zeros that autograd keeps without memory.


def flat_of(value: Any) -> F64:
    """Return the entries of a tensor or number as float64 numbers."""
    return to_flat(to_numpy(value))


def flat_of_all(values: Sequence[Any], leaves: Sequence[Leaf], into: F64 | None = None) -> F64:
    """Return the entries of several tensors as one float64 vector.

    Args:
        values: a tensor or number per leaf; None for zeros.
        leaves: where each lies in the vector.
        into: a vector to write to, which spares a copy.
    """
    flat = np.empty(leaves[-1].span.stop) if into is None else into
    for value, leaf in zip(values, leaves, strict=True):
        if value is None:
            flat[leaf.span] = 0.0
        elif leaf.width == 2:
            flat[leaf.span] = flat_of(value)
        else:
            flat[leaf.span] = to_numpy(value).reshape(-1)
    return flat


def view_as_leaf(numbers: torch.Tensor, leaf: Leaf) -> torch.Tensor:
    """View a leaf's float64 numbers as its entries: float64 or complex128, of its shape.

    Complex entries must start at an even place (see `align`): kernels read two numbers at once and crash elsewhere.
    """
    return torch.view_as_complex(numbers.view(*leaf.shape, 2)) if leaf.width == 2 else numbers.view(leaf.shape)


def align(numbers: torch.Tensor, leaf: Leaf) -> torch.Tensor:
    """Copy the numbers of a complex leaf, so that `view_as_leaf` can view them."""
    return numbers.clone() if leaf.width == 2 else numbers


def tensor_of(numbers: F64, leaf: Leaf, dtype: torch.dtype) -> torch.Tensor:
    """Make a new tensor of a leaf's flat numbers, in the leaf's shape."""
    if leaf.width == 2 or dtype is torch.float64:
        return torch.from_numpy(from_flat(numbers, leaf)).to(dtype)
    return torch.from_numpy(numbers).view(leaf.shape).to(dtype)


def leaf_part(v: F64, leaf: Leaf, like: torch.Tensor) -> torch.Tensor:
    """Return a leaf's part of a cotangent or tangent, as a new tensor of the dtype and device of `like`."""
    return tensor_of(v[leaf.span], leaf, like.dtype).to(like.device)


def replace_leaves(values: Sequence[Any], replacements: Mapping[int, Any], twin: bool) -> list[Any]:
    """Replace some leaves of a call.

    Other tensors are copied, so that nothing of the user's can change.

    Args:
        values: every leaf of the call.
        replacements: the new values, by place.
        twin: whether copies have the dtype of the twin.
    """
    return [
        replacements[i] if i in replacements else copy_detached(x, twin) if isinstance(x, torch.Tensor) else x
        for i, x in enumerate(values)
    ]


def carries_gradient(output: Any) -> bool:
    """Say whether an output is a tensor with a graph behind it."""
    return isinstance(output, torch.Tensor) and output.requires_grad


def dtype_name(dtype: torch.dtype) -> str:
    """Return a dtype's name, such as 'float32'."""
    return str(dtype).removeprefix("torch.")


@contextmanager
def using_default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Make a dtype PyTorch's default inside the context; float64 if it is no real floating dtype."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype if dtype.is_floating_point else torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def backpropagate(
    outputs: list[Any],
    inputs: Sequence[torch.Tensor],
    cotangents: list[torch.Tensor],
    leaves: Sequence[Leaf],
    into: F64 | None = None,
) -> F64:
    """Compute one vector-Jacobian product by PyTorch, (N,).

    Args:
        outputs: tensors with a graph.
        inputs: what to differentiate with respect to; an input that is not in the graph gets zeros.
        cotangents: one per output.
        leaves: layout of the inputs.
        into: a vector to write to.

    Raises:
        DerivativeError: if the backward pass raises.
        NoMemoryError: if memory runs out.
    """
    try:
        gradients = torch.autograd.grad(outputs, list(inputs), cotangents, retain_graph=True, allow_unused=True)
    except Exception as error:
        if COMPLEX_GRADIENT in read_message(error):
            raise DerivativeError("a backward returned a complex gradient for a real input: return its real part") from None
        if is_out_of_memory(error):
            raise NoMemoryError(
                f"the backward pass ran out of memory ({summarise_error(error, 160)})", format_user_frames(error)
            ) from None
        raise DerivativeError(f"the backward pass raised {summarise_error(error)}", format_user_frames(error)) from None
    return flat_of_all(gradients, leaves, into)


def leaves_at(binding: Binding, point: F64, *, twin: bool = False, requires_grad: bool = False) -> list[Any]:
    """Return every leaf of a call at a point: new tensors, so that nothing of the user's can change.

    Args:
        point: values of the differentiable leaves, (N,).
        twin: whether floating tensors have the dtype of the twin.
        requires_grad: whether the differentiable leaves require a gradient.
    """
    tensors = {}
    for i, leaf in zip(binding.input_places, binding.leaves, strict=True):
        template = binding.call.leaves[i]
        dtype = getattr(torch, leaf.dtype)
        tensor = tensor_of(point[leaf.span], leaf, TWIN_DTYPES.get(dtype, dtype) if twin else dtype)
        if isinstance(template, torch.Tensor):
            tensor = match_layout(tensor.to(template.device), template)
        tensors[i] = tensor.requires_grad_() if requires_grad else tensor
    return replace_leaves(binding.call.leaves, tensors, twin)


def flatten_outputs(returned: Any, binding: Binding) -> F64:
    """Return the differentiable outputs among what was returned, as one vector (M,)."""
    leaves = leaves_of(returned)
    return np.concatenate([flat_of(leaves[i]) for i in binding.output_places])
