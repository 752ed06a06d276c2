"""Locations of derivatives in the user's code, for reports."""

from __future__ import annotations

import inspect
from typing import Any

from gradcheck.targets.case import Case, locate_source
from gradcheck.targets.framework import TargetKind, classify_target, is_from_framework, read_closure, unwrap_target

Location = tuple[str | None, int | None]  # file and line
JAX_RULES = {"custom_vjp": "bwd", "custom_jvp": "jvp"}  # attributes with the rule, by JAX class
RULE_PACKAGES = ("jax", "jaxlib", "equinox")  # rules that are written there are not the user's
BACKWARD_METHODS = ("backward", "vjp")  # names under which a Function may define its derivative


def locate_derivative(case: Case) -> Location:
    """Locate a hand-written derivative, a JAX rule or a Function's backward; without any of these, the target."""
    for kind, claim in case.claims.items():
        return locate_method(case.fn if kind == "returned" else claim)
    rule = find_rule(case.fn)
    derivative = getattr(rule, JAX_RULES[type(rule).__name__]) if rule is not None else None
    if derivative is not None and _is_from_user(derivative):
        return locate_method(derivative)
    return locate_backward(case.fn) if classify_target(case.fn) is TargetKind.AUTOGRAD_FUNCTION else (case.file, case.line)


def find_rule(function: Any) -> Any:
    """Find the `custom_vjp` or `custom_jvp` object in a function, inside of `jit` and `vmap`; None if there is none."""
    innermost = inspect.unwrap(function, stop=_is_rule)
    return innermost if _is_rule(innermost) else None


def _is_rule(function: Any) -> bool:
    return type(function).__name__ in JAX_RULES and is_from_framework(function, "jax")


def find_rule_function(rule: Any) -> Any:
    """Find the user's function that a rule was written for; None if the rule is one of a library's own.

    `jax.custom_gradient` and equinox wrap the user's function in one of their own, whose closure holds it.
    """
    if _is_from_user(rule.fun):
        return rule.fun
    values = read_closure(unwrap_target(rule.fun))
    values += [value for holder in values for value in getattr(holder, "__dict__", {}).values()]
    return next((value for value in values if inspect.isfunction(value) and _is_from_user(value)), None)


def _is_from_user(function: Any) -> bool:
    return str(getattr(unwrap_target(function), "__module__", "")).partition(".")[0] not in RULE_PACKAGES


def locate_backward(function: Any) -> Location:
    """Locate the backward of an autograd.Function or a registered operator; without one, the function itself."""
    for name in BACKWARD_METHODS:
        method = getattr(function, name, None)
        if method is not None and not str(method.__module__).startswith("torch."):
            return locate_method(method)
    return locate_method(_find_registered_backward(getattr(function, "backward", None)) or function)


def _find_registered_backward(method: Any) -> Any:
    """Return the backward registered for an operator, which torch.library keeps in the closure of its own method."""
    functions = (getattr(cell.cell_contents, "_backward_fn", None) for cell in getattr(method, "__closure__", None) or ())
    return next((function for function in functions if function is not None), None)


def locate_method(target: Any) -> Location:
    """Locate the `def` line of a function, which follows its decorators; locate anything else by `locate_source`."""
    file, line = locate_source(target)
    if line is None or not inspect.isfunction(target) or target.__name__ == "<lambda>":
        return file, line
    lines = inspect.findsource(target)[0][line - 1 :]
    return file, line + next((k for k, text in enumerate(lines) if text.lstrip().startswith(("def ", "async def "))), 0)
