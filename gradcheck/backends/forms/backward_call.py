"""The call of a backward: which of its parameters takes the cotangent, the cache, an input or an output of the forward."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gradcheck.errors import ClaimError

COTANGENT, CACHE, OUTPUT = "cotangent", "cache", "output"
CACHE_NAMES = re.compile(r"cache|ctx|context|saved|state$|memo|mem$|tape|resid|^res$|store|intermediate|tmp", re.IGNORECASE)
COTANGENT_NAMES = re.compile(
    r"^(?:d|grad|g$|g_|gy|gout|delta|upstream|error|err$|v$|ct$|cotangent|top_diff|bar_)|(?:_bar|_grad|grad)$", re.IGNORECASE
)
OUTPUT_NAMES = ("output", "out", "outputs", "result")  # of a parameter, and of an attribute in which a forward leaves it


@dataclass(frozen=True)
class BackwardCall:
    """How a backward is called.

    Attributes:
        roles: of its positional parameters: COTANGENT, CACHE, OUTPUT, or the name of an input.
        keywords: the inputs that it takes by keyword.
        unknown: its parameters whose names say nothing; all but the first are read as caches.
    """

    roles: tuple[str, ...]
    keywords: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    @property
    def cotangents(self) -> int:
        """The number of cotangents that it takes."""
        return self.roles.count(COTANGENT)

    def without_cotangents(self) -> BackwardCall:
        """Return the call of a backward that is given no cotangent."""
        return replace(self, roles=tuple(role for role in self.roles if role != COTANGENT))

    @property
    def caches(self) -> int:
        """The number of parameters that take what the forward saved."""
        return self.roles.count(CACHE)

    def arrange(
        self, cotangents: Sequence[Any], cache: Sequence[Any], outputs: Sequence[Any], inputs: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments (args, kwargs) of the backward."""
        waiting = {COTANGENT: iter(cotangents), CACHE: iter(cache), OUTPUT: iter(outputs)}
        args = tuple(next(waiting[role]) if role in waiting else inputs[role] for role in self.roles)
        return args, {name: inputs[name] for name in self.keywords}


def read_backward(backward: Callable[..., Any], inputs: Sequence[str], order: Sequence[str], label: str) -> BackwardCall:
    """Infer from the names of a backward's parameters what each of them takes.

    Args:
        inputs: names of the forward's parameters.
        order: the roles of the parameters, if the user says them: 'dout', 'cache', 'out', or names of inputs.
        label: the backward, as messages call it.

    Raises:
        ClaimError: if the order names something else.
    """
    if order:
        return BackwardCall(tuple(_read_role(name, inputs, label) for name in order))
    try:
        parameters = list(inspect.signature(backward).parameters.values())
    except (TypeError, ValueError):
        return BackwardCall((COTANGENT, CACHE))
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = [p for p in positional if p.default is p.empty]
    roles = [_guess_role(p.name, inputs) for p in required]
    unknown = tuple(p.name for p, role in zip(required, roles, strict=True) if not role)
    if "" in roles and COTANGENT not in roles:
        roles[roles.index("")] = COTANGENT
    keywords = tuple(
        p.name
        for p in parameters
        if p not in required and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name in inputs
    )
    optional_cotangent = not required and bool(positional) and _guess_role(positional[0].name, inputs) == COTANGENT
    return BackwardCall((COTANGENT,) if optional_cotangent else tuple(role or CACHE for role in roles), keywords, unknown)


def fits_forward(backward: Callable[..., Any], forward: Callable[..., Any]) -> bool:
    """Whether the names of all parameters of a backward say what they take, given the names of its forward's parameters."""
    call = read_backward(backward, list(inspect.signature(forward).parameters), (), "")
    return call.cotangents > 0 and not call.unknown


def _read_role(name: str, inputs: Sequence[str], label: str) -> str:
    role = name if name in inputs else _guess_role(name, inputs)
    if not role:
        known = ", ".join(("dout", "cache", "out", *inputs))
        raise ClaimError(
            f"backward_takes: {name!r} is nothing that {label} can be given: expected some of {known}, in its order"
        )
    return role


def _guess_role(name: str, inputs: Sequence[str]) -> str:
    """Return the role that a parameter's name shows; '' if it shows none."""
    if name in inputs:
        return name
    if CACHE_NAMES.search(name):
        return CACHE
    if COTANGENT_NAMES.search(name):
        return COTANGENT
    return OUTPUT if name in OUTPUT_NAMES else ""


def split_returned(returned: Any, call: BackwardCall, label: str) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Split what a forward returned into the outputs with a cotangent, and what it saved for the backward.

    Raises:
        ClaimError: if the backward takes a cache and the forward returned none.
    """
    items = tuple(returned) if isinstance(returned, tuple | list) else (returned,)
    outputs = items[: max(call.cotangents, 1)]
    if not all(hasattr(type(x), "shape") or isinstance(x, float) for x in outputs):
        got = ", ".join(type(x).__name__ for x in items)
        raise ClaimError(f"the forward returned {got}: expected the output first, and what {label} takes as its cache after it")
    if not call.caches:
        return outputs, ()
    saved = items[len(outputs) :]
    if len(saved) < call.caches:
        kind = f"one {type(returned).__name__} of shape {np.shape(items[0])}" if len(items) == 1 else f"{len(items)} values"
        guess = f" ({', '.join(call.unknown)} may be one)" if call.unknown else ""
        raise ClaimError(
            f"{label} takes a cache{guess}, and the forward returned {kind} without one: return (out, cache), let it take"
            " inputs of the forward by their names, or say in backward_takes= what it takes"
        )
    if call.caches > 1:
        return outputs, saved[len(saved) - call.caches :]
    is_last = len(saved) == 1 or isinstance(saved[-1], tuple | list | dict) or hasattr(saved[-1], "__dict__")
    return outputs, (saved[-1] if is_last else saved,)
