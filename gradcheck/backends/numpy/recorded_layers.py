"""One run of a NumPy network, forward and backward, that records the calls of its layers.

Layers are objects with `forward` and `backward` methods, functions with a backward, and loss functions that return their
gradient with their value.
"""

from __future__ import annotations

import copy
import functools
import inspect
import re
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import Any

import numpy as np

from gradcheck.backends.forms.adapt import Adapted, adapt, needs_adapting
from gradcheck.backends.forms.forward_backward import PlacedFunction
from gradcheck.backends.forms.parameters import copy_code
from gradcheck.backends.forms.places import Place, find_values, get_owner, holding, is_floating_array
from gradcheck.backends.generators import is_of_library
from gradcheck.backends.numpy.call_recorder import CallRecorder, WatchedCall, WatchedLayer, wrap_function
from gradcheck.backends.numpy.called_functions import find_called_functions, list_functions, name_backward, pair_by_name
from gradcheck.backends.recorded_layer import BACKWARD_NOT_CALLED, RecordedCall, RecordedLayer
from gradcheck.backends.user_code import call_user_code
from gradcheck.errors import UsageError
from gradcheck.seeds import make_generator
from gradcheck.targets.case import Case, gradient_is_returned
from gradcheck.targets.framework import TargetKind, classify_target
from gradcheck.targets.signature import Inputs
from gradcheck.trees import tree_map

LOSS_NAMES = re.compile(r"loss|cost|entropy|softmax|hinge|svm|mse|nll|criterion|objective", re.IGNORECASE)
WHOLE_LAYER = ("forward", "fprop", "__call__")  # methods that are the forward of the object, and not of a part of it


def record_layers(case: Case, target: Callable[..., Any], inputs: Inputs) -> list[RecordedLayer]:
    """Run a network forward and backward on a private copy, and record the inputs and cotangents of its layers.

    Returns:
        The network itself, without calls, then its layers in the order of their first calls, outer ones before inner ones.

    Raises:
        UsageError: if there is no layer, or no derivative that goes backward.
        TargetError: if the network raises.
    """
    private = _adapt_on_copy(case, target, inputs)
    kind, claim = next(iter(private.case.claims.items()), ("", None))
    if claim is None or kind == "jvp":
        raise UsageError(
            f"by_layer: {case.name} has no hand-written backward, whose layers it names: give gradient=, gradient='returned',"
            " vjp= or backward="
        )
    roots = [f.__wrapped__ if isinstance(f, PlacedFunction) else f for f in (private.target, claim)]  # the user's code
    functions = _list_code(roots)
    layers = [*_find_objects(roots), *_find_functions(functions)]
    recorder = CallRecorder()
    with _watching(layers, functions, recorder):
        _run(private, kind, claim, recorder)
    owner = get_owner(roots[0])
    name = getattr(roots[0], "__name__", case.name) if owner is None else type(owner).__name__
    called = [layer for layer in layers if layer.owner is not None or layer.calls]
    called = [layer for layer in called if layer.backwards or any(call.backward for call in layer.calls)]
    if not called:
        raise UsageError(
            f"by_layer: no layer was found in {case.name}: expected objects with forward and backward methods among its"
            " attributes, lists and dictionaries, or functions that it calls, named as affine_forward and affine_backward"
        )
    called.sort(key=lambda layer: (layer.depth, not layer.calls))
    return [RecordedLayer("", target, name), *map(_finish, called)]


def _adapt_on_copy(case: Case, target: Callable[..., Any], inputs: Inputs) -> Adapted:
    """Adapt a case to a private copy of the user's objects."""
    if needs_adapting(case, target):
        return adapt(case, target, inputs)
    (target, *functions), _ = copy_code(case.name, [target, *case.claims.values()])
    return Adapted(replace(case, claims=dict(zip(case.claims, functions, strict=True))), target, inputs)


def _list_code(roots: Sequence[Any]) -> dict[Any, list[Place]]:
    """Return the functions that a network calls, with the places from which it takes them, without the network itself."""
    values = [value for root in _list_starts(roots) for value, _ in find_values(root)]
    code = [root for root in (*roots, *(type(value) for value in values)) if list_functions(root)]
    of_network = {function for root in roots for function in list_functions(root)}
    return {function: places for function, places in find_called_functions(code).items() if function not in of_network}


def _list_starts(roots: Sequence[Any]) -> list[Any]:
    """Return where the search for layers starts: the objects that functions are bound to, and else the functions."""
    return [root if get_owner(root) is None else get_owner(root) for root in roots]


def _find_objects(roots: Sequence[Any]) -> Iterator[WatchedLayer]:
    """Find the objects with a forward and a backward that a network reaches; the network itself counts for its other pairs."""
    starts, visited, pairs = _list_starts(roots), set[int](), dict[type, list[tuple[str, str]]]()
    for start in (*starts, *(function for root in roots for function in list_functions(root))):
        for value, path in find_values(start):
            cls = type(value)
            if id(value) in visited or is_of_library(cls) or classify_target(value) is not TargetKind.FUNCTION:
                continue
            visited.add(id(value))
            if cls not in pairs:
                pairs[cls] = _pair_methods(cls)
            for forward, backward in pairs[cls]:
                is_whole = forward in WHOLE_LAYER
                if not (is_whole and any(value is network for network in starts)):
                    name = path if is_whole else f"{path}.{backward}".strip(".")
                    yield WatchedLayer(name, cls.__name__ if is_whole else "method", forward, (backward,), value)


def _pair_methods(cls: type) -> list[tuple[str, str]]:
    """Return the names of the methods of a class that are a forward and its backward."""
    methods = [n for n in dir(cls) if isinstance(inspect.getattr_static(cls, n), types.FunctionType) and not n.startswith("_")]
    pairs = [(name, name_backward(name, methods)) for name in methods]
    found = [(forward, backward) for forward, backward in pairs if backward in methods]
    is_called = not found and "backward" in methods and isinstance(vars(cls).get("__call__"), types.FunctionType)
    return [("__call__", "backward")] if is_called else found


