"""One forward and backward pass through a module, which records the inputs of its submodules and Functions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from gradcheck.backends.recorded_layer import MAX_RECORDED_CALLS, RecordedCall, RecordedLayer
from gradcheck.backends.torch.graph import find_user_functions, watching_methods
from gradcheck.backends.torch.module_state import restoring_attributes
from gradcheck.backends.user_code import call_user_code
from gradcheck.seeds import make_generator
from gradcheck.targets.framework import TargetKind
from gradcheck.targets.signature import Inputs, takes_context
from gradcheck.trees import flatten, tree_map

HOLDERS = (torch.nn.Sequential, torch.nn.ModuleList, torch.nn.ModuleDict)  # They only call other modules.
FUNCTION = TargetKind.AUTOGRAD_FUNCTION.value


def record_layers(model: torch.nn.Module, inputs: Inputs) -> list[RecordedLayer]:
    """Call a model forward and backward, and record the inputs and cotangents of its submodules and Functions.

    A module that several paths lead to has the first of them. A module that the model did not call has no calls. A Function
    comes after the module that applies it; a Function that is not in the graph is missing.

    Args:
        model: called once or twice.

    Raises:
        TargetError: if the model raises.
    """
    layers = [RecordedLayer(path, module, type(module).__name__) for path, module in model.named_modules()]
    with torch.enable_grad(), restoring_attributes(model):
        with _recording_hooks(layers):
            copies = tree_map(_copy_requiring_grad, (inputs.args, dict(inputs.kwargs)))
            outputs = flatten(call_user_code("the target", model, *copies)).leaves
            _backpropagate(outputs, [x for x in flatten(copies).leaves if isinstance(x, torch.Tensor)], model)
        functions = set(find_user_functions(outputs))
        return _record_functions(layers, functions, model, inputs) if functions else layers


@contextmanager
def _recording_hooks(layers: list[RecordedLayer]) -> Iterator[None]:
    with ExitStack() as stack:
        for layer in layers:
            before, after = _make_hooks(layer)
            stack.callback(layer.target.register_forward_pre_hook(before, with_kwargs=True).remove)
            stack.callback(layer.target.register_forward_hook(after, always_call=True).remove)
        yield


def _make_hooks(layer: RecordedLayer) -> tuple[Callable[..., None], Callable[..., None]]:
    """Make the hooks that run before and after a submodule's forward."""
    # Calls of one module may be nested, as in a recursive model.
    open_calls: list[tuple[RecordedCall | None, Callable[[], bool]]] = []

    def before(_: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        open_calls.append((_record_call(layer, args, kwargs), make_overwrite_check((args, kwargs))))

    def after(_: torch.nn.Module, _args: Any, output: Any) -> None:
        call, was_overwritten = open_calls.pop()
        if call is None:
            return
        call.overwritten = was_overwritten()
        for place, out in enumerate(flatten(output).leaves):
            if isinstance(out, torch.Tensor) and out.requires_grad:
                out.register_hook(make_cotangent_hook(call, place))  # type: ignore[no-untyped-call]

    return before, after


def _record_call(layer: RecordedLayer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> RecordedCall | None:
    """Count a call, and record copies of its arguments unless enough calls are recorded."""
    layer.count += 1
    if len(layer.calls) >= MAX_RECORDED_CALLS or isinstance(layer.target, HOLDERS):
        return None
    layer.calls.append(RecordedCall(tree_map(_copy_input, args), tree_map(_copy_input, kwargs)))
    return layer.calls[-1]


def make_overwrite_check(arguments: Any) -> Callable[[], bool]:
    """Make a function that says whether any tensor was written to since."""
    before = [(x, x._version) for x in flatten(arguments).leaves if isinstance(x, torch.Tensor) and not x.is_inference()]
    return lambda: any(x._version != version for x, version in before)


def make_cotangent_hook(call: RecordedCall, place: int) -> Callable[[torch.Tensor], None]:
    """Make the hook of an output that records its cotangent."""

    def store(cotangent: torch.Tensor) -> None:
        call.cotangents[place] = cotangent.detach().clone().to_dense()

    return store


def _backpropagate(outputs: tuple[Any, ...], inputs: list[torch.Tensor], model: torch.nn.Module) -> None:
    """Backpropagate a cotangent of random signs through the model, so that every submodule gets its cotangent."""
    attached = [out for out in outputs if isinstance(out, torch.Tensor) and out.requires_grad]
    sources = [x for x in (*inputs, *model.parameters()) if x.requires_grad]
    signs = [make_generator(0, "model", k).choice([-1.0, 1.0], tuple(out.shape)) for k, out in enumerate(attached)]
    cotangents = [torch.as_tensor(array).to(out.device, out.dtype) for array, out in zip(signs, attached, strict=True)]
    if attached and sources:
        try:
            torch.autograd.grad(attached, sources, cotangents, allow_unused=True)
        except Exception:  # A backward that raises is reported by the check of its own layer.
            return


def _record_functions(
    layers: list[RecordedLayer], functions: set[Any], model: torch.nn.Module, inputs: Inputs
) -> list[RecordedLayer]:
    """Call the model again, and record the calls of Functions; each Function follows the module that applies it."""
    open_layers: list[RecordedLayer] = [layers[0]]
    applied: dict[int, dict[Any, RecordedLayer]] = {}

    def before_call(function: Any, args: tuple[Any, ...]) -> Callable[[Any], None]:
        module = open_layers[-1]
        name = function.__name__
        of_module = applied.setdefault(id(module), {})
        layer = of_module.setdefault(function, RecordedLayer(f"{module.path}.{name}".lstrip("."), function, FUNCTION))
        inputs_of_call = args[1:] if takes_context(function) else args
        call, was_overwritten = _record_call(layer, inputs_of_call, {}), make_overwrite_check(inputs_of_call)

        def after_call(_: Any) -> None:
            if call is not None:
                call.overwritten = was_overwritten()

        return after_call

    with ExitStack() as stack:
        for layer in layers:
            stack.callback(layer.target.register_forward_pre_hook(lambda *_, layer=layer: open_layers.append(layer)).remove)
            stack.callback(layer.target.register_forward_hook(lambda *_: _leave(open_layers), always_call=True).remove)
        stack.enter_context(watching_methods(functions, ("forward",), before_call))
        call_user_code("the target", model, *tree_map(_copy_requiring_grad, (inputs.args, dict(inputs.kwargs))))
    return [recorded for layer in layers for recorded in (layer, *applied.get(id(layer), {}).values())]


def _leave(open_layers: list[RecordedLayer]) -> None:
    open_layers.pop()  # The hook returns None: anything else would replace the output.


def _copy_requiring_grad(x: Any) -> Any:
    """Copy a tensor; the copy requires a gradient if its dtype allows that."""
    if not isinstance(x, torch.Tensor):
        return x
    return x.detach().clone().requires_grad_(x.is_floating_point() or x.is_complex())


def _copy_input(x: Any) -> Any:
    return x.detach().clone().requires_grad_(x.requires_grad) if isinstance(x, torch.Tensor) else x
