"""Inputs of a call: the value of each parameter, and the name under which it is reported."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gradcheck.errors import InputError
from gradcheck.targets import framework
from gradcheck.targets.specs.annotations import parse_annotation
from gradcheck.targets.specs.spec import Spec
from gradcheck.trees import tree_map

BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@dataclass(frozen=True)
class Inputs:
    """The inputs of a call; `labels` names the positional ones."""

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    labels: tuple[str, ...] = ()

    @property
    def values(self) -> tuple[Any, ...]:
        """All inputs, positional ones first."""
        return (*self.args, *self.kwargs.values())

    @property
    def named(self) -> tuple[tuple[str, Any], ...]:
        """All inputs with their names."""
        return (*zip(self.labels, self.args, strict=True), *self.kwargs.items())

    def map_leaves(self, change: Callable[[Any], Any]) -> Inputs:
        """Return the inputs with every leaf of their trees changed."""
        kwargs = {name: tree_map(change, value) for name, value in self.kwargs.items()}
        return Inputs(tuple(tree_map(change, value) for value in self.args), kwargs, self.labels)


def read_parameters(target: Any) -> list[inspect.Parameter] | None:
    """Return the parameters that a call of the target takes; None if Python does not know them (some built-in functions)."""
    kind = framework.classify_target(target)
    function = target.forward if kind is not framework.TargetKind.FUNCTION else target
    try:
        params = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return None
    if kind is framework.TargetKind.MODULE_CLASS:
        return params[1:]
    if kind is framework.TargetKind.AUTOGRAD_FUNCTION:
        return params[1:] if takes_context(target) else params
    return params


def takes_context(function: type) -> bool:
    """Whether an autograd.Function's forward takes ctx first, because the Function defines no setup_context."""
    return not any("setup_context" in vars(c) for c in function.__mro__ if c.__module__ != "torch.autograd.function")


def read_defaults(target: Any) -> list[Any]:
    """Return the default values of the target's parameters, which may be arrays."""
    return [p.default for p in read_parameters(target) or () if p.default is not p.empty]


def read_annotated_specs(target: Any) -> list[Spec]:
    """Return the specs that the target's annotations stand for."""
    hints = framework.read_annotations(framework.unwrap_target(getattr(target, "forward", target)))
    specs = [parse_annotation(hint, name) for name, hint in hints.items()]
    return [spec for spec in specs if spec is not None]


def resolve_inputs(
    target: Any,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    declared_args: Sequence[Any] = (),
    declared_kwargs: Mapping[str, Any] | None = None,
    command: str | None = None,
) -> Inputs:
    """Find a value for each parameter: from `args` and `kwargs`, the declaration, annotations, array defaults, in this order.

    Args:
        target: the function or module to call.
        args, kwargs: inputs that the user gave for this call.
        declared_args, declared_kwargs: inputs from `@gradcheck.case`.
        command: the target and its options on the command line; None in Python.

    Raises:
        InputError: if inputs are missing or superfluous; the message lists them with a call ready to paste.
    """
    params = read_parameters(target)
    if params is None:
        positional = tuple(args) or tuple(declared_args)
        if not positional:
            raise InputError(_message_without_signature(command))
        return Inputs(positional, {**(declared_kwargs or {}), **kwargs}, tuple(f"arg{i}" for i in range(len(positional))))
    given_values, rest = _assign(params, args, kwargs)
    declared_values, declared_rest = _assign(params, () if rest else declared_args, declared_kwargs or {})
    rest = rest or declared_rest  # Inputs given for *args replace the declared ones as a whole.
    values = {**declared_values, **given_values}
    hints = framework.read_annotations(framework.unwrap_target(getattr(target, "forward", target)))
    for p in params:
        if p.name not in values and p.kind in (*BY_POSITION, p.KEYWORD_ONLY):
            values.update(_input_from_signature(p, hints))
    missing = [p for p in params if p.name not in values and p.default is p.empty and p.kind in (*BY_POSITION, p.KEYWORD_ONLY)]
    if not missing and not values and not rest and framework.classify_target(target) is framework.TargetKind.FUNCTION:
        missing = [p for p in params if p.kind in (*BY_POSITION, p.KEYWORD_ONLY)][:1]
    if missing:
        raise InputError(_message_about_missing(missing, params, command))
    return _arrange(params, values, rest)


