"""A torch target as autograd meets it: tensors of its own dtype at the primal, and the outputs made of them."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from gradcheck.backends.calls import Binding
from gradcheck.backends.program import EPS, Leaf
from gradcheck.backends.tensors import with_moved
from gradcheck.targets.source import of_backward
from gradcheck.trees import flatten

if TYPE_CHECKING:
    from torch import Tensor

    from gradcheck.targets.source import Place

Call = Callable[[Sequence["Tensor"]], "list[Any]"]
Look = Callable[[Any], None]
Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]  # as torch.compile

REGISTERED = "GeneratedBackwardFor_"  # what torch.library names the backward of an operator by
OURS = "gradcheck.backends."  # where Functions of our own are, which make sparse tensors
NODES = 100_000  # of a graph that are looked through for functions of the user's own


@dataclass(frozen=True)
class Layer:
    """What contracts call.

    Attributes:
        leaves, outputs: the differentiable inputs and outputs.
        eps: relative spacing of floats in the dullest dtype among them.
        tensors: () -> new tensors of the leaves at the primal, in the layout they were given in, without gradients.
        call: tensors of the leaves -> the differentiable outputs.
        returned: tensors of the leaves -> everything that is returned, however much that is.
        wrapped: from what wraps a function to `call`, with the target's function or module wrapped.
        beside: from what makes a tensor another to `call`, with the tensors that stand beside the leaves, as labels and masks
            do, made so.
        indices: integers that the module holds in its buffers, which may point at rows of the inputs.
        own: the autograd.Functions and registered operators of the user's own among what it calls, by name; `place`: file and
            line of the backward of the first.
        triton: whether one of them stands in a file that uses Triton.
        module: the target, where it is a module of a class of the user's own, or holds one.
        random: whether it draws random numbers, which fall elsewhere in tensors of another form.
        carried: () -> what is to be said of buffers that a call changes and the next one reads.
        upstream: what a model sends back to the outputs, one a leaf, None where nothing; None outside of a model.
    """

    leaves: tuple[Leaf, ...]
    outputs: tuple[Leaf, ...]
    eps: float
    tensors: Callable[[], list[Tensor]]
    call: Call
    returned: Call
    wrapped: Callable[[Wrap], Call]
    beside: Callable[[Callable[[Tensor], Tensor]], Call]
    indices: tuple[Tensor, ...]
    own: tuple[str, ...]
    triton: bool
    module: torch.nn.Module | None
    random: bool
    carried: Callable[[], tuple[str, ...]]
    upstream: Sequence[Tensor | None] | None = None
    place: Place | None = None


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


def of_torch(kind: type) -> bool:
    """Whether a class is PyTorch's own."""
    return kind.__module__.partition(".")[0] == "torch"


def own_functions(outputs: Sequence[Any]) -> tuple[type, ...]:
    """The autograd.Functions in the graph of some outputs that are not PyTorch's own, the last applied first."""
    return tuple(dict.fromkeys(type(node)._forward_cls for node in own_nodes(outputs)))


def place_of(functions: Sequence[type]) -> Place | None:
    """Where the backward of the first is written; None where there is none."""
    return of_backward(functions[0]) if functions else None


def own_nodes(outputs: Sequence[Any]) -> list[Any]:
    """The nodes that they left in the graph."""
    return [node for node in nodes(outputs) if _own(getattr(type(node), "_forward_cls", None))]


def nodes(outputs: Sequence[Any]) -> Iterator[Any]:
    """The graph behind some outputs, as far as NODES of it."""
    seen = set[Any]()
    waiting = [out.grad_fn for out in outputs if isinstance(out, torch.Tensor) and out.grad_fn is not None]
    while waiting and len(seen) < NODES:
        node = waiting.pop()
        if node not in seen:
            seen.add(node)
            waiting += [following for following, _ in node.next_functions if following is not None]
            yield node


def _own(function: type | None) -> bool:
    if function is None:
        return False
    foreign = of_torch(function) or function.__module__.startswith(OURS)
    return not foreign or _registered(function)


def _uses_triton(function: type) -> bool:
    beside = vars(sys.modules[function.__module__]) if "triton" in sys.modules and function.__module__ in sys.modules else {}
    homes = [x.__name__ if inspect.ismodule(x) else type(x).__module__ for x in beside.values()]
    return any(home.partition(".")[0] == "triton" for home in homes)


def _registered(function: type) -> bool:
    """Whether it stands for an operator of the user's own (torch.library) that was given a backward."""
    of = function.__name__.removeprefix(REGISTERED)
    return of != function.__name__ and not of.startswith(("aten_", "prims_"))


@contextmanager
def watched(functions: set[Any], names: Sequence[str], look: Callable[[Any, tuple[Any, ...]], Look]) -> Iterator[None]:
    """Let `look` see what some Functions' own methods of these names are given and return, before PyTorch touches it.

    Args:
        look: takes the Function and the arguments before the call; what it returns takes what was returned.
    """
    saved = [(f, n, vars(f).get(n), getattr(f, n)) for f in functions for n in names if _has_own(f, n)]

    def watching(function: Any, method: Callable[..., Any]) -> Callable[..., Any]:
        def told(*args: Any, **kwargs: Any) -> Any:
            after = look(function, args)
            returned = method(*args, **kwargs)
            after(returned)
            return returned

        return told

    try:
        for function, name, _, method in saved:
            setattr(function, name, staticmethod(watching(function, method)))
        yield
    finally:
        for function, name, own, _ in saved:
            if own is None:  # inherited
                delattr(function, name)
            else:
                setattr(function, name, own)


def _has_own(function: Any, name: str) -> bool:
    return getattr(function, name) is not getattr(torch.autograd.Function, name)