def _find_functions(functions: Iterable[Any]) -> Iterator[WatchedLayer]:
    """Find the pairs of functions, and the loss functions, among those that a network calls."""
    pairs = pair_by_name(functions)
    for forward, backwards in pairs:
        name = backwards[0].__name__ if backwards else name_backward(forward.__name__, ())
        if backwards or callable(getattr(forward, "__globals__", {}).get(name)):  # the network may have forgotten to call it
            yield WatchedLayer(name, "function", forward, tuple(backwards) or (None,))
    paired = {function for forward, backwards in pairs for function in (forward, *backwards)}
    for function in functions:
        if function not in paired and LOSS_NAMES.search(function.__name__):
            yield WatchedLayer(function.__name__, "function", function, ())


@contextmanager
def _watching(layers: Sequence[WatchedLayer], places: dict[Any, list[Place]], recorder: CallRecorder) -> Iterator[None]:
    """Replace the methods and functions of layers by ones that record their calls; on exit all are as they were."""
    wrapped: dict[Any, Any] = {}
    for layer in layers:
        if layer.owner is None:
            wrapped[layer.forward] = wrap_function(layer.forward, functools.partial(recorder.call_forward, layer))
    backwards = {backward for layer in layers if layer.owner is None for backward in layer.backwards if backward is not None}
    for backward in backwards:
        of_backward = [layer for layer in layers if layer.owner is None and backward in layer.backwards]
        wrapped[backward] = wrap_function(backward, functools.partial(recorder.call_backward, of_backward, backward))
    replaced = [(place, wrapper) for function, wrapper in wrapped.items() for place in places[function]]
    with ExitStack() as stack:
        stack.enter_context(holding([place for place, _ in replaced], [wrapper for _, wrapper in replaced]))
        for cls in dict.fromkeys(type(layer.owner) for layer in layers if layer.owner is not None):
            of_class = [layer for layer in layers if type(layer.owner) is cls]
            for name in {name for layer in of_class for name in (layer.forward, *layer.backwards)}:
                stack.enter_context(_replacing_method(cls, name, of_class, recorder))
        yield


@contextmanager
def _replacing_method(cls: type, name: str, layers: Sequence[WatchedLayer], recorder: CallRecorder) -> Iterator[None]:
    """Replace a method of a class by one that records the calls of some layers, which are objects of the class."""
    function, is_own = getattr(cls, name), name in vars(cls)

    @functools.wraps(function)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        bound = types.MethodType(function, self)
        for layer in layers:
            if layer.owner is self and name == layer.forward:
                return recorder.call_forward(layer, bound, args, kwargs)
            if layer.owner is self and name in layer.backwards:
                return recorder.call_backward([layer], name, bound, args, kwargs)
        return bound(*args, **kwargs)

    setattr(cls, name, method)
    try:
        yield
    finally:
        if is_own:
            setattr(cls, name, function)
        else:
            delattr(cls, name)


def _run(private: Adapted, kind: str, claim: Callable[..., Any], recorder: CallRecorder) -> None:
    """Call the network, then its derivative, which may use what the network keeps."""
    args, kwargs = copy.deepcopy((private.inputs.args, dict(private.inputs.kwargs)))
    recorder.begin_run((args, kwargs))
    outputs = call_user_code("the target", private.target, args, kwargs)
    args, kwargs = copy.deepcopy((private.inputs.args, dict(private.inputs.kwargs)))
    recorder.begin_run((args, kwargs))
    leading = (_draw_cotangents(outputs),) if kind == "vjp" else ()
    with suppress(Exception), np.errstate(all="ignore"):  # a backward that raises is reported by the check of its own layer
        claim(*leading, *args, **kwargs)


def _draw_cotangents(outputs: Any) -> Any:
    """Draw a cotangent of random signs for each output."""
    rng = make_generator(0, "model")

    def draw(output: Any) -> Any:
        if not (is_floating_array(output) or isinstance(output, float)):
            return output
        signs = rng.choice([-1.0, 1.0], np.shape(output))
        return signs.astype(output.dtype) if isinstance(output, np.ndarray) else type(output)(signs)

    return tree_map(draw, outputs)


def _finish(layer: WatchedLayer) -> RecordedLayer:
    """Return a layer with the calls that can be checked alone."""
    done = [call for call in layer.calls if call.backward is not None]
    kept = [call for call in done if call.copies is not None and not call.problem]
    problem = next((call.problem for call in layer.calls if call.problem), "")
    if not layer.calls:
        message = "not called"
    elif not done:
        message = BACKWARD_NOT_CALLED
    else:
        message = "" if kept else f"not checked: {problem or 'the backwards of its first calls were never called'}"
    return RecordedLayer(
        layer.name,
        layer.forward,
        layer.kind,
        [_make_call(layer, call) for call in kept],
        len(layer.calls),
        message=message,
        inner={inner.name for inner in layer.inner},
        derivative=layer.name if layer.kind in ("function", "method") else f"{layer.path}.{layer.backwards[0]}",
    )


def _make_call(layer: WatchedLayer, call: WatchedCall) -> RecordedCall:
    assert call.copies is not None
    owner, args, kwargs = call.copies
    if not layer.backwards:
        return RecordedCall(args, kwargs, target=layer.forward, claims={"returned": gradient_is_returned})
    target, backward = (f if owner is None else getattr(owner, f) for f in (layer.forward, call.backward))
    return RecordedCall(args, kwargs, cotangents=call.cotangents, target=target, claims={"backward": backward})
