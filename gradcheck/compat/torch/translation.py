"""From the arguments of PyTorch's checkers to a call of `gradcheck.check`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gradcheck.compat.answer import MAX_ENTRIES, CheckCall, Translation
from gradcheck.compat.torch.call import DEFAULT_ATOL, DEFAULT_EPS, DEFAULT_RTOL, Call, as_tuple, requires_grad, validate
from gradcheck.glossary.contracts import CONTRACTS
from gradcheck.targets.framework import unwrap_apply

# The contracts that an argument of PyTorch's checkers stands for. The others are not checked.
CONTRACTS_BY_ARGUMENT = {
    "check_undefined_grad": "some-outputs",
    "check_grad_dtypes": "gradient-form",
    "check_batched_grad": "batched-vjp",
}
EPS_IGNORED = "eps is ignored: steps are fitted to the function, and their errors measured"
BATCHED_FORWARD_IGNORED = "check_batched_forward_grad is ignored"


def translate(call: Call) -> Translation:
    """Say what a call asks for.

    Raises:
        AssertionError, ValueError: as `validate`.
        Exception: for `gradgradcheck`, whatever the function raises.
    """
    validate(call)
    from gradcheck.compat.torch.target import make_target  # which imports PyTorch

    atol = max(0.0 if call["atol"] == DEFAULT_ATOL else call["atol"], call["nondet_tol"])
    rtol = 0.0 if call["rtol"] == DEFAULT_RTOL else call["rtol"]
    fn, inputs = make_target(call)
    return Translation(
        checks=(CheckCall(fn, inputs, make_arguments(call, inputs, has_tolerance=bool(atol or rtol))),),
        atol=atol,
        rtol=rtol,
        notes=(
            *([EPS_IGNORED] if call["eps"] != DEFAULT_EPS else []),
            *([BATCHED_FORWARD_IGNORED] if call["check_batched_forward_grad"] else []),
        ),
    )


def translate_gradient(call: Call, check: CheckCall) -> Translation:
    """Say what a call of `gradgradcheck` asks for if the gradient is checked like any function, right or wrong.

    Args:
        check: the gradient, with its inputs.
    """
    translation = translate(call)
    return replace(translation, checks=(replace(check, arguments={**translation.checks[0].arguments, "order": 1}),))


def as_first_order_keywords(call: Call) -> dict[str, Any]:
    """Return the keywords of `gradcheck` that `gradgradcheck` calls it with."""
    return {**call.keywords, "check_forward_ad": call.checks_forward, "check_backward_ad": call.checks_reverse}


def make_arguments(call: Call, inputs: tuple[Any, ...], *, has_tolerance: bool) -> dict[str, Any]:
    """Make the keywords of `gradcheck.check`.

    Contracts that no argument names are left out; those of arguments are off where the policy switches contracts off. Along
    random directions no error of an entry is known that a tolerance could be compared with.
    """
    from gradcheck.run.api import get_target_name

    name, nondet_tol = get_target_name(unwrap_apply(call.func)), call["nondet_tol"]
    methods = {"reverse": call.checks_reverse, "forward": call.checks_forward, "numeric": True}
    checked = {contract for argument, contract in CONTRACTS_BY_ARGUMENT.items() if call[argument]}
    if call.of_gradient:
        # The former differentiates by the cotangents, which only a caller's may not require.
        checked = {"double-adjoint", "symmetric-hessian"} if _are_differentiable(call) else {"symmetric-hessian"}
    always = ("linear-vjp", *([] if nondet_tol else ["deterministic-backward"])) if call.checks_reverse else ()
    entries = sum(x.numel() for x in inputs if requires_grad(x))
    mode = "full" if has_tolerance and entries <= MAX_ENTRIES else "auto"
    return {
        "name": f"gradient of {name}" if call.of_gradient else name,
        "framework": "torch",
        "mode": mode,
        "order": 2 if call.of_gradient else 1,
        "methods": tuple(method for method, is_checked in methods.items() if is_checked),
        "contract": always,  # no argument of PyTorch's checkers switches these off, and no policy
        "no_contract": tuple(contract for contract in CONTRACTS if contract not in (*checked, *always)),
        "nondeterministic": f"nondet_tol={nondet_tol:g}" if nondet_tol else "",
    }


def _are_differentiable(call: Call) -> bool:
    """Whether the gradient is differentiated by all its cotangents."""
    given = call["grad_outputs"]
    return given is None or all(map(requires_grad, as_tuple(given)))
