"""The vjp of one cotangent as a function of the inputs: its derivative is the second derivative of the target."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from gradcheck.backends.flat import F64, Leaf, make_gradient_leaves
from gradcheck.backends.flat_call import Binding
from gradcheck.backends.program import Capabilities, Program, Unavailable, trace_on_demand
from gradcheck.backends.torch import derivatives, line
from gradcheck.backends.torch.derivatives import tangent_of
from gradcheck.backends.torch.graph import walk_graph
from gradcheck.backends.torch.parameter_swap import swap_scope
from gradcheck.backends.torch.tensors import carries_gradient, flat_of_all, leaf_part, leaves_at
from gradcheck.backends.torch.twin_precision import evaluate_target
from gradcheck.tracebacks import format_user_frames, format_user_line, summarise_error
from gradcheck.trees import flatten

ERROR_NODE = "Error"  # class name of the node that @once_differentiable adds to the graph, on no path to the inputs


def make_gradient_program(first: Program, run: Callable[..., Any], binding: Binding, cotangent: F64, *, twin: bool) -> Program:
    """Make the program of x -> J(x)^T v, whose outputs are the gradients `∂output/∂x`; evaluating it records no graph.

    Args:
        run: (every leaf of the inputs, binding, twin=) -> what the target returns.
        cotangent: v, (M,).
        twin: whether the program is evaluated in the precision of the twin.

    Raises:
        Unavailable: if the gradients cannot be differentiated; the message says why.
    """
    gradients = GradientFunction(run, binding, cotangent)
    gradient_binding = gradients.gradient_binding
    _require_differentiable(gradients, first.point)

    values = partial(evaluate_target, gradients, gradient_binding)
    program = Program(
        framework=first.framework,
        shapes=first.shapes,
        name=first.name,
        leaves=binding.leaves,
        outputs=gradient_binding.outputs,
        point=first.point,
        value=values(first.point, twin=twin),
        evaluate=partial(values, twin=twin),
        eps=first.eps,
        claims=derivatives.make_autograd_claims(gradients, gradient_binding, twin=twin),
        capabilities=Capabilities(
            evaluate_along=line.make_line_evaluator(gradients, gradient_binding, first.point, twin=twin),
            evaluate_native=partial(values, twin=False) if twin else None,
            cotangent_jvp=gradients.differentiate_by_cotangent,
        ),
    )
    return program.with_capabilities(
        trace_exactly=trace_on_demand("torch", program=program, run=gradients, binding=gradient_binding, draws={}, twin=twin),
        gradient_program=lambda v: make_gradient_program(program, gradients, gradient_binding, v, twin=twin),
    )


@dataclass(frozen=True)
class GradientFunction:
    """The gradients J(x)^T v, one per differentiable leaf, for a fixed cotangent v (M,), as a function called like a target.

    If the leaves require gradients, the gradients have a graph; if the leaves carry tangents, the gradients do. A gradient that
    autograd takes for a constant gets a graph that leads nowhere, or a tangent of zeros.
    """

    run: Callable[..., Any]
    binding: Binding
    cotangent: F64

    @property
    def gradient_binding(self) -> Binding:
        """The binding of the inputs, with the gradients as outputs."""
        outputs = make_gradient_leaves(self.binding.leaves)
        return replace(self.binding, output_places=tuple(range(len(outputs))), outputs=outputs)

    def __call__(self, tensors: Sequence[Any], _binding: Binding, *, twin: bool) -> list[Tensor]:
        """Return the gradients; `tensors` are every leaf of the inputs."""
        moving = [tensors[i] for i in self.binding.input_places]
        has_tangents = any(tangent_of(x) is not None for x in moving)
        create_graph = has_tangents or any(x.requires_grad for x in moving)
        leaves = [(x if create_graph else x.detach()).requires_grad_() for x in moving]
        inputs = list(tensors)
        for i, x in zip(self.binding.input_places, leaves, strict=True):
            inputs[i] = x
        gradients = self._pull_back(inputs, leaves, twin=twin, create_graph=create_graph)[1]
        return [_attach_tangent(g) if has_tangents else _attach_graph(g) if create_graph else g for g in gradients]

    def differentiate_by_cotangent(self, point: F64, u: F64) -> F64:
        """Apply the transposed derivative of the gradients with respect to v to a tangent u (N,): J(x) u, (M,)."""
        inputs = leaves_at(self.binding, point, requires_grad=True)
        leaves = [inputs[i] for i in self.binding.input_places]
        cotangents, gradients = self._pull_back(inputs, leaves, twin=False, create_graph=True)
        attached = [(g, leaf) for g, leaf in zip(gradients, self.binding.leaves, strict=True) if carries_gradient(g)]
        sources = [v for v in cotangents if v is not None]
        outputs, tangents = [g for g, _ in attached], [leaf_part(u, leaf, g) for g, leaf in attached]
        parts = iter(torch.autograd.grad(outputs, sources, tangents, allow_unused=True) if outputs else [None] * len(sources))
        return flat_of_all([None if v is None else next(parts) for v in cotangents], self.binding.outputs)

    def _pull_back(
        self, inputs: Sequence[Any], leaves: list[Tensor], *, twin: bool, create_graph: bool
    ) -> tuple[list[Tensor | None], list[Tensor]]:
        """Return a cotangent for each output, None if it carries no gradient, and the gradients."""
        with torch.enable_grad(), swap_scope():
            returned = flatten(self.run(inputs, self.binding, twin=twin)).leaves
            outputs = [(returned[i], leaf) for i, leaf in zip(self.binding.output_places, self.binding.outputs, strict=True)]
            cotangents = [_cotangent_part(self.cotangent, leaf, out, requires_grad=create_graph) for out, leaf in outputs]
            attached, sent = [out for out, _ in outputs if carries_gradient(out)], [v for v in cotangents if v is not None]
            gradients = (
                torch.autograd.grad(attached, leaves, sent, create_graph=create_graph, allow_unused=True)
                if attached
                else [None] * len(leaves)
            )
            dense = [_make_dense(g, x) for g, x in zip(gradients, leaves, strict=True)]
        return cotangents, dense


def _cotangent_part(v: F64, leaf: Leaf, output: Any, *, requires_grad: bool) -> Tensor | None:
    """Return an output's part of a cotangent; unless it requires a gradient, @once_differentiable does not raise."""
    return leaf_part(v, leaf, output).requires_grad_(requires_grad) if carries_gradient(output) else None


