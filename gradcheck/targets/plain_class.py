"""Advice on a layer that is a plain class: neither an `nn.Module` nor a pytree that can be called."""

from __future__ import annotations

METHODS = ("forward", "__call__")  # names under which a class defines its function


def advise_on_class(cls: type) -> str:
    """Return how to check a class that defines `forward` or `__call__`, to follow its name; '' for any other class."""
    method = next((name for name in METHODS if callable(vars(cls).get(name))), None)
    if method is None:
        return ""
    target = "layer.forward" if method == "forward" else "layer"
    vjp = f", vjp=lambda g, x: ({target}(x), layer.backward(g))[1]" if callable(vars(cls).get("backward")) else ""
    lines = (f"layer = {cls.__name__}(...)", f"gradcheck.check({target}, gradcheck.normal(4, 3){vjp})")
    return "".join(
        [" is a plain class and no nn.Module: make an object and check its function, as in", *(f"\n    {x}" for x in lines)]
    )
