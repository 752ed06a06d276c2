"""Under torch.compile outputs and gradients are the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from gradcheck.checks.contracts.torch import plain_vjp as plain
from gradcheck.checks.contracts.torch.plain_vjp import Remarked, Unsupported
from gradcheck.checks.contracts.torch.silence_logging import quiet
from gradcheck.tracebacks import one_line, user_line

if TYPE_CHECKING:
    from gradcheck.checks.contracts.torch.plain_vjp import Baseline

NAME = "compile"
MEND = "look for what tracing cannot see: numbers made of tensors, attributes and globals that change, undeclared mutation"
BACKEND = "aot_eager"  # traces forward and backward as the default backend does, and needs no C++ compiler
OTHER = 0.75  # times the inputs: what is compiled first, so that a number taken from them shows at the inputs themselves


def broken(base: Baseline) -> str:
    """How outputs or gradients differ; '' where they do not.

    Raises:
        Remarked: where it raises under torch.compile, which nobody can miss.
        Unsupported: where nothing could be compiled, or random numbers are drawn.
    """
    if base.layer.random:
        raise Unsupported("random numbers are drawn, and compiled code draws others")
    graphs = list[Any]()
    call = base.layer.wrapped(lambda function: _compiled(function, graphs))
    leaves, others = base.leaves(), [(OTHER * x).detach().requires_grad_() for x in base.inputs]
    try:
        with quiet():
            plain.pulled(call(others), others, base.given())
            outputs = call(leaves)
            gradients = plain.rows(outputs, leaves, base.given())
    except Exception as error:
        raise Remarked(f"under torch.compile it raises {one_line(_first(error), 300)}{user_line(error)}") from error
    if not graphs:
        raise Unsupported("torch.compile found nothing in it that it can compile")
    told = plain.other_outputs(base, outputs) or plain.other(base, gradients)
    return f"under torch.compile {told}" if told else ""


def _first(error: BaseException) -> BaseException:
    """What an exception was raised from, and that from, and so on: the compiler wraps what it meets."""
    before = error.__cause__ or error.__context__
    return error if before is None else _first(before)


def _compiled(function: Callable[..., Any], graphs: list[Any]) -> Callable[..., Any]:
    """A function compiled; its graphs are added to a list."""
    from torch._dynamo.backends.registry import lookup_backend

    def entered(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return lookup_backend(BACKEND)(graph, inputs)

    entered.__code__ = entered.__code__.replace()  # of its own: what is compiled is kept by code object, a few times each
    return torch.compile(entered, backend=backend)
