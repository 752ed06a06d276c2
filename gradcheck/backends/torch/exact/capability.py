"""The ability of a PyTorch program to be traced exactly; what traces it is loaded at the first use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradcheck.backends.flat_call import Binding
    from gradcheck.backends.global_state import States
    from gradcheck.backends.program import Claim, ExactProgram, Program


def make_exact_trace(
    program: Program, run: Callable[..., Any], binding: Binding, draws: States, *, twin: bool
) -> Callable[[Claim], ExactProgram]:
    """Make the function that traces a program with one of its claims.

    Args:
        program: the program.
        run: (every leaf of the inputs, binding, twin=) -> what the target returns.
        binding: of the call.
        draws: the states of the random generators that the target draws from.
        twin: whether to trace in the precision of the twin.
    """

    def trace_exactly(claim: Claim) -> ExactProgram:
        from gradcheck.backends.torch.exact import trace

        return trace.trace_exactly(run, binding, program, claim, draws, twin=twin)

    return trace_exactly
