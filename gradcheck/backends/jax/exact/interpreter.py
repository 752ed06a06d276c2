"""From jaxprs to exact nodes: calls and custom rules inlined, loops unrolled, branches taken at the primal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

from gradcheck.backends.jax.exact.primitives import Array, evaluate, is_float, is_key
from gradcheck.backends.jax.exact.rules import (
    BRANCHES,
    COMPARISONS,
    OBSERVERS,
    OPAQUE,
    RULES,
    PrimitiveCall,
    TracedValue,
    make_constants,
)
from gradcheck.exact.branches import COMPARISON, TO_INTEGERS, Branches
from gradcheck.exact.build import mark_undefined
from gradcheck.exact.graph import MAX_NUMBERS, MAX_OPERATORS, Node, NotAvailable
from gradcheck.exact.identity import Equality
from gradcheck.tracebacks import summarise_error

# The names under which a primitive that calls a function keeps the jaxpr of that.
INNER_JAXPRS = ("jaxpr", "call_jaxpr", "fun_jaxpr", "call")


class Interpreter:
    """Evaluates jaxprs on arrays, and translates every primitive.

    Attributes:
        branches: what the values chose.
        equalities: where the operands of a comparison are equal.
        operators: the number of all primitives.
    """

    def __init__(self) -> None:
        self.branches = Branches()
        self.equalities: list[Equality] = []
        self.operators = self._numbers = 0

    def run(self, jaxpr: Any, operands: Sequence[TracedValue], consts: Sequence[Any] = ()) -> list[TracedValue]:
        """Run a jaxpr; a closed one brings its constants.

        Raises:
            NotAvailable: if a primitive has no exact meaning.
        """
        if hasattr(jaxpr, "consts"):
            jaxpr, consts = jaxpr.jaxpr, jaxpr.consts
        known: dict[Any, TracedValue] = dict(zip(jaxpr.constvars, map(trace_constant, consts), strict=True))
        known.update(zip(jaxpr.invars, operands, strict=True))

        def read(var: Any) -> TracedValue:
            return trace_constant(np.asarray(var.val, var.aval.dtype)) if isinstance(var, Literal) else known[var]

        for equation in jaxpr.eqns:
            operands = [read(var) for var in equation.invars]
            results = self._apply(equation, operands)
            known.update(zip(equation.outvars, results, strict=True))
        return [read(var) for var in jaxpr.outvars]

    def call(self, function: Callable[..., Any], *operands: TracedValue) -> list[TracedValue]:
        """Run a function of JAX arrays that returns a list of them."""
        return self.run(jax.make_jaxpr(function)(*[x.shadow for x in operands]), operands)

    def _apply(self, equation: Any, operands: list[TracedValue]) -> list[TracedValue]:
        primitive, params, varies = equation.primitive, equation.params, any(x.varies for x in operands)
        if primitive.name in CONTROL and varies:
            return CONTROL[primitive.name](self, params, operands)
        inner = next((params[name] for name in INNER_JAXPRS if name in params), None)
        if inner is not None and primitive.name not in CONTROL and _takes(inner, operands):
            return self.run(inner, operands)
        if not equation.outvars:  # such as `jax.debug.print`
            return []
        touches_floats = any(is_float(var.aval) for var in (*equation.invars, *equation.outvars))
        if varies and touches_floats and primitive.name not in RULES and primitive.name not in OBSERVERS:
            opaque = f"the code calls {OPAQUE.get(primitive.name)} by `{primitive.name}`, whose formula JAX does not know"
            raise NotAvailable(opaque if primitive.name in OPAQUE else f"no rule for the primitive {primitive.name}")
        return self._evaluate(primitive, params, operands, varies=varies)

    def _evaluate(
        self, primitive: Any, params: dict[str, Any], operands: list[TracedValue], *, varies: bool
    ) -> list[TracedValue]:
        call = PrimitiveCall(primitive, params, evaluate(primitive, params, [x.shadow for x in operands]))
        self._count(call.results)
        _refuse_unusual(call.results, operands)
        if primitive.name in COMPARISONS:
            self._note_comparison(call.results[0], *operands)
        is_converted = varies and primitive.name == "convert_element_type" and is_float(operands[0].shadow)
        if is_converted and not is_float(call.results[0]):
            self.branches.add(TO_INTEGERS, call.results[0])
        nodes = _translate(call, operands, varies=varies)
        if primitive.name in BRANCHES and (operands[0].varies if primitive.name == "select_n" else varies):
            chosen = call.results[-1] if nodes[0] is None else nodes[0]
            self.branches.add(BRANCHES[primitive.name], chosen, [x.node for x in operands if x.node is not None])
        is_bits = varies and (primitive.name == "bitcast_convert_type" or any(x.is_bits for x in operands))
        return [_finish(x, node, varies=varies, is_bits=is_bits) for x, node in zip(call.results, nodes, strict=True)]

    def _count(self, results: list[Array]) -> None:
        self.operators += 1
        self._numbers += sum(x.size for x in results)
        if self.operators > MAX_OPERATORS:
            raise NotAvailable(f"a graph of more than {MAX_OPERATORS:,} operators")
        if self._numbers > MAX_NUMBERS:
            raise NotAvailable(f"a graph of more than {MAX_NUMBERS:,} numbers")

    def _note_comparison(self, result: Array, a: TracedValue, b: TracedValue) -> None:
        """Note a comparison, and where its operands are equal and finite."""
        if a.node is None or b.node is None or not (a.node.varies or b.node.varies):
            return
        self.branches.add(COMPARISON, result)
        where = (a.shadow == b.shadow) & np.isfinite(a.shadow)
        if bool(where.any()):
            self.equalities.append(Equality(a.node, b.node, where))

    # --- control flow

    def _run_branch(self, params: dict[str, Any], operands: list[TracedValue]) -> list[TracedValue]:
        index, *others = operands
        if index.varies:
            self.branches.add(BRANCHES["cond"])
        branches = params["branches"]
        return self.run(branches[min(max(int(index.shadow), 0), len(branches) - 1)], others)

    def _run_while(self, params: dict[str, Any], operands: list[TracedValue]) -> list[TracedValue]:
        of_condition, of_body = params["cond_nconsts"], params["body_nconsts"]
        tested, used = operands[:of_condition], operands[of_condition : of_condition + of_body]
        carried = operands[of_condition + of_body :]
        while True:
            (goes_on,) = self.run(params["cond_jaxpr"], [*tested, *carried])
            if goes_on.shadow.ndim:
                raise NotAvailable("a loop that ends at different times under `vmap`")
            if goes_on.varies:
                self.branches.add(BRANCHES["while"])
            if not bool(goes_on.shadow):
                return carried
            carried = self.run(params["body_jaxpr"], [*used, *carried])

    def _run_scan(self, params: dict[str, Any], operands: list[TracedValue]) -> list[TracedValue]:
        first, length, count = params["num_consts"], params["length"], params["num_carry"]
        used, carried, sequences = operands[:first], operands[first : first + count], operands[first + count :]
        slices = self.call(lambda *xs: [x[i] for i in range(length) for x in xs], *sequences) if sequences else []
        width, stacked = len(sequences), dict[int, list[TracedValue]]()
        for i in reversed(range(length)) if params["reverse"] else range(length):
            results = self.run(params["jaxpr"], [*used, *carried, *slices[i * width : (i + 1) * width]])
            carried, stacked[i] = results[:count], results[count:]
        columns = zip(*[stacked[i] for i in range(length)], strict=True)
        return [*carried, *(self.call(lambda *xs: [jnp.stack(xs)], *column)[0] for column in columns)]

    def _run_solve(self, params: dict[str, Any], operands: list[TracedValue]) -> list[TracedValue]:
        lengths = params["const_lengths"]
        first = lengths.matvec + lengths.vecmat
        right = operands[first + lengths.solve + lengths.transpose_solve :]
        return self.run(params["jaxprs"].solve, [*operands[first : first + lengths.solve], *right])


CONTROL: dict[str, Callable[[Interpreter, dict[str, Any], list[TracedValue]], list[TracedValue]]] = {
    "cond": Interpreter._run_branch,
    "while": Interpreter._run_while,
    "scan": Interpreter._run_scan,
    "custom_linear_solve": Interpreter._run_solve,
}


def trace_constant(value: Array) -> TracedValue:
    """Return an array that depends on no input."""
    array = value if is_key(value) else np.asarray(value)
    return TracedValue(array, make_constants(array) if is_float(array) else None)


def _takes(jaxpr: Any, operands: list[TracedValue]) -> bool:
    """Say whether a jaxpr takes arrays of these shapes; that of a reduction takes single numbers."""
    shapes = [getattr(var.aval, "shape", None) for var in getattr(jaxpr, "jaxpr", jaxpr).invars]
    return shapes == [tuple(x.shadow.shape) for x in operands]


def _refuse_unusual(results: list[Array], operands: list[TracedValue]) -> None:
    if any(not is_key(x) and jnp.issubdtype(x.dtype, jnp.complexfloating) for x in results):
        raise NotAvailable("complex numbers")
    is_rounded = any(x.node is not None and x.node.varies for x in operands)
    coarse = [x.dtype.name for x in results if is_rounded and is_float(x) and x.dtype != np.float64]
    if coarse:
        raise NotAvailable(f"the code rounds to {coarse[0]}")


def _translate(call: PrimitiveCall, operands: list[TracedValue], *, varies: bool) -> Sequence[Node | None]:
    """Return an exact node for each result; None stands for its numbers as constants, and for an array of integers."""
    nothing: list[Node | None] = [None] * len(call.results)
    name, is_exact = call.primitive.name, any(is_float(x) and x.dtype == np.float64 for x in call.results)
    if not is_exact or name not in RULES:
        return nothing
    try:
        nodes = RULES[name](call, *operands)
    except Exception as error:
        if not varies:
            return nothing
        if isinstance(error, NotAvailable):
            raise
        raise NotAvailable(f"the rule for {name} does not cover this call: {summarise_error(error, 120)}") from error
    return nodes if isinstance(nodes, list) else [nodes]


def _finish(shadow: Array, node: Node | None, *, varies: bool, is_bits: bool) -> TracedValue:
    if not is_float(shadow):
        return TracedValue(shadow, varies=varies, is_bits=is_bits and shadow.dtype != bool)
    if is_bits:
        raise NotAvailable("the code computes with the bits of floating-point numbers")
    exact = make_constants(shadow) if node is None else node
    if exact.shape != tuple(shadow.shape):
        raise NotAvailable(f"a rule that gives the shape {exact.shape} for {tuple(shadow.shape)}")
    return TracedValue(shadow, mark_undefined(exact, np.asarray(shadow, np.float64)), varies=exact.varies)
