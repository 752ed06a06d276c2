"""Law `permuted`: another order of the samples changes neither the loss nor its gradient."""

from __future__ import annotations

import torch

from gradcheck.results import Verdict
from gradcheck.training_step.experiment import Experiment
from gradcheck.training_step.judge import Law, compare
from gradcheck.training_step.outputs import find_interaction, record_outputs

NAME = "permuted"


def check_law(experiment: Experiment) -> Law:
    """Compare the gradients of the batch and of the batch in another order; if they differ, name the module where it begins."""
    batch = experiment.batch
    experiment.require_samples(2, part=batch.size // 2)
    order = _draw_order(batch.size, experiment.seed)
    moved = experiment.evaluate_gradient(experiment.copy(), batch.take(order))
    result = compare(moved, experiment.gradient, experiment.noise, experiment.eps)
    failed = ""
    if result.verdict is Verdict.FAIL:
        whole, permuted = (record_outputs(experiment, experiment.copy(), tree) for tree in (batch.tree, batch.take(order)))
        module = find_interaction(experiment, whole, permuted, order)
        place = f"it is first seen in the output of {module.name}" if module else "no module does that, the loss does"
        failed = f"the gradient changes with the order of the samples; {place}: look for view() for transpose(), or x[0] for x"
    return result.to_law(NAME, "another order of the samples gives the same gradient", failed)


def _draw_order(size: int, seed: int) -> list[int]:
    """Draw an order of the samples in which none stays in its place."""
    order = torch.randperm(size, generator=torch.Generator().manual_seed(seed)).tolist()
    return [order[order.index(i) - 1] for i in range(size)]
