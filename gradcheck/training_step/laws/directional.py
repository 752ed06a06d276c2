"""Law `directional`: the loss changes along the gradient, and along the optimiser's step, as the gradient predicts."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from gradcheck.evidence.directions import finest_step
from gradcheck.evidence.ladder import estimate_slopes_by_ladder
from gradcheck.evidence.line import F64, Setting, choose_slack
from gradcheck.evidence.noise import measure_noise
from gradcheck.results import Row, Verdict
from gradcheck.training_step.choices import Choices
from gradcheck.training_step.experiment import Experiment, norm
from gradcheck.training_step.judge import NEGLIGIBLE, Law, make_law
from gradcheck.training_step.pieces import Copy

NAME = "directional"
Direction = dict[str, Tensor]
MAX_LOCATED = 40  # parameters that are tried one by one after a disagreement
LEAST_SLOPE = 1e-3  # a slope counts as at least this share of what it could be
HELD = "; its jumps, where a choice between numbers turns over, are left out"
MAX_BOUND = 1e-2  # an estimate whose bound is larger, relative to its size, decides nothing


def check_law(experiment: Experiment) -> Law:
    """Compare the predicted slope of the loss with numerical ones along the gradient, at random, and along the step taken."""
    gradient = {name: values.to_dense() for name, values in experiment.gradient.items() if values is not None}
    size = math.hypot(*map(norm, gradient.values()))
    copied = experiment.copy()
    directions = {
        "the gradient": {name: values / size for name, values in gradient.items()},
        "a random direction": _draw_direction(experiment, copied),
    }
    step = _take_step(experiment)
    if step:
        directions["the optimizer's step"] = step
    worst, remark = Row("", (0.0, 0.0)), ""
    for name, direction in directions.items():
        predicted = sum(float((gradient[n].double() * d).sum()) for n, d in direction.items() if n in gradient)
        row = _compare(experiment, copied, direction, predicted, name)
        if row.values[1] > MAX_BOUND:
            return make_law(NAME, Verdict.INCONCLUSIVE, f"the slope along {name} cannot be measured: {row.remark}", row)
        if row.values[0] > max(row.values[1], NEGLIGIBLE):
            return _locate(experiment, copied, direction, gradient, row)
        worst, remark = max(worst, row, key=lambda r: r.values[0]), remark or row.remark
        if name == "the optimizer's step" and predicted > 0:
            message = "the optimizer's step raises the loss: is maximize=True set, or the sign of the loss wrong?"
            return make_law(NAME, Verdict.FAIL, message, worst)
    message = f"the loss changes as predicted along {', '.join(directions)}{remark}"
    return make_law(NAME, Verdict.PASS, message, worst)


def _draw_direction(experiment: Experiment, copied: Copy) -> Direction:
    """Draw a direction that moves each trainable parameter by about its own size."""
    experiment.reseed(1)
    trainable = {n: p.detach() for n, p in copied.parameters.items() if p.requires_grad and n not in experiment.untrained}
    return {n: torch.randn_like(p) * max(norm(p), 1e-3) / math.sqrt(max(p.numel(), 1)) for n, p in trainable.items()}


def _take_step(experiment: Experiment) -> Direction:
    """Return the direction of the optimiser's first step, scaled to the size of the parameters; {} if it is no descent step.

    A state, weight decay or momentum moves parameters elsewhere, so only a fresh optimiser without weight decay is tried.
    """
    if experiment.pieces.optimizer is None or experiment.pieces.training_step is not None:
        return {}
    copied = experiment.copy()
    before = {name: p.detach().clone() for name, p in copied.parameters.items()}
    if any(o.state or any(group.get("weight_decay") for group in o.param_groups) for o in copied.optimizers):
        return {}
    experiment.take_step(copied)
    step = {name: p.detach() - before[name] for name, p in copied.parameters.items()}
    moved = math.hypot(*map(norm, step.values()))
    return {name: d * math.hypot(*map(norm, before.values())) / moved for name, d in step.items()} if moved else {}


def _compare(experiment: Experiment, copied: Copy, direction: Direction, predicted: float, name: str) -> Row:
    """Compare the slope along a direction with the prediction; if they differ, again without jumps.

    The loss may jump where a choice turns over, as that of a router. No gradient contains jumps, so that the choices are held.
    """
    row = _measure(experiment, copied, direction, predicted, Row(name, ()))
    if row.values[0] <= max(row.values[1], NEGLIGIBLE) and row.values[1] <= MAX_BOUND:
        return row
    with Choices() as made:
        experiment.evaluate_loss(copied, experiment.batch.tree)
    return _measure(experiment, copied, direction, predicted, Row(name, (), HELD), made) if made.made else row


def _measure(
    experiment: Experiment, copied: Copy, direction: Direction, predicted: float, label: Row, made: Choices | None = None
) -> Row:
    """Measure the slope along a direction; return how far off the prediction is and may be, relative to the slope."""
    phi = _make_line(experiment, copied, direction, made)
    base, finest = phi(0.0), finest_step(experiment.eps)
    noise = measure_noise(phi, base, finest, experiment.eps, spacings=1)
    slope = estimate_slopes_by_ladder(phi, Setting(base, noise, experiment.eps, None, finest, choose_slack(1)))
    size = math.hypot(*(norm(experiment.gradient.get(n)) * norm(d) for n, d in direction.items())) or 1.0
    size = max(abs(predicted), abs(float(slope.value[0])), LEAST_SLOPE * size)
    reason = slope.reason[0]
    bound = math.inf if reason is not None and not math.isfinite(slope.bound[0]) else float(slope.bound[0])
    low, high = float(slope.low[0]), float(slope.high[0])
    if math.isfinite(low) and low - bound <= predicted <= high + bound:
        return replace(label, values=(0.0, 0.0))  # a kink, and the prediction lies between the two slopes
    off = abs(predicted - float(slope.value[0]))
    row = replace(label, values=(off / size, bound / size))
    return row if row.values[1] <= MAX_BOUND else replace(row, remark=reason.message if reason else "rounding hides it")


def _make_line(
    experiment: Experiment, copied: Copy, direction: Direction, made: Choices | None = None
) -> Callable[[float], F64]:
    """Return t -> the loss with the parameters moved by t times a direction, and with the choices that were made."""
    parameters = copied.parameters
    origin = {name: p.detach().clone() for name, p in parameters.items()}

    def phi(t: float) -> F64:
        with torch.no_grad():
            for name, values in direction.items():
                parameters[name].copy_(origin[name] + t * values)
            with Choices(made) if made else nullcontext():
                loss = experiment.evaluate_loss(copied, experiment.batch.tree)
            for name in direction:
                parameters[name].copy_(origin[name])
        return np.array([loss.item()])

    return phi


def _locate(experiment: Experiment, copied: Copy, direction: Direction, gradient: Direction, along: Row) -> Law:
    """Name the parameter whose own slope differs the most from the gradient's."""
    rows, step = [], experiment.eps ** (1 / 3)
    for name in list(direction)[:MAX_LOCATED]:
        phi = _make_line(experiment, copied, {name: direction[name]})
        slope = float((phi(step) - phi(-step))[0]) / (2 * step)
        predicted = float((gradient[name].double() * direction[name]).sum()) if name in gradient else 0.0
        size = max(abs(predicted), abs(slope), LEAST_SLOPE * norm(gradient.get(name)) * norm(direction[name]))
        rows.append(Row(name, (abs(predicted - slope) / (size or 1.0), along.values[1])))  # a cheap slope has no bound
    broken = [row for row in rows if row.values[0] > MAX_BOUND]
    worst = max(broken, key=lambda row: row.values[0], default=along)
    message = (
        f"along {along.label} the loss changes otherwise than the gradient says: look for detach(), no_grad(), .data, .item() "
        "or a custom backward"
    )
    return make_law(NAME, Verdict.FAIL, message, worst, broken, worst.label if broken else "")
