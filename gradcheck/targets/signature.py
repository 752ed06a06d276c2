"""From what a user gave to the inputs of a call: each parameter's value and the name it is reported under."""

from __future__ import annotations

import difflib
import inspect
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gradcheck.errors import InputError
from gradcheck.targets import framework
from gradcheck.targets.specs.annotations import spec_from

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gradcheck.targets.specs.spec import Spec

POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@dataclass(frozen=True)
class Inputs:
    """The inputs of a call; `labels` names the positional ones."""

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    labels: tuple[str, ...] = ()


def parameters(target: Any) -> list[inspect.Parameter] | None:
    """The parameters a call of the target takes; None where Python cannot tell (some built-in functions)."""
    kind = framework.kind_of(target)
    called = target.forward if kind is not framework.Kind.FUNCTION else target
    try:
        found = list(inspect.signature(called).parameters.values())
    except (TypeError, ValueError):
        return None
    if kind is framework.Kind.MODULE_CLASS:
        return found[1:]
    if kind is framework.Kind.AUTOGRAD_FUNCTION:
        return found[1:] if takes_context(target) else found
    return found


def takes_context(function: type) -> bool:
    """Whether an autograd.Function's forward takes ctx first, rather than having a setup_context of its own."""
    return not any("setup_context" in vars(c) for c in function.__mro__ if c.__module__ != "torch.autograd.function")


def defaults_of(target: Any) -> list[Any]:
    """Default values of the target's parameters, which may be arrays."""
    return [p.default for p in parameters(target) or () if p.default is not p.empty]


def annotated(target: Any) -> list[Spec]:
    """The specs that the target's annotations stand for."""
    hints = framework.hints_of(framework.unwrapped(getattr(target, "forward", target)))
    found = [spec_from(hint, name) for name, hint in hints.items()]
    return [spec for spec in found if spec is not None]


def resolve(
    target: Any,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    declared_args: Sequence[Any] = (),
    declared_kwargs: Mapping[str, Any] | None = None,
    command: str | None = None,
) -> Inputs:
    """Find a value for each parameter: from `args` and `kwargs`, the declaration, annotations, array defaults, in this order.

    Args:
        target: what will be called.
        args, kwargs: given by the user now.
        declared_args, declared_kwargs: given in `@gradcheck.case`.
        command: how the user named the target on the command line; None in Python.

    Raises:
        InputError: where inputs are missing or superfluous; the message lists them with a call ready to paste.
    """
    params = parameters(target)
    if params is None:
        positional = tuple(args) or tuple(declared_args)
        if not positional:
            raise InputError(_unreadable(command))
        return Inputs(positional, {**(declared_kwargs or {}), **kwargs}, tuple(f"arg{i}" for i in range(len(positional))))
    given, rest = _assign(params, args, kwargs)
    declared, declared_rest = _assign(params, () if rest else declared_args, declared_kwargs or {})
    rest = rest or declared_rest  # inputs for *args replace the declared ones as a whole
    values = {**declared, **given}
    hints = framework.hints_of(framework.unwrapped(getattr(target, "forward", target)))
    for p in params:
        if p.name not in values and p.kind in (*POSITIONAL, p.KEYWORD_ONLY):
            values.update(_fallback(p, hints))
    missing = [p for p in params if p.name not in values and p.default is p.empty and p.kind in (*POSITIONAL, p.KEYWORD_ONLY)]
    if not missing and not values and not rest and framework.kind_of(target) is framework.Kind.FUNCTION:
        missing = [p for p in params if p.kind in (*POSITIONAL, p.KEYWORD_ONLY)][:1]
    if missing:
        raise InputError(_missing(missing, params, command))
    return _arrange(params, values, rest)


def _assign(
    params: list[inspect.Parameter], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[dict[str, Any], tuple[Any, ...]]:
    slots = [p.name for p in params if p.kind in POSITIONAL and p.name not in kwargs]
    values, rest = dict(zip(slots, args, strict=False)), tuple(args[len(slots) :])
    if rest and not any(p.kind is p.VAR_POSITIONAL for p in params):
        takes = f"{len(slots)} ({_listed(params) or 'none'})"
        raise InputError(f"{len(args)} positional inputs, but the target takes {takes}: leave out the last {len(rest)}")
    names = [p.name for p in params if p.kind in NAMED]
    for name, value in kwargs.items():
        if name not in names and not any(p.kind is p.VAR_KEYWORD for p in params):
            near = difflib.get_close_matches(name, names, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise InputError(f"the target has no parameter {name!r} (it takes {_listed(params) or 'none'}){hint}")
        values[name] = value
    return values, rest


def _listed(params: list[inspect.Parameter]) -> str:
    return ", ".join(p.name for p in params)


def _fallback(p: inspect.Parameter, hints: Mapping[str, Any]) -> dict[str, Any]:
    spec = spec_from(hints.get(p.name, p.annotation), p.name)
    is_array = p.default is not p.empty and framework.of_arrays([p.default]) is not None
    if spec is not None and (is_array or p.default is p.empty or p.default is None):
        return {p.name: spec}
    return {p.name: p.default} if is_array else {}


def _unreadable(command: str | None) -> str:
    head = "no input, and the parameters of this built-in function cannot be read: give its inputs by position"
    return f"{head}, as in\n    gradcheck run {command} --input 'normal(4, 3)'" if command else head


def _missing(missing: list[inspect.Parameter], params: list[inspect.Parameter], command: str | None) -> str:
    names = ", ".join(p.name for p in missing)
    head = f"no input for {names} (the target takes {_listed(params)})"
    if command is None:
        call = ", ".join(f"{p.name}=gradcheck.normal(4, 3)" for p in missing)
        return f"{head}: give an array or a spec for each, as in kwargs=dict({call})"
    flags = " ".join("--input " + ("" if p.kind is p.POSITIONAL_ONLY else f"{p.name}=") + "'normal(4, 3)'" for p in missing)
    return f"{head}. Adapt the sizes and paste:\n    gradcheck run {command} {flags}"


def _arrange(params: list[inspect.Parameter], values: dict[str, Any], rest: tuple[Any, ...]) -> Inputs:
    args: list[Any] = []
    labels: list[str] = []
    kwargs = dict(values)
    last = max((i for i, p in enumerate(params) if p.kind is p.POSITIONAL_ONLY and p.name in values), default=-1)
    by_position = True
    for i, p in enumerate(params):
        by_position &= p.kind in POSITIONAL and p.name in values
        if p.kind in POSITIONAL and (by_position or i <= last or rest):
            args.append(kwargs.pop(p.name, p.default))
            labels.append(p.name)
        if p.kind is p.VAR_POSITIONAL:
            args += rest
            labels += [f"{p.name}[{k}]" for k in range(len(rest))]
    return Inputs(tuple(args), kwargs, tuple(labels))
