"""Law `autocast`: under bfloat16 autocast the gradient is as accurate as a plain implementation's, over two steps."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from gradcheck.errors import TargetError
from gradcheck.results import Row, Verdict
from gradcheck.training_step.batches import NotApplicableError
from gradcheck.training_step.choices import Choices
from gradcheck.training_step.experiment import Experiment, Gradients, difference, norm
from gradcheck.training_step.judge import Law, make_law
from gradcheck.training_step.laws.checkpointed import descend
from gradcheck.training_step.outputs import hooking
from gradcheck.training_step.pieces import Copy
from gradcheck.trees import tree_map

NAME = "autocast"
LOW = torch.bfloat16
# The error of the step may be this many times that of a plain implementation, whose layers round to bfloat16.
MAX_RATIO = 8.0
# The plain error counts as at least this share of a gradient: what one rounding does.
LEAST_ERROR = float(torch.finfo(LOW).eps)
# Choices between numbers that differ by less than this share of the largest may turn over by rounding.
NEAR = MAX_RATIO * LEAST_ERROR
# A parameter whose gradient is a smaller share of the whole one is judged by this share.
LEAST_SHARE = 0.03


def check_law(experiment: Experiment) -> Law:
    """Compare the errors of two gradients under autocast, with a small step in between, with those of plain rounding.

    Rounding may turn choices between almost equal numbers over, as those of a router, and lead to the gradient of another
    branch. The exact and the plain gradient are taken with the choices that were made under autocast.
    """
    if not experiment.has_twin:
        raise NotApplicableError("the step does not run in float64, which the errors are measured with")
    if any(p.dtype is not torch.float32 for p in experiment.exact_copy().parameters.values()):
        raise NotApplicableError("autocast is for float32 parameters, and some of these have another dtype")
    cast, exact, rounded = experiment.copy(double=False), experiment.copy(), experiment.copy()
    worst, flipped = Row("", (0.0, 0.0)), 0
    for number in (1, 2):
        gradient, made = _evaluate_cast(experiment, cast)
        with Choices(made, NEAR) as held:
            truth = experiment.evaluate_gradient(exact, experiment.batch.tree)
        with Choices(made, NEAR):
            plain = _evaluate_rounded(experiment, rounded)
        rows, flipped = _measure(gradient, plain, truth), flipped + held.flipped
        broken = [row for row in rows if row.values[0] > row.values[1]]
        if broken:
            return _report(number, broken)
        worst = max([worst, *rows], key=lambda row: row.values[0] / max(row.values[1], 1e-300))
        for copied in (exact, rounded):
            descend(copied)
        _follow(cast, exact)
        _follow(rounded, exact)
    remark = (
        f"; {flipped} choices between almost equal numbers turn over by rounding: compared with the same ones"
        if flipped
        else ""
    )
    message = f"as accurate as plain rounding to bfloat16, in two steps{remark}"
    return make_law(NAME, Verdict.PASS, message, worst, worst=worst.label)


def _evaluate_cast(experiment: Experiment, cast: Copy) -> tuple[Gradients, Choices]:
    """Return the gradient under autocast, after an evaluation without gradient as in a validation, and its choices."""
    try:
        with torch.no_grad(), torch.autocast(experiment.device.type, LOW):
            experiment.evaluate_loss(cast, experiment.batch.tree)
        with Choices() as made, torch.autocast(experiment.device.type, LOW):
            return experiment.evaluate_gradient(cast, experiment.batch.tree), made
    except TargetError as error:
        raise NotApplicableError(f"under autocast {error}") from error


def _report(number: int, broken: list[Row]) -> Law:
    """Return the line of a gradient that is less accurate than plain rounding explains."""
    shown = max(broken, key=lambda row: row.values[0])
    off, plainly = shown.values[0], shown.values[1] / MAX_RATIO
    message = (
        f"in step {number} under autocast the gradient is off by {off:.2g} times its size, that of a plain "
        f"implementation by {plainly:.2g}: sums, positions or small numbers in bfloat16, or casts that are kept?"
    )
    return make_law(NAME, Verdict.FAIL, message, shown, broken, shown.label)


def _measure(gradient: Gradients, plain: Gradients, truth: Gradients) -> list[Row]:
    """Return the error of each parameter and what it may be, relative to its gradient."""
    total = math.hypot(*map(norm, truth.values()))
    rows = []
    for name, values in truth.items():
        scale = max(norm(values), LEAST_SHARE * total) or 1.0
        error = norm(difference(gradient[name], values)) / scale
        allowed = MAX_RATIO * max(norm(difference(plain[name], values)) / scale, LEAST_ERROR)
        rows.append(Row(name, (math.inf if math.isnan(error) else error, allowed)))
    return rows


def _evaluate_rounded(experiment: Experiment, copied: Copy) -> Gradients:
    """Evaluate the gradient with the outputs of every layer, and what comes back to them, rounded to bfloat16."""
    with hooking(copied.model, lambda _, module, out: None if list(module.children()) else tree_map(_round, out)):
        return experiment.evaluate_gradient(copied, experiment.batch.tree)


def _round(x: Any) -> Any:
    """Round a tensor to bfloat16, and the gradient that comes back to it."""
    if not (isinstance(x, Tensor) and x.requires_grad and x.is_floating_point()):
        return x
    rounded = x + (x.detach().to(LOW).to(x.dtype) - x.detach())
    rounded.register_hook(lambda g: g.to(LOW).to(g.dtype))  # type: ignore[no-untyped-call]
    return rounded


def _follow(copied: Copy, leader: Copy) -> None:
    """Give a copy the parameters of another one: two steps with different gradients would lead to different places."""
    with torch.no_grad():
        for name, parameter in copied.parameters.items():
            parameter.copy_(leader.parameters[name])
