"""A recorder of calls: the inputs of each layer's forward, and the upstream gradients of the backward that belongs to it."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gradcheck.backends.forms import value_and_gradient
from gradcheck.backends.forms.backward_call import CACHE, COTANGENT, read_backward, split_returned
from gradcheck.backends.forms.places import ATOMS, is_floating_array
from gradcheck.backends.recorded_layer import MAX_RECORDED_CALLS
from gradcheck.errors import ClaimError
from gradcheck.tracebacks import summarise_error
from gradcheck.trees import flatten


@dataclass(eq=False)
class WatchedCall:
    """One call of a forward, with the call of its backward.

    Attributes:
        args, kwargs: as the forward received them.
        copies: of the object, the arguments and the keyword arguments, made before the call; None if they were not kept.
        returned: what the forward returned.
        backward: the function that was called backward, or the name of the method; None: none yet.
        cotangents: what the backward received for each output, by its place.
        problem: why the call cannot be repeated alone.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    copies: tuple[Any, tuple[Any, ...], dict[str, Any]] | None = None
    returned: Any = None
    backward: Any = None
    cotangents: dict[int, Any] = field(default_factory=dict)
    problem: str = ""

    def count_shared(self, args: Sequence[Any]) -> int:
        """Count the objects among some arguments that the forward received or returned."""
        return len(_identify([*self.args, *self.kwargs.values(), self.returned, *_items(self.returned)]) & _identify(args))


@dataclass(eq=False)
class WatchedLayer:
    """A layer while the network runs.

    Attributes:
        path, kind: as in a `RecordedLayer`.
        forward: the function, or the name of the method.
        backwards: the functions, or the names of the methods, that may be its backward; () for a loss with its gradient.
        owner: the object; None for a function.
        calls: the calls of the forward in the latest run in which it was called.
        run: the number of that run.
        depth: the largest number of other layers around a call.
        inner: the layers that it calls.
    """

    path: str
    kind: str
    forward: Any
    backwards: tuple[Any, ...]
    owner: Any = None
    calls: list[WatchedCall] = field(default_factory=list)
    run: int = 0
    depth: int = 0
    inner: set[WatchedLayer] = field(default_factory=set)

    @property
    def name(self) -> str:
        """The path; for a function the name of the backward that was called."""
        called = next((call.backward for call in self.calls if call.backward is not None), None)
        return called.__name__ if self.owner is None and called is not None else self.path


class CallRecorder:
    """Records the calls of layers. A run in which a layer's forward is called replaces what an earlier one recorded of it."""

    def __init__(self) -> None:
        self.run = 0
        self.open_layers: list[WatchedLayer] = []
        self.inputs: set[int] = set()

    def begin_run(self, inputs: Any) -> None:
        """Begin a run of the network with some inputs."""
        self.run += 1
        self.inputs = {id(x) for x in flatten(inputs).leaves if isinstance(x, np.ndarray)}

    def call_forward(self, layer: WatchedLayer, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Any) -> Any:
        """Call a forward and record the call."""
        if layer in self.open_layers:  # the method of a base class, or recursion
            return function(*args, **kwargs)
        if layer.run != self.run:
            layer.calls, layer.run = [], self.run
        call = WatchedCall(args, kwargs)
        if len(layer.calls) < MAX_RECORDED_CALLS:
            try:
                call.copies = copy.deepcopy((layer.owner, args, kwargs))
            except Exception as error:
                call.problem = f"it cannot be copied ({summarise_error(error)})"
        layer.calls.append(call)
        with self._inside(layer):
            call.returned = function(*args, **kwargs)
        if not layer.backwards and _returns_gradient(call):
            call.backward = function
        return call.returned

    def call_backward(
        self, layers: Sequence[WatchedLayer], key: Any, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Any
    ) -> Any:
        """Call a backward, which may be that of some layers, and record what it receives.

        `key` is what it is known by: the user's function, or the name of the method.
        """
        if any(layer in self.open_layers for layer in layers):
            return function(*args, **kwargs)
        waiting = [(layer, call) for layer in layers for call in reversed(layer.calls) if call.backward is None]
        found = max(waiting, key=lambda pair: pair[1].count_shared((*args, *kwargs.values())), default=None)
        if found is None:
            return function(*args, **kwargs)
        layer, call = found
        call.backward = key
        if call.copies is not None:
            self._record_cotangents(layer, call, function, args, kwargs)
        call.args, call.kwargs, call.returned = (), {}, None  # they are no longer compared, and may be large
        with self._inside(layer):
            return function(*args, **kwargs)

    @contextmanager
    def _inside(self, layer: WatchedLayer) -> Iterator[None]:
        for outer in self.open_layers:
            outer.inner.add(layer)
        layer.depth = max(layer.depth, len(self.open_layers))
        self.open_layers.append(layer)
        try:
            yield
        finally:
            self.open_layers.pop()

    def _record_cotangents(
        self, layer: WatchedLayer, call: WatchedCall, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Any
    ) -> None:
        """Record the cotangents of a call, after comparing how the backward was called with how it will be."""
        forward = getattr(layer.owner, layer.forward) if layer.owner is not None else layer.forward
        names = tuple(inspect.signature(forward).parameters)
        backward_call = read_backward(function, names, (), "its backward")
        given = list(inspect.signature(function).bind(*args, **kwargs).arguments.items())
        try:
            outputs, _ = split_returned(call.returned, backward_call, "its backward")
        except ClaimError:
            unknown = [name for (name, _), role in zip(given, backward_call.roles, strict=False) if role == CACHE]
            call.problem = f"its backward takes {' and '.join(unknown)}, which its forward neither receives nor returns"
            return
        pairs = [pair for pair, role in zip(given, backward_call.roles, strict=False) if role == COTANGENT]
        known = self.inputs | _identify([*call.args, *call.kwargs.values(), *outputs])
        for place, ((name, value), output) in enumerate(zip(pairs, outputs, strict=False)):
            if id(value) in known and is_floating_array(value):
                call.problem = f"its backward takes {name}, an input or output, where the gradient of its output is expected"
            elif np.shape(value) != np.shape(output):
                call.problem = (
                    f"its backward receives a gradient of shape {np.shape(value)} for an output of {np.shape(output)}"
                )
            call.cotangents[place] = copy.deepcopy(value)


def _returns_gradient(call: WatchedCall) -> bool:
    """Whether a call returned a number and an array that may be its gradient, of the shape of an input."""
    try:
        parts = value_and_gradient.find_parts(call.returned, (), "a loss")
    except ClaimError:
        return False
    gradient = parts.pick_gradients(call.returned)
    shapes = [np.shape(x) for x in (*call.args, *call.kwargs.values()) if is_floating_array(x)]
    return is_floating_array(gradient) and np.shape(gradient) in shapes


def _items(value: Any) -> Sequence[Any]:
    return value if isinstance(value, tuple | list) else ()


def _identify(values: Sequence[Any]) -> set[int]:
    """Return the identities of some values and of the items of tuples among them; plain data have none."""
    parts = [part for value in values for part in (value, *_items(value))]
    return {id(part) for part in parts if not isinstance(part, ATOMS)}


def wrap_function(function: Callable[..., Any], record: Callable[[Callable[..., Any], tuple[Any, ...], Any], Any]) -> Any:
    """Wrap a function, so that its calls are recorded."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return record(function, args, kwargs)

    return wrapper
