"""Law `micro-batches`: gradients accumulated over unequal parts of a batch equal the gradient of the whole."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from gradcheck.errors import InputError, TargetError
from gradcheck.results import Verdict
from gradcheck.training_step.batches import Batch, NotApplicableError
from gradcheck.training_step.experiment import Experiment, Gradients, clear_gradients, read_gradients
from gradcheck.training_step.judge import Law, compare
from gradcheck.training_step.pieces import call_user

NAME = "micro-batches"
COUPLED = (
    "no weights make the gradients of the parts add up to the batch's: the loss couples samples, as a contrastive one does"
)
# Weights are equal if they differ by less than this.
MAX_WEIGHT_DIFFERENCE = 1e-4


def check_law(experiment: Experiment) -> Law:
    """Compare what accumulation leaves in `.grad` with the gradient of the whole batch, for unequal parts and masks."""
    experiment.require_samples(2)
    masked = experiment.batch.with_unequal_labels()
    law = _check_batch(experiment, masked) if masked and _takes_mask(experiment, masked) else None
    if law and law.verdict is not Verdict.PASS:
        return law
    plain = _check_batch(experiment, experiment.batch)
    return law if law and plain.verdict is Verdict.PASS else plain


def _takes_mask(experiment: Experiment, masked: Batch) -> bool:
    """Whether the loss, and the accumulation loop, run on ignored labels."""
    try:
        loss = experiment.evaluate_loss(experiment.copy(plain=True), masked.tree)
        if experiment.pieces.accumulate is not None:
            _accumulate(experiment, masked, split_samples(masked.size))
    except (TargetError, InputError):
        return False
    return math.isfinite(loss.item())


def split_samples(size: int) -> list[list[int]]:
    """Split a batch into up to three parts of unequal sizes."""
    ends = sorted({0, 1, 1 + max(1, (size - 1) // 3), size})
    return [list(range(a, b)) for a, b in itertools.pairwise(ends) if b <= size]


def _check_batch(experiment: Experiment, batch: Batch) -> Law:
    parts = split_samples(batch.size)
    copied = experiment.copy(plain=True)
    whole = experiment.evaluate_gradient(copied, batch.tree)
    noise = experiment.measure_noise(lambda: experiment.copy(plain=True), batch, whole)
    gradients = [experiment.evaluate_gradient(copied, batch.take(part)) for part in parts]
    needed = fit_weights(whole, gradients)
    combined = combine(needed, gradients)
    unit = _name_unit(batch, parts, needed)
    fitted = compare(combined, whole, noise, experiment.eps)
    if experiment.pieces.accumulate is None:
        if fitted.verdict is not Verdict.PASS:
            raise NotApplicableError(COUPLED)
        advice = "the loss is a sum: add the parts up" if unit == "1" else f"weight each part by its number of {unit}"
        return fitted.to_law(NAME, f"without accumulate=, parts can add up to the batch; {advice}")
    accumulated = _accumulate(experiment, batch, parts)
    result = compare(accumulated, whole, noise, experiment.eps)
    sizes = ", ".join(str(len(part)) for part in parts)
    labels = [batch.count_labels(part) for part in parts]
    of_labels = f" with {', '.join(map(str, labels))} labels" if any(labels) else ""
    passed = f"parts of {sizes} samples{of_labels} add up to the batch"
    return result.to_law(NAME, passed, _explain(experiment, accumulated, gradients, needed, noise, unit))


def _accumulate(experiment: Experiment, batch: Batch, parts: Sequence[Sequence[int]]) -> Gradients:
    """Run the user's accumulation loop on a copy."""
    assert experiment.pieces.accumulate is not None
    copied = experiment.copy(plain=True)
    clear_gradients(copied)
    experiment.reseed()
    trees = [batch.take(part) for part in parts]
    with experiment.evaluating(copied, trees) as trees:
        call_user("the accumulation loop", experiment.pieces.accumulate, copied.model, experiment.pieces.loss, trees)
    return read_gradients(copied)


def fit_weights(target: Gradients, parts: Sequence[Gradients]) -> list[float]:
    """Find the weights with which some gradients come nearest to another, by least squares; all zero if one is not finite."""
    columns = [_flatten(part, target) for part in parts]
    matrix, vector = torch.stack(columns, dim=1), _flatten(target, target)
    if not (torch.isfinite(matrix).all() and torch.isfinite(vector).all()):
        return [0.0] * len(parts)
    return [float(w) for w in torch.linalg.lstsq(matrix, vector[:, None], driver="gelsd").solution[:, 0]]


def combine(weights: Sequence[float], parts: Sequence[Gradients]) -> Gradients:
    """Add up gradients with weights."""
    total: Gradients = {}
    for weight, part in zip(weights, parts, strict=True):
        for name, values in part.items():
            before = total.get(name)
            term = None if values is None else weight * values.double()
            total[name] = before if term is None else term if before is None else before + term
    return total


def _flatten(gradients: Gradients, like: Gradients) -> Tensor:
    pieces = []
    for name, values in like.items():
        mine = gradients.get(name)
        size = 0 if values is None else values.numel()
        pieces.append(
            torch.zeros(size, dtype=torch.float64) if mine is None or not size else mine.to_dense().reshape(-1).double().cpu()
        )
    return torch.cat(pieces)


def _name_unit(batch: Batch, parts: Sequence[Sequence[int]], weights: Sequence[float]) -> str:
    """Return what the parts' weights are proportional to: '1' for a sum, 'samples', 'labels', or 'tokens' if unclear."""
    counts = {
        "1": [1.0] * len(parts),
        "samples": [len(part) / batch.size for part in parts],
        "labels": [batch.count_labels(part) / max(batch.count_labels(range(batch.size)), 1) for part in parts],
    }
    return next((unit for unit, shares in counts.items() if _are_close(weights, shares)), "tokens")


def _are_close(a: Sequence[float], b: Sequence[float]) -> bool:
    return all(abs(x - y) <= MAX_WEIGHT_DIFFERENCE for x, y in zip(a, b, strict=True))


def _explain(
    experiment: Experiment,
    accumulated: Gradients,
    parts: Sequence[Gradients],
    needed: Sequence[float],
    noise: dict[str, float],
    unit: str,
) -> str:
    """Say why the accumulated gradient differs from the batch's: by the weights that the loop gave to the parts."""
    used = fit_weights(accumulated, parts)
    is_sum_of_parts = compare(combine(used, parts), accumulated, noise, experiment.eps).verdict is Verdict.PASS
    listed = f"the loop weights the parts {_list(used)}, the loss of the whole batch {_list(needed)}"
    if not is_sum_of_parts:
        return "what the loop leaves in .grad is no sum of the parts' gradients; does it clip, step or keep old gradients?"
    if any(abs(w) <= MAX_WEIGHT_DIFFERENCE for w in used):
        return f"{listed}; a part is lost: call zero_grad() before the loop only"
    ratios = [u / w if w else math.inf for u, w in zip(used, needed, strict=True)]
    if _are_close(ratios, [ratios[0]] * len(ratios)):
        return (
            f"{listed}; the sum is off by the factor {ratios[0]:.3g}: is a division by the number of parts missing, or twice?"
        )
    weight = "add the parts up without dividing" if unit == "1" else f"weight each by its number of {unit}"
    if _are_close(used, [used[0]] * len(used)):
        return f"{listed}; the mean over unequal micro-batches is averaged: {weight}"
    return f"{listed}; {weight}"


def _list(weights: Sequence[float]) -> str:
    return ", ".join(f"{weight:.3g}" for weight in weights)
