"""The derivatives that PyTorch derives from the forwards of autograd Functions, compared with their hand-written ones."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gradcheck.backends.flat import F64
from gradcheck.backends.program import WrongCall
from gradcheck.backends.torch.attached import IgnoreDetach
from gradcheck.backends.torch.graph import find_user_functions
from gradcheck.backends.torch.tensors import carries_gradient, to_numpy
from gradcheck.targets.location import locate_backward, locate_method
from gradcheck.targets.signature import takes_context
from gradcheck.tracebacks import format_calling_line, format_place
from gradcheck.trees import leaves_of, tree_map

METHODS = ("forward", "setup_context", "backward", "vjp", "jvp")
# It takes the method, the Function, the number of its call, and its own derivatives with the derived ones.
Record = Callable[[str, Any, int, Sequence[Any], Sequence[Any]], None]
Product = Callable[["F64", "F64"], "F64"]


class _Operations(IgnoreDetach):
    """Counts the operations of differentiable code, and makes the result of one of them a constant.

    Args:
        constant: the number of that operation; -1: none, and the operations are named.
    """

    def __init__(self, constant: int = -1) -> None:
        super().__init__()
        self.constant, self.count = constant, 0
        self.places: list[str] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Call a function of PyTorch."""
        result = super().__torch_function__(func, types, args, kwargs)
        if not carries_gradient(result) or any(result is x for x in args):
            return result
        self.count += 1
        if self.constant < 0:
            name = getattr(func, "__name__", "").strip("_")
            self.places.append(f"`{name}` in {format_calling_line()}")
        return result.detach() if self.count - 1 == self.constant else result


@dataclass(frozen=True)
class Rederivation:
    """A target whose autograd Functions are differentiated by PyTorch.

    Attributes:
        run: (every leaf of the inputs, binding, twin=) -> what the target returns.
        make_vjp: makes the vector-Jacobian products of a call.
        size: the number of the outputs, M.
    """

    run: Callable[..., Any]
    make_vjp: Callable[[Callable[..., Any]], Product]
    size: int

    def vjp(self, point: F64, cotangents: F64) -> F64:
        """Return the vector-Jacobian products that use no hand-written backward."""
        with deriving(self._find_functions(point)):
            return self.make_vjp(self.run)(point, cotangents)

    def list_operations(self, point: F64) -> list[str]:
        """List the operations of the code that is differentiated, as in '`mean` in norm.py:5: mean = x.mean(-1)'."""
        operations = _Operations()
        self._differentiate(point, np.zeros((1, self.size)), operations)
        return operations.places

    def vjp_without(self, number: int, point: F64, cotangents: F64) -> F64:
        """Return the vector-Jacobian products if the result of an operation were a constant."""
        return self._differentiate(point, cotangents, _Operations(number))

    def _differentiate(self, point: F64, cotangents: F64, operations: _Operations) -> F64:
        functions = self._find_functions(point)

        def run(*args: Any, **kwargs: Any) -> Any:
            with operations if not functions else nullcontext():
                return self.run(*args, **kwargs)

        with deriving(functions, operations=operations):
            return self.make_vjp(run)(point, cotangents)

    def find_wrong_calls(self, product: Product, point: F64, vectors: F64) -> list[WrongCall]:
        """Find the calls of Functions whose own derivative is not that of their forward, in the order of the product."""
        calls: dict[tuple[str, Any, int, int], tuple[list[F64], list[F64]]] = {}

        def record(method: str, function: Any, number: int, own: Sequence[Any], derived: Sequence[Any]) -> None:
            for place, (first, second) in enumerate(zip(own, derived, strict=False)):
                if isinstance(second, torch.Tensor):
                    claimed, true = calls.setdefault((method, function, number, place), ([], []))
                    true.append(to_numpy(second))
                    claimed.append(np.zeros_like(true[-1]) if first is None else to_numpy(first))

        with deriving(self._find_functions(point), record):
            for vector in vectors:  # one at a time, so that none is batched
                product(point, vector[None])
        found = [self._make_call(product, key, np.stack(claimed), np.stack(true)) for key, (claimed, true) in calls.items()]
        return [call for call in found if call.is_wrong]

    @staticmethod
    def _make_call(product: Product, key: tuple[str, Any, int, int], claimed: F64, true: F64) -> WrongCall:
        method, function, _, place = key

        def repair(point: F64, vectors: F64) -> F64:
            with deriving([function]):
                return product(point, vectors)

        return WrongCall(*_describe_call(method, function, place), claimed, true, repair)

    def _find_functions(self, point: F64) -> set[type]:
        functions = set[type]()

        def run_once(*args: Any, **kwargs: Any) -> Any:
            returned = self.run(*args, **kwargs)
            functions.update(find_user_functions(leaves_of(returned)))
            return returned

        self.make_vjp(run_once)(point, np.zeros((1, self.size)))
        return functions


