"""Faults that PyTorch's checkers find in a backward with right numbers."""

from __future__ import annotations

from typing import Any

import torch

from gradcheck.backends.global_state import preserving
from gradcheck.backends.torch import sparse
from gradcheck.compat.answer import CheckCall
from gradcheck.compat.torch import failure_texts
from gradcheck.compat.torch.call import Call
from gradcheck.compat.torch.target import record_graph
from gradcheck.glossary.verdicts import Verdict
from gradcheck.results import CheckResult

BACKWARDS = 4  # calls of a backward whose gradients are compared


def find_fault_of_form(check: CheckCall, call: Call, result: CheckResult) -> str:
    """Return PyTorch's text about a backward that breaks what the call asks of it besides right numbers; '' if it does not."""
    for contract in result.contracts:
        if contract.name == "gradient-form" and contract.verdict is not Verdict.PASS:
            return f"{failure_texts.DTYPE}\n{contract.message}"
    if not call.checks_reverse:
        return ""
    with preserving(), torch.enable_grad():
        _, outputs, sources = record_graph(check)
        if not outputs:
            return ""
        refusal = _find_refusal_of_batches(outputs, sources) if call["check_batched_grad"] else ""
        undefined = _find_fault_of_undefined(outputs, sources) if call["check_undefined_grad"] else ""
        return refusal or _find_wrong_layout(outputs, sources) or undefined


def is_reentrant(check: CheckCall, call: Call) -> bool:
    """Whether some calls of the same backward give gradients that differ by no more than `nondet_tol` of the call."""
    with preserving(), torch.enable_grad():
        _, outputs, sources = record_graph(check)
        if not outputs:
            return True
        cotangents = [torch.ones_like(out) for out in outputs]
        first, *others = (
            torch.autograd.grad(outputs, sources, cotangents, allow_unused=True, retain_graph=True) for _ in range(BACKWARDS)
        )
    pairs = ((a, b) for other in others for a, b in zip(first, other, strict=True) if a is not None and b is not None)
    return all(_largest_difference(a, b) <= call["nondet_tol"] for a, b in pairs)


def _largest_difference(a: torch.Tensor, b: torch.Tensor) -> float:
    """Return the largest difference of two gradients; entries that are the same infinity or NaN in both do not differ."""
    a, b = a.detach().to_dense(), b.detach().to_dense()
    differences = (a - b).abs()[~torch.isclose(a, b, rtol=0, atol=0, equal_nan=True)]
    return float(differences.max()) if differences.numel() else 0.0


def _differentiate(outputs: tuple[Any, ...], sources: list[Any]) -> tuple[Any, ...]:
    """Return the gradients of cotangents of zero."""
    cotangents = [torch.zeros_like(out) for out in outputs]
    return torch.autograd.grad(outputs, sources, cotangents, allow_unused=True, retain_graph=True)


def _find_refusal_of_batches(outputs: tuple[Any, ...], sources: list[Any]) -> str:
    for out in outputs:
        batch = torch.ones((2, *out.shape), dtype=out.dtype, device=out.device)
        try:
            torch.autograd.grad(out, sources, batch, is_grads_batched=True, retain_graph=True, allow_unused=True)
        except RuntimeError as error:
            return f"While computing batched gradients, got: {error}\n\n{failure_texts.BATCHED}"
    return ""


def _find_wrong_layout(outputs: tuple[Any, ...], sources: list[Any]) -> str:
    for gradient, x in zip(_differentiate(outputs, sources), sources, strict=True):
        if gradient is None or not sparse.is_sparse(gradient):
            continue
        if gradient.layout is not x.layout:
            return f"grad is incorrect layout ({gradient.layout} is not {x.layout})"
        if gradient.layout is torch.sparse_coo and gradient.sparse_dim() != x.sparse_dim():
            return f"grad is sparse tensor, but has incorrect sparse_dim {gradient.sparse_dim()}, expected {x.sparse_dim()}"
    return ""


def _find_fault_of_undefined(outputs: tuple[Any, ...], sources: list[Any]) -> str:
    """Have the cotangents of all outputs be undefined, which a Function receives as zeros, and a hook as None."""
    try:
        gradients = _differentiate(tuple(_Undefined.apply(out) for out in outputs), sources)  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        return f"{failure_texts.UNDEFINED_RAISES}\n{type(error).__name__}: {error}"
    is_zero = all(gradient is None or bool(gradient.to_dense().eq(0).all()) for gradient in gradients)
    return "" if is_zero else failure_texts.UNDEFINED_NOT_ZERO


class _Undefined(torch.autograd.Function):
    """The identity, which sends back no gradient."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> None:
        return None
