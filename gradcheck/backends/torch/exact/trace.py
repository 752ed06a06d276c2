"""A torch target and its derivative by one mode as one exact graph, traced at the primal."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import _disable_current_modes

from gradcheck.backends import global_state
from gradcheck.backends.exact_identity import (
    RULE_DIFFERS,
    TRACE_HOLDS_HERE,
    choose_product,
    draw_shifted_point,
    make_identity,
    measure_rounding,
    refuse_unusual,
    require_equal,
)
from gradcheck.backends.flat import EPS, F64, Leaf
from gradcheck.backends.program import Claim, ExactProgram, Program
from gradcheck.backends.torch.derivatives import forward_mode_level
from gradcheck.backends.torch.exact.nodes import TracedTensor, shadow_of, view_as_real
from gradcheck.backends.torch.exact.recorder import OperatorRecorder
from gradcheck.backends.torch.parameter_swap import swap_scope
from gradcheck.backends.torch.tensors import carries_gradient, flat_of_all, leaves_at, tensor_of
from gradcheck.backends.torch.twin_precision import twin_precision
from gradcheck.exact import floating
from gradcheck.exact.build import node_of
from gradcheck.exact.graph import DEMOTES, Input, Node, NotAvailable
from gradcheck.tracebacks import summarise_error
from gradcheck.trees import flatten

if TYPE_CHECKING:
    from gradcheck.backends.flat_call import Binding

TRACE_DIFFERS = "the traced graph does not compute what the program computes"


@dataclass(frozen=True)
class _Joint:
    """The program and its derivative by one mode, as one function of leaves and of vectors.

    Attributes:
        run: (every leaf of the inputs, binding, twin=) -> what the target returns.
        binding: of the call.
        twin: whether to compute in the precision of the twin.
        point: the primal, (N,).
        forward: whether the vectors are tangents, and the derivatives those of the outputs.
        written: the derivative, if it is written by hand; see `Claim.joint`.
    """

    run: Callable[..., Any]
    binding: Binding
    twin: bool
    point: F64
    forward: bool
    written: Callable[[Sequence[Any], Sequence[Any]], list[Any]] | None

    def __call__(self, leaves: list[torch.Tensor], vectors: list[torch.Tensor]) -> list[Any]:
        """Return the outputs, and behind them the derivatives."""
        if self.written is not None:
            outputs = self._evaluate(leaves)
            return [*outputs, *self.written(self._place(leaves), vectors)]
        return self._push(leaves, vectors) if self.forward else self._pull(leaves, vectors)

    def _pull(self, leaves: list[torch.Tensor], cotangents: list[torch.Tensor]) -> list[Any]:
        inputs = [x.detach().requires_grad_() for x in leaves]
        with torch.enable_grad():
            outputs = self._evaluate(inputs)
            if not all(map(carries_gradient, outputs)):
                raise NotAvailable("an output carries no gradient")
            gradients = torch.autograd.grad(outputs, inputs, cotangents, allow_unused=True)
        return [*(output.detach() for output in outputs), *gradients]

    def _push(self, leaves: list[torch.Tensor], tangents: list[torch.Tensor]) -> list[Any]:
        with forward_mode_level():
            pairs = zip(leaves, tangents, strict=True)
            outputs = self._evaluate([forward_ad.make_dual(x, t) for x, t in pairs])  # type: ignore[no-untyped-call]
            parts = [forward_ad.unpack_dual(output) for output in outputs]  # type: ignore[no-untyped-call]
        return [*(part.primal for part in parts), *(part.tangent for part in parts)]

    def _evaluate(self, inputs: list[torch.Tensor]) -> list[Any]:
        with swap_scope():
            returned = flatten(self.run(self._place(inputs), self.binding, twin=self.twin)).leaves
        return [returned[i] for i in self.binding.output_places]

    def _place(self, inputs: list[torch.Tensor]) -> list[Any]:
        """Return every leaf of the call with some inputs."""
        with _disable_current_modes():  # most of them are replaced
            tensors = leaves_at(self.binding, self.point, twin=self.twin)
        for i, x in zip(self.binding.input_places, inputs, strict=True):
            tensors[i] = x
        return tensors

    @property
    def vector_leaves(self) -> tuple[Leaf, ...]:
        """The layout of the vectors."""
        return self.binding.leaves if self.forward else self.binding.outputs

    @property
    def derivative_leaves(self) -> tuple[Leaf, ...]:
        """The layout of the derivatives."""
        return self.binding.outputs if self.forward else self.binding.leaves

    def leaves(self, point: F64) -> list[torch.Tensor]:
        """Return the leaves at a point."""
        tensors = leaves_at(self.binding, point, twin=self.twin)
        return [tensors[i] for i in self.binding.input_places]

    def vectors(self, vector: F64) -> list[torch.Tensor]:
        """Return a vector as tensors."""
        own = [getattr(torch, leaf.dtype) for leaf in self.vector_leaves]
        dtypes = [torch.promote_types(dtype, torch.float64) if self.twin else dtype for dtype in own]
        return [tensor_of(vector[leaf.span], leaf, dtype) for leaf, dtype in zip(self.vector_leaves, dtypes, strict=True)]


def trace_exactly(
    run: Callable[..., Any], binding: Binding, program: Program, claim: Claim, draws: global_state.States, *, twin: bool
) -> ExactProgram:
    """Trace a program with its derivative by one mode, and translate the graph.

    Args:
        run: (every leaf of the inputs, binding, twin=) -> what the target returns.
        binding: of the call.
        program: the program.
        claim: its claim, made by hand or by reverse or forward mode.
        draws: the states of the random generators that the target draws from.
        twin: whether to trace in the precision of the twin.

    Raises:
        NotAvailable: if the target cannot be traced or its graph has no exact meaning.
    """
    refuse_unusual(binding, program)
    if claim.direct_calls and (claim.joint is None or claim.eps > EPS["float64"]):
        raise NotAvailable("a derivative by hand that computes in lower precision, or with sparse tensors")
    product = choose_product(claim)
    joint, draw = _Joint(run, binding, twin, program.point, claim.vjp is None, claim.joint), np.random.default_rng(0)
    vector = draw.standard_normal(joint.vector_leaves[-1].span.stop)
    vectors = joint.vectors(vector)
    inputs, recorder = [*joint.leaves(program.point), *vectors], OperatorRecorder()
    rounding = measure_rounding(program, lambda at: product(at, vector[None])[0], draw)
    with twin_precision(twin, binding.leaves), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        global_state.restore(draws)
        results = _record(recorder, joint, inputs)
        here = program.value, product(program.point, vector[None])[0], rounding
        shifted = draw_shifted_point(program, draw, has_branches=bool(recorder.branches.names))
        global_state.restore(draws)
        there = program.evaluate(shifted), product(shifted, vector[None])[0], rounding
    _compare([shadow_of(x) for x in results], joint, *here, TRACE_DIFFERS)
    nodes = [None if x is None else node_of(x) for x in results]
    demotions = frozenset(recorder.demotions)
    message = DEMOTES.format(" and ".join(sorted(demotions))) if demotions else RULE_DIFFERS
    _compare(_evaluate_nodes(nodes, recorder.inputs, inputs, joint), joint, *here, message)
    moved = _evaluate_nodes(nodes, recorder.inputs, [*joint.leaves(shifted), *vectors], joint)
    _compare(moved, joint, *there, TRACE_HOLDS_HERE)
    identity = make_identity(nodes, recorder.inputs, binding, recorder.equalities, forward=joint.forward)
    return ExactProgram(identity, recorder.branches, demotions)


def _evaluate_nodes(
    nodes: list[Node | None], inputs: list[Input], tensors: list[torch.Tensor], joint: _Joint
) -> list[torch.Tensor | None]:
    """Evaluate the outputs and derivatives of an exact graph in floating point."""
    arrays = [view_as_real(x).numpy(force=True) for x in tensors]
    floats = iter(floating.evaluate([node for node in nodes if node is not None], dict(zip(inputs, arrays, strict=True))))
    results = [None if node is None else torch.from_numpy(np.array(next(floats), order="C")) for node in nodes]
    layout = (*joint.binding.outputs, *joint.derivative_leaves)
    pairs = zip(results, layout, strict=True)
    return [torch.view_as_complex(x) if x is not None and leaf.width == 2 else x for x, leaf in pairs]


def _record(recorder: OperatorRecorder, joint: _Joint, inputs: list[torch.Tensor]) -> list[TracedTensor | None]:
    """Run the program and its derivative, and return what is known of the outputs and the derivatives."""
    for tensor in inputs:
        recorder.add_input(tensor)
    count = len(joint.binding.leaves)
    try:
        with sdpa_kernel(SDPBackend.MATH), recorder:
            results = joint(inputs[:count], inputs[count:])
    except NotAvailable:
        raise
    except Exception as error:
        raise NotAvailable(f"the trace raised {summarise_error(error, 120)}") from error
    if recorder.refusal is not None:
        raise recorder.refusal
    return [None if x is None else recorder.find(x) for x in results]


def _compare(
    results: list[Any], joint: _Joint, value: F64, derivative: F64, rounding: tuple[float, float], message: str
) -> None:
    """Raise unless the graph gives the values and the derivative of the program, but for rounding."""
    count = len(joint.binding.outputs)
    of_value, of_derivative = (
        (results[:count], joint.binding.outputs, value, rounding[0]),
        (results[count:], joint.derivative_leaves, derivative, rounding[1]),
    )
    for parts, leaves, expected, absolute in (of_value, of_derivative):
        computed = flat_of_all([shadow_of(part) for part in parts], leaves)
        require_equal(computed, expected, message, absolute)
