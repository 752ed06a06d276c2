"""A torch target as a functional call: its inputs and a module's parameters as one list of leaves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.parameter import is_lazy

from gradcheck.backends.flat import EPS
from gradcheck.backends.flat_call import STORED_VALUES, Binding, FlatCall, exclude_detached, flatten_call, select_inputs
from gradcheck.backends.torch import sparse
from gradcheck.backends.torch.devices import refuse_mixed_devices
from gradcheck.backends.torch.lazy_modules import registered_tensors
from gradcheck.backends.torch.module_state import TensorAttribute, find_tensor_attributes, replace_tensors, restoring_attributes
from gradcheck.backends.torch.parameter_swap import swap_in
from gradcheck.backends.torch.tensors import copy_detached, dtype_name
from gradcheck.errors import InputError
from gradcheck.targets.framework import TargetKind, classify_target
from gradcheck.targets.signature import Inputs
from gradcheck.trees import TREE_KINDS, flatten, tree_map

if TYPE_CHECKING:
    from gradcheck.targets.case import Case

# A note names at most this many parameters.
MAX_LISTED_PARAMETERS = 8


@dataclass(frozen=True)
class TorchFunctionalCall:
    """A target as a function of all its tensors: a plain callable, or a module with its parameters and buffers as arguments.

    Attributes:
        fn: the callable or module.
        invoke: the callable, or for a module (tensors by name, args, kwargs) -> what the module returns.
        parameters: names of the parameters that are leaves; they follow the leaves of the arguments.
        frozen: the module's other parameters and its buffers.
        sparse_patterns: of the leaves that are values of sparse tensors, by place.
        user_call: inputs and parameters as the user has them, sparse ones as tensors.
        names_by_id: names of the module's tensors, by the id of each.
        aliases: attributes of the module that refer to its parameters or buffers under another name.
        overwrites: whether the target writes to its arguments. It then gets copies, since autograd forbids writing to a leaf
            that requires a gradient.
        notes: for the report, about tensors that are not differentiated.
        details: such notes for a reader who asks for more.
    """

    fn: Callable[..., Any]
    invoke: Callable[..., Any]
    parameters: tuple[str, ...]
    frozen: dict[str, torch.Tensor]
    sparse_patterns: Mapping[int, sparse.Pattern]
    user_call: FlatCall
    names_by_id: Mapping[int, str] = field(default_factory=dict)
    aliases: tuple[TensorAttribute, ...] = ()
    overwrites: bool = False
    notes: tuple[str, ...] = ()
    details: tuple[str, ...] = ()

    def __call__(self, leaves: Sequence[Any], binding: Binding, *, twin: bool, buffers: dict[str, Any] | None = None) -> Any:
        """Call the target; sparse tensors that it returns become dense.

        Args:
            leaves: every leaf of the call.
            twin: whether frozen tensors have the dtype of the twin.
            buffers: filled with the frozen tensors as they are after the call.
        """
        args, kwargs, tensors = self.arguments(leaves, binding)
        if self.overwrites:
            args, kwargs = tree_map(_clone, (args, kwargs))
        if not isinstance(self.fn, torch.nn.Module):
            return make_outputs_dense(self.invoke(*args, **kwargs))
        frozen = {name: copy_detached(t, twin) for name, t in self.frozen.items()}
        tensors = {**frozen, **tensors}
        if buffers is not None:
            buffers.update(frozen)
        with restoring_attributes(self.fn):
            if self.aliases:
                replacements = {id_: tensors[name] for id_, name in self.names_by_id.items() if name in tensors}
                for attribute in self.aliases:
                    replace_tensors(attribute, replacements)
            returned = make_outputs_dense(self.invoke(tensors, args, kwargs))
        swap_in(self.fn, tensors)
        return returned

    def arguments(self, leaves: Sequence[Any], binding: Binding) -> tuple[tuple[Any, ...], dict[str, Any], dict[str, Any]]:
        """Return the arguments (args, kwargs) and the parameters by name, made of leaves."""
        values = list(leaves)
        for i, pattern in self.sparse_patterns.items():
            values[i] = sparse.make_sparse(values[i], pattern)
        count = len(values) - len(self.parameters)
        return *binding.call.rebuild(values[:count]), dict(zip(self.parameters, values[count:], strict=True))


def _call_with_tensors(module: torch.nn.Module) -> Callable[..., Any]:
    """Return (tensors by name, args, kwargs) -> what a module returns with these tensors as its parameters and buffers."""
    if not isinstance(module, torch.jit.ScriptModule):
        return partial(torch.func.functional_call, module)
    outer = _Outer(module)

    def call(tensors: Mapping[str, Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return torch.func.functional_call(outer, {f"inner.{name}": t for name, t in tensors.items()}, args, kwargs)

    return call


class _Outer(torch.nn.Module):
    """A module around a scripted or traced one, whose tensors PyTorch replaces only if it is inside another module."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.inner(*args, **kwargs)


def _clone(x: Any) -> Any:
    return x.clone() if isinstance(x, torch.Tensor) else x


def make_outputs_dense(returned: Any) -> Any:
    """Make sparse tensors among the outputs dense, and concatenate the entries of nested tensors."""
    if isinstance(returned, torch.Tensor):  # the usual case, which every evaluation passes through
        return _make_dense(returned) if _is_sparse_or_nested(returned) else returned
    flat = flatten(returned)
    if not any(map(_is_sparse_or_nested, flat.leaves)):
        return returned
    return flat.rebuild([_make_dense(x) if _is_sparse_or_nested(x) else x for x in flat.leaves])


def _is_sparse_or_nested(x: Any) -> bool:
    return sparse.is_sparse(x) or (isinstance(x, torch.Tensor) and x.is_nested)


