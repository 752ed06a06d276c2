"""The ability of a JAX program to be traced exactly; what traces it is loaded at the first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradcheck.backends.jax.derivatives import TracedTarget
    from gradcheck.backends.program import Claim, ExactProgram, Program


def make_exact_trace(program: Program, target: TracedTarget) -> Callable[[Claim], ExactProgram]:
    """Make the function that traces a program with one of its claims.

    Args:
        program: the program.
        target: the twin, or the target itself if it has none.
    """

    def trace_exactly(claim: Claim) -> ExactProgram:
        from gradcheck.backends.jax.exact import trace

        return trace.trace_exactly(program, target, claim)

    return trace_exactly
