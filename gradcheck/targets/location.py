"""Locations of derivatives in the user's code, for reports."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from gradcheck.targets.case import locate_source
from gradcheck.targets.framework import TargetKind, classify_target, is_from_framework

if TYPE_CHECKING:
    from gradcheck.targets.case import Case

Location = tuple[str | None, int | None]  # file and line
JAX_RULES = {"custom_vjp": "bwd", "custom_jvp": "jvp"}  # attributes with the rule, by JAX class
BACKWARD_METHODS = ("backward", "vjp")  # names under which a Function may define its derivative


def locate_derivative(case: Case) -> Location:
    """Locate a hand-written derivative, a JAX rule or a Function's backward; without any of these, the target."""
    for kind, claim in case.claims.items():
        return _locate_def(case.fn if kind == "returned" else claim)
    rule = getattr(case.fn, JAX_RULES.get(type(case.fn).__name__, ""), None) if is_from_framework(case.fn, "jax") else None
    if rule is not None and not str(getattr(rule, "__module__", "")).startswith("jax."):
        return _locate_def(rule)
    return locate_backward(case.fn) if classify_target(case.fn) is TargetKind.AUTOGRAD_FUNCTION else (case.file, case.line)


def locate_backward(function: Any) -> Location:
    """Locate the backward of an autograd.Function or a registered operator; without one, the function itself."""
    for name in BACKWARD_METHODS:
        method = getattr(function, name, None)
        if method is not None and not str(method.__module__).startswith("torch."):
            return _locate_def(method)
    return _locate_def(_find_registered_backward(getattr(function, "backward", None)) or function)


def _find_registered_backward(method: Any) -> Any:
    """Return the backward registered for an operator, which torch.library keeps in the closure of its own method."""
    functions = (getattr(cell.cell_contents, "_backward_fn", None) for cell in getattr(method, "__closure__", None) or ())
    return next((function for function in functions if function is not None), None)


def _locate_def(target: Any) -> Location:
    """Locate the `def` line of a function, which follows its decorators; locate anything else by `locate_source`."""
    file, line = locate_source(target)
    if line is None or not inspect.isfunction(target) or target.__name__ == "<lambda>":
        return file, line
    lines = inspect.findsource(target)[0][line - 1 :]
    return file, line + next((k for k, text in enumerate(lines) if text.lstrip().startswith(("def ", "async def "))), 0)
