"""Contract `deterministic-backward`: the same backward twice gives the same gradient."""

from __future__ import annotations

from gradcheck.checks.contracts.torch.support.plain_vjp import Baseline, compare_gradients, compute_flat_vjp

NAME = "deterministic-backward"
FIX = "does the backward read memory that was never written, or draw a random number?"


def find_breach(base: Baseline) -> str:
    """Describe how a gradient differs when it is computed again; '' if it does not."""
    leaves, outputs = base.new_call()
    return compare_gradients(base, compute_flat_vjp(outputs, leaves, base.new_cotangents()), same_inputs=True)
