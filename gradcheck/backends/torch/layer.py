"""A torch target as autograd meets it: tensors of its own dtype at the primal, and the outputs made of them."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from gradcheck.backends.binding import Binding
from gradcheck.backends.flat import EPS
from gradcheck.backends.layer_view import Call, Layer, Wrap
from gradcheck.backends.torch.graph import of_torch, own_functions
from gradcheck.backends.torch.tensors import with_moved
from gradcheck.targets.location import of_backward
from gradcheck.trees import flatten

if TYPE_CHECKING:
    from torch import Tensor

    from gradcheck.targets.location import Place


def layer_of(
    bound: Binding,
    tensors: Callable[[], list[Tensor]],
    running: Callable[[Wrap], Callable[..., Any]],
    first: Any,
    target: Any,
    carried: Callable[[], tuple[str, ...]],
    *,
    random: bool,
    upstream: Mapping[int, Tensor],
) -> Layer:
    """The target for its contracts.

    Args:
        tensors: () -> every leaf of the call.
        running: from what wraps the target's function to (leaves of the call, bound) -> what the target returns.
        first: what it returned, with its graph.
        carried: as the layer's.
        upstream: what a model sends back to it, by place among what it returns.
    """

    def returning(wrap: Wrap, values: Sequence[Any] = bound.call.leaves) -> Call:
        run = running(wrap)

        def returned(given: Sequence[Tensor]) -> list[Any]:
            moved = with_moved(values, dict(zip(bound.places, given, strict=True)), wide=False)
            return list(flatten(run(moved, bound, wide=False)).leaves)

        return returned

    def beside(change: Callable[[Tensor], Tensor]) -> Call:
        paths = bound.call.paths
        values = [change(x) if _stands_beside(x, path) else x for x, path in zip(bound.call.leaves, paths, strict=True)]
        return kept(returning(_plain, values))

    def kept(returned: Call) -> Call:
        def call(given: Sequence[Tensor]) -> list[Any]:
            found = returned(given)
            return [found[i] for i in bound.kept]

        return call

    plain, own = returning(_plain), own_functions(flatten(first).leaves)
    return Layer(
        leaves=bound.leaves,
        outputs=bound.outputs,
        eps=max(EPS[leaf.dtype] for leaf in (*bound.leaves, *bound.outputs)),
        tensors=lambda: [tensors()[i] for i in bound.places],
        call=kept(plain),
        returned=plain,
        wrapped=lambda wrap: kept(returning(wrap)),
        beside=beside,
        indices=tuple(filter(_may_point, target.buffers())) if isinstance(target, torch.nn.Module) else (),
        own=tuple(dict.fromkeys(function.__name__ for function in own)),
        triton=any(map(_uses_triton, own)),
        module=target if _is_own_module(target) else None,
        random=random,
        carried=carried,
        upstream=[upstream.get(i) for i in bound.kept] if upstream else None,
        place=place_of(own),
    )


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    return function


def _stands_beside(x: Any, path: str) -> bool:
    return isinstance(x, torch.Tensor) and not path.startswith("params[")


def _may_point(buffer: Tensor) -> bool:
    return buffer.dim() > 0 and not (buffer.is_floating_point() or buffer.is_complex() or buffer.dtype is torch.bool)


def _is_own_module(target: Any) -> bool:
    return isinstance(target, torch.nn.Module) and any(not of_torch(type(module)) for module in target.modules())


def place_of(functions: Sequence[type]) -> Place | None:
    """Where the backward of the first is written; None where there is none."""
    return of_backward(functions[0]) if functions else None


def _uses_triton(function: type) -> bool:
    beside = vars(sys.modules[function.__module__]) if "triton" in sys.modules and function.__module__ in sys.modules else {}
    homes = [x.__name__ if inspect.ismodule(x) else type(x).__module__ for x in beside.values()]
    return any(home.partition(".")[0] == "triton" for home in homes)
