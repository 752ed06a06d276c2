"""Tensors in and out: copies, memory layouts, dtypes, and float64 numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from gradcheck.backends.flat import F64, Leaf, to_flat
from gradcheck.errors import DerivativeError, NoMemoryError
from gradcheck.tracebacks import one_line, out_of_memory, user_frames
from gradcheck.trees import flatten

if TYPE_CHECKING:
    from gradcheck.backends.binding import Binding
    from gradcheck.backends.flat import F64

WIDE = {
    torch.float32: torch.float64,
    torch.float16: torch.float64,
    torch.bfloat16: torch.float64,
    torch.complex64: torch.complex128,
}
REAL = "input_is_complex == grad_is_complex"  # in what autograd says of a complex gradient of something real


def fresh(t: torch.Tensor, wide: bool) -> torch.Tensor:
    """A detached copy, in its own dtype or widened to float64 or complex128."""
    copy = t.detach().clone()
    return copy.to(WIDE.get(copy.dtype, copy.dtype)) if wide else copy


def like_layout(values: torch.Tensor, template: torch.Tensor) -> torch.Tensor:
    """Values in the memory layout of a template, lazily conjugated or negated as it is.

    Where entries share memory (expanded), only equal values can be laid so.
    """
    if template.is_conj():
        return like_layout(values.conj_physical(), template.conj()).conj()
    if template.is_neg():
        return torch._neg_view(like_layout(-values, torch._neg_view(template)))
    if template.layout is not torch.strided or values.stride() == template.stride() or values.numel() == 0:
        return values
    overlapping = [d for d, (n, s) in enumerate(zip(template.shape, template.stride(), strict=True)) if n > 1 and s == 0]
    for d in overlapping:
        if not torch.equal(values, values.narrow(d, 0, 1).expand_as(values)):
            return values
        values = values.narrow(d, 0, 1)
    if overlapping:
        return values.contiguous().expand(template.shape)
    extent = sum(s * (n - 1) for s, n in zip(template.stride(), template.shape, strict=True)) + 1
    buffer = torch.zeros(extent, dtype=values.dtype, device=values.device)
    return buffer.as_strided(template.shape, template.stride()).copy_(values)


def to_numpy(value: Any) -> NDArray[Any]:
    """A tensor or number as a NumPy array on the host; lower precision as float32, which holds it exactly; sparse as dense."""
    if not isinstance(value, torch.Tensor):
        return np.asarray(value)
    dense = value if value.layout is torch.strided else value.to_dense()
    narrow = dense.dtype.is_floating_point and dense.dtype.itemsize < torch.float32.itemsize  # float8, too
    host = dense.to(torch.float32) if narrow else dense
    return host.numpy(force=True)  # also of zeros that autograd keeps without memory


def flat_of(value: Any) -> F64:
    """A tensor or number as float64 numbers."""
    return to_flat(to_numpy(value))


def flat_of_all(values: Sequence[Any], leaves: Sequence[Leaf], into: F64 | None = None) -> F64:
    """Several of them, one after the other where the leaves lie; None as zeros. Without a copy in between."""
    flat = np.empty(leaves[-1].span.stop) if into is None else into
    for value, leaf in zip(values, leaves, strict=True):
        if value is None:
            flat[leaf.span] = 0.0
        elif leaf.width == 2:
            flat[leaf.span] = flat_of(value)
        else:
            flat[leaf.span] = to_numpy(value).reshape(-1)
    return flat


def shaped(numbers: torch.Tensor, leaf: Leaf) -> torch.Tensor:
    """A leaf's float64 numbers, seen as its entries: float64 or complex128, of its shape.

    Complex ones must lie at an even place (`aligned`): kernels read two numbers at once, and crash elsewhere.
    """
    return torch.view_as_complex(numbers.view(*leaf.shape, 2)) if leaf.width == 2 else numbers.view(leaf.shape)


def aligned(numbers: torch.Tensor, leaf: Leaf) -> torch.Tensor:
    """The numbers where `shaped` can see them."""
    return numbers.clone() if leaf.width == 2 else numbers


def tensor_of(numbers: F64, leaf: Leaf, dtype: torch.dtype) -> torch.Tensor:
    """The inverse for one leaf: a new tensor of its shape."""
    return shaped(aligned(torch.from_numpy(numbers), leaf), leaf).to(dtype, copy=True)


def seed(v: F64, leaf: Leaf, like: torch.Tensor) -> torch.Tensor:
    """A leaf's part of a cotangent or tangent, as a new tensor of the dtype and on the device of another."""
    return tensor_of(v[leaf.span], leaf, like.dtype).to(like.device)


def with_moved(values: Sequence[Any], moved: Mapping[int, Any], wide: bool) -> list[Any]:
    """The leaves of a call with some in the place of theirs; other tensors are copied: nothing of the user's can change."""
    return [moved[i] if i in moved else fresh(x, wide) if isinstance(x, torch.Tensor) else x for i, x in enumerate(values)]


def carries_gradient(output: Any) -> bool:
    """Whether an output is a tensor that autograd leads back from."""
    return isinstance(output, torch.Tensor) and output.requires_grad


def name_of(dtype: torch.dtype) -> str:
    """A dtype's name, such as 'float32'."""
    return str(dtype).removeprefix("torch.")


@contextmanager
def default_of(dtype: torch.dtype) -> Iterator[None]:
    """Make a dtype the default for a while; float64 where it is no real floating one."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype if dtype.is_floating_point else torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def gradients(
    outputs: list[Any],
    wanted: Sequence[torch.Tensor],
    seeds: list[torch.Tensor],
    leaves: Sequence[Leaf],
    into: F64 | None = None,
) -> F64:
    """One vector-Jacobian product by PyTorch, (N,), written `into` an array if given; zero where an input has no part.

    Raises:
        DerivativeError: where the backward pass raises.
        NoMemoryError: where memory runs out.
    """
    try:
        grads = torch.autograd.grad(outputs, list(wanted), seeds, retain_graph=True, allow_unused=True)
    except Exception as error:
        if REAL in str(error):
            raise DerivativeError("a backward returned a complex gradient for a real input: return its real part") from None
        if out_of_memory(error):
            raise NoMemoryError(f"the backward pass ran out of memory ({one_line(error, 160)})", user_frames(error)) from None
        raise DerivativeError(f"the backward pass raised {one_line(error)}", user_frames(error)) from None
    return flat_of_all(grads, leaves, into)


def leaves_at(bound: Binding, point: F64, *, wide: bool = False, requires_grad: bool = False) -> list[Any]:
    """Every leaf at a point, in its own dtype or widened: new tensors throughout, nothing of the user's can change."""
    moved = {}
    for i, leaf in zip(bound.places, bound.leaves, strict=True):
        template = bound.call.leaves[i]
        dtype = getattr(torch, leaf.dtype)
        made = tensor_of(point[leaf.span], leaf, WIDE.get(dtype, dtype) if wide else dtype)
        if isinstance(template, torch.Tensor):
            made = like_layout(made.to(template.device), template)
        moved[i] = made.requires_grad_() if requires_grad else made
    return with_moved(bound.call.leaves, moved, wide)


def numbers_of(returned: Any, bound: Binding) -> F64:
    """The differentiable outputs among what was returned, as one vector."""
    found = flatten(returned).leaves
    return np.concatenate([flat_of(found[i]) for i in bound.kept])
