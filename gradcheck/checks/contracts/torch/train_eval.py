"""Contract `train-eval`: a module's derivative is right in the other mode, training or evaluation, as well."""

from __future__ import annotations

import os
import traceback
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gradcheck.backends import global_state
from gradcheck.backends.torch.module_state import switching_train_mode
from gradcheck.backends.torch.tensors import carries_gradient
from gradcheck.checks.contracts.slope_comparison import SlopeComparison
from gradcheck.checks.contracts.torch.support import directional
from gradcheck.checks.contracts.torch.support.plain_vjp import Baseline, NotApplicable, Remark, UserCodeRaised
from gradcheck.tracebacks import format_user_frames, summarise_error

if TYPE_CHECKING:
    from gradcheck.backends.contract_target import LayerFunction

NAME = "train-eval"
FIX = "look at what the module does differently in that mode (self.training)"
TORCH = os.path.dirname(torch.__file__)  # noqa: PTH120 - as tracebacks write it


def find_breach(base: Baseline) -> str:
    """Describe how the derivative in the other mode is wrong, or that there is none; '' if it is right.

    Raises:
        UserCodeRaised: if the backward raises in the other mode.
        Remark: if the outputs there are not finite, or depend on buffers that a call writes for the next one.
        NotApplicable: if the target is not a module, refuses the other mode, or carries no gradient there.
    """
    module = base.layer.module
    if module is None:
        raise NotApplicable("the target is not a module")
    mode = "eval" if module.training else "train"
    # The other mode may draw random numbers even if this one does not: they are the same on every call.
    call = global_state.replaying(base.layer.call_for_all_outputs, global_state.snapshot(base.layer.module))
    try:
        with switching_train_mode(module):
            outputs = call(base.new_leaves())
    except Exception as error:
        if _is_refusal(error, mode):
            raise NotApplicable(f"{mode} mode is refused: {summarise_error(error, 120)}") from error
        return f"in {mode} mode the forward raises {summarise_error(error)}\n{format_user_frames(error)}".rstrip()
    differentiable = [out for out in outputs if carries_gradient(out)]
    if _are_equal(differentiable, base.outputs):
        return ""
    if not differentiable:
        raise NotApplicable(f"in {mode} mode no output carries a gradient")
    if not all(torch.isfinite(out).all() for out in differentiable):
        raise Remark(f"in {mode} mode the outputs are not finite")
    there = partial(_compare_in_other_mode, base, call, mode)
    here = partial(directional.compare_along_direction, base.layer.call_for_all_outputs, base.inputs, base.layer.eps)
    failure = directional.describe_wrong_gradient(there, here, [leaf.path for leaf in base.layer.leaves])
    if not failure:
        return ""
    with switching_train_mode(module):
        buffer_remarks = base.layer.describe_carried_state()
    if buffer_remarks:
        raise Remark(f"in {mode} mode {failure}: {buffer_remarks[0]}")
    return f"in {mode} mode {failure}"


def _compare_in_other_mode(
    base: Baseline, call: LayerFunction, mode: str, direction: int, leaf: int | None = None
) -> SlopeComparison:
    """Compare the gradient with differences along a random direction in the other mode."""
    with switching_train_mode(base.layer.module):
        try:
            return directional.compare_along_direction(call, base.inputs, base.layer.eps, direction, leaf)
        except Exception as error:
            raise UserCodeRaised(f"in {mode} mode, in the backward,") from error


def _is_refusal(error: Exception, mode: str) -> bool:
    """Whether an exception is a deliberate refusal of the mode.

    It is if it is a NotImplementedError, or if PyTorch's own layers raise it in training, as batch norm does for one row.
    """
    innermost = traceback.extract_tb(error.__traceback__)[-1].filename
    return isinstance(error, NotImplementedError) or (mode == "train" and innermost.startswith(TORCH))


def _are_equal(outputs: list[Any], before: list[Tensor]) -> bool:
    return len(outputs) == len(before) and all(torch.equal(a.detach(), b) for a, b in zip(outputs, before, strict=True))
