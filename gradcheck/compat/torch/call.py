"""A call of PyTorch's `gradcheck` or `gradgradcheck`, with every argument."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, SupportsFloat

TOLERANCES = ("eps", "atol", "rtol", "nondet_tol")
DEFAULT_EPS, DEFAULT_ATOL, DEFAULT_RTOL = 1e-6, 1e-5, 1e-3


@dataclass(frozen=True)
class Call:
    """The arguments of a call.

    Attributes:
        func: the function.
        given_inputs: its inputs as they were passed.
        keywords: every other argument by name.
        of_gradient: whether the call is one of `gradgradcheck`.
    """

    func: Any
    given_inputs: Any
    keywords: Mapping[str, Any]
    of_gradient: bool = False

    def __getitem__(self, name: str) -> Any:
        return self.keywords.get(name)

    @property
    def inputs(self) -> tuple[Any, ...]:
        """The inputs, of which PyTorch takes a single one without a tuple."""
        return as_tuple(self.given_inputs)

    @property
    def checks_forward(self) -> bool:
        """Whether forward mode is checked."""
        return bool(self["check_fwd_over_rev" if self.of_gradient else "check_forward_ad"])

    @property
    def checks_reverse(self) -> bool:
        """Whether reverse mode is checked."""
        return bool(self["check_rev_over_rev" if self.of_gradient else "check_backward_ad"])


def as_tuple(x: Any) -> tuple[Any, ...]:
    """Return inputs or outputs as PyTorch's checkers see them: lists as tuples, anything else alone."""
    return tuple(x) if isinstance(x, tuple | list) else (x,)


def requires_grad(x: Any) -> bool:
    """Whether a value is a tensor that requires a gradient."""
    return bool(getattr(x, "requires_grad", False))


def validate(call: Call) -> None:
    """Refuse what PyTorch refuses whatever the function is.

    Raises:
        AssertionError: if the arguments contradict each other.
        ValueError: if no input requires a gradient.
        TypeError: if a tolerance is no number, or the function takes another number of inputs.
        RuntimeError: if a tolerance is negative.
    """
    for name in TOLERANCES:
        value = call[name]
        if not isinstance(value, SupportsFloat):
            raise TypeError(f"{name}={value!r}: expected a number, got {type(value).__name__}")
        if name in ("atol", "rtol") and not float(value) >= 0:
            raise RuntimeError(f"{name} must be greater than or equal to zero, but got {value}")
    forward, reverse = ("fwd_over_rev", "rev_over_rev") if call.of_gradient else ("forward_ad", "backward_ad")
    if not (call.checks_forward or call.checks_reverse):
        raise AssertionError(f"Expected at least one of check_{forward} or check_{reverse} to be True")
    needs = {"check_batched_grad": reverse, "check_batched_forward_grad": forward}
    if call.of_gradient:
        needs["check_undefined_grad"] = reverse
    for argument, mode in needs.items():
        if call[argument] and not call[f"check_{mode}"]:
            raise AssertionError(f"Setting {argument}=True requires check_{mode} to be True")
    if not any(map(requires_grad, call.inputs)):
        raise ValueError(
            "gradcheck expects at least one input tensor to require gradient, but none of them have requires_grad=True."
        )
    _raise_wrong_number_of_inputs(call)


def _raise_wrong_number_of_inputs(call: Call) -> None:
    """Call a function that does not take so many inputs, so that Python's own exception is raised."""
    try:
        inspect.signature(getattr(call.func, "forward", call.func)).bind(*call.inputs)
    except TypeError:
        call.func(*call.inputs)
    except ValueError:  # a builtin function without a signature
        pass