def _make_dense(x: torch.Tensor) -> torch.Tensor:
    return torch.cat([part.reshape(-1) for part in x.unbind()]) if x.is_nested else sparse.make_dense(x)


def make_functional_call(
    case: Case, target: Callable[..., Any], inputs: Inputs
) -> tuple[TorchFunctionalCall, FlatCall, tuple[int, ...]]:
    """Join a module's trainable parameters to the leaves of the call, and choose the differentiable inputs.

    Returns:
        The functional call, its leaves, and the places of the differentiable inputs among them.

    Raises:
        InputError: if nothing is differentiable, an input is a nested tensor, or the tensors are on several devices.
    """
    call = flatten_call(inputs)
    module: Any = target if classify_target(target) is TargetKind.MODULE else torch.nn.Module()
    named, attributes = registered_tensors(module), find_tensor_attributes(module)
    trainable = {k: t for k, t in named.items() if t.requires_grad and not is_lazy(t)}
    frozen = {k: t for k, t in named.items() if not (t.requires_grad or is_lazy(t))}
    names_by_id = {id(t): name for name, t in named.items()}
    paths = (*call.paths, *(f"params[{name!r}]" for name in trainable))
    user_call = FlatCall(paths, (*call.leaves, *trainable.values()), call.positional, call.named)
    nested = [
        path for path, x in zip(user_call.paths, user_call.leaves, strict=True) if isinstance(x, torch.Tensor) and x.is_nested
    ]
    if nested:
        raise InputError(f"{', '.join(nested)} is a nested tensor: give its values, and build it from them inside the function")
    refuse_mixed_devices((*user_call.paths, *frozen), (*user_call.leaves, *frozen.values()))
    fn = target.apply if classify_target(target) is TargetKind.AUTOGRAD_FUNCTION else target  # type: ignore[attr-defined]
    patterns = {i: sparse.pattern_of(x.detach()) for i, x in enumerate(user_call.leaves) if sparse.is_sparse(x)}
    functional_call = TorchFunctionalCall(
        fn,
        _call_with_tensors(fn) if isinstance(fn, torch.nn.Module) else fn,
        tuple(trainable),
        frozen,
        patterns,
        user_call,
        names_by_id,
        tuple(attribute for attribute in attributes if not names_by_id.keys().isdisjoint(map(id, attribute.tensors))),
        case.overwrites,
        (*_note_skipped_tensors(named, attributes), *_note_opaque_inputs(call)),
        tuple(_note_frozen_parameters(dict(module.named_parameters()))),
    )
    joined = _replace_sparse_by_values(user_call, patterns)
    requiring = [isinstance(v, torch.Tensor) and v.requires_grad for v in call.leaves]
    if case.wrt is None and any(requiring):
        chosen = tuple(i for i in range(len(joined.leaves)) if i >= len(requiring) or requiring[i])
    else:
        chosen = select_inputs(joined.paths, joined.leaves, case.wrt, is_differentiable)
    return functional_call, joined, exclude_detached(joined.paths, chosen, case.detached)


def _note_skipped_tensors(named: Mapping[str, torch.Tensor], attributes: Sequence[TensorAttribute]) -> Iterator[str]:
    """Yield notes on lazy parameters without a shape, and on attributes that require a gradient but are no parameters."""
    registered_ids = set(map(id, named.values()))
    lazy = [f"params[{name!r}]" for name, t in named.items() if is_lazy(t)]
    if lazy:
        yield f"not differentiated, as the call does not reach them and they have no shape yet: {_list_names(lazy)}"
    for attribute in attributes:
        if any(t.requires_grad and t.is_leaf and id(t) not in registered_ids for t in attribute.tensors):
            yield f"not differentiated: {attribute.path} requires a gradient, but is no Parameter; make it one, or an input"


def _note_opaque_inputs(call: FlatCall) -> Iterator[str]:
    """Yield notes on objects among the inputs that hold tensors but are no pytrees."""
    for path, leaf in zip(call.paths, call.leaves, strict=True):
        attributes = () if isinstance(leaf, torch.Tensor | torch.nn.Module) else tuple(getattr(leaf, "__dict__", {}).values())
        if any(map(is_differentiable, attributes)):
            yield (
                f"not differentiated: the tensors in {path}, which is {type(leaf).__name__}; "
                f"gradcheck finds tensors in {TREE_KINDS}"
            )


def _note_frozen_parameters(parameters: Mapping[str, torch.Tensor]) -> Iterator[str]:
    frozen = [f"params[{name!r}]" for name, t in parameters.items() if not (t.requires_grad or is_lazy(t))]
    if frozen:
        yield f"not differentiated, as they require no gradient: {_list_names(frozen)}"


def _list_names(names: Sequence[str]) -> str:
    return ", ".join(names[:MAX_LISTED_PARAMETERS]) + (
        f" and {len(names) - MAX_LISTED_PARAMETERS} more" if len(names) > MAX_LISTED_PARAMETERS else ""
    )


def _replace_sparse_by_values(call: FlatCall, patterns: Mapping[int, sparse.Pattern]) -> FlatCall:
    """Replace sparse tensors among the leaves of a call by their stored values."""
    paths = [path + STORED_VALUES if i in patterns else path for i, path in enumerate(call.paths)]
    leaves = [sparse.values_of(x.detach()) if i in patterns else x for i, x in enumerate(call.leaves)]
    return FlatCall(tuple(paths), tuple(leaves), call.positional, call.named)


def is_differentiable(leaf: Any) -> bool:
    """Say whether a leaf is a floating or complex tensor."""
    return isinstance(leaf, torch.Tensor) and dtype_name(leaf.dtype) in EPS
