"""Law `checkpointed`: the gradient is the same with and without activation checkpointing, over two steps."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from torch.utils import checkpoint as checkpointing

from gradcheck.errors import TargetError
from gradcheck.results import Verdict
from gradcheck.training_step.batches import NotApplicableError
from gradcheck.training_step.experiment import Experiment, Gradients
from gradcheck.training_step.judge import Law, compare
from gradcheck.training_step.pieces import Copy

NAME = "checkpointed"
ITERATIONS = 2


def check_law(experiment: Experiment) -> Law:
    """Compare two iterations without checkpointing and with it: the step's own, or that of its blocks."""
    calls: list[int] = []
    with _replacing_checkpoints(calls):
        plain = _iterate(experiment, lambda _: None)
    wrap: Callable[[Copy], object] = lambda _: None  # noqa: E731 - the step checkpoints already
    where = "the step's own checkpointing"
    if not calls:
        blocks = find_blocks(experiment.copy().model)
        if not blocks:
            raise NotApplicableError("no block of the model can be checkpointed: it has no submodule with parameters")
        where = f"checkpointing of {blocks[0]}" + (f" to {blocks[-1]}" if len(blocks) > 1 else "")
        wrap = functools.partial(_checkpoint_blocks, blocks=blocks)
    try:
        checkpointed = _iterate(experiment, wrap)
    except TargetError as error:
        return Law(NAME, Verdict.FAIL, f"under {where} {error}; a forward must do the same when it is run again")
    for number, (with_it, without) in enumerate(zip(checkpointed, plain, strict=True), 1):
        result = compare(with_it, without, experiment.noise, experiment.eps)
        if result.verdict is not Verdict.PASS:
            cause = (
                "a forward that runs again must do the same: look for counters, caches, inputs changed in place, or a generator"
            )
            return result.to_law(NAME, "", f"{where} changes the gradient of iteration {number}; {cause}")
    return result.to_law(NAME, f"{where} leaves the gradients of {ITERATIONS} iterations as they are")


def _iterate(experiment: Experiment, wrap: Callable[[Copy], object]) -> list[Gradients]:
    """Return the gradients of some iterations, with a small step of gradient descent after each."""
    copied = experiment.copy()
    wrap(copied)
    gradients = []
    for _ in range(ITERATIONS):
        gradients.append(experiment.evaluate_gradient(copied, experiment.batch.tree))
        descend(copied)
    return gradients


def descend(copied: Copy) -> None:
    """Take a small step against the gradient."""
    with torch.no_grad():
        for parameter in copied.parameters.values():
            if parameter.grad is not None and parameter.requires_grad:
                parameter.sub_(1e-3 * parameter.grad)


def find_blocks(model: torch.nn.Module) -> list[str]:
    """Return the paths of the modules to checkpoint: the elements of lists and sequences of modules, else the children."""
    paths = [
        f"{path}.{key}".lstrip(".")
        for path, module in model.named_modules()
        if isinstance(module, torch.nn.ModuleList | torch.nn.Sequential)
        for key, child in module.named_children()
        if any(True for _ in child.parameters())
    ]
    outermost = [p for p in paths if not any(p.startswith(f"{other}.") for other in paths)]
    return outermost or [name for name, child in model.named_children() if any(True for _ in child.parameters())]


def _checkpoint_blocks(copied: Copy, *, blocks: list[str]) -> None:
    for path in blocks:
        module = copied.model.get_submodule(path)
        forward = module.forward
        module.forward = functools.partial(_call_checkpointed, forward)


def _call_checkpointed(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return checkpointing.checkpoint(forward, *args, use_reentrant=False, **kwargs)


@contextmanager
def _replacing_checkpoints(calls: list[int]) -> Iterator[None]:
    """Turn `torch.utils.checkpoint` into plain calls, however it was imported, and record them."""
    saved = checkpointing.CheckpointFunction, checkpointing._checkpoint_without_reentrant_generator

    def call(function: Callable[..., Any], _preserve: bool, *args: Any) -> Any:
        calls.append(1)
        return function(*args)

    def do_nothing(*_: Any, **__: Any) -> Iterator[None]:
        calls.append(1)
        yield

    checkpointing.CheckpointFunction = SimpleNamespace(apply=call)  # type: ignore[assignment,misc]
    checkpointing._checkpoint_without_reentrant_generator = do_nothing
    try:
        yield
    finally:
        checkpointing.CheckpointFunction, checkpointing._checkpoint_without_reentrant_generator = saved  # type: ignore[misc]
