"""Law `scaling`: a scaled loss gives scaled gradients, and unscaling and clipping happen in this order, once each."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn.utils import clip_grad

from gradcheck.results import Verdict
from gradcheck.training_step.experiment import Experiment, Gradients, norm, read_gradients
from gradcheck.training_step.judge import GradientDifference, Law, compare
from gradcheck.training_step.laws.micro_batches import combine, fit_weights
from gradcheck.training_step.pieces import Copy

NAME = "scaling"
FACTORS = (2.0**10, 2.0**-10)
SCALES = (1.0, 2.0**12)  # of a loss scaler
OTHER_GRADIENTS = (
    "the gradients at the optimizer's step are not one factor times those of loss=: "
    "does training_step compute another loss, or change the gradients?"
)
WITH_SCALER = 4  # arguments of a training step that takes a loss scaler


@dataclass
class Steps:
    """What the optimiser and clipping saw in one training step.

    Attributes:
        gradients: the gradients at the optimiser's step; empty if it took none.
        clipped: at each call of `clip_grad_norm_`: the gradients, and the norm that it computed.
    """

    gradients: Gradients = field(default_factory=dict)
    clipped: list[tuple[Gradients, float]] = field(default_factory=list)


def check_law(experiment: Experiment) -> Law:
    """Scale the loss by powers of two, which rounds nothing, and compare what reaches the optimiser."""
    for factor in FACTORS:
        scaled = experiment.evaluate_gradient(experiment.copy(), experiment.batch.tree, factor=factor)
        result = compare(combine([1 / factor], [scaled]), experiment.gradient, experiment.noise, experiment.eps)
        if result.verdict is not Verdict.PASS:
            cause = "a hook or a backward clips, or does not use the gradient that it receives"
            return result.to_law(
                NAME, "", f"the gradient of {factor:g} times the loss is not {factor:g} times the gradient: {cause}"
            )
    if experiment.pieces.training_step is None:
        return result.to_law(
            NAME, "the gradient of a multiple of the loss is that multiple; give training_step= to try clipping"
        )
    return _check_step(experiment, result)


def _check_step(experiment: Experiment, result: GradientDifference) -> Law:
    """Compare what the optimiser sees in the user's training step with the gradient, at two scales of the loss scaler."""
    plain = record_step(experiment, SCALES[0])
    if not plain.gradients:
        return result.to_law(NAME, "the training step takes no step of the optimizer that it is given: clipping not tried")
    if experiment.step_arity >= WITH_SCALER:
        scaled = record_step(experiment, SCALES[1])
        compared = compare(scaled.gradients, plain.gradients, experiment.noise, experiment.eps)
        if compared.verdict is not Verdict.PASS:
            return compared.to_law(NAME, "", _explain_scaling(plain, scaled))
    missed = _find_unclipped(plain)
    (factor,) = fit_weights(plain.gradients, [experiment.gradient])
    compared = compare(plain.gradients, combine([factor], [experiment.gradient]), experiment.noise, experiment.eps)
    if missed or (compared.verdict is Verdict.FAIL and not experiment.is_random):
        cause = missed or OTHER_GRADIENTS
        return Law(NAME, Verdict.FAIL, cause, compared.value, compared.bound, compared.worst, compared.rows)
    late = next((g for g, size in plain.clipped if not math.isclose(_total(g), size, rel_tol=1e-4)), None)
    if late is not None:
        return Law(NAME, Verdict.FAIL, "the norm that clips is not that of the gradients that are clipped", compared.value)
    how = f"clipping multiplies the gradients by {factor:.3g}" if plain.clipped else "nothing is clipped"
    scaler = "a loss scale changes nothing; " if experiment.step_arity >= WITH_SCALER else ""
    return compared.to_law(NAME, f"{scaler}{how}")


def record_step(experiment: Experiment, scale: float) -> Steps:
    """Take the user's training step on a copy, and record what clipping and the optimiser see."""
    steps, copied = Steps(), experiment.copy()
    scaler = torch.amp.GradScaler(experiment.device_type, init_scale=scale) if experiment.step_arity >= WITH_SCALER else None
    copied.optimizer.register_step_pre_hook(lambda *_: steps.gradients.update(read_gradients(copied)))
    experiment.reseed()
    with _recording_clips(copied, steps):
        experiment.take_step(copied, scaler=scaler, double=experiment.has_twin)
    return steps


@contextmanager
def _recording_clips(copied: Copy, steps: Steps) -> Iterator[None]:
    """Record the calls of `clip_grad_norm_`, however it was imported: by the function that it calls to clip."""
    clip = clip_grad._clip_grads_with_norm_

    def record(parameters: Any, max_norm: float, total_norm: Any, *args: Any, **kwargs: Any) -> None:
        parameters = [parameters] if isinstance(parameters, torch.Tensor) else list(parameters)
        chosen = {id(p) for p in parameters}
        clipped: Gradients = {
            n: p.grad.detach().clone() for n, p in copied.parameters.items() if id(p) in chosen and p.grad is not None
        }
        steps.clipped.append((clipped, float(total_norm)))
        clip(parameters, max_norm, total_norm, *args, **kwargs)

    clip_grad._clip_grads_with_norm_ = record
    try:
        yield
    finally:
        clip_grad._clip_grads_with_norm_ = clip


def _explain_scaling(plain: Steps, scaled: Steps) -> str:
    """Say what depends on the loss scale, by the size of the gradients at the optimiser's step."""
    scale = SCALES[1] / SCALES[0]
    ratio = _total(scaled.gradients) / max(_total(plain.gradients), 1e-300)
    seen = f"with the loss scaled by {scale:g} the optimizer sees gradients of {ratio:.3g} times the size"
    if not scaled.gradients:
        return f"with the loss scaled by {scale:g} the optimizer takes no step"
    if math.isclose(ratio, scale, rel_tol=1e-2):
        return f"{seen}: they are not unscaled, or scaled twice; use scaler.scale once and scaler.step(optimizer)"
    if math.isclose(ratio * scale, 1, rel_tol=1e-2) and not scaled.clipped:
        return f"{seen}: they are unscaled twice"
    if scaled.clipped:
        return f"{seen}: they are clipped before unscaling; call scaler.unscale_(optimizer) before clip_grad_norm_"
    return f"{seen}: look for a limit or an eps that acts on scaled gradients"


def _find_unclipped(plain: Steps) -> str:
    """Say which parameters are missing from clipping, or that gradients arrived after it; '' if neither."""
    if not plain.clipped or len(plain.clipped) > 1:
        return ""  # several groups may be clipped one by one
    clipped, _ = plain.clipped[0]
    missing = [name for name, g in plain.gradients.items() if g is not None and name not in clipped]
    if missing:
        return f"{len(missing)} of {len(plain.gradients)} gradients are not clipped, such as that of {missing[0]}"
    factors = fit_weights(plain.gradients, [clipped])
    rest: Gradients = {n: g - combine(factors, [clipped])[n] for n, g in plain.gradients.items() if g is not None}  # type: ignore[operator]
    if _total(rest) > 1e-4 * _total(plain.gradients):
        return "gradients change between clipping and the optimizer's step: clip once, after the last backward"
    return ""


def _total(gradients: Gradients) -> float:
    return math.hypot(*(norm(values) for values in gradients.values()))