def _make_dense(gradient: Tensor | None, leaf: Tensor) -> Tensor:
    """Return a gradient as a dense tensor; zeros if it is None."""
    if gradient is None:
        return torch.zeros_like(leaf.detach())
    return gradient.to_dense() if gradient.is_sparse else gradient


def _attach_graph(gradient: Tensor) -> Tensor:
    return gradient if gradient.requires_grad else gradient.detach().requires_grad_()


def _attach_tangent(gradient: Tensor) -> Tensor:
    if tangent_of(gradient) is not None:
        return gradient
    return forward_ad.make_dual(gradient, torch.zeros_like(gradient))  # type: ignore[no-untyped-call,no-any-return]


def _require_differentiable(gradients: GradientFunction, point: F64) -> None:
    """Differentiate the gradients once, at the primal.

    Raises:
        Unavailable: if a backward refuses that or raises.
    """
    binding = gradients.gradient_binding
    leaves = leaves_at(binding, point, requires_grad=True)
    try:
        values = gradients(leaves, binding, twin=False)
        if not any(type(node).__name__ == ERROR_NODE for node in walk_graph(values)):
            sources, ones = [leaves[i] for i in binding.input_places], [torch.ones_like(g) for g in values]
            torch.autograd.grad(values, sources, ones, allow_unused=True)
            return
    except Exception as error:
        frames = f"\n{format_user_frames(error)}" if format_user_line(error) else ""
        raise Unavailable(f"{summarise_error(error)}{frames}") from None
    raise Unavailable("a backward in it is marked @once_differentiable")
