"""Law `compiled`: the gradient of every parameter is the same under torch.compile."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from gradcheck.backends.torch.silence_logging import silence_logging
from gradcheck.errors import TargetError
from gradcheck.results import Verdict
from gradcheck.training_step.batches import NotApplicableError
from gradcheck.training_step.experiment import Experiment, Gradients
from gradcheck.training_step.judge import GradientDifference, Law, compare

NAME = "compiled"
# From the front to the back of the compiler: each adds a stage to the one before it.
STAGES = {
    "eager": "tracing (TorchDynamo): look for numbers made of tensors, attributes and globals that change, hooks",
    "aot_eager": "AOTAutograd: look for undeclared mutation and aliases, and custom operators without a right fake or backward",
    "aot_eager_decomp_partition": "a decomposition or the partitioner",
    "inductor": "TorchInductor: look for its fusions; torch._inductor.compiler_bisector names the pass",
}
MAX_THREADS = 4  # that run the C++ compiler


def check_law(experiment: Experiment) -> Law:
    """Compare the compiled gradient with the eager one, in the step's own precision, with the last backend that runs here.

    It contains the stages of those before it, which are tried one by one only if it differs.
    """
    if experiment.is_random:
        raise NotApplicableError("the loss draws random numbers, and compiled code draws others")
    own = Experiment(experiment.pieces, experiment.seed)
    own.has_twin = False
    backend = "inductor" if shutil.which("c++") or shutil.which("g++") else "aot_eager"
    try:
        result = _compare(own, backend)
    except TargetError as error:
        raise NotApplicableError(f"with the backend {backend} {error}") from error
    if result.verdict is Verdict.PASS:
        return result.to_law(NAME, f"equal under torch.compile with {backend}")
    guilty = next(stage for stage in STAGES if stage == backend or _differs(own, stage))
    return result.to_law(NAME, "", f"the gradient differs under torch.compile, from the backend {guilty} on: {STAGES[guilty]}")


def _compare(experiment: Experiment, backend: str) -> GradientDifference:
    return compare(_evaluate_compiled(experiment, backend), experiment.gradient, experiment.noise, experiment.eps)


def _differs(experiment: Experiment, backend: str) -> bool:
    try:
        return _compare(experiment, backend).verdict is not Verdict.PASS
    except TargetError:
        return False


def _evaluate_compiled(experiment: Experiment, backend: str) -> Gradients:
    """Evaluate the gradient with the model compiled."""
    copied = experiment.copy()
    options: Any = {"compile_threads": min(os.cpu_count() or 1, MAX_THREADS)} if backend == "inductor" else None
    with _fresh_compiler(), silence_logging(), experiment.evaluating(copied, None):
        model: Any = torch.compile(copied.model, backend=backend, options=options)
        gradients = experiment.evaluate_gradient(replace(copied, model=model), experiment.batch.tree)
    return {name.removeprefix("_orig_mod."): values for name, values in gradients.items()}


@contextmanager
def _fresh_compiler() -> Iterator[None]:
    """Forget compiled code before and after: it would be found again by the code of the user's model."""
    torch._dynamo.reset()
    try:
        yield
    finally:
        torch._dynamo.reset()
