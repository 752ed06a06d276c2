"""A module has the right derivative in training mode and in evaluation mode, whichever of them it is in."""

from __future__ import annotations

import os
import traceback
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from gradcheck.backends import global_state
from gradcheck.backends.torch.module_state import in_the_other_mode
from gradcheck.checks.contracts.torch import directional
from gradcheck.checks.contracts.torch.plain_vjp import Raised, Remarked, Unsupported
from gradcheck.tracebacks import one_line, user_frames

if TYPE_CHECKING:
    from torch import Tensor

    from gradcheck.backends.layer_view import Call
    from gradcheck.checks.contracts.torch.plain_vjp import Baseline

NAME = "train-eval"
MEND = "look at what the module does where self.training is another"
TORCH = os.path.dirname(torch.__file__)  # noqa: PTH120 - as tracebacks write it


def broken(base: Baseline) -> str:
    """How the derivative in the other mode is wrong, or that there is none; '' where neither.

    Raises:
        Remarked: where the outputs there are not finite, or depend on what a call writes for the next one.
        Unsupported: where the target is no module, refuses the other mode, or carries no gradient there.
    """
    module = base.layer.module
    if module is None:
        raise Unsupported("the target is no module")
    mode = "eval" if module.training else "train"
    call = global_state.replayed(
        base.layer.returned, global_state.snapshot()
    )  # the other mode may draw random numbers where this one does not
    try:
        with in_the_other_mode(module):
            outputs = call(base.leaves())
    except Exception as error:
        if _refused(error, mode):
            raise Unsupported(f"{mode} mode is refused: {one_line(error, 120)}") from error
        return f"in {mode} mode the forward raises {one_line(error)}\n{user_frames(error)}".rstrip()
    found = [out for out in outputs if directional.carries(out)]
    if _same(found, base.outputs):
        return ""
    if not found:
        raise Unsupported(f"in {mode} mode no output carries a gradient")
    if not all(torch.isfinite(out).all() for out in found):
        raise Remarked(f"in {mode} mode the outputs are not finite")
    here = partial(directional.slope, base.layer.returned, base.inputs, base.layer.eps)
    told = directional.told(partial(_there, base, call, mode), here, [leaf.path for leaf in base.layer.leaves])
    if not told:
        return ""
    with in_the_other_mode(module):
        carried = base.layer.carried()
    if carried:
        raise Remarked(f"in {mode} mode {told}: {carried[0]}")
    return f"in {mode} mode {told}"


def _there(base: Baseline, call: Call, mode: str, which: int, only: int | None = None) -> directional.Slope:
    with in_the_other_mode(base.layer.module):
        try:
            return directional.slope(call, base.inputs, base.layer.eps, which, only)
        except Exception as error:
            raise Raised(f"in {mode} mode, in the backward,") from error


def _refused(error: Exception, mode: str) -> bool:
    """Whether it is no mistake: said to be so, or raised by PyTorch's own layers, as in training by batch norm of one row."""
    innermost = traceback.extract_tb(error.__traceback__)[-1].filename
    return isinstance(error, NotImplementedError) or (mode == "train" and innermost.startswith(TORCH))


def _same(outputs: list[Any], before: list[Tensor]) -> bool:
    return len(outputs) == len(before) and all(torch.equal(a.detach(), b) for a, b in zip(outputs, before, strict=True))