def _assign(
    params: list[inspect.Parameter], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[dict[str, Any], tuple[Any, ...]]:
    """Assign inputs to parameters by position and by name; return the values by name, and the inputs for `*args`."""
    positions = [p.name for p in params if p.kind in BY_POSITION and p.name not in kwargs]
    values, rest = dict(zip(positions, args, strict=False)), tuple(args[len(positions) :])
    if rest and not any(p.kind is p.VAR_POSITIONAL for p in params):
        takes = f"{len(positions)} ({_list_names(params) or 'none'})"
        raise InputError(f"{len(args)} positional inputs, but the target takes {takes}: leave out the last {len(rest)}")
    names = [p.name for p in params if p.kind in BY_NAME]
    for name, value in kwargs.items():
        if name not in names and not any(p.kind is p.VAR_KEYWORD for p in params):
            near = difflib.get_close_matches(name, names, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise InputError(f"the target has no parameter {name!r} (it takes {_list_names(params) or 'none'}){hint}")
        values[name] = value
    return values, rest


def _list_names(params: list[inspect.Parameter]) -> str:
    return ", ".join(p.name for p in params)


def _input_from_signature(p: inspect.Parameter, hints: Mapping[str, Any]) -> dict[str, Any]:
    """Return the spec that a parameter's annotation stands for, or its default if that is an array; {} without either."""
    spec = parse_annotation(hints.get(p.name, p.annotation), p.name)
    is_array = p.default is not p.empty and framework.infer_from_arrays([p.default]) is not None
    if spec is not None and (is_array or p.default is p.empty or p.default is None):
        return {p.name: spec}
    return {p.name: p.default} if is_array else {}


def _message_without_signature(command: str | None) -> str:
    head = "no input, and Python does not know the parameters of this built-in function: give its inputs by position"
    return f"{head}, as in\n    gradcheck run {command} --input 'normal(4, 3)'" if command else head


def _message_about_missing(missing: list[inspect.Parameter], params: list[inspect.Parameter], command: str | None) -> str:
    names = ", ".join(p.name for p in missing)
    head = f"no input for {names} (the target takes {_list_names(params)})"
    if command is None:
        call = ", ".join(f"{p.name}=gradcheck.normal(4, 3)" for p in missing)
        return f"{head}: give an array or a spec for each, as in kwargs=dict({call})"
    flags = " ".join("--input " + ("" if p.kind is p.POSITIONAL_ONLY else f"{p.name}=") + "'normal(4, 3)'" for p in missing)
    return f"{head}. Adapt the sizes and paste:\n    gradcheck run {command} {flags}"


def _arrange(params: list[inspect.Parameter], values: dict[str, Any], rest: tuple[Any, ...]) -> Inputs:
    """Arrange values as a call: by position as far as possible, the others by name."""
    args: list[Any] = []
    labels: list[str] = []
    kwargs = dict(values)
    last = max((i for i, p in enumerate(params) if p.kind is p.POSITIONAL_ONLY and p.name in values), default=-1)
    by_position = True
    for i, p in enumerate(params):
        by_position &= p.kind in BY_POSITION and p.name in values
        if p.kind in BY_POSITION and (by_position or i <= last or rest):
            args.append(kwargs.pop(p.name, p.default))
            labels.append(p.name)
        if p.kind is p.VAR_POSITIONAL:
            args += rest
            labels += [f"{p.name}[{k}]" for k in range(len(rest))]
    return Inputs(tuple(args), kwargs, tuple(labels))
