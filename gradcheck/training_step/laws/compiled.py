"""Law `compiled`: the gradient of every parameter is the same under torch.compile."""

from __future__ import annotations

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
from gradcheck.training_step.judge import Law, compare

NAME = "compiled"
# From the front to the back of the compiler: each adds a stage to the one before it.
STAGES = {
    "eager": "tracing (TorchDynamo): look for numbers made of tensors, attributes and globals that change, hooks",
    "aot_eager": "AOTAutograd: look for undeclared mutation and aliases, and custom operators without a right fake or backward",
    "aot_eager_decomp_partition": "a decomposition or the partitioner",
    "inductor": "TorchInductor: look for its fusions; torch._inductor.compiler_bisector names the pass",
}

OPTIONS: dict[str, Any] = {"inductor": {"compile_threads": 1}}  # without a pool of processes, which would outlive the check


def check_law(experiment: Experiment) -> Law:
    """Compare the compiled gradient with the eager one, in the step's own precision, with each backend that can run here."""
    if experiment.is_random:
        raise NotApplicableError("the loss draws random numbers, and compiled code draws others")
    eager = experiment.evaluate_gradient(experiment.copy(double=False), experiment.batch.tree, double=False)
    own = _InOwnPrecision(experiment)
    noise = own.measure_noise(lambda: experiment.copy(double=False), experiment.batch, eager)
    backends = ["aot_eager", *(["inductor"] if shutil.which("c++") or shutil.which("g++") else [])]
    for backend in backends:
        try:
            result = compare(_evaluate_compiled(experiment, backend), eager, noise, own.eps)
        except TargetError as error:
            raise NotApplicableError(f"with the backend {backend} {error}") from error
        if result.verdict is not Verdict.PASS:
            guilty = _find_stage(experiment, eager, noise, own.eps, backend)
            return result.to_law(
                NAME, "", f"the gradient differs under torch.compile, from the backend {guilty} on: {STAGES[guilty]}"
            )
    return result.to_law(NAME, f"equal under torch.compile with {' and '.join(backends)}")


class _InOwnPrecision(Experiment):
    """The experiment without a float64 twin."""

    def __init__(self, experiment: Experiment) -> None:
        super().__init__(experiment.pieces, experiment.seed)
        self.__dict__["has_twin"] = False


def _evaluate_compiled(experiment: Experiment, backend: str) -> Gradients:
    """Evaluate the gradient with the model compiled."""
    copied = experiment.copy(double=False)
    with _fresh_compiler(), silence_logging():
        model: Any = torch.compile(copied.model, backend=backend, options=OPTIONS.get(backend))
        compiled = replace(copied, model=model)
        gradients = experiment.evaluate_gradient(compiled, experiment.batch.tree, double=False)
    return {name.removeprefix("_orig_mod."): values for name, values in gradients.items()}


@contextmanager
def _fresh_compiler() -> Iterator[None]:
    """Forget compiled code before and after: it would be found again by the code of the user's model."""
    torch._dynamo.reset()
    try:
        yield
    finally:
        torch._dynamo.reset()


def _find_stage(experiment: Experiment, eager: Gradients, noise: dict[str, float], eps: float, backend: str) -> str:
    """Return the first backend whose gradient differs."""
    for stage in STAGES:
        if stage == backend:
            break
        try:
            if compare(_evaluate_compiled(experiment, stage), eager, noise, eps).verdict is not Verdict.PASS:
                return stage
        except TargetError:
            continue
    return backend
