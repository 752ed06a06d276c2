"""A target bound to one draw of its inputs: all that evidence and checks may use, in float64 vectors.

A backend flattens the differentiable inputs into one vector x of N numbers and the differentiable outputs into one vector of
M numbers. An entry of a complex leaf is two numbers, its real and its imaginary part. A gradient with respect to a complex
entry a + ib is then (dL/da, dL/db), which read as a complex number is PyTorch's convention (the conjugate Wirtinger
derivative, twice).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from gradcheck.backends.flat import F64, HALF_EPS, Leaf
from gradcheck.targets.location import find_rule

if TYPE_CHECKING:
    from gradcheck.backends.contract_target import Layer
    from gradcheck.backends.global_state import States
    from gradcheck.exact.branches import Branches
    from gradcheck.exact.identity import Identity

# The step of the complex-step method. There is no subtraction, so no round-off: this is small enough for any x, although
# derivatives below 1e-124 underflow.
COMPLEX_STEP = 1e-200
# Two derivatives of one call differ if they do so by this share of the largest number: far more than rounding in float64.
MIN_DIFFERENCE_OF_CALLS = 1e-7

# A member of a combination of functions of the same inputs: the function (None for the target) and a factor for each leaf.
Member = tuple[Callable[..., Any] | None, tuple[float, ...]]
VjpOfCombination = Callable[[F64, Sequence[Member], Callable[..., Any], F64, frozenset[str]], F64]


Arguments = tuple[tuple[Any, ...], dict[str, Any]]  # of a call: (args, kwargs)
DIRECTION = "its first argument"  # stands for the path of the cotangent of a vjp and the tangents of a jvp


class Unavailable(Exception):  # noqa: N818 - not an error: a method that cannot be used on this target
    """A method of computing derivatives does not apply to this target; the message says why."""


@dataclass(frozen=True)
class DirectCall:
    """A hand-written derivative, called with arguments that stay in sight.

    Attributes:
        kind: name of the option: 'gradient', 'jacobian', 'vjp' or 'jvp'.
        function: the user's, which draws the random numbers that the target draws.
        make_arguments: (point (N,), cotangent (M,) or tangent (N,)) -> new arguments.
        call: arguments -> what the function returns. Raises DerivativeError.
        read: what was returned -> its numbers, copied. Raises ClaimError.
        find_changed: (arguments, point, direction) -> paths of the arguments that are not what they were made as.
        leading: the number of arguments before those of the target.
    """

    kind: str
    function: Callable[..., Any]
    make_arguments: Callable[[F64, F64], Arguments]
    call: Callable[[Arguments], Any]
    read: Callable[[Any], F64]
    find_changed: Callable[[Arguments, F64, F64], list[str]]
    leading: int

    @property
    def label(self) -> str:
        """How messages call the derivative, such as 'vjp=' or 'backward=affine_backward'."""
        return getattr(self.function, "label", f"{self.kind}=")

    def evaluate(self, point: F64, direction: F64) -> F64:
        """Call the function once with new arguments."""
        return self.read(self.call(self.make_arguments(point, direction)))


class Rederived(Protocol):
    """What a framework derives from the code of a target, without the derivatives that are written by hand."""

    def vjp(self, point: F64, cotangents: F64) -> F64:
        """Return the vector-Jacobian products: (point (N,), cotangents (C, M)) -> (C, N)."""

    def list_operations(self, point: F64) -> list[str]:
        """List the operations of the code in words."""

    def vjp_without(self, number: int, point: F64, cotangents: F64) -> F64:
        """Return the vector-Jacobian products if the result of an operation were a constant."""


@dataclass(frozen=True)
class WrongCall:
    """A call of a hand-written derivative inside a target, which is not the derivative of its own forward.

    Attributes:
        name: of the method, such as 'MyNorm.backward'.
        place: where it is written, such as 'norm.py:31'.
        subject: the derivative that is wrong, such as 'its gradient for x'.
        claimed: what it returned for each vector, (C, ...).
        true: what the framework derives from its forward, (C, ...).
        repair: (point (N,), cotangents or tangents) -> the product of the target with this derivative alone corrected.
    """

    name: str
    place: str
    subject: str
    claimed: F64
    true: F64
    repair: Callable[[F64, F64], F64]

    @property
    def is_wrong(self) -> bool:
        """Whether both differ by more than rounding."""
        same_shape = self.claimed.shape == self.true.shape and not np.iscomplexobj(self.true)
        size = np.max(np.abs(self.true), initial=0.0) + np.max(np.abs(self.claimed), initial=0.0) if same_shape else 0.0
        return same_shape and bool(np.max(np.abs(self.claimed - self.true), initial=0.0) > MIN_DIFFERENCE_OF_CALLS * size)


@dataclass(frozen=True)
class Claim:
    """A derivative by one method, which a check must confirm.

    Attributes:
        method: 'analytic', 'reverse' or 'forward'.
        eps: relative spacing of floats in the dtype that the claim is made in.
        vjp: (point (N,), cotangents (C, M)) -> (C, N).
        jvp: (point (N,), tangents (K, N)) -> (K, M).
        twin: the vjp computed in the precision of the evaluation, if that is higher.
        twin_jvp: the jvp computed in that precision.
        plain: the vjp as a plain implementation in the claim's half precision would compute it.
        attached: the vjp in the precision of the evaluation if nothing in the function were detached, with the lines that do.
        rederived: what the framework derives from the code of the function alone, in the precision of the evaluation.
        find_wrong_calls: (point (N,), cotangents or tangents) -> the calls of hand-written derivatives inside the target that
            are not the derivative of their own forward, in the order in which the product calls them.
        optional: whether it may be unavailable without that being the user's fault.
        linear: whether the vjp is linear in the cotangent by construction, since it is made of a gradient or a Jacobian.
        derived: whether it was made from the function's code by tracing; if it disagrees, the tracing is at fault.
        direct_calls: the functions that it was made of, if it was written by hand.
        joint: (every leaf of the call, cotangents of the outputs or tangents of the leaves) -> the products, all in traced
            arrays; None if it is not written by hand, or cannot be traced.
        has_jvp_rule: () -> whether a rule for the jvp takes part that JAX does not derive, as that of a `custom_jvp`.
    """

    method: str
    eps: float
    vjp: Callable[[F64, F64], F64] | None = None
    jvp: Callable[[F64, F64], F64] | None = None
    twin: Callable[[F64, F64], F64] | None = None
    twin_jvp: Callable[[F64, F64], F64] | None = None
    plain: Callable[[F64, F64], F64] | None = None
    attached: Callable[[F64, F64], tuple[F64, tuple[str, ...]]] | None = None
    rederived: Rederived | None = None
    find_wrong_calls: Callable[[F64, F64], list[WrongCall]] | None = None
    optional: bool = False
    linear: bool = False
    derived: bool = False
    direct_calls: tuple[DirectCall, ...] = ()
    joint: Callable[[Sequence[Any], Sequence[Any]], list[Any]] | None = None
    has_jvp_rule: Callable[[], bool] = bool

    @property
    def precise_product(self) -> Callable[[F64, F64], F64] | None:
        """The vjp, or without one the jvp, in the highest precision."""
        return self.twin or self.vjp or self.twin_jvp or self.jvp


def make_zero_claim(eps: float, size: int) -> Claim:
    """Make the claim of a function none of whose outputs carries a gradient: its derivative by `size` numbers is zero."""
    return Claim("reverse", eps, lambda _, cotangents: np.zeros((len(cotangents), size)), linear=True)


@dataclass(frozen=True)
class Capabilities:
    """Abilities of a backend besides evaluation; None if it lacks one, and the checks that need it are left out.

    Attributes:
        evaluate_along: faster evaluation along a line: tangent (N,) -> t -> outputs at point + t * tangent, one array for each
            output leaf. The arrays may be buffers that the next call overwrites.
        evaluate_many: evaluation of many points at once: (B, N) -> (B, M). Raises Unavailable.
        evaluate_native: evaluation in the target's own dtype, if `Program.evaluate` computes in a higher one.
        evaluate_rounded: evaluation as a plain implementation in the target's half precision would compute it.
        complex_step: (point, tangent (N,)) -> directional derivative (M,) by the complex step. Raises Unavailable.
        vjp_of_combination: automatic differentiation of a combination of functions of the same inputs: (point, members,
            combine, cotangent (M,), methods that may be used) -> (N,). `combine` makes one output of as many as there are
            members. Raises Unavailable.
        optimizer_step: (optimizer, point, gradient (N,), learning rate) -> the point (N,) that one step leads to.
        gradient_program: cotangent (M,) -> the program of its vjp, whose outputs are the gradients with respect to the leaves.
            Raises Unavailable.
        cotangent_jvp: only of the program of a vjp: (point, tangent (N,)) -> the derivative of the vjp with respect to its
            cotangent, applied to the tangent, (M,).
        differentiated_values: () -> the outputs at the primal (M,) as each way of differentiating returns them, by its name:
            a custom rule computes them in its own code.
        without_tf32: the context in which claims are computed without TF32; None if TF32 is not used.
        layer: the target as the contracts of a custom layer call it.
        upstream: the cotangent that a model around the target sends back to it, (M,).
        trace_exactly: a claim, by hand or by reverse or forward mode -> the target and the claim as an exact graph. Raises
            NotAvailable.
    """

    evaluate_along: Callable[[F64], Callable[[float], list[F64]]] | None = None
    evaluate_many: Callable[[F64], F64] | None = None
    evaluate_native: Callable[[F64], F64] | None = None
    evaluate_rounded: Callable[[F64], F64] | None = None
    complex_step: Callable[[F64, F64], F64] | None = None
    vjp_of_combination: VjpOfCombination | None = None
    optimizer_step: Callable[[Callable[..., Any], F64, F64, float], F64] | None = None
    gradient_program: Callable[[F64], Program] | None = None
    cotangent_jvp: Callable[[F64, F64], F64] | None = None
    differentiated_values: Callable[[], Mapping[str, F64]] | None = None
    without_tf32: Callable[[], AbstractContextManager[None]] | None = None
    layer: Layer | None = None
    upstream: F64 | None = None
    trace_exactly: Callable[[Claim], ExactProgram] | None = None


@dataclass(frozen=True)
class ExactProgram:
    """A program and a claim as an exact graph.

    Attributes:
        identity: that makes the claim the derivative.
        branches: what the floating-point values chose, such as those of 'relu'.
        demotions: the dtypes of less precision in which the code computes with its inputs, such as 'float32'.
    """

    identity: Identity
    branches: Branches
    demotions: frozenset[str]


def trace_on_demand(framework: str, **target: Any) -> Callable[[Claim], ExactProgram]:
    """Make the function that traces a program with one of its claims; what traces it is loaded at the first use.

    Args:
        framework: whose code it is.
        target: the other arguments of `trace_exactly` in the framework's `exact/trace.py`.
    """

    def trace_exactly(claim: Claim) -> ExactProgram:
        module = import_module(f"gradcheck.backends.{framework}.exact.trace")
        program: ExactProgram = module.trace_exactly(claim=claim, **target)
        return program

    return trace_exactly


@dataclass(frozen=True)
class Program:
    """A target bound to one draw of its inputs. Every backend must set the first eight fields.

    Attributes:
        framework: 'numpy', 'torch' or 'jax'.
        leaves: the differentiable inputs.
        outputs: the differentiable outputs.
        point: the primal, (N,).
        value: the outputs at the primal, (M,).
        evaluate: (N,) -> (M,). Off the primal it may raise or return another size.
        eps: relative spacing of floats in the precision that `evaluate` computes in.
        claims: the derivatives to check.
        capabilities: what else the backend can do with the target.
        name: name of the target, for messages.
        fn: the function that the backend calls.
        shapes: path and shape of every array among the inputs and outputs.
        notes: remarks for the report.
        details: remarks for a reader who asks for more (`-v`).
        mutated_inputs: () -> paths of the arrays that the last evaluation changed in place.
        is_detached: whether no output carries a gradient, so that the claim is zero.
        device: where the target computes, such as 'cuda:0'; '' for NumPy.
        draws: the states of random generators that every evaluation replays; changing them in place has it draw other numbers.
        ranks: the number of processes that it runs on together.
        native_value: the outputs at the primal in the target's own dtype, (M,), if `value` is that of a twin.
        value_rounding: what rounding may do to each output at most, (M,), if the outputs are known to be right to that.
    """

    framework: str
    leaves: tuple[Leaf, ...]
    outputs: tuple[Leaf, ...]
    point: F64
    value: F64
    evaluate: Callable[[F64], F64]
    eps: float
    claims: tuple[Claim, ...]
    capabilities: Capabilities = Capabilities()
    name: str = ""
    fn: Callable[..., Any] | None = None
    shapes: tuple[tuple[str, tuple[int, ...]], ...] = ()
    notes: tuple[str, ...] = ()
    details: tuple[str, ...] = ()
    mutated_inputs: Callable[[], list[str]] = field(default=list)
    is_detached: bool = False
    value_rounding: F64 | None = None
    device: str = ""
    native_value: F64 | None = None
    draws: States = field(default_factory=dict)
    ranks: int = 1

    @property
    def half(self) -> bool:
        """Whether the target is in half precision and has a twin: then its accuracy and its formula are judged apart."""
        return self.capabilities.evaluate_native is not None and any(leaf.dtype in HALF_EPS for leaf in self.leaves)

    @property
    def has_written_derivative(self) -> bool:
        """Whether the user wrote a derivative: by hand, in an autograd Function, or as a rule of JAX's."""
        layer = self.capabilities.layer
        is_rule = find_rule(self.fn) is not None
        return is_rule or bool(layer and layer.user_functions) or any(claim.direct_calls for claim in self.claims)

    def with_capabilities(self, **capabilities: Any) -> Program:
        """Return this program with some capabilities replaced."""
        return replace(self, capabilities=replace(self.capabilities, **capabilities))
