"""A torch target and its reverse mode as one exact graph, traced at the primal."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from gradcheck.backends import global_state
from gradcheck.backends.flat import F64
from gradcheck.backends.program import ExactProgram
from gradcheck.backends.torch.exact.nodes import node_of, shadow_of
from gradcheck.backends.torch.exact.rules import RULES, name_of
from gradcheck.backends.torch.exact.translation import Translation, writes
from gradcheck.backends.torch.parameter_swap import swap_scope
from gradcheck.backends.torch.tensors import carries_gradient, flat_of_all, leaves_at, tensor_of
from gradcheck.backends.torch.twin_precision import twin_precision
from gradcheck.exact import floating
from gradcheck.exact.graph import NotAvailable
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
    """The program and its reverse mode, as one function of leaves and cotangents."""

    run: Callable[..., Any]
    binding: Binding
    twin: bool
    point: F64

    def __call__(self, leaves: list[torch.Tensor], cotangents: list[torch.Tensor]) -> list[Any]:
        tensors = list(self.others())
        inputs = [x.detach().requires_grad_() for x in leaves]
        for i, x in zip(self.binding.input_places, inputs, strict=True):
            tensors[i] = x
        with torch.enable_grad(), swap_scope():
            returned = flatten(self.run(tensors, self.binding, twin=self.twin)).leaves
            outputs: list[Any] = [returned[i] for i in self.binding.output_places]
            if not all(map(carries_gradient, outputs)):
                raise NotAvailable("an output carries no gradient")
            gradients = torch.autograd.grad(outputs, inputs, cotangents, allow_unused=True)
        return [*(output.detach() for output in outputs), *gradients]

    def others(self) -> list[Any]:
        return leaves_at(self.binding, self.point, twin=self.twin)

    def cotangents(self, cotangent: F64) -> list[torch.Tensor]:
        dtypes = [torch.float64 if self.twin else getattr(torch, leaf.dtype) for leaf in self.binding.outputs]
        pairs = zip(self.binding.outputs, dtypes, strict=True)
        return [tensor_of(cotangent[leaf.span], leaf, dtype) for leaf, dtype in pairs]

    def leaves(self, point: F64) -> list[torch.Tensor]:
        tensors = leaves_at(self.binding, point, twin=self.twin)
        return [tensors[i] for i in self.binding.input_places]


def trace_exactly(
    run: Callable[..., Any],
    binding: Binding,
    point: F64,
    value: F64,
    draws: global_state.States,
    *,
    twin: bool,
    vjp: Callable[[F64, F64], F64],
) -> ExactProgram:
    """Trace a program with its reverse mode, and translate the graph.

    Args:
        run: (every leaf of the inputs, binding, twin=) -> what the target returns.
        binding: of the call.
        point: the primal, (N,).
        value: the outputs there, (M,).
        draws: the states of the random generators that the target draws from.
        twin: whether to trace in the precision of the twin.
        vjp: the claim in that precision, with which the trace is compared.

    Raises:
        NotAvailable: if the target cannot be traced or its graph has no exact meaning.
    """
    if any(leaf.width != 1 for leaf in (*binding.leaves, *binding.outputs)):
        raise NotAvailable("complex numbers")
    joint, draw = _Joint(run, binding, twin, point), np.random.default_rng(0)
    cotangent = draw.standard_normal(binding.outputs[-1].span.stop)
    cotangents = joint.cotangents(cotangent)
    with twin_precision(twin, binding.leaves), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = _trace(joint, joint.leaves(point), cotangents)
        module = _decompose(plain, joint.leaves(point), cotangents)
        translation = Translation(module)
        global_state.restore(draws)
        results = _translate(translation, [*joint.leaves(point), *cotangents])
        _compare(results, binding, value, vjp(point, cotangent[None])[0], TRACE_DIFFERS)
        shifted = point * (1 + SHIFT * draw.standard_normal(point.size))
        global_state.restore(draws)
        moved = module(joint.leaves(shifted), cotangents)
        outputs = flat_of_all(joint(joint.leaves(shifted), cotangents)[: len(binding.outputs)], binding.outputs)
        _compare(moved, binding, outputs, vjp(shifted, cotangent[None])[0], TRACE_HOLDS_HERE)
    nodes = [None if x is None else node_of(x) for x in results]
    inputs, count = translation.inputs, len(binding.outputs)
    numbers = [x.numpy(force=True) for x in (*joint.leaves(point), *cotangents)]
    floats = iter(floating.evaluate([node for node in nodes if node is not None], dict(zip(inputs, numbers, strict=True))))
    computed = [None if node is None else torch.from_numpy(np.array(next(floats))) for node in nodes]
    _compare(computed, binding, value, flat_of_all(list(map(shadow_of, results[count:])), binding.leaves), RULE_DIFFERS)
    identity = Identity(
        tuple(inputs[: len(binding.leaves)]),
        tuple(inputs[len(binding.leaves) :]),
        tuple(node for node in nodes[:count] if node is not None),
        tuple(nodes[count:]),
    )
    return ExactProgram(
        identity,
        frozenset(translation.branches),
        len(translation.nodes),
        lambda at, v: _differentiate(plain, joint, draws, at, v),
    )


def _trace(function: Callable[..., Any], leaves: list[torch.Tensor], cotangents: list[torch.Tensor]) -> torch.fx.GraphModule:
    """Trace a function; if it writes to tensors, the graph is traced once more without that."""
    from torch.fx.experimental.proxy_tensor import make_fx

    try:
        with sdpa_kernel(SDPBackend.MATH):
            module = make_fx(function)(leaves, cotangents)
        if any(writes(node) for node in module.graph.nodes):
            functional = torch.func.functionalize(module, remove="mutations_and_views")
            module = make_fx(functional)(leaves, cotangents)
    except NotAvailable:
        raise
    except Exception as error:
        raise NotAvailable(f"the trace raised {summarise_error(error, 120)}") from error
    return module


def _decompose(
    module: torch.fx.GraphModule, leaves: list[torch.Tensor], cotangents: list[torch.Tensor]
) -> torch.fx.GraphModule:
    """Replace the operators of a graph without a rule by others that have one."""
    from torch._decomp import decomposition_table
    from torch.fx.experimental.proxy_tensor import make_fx

    table: Any = {op: rule for op, rule in decomposition_table.items() if name_of(op) not in RULES}
    try:
        return make_fx(module, decomposition_table=table)(leaves, cotangents)
    except Exception as error:
        raise NotAvailable(f"the decomposition raised {summarise_error(error, 120)}") from error


def _translate(translation: Translation, inputs: list[torch.Tensor]) -> list[Any]:
    try:
        return translation.translate(inputs)
    except NotAvailable:
        raise
    except Exception as error:
        raise NotAvailable(f"the translation raised {summarise_error(error, 120)}") from error


def _compare(results: list[Any], binding: Binding, value: F64, claim: F64, message: str) -> None:
    """Raise unless the graph gives the values and the claim of the program, but for rounding."""
    count = len(binding.outputs)
    for parts, leaves, expected in ((results[:count], binding.outputs, value), (results[count:], binding.leaves, claim)):
        computed = flat_of_all([shadow_of(part) for part in parts], leaves)
        with np.errstate(all="ignore"):
            apart = np.abs(computed - expected) > MAX_DIFFERENCE * np.max(np.abs(expected), initial=1e-300)
        if np.any(apart & (computed != expected)):
            raise NotAvailable(message)


def _differentiate(
    module: torch.fx.GraphModule, joint: _Joint, draws: global_state.States, point: F64, cotangent: F64
) -> tuple[F64, F64]:
    """Return the claim and the derivative of the traced forward for a cotangent, both in floating point, (N,)."""
    binding, leaves = joint.binding, [x.requires_grad_() for x in joint.leaves(point)]
    cotangents = joint.cotangents(cotangent)
    global_state.restore(draws)
    try:
        with torch.enable_grad():
            results = _AttachedInterpreter(module).run(leaves, cotangents)
            outputs, claims = results[: len(binding.outputs)], results[len(binding.outputs) :]
            gradients = torch.autograd.grad(outputs, leaves, cotangents, allow_unused=True)
    except Exception as error:
        raise NotAvailable(f"the derivative of the trace raised {summarise_error(error, 120)}") from error
    return flat_of_all([None if c is None else c.detach() for c in claims], binding.leaves), flat_of_all(
        gradients, binding.leaves
    )


class _AttachedInterpreter(torch.fx.Interpreter):
    """Runs a traced graph so that nothing in it is cut off from the gradient."""

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        if name_of(target) in ("detach", "detach_copy", "alias", "view_of", "lift_fresh"):
            return args[0]
        return super().call_function(target, args, kwargs)
