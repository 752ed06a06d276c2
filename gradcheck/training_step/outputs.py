"""The outputs of every module in one forward, to find the module where samples of a batch begin to interact."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gradcheck.training_step.experiment import Experiment
from gradcheck.training_step.pieces import Copy
from gradcheck.trees import flatten

# Outputs of a sample alone and in the batch differ by rounding up to this many units in the last place of the largest.
MAX_ULPS = 2.0**12


@dataclass(frozen=True)
class Output:
    """What a module returned in one call.

    Attributes:
        path: the module's path; '' for the model.
        module: the module.
        tensors: the floating tensors that it returned.
    """

    path: str
    module: torch.nn.Module
    tensors: tuple[Tensor, ...]

    @property
    def name(self) -> str:
        """The module's path and class, for messages."""
        return f"{self.path} ({type(self.module).__name__})" if self.path else f"the model ({type(self.module).__name__})"


def record_outputs(experiment: Experiment, copied: Copy, tree: Any) -> list[Output]:
    """Evaluate the loss and record what each module returns; inner modules come before those that call them."""
    outputs: list[Output] = []

    def record(path: str, module: torch.nn.Module, returned: Any) -> None:
        tensors = [x.detach() for x in flatten(returned).leaves if isinstance(x, Tensor) and x.is_floating_point()]
        outputs.append(Output(path, module, tuple(tensors)))

    with hooking(copied.model, record):
        experiment.evaluate_loss(copied, tree)
    return outputs


@contextmanager
def hooking(model: torch.nn.Module, record: Callable[[str, torch.nn.Module, Any], Any]) -> Iterator[None]:
    """Call a function with the path, the module and what it returned, after each forward of a module.

    What the function returns, if not None, takes the place of what the module returned.
    """
    with ExitStack() as stack:
        for path, module in model.named_modules():
            hook = module.register_forward_hook(lambda m, _i, returned, path=path: record(path, m, returned))
            stack.callback(hook.remove)
        yield


def find_interaction(experiment: Experiment, whole: list[Output], part: list[Output], samples: Sequence[int]) -> Output | None:
    """Return the first module whose outputs for some samples change with the rest of the batch; None if none does.

    Args:
        experiment: the step.
        whole: the outputs for the batch.
        part: the outputs for the samples alone, or in another order.
        samples: which samples of the batch these are.
    """
    if [output.path for output in whole] != [output.path for output in part]:
        return None
    for in_batch, alone in zip(whole, part, strict=True):
        pairs = zip(in_batch.tensors, alone.tensors, strict=False)
        if any(_differ(experiment, a, b, samples) for a, b in pairs):
            return in_batch
    return None


def _differ(experiment: Experiment, in_batch: Tensor, alone: Tensor, samples: Sequence[int]) -> bool:
    """Whether an output of some samples differs along every axis that may be the batch axis."""
    index, agreements = torch.tensor(list(samples), dtype=torch.long), []
    for axis in range(in_batch.dim()):
        if in_batch.shape[axis] == experiment.batch.size and in_batch.dim() == alone.dim():
            selected = in_batch.index_select(axis, index.to(in_batch.device))
            if selected.shape == alone.shape:
                size = max(float(selected.abs().max()), 1e-30) if selected.numel() else 1.0
                agreements.append(bool((selected - alone).abs().max() <= MAX_ULPS * experiment.eps * size))
    return bool(agreements) and not any(agreements)
