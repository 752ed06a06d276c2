"""Advice on a layer that is a plain class: neither an `nn.Module` nor a pytree that can be called."""

from __future__ import annotations

from typing import Any

from gradcheck.targets.framework import TargetKind, classify_target

METHODS = ("forward", "__call__")  # names under which a class defines its function


def is_plain_layer(value: Any) -> bool:
    """Whether a value is an object with methods `forward` and `backward`, but no module or Function of a framework."""
    if isinstance(value, type) or classify_target(value) is not TargetKind.FUNCTION:
        return False
    return all(callable(getattr(value, name, None)) for name in ("forward", "backward"))


def advise_on_class(cls: type) -> str:
    """Return how to check a class that defines `forward` or `__call__`, to follow its name; '' for any other class."""
    method = next((name for name in METHODS if callable(vars(cls).get(name))), None)
    if method is None:
        return ""
    target = "layer.forward" if method == "forward" else "layer"
    if callable(getattr(cls, "backward", None)):
        target = "layer"
    lines = (f"layer = {cls.__name__}(...)", f"gradcheck.check({target}, gradcheck.normal(4, 3))")
    return "".join([" is a plain class and no nn.Module: make an object and check it, as in", *(f"\n    {x}" for x in lines)])
