"""A torch target and its derivative by one mode as one exact graph, traced at the primal."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

from gradcheck.backends import global_state
from gradcheck.backends.flat import EPS, F64, Leaf
from gradcheck.backends.program import Claim, ExactProgram, Program
from gradcheck.backends.torch.derivatives import forward_mode_level, tangent_of
from gradcheck.backends.torch.exact.nodes import node_of, shadow_of
from gradcheck.backends.torch.exact.rules import RULES, name_of
from gradcheck.backends.torch.exact.translation import Translation, writes
from gradcheck.backends.torch.parameter_swap import swap_scope
from gradcheck.backends.torch.tensors import carries_gradient, flat_of_all, leaves_at, tensor_of
from gradcheck.backends.torch.twin_precision import twin_precision
from gradcheck.exact import floating
from gradcheck.exact.graph import Input, Node, NotAvailable
from gradcheck.exact.identity import Identity
from gradcheck.tracebacks import summarise_error
from gradcheck.trees import flatten

if TYPE_CHECKING:
    from gradcheck.backends.flat_call import Binding

# How far the traced graph may differ from the program, relative to the largest number: rounding in another order.
MAX_DIFFERENCE = 1e-9
SHIFT = 1e-4
TRACE_DIFFERS = "the traced graph does not compute what the program computes"
RULE_DIFFERS = "the exact graph does not compute what the program computes"
TRACE_HOLDS_HERE = "the traced graph holds for these inputs only: the code reads values of its tensors"


@dataclass(frozen=True)
class _Joint:
    """The program and its derivative by one mode, as one function of leaves and of vectors.

    Attributes:
        run: (every leaf of the inputs, binding, twin=) -> what the target returns.
        binding: of the call.
        twin: whether to compute in the precision of the twin.
        point: the primal, (N,).
        forward: whether the vectors are tangents, and the derivatives those of the outputs.
    """

    run: Callable[..., Any]
    binding: Binding
    twin: bool
    point: F64
    forward: bool

    def __call__(self, leaves: list[torch.Tensor], vectors: list[torch.Tensor]) -> list[Any]:
        """Return the outputs, and behind them the derivatives."""
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
        tensors = leaves_at(self.binding, self.point, twin=self.twin)
        for i, x in zip(self.binding.input_places, inputs, strict=True):
            tensors[i] = x
        with swap_scope():
            returned = flatten(self.run(tensors, self.binding, twin=self.twin)).leaves
        return [returned[i] for i in self.binding.output_places]

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
        dtypes = [torch.float64 if self.twin else getattr(torch, leaf.dtype) for leaf in self.vector_leaves]
        return [tensor_of(vector[leaf.span], leaf, dtype) for leaf, dtype in zip(self.vector_leaves, dtypes, strict=True)]


def trace_exactly(
    run: Callable[..., Any], binding: Binding, program: Program, claim: Claim, draws: global_state.States, *, twin: bool
) -> ExactProgram:
    """Trace a program with its derivative by one mode, and translate the graph.

    Args:
        run: (every leaf of the inputs, binding, twin=) -> what the target returns.
        binding: of the call.
        program: the program.
        claim: its claim by reverse or forward mode.
        draws: the states of the random generators that the target draws from.
        twin: whether to trace in the precision of the twin.

    Raises:
        NotAvailable: if the target cannot be traced or its graph has no exact meaning.
    """
    if any(leaf.width != 1 for leaf in (*binding.leaves, *binding.outputs)):
        raise NotAvailable("complex numbers")
    if program.device not in ("", "cpu"):
        raise NotAvailable(f"tensors on {program.device}")
    if program.eps > EPS["float64"]:
        raise NotAvailable("the target does not compute in float64")
    product = (claim.twin or claim.vjp) if claim.method == "reverse" else (claim.twin_jvp or claim.jvp)
    assert product is not None
    joint, draw = _Joint(run, binding, twin, program.point, claim.method == "forward"), np.random.default_rng(0)
    vector = draw.standard_normal(joint.vector_leaves[-1].span.stop)
    shifted = program.point * (1 + SHIFT * draw.standard_normal(program.point.size))
    vectors = joint.vectors(vector)
    with twin_precision(twin, binding.leaves), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = _trace(joint, joint.leaves(program.point), vectors)
        module = _decompose(plain, joint.leaves(program.point), vectors)
        translation = Translation(module)
        global_state.restore(draws)
        results = _translate(translation, [*joint.leaves(program.point), *vectors])
        _compare(results, joint, program.value, product(program.point, vector[None])[0], TRACE_DIFFERS)
        global_state.restore(draws)
        moved = module(joint.leaves(shifted), vectors)
        outputs = program.evaluate(shifted)
        _compare(moved, joint, outputs, product(shifted, vector[None])[0], TRACE_HOLDS_HERE)
    nodes = [None if x is None else node_of(x) for x in results]
    _compare_rules(nodes, results, translation.inputs, [*joint.leaves(program.point), *vectors], joint)
    identity = replace(_make_identity(nodes, translation.inputs, joint), equalities=tuple(translation.equalities))
    branches = frozenset(translation.branches)
    return ExactProgram(identity, branches, len(translation.nodes), lambda at, v: _differentiate(plain, joint, draws, at, v))


def _make_identity(nodes: list[Node | None], inputs: list[Input], joint: _Joint) -> Identity:
    """Make the identity of the translated outputs and derivatives."""
    binding = joint.binding
    leaves, vectors = tuple(inputs[: len(binding.leaves)]), tuple(inputs[len(binding.leaves) :])
    outputs = tuple(node for node in nodes[: len(binding.outputs)] if node is not None)
    claims = tuple(nodes[len(binding.outputs) :])
    if not joint.forward:
        return Identity(leaves, vectors, outputs, claims)
    return Identity(leaves, tuple(Input(node.shape) for node in outputs), outputs, claims, vectors)


def _compare_rules(
    nodes: list[Node | None], results: list[Any], inputs: list[Input], tensors: list[torch.Tensor], joint: _Joint
) -> None:
    """Raise unless the exact graph computes in floating point what the traced one does."""
    numbers: dict[Node, F64] = dict(zip(inputs, [x.numpy(force=True) for x in tensors], strict=True))
    floats = iter(floating.evaluate([node for node in nodes if node is not None], numbers))
    computed = [None if node is None else torch.from_numpy(np.array(next(floats))) for node in nodes]
    shadows, count = [shadow_of(result) for result in results], len(joint.binding.outputs)
    value, derivative = (
        flat_of_all(shadows[:count], joint.binding.outputs),
        flat_of_all(shadows[count:], joint.derivative_leaves),
    )
    _compare(computed, joint, value, derivative, RULE_DIFFERS)


def _trace(function: Callable[..., Any], leaves: list[torch.Tensor], vectors: list[torch.Tensor]) -> torch.fx.GraphModule:
    """Trace a function; if it writes to tensors, the graph is traced once more without that."""
    try:
        with sdpa_kernel(SDPBackend.MATH):
            module = _make_graph(function, leaves, vectors)
        if any(writes(node) for node in module.graph.nodes):
            module = _make_graph(torch.func.functionalize(module, remove="mutations_and_views"), leaves, vectors)
    except NotAvailable:
        raise
    except Exception as error:
        raise NotAvailable(f"the trace raised {summarise_error(error, 120)}") from error
    return module


def _decompose(module: torch.fx.GraphModule, leaves: list[torch.Tensor], vectors: list[torch.Tensor]) -> torch.fx.GraphModule:
    """Replace the operators of a graph without a rule by others that have one."""
    from torch._decomp import decomposition_table

    table: Any = {op: rule for op, rule in decomposition_table.items() if name_of(op) not in RULES}
    try:
        return _make_graph(module, leaves, vectors, table)
    except Exception as error:
        raise NotAvailable(f"the decomposition raised {summarise_error(error, 120)}") from error


def _make_graph(function: Callable[..., Any], leaves: Any, vectors: Any, decompositions: Any = None) -> torch.fx.GraphModule:
    """Trace with one mode for the metadata of all nodes; PyTorch would make one for each, at a third of the trace's cost."""
    from torch._guards import TracingContext, tracing
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.proxy_tensor import make_fx

    with tracing(TracingContext(FakeTensorMode(allow_fallback_kernels=True))):
        return make_fx(function, decompositions, _error_on_data_dependent_ops=False)(leaves, vectors)


