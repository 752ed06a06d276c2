"""Where the code of a derivative stands: what a report points at."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from gradcheck.targets.case import source_of
from gradcheck.targets.framework import Kind, is_of, kind_of

if TYPE_CHECKING:
    from gradcheck.targets.case import Case

Place = tuple[str | None, int | None]  # file and line
RULES = {"custom_vjp": "bwd", "custom_jvp": "jvp"}  # where JAX keeps what a derivative is computed by
METHODS = ("backward", "vjp")  # that a Function computes its derivative by; the second is another name of the first


def of_derivative(case: Case) -> Place:
    """File and line of the derivative by hand, of a Function's backward, or of a rule of JAX; else the target's own."""
    for claim in case.claims.values():
        return _definition(claim)
    rule = getattr(case.fn, RULES.get(type(case.fn).__name__, ""), None) if is_of(case.fn, "jax") else None
    if rule is not None and not str(getattr(rule, "__module__", "")).startswith("jax."):
        return _definition(rule)
    return of_backward(case.fn) if kind_of(case.fn) is Kind.AUTOGRAD_FUNCTION else (case.file, case.line)


def of_backward(function: Any) -> Place:
    """File and line of the backward of an autograd.Function, or of a registered operator; else where it is defined itself."""
    for name in METHODS:
        method = getattr(function, name, None)
        if method is not None and not str(method.__module__).startswith("torch."):
            return _definition(method)
    return _definition(_registered(getattr(function, "backward", None)) or function)


def _registered(method: Any) -> Any:
    """What torch.library was given as an operator's backward: it keeps that in the closure of its own."""
    held = (getattr(cell.cell_contents, "_backward_fn", None) for cell in getattr(method, "__closure__", None) or ())
    return next((found for found in held if found is not None), None)


def _definition(target: Any) -> Place:
    """As `source_of`, at the line of the `def` rather than of its first decorator."""
    file, line = source_of(target)
    if line is None or not inspect.isfunction(target) or target.__name__ == "<lambda>":
        return file, line
    lines = inspect.findsource(target)[0][line - 1 :]
    return file, line + next((k for k, text in enumerate(lines) if text.lstrip().startswith(("def ", "async def "))), 0)
