"""The vjp of one cotangent as a function of the inputs: its derivative is the second derivative of the target."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd import forward_ad

from gradcheck.backends.flat import gradient_leaves
from gradcheck.backends.program import Program, Unavailable
from gradcheck.backends.torch import derivatives, line
from gradcheck.backends.torch.derivatives import tangent
from gradcheck.backends.torch.graph import nodes
from gradcheck.backends.torch.parameter_swap import until_differentiated
from gradcheck.backends.torch.precision import wide_default
from gradcheck.backends.torch.tensors import carries_gradient, flat_of_all, leaves_at, numbers_of, seed
from gradcheck.tracebacks import one_line, user_frames, user_line
from gradcheck.trees import flatten

if TYPE_CHECKING:
    from torch import Tensor

    from gradcheck.backends.binding import Binding
    from gradcheck.backends.flat import F64, Leaf

REFUSED = "Error"  # the node that @once_differentiable leaves in the graph, on no path to the inputs


def program(first: Program, run: Callable[..., Any], bound: Binding, cotangent: F64, *, wide: bool) -> Program:
    """The program of x -> J(x)^T v, whose outputs are the gradients `∂output/∂x`; evaluated without recording a graph.

    Args:
        run, bound, wide: what `first` is made of.
        cotangent: v, (M,).

    Raises:
        Unavailable: where it cannot be differentiated, and says so.
    """
    gradients = Gradient(run, bound, cotangent)
    every = gradients.binding
    _differentiated(gradients, first.point)

    def values(at: F64, *, wide: bool) -> F64:
        with wide_default(wide, bound.leaves):
            return numbers_of(gradients(leaves_at(every, at, wide=wide), every, wide=wide), every)

    return Program(
        framework=first.framework,
        shapes=first.shapes,
        name=first.name,
        leaves=bound.leaves,
        outputs=every.outputs,
        point=first.point,
        value=values(first.point, wide=wide),
        evaluate=lambda at: values(at, wide=wide),
        along=line.lines(gradients, every, first.point, wide=wide),
        native=(lambda at: values(at, wide=False)) if wide else None,
        eps=first.eps,
        claims=derivatives.by_autograd(gradients, every, wide=wide),
        by_cotangent=gradients.by_cotangent,
    )


@dataclass(frozen=True)
class Gradient:
    """The gradients J(x)^T v, one for each differentiable leaf, for a fixed cotangent v (M,); called as the target is.

    Where the leaves require gradients or carry tangents, the gradients can be differentiated again or carry theirs: what
    autograd takes for a constant has a graph that leads nowhere, or a tangent of zeros.
    """

    run: Callable[..., Any]
    bound: Binding
    cotangent: F64

    @property
    def binding(self) -> Binding:
        """The same inputs, with the gradients for outputs."""
        outputs = gradient_leaves(self.bound.leaves)
        return replace(self.bound, kept=tuple(range(len(outputs))), outputs=outputs)

    def __call__(self, tensors: Sequence[Any], _bound: Binding, *, wide: bool) -> list[Tensor]:
        """Return them, where every leaf of the inputs is one of `tensors`."""
        moving = [tensors[i] for i in self.bound.places]
        pushed = any(tangent(x) is not None for x in moving)
        again = pushed or any(x.requires_grad for x in moving)
        leaves = [(x if again else x.detach()).requires_grad_() for x in moving]
        given = list(tensors)
        for i, x in zip(self.bound.places, leaves, strict=True):
            given[i] = x
        found = self._pulled(given, leaves, wide=wide, again=again)[1]
        return [_with_tangent(g) if pushed else _with_graph(g) if again else g for g in found]

    def by_cotangent(self, point: F64, u: F64) -> F64:
        """Their derivative with respect to v, transposed: from a tangent (N,) to (M,), which is J(x) times the tangent."""
        given = leaves_at(self.bound, point, requires_grad=True)
        cotangents, gradients = self._pulled(given, [given[i] for i in self.bound.places], wide=False, again=True)
        kept = [(g, leaf) for g, leaf in zip(gradients, self.bound.leaves, strict=True) if carries_gradient(g)]
        outputs = [(g, seed(u, leaf, g)) for g, leaf in kept]
        wanted = [v for v in cotangents if v is not None]
        found, tangents = zip(*outputs, strict=True) if outputs else ((), ())
        parts = iter(torch.autograd.grad(found, wanted, tangents, allow_unused=True) if outputs else [None] * len(wanted))
        return flat_of_all([None if v is None else next(parts) for v in cotangents], self.bound.outputs)

    def _pulled(
        self, given: Sequence[Any], leaves: list[Tensor], *, wide: bool, again: bool
    ) -> tuple[list[Tensor | None], list[Tensor]]:
        """A cotangent for each output that carries a gradient, and the gradients."""
        with torch.enable_grad(), until_differentiated():
            returned = flatten(self.run(given, self.bound, wide=wide)).leaves
            outputs = [(returned[i], leaf) for i, leaf in zip(self.bound.kept, self.bound.outputs, strict=True)]
            cotangents = [_cotangent(self.cotangent, leaf, out, again=again) for out, leaf in outputs]
            found, kept = [out for out, _ in outputs if carries_gradient(out)], [v for v in cotangents if v is not None]
            gradients = torch.autograd.grad(found, leaves, kept, create_graph=again, allow_unused=True) if found else leaves
            dense = [_dense(g if found else None, x) for g, x in zip(gradients, leaves, strict=True)]
        return cotangents, dense


def _cotangent(v: F64, leaf: Leaf, output: Any, *, again: bool) -> Tensor | None:
    """An output's share; it requires a gradient, or @once_differentiable has nothing to say."""
    return seed(v, leaf, output).requires_grad_(again) if carries_gradient(output) else None


def _dense(gradient: Tensor | None, leaf: Tensor) -> Tensor:
    if gradient is None:
        return torch.zeros_like(leaf.detach())
    return gradient.to_dense() if gradient.is_sparse else gradient


def _with_graph(gradient: Tensor) -> Tensor:
    return gradient if gradient.requires_grad else gradient.detach().requires_grad_()


def _with_tangent(gradient: Tensor) -> Tensor:
    if tangent(gradient) is not None:
        return gradient
    return forward_ad.make_dual(gradient, torch.zeros_like(gradient))  # type: ignore[no-untyped-call,no-any-return]


def _differentiated(gradients: Gradient, point: F64) -> None:
    """Differentiate the gradients once, at the primal.

    Raises:
        Unavailable: where that is refused, or raises.
    """
    bound = gradients.binding
    leaves = leaves_at(bound, point, requires_grad=True)
    try:
        found = gradients(leaves, bound, wide=False)
        if not any(type(node).__name__ == REFUSED for node in nodes(found)):
            wanted, ones = [leaves[i] for i in bound.places], [torch.ones_like(g) for g in found]
            torch.autograd.grad(found, wanted, ones, allow_unused=True)
            return
    except Exception as error:
        frames = f"\n{user_frames(error)}" if user_line(error) else ""
        raise Unavailable(f"{one_line(error)}{frames}") from None
    raise Unavailable("a backward in it is marked @once_differentiable")
