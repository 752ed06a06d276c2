"""One pass through a module, forward and back, with what each of its submodules and Functions is given."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from gradcheck.backends.torch.graph import own_functions, watched
from gradcheck.backends.torch.module_state import attributes_restored
from gradcheck.backends.user_code import call_user
from gradcheck.seeds import generator
from gradcheck.targets.framework import Kind
from gradcheck.targets.signature import takes_context
from gradcheck.trees import flatten, tree_map

if TYPE_CHECKING:
    from gradcheck.targets.signature import Inputs

CALLS = 4  # of one module that are kept, the first ones
HOLDERS = (torch.nn.Sequential, torch.nn.ModuleList, torch.nn.ModuleDict)  # compute nothing of their own
FUNCTION = Kind.AUTOGRAD_FUNCTION.value


@dataclass
class Call:
    """What a submodule was given; tensors that want gradients did so in the model.

    Attributes:
        overwritten: whether it wrote to what it was given.
        cotangents: what the model sends back to each leaf of what it returned, by its place; filled by the way back.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    overwritten: bool = False
    cotangents: dict[int, torch.Tensor] = field(default_factory=dict)


@dataclass
class Captured:
    """A submodule, or an autograd.Function of the user's own that one applies, and its first calls.

    Attributes:
        path: from the model, 'blocks.3.norm', for a Function 'blocks.3.norm.RMSNorm'; '' for the model itself.
        target: the module, or the Function's class.
        kind: the module's class, by name; FUNCTION.
        count: how often it was called in all.
    """

    path: str
    target: Any
    kind: str
    calls: list[Call] = field(default_factory=list)
    count: int = 0


def captured(model: torch.nn.Module, inputs: Inputs) -> list[Captured]:
    """Call a model with gradients recorded, and keep what its submodules and Functions are given, and what comes back to them.

    A module that is reachable by several paths is named by the first. Those that were not called have no calls. A Function
    comes after the module that applies it; one that the graph does not show is not found.
    """
    found = [Captured(path, module, type(module).__name__) for path, module in model.named_modules()]
    with torch.enable_grad(), attributes_restored(model):
        with _hooked(found):
            given = tree_map(_wanting, (inputs.args, dict(inputs.kwargs)))
            outputs = flatten(call_user("the target", model, *given)).leaves
            _sent_back(outputs, [x for x in flatten(given).leaves if isinstance(x, torch.Tensor)], model)
        functions = set(own_functions(outputs))
        return _with_functions(found, functions, model, inputs) if functions else found


@contextmanager
def _hooked(found: list[Captured]) -> Iterator[None]:
    with ExitStack() as stack:
        for one in found:
            before, after = _keeping(one)
            stack.callback(one.target.register_forward_pre_hook(before, with_kwargs=True).remove)
            stack.callback(one.target.register_forward_hook(after, always_call=True).remove)
        yield


def _keeping(one: Captured) -> tuple[Callable[..., None], Callable[..., None]]:
    """What is to be told before and after a submodule's forward; calls of one module may lie in each other."""
    open_: list[tuple[Call | None, Callable[[], bool]]] = []

    def before(_: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        open_.append((_kept(one, args, kwargs), _overwritten((args, kwargs))))

    def after(_: torch.nn.Module, _args: Any, output: Any) -> None:
        call, overwritten = open_.pop()
        if call is None:
            return
        call.overwritten = overwritten()
        for place, out in enumerate(flatten(output).leaves):
            if isinstance(out, torch.Tensor) and out.requires_grad:
                out.register_hook(_storing(call, place))  # type: ignore[no-untyped-call]

    return before, after


def _kept(one: Captured, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
    """The call, copied, where it is one of those that are kept."""
    one.count += 1
    if len(one.calls) >= CALLS or isinstance(one.target, HOLDERS):
        return None
    one.calls.append(Call(tree_map(_copied, args), tree_map(_copied, kwargs)))
    return one.calls[-1]


def _overwritten(given: Any) -> Callable[[], bool]:
    """Asks later whether any tensor was written to since."""
    before = [(x, x._version) for x in flatten(given).leaves if isinstance(x, torch.Tensor) and not x.is_inference()]
    return lambda: any(x._version != version for x, version in before)


def _storing(call: Call, place: int) -> Callable[[torch.Tensor], None]:
    def store(cotangent: torch.Tensor) -> None:
        call.cotangents[place] = cotangent.detach().clone().to_dense()

    return store


def _sent_back(outputs: tuple[Any, ...], inputs: list[torch.Tensor], model: torch.nn.Module) -> None:
    """Ask for the model's gradient, of a cotangent of random signs, so that every submodule gets its part of it."""
    attached = [out for out in outputs if isinstance(out, torch.Tensor) and out.requires_grad]
    wanted = [x for x in (*inputs, *model.parameters()) if x.requires_grad]
    signs = [generator(0, "model", k).choice([-1.0, 1.0], tuple(out.shape)) for k, out in enumerate(attached)]
    cotangents = [torch.as_tensor(s).to(out.device, out.dtype) for s, out in zip(signs, attached, strict=True)]
    if attached and wanted:
        try:
            torch.autograd.grad(attached, wanted, cotangents, allow_unused=True)
        except Exception:  # a backward that raises is told where its own layer is checked
            return


def _with_functions(found: list[Captured], functions: set[Any], model: torch.nn.Module, inputs: Inputs) -> list[Captured]:
    """Call the model again, and keep what the Functions are given, each behind the module that applies it."""
    inside: list[Captured] = [found[0]]
    applied: dict[int, dict[Any, Captured]] = {}

    def look(function: Any, args: tuple[Any, ...]) -> Callable[[Any], None]:
        module = inside[-1]
        name = function.__name__
        own = applied.setdefault(id(module), {})
        one = own.setdefault(function, Captured(f"{module.path}.{name}".lstrip("."), function, FUNCTION))
        given = args[1:] if takes_context(function) else args
        call, overwritten = _kept(one, given, {}), _overwritten(given)

        def after(_: Any) -> None:
            if call is not None:
                call.overwritten = overwritten()

        return after

    with ExitStack() as stack:
        for one in found:
            stack.callback(one.target.register_forward_pre_hook(lambda *_, one=one: inside.append(one)).remove)
            stack.callback(one.target.register_forward_hook(lambda *_: _leave(inside), always_call=True).remove)
        stack.enter_context(watched(functions, ("forward",), look))
        call_user("the target", model, *tree_map(_wanting, (inputs.args, dict(inputs.kwargs))))
    return [each for one in found for each in (one, *applied.get(id(one), {}).values())]


def _leave(inside: list[Captured]) -> None:  # a hook that returned something would replace the output
    inside.pop()


def _wanting(x: Any) -> Any:
    """A copy that wants a gradient where it can have one."""
    if not isinstance(x, torch.Tensor):
        return x
    return x.detach().clone().requires_grad_(x.is_floating_point() or x.is_complex())


def _copied(x: Any) -> Any:
    return x.detach().clone().requires_grad_(x.requires_grad) if isinstance(x, torch.Tensor) else x
