"""Rules for PyTorch's operators that move entries or add them up, and for sums with a factor, such as means."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import reduce
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from gradcheck.backends.torch.exact import nodes
from gradcheck.backends.torch.exact.nodes import TracedTensor, shadow_of
from gradcheck.exact import build
from gradcheck.exact.build import add, make_scalar, multiply, node_of, subtract
from gradcheck.exact.graph import F64, Node, NotAvailable

# A rule: (operator, its result in floating point, arguments, keywords) -> the node of the result, or one per result.
Rule = Callable[..., Any]

MAX_FACTORS = 256
MAX_COEFFICIENTS = 500_000


def list_names(text: str) -> list[str]:
    """Return the words of a text."""
    return text.split()


# Operators whose result consists of entries of their arguments.
MOVES = list_names(
    """
    view _unsafe_view reshape view_of alias detach clone expand permute transpose t squeeze unsqueeze slice select flip
    roll repeat cat stack split split_with_sizes unbind gather index index_select take as_strided diagonal unfold
    broadcast_in_dim collapse collapse_view lift_fresh lift_fresh_copy slice_in_dim split_dim rev movedim select_scatter
    slice_scatter diagonal_scatter as_strided_scatter copy_strided copy reflection_pad1d reflection_pad2d reflection_pad3d
    replication_pad1d replication_pad2d replication_pad3d repeat_interleave index_put rot90 view_copy expand_copy
    squeeze_copy unsqueeze_copy permute_copy transpose_copy t_copy slice_copy select_copy alias_copy detach_copy
    unfold_copy diagonal_copy as_strided_copy split_copy unbind_copy split_with_sizes_copy channel_shuffle pixel_shuffle
    pixel_unshuffle masked_select index_copy masked_scatter put _reshape_alias _unsafe_index _unsafe_index_put
    upsample_nearest1d upsample_nearest2d upsample_nearest3d _upsample_nearest_exact1d _upsample_nearest_exact2d
    _upsample_nearest_exact3d
    """
)
# Operators that add up entries of their arguments with integer coefficients.
SUMS = list_names(
    """
    sum cumsum scatter_add index_add trace embedding_dense_backward diag_embed unfold_backward select_backward
    slice_backward diagonal_backward im2col col2im tril triu index_select_backward reflection_pad1d_backward
    reflection_pad2d_backward reflection_pad3d_backward replication_pad1d_backward replication_pad2d_backward
    replication_pad3d_backward upsample_nearest1d_backward upsample_nearest2d_backward upsample_nearest3d_backward
    _upsample_nearest_exact1d_backward _upsample_nearest_exact2d_backward _upsample_nearest_exact3d_backward
    value_selecting_reduction_backward max_unpool2d
    """
)
# Operators that are linear in their first argument, with coefficients that the floating-point values of the others choose.
CHOSEN_SUMS = list_names(
    """
    threshold_backward max_pool2d_with_indices_backward max_pool3d_with_indices_backward adaptive_max_pool2d_backward
    adaptive_max_pool3d_backward fractional_max_pool2d_backward fractional_max_pool3d_backward
    softshrink_backward hardshrink_backward
    """
)
# Operators that are linear in their first argument, with coefficients that are no integers.
WEIGHTED_SUMS = list_names(
    """
    avg_pool2d avg_pool2d_backward avg_pool3d avg_pool3d_backward _adaptive_avg_pool2d_backward _adaptive_avg_pool3d_backward
    upsample_linear1d_backward upsample_bilinear2d_backward upsample_trilinear3d_backward upsample_bicubic2d_backward
    _upsample_bilinear2d_aa _upsample_bilinear2d_aa_backward _upsample_bicubic2d_aa _upsample_bicubic2d_aa_backward
    """
)


def translate_linear(operator: Any, result: Any, *args: Any, moves: bool = False, **kwargs: Any) -> Any:
    """Translate an operator that is linear in all floating-point tensors among its arguments together."""
    flat, spec = pytree.tree_flatten((args, kwargs))
    places = [i for i, x in enumerate(flat) if isinstance(x, TracedTensor) and x.shadow.is_floating_point()]
    template = [torch.float64 if isinstance(x, torch.dtype) and x.is_floating_point else shadow_of(x) for x in flat]
    operands = [node_of(flat[i]) for i in places]

    def make_apply(index: int | None) -> Callable[[Sequence[F64]], F64]:
        def apply(arrays: Sequence[F64]) -> F64:
            values = list(template)
            for i, array in zip(places, arrays, strict=True):
                values[i] = torch.from_numpy(np.array(array, order="C"))
            a, k = pytree.tree_unflatten(values, spec)
            out = operator(*a, **k)
            return np.asarray((out if index is None else out[index]).numpy())

        return apply

    if isinstance(result, torch.Tensor):
        return build.linear(operands, make_apply(None), tuple(result.shape), moves=moves)
    return [build.linear(operands, make_apply(i), tuple(r.shape), moves=moves) for i, r in enumerate(result)]


def translate_move(operator: Any, result: Any, *args: Any, **kwargs: Any) -> Any:
    """Translate an operator whose result consists of entries of its arguments."""
    return translate_linear(operator, result, *args, moves=True, **kwargs)


def translate_put(operator: Any, result: Any, *args: Any, **kwargs: Any) -> Any:
    """Translate an operator that overwrites entries of its first argument, or adds to them if it accumulates."""
    accumulates = kwargs.get("accumulate", args[3] if len(args) > 3 else False)
    return translate_linear(operator, result, *args, moves=not accumulates, **kwargs)


def translate_reduction(
    operator: Any, result: Any, x: TracedTensor, dim: int, index: TracedTensor, source: TracedTensor, reduce: str, **kwargs: Any
) -> Any:
    """Translate a sum of entries by place."""
    if reduce != "sum":
        raise NotAvailable(f"a {reduce} by place")
    return translate_linear(operator, result, x, dim, index, source, reduce, **kwargs)


def translate_chosen_sum(operator: Any, result: Any, first: TracedTensor, *args: Any, **kwargs: Any) -> Any:
    """Translate an operator that is linear in its first argument."""
    keywords = {name: shadow_of(value) for name, value in kwargs.items()}
    return translate_linear(operator, result, first, *map(shadow_of, args), **keywords)


def translate_by_matrix(operator: Any, result: torch.Tensor, x: TracedTensor, *args: Any, **kwargs: Any) -> Node:
    """Translate an operator that is linear in its first argument, with any coefficients: each is read as a constant."""
    size, count = x.shadow.numel(), result.numel()
    if size * count > MAX_COEFFICIENTS:
        raise NotAvailable(f"an operator of {size * count:,} coefficients")
    others, keywords = [shadow_of(a) for a in args], {name: shadow_of(value) for name, value in kwargs.items()}
    columns = [
        operator(unit.reshape(x.shadow.shape), *others, **keywords).reshape(-1) for unit in torch.eye(size, dtype=torch.float64)
    ]
    matrix = nodes.make_constants(torch.stack(columns, 1))
    product = nodes.bilinear(matrix, nodes.move(x, lambda t: t.reshape(-1, 1)), torch.mm, (count, 1))
    return nodes.move(product, lambda t: t.reshape(result.shape))


def translate_filling(keyword: str, position: int) -> Rule:
    """Make the rule of an operator that is linear but for a number that it fills in.

    Args:
        keyword: the name of the number.
        position: its place among the arguments.
    """

    def fill(args: tuple[Any, ...], kwargs: dict[str, Any], value: float) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if len(args) > position:
            return (*args[:position], value, *args[position + 1 :]), kwargs
        return args, {**kwargs, keyword: value}

    def rule(operator: Any, result: Any, *args: Any, **kwargs: Any) -> Any:
        number = args[position] if len(args) > position else kwargs.get(keyword, 0)
        if isinstance(number, TracedTensor):
            return translate_move(operator, result, *args, **kwargs)
        zero_args, zero_kwargs = fill(args, kwargs, 0.0)
        one_args, one_kwargs = pytree.tree_map(_make_zeros, fill(args, kwargs, 1.0))
        mask = operator(*one_args, **one_kwargs) == 1
        return nodes.choose(mask, number, translate_move(operator, result, *zero_args, **zero_kwargs))

    return rule


def _make_zeros(x: Any) -> Any:
    shadow = shadow_of(x)
    return torch.zeros_like(shadow) if isinstance(shadow, torch.Tensor) and shadow.is_floating_point() else shadow


def translate_mean(_o: Any, result: torch.Tensor, x: TracedTensor, dim: Any = None, keepdim: bool = False, **_: Any) -> Node:
    """Translate a mean: a sum, divided by the number of its terms."""
    total = translate_linear(torch.ops.aten.sum.dim_IntList, result, x, dim, keepdim)
    count = max(x.shadow.numel(), 1) // max(result.numel(), 1)
    return multiply(total, make_scalar(Fraction(1, max(count, 1))))


def translate_variance(
    _o: Any, result: torch.Tensor, x: TracedTensor, dims: Any = None, correction: float | None = 1, **_: Any
) -> Node:
    """Translate a variance: the mean square of the distances from the mean."""
    axes = [d % x.shadow.ndim for d in dims] if dims else list(range(x.shadow.ndim))
    count = math.prod(x.shadow.shape[d] for d in axes)
    freedom = count - Fraction(1 if correction is None else correction).limit_denominator(1000)
    if freedom == 0:
        raise NotAvailable("a variance of one number")
    kept = x.shadow.sum(axes, keepdim=True)
    total = torch.ops.aten.sum.dim_IntList
    mean = multiply(translate_linear(total, kept, x, axes, True), make_scalar(Fraction(1, count)))
    centred = subtract(x, mean)
    squares = TracedTensor(x.shadow, multiply(centred, centred))
    keepdim = result.ndim == x.shadow.ndim
    return multiply(translate_linear(total, result, squares, axes, keepdim), make_scalar(1 / freedom))


def translate_product(_o: Any, result: torch.Tensor, x: TracedTensor, dim: Any = None, *_: Any, **__: Any) -> Node:
    """Translate the product of entries along axes."""
    dims = [dim] if isinstance(dim, int) else dim or range(x.shadow.ndim)
    axes = sorted(d % max(x.shadow.ndim, 1) for d in dims)
    count = math.prod(x.shadow.shape[d] for d in axes) if x.shadow.ndim else 1
    if count == 0 or x.shadow.ndim == 0:
        return nodes.make_constants(result) if count == 0 else node_of(x)
    _refuse_many_factors(count)

    def take(k: int) -> Node:
        return nodes.move(x, lambda t: flatten_axes(t, axes)[..., k].reshape(result.shape))

    return reduce(multiply, map(take, range(count)))


def translate_cumulative_product(_o: Any, result: torch.Tensor, x: TracedTensor, dim: int, **_: Any) -> Node:
    """Translate the products of the first entries along an axis."""
    if x.shadow.ndim == 0 or x.shadow.numel() == 0:
        return node_of(x)
    _refuse_many_factors(x.shadow.shape[dim])
    products: list[Node] = []
    for k in range(x.shadow.shape[dim]):
        factor = _take_slice(x, dim, k)
        products.append(multiply(products[-1], factor) if products else factor)
    return build.linear(products, lambda arrays: np.concatenate(arrays, axis=dim), tuple(result.shape), moves=True)


def _take_slice(x: TracedTensor, dim: int, k: int) -> Node:
    return nodes.move(x, lambda t: t.narrow(dim, k, 1))


def _refuse_many_factors(count: int) -> None:
    if count > MAX_FACTORS:
        raise NotAvailable(f"a product of {count:,} factors")


def flatten_axes(t: torch.Tensor, axes: Sequence[int]) -> torch.Tensor:
    """Move some axes to the end and flatten them into one."""
    rest = [d for d in range(t.ndim) if d not in axes]
    return t.permute(*rest, *axes).reshape([t.shape[d] for d in rest] + [-1])


# --- products of matrices, and convolutions


def translate_bilinear(operator: Any, result: torch.Tensor, a: TracedTensor, b: TracedTensor, *_: Any, **__: Any) -> Node:
    """Translate a product of matrices or vectors."""
    return nodes.bilinear(a, b, operator, tuple(result.shape))


def translate_convolution(
    operator: Any, result: torch.Tensor, x: TracedTensor, weight: TracedTensor, bias: TracedTensor | None, *rest: Any
) -> Node:
    """Translate a convolution, transposed or not."""
    product = nodes.bilinear(x, weight, lambda a, b: operator(a, b, None, *rest), tuple(result.shape))
    if bias is None:
        return product
    return add(product, nodes.move(bias, lambda t: t.reshape(-1, *[1] * (result.ndim - 2))))


def translate_convolution_backward(
    operator: Any, result: Any, gradient: TracedTensor, x: TracedTensor, weight: TracedTensor, sizes: Any, *rest: Any
) -> list[Node | None]:
    """Translate the three gradients of a convolution, each alone."""
    *settings, mask = rest

    def run(which: int, g: torch.Tensor, a: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        out = operator(g, a, w, sizes, *settings, [i == which for i in range(3)])[which]
        assert isinstance(out, torch.Tensor)
        return out

    no_input, no_weight = (torch.zeros_like(t.shadow, dtype=torch.float64) for t in (x, weight))
    parts: list[Node | None] = [None, None, None]
    if mask[0]:
        parts[0] = nodes.bilinear(gradient, weight, lambda g, w: run(0, g, no_input, w), tuple(result[0].shape))
    if mask[1]:
        parts[1] = nodes.bilinear(gradient, x, lambda g, a: run(1, g, a, no_weight), tuple(result[1].shape))
    if mask[2]:
        axes = (0, *range(2, gradient.shadow.ndim))
        parts[2] = build.linear([node_of(gradient)], lambda arrays: arrays[0].sum(axes), tuple(result[2].shape))
    return parts
