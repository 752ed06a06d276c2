"""What a torch target is called with: its inputs and a module's parameters as one list of leaves, and how they get there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.parameter import is_lazy

from gradcheck.backends.binding import (
    STORED,
    Binding,
    Call,
    select,
    take_apart,
    without,
)
from gradcheck.backends.flat import EPS
from gradcheck.backends.torch import sparse
from gradcheck.backends.torch.devices import refuse_mixed
from gradcheck.backends.torch.lazy_modules import registered
from gradcheck.backends.torch.module_state import (
    Plain,
    attributes_restored,
    exchange,
    plain_attributes,
)
from gradcheck.backends.torch.parameter_swap import hold
from gradcheck.backends.torch.tensors import fresh, name_of
from gradcheck.errors import InputError
from gradcheck.targets.framework import Kind, kind_of
from gradcheck.trees import KINDS, flatten, tree_map

if TYPE_CHECKING:
    from gradcheck.targets.case import Case
    from gradcheck.targets.signature import Inputs

SHOWN = 8  # parameters that are named


@dataclass(frozen=True)
class Called:
    """What is called: a plain callable, or a module with its parameters and buffers given from outside.

    Attributes:
        enter: what does so: the callable, or (tensors by name, args, kwargs) -> what the module returns.
        parameters: names of those that are leaves; they come after the leaves of the arguments.
        frozen: the module's other parameters and its buffers.
        patterns: by place, of the leaves that are values of sparse tensors.
        given: inputs and parameters as the user has them, sparse ones as tensors.
        known: names of the module's tensors, by the id of each.
        elsewhere: attributes of the module that hold some of its parameters or buffers once more.
        overwrites: whether it writes to its arguments, which autograd allows only of what was computed: it gets copies, then.
        notes, details: what a reader should know of tensors that are not differentiated.
    """

    fn: Callable[..., Any]
    enter: Callable[..., Any]
    parameters: tuple[str, ...]
    frozen: dict[str, torch.Tensor]
    patterns: Mapping[int, sparse.Pattern]
    given: Call
    known: Mapping[int, str] = field(default_factory=dict)
    elsewhere: tuple[Plain, ...] = ()
    overwrites: bool = False
    notes: tuple[str, ...] = ()
    details: tuple[str, ...] = ()

    def __call__(self, leaves: Sequence[Any], bound: Binding, *, wide: bool, buffers: dict[str, Any] | None = None) -> Any:
        """What the target returns, sparse tensors in it as dense ones.

        Args:
            buffers: filled with the frozen tensors as they are after the call.
        """
        args, kwargs, given = self.arguments(leaves, bound)
        if self.overwrites:
            args, kwargs = tree_map(_computed, (args, kwargs))
        if kind_of(self.fn) is not Kind.MODULE:
            return densely(self.enter(*args, **kwargs))
        held = {name: fresh(t, wide) for name, t in self.frozen.items()}
        given = {**held, **given}
        if buffers is not None:
            buffers.update(held)
        with attributes_restored(self.fn):
            if self.elsewhere:
                by = {known: given[name] for known, name in self.known.items() if name in given}
                for plain in self.elsewhere:
                    exchange(plain, by)
            returned = densely(self.enter(given, args, kwargs))
        hold(self.fn, given)  # type: ignore[arg-type]
        return returned

    def arguments(self, leaves: Sequence[Any], bound: Binding) -> tuple[tuple[Any, ...], dict[str, Any], dict[str, Any]]:
        """The arguments by position and by name, and the parameters by name, made of leaves."""
        values = [sparse.laid(x, self.patterns[i]) if i in self.patterns else x for i, x in enumerate(leaves)]
        own = len(values) - len(self.parameters)
        return *bound.call.rebuild(values[:own]), dict(zip(self.parameters, values[own:], strict=True))


def _computed(x: Any) -> Any:
    return x.clone() if isinstance(x, torch.Tensor) else x


def densely(returned: Any) -> Any:
    """What a target returned, with sparse tensors as dense ones, and nested ones as their numbers one after the other."""
    if isinstance(returned, torch.Tensor):  # nearly always, and at every evaluation
        return _read(returned) if _needs_reading(returned) else returned
    flat = flatten(returned)
    if not any(map(_needs_reading, flat.leaves)):
        return returned
    return flat.rebuild([_read(x) if _needs_reading(x) else x for x in flat.leaves])


def _needs_reading(x: Any) -> bool:
    return sparse.is_sparse(x) or (isinstance(x, torch.Tensor) and x.is_nested)


def _read(x: torch.Tensor) -> torch.Tensor:
    return torch.cat([part.reshape(-1) for part in x.unbind()]) if x.is_nested else sparse.dense(x)


def called_with(case: Case, target: Callable[..., Any], inputs: Inputs) -> tuple[Called, Call, tuple[int, ...]]:
    """Join a module's trainable parameters to the call's leaves, and choose what to differentiate with respect to.

    Raises:
        InputError: where nothing is differentiable, or an input is a nested tensor.
    """
    call = take_apart(inputs)
    module: Any = target if kind_of(target) is Kind.MODULE else torch.nn.Module()
    named, plain = registered(module), plain_attributes(module)
    trainable = {k: t for k, t in named.items() if t.requires_grad and not is_lazy(t)}
    frozen = {k: t for k, t in named.items() if not (t.requires_grad or is_lazy(t))}
    known = {id(t): name for name, t in named.items()}
    paths = (*call.paths, *(f"params[{name!r}]" for name in trainable))
    given = Call(paths, (*call.leaves, *trainable.values()), call.positional, call.named)
    nested = [path for path, x in zip(given.paths, given.leaves, strict=True) if isinstance(x, torch.Tensor) and x.is_nested]
    if nested:
        raise InputError(f"{', '.join(nested)} is a nested tensor: give its values, and make it of them inside the function")
    refuse_mixed((*given.paths, *frozen), (*given.leaves, *frozen.values()))
    fn = target.apply if kind_of(target) is Kind.AUTOGRAD_FUNCTION else target  # type: ignore[attr-defined]
    patterns = {i: sparse.pattern_of(x.detach()) for i, x in enumerate(given.leaves) if sparse.is_sparse(x)}
    called = Called(
        fn,
        partial(torch.func.functional_call, fn) if kind_of(target) is Kind.MODULE else fn,  # type: ignore[arg-type]
        tuple(trainable),
        frozen,
        patterns,
        given,
        known,
        tuple(one for one in plain if not known.keys().isdisjoint(map(id, one.tensors))),
        case.overwrites,
        (*_notes(named, plain), *_opaque(call)),
        tuple(_details(dict(module.named_parameters()))),
    )
    joined = _by_values(given, patterns)
    asked = [isinstance(v, torch.Tensor) and v.requires_grad for v in call.leaves]
    if case.wrt is None and any(asked):
        chosen = tuple(i for i in range(len(joined.leaves)) if i >= len(asked) or asked[i])
    else:
        chosen = select(joined.paths, joined.leaves, case.wrt, is_differentiable)
    return called, joined, without(joined.paths, chosen, case.detached)


def _notes(named: Mapping[str, torch.Tensor], plain: Sequence[Plain]) -> Iterator[str]:
    known = set(map(id, named.values()))
    unmade = [f"params[{name!r}]" for name, t in named.items() if is_lazy(t)]
    if unmade:
        yield f"not differentiated, as the call does not reach them and they have no shape yet: {_listed(unmade)}"
    for one in plain:
        if any(t.requires_grad and t.is_leaf and id(t) not in known for t in one.tensors):
            yield f"not differentiated: {one.path} requires a gradient, but is no Parameter; make it one, or an input"


def _opaque(call: Call) -> Iterator[str]:
    for path, leaf in zip(call.paths, call.leaves, strict=True):
        held = () if isinstance(leaf, torch.Tensor | torch.nn.Module) else tuple(getattr(leaf, "__dict__", {}).values())
        if any(map(is_differentiable, held)):
            yield f"not differentiated: the tensors in {path}, which is {type(leaf).__name__}; they are found in {KINDS}"


def _details(parameters: Mapping[str, torch.Tensor]) -> Iterator[str]:
    frozen = [f"params[{name!r}]" for name, t in parameters.items() if not (t.requires_grad or is_lazy(t))]
    if frozen:
        yield f"not differentiated, as they require no gradient: {_listed(frozen)}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _by_values(call: Call, patterns: Mapping[int, sparse.Pattern]) -> Call:
    """The same with the values of sparse tensors in their place."""
    paths = [path + STORED if i in patterns else path for i, path in enumerate(call.paths)]
    leaves = [sparse.values_of(x.detach()) if i in patterns else x for i, x in enumerate(call.leaves)]
    return Call(tuple(paths), tuple(leaves), call.positional, call.named)


def is_differentiable(leaf: Any) -> bool:
    """Whether a leaf is a floating or complex tensor."""
    return isinstance(leaf, torch.Tensor) and name_of(leaf.dtype) in EPS