def _describe_call(method: str, function: Any, place: int) -> tuple[str, str, str]:
    """Return the name of a method, where it is written, and which of its derivatives is meant."""
    file, line = locate_method(function.jvp) if method == "jvp" else locate_backward(function)
    names = list(inspect.signature(function.forward).parameters)[int(takes_context(function)) :]
    argument = names[place] if place < len(names) else f"input {place}"
    of = f"its derivative of output {place}" if method == "jvp" else f"its gradient for {argument}"
    where = format_place(Path(file or "?").name, line)
    return f"{function.__qualname__.rpartition('>.')[2]}.{method}", where, of


@contextmanager
def deriving(functions: Iterable[Any], record: Record | None = None, operations: IgnoreDetach | None = None) -> Iterator[None]:
    """Replace the derivatives of autograd Functions by what PyTorch derives from their forwards.

    Args:
        functions: whose methods are replaced inside the context.
        record: takes what their own methods return, if it is needed.
        operations: the mode in which their forwards run.
    """
    functions = list(functions)
    saved = [(function, name, vars(function)[name]) for function in functions for name in METHODS if name in vars(function)]
    try:
        for function in functions:
            _replace_methods(function, record, operations or IgnoreDetach())
        yield
    finally:
        for function in functions:
            for name in METHODS:
                if name in vars(function):
                    delattr(function, name)
        for function, name, method in saved:
            setattr(function, name, method)


def _replace_methods(function: Any, record: Record | None, operations: IgnoreDetach) -> None:
    forward, setup, has_context = function.forward, function.setup_context, takes_context(function)
    own = {"backward": function.backward, "jvp": function.jvp}
    pending: list[Any] = []
    count = 0

    def run_forward(*args: Any) -> Any:
        nonlocal count
        context, given = args[: int(has_context)], args[int(has_context) :]
        with torch.enable_grad():
            inputs = [_attach(x) for x in given]
            with operations:  # its own `detach` does nothing, those here must cut the graph
                returned = forward(*context, *inputs)
        pending.append((inputs, leaves_of(returned), count))
        count += 1
        if has_context:
            context[0].gradcheck_graph = pending.pop()
        return tree_map(lambda x: x.detach() if carries_gradient(x) else x, returned)

    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        setup(ctx, inputs, output)
        ctx.gradcheck_graph = pending.pop()

    def derive(method: str, differentiate: Callable[..., list[Any]]) -> Callable[..., Any]:
        def call(ctx: Any, *vectors: Any) -> Any:
            inputs, outputs, number = ctx.gradcheck_graph
            derived = differentiate(inputs, outputs, vectors)
            if record is not None:
                returned = own[method](ctx, *(v.clone() if isinstance(v, torch.Tensor) else v for v in vectors))
                record(method, function, number, returned if isinstance(returned, tuple) else (returned,), derived)
            return tuple(derived) if len(derived) > 1 else derived[0]

        return call

    function.forward, function.backward = staticmethod(run_forward), staticmethod(derive("backward", _pull))
    if own["jvp"] is not torch.autograd.Function.jvp:
        function.jvp = staticmethod(derive("jvp", _push))
    if not has_context:
        function.setup_context = staticmethod(setup_context)


def _attach(x: Any) -> Any:
    """Return a tensor as the start of a graph of its own."""
    is_input = isinstance(x, torch.Tensor) and (x.is_floating_point() or x.is_complex())
    return x.detach().requires_grad_() if is_input else x


def _pull(inputs: Sequence[Any], outputs: Sequence[Any], cotangents: Sequence[Any]) -> list[Any]:
    """Return the gradient of each input."""
    pairs = [(out, g) for out, g in zip(outputs, cotangents, strict=True) if carries_gradient(out) and g is not None]
    attached = [x for x in inputs if carries_gradient(x)]
    ends, vectors = zip(*pairs, strict=True)
    gradients = iter(torch.autograd.grad(ends, attached, vectors, allow_unused=True, retain_graph=True))
    return [next(gradients) if carries_gradient(x) else None for x in inputs]


def _push(inputs: Sequence[Any], outputs: Sequence[Any], tangents: Sequence[Any]) -> list[Any]:
    """Return the derivative of each output: that of its gradients with respect to their cotangent."""
    attached = [(x, t) for x, t in zip(inputs, tangents, strict=True) if carries_gradient(x) and t is not None]
    derivatives: list[Any] = []
    with torch.enable_grad():
        for out in outputs:
            cotangent = torch.zeros_like(out, requires_grad=True)
            sources = [x for x, _ in attached]
            gradients = torch.autograd.grad(out, sources, cotangent, create_graph=True, allow_unused=True)
            pairs = [(g, t) for g, (_, t) in zip(gradients, attached, strict=True) if carries_gradient(g)]
            ends, vectors = zip(*pairs, strict=True)
            derivatives += torch.autograd.grad(ends, cotangent, vectors)
    return derivatives
