"""Law `scaling`: a scaled loss gives scaled gradients, and unscaling and clipping happen in this order, once each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grad

from gradcheck.results import Verdict
from gradcheck.training_step.experiment import Experiment, Gradients, norm, read_gradients
from gradcheck.training_step.judge import GradientDifference, Law, compare
from gradcheck.training_step.laws.micro_batches import combine, fit_weights
from gradcheck.training_step.pieces import Copy, list_optimizers

NAME = "scaling"
FACTORS = (2.0**10, 2.0**-10)
SCALES = (1.0, 2.0**12)  # of a loss scaler
WITH_SCALER = 4  # arguments of a training step that takes a loss scaler
# Gradients at two places of a step that differ by less than this are the same.
MAX_CHANGE = 1e-4


@dataclass
class Steps:
    """What a training step did to its gradients.

    Attributes:
        raw: as the last `backward` before the optimiser's step left them.
        clips: what each call of `clip_grad_norm_` left.
        taken: at the optimiser's step; empty if it took none.
    """

    raw: Gradients = field(default_factory=dict)
    clips: list[Gradients] = field(default_factory=list)
    taken: Gradients = field(default_factory=dict)


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
    """Follow the gradients through the user's training step, at two scales of the loss scaler."""
    plain = record_step(experiment, SCALES[0])
    if not plain.taken:
        return result.to_law(
            NAME, "the training step takes no step of a torch.optim.Optimizer that it is given: clipping not tried"
        )
    if experiment.step_arity >= WITH_SCALER:
        scaled = record_step(experiment, SCALES[1])
        compared = compare(scaled.taken, plain.taken, experiment.noise, experiment.eps)
        if compared.verdict is not Verdict.PASS:
            return compared.to_law(NAME, "", _explain_scaling(plain, scaled))
    wrong = _find_wrong_clip(plain)
    if wrong:
        return Law(NAME, Verdict.FAIL, wrong)
    gradient = {name: values for name, values in experiment.gradient.items() if name not in experiment.untrained}
    multiple = combine(fit_weights(plain.raw, [gradient]), [gradient])
    compared = compare(plain.raw, multiple, experiment.noise, experiment.eps)
    if compared.verdict is Verdict.FAIL and not experiment.is_random:
        # Several optimisers may have a loss each; without a float64 twin, autocast inside the step alone moves its gradient.
        is_clear = experiment.has_twin and len(list_optimizers(experiment.pieces.optimizer)) == 1
        other = "the gradients of training_step are not a multiple of those of loss=: does it compute another loss?"
        verdict = Verdict.FAIL if is_clear else Verdict.INCONCLUSIVE
        return replace(compared.to_law(NAME, "", other), verdict=verdict, message=other)
    changes = _find_factors(plain.raw, plain.taken)
    unclear = next((name for name, factor in changes.items() if factor is None), "")
    if unclear:
        message = "the step changes its gradients otherwise than by a factor or a limit, which this law cannot judge"
        return Law(NAME, Verdict.INCONCLUSIVE, message, worst=unclear)
    scaler = "a loss scale changes nothing; " if experiment.step_arity >= WITH_SCALER else ""
    sizes = [norm(plain.taken[name]) / norm(plain.raw[name]) for name in changes if norm(plain.raw[name])]
    low, high = min(sizes, default=1.0), max(sizes, default=1.0)
    factors = f"{low:.3g}" + (f" to {high:.3g}" if high - low > MAX_CHANGE * high else "")
    clipped = "nothing is clipped" if factors == "1" else f"clipping multiplies the gradients by {factors}"
    return compared.to_law(NAME, scaler + clipped)


def record_step(experiment: Experiment, scale: float) -> Steps:
    """Take the user's training step on a copy, and record what backward leaves and what clipping and the optimiser see."""
    steps, copied = Steps(), experiment.copy()
    latest: Gradients = {}

    def record(held: list[Tensor]) -> None:
        steps.taken.update(_read_held(copied, held))
        steps.raw.update({name: latest[name] for name in steps.taken if name in latest and name not in steps.raw})

    for name, parameter in copied.parameters.items():
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(  # type: ignore[no-untyped-call]
                lambda p, name=name: latest.update({name: p.grad.detach().clone()})
            )
    for optimizer in copied.optimizers:
        held = [p for group in optimizer.param_groups for p in group["params"]]
        if isinstance(optimizer, torch.optim.Optimizer):
            optimizer.register_step_pre_hook(lambda *_, held=held: record(held))
    experiment.reseed()
    with _recording_clips(copied, steps):
        experiment.take_step(copied, scale)
    return steps


