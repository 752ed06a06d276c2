"""Contract `compile`: under torch.compile outputs and gradients are the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from gradcheck.backends.torch.silence_logging import silence_logging
from gradcheck.checks.contracts.torch.support.plain_vjp import (
    Baseline,
    NotApplicable,
    Remark,
    compare_gradients,
    compare_outputs,
    compute_flat_vjp,
    compute_vjp,
)
from gradcheck.tracebacks import format_user_line, summarise_error

NAME = "compile"
FIX = "look for what tracing cannot see: numbers made of tensors, attributes and globals that change, undeclared mutation"
# This backend traces forward and backward as the default one does, and needs no C++ compiler.
BACKEND = "aot_eager"


def find_breach(base: Baseline) -> str:
    """Describe how outputs or gradients differ under torch.compile; '' if they do not.

    The layer is compiled at other inputs first, so that a number taken from them shows at the inputs themselves.

    Raises:
        Remark: if the layer raises under torch.compile, which no user can miss.
        NotApplicable: if nothing could be compiled, or if random numbers are drawn.
    """
    if base.layer.draws_random:
        raise NotApplicable("random numbers are drawn, and compiled code draws others")
    graphs = list[Any]()
    call = base.layer.wrap(lambda function: _compile(function, graphs))
    leaves, other_leaves = base.new_leaves(), base.new_other_leaves()
    try:
        with silence_logging():
            compute_vjp(call(other_leaves), other_leaves, base.new_cotangents())
            outputs = call(leaves)
            gradients = compute_flat_vjp(outputs, leaves, base.new_cotangents())
    except Exception as error:
        cause = summarise_error(_root_cause(error), 300)
        raise Remark(f"under torch.compile it raises {cause}{format_user_line(error)}") from error
    if not graphs:
        raise NotApplicable("torch.compile found nothing in it that it can compile")
    difference = compare_outputs(base, outputs) or compare_gradients(base, gradients)
    return f"under torch.compile {difference}" if difference else ""


def _root_cause(error: BaseException) -> BaseException:
    """Follow the chain of causes to its start: the compiler wraps the exceptions that it meets."""
    cause = error.__cause__ or error.__context__
    return error if cause is None else _root_cause(cause)


def _compile(function: Callable[..., Any], graphs: list[Any]) -> Callable[..., Any]:
    """Compile a function; every graph that it compiles is appended to `graphs`."""
    from torch._dynamo.backends.registry import lookup_backend

    def entry(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return lookup_backend(BACKEND)(graph, inputs)

    # PyTorch keeps compiled code by code object, and only a few versions of each: this function gets a code object of its own.
    entry.__code__ = entry.__code__.replace()
    return torch.compile(entry, backend=backend)
