"""A JAX target and its derivative by one mode as one exact graph: the jaxprs of both, interpreted at the primal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from gradcheck.backends.exact_identity import (
    RULE_DIFFERS,
    SHIFT,
    choose_product,
    make_identity,
    measure_rounding,
    refuse_unusual,
    require_equal,
)
from gradcheck.backends.flat import F64
from gradcheck.backends.jax.arrays import arrays_at, concatenate_flat
from gradcheck.backends.jax.derivatives import TracedTarget, build_pullback, build_pushforward
from gradcheck.backends.jax.exact.interpreter import Interpreter
from gradcheck.backends.jax.exact.rules import TracedValue
from gradcheck.backends.program import Claim, ExactProgram, Program
from gradcheck.exact import floating
from gradcheck.exact.branches import COMPARISON
from gradcheck.exact.build import node_of
from gradcheck.exact.graph import Input, Node, NotAvailable
from gradcheck.tracebacks import summarise_error

TRACE_DIFFERS = "the traced jaxpr does not compute what the program computes"
BY_HAND = "a derivative by hand of a JAX function"


def trace_exactly(program: Program, target: TracedTarget, claim: Claim) -> ExactProgram:
    """Trace a program with its derivative by one mode, and translate the jaxprs.

    Args:
        program: the program.
        target: the twin, or the target itself if it has none.
        claim: its claim by reverse or forward mode.

    Raises:
        NotAvailable: if the target cannot be traced or its jaxpr has no exact meaning.
    """
    if claim.method not in ("reverse", "forward"):
        raise NotAvailable(BY_HAND)
    refuse_unusual(target.binding, program)
    product, forward = choose_product(claim), claim.method == "forward"
    layout, draw = target.binding.leaves if forward else target.binding.outputs, np.random.default_rng(0)
    vector = draw.standard_normal(layout[-1].span.stop)
    leaves, vectors = (
        [TracedValue(x, Input(x.shape), varies=True) for x in arrays]
        for arrays in (target.leaves_at(program.point), arrays_at(vector, layout, twin=target.is_twin))
    )
    interpreter, inputs = Interpreter(), [*leaves, *vectors]
    with target.computing():
        outputs = _interpret(interpreter, target, target.jitted, leaves)
        derivative = build_pushforward(target.jitted) if forward else build_pullback(target.jitted, target.binding)
        results = [*outputs, *_interpret(interpreter, target, derivative, inputs)[len(outputs) :]]
    nodes, input_nodes = [node_of(x) for x in results], [x.node for x in inputs if isinstance(x.node, Input)]

    rounding = measure_rounding(program, lambda at: product(at, vector[None])[0], draw)

    def compare(arrays: Sequence[Any], at: F64, message: str) -> None:
        count, flat = program.value.size, concatenate_flat(arrays)
        require_equal(flat[:count], program.evaluate(at), message, rounding[0])
        require_equal(flat[count:], product(at, vector[None])[0], message, rounding[1])

    compare([x.shadow for x in results], program.point, TRACE_DIFFERS)
    shifted = program.point * (1 + SHIFT * draw.standard_normal(program.point.size))
    for at in (program.point,) if interpreter.branches.names - {COMPARISON} else (program.point, shifted):
        numbers: dict[Node, F64] = dict(zip(input_nodes, [*target.leaves_at(at), *(x.shadow for x in vectors)], strict=True))
        compare(floating.evaluate(nodes, numbers), at, RULE_DIFFERS)
    identity = make_identity(nodes, input_nodes, target.binding, interpreter.equalities, forward=forward)
    return ExactProgram(identity, interpreter.branches, frozenset())


def _interpret(interpreter: Interpreter, target: TracedTarget, function: Any, inputs: list[TracedValue]) -> list[TracedValue]:
    """Trace a function of the moving arrays and the constants of a target, and interpret its jaxpr."""
    try:
        jaxpr = jax.make_jaxpr(lambda *moving: function(moving, target.constants))(*[x.shadow for x in inputs])
        return interpreter.run(jaxpr, inputs)
    except NotAvailable:
        raise
    except Exception as error:
        raise NotAvailable(f"the trace raised {summarise_error(error, 120)}") from error
