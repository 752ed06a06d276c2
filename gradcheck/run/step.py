"""`gradcheck.step`: try the laws of a training step from Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gradcheck.options import Options
from gradcheck.results import CheckResult
from gradcheck.run.case import check_case
from gradcheck.targets.case import Case, locate_source


def step(
    model: Any,
    loss: Callable[[Any, Any], Any],
    batch: Any,
    *,
    optimizer: Any = None,
    scheduler: Any = None,
    accumulate: Callable[[Any, Any, Any], Any] | None = None,
    training_step: Callable[..., Any] | None = None,
    laws: Sequence[str] | None = None,
    seed: int = 0,
    name: str = "",
) -> CheckResult:
    """Say whether a PyTorch training step is right: model, loss, batch and optimiser together.

    Everything happens on copies: the model, its gradients, the optimiser and the random state are as before afterwards.

    Args:
        model: an `nn.Module`, or a function without arguments that makes one.
        loss: `loss(model, batch)` returns a scalar tensor; it must use the model that it is given.
        batch: tensors in tuples, lists and dictionaries, with the samples along their first axis.
        optimizer: an optimiser of the model's parameters, a list of several, or a function that makes one from
            `model.parameters()`, such as `torch.optim.Adam`; from the model if its parameter is called `model`. Default: plain
            gradient descent.
        scheduler: a scheduler of the optimiser, or a function that makes one from it.
        accumulate: your accumulation loop: `accumulate(model, loss, batches)` leaves gradients in `.grad`.
        training_step: your whole step: `training_step(model, batch, optimizer)`, with a fourth parameter for a `GradScaler`
            if it scales the loss.
        laws: the names of the laws to try. Default: all in `gradcheck.glossary.laws.LAWS`.
        seed: the seed of all random numbers.
        name: the name of the step in reports.

    Returns:
        The result: `result.ok`, `result.laws`; `print(result)` shows a line for each law.

    Raises:
        UsageError: if a piece is not what it must be.
    """
    pieces = {
        "model": model,
        "loss": loss,
        "batch": batch,
        "optimizer": optimizer,
        "scheduler": scheduler,
        "accumulate": accumulate,
        "training_step": training_step,
        "laws": None if laws is None else (laws,) if isinstance(laws, str) else tuple(laws),
    }
    file, line = locate_source(loss)
    name = name or str(getattr(loss, "__qualname__", type(loss).__qualname__))
    case = Case(name=name, fn=lambda: pieces, file=file, line=line, step={})
    return check_case(case, Options(seed=seed), alone=True)
