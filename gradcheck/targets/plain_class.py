"""Advice on a layer that is a plain class: neither an `nn.Module` nor a pytree that can be called."""

from __future__ import annotations

from typing import Any

from gradcheck.targets.framework import TargetKind, classify_target

METHODS = ("forward", "__call__")  # names under which a class defines its function


def is_plain_layer(value: Any) -> bool:
    """Whether a value is an object with methods `forward` and `backward`, but no module or Function of a framework."""
    return not isinstance(value, type) and _has_both_methods(value)


def is_plain_layer_class(value: Any) -> bool:
    """Whether a value is a class with methods `forward` and `backward`, but no module or Function of a framework."""
    return isinstance(value, type) and _has_both_methods(value)


def _has_both_methods(value: Any) -> bool:
    is_plain = classify_target(value) is TargetKind.FUNCTION
    return is_plain and all(callable(getattr(value, name, None)) for name in ("forward", "backward"))


def advise_on_methods(cls: type, target: str) -> str:
    """Return how to name a method of a class that cannot be called itself, to follow its name."""
    names = [name for name, value in vars(cls).items() if callable(value) and not name.startswith("_")]
    call = f"{target}.{names[0]}" if ":" in target else f"gradcheck.check({cls.__name__}(...).{names[0]}, ...)" if names else ""
    return f" has no __call__ and no forward: name a method of it, as in {call} (methods: {', '.join(names)})" if names else ""


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
