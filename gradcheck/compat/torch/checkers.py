"""PyTorch's checkers, as they are replaced in a running program."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from gradcheck.compat.answer import Answer, Translation
from gradcheck.compat.checker import Arguments, Checker, bind_arguments
from gradcheck.compat.torch import drop_ins
from gradcheck.compat.torch.call import Call
from gradcheck.compat.torch.conclusion import conclude
from gradcheck.compat.torch.drop_ins import make_call
from gradcheck.compat.torch.translation import translate

MODULE = "torch.autograd.gradcheck"
TOLERANCES = ("atol", "rtol")
SLOW_MODE = "_run_slow_mode_and_get_error"  # the function of PyTorch that works out a message


def _bind(drop_in: Callable[..., bool], arguments: Arguments) -> dict[str, Any]:
    return bind_arguments(drop_in, arguments).arguments


def _read_call(drop_in: Callable[..., bool], arguments: Arguments) -> Call:
    return make_call(drop_in, _bind(drop_in, arguments))


def _translate(drop_in: Callable[..., bool], arguments: Arguments) -> Translation:
    return translate(_read_call(drop_in, arguments))


def _conclude(drop_in: Callable[..., bool], answer: Answer, arguments: Arguments) -> bool:
    call = _read_call(drop_in, arguments)
    return conclude(answer, call, lambda: translate(call).checks[0])


def _has_passed(returned: Any) -> bool:
    return returned is True


def _with_zero_gradient(drop_in: Callable[..., bool], arguments: Arguments) -> Arguments:
    from gradcheck.compat.torch import zero_gradient  # which imports PyTorch

    values = _bind(drop_in, arguments)
    is_second = drop_in is drop_ins.gradgradcheck
    wrap = zero_gradient.with_zero_second_derivative if is_second else zero_gradient.with_zero_gradient
    return (wrap(values.pop("func")), values.pop("inputs")), values


def _scale_tolerances(drop_in: Callable[..., bool], arguments: Arguments, factor: float) -> Arguments:
    args, kwargs = arguments
    return args, {**kwargs, **{name: factor * value for name, value in _read_tolerances(drop_in, arguments).items()}}


def _read_tolerances(drop_in: Callable[..., bool], arguments: Arguments) -> Mapping[str, float]:
    values = _bind(drop_in, arguments)
    return {name: values[name] for name in TOLERANCES}


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
    name = drop_in.__name__
    return Checker(
        name=f"torch.autograd.{name}",
        module=MODULE,
        attribute=name,
        translate=partial(_translate, drop_in),
        conclude=partial(_conclude, drop_in),
        has_passed=_has_passed,
        with_zero_gradient=partial(_with_zero_gradient, drop_in),
        scale_tolerances=partial(_scale_tolerances, drop_in),
        read_tolerances=partial(_read_tolerances, drop_in),
        without_message=_without_message,
    )


CHECKERS = (_make_checker(drop_ins.gradcheck), _make_checker(drop_ins.gradgradcheck))
