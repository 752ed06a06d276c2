"""A function on NumPy arrays and its hand-written derivative as one exact graph, traced at the primal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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
from gradcheck.backends.numpy.exact import functions, matrices, ufuncs  # noqa: F401 - they register their rules
from gradcheck.backends.numpy.exact.array import as_traced, finish, make_constant
from gradcheck.backends.numpy.exact.constructors import traced_constructors
from gradcheck.backends.numpy.exact.record import recording
from gradcheck.backends.program import Claim, ExactProgram, Program
from gradcheck.exact import floating
from gradcheck.exact.graph import DEMOTES, Input, Node, NotAvailable
from gradcheck.tracebacks import summarise_error
from gradcheck.trees import flatten

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gradcheck.backends.flat import F64, Leaf
    from gradcheck.backends.flat_call import Binding

HOLDS_HERE = "the traced graph holds for these inputs only: the code reads numbers of its arrays, or is between two branches"


@dataclass(frozen=True)
class _Joint:
    """A function and its hand-written derivative.

    Attributes:
        function: on NumPy arrays.
        binding: of its inputs and outputs.
        claim: the derivative.
        values: of every leaf of the call, in float64.
    """

    function: Callable[..., Any]
    binding: Binding
    claim: Claim
    values: Sequence[Any]

    def trace(self, inputs: Sequence[Input], numbers: Sequence[F64]) -> list[Any]:
        """Return the outputs, and behind them the derivatives, each traced.

        Args:
            inputs: the leaves, and behind them the cotangents or tangents.
            numbers: their values.
        """
        count = len(self.binding.leaves)
        vectors = [finish(np.array(x), node) for x, node in zip(numbers[count:], inputs[count:], strict=True)]

        def make_leaves() -> list[Any]:
            values = [make_constant(x) if isinstance(x, np.ndarray) and x.dtype.kind == "f" else x for x in self.values]
            for place, x, node in zip(self.binding.input_places, numbers, inputs, strict=False):
                values[place] = finish(np.array(x), node)
            return values

        args, kwargs = self.binding.call.rebuild(make_leaves())
        returned = flatten(self.function(*args, **kwargs)).leaves
        outputs = [as_traced(returned[i]).copy() for i in self.binding.output_places]
        assert self.claim.joint is not None
        parts = self.claim.joint(make_leaves(), vectors)
        return [*outputs, *map(as_traced, parts)]


def trace_exactly(
    function: Callable[..., Any],
    binding: Binding,
    make_values: Callable[[], Sequence[Any]],
    program: Program,
    claim: Claim,
) -> ExactProgram:
    """Trace a function with a hand-written derivative.

    Args:
        function: on NumPy arrays.
        binding: of its inputs and outputs.
        make_values: makes the values of every leaf of the call, in float64.
        program: the program.
        claim: the hand-written derivative.

    Raises:
        NotAvailable: if the code cannot be traced or has no exact meaning.
    """
    refuse_unusual(binding, program)
    forward, draw = claim.vjp is None, np.random.default_rng(0)
    vector_leaves, derivative_leaves = (binding.leaves, binding.outputs) if forward else (binding.outputs, binding.leaves)
    inputs = [Input(leaf.shape) for leaf in (*binding.leaves, *vector_leaves)]
    joint, product = _Joint(function, binding, claim, make_values()), choose_product(claim)
    vector = draw.standard_normal(vector_leaves[-1].span.stop)

    def list_numbers(point: F64, vector: F64) -> list[F64]:
        return [*_split(point, binding.leaves), *_split(vector, vector_leaves)]

    with recording() as record:
        nodes = _trace(joint, inputs, list_numbers(program.point, vector))
    if [node.shape for node in nodes] != [leaf.shape for leaf in (*binding.outputs, *derivative_leaves)]:
        raise NotAvailable("an output of another shape")

    rounding = measure_rounding(program, lambda at: product(at, vector[None])[0], draw)

    def compare(point: F64, message: str) -> None:
        computed = floating.evaluate(nodes, dict(zip(inputs, list_numbers(point, vector), strict=True)))
        expected = [program.evaluate(point), product(point, vector[None])[0]]
        halves = computed[: len(binding.outputs)], computed[len(binding.outputs) :]
        for parts, numbers, absolute in zip(halves, expected, rounding, strict=True):
            require_equal(np.concatenate([np.ravel(part) for part in parts]), numbers, message, absolute)

    demotions = frozenset(record.demotions)
    rounds = DEMOTES.format(" and ".join(sorted(demotions)))
    compare(program.point, rounds if demotions else RULE_DIFFERS)
    shifted = draw_shifted_point(program, draw, has_branches=bool(record.branches.names))
    compare(shifted, rounds if demotions else HOLDS_HERE)
    require_same_in_own_dtype(claim, program, vector, product)
    identity = make_identity(nodes, inputs, binding, record.equalities, forward=forward)
    return ExactProgram(identity, record.branches, demotions)


def _split(vector: F64, leaves: Sequence[Leaf]) -> list[F64]:
    return [vector[leaf.span].reshape(leaf.shape) for leaf in leaves]


def _trace(joint: _Joint, inputs: list[Input], numbers: list[F64]) -> list[Node]:
    try:
        with traced_constructors(joint.function, joint.claim.direct_calls[0].function), np.errstate(all="ignore"):
            return [x.node for x in joint.trace(inputs, numbers)]
    except NotAvailable:
        raise
    except Exception as error:
        raise NotAvailable(f"the trace raised {summarise_error(error, 120)}") from error
