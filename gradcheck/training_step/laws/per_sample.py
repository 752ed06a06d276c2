"""Law `per-sample`: a sample alone gives what it gives in the batch, and the gradients of the samples add up."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _NormBase

from gradcheck.results import Verdict
from gradcheck.training_step.batches import NotApplicableError
from gradcheck.training_step.experiment import Experiment, norm
from gradcheck.training_step.judge import Law, compare
from gradcheck.training_step.laws.micro_batches import COUPLED, combine, fit_weights
from gradcheck.training_step.outputs import find_interaction, record_outputs
from gradcheck.training_step.pieces import Copy
from gradcheck.trees import flatten

NAME = "per-sample"
MAX_SAMPLES = 8


def check_law(experiment: Experiment) -> Law:
    """Compare each sample alone with the sample in its batch: the modules' outputs, then the sum of the gradients."""
    batch = experiment.batch
    experiment.require_samples(2)
    copied = experiment.copy()
    statistics = [n for n, m in copied.model.named_modules() if isinstance(m, _NormBase) and _uses_batch(m)]
    if statistics:
        raise NotApplicableError(f"batch statistics couple the samples in {statistics[0]}")
    whole = record_outputs(experiment, copied, batch.tree)
    sample = batch.size - 1
    alone = record_outputs(experiment, copied, batch.take([sample]))
    module = find_interaction(experiment, whole, alone, [sample])
    if module is not None:
        message = (
            f"sample {sample} depends on the rest of the batch, first seen in the output of {module.name}: "
            "a mean, norm or softmax over axis 0?"
        )
        return Law(NAME, Verdict.FAIL, message, worst=module.path)
    return _check_sum(experiment, copied)


def _uses_batch(module: _NormBase) -> bool:
    return not type(module).__name__.startswith("InstanceNorm") and (module.training or not module.track_running_stats)


def _check_sum(experiment: Experiment, copied: Copy) -> Law:
    """Compare the batch's gradient with a weighted sum of the samples' gradients, and these with those by vmap."""
    batch = experiment.batch
    size = min(batch.size, MAX_SAMPLES)
    part = experiment.batch.take(range(size))
    gradient = experiment.evaluate_gradient(copied, part)
    samples = [experiment.evaluate_gradient(copied, batch.take([i])) for i in range(size)]
    valued = [g for g in samples if all(math.isfinite(norm(values)) for values in g.values())]
    if not valued:
        raise NotApplicableError(COUPLED.replace("the parts", "the samples"))
    summed = compare(combine(fit_weights(gradient, valued), valued), gradient, experiment.noise, experiment.eps)
    if summed.verdict is not Verdict.PASS:
        raise NotApplicableError(COUPLED.replace("the parts", "the samples"))
    passed = f"the gradients of {size} samples add up to the batch's"
    try:
        vmapped = _evaluate_vmapped(experiment, copied, part, size)
    except Exception as error:  # vmap does not support every operator
        return summed.to_law(NAME, f"{passed}; vmap not tried: {type(error).__name__}")
    for k, values in enumerate(samples):
        result = compare({name: stack[k] for name, stack in vmapped.items()}, values, experiment.noise, experiment.eps)
        if result.verdict is Verdict.FAIL and values in valued:
            return result.to_law(NAME, "", f"under vmap the gradient of sample {k} is another one: look at custom vmap rules")
    return summed.to_law(NAME, f"{passed}, under vmap too")


def _evaluate_vmapped(experiment: Experiment, copied: Copy, part: object, size: int) -> dict[str, Tensor]:
    """Evaluate the gradient of each sample with `torch.func`."""
    parameters = {name: p.detach() for name, p in copied.parameters.items() if p.requires_grad}

    experiment.reseed()
    with experiment.evaluating(copied, part) as tree:
        flat = flatten(tree)
        rows = [isinstance(x, Tensor) and x.dim() > 0 and x.shape[0] == size for x in flat.leaves]

        def loss(values: dict[str, Tensor], *leaves: Tensor) -> Tensor:
            batch = flat.rebuild([x[None] if row else x for x, row in zip(leaves, rows, strict=True)])
            with torch.nn.utils.stateless._reparametrize_module(copied.model, values, tie_weights=True):
                value: Tensor = experiment.pieces.loss(copied.model, batch)
            return value.reshape(())

        axes = (None, *(0 if row else None for row in rows))
        vmapped: dict[str, Tensor] = torch.func.vmap(torch.func.grad(loss), in_dims=axes)(parameters, *flat.leaves)
    return vmapped
