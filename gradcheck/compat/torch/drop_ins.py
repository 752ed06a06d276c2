"""`gradcheck` and `gradgradcheck` with the signatures of `torch.autograd`, and what a takeover needs of PyTorch's own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from gradcheck.compat.answer import Answer, ask, say_once
from gradcheck.compat.checker import Arguments, Checker, bind_arguments
from gradcheck.compat.torch.call import Call
from gradcheck.compat.torch.conclusion import conclude
from gradcheck.compat.torch.translation import translate

MODULE = "torch.autograd.gradcheck"
SLOW_MODE = "_run_slow_mode_and_get_error"  # the function of PyTorch that works out a message


def gradcheck(
    func: Callable[..., Any],
    inputs: Any,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_batched_forward_grad: bool = False,
    check_forward_ad: bool = False,
    check_backward_ad: bool = True,
    fast_mode: bool = False,
    masked: bool | None = None,
) -> bool:
    """Check the derivatives of a function as `torch.autograd.gradcheck` does, by the evidence of `gradcheck.check`.

    Args:
        func: a function of tensors, whose inputs are checked where they have `requires_grad`. Parameters of a module are not.
        inputs: a tensor, or a tuple or list of inputs.
        eps: ignored, as the steps are fitted to the function.
        atol: the absolute error that passes; the default counts as no tolerance.
        rtol: the relative error that passes; the default counts as no tolerance.
        raise_exception: whether a wrong derivative raises; otherwise the check returns False.
        nondet_tol: how much gradients may differ between two calls of a backward; also an absolute error that passes.
        check_undefined_grad: whether to check the contract `some-outputs`, on your own Functions.
        check_grad_dtypes: whether to check the contract `gradient-form`, on your own Functions.
        check_batched_grad: whether to check the contract `batched-vjp`, on your own Functions.
        check_batched_forward_grad: ignored.
        check_forward_ad: whether to check forward mode; it then must exist.
        check_backward_ad: whether to check reverse mode.
        fast_mode: ignored: random directions replace the entries of large inputs, whose comparison would be slow.
        masked: whether entries that a sparse input does not store are left out.

    Returns:
        True; False if a derivative is wrong and `raise_exception` is False.

    Raises:
        GradcheckError: if a derivative is wrong; PyTorch's class, with gradcheck's table after PyTorch's text.
        ValueError: if no input has `requires_grad`.
        Exception: whatever `func` or its derivative raises.
    """
    arguments = dict(locals())
    __tracebackhide__ = True
    return answer_call(make_call(gradcheck, arguments))


def gradgradcheck(
    func: Callable[..., Any],
    inputs: Any,
    grad_outputs: Any = None,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    gen_non_contig_grad_outputs: bool = False,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_fwd_over_rev: bool = False,
    check_rev_over_rev: bool = True,
    fast_mode: bool = False,
    masked: bool = False,
) -> bool:
    """Check the derivatives of a gradient as `torch.autograd.gradgradcheck` does, by the evidence of `gradcheck.check`.

    The gradient is checked as a function of the inputs and the cotangents. Whether it is right itself is not.

    Args:
        func: a function of tensors.
        inputs: a tensor, or a tuple or list of inputs.
        grad_outputs: a cotangent, or one for each differentiable output; None: drawn at random.
        gen_non_contig_grad_outputs: whether cotangents that are drawn are not contiguous.
        check_fwd_over_rev: whether to differentiate the gradient in forward mode.
        check_rev_over_rev: whether to differentiate the gradient in reverse mode.
        eps, atol, rtol, raise_exception, nondet_tol, check_undefined_grad, check_grad_dtypes, check_batched_grad, fast_mode,
            masked: as for `gradcheck`, about the gradient.

    Returns:
        True; False if a derivative is wrong and `raise_exception` is False.

    Raises:
        GradcheckError: if a derivative is wrong; PyTorch's class, with gradcheck's table after PyTorch's text.
        ValueError: if no input has `requires_grad`.
        Exception: whatever `func` or its derivatives raise.
    """
    arguments = dict(locals())
    __tracebackhide__ = True
    return answer_call(make_call(gradgradcheck, arguments))


def make_call(checker: Callable[..., bool], arguments: Mapping[str, Any]) -> Call:
    """Describe a call of a checker of this file.

    Args:
        checker: `gradcheck` or `gradgradcheck`.
        arguments: every argument by name.
    """
    keywords = {name: value for name, value in arguments.items() if name not in ("func", "inputs")}
    return Call(arguments["func"], arguments["inputs"], keywords, of_gradient=checker is gradgradcheck)


def answer_call(call: Call) -> bool:
    """Answer a call by gradcheck's evidence, as PyTorch's checker would; for functions that users call directly."""
    __tracebackhide__ = True
    translation = translate(call)
    say_once(translation.notes)
    return conclude(ask(translation), call, lambda: translation.checks[0], stacklevel=3)


@contextmanager
def _without_message() -> Iterator[None]:
    """Have a check in fast mode fail at once: for its message, PyTorch repeats it in slow mode, which may take minutes."""
    module = sys.modules[MODULE]
    original = getattr(module, SLOW_MODE, None)
    setattr(module, SLOW_MODE, lambda *args, **kwargs: "")
    try:
        yield
    finally:
        setattr(module, SLOW_MODE, original)


def _make_checker(drop_in: Callable[..., bool]) -> Checker:
    """Make the description of a checker for a takeover."""

    def bind(arguments: Arguments) -> dict[str, Any]:
        return bind_arguments(drop_in, arguments).arguments

    def read_tolerances(arguments: Arguments) -> dict[str, float]:
        values = bind(arguments)
        return {name: values[name] for name in ("atol", "rtol")}

    def scale_tolerances(arguments: Arguments, factor: float) -> Arguments:
        args, kwargs = arguments
        return args, {**kwargs, **{name: factor * value for name, value in read_tolerances(arguments).items()}}

    def conclude_call(answer: Answer, arguments: Arguments) -> bool:
        call = make_call(drop_in, bind(arguments))
        return conclude(answer, call, lambda: translate(call).checks[0])

    def with_zero_gradient(arguments: Arguments) -> Arguments:
        from gradcheck.compat.torch import zero_gradient  # which imports PyTorch

        values = bind(arguments)
        is_second = drop_in is gradgradcheck
        wrap = zero_gradient.with_zero_second_derivative if is_second else zero_gradient.with_zero_gradient
        return (wrap(values.pop("func")), values.pop("inputs")), values

    return Checker(
        name=f"torch.autograd.{drop_in.__name__}",
        module=MODULE,
        attribute=drop_in.__name__,
        translate=lambda arguments: translate(make_call(drop_in, bind(arguments))),
        conclude=conclude_call,
        has_passed=lambda returned: returned is True,
        with_zero_gradient=with_zero_gradient,
        scale_tolerances=scale_tolerances,
        read_tolerances=read_tolerances,
        without_message=_without_message,
    )


CHECKERS = (_make_checker(gradcheck), _make_checker(gradgradcheck))
