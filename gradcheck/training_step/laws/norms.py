"""Report `norms`: the size of the gradient in each layer, without a verdict."""

from __future__ import annotations

import math

from gradcheck.results import Row
from gradcheck.training_step.experiment import Experiment, norm
from gradcheck.training_step.judge import Law

NAME = "norms"
# Gradients of two layers that differ by more than this are remarked on.
MAX_SPREAD = 1e4


def check_law(experiment: Experiment) -> Law:
    """Add up the gradients of each layer, per square root of its numbers, so that layers of all sizes can be compared."""
    squares: dict[str, float] = {}
    counts: dict[str, int] = {}
    for name, values in experiment.gradient.items():
        layer = name.rpartition(".")[0] or name
        squares[layer] = squares.get(layer, 0.0) + norm(values) ** 2
        counts[layer] = counts.get(layer, 0) + (0 if values is None else values.numel())
    sizes = {layer: math.sqrt(square / max(counts[layer], 1)) for layer, square in squares.items()}
    rows = tuple(Row(layer, (size, math.sqrt(squares[layer]))) for layer, size in sizes.items())
    filled = {layer: size for layer, size in sizes.items() if size} or sizes
    low, high = min(filled, key=filled.__getitem__), max(filled, key=filled.__getitem__)
    is_wide = filled[high] > MAX_SPREAD * filled[low]
    remark = "; gradients vanish or explode between these layers" if is_wide else ""
    return Law(NAME, None, f"per number from {filled[low]:.2g} ({low}) to {filled[high]:.2g} ({high}){remark}", rows=rows)