@contextmanager
def _recording_clips(copied: Copy, steps: Steps) -> Iterator[None]:
    """Record the calls of `clip_grad_norm_`, however it was imported: by the function that it calls to clip."""
    clip = clip_grad._clip_grads_with_norm_

    def record(parameters: Any, max_norm: float, total_norm: Any, *args: Any, **kwargs: Any) -> None:
        parameters = [parameters] if isinstance(parameters, torch.Tensor) else list(parameters)
        clip(parameters, max_norm, total_norm, *args, **kwargs)
        steps.clips.append(_read_held(copied, parameters))

    clip_grad._clip_grads_with_norm_ = record
    try:
        yield
    finally:
        clip_grad._clip_grads_with_norm_ = clip


def _read_held(copied: Copy, held: Iterable[Tensor]) -> Gradients:
    """Return copies of the gradients of some parameters."""
    chosen = {id(parameter) for parameter in held}
    return {name: values for name, values in read_gradients(copied).items() if id(copied.parameters[name]) in chosen}


def _explain_scaling(plain: Steps, scaled: Steps) -> str:
    """Say what depends on the loss scale, by the size of the gradients at the optimiser's step."""
    scale = SCALES[1] / SCALES[0]
    ratio = _total(scaled.taken) / max(_total(plain.taken), 1e-300)
    seen = f"with the loss scaled by {scale:g} the optimizer sees gradients of {ratio:.3g} times the size"
    if not scaled.taken:
        return f"with the loss scaled by {scale:g} the optimizer takes no step"
    if math.isclose(ratio, scale, rel_tol=1e-2):
        return f"{seen}: they are not unscaled, or scaled twice; use scaler.scale once and scaler.step(optimizer)"
    if math.isclose(ratio * scale, 1, rel_tol=1e-2) and not scaled.clips:
        return f"{seen}: they are unscaled twice, or clipped before unscaling"
    if scaled.clips or ratio < 1:
        return f"{seen}: they are clipped before unscaling; call scaler.unscale_(optimizer) before you clip"
    return f"{seen}: look for a limit or an eps that acts on scaled gradients"


def _find_wrong_clip(steps: Steps) -> str:
    """Say what is wrong with the calls of `clip_grad_norm_`; '' if nothing is."""
    if not steps.clips:
        return ""
    missing = [name for name, g in steps.taken.items() if g is not None and name not in steps.clips[0]]
    if missing and len(steps.clips) == 1:  # several calls may leave out a group on purpose
        return f"{len(missing)} of {len(steps.taken)} gradients are not clipped, such as that of {missing[0]}"
    left: Gradients = {name: values for clip in steps.clips for name, values in clip.items()}
    if not all(factor and math.isclose(factor, 1, rel_tol=MAX_CHANGE) for factor in _find_factors(left, steps.taken).values()):
        return "gradients change between clipping and the optimizer's step: clip once, after unscaling and the last backward"
    return ""


def _find_factors(before: Gradients, after: Gradients) -> dict[str, float | None]:
    """Return what each gradient was multiplied by before it was perhaps clamped to a range; None if it changed otherwise."""
    pairs = {name: (before[name], values) for name, values in after.items() if before.get(name) is not None}
    return {name: _find_factor(old, new) for name, (old, new) in pairs.items() if old is not None and new is not None}


def _find_factor(before: Tensor, after: Tensor) -> float | None:
    old, new = (x.to_dense().reshape(-1).double() for x in (before, after))
    limit = new.abs().max()
    at_limit = new.abs() >= limit * (1 - MAX_CHANGE)
    square = float(old[~at_limit] @ old[~at_limit])
    factor = float(new[~at_limit] @ old[~at_limit]) / square if square else 1.0
    expected = (factor * old).clamp(-limit, limit) if square else old.clamp(-limit, limit)
    is_factor = factor > 0 and norm(new - expected) <= MAX_CHANGE * norm(new)
    return factor if is_factor else None


def _total(gradients: Gradients) -> float:
    return math.hypot(*(norm(values) for values in gradients.values()))
