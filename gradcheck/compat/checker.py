"""A checker of another project, as it is replaced in a running program."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from gradcheck.compat.answer import Answer, Translation

Arguments = tuple[tuple[Any, ...], Mapping[str, Any]]  # of a call, by position and by name


@dataclass(frozen=True)
class Checker:
    """A function of another project that checks derivatives.

    Attributes:
        name: as its users call it, such as 'torch.autograd.gradcheck'.
        module: the module that defines it, which is not imported here.
        attribute: its name in that module.
        translate: takes the arguments of a call as they were passed; returns what gradcheck checks instead. Raises TypeError
            if they do not fit the signature.
        conclude: takes an answer and the arguments; returns or raises what the checker would for this verdict.
        has_passed: takes what the checker returned; whether that means that the derivative is right. None if only the caller
            can know, as for a norm of errors.
        with_zero_gradient: takes the arguments of a call; returns those of the same call with a derivative of zero. None if it
            cannot be made.
        scale_tolerances: takes the arguments of a call and a factor; returns those of the same call with its absolute and
            relative tolerance multiplied by it. None if the checker has no tolerances.
        read_tolerances: takes the arguments of a call; returns its tolerances by name, such as {'atol': 1e-5, 'rtol': 1e-3}.
        without_message: makes a context in which the checker fails without working for the message, as far as that takes time.
    """

    name: str
    module: str
    attribute: str
    translate: Callable[[Arguments], Translation]
    conclude: Callable[[Answer, Arguments], Any]
    has_passed: Callable[[Any], bool | None]
    with_zero_gradient: Callable[[Arguments], Arguments] | None = None
    scale_tolerances: Callable[[Arguments, float], Arguments] | None = None
    read_tolerances: Callable[[Arguments], Mapping[str, float]] = lambda _: {}
    without_message: Callable[[], AbstractContextManager[None]] = nullcontext


def bind_arguments(function: Callable[..., Any], arguments: Arguments) -> inspect.BoundArguments:
    """Bind the arguments of a call to the signature of a function, with the defaults of those that are left out.

    Raises:
        TypeError: if they do not fit the signature.
    """
    args, kwargs = arguments
    bound = inspect.signature(function).bind(*args, **kwargs)
    bound.apply_defaults()
    return bound
