"""A JAX target and its derivative by one mode as one exact graph: the jaxprs of both, interpreted at the primal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gradcheck.backends.exact_identity import (
    RULE_DIFFERS,
    choose_product,
    draw_shifted_point,
    make_identity,
    measure_rounding,
    refuse_unusual,
    require_equal,
    require_same_in_own_dtype,
)
from gradcheck.backends.flat import F64
from gradcheck.backends.jax.arrays import arrays_at, concatenate_flat
from gradcheck.backends.jax.derivatives import TracedTarget, build_pullback, build_pushforward
from gradcheck.backends.jax.exact.interpreter import Interpreter
from gradcheck.backends.jax.exact.rules import TracedValue
from gradcheck.backends.jax.functional import fill_leaves
from gradcheck.backends.jax.jit import ArrayFunction
from gradcheck.backends.program import Claim, ExactProgram, Program
from gradcheck.exact import floating
from gradcheck.exact.branches import COMPARISON
from gradcheck.exact.build import node_of
from gradcheck.exact.graph import Input, Node, NotAvailable
from gradcheck.tracebacks import summarise_error

TRACE_DIFFERS = "the traced jaxpr does not compute what the program computes"
TO_NUMPY = "the code makes NumPy arrays of JAX arrays, as `np.sin(x)` does: `jnp.sin(x)` can be traced"
READS_NUMBERS = "the code reads numbers of its arrays, as `if x > 0` and `float(x)` do: `jnp.where` can be traced"


def trace_exactly(program: Program, target: TracedTarget, claim: Claim) -> ExactProgram:
    """Trace a program with its derivative by one mode, and translate the jaxprs.

    Args:
        program: the program.
        target: the twin, or the target itself if it has none.
        claim: its claim, made by hand or by reverse or forward mode.

    Raises:
        NotAvailable: if the target cannot be traced or its jaxpr has no exact meaning.
    """
    refuse_unusual(target.binding, program)
    forward, derivative = claim.vjp is None, _build_products(target, claim)
    binding, draw = target.binding, np.random.default_rng(0)
    layout, derivative_leaves = (binding.leaves, binding.outputs) if forward else (binding.outputs, binding.leaves)
    vector = draw.standard_normal(layout[-1].span.stop)
    leaves, vectors = (
        [TracedValue(x, Input(x.shape), varies=True) for x in arrays]
        for arrays in (target.leaves_at(program.point), arrays_at(vector, layout, twin=target.is_twin))
    )
    interpreter, inputs = Interpreter(), [*leaves, *vectors]
    with target.computing():
        outputs = _interpret(interpreter, target, target.jitted, leaves)
        results = [*outputs, *_interpret(interpreter, target, derivative, inputs)]
    nodes, input_nodes = [node_of(x) for x in results], [x.node for x in inputs if isinstance(x.node, Input)]

    if [node.shape for node in nodes[len(outputs) :]] != [leaf.shape for leaf in derivative_leaves]:
        raise NotAvailable("a derivative of another shape")

    def multiply_by_hand(at: F64, vectors: F64) -> F64:
        with target.computing():
            moving = [*target.leaves_at(at), *arrays_at(vectors[0], layout, twin=target.is_twin)]
            return concatenate_flat(derivative([jnp.asarray(x) for x in moving], target.constants))[None]

    product = multiply_by_hand if claim.direct_calls else choose_product(claim)
    rounding = measure_rounding(program, lambda at: product(at, vector[None])[0], draw)

    def compare(arrays: Sequence[Any], at: F64, message: str) -> None:
        count, flat = program.value.size, concatenate_flat(arrays)
        require_equal(flat[:count], program.evaluate(at), message, rounding[0])
        require_equal(flat[count:], product(at, vector[None])[0], message, rounding[1])

    compare([x.shadow for x in results], program.point, TRACE_DIFFERS)
    shifted = draw_shifted_point(program, draw, has_branches=bool(interpreter.branches.names))
    require_same_in_own_dtype(claim, program, vector, product)
    for at in (program.point,) if interpreter.branches.names - {COMPARISON} else (program.point, shifted):
        numbers: dict[Node, F64] = dict(zip(input_nodes, [*target.leaves_at(at), *(x.shadow for x in vectors)], strict=True))
        compare(floating.evaluate(nodes, numbers), at, RULE_DIFFERS)
    identity = make_identity(nodes, input_nodes, target.binding, interpreter.equalities, forward=forward)
    return ExactProgram(identity, interpreter.branches, frozenset())


def _build_products(target: TracedTarget, claim: Claim) -> ArrayFunction:
    """Make (leaves and vectors, constants) -> the products that a claim makes of the vectors."""
    count, joint, binding = len(target.binding.leaves), claim.joint, target.binding
    if joint is not None:
        return lambda moving, constants: [
            jnp.asarray(part)
            for part in joint(fill_leaves(binding, moving[:count], constants, twin=target.is_twin), moving[count:])
        ]
    build = build_pushforward(target.jitted) if claim.vjp is None else build_pullback(target.jitted, binding)
    return lambda moving, constants: build(moving, constants)[len(binding.outputs) :]


def _interpret(interpreter: Interpreter, target: TracedTarget, function: Any, inputs: list[TracedValue]) -> list[TracedValue]:
    """Trace a function of the moving arrays and the constants of a target, and interpret its jaxpr."""
    try:
        jaxpr = jax.make_jaxpr(lambda *moving: function(moving, target.constants))(*[x.shadow for x in inputs])
        return interpreter.run(jaxpr, inputs)
    except NotAvailable:
        raise
    except jax.errors.TracerArrayConversionError:
        raise NotAvailable(TO_NUMPY) from None
    except jax.errors.ConcretizationTypeError:
        raise NotAvailable(READS_NUMBERS) from None
    except Exception as error:
        raise NotAvailable(f"the trace raised {summarise_error(error, 120)}") from error