def _translate(translation: Translation, inputs: list[torch.Tensor]) -> list[Any]:
    try:
        return translation.translate(inputs)
    except NotAvailable:
        raise
    except Exception as error:
        raise NotAvailable(f"the translation raised {summarise_error(error, 120)}") from error


def _compare(results: list[Any], joint: _Joint, value: F64, derivative: F64, message: str) -> None:
    """Raise unless the graph gives the values and the derivative of the program, but for rounding."""
    count = len(joint.binding.outputs)
    of_value, of_derivative = (
        (results[:count], joint.binding.outputs, value),
        (results[count:], joint.derivative_leaves, derivative),
    )
    for parts, leaves, expected in (of_value, of_derivative):
        computed = flat_of_all([shadow_of(part) for part in parts], leaves)
        with np.errstate(all="ignore"):
            apart = np.abs(computed - expected) > MAX_DIFFERENCE * np.max(np.abs(expected), initial=1e-300)
        if np.any(apart & (computed != expected)):
            raise NotAvailable(message)


def _differentiate(
    module: torch.fx.GraphModule, joint: _Joint, draws: global_state.States, point: F64, vector: F64
) -> tuple[F64, F64]:
    """Return the claim and the derivative of the traced forward for a vector, both in floating point."""
    leaves, vectors, layout = joint.leaves(point), joint.vectors(vector), joint.derivative_leaves
    count = len(joint.binding.outputs)
    global_state.restore(draws)
    try:
        if joint.forward:
            with forward_mode_level():
                pairs = zip(leaves, vectors, strict=True)
                duals = [forward_ad.make_dual(x, t) for x, t in pairs]  # type: ignore[no-untyped-call]
                results = _AttachedInterpreter(module).run(duals, vectors)
                derivatives = [tangent_of(output) for output in results[:count]]
                claims = [None if c is None else forward_ad.unpack_dual(c).primal for c in results[count:]]  # type: ignore[no-untyped-call]
        else:
            with torch.enable_grad():
                leaves = [x.requires_grad_() for x in leaves]
                results = _AttachedInterpreter(module).run(leaves, vectors)
                derivatives = list(torch.autograd.grad(results[:count], leaves, vectors, allow_unused=True))
                claims = [None if c is None else c.detach() for c in results[count:]]
    except Exception as error:
        raise NotAvailable(f"the derivative of the trace raised {summarise_error(error, 120)}") from error
    return flat_of_all(claims, layout), flat_of_all(derivatives, layout)


class _AttachedInterpreter(torch.fx.Interpreter):
    """Runs a traced graph so that nothing in it is cut off from the gradient."""

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        if name_of(target) in ("detach", "detach_copy", "alias", "view_of", "lift_fresh"):
            return args[0]
        if name_of(target) == "copy":  # has no derivative in forward mode
            return args[1].expand(args[0].shape)
        return super().call_function(target, args, kwargs)
