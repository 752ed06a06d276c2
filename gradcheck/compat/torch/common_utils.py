"""The checkers of `torch.testing._internal.common_utils`, which PyTorch's own tests call: other defaults, the same checks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gradcheck.compat.checker import bind_arguments
from gradcheck.compat.torch import drop_ins
from gradcheck.compat.torch.call import Call
from gradcheck.compat.torch.drop_ins import answer_call, make_call

DEFAULTS = {"check_batched_grad": True}  # and fast mode, unless PyTorch's own tests are to check slowly


def gradcheck(fn: Any, inputs: Any, **kwargs: Any) -> bool:
    """Check first derivatives like `gradcheck.compat.torch.gradcheck`, by default in fast mode and with batched gradients.

    Args:
        fn: a function of tensors.
        inputs: a tensor, or a tuple or list of inputs.
        **kwargs: keywords of `gradcheck.compat.torch.gradcheck`; None stands for the default.

    Returns:
        Whether all derivatives are right.

    Raises:
        GradcheckError: if one is wrong, unless `raise_exception` is False.
    """
    __tracebackhide__ = True
    return answer_call(_make_call(drop_ins.gradcheck, (fn, inputs), kwargs))


def gradgradcheck(fn: Any, inputs: Any, grad_outputs: Any = None, **kwargs: Any) -> bool:
    """Check second derivatives like `gradcheck.compat.torch.gradgradcheck`, by default in fast mode and with batched gradients.

    Args:
        fn: a function of tensors.
        inputs: a tensor, or a tuple or list of inputs.
        grad_outputs: the cotangents; None: drawn at random.
        **kwargs: keywords of `gradcheck.compat.torch.gradgradcheck`; None stands for the default.

    Returns:
        Whether all derivatives are right.

    Raises:
        GradcheckError: if one is wrong, unless `raise_exception` is False.
    """
    __tracebackhide__ = True
    return answer_call(_make_call(drop_ins.gradgradcheck, (fn, inputs, grad_outputs), kwargs))


def _make_call(checker: Callable[..., bool], args: tuple[Any, ...], keywords: Mapping[str, Any]) -> Call:
    from torch.testing._internal import common_utils

    chosen = {**DEFAULTS, "fast_mode": not common_utils.TEST_WITH_SLOW_GRADCHECK}
    defaults = {name: value for name, value in chosen.items() if keywords.get(name) is None}
    return make_call(checker, bind_arguments(checker, (args, {**keywords, **defaults})).arguments)
