"""Copies of a step to experiment on, its gradient, and how far rounding moves that gradient."""

from __future__ import annotations

import functools
import inspect
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

import torch
from torch import Tensor
from torch.amp import GradScaler
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd
from torch.utils._python_dispatch import _disable_current_modes

from gradcheck.backends.global_state import seed_generators
from gradcheck.backends.torch.tensors import using_default_dtype
from gradcheck.backends.torch.twin_precision import WideningMode
from gradcheck.errors import InputError, TargetError
from gradcheck.seeds import make_generator
from gradcheck.training_step.batches import Batch, NotApplicableError, read_batch, to_dtype
from gradcheck.training_step.pieces import ARGUMENTS, Copy, Pieces, call_user, count_arguments, make_copy
from gradcheck.trees import tree_map

Gradients = dict[str, Tensor | None]  # by the name of the parameter
# A float64 twin whose loss is further off is another function.
MAX_TWIN_DIFFERENCE = 1e-3
# The gradient is taken this many times with every number moved by one rounding, to measure the noise.
NOISE_DRAWS = 3


class Experiment:
    """One training step, ready for experiments; nothing here touches the user's own objects.

    Attributes:
        pieces: what the user gave.
        batch: the batch, detached.
        seed: the seed of all random numbers.
        notes: remarks for every report.
        evaluations: how often the loss was evaluated.
    """

    def __init__(self, pieces: Pieces, seed: int) -> None:
        self.pieces, self.seed = pieces, seed
        self.batch = read_batch(tree_map(lambda x: x.detach().clone() if isinstance(x, Tensor) else x, pieces.batch))
        self.notes: list[str] = []
        self.evaluations = 0
        self._needs_widening = True  # whether the twin must turn casts to float32 into casts to float64, which is slow

    # --- copies

    def copy(self, *, double: bool | None = None, plain: bool = False) -> Copy:
        """Return a new copy of the step.

        Args:
            double: whether it computes in float64; None: if the step can.
            plain: whether dropout is off and batch norm uses its running statistics, so that samples do not interact.
        """
        double = self.has_twin if double is None else double
        with self._computing(double):
            self.reseed()
            copied = make_copy(self.pieces, double=double)
        _drop_out_nothing(copied.model)
        for module in copied.model.modules():
            if plain and isinstance(module, _NormBase) and module.track_running_stats:
                module.eval()
        return copied

    def exact_copy(self) -> Copy:
        """Return a copy in the step's own precision, with dropout as it is."""
        self.reseed()
        return make_copy(self.pieces)

    @functools.cached_property
    def has_twin(self) -> bool:
        """Whether the step also runs in float64, and computes the same loss there."""
        native = self.evaluate_loss(self.copy(double=False), self.batch.tree)
        twin = self._evaluate_twin()
        self._needs_widening = False
        self._needs_widening = not torch.equal(self._evaluate_twin(), twin)  # it asks for float32 itself somewhere
        low = max(_precision(p.dtype) for p in [*self.copy(double=False).parameters.values(), native])
        allowed = max(MAX_TWIN_DIFFERENCE, 8 * low) * max(abs(native.item()), 1e-3)
        agrees = abs(native.item() - twin.item()) <= allowed or not math.isfinite(native.item())
        return bool(agrees) or self._refuse_twin()

    def _refuse_twin(self) -> bool:
        self.notes.append("the step does not run in float64: differences are judged in its own precision")
        return False

    def _evaluate_twin(self) -> Tensor:
        try:
            return self.evaluate_loss(self.copy(double=True), self.batch.tree)
        except (TargetError, InputError):
            return torch.tensor(math.nan)

    @contextmanager
    def _computing(self, double: bool, *, widening: bool | None = None) -> Iterator[None]:
        """Let code that asks for float32 compute in float64, as the twin does."""
        widening = self._needs_widening if widening is None else widening
        with (
            using_default_dtype(torch.float64) if double else nullcontext(),
            WideningMode() if double and widening else nullcontext(),  # type: ignore[no-untyped-call]
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            yield

    @contextmanager
    def evaluating(self, copied: Copy, tree: Any, *, widening: bool | None = None) -> Iterator[Any]:
        """Compute in the precision of a copy: yield a batch in this precision, and let casts to float32 lead there."""
        with self._computing(copied.is_double, widening=widening):
            yield to_dtype(tree, torch.float64) if copied.is_double else tree

    def reseed(self, offset: int = 0) -> None:
        """Seed every global random generator."""
        seed_generators(make_generator(self.seed, "training step", offset))

    # --- evaluations

    def evaluate_loss(self, copied: Copy, batch: Any, *, offset: int = 0) -> Tensor:
        """Evaluate the loss of a copy, after seeding.

        Raises:
            TargetError: if the loss raises.
            InputError: if it returns no scalar.
        """
        self.evaluations += 1
        self.reseed(offset)
        with self.evaluating(copied, batch) as tree:
            return _require_scalar(call_user("the loss", self.pieces.loss, copied.model, tree))

    def evaluate_gradient(self, copied: Copy, batch: Any, *, factor: float = 1.0) -> Gradients:
        """Evaluate the gradient of a factor times the loss, as `backward` leaves it in `.grad`."""
        clear_gradients(copied)
        loss = self.evaluate_loss(copied, batch)
        if loss.requires_grad:
            with self.evaluating(copied, None):
                call_user("the backward of the loss", (factor * loss).backward)
        return read_gradients(copied)

    def take_step(self, copied: Copy, scale: float | None = None) -> None:
        """Take the user's training step, or a plain one: zero, loss, backward, step of the optimiser and the scheduler.

        The user's step may ask for float32 where the loss does not, so that in the twin all of its casts lead to float64.

        Args:
            copied: what takes the step.
            scale: of the loss scaler that the user's step gets; None: it scales nothing.
        """
        step = self.pieces.training_step
        with self.evaluating(copied, self.batch.tree, widening=True if step else None) as tree:
            if step is not None:
                scaler = _Scaler(self.device.type, init_scale=scale or 1.0, enabled=scale is not None)
                arguments = (copied.model, tree, copied.optimizer, scaler)
                call_user("the training step", step, *arguments[: self.step_arity])
            else:
                call_user("the optimizer", _step_optimizers, copied, lambda: _compute_loss(self.pieces, copied, tree))
            if isinstance(copied.scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
                copied.scheduler.step(1.0)  # any metric: the state that is saved counts the steps without progress
            elif copied.scheduler is not None:
                call_user("the scheduler", copied.scheduler.step)

    @property
    def step_arity(self) -> int:
        """The number of arguments of the user's training step: model, batch, optimiser, and perhaps a loss scaler."""
        return count_arguments(self.pieces.training_step, ARGUMENTS["training_step"]) or 0 if self.pieces.training_step else 0

    # --- facts of the step

    @functools.cached_property
    def device(self) -> torch.device:
        """Where the step computes."""
        return next(iter(self.exact_copy().parameters.values())).device

    @functools.cached_property
    def eps(self) -> float:
        """The relative spacing of floats in which differences are judged."""
        if self.has_twin:
            return _precision(torch.float64)
        return max(_precision(p.dtype) for p in self.copy().parameters.values())

    @functools.cached_property
    def is_random(self) -> bool:
        """Whether the loss draws random numbers although every dropout layer is off."""
        copied = self.copy()
        first, second = (self.evaluate_loss(copied, self.batch.tree, offset=k).item() for k in (0, 1))
        return math.isfinite(first) and not math.isclose(first, second, rel_tol=1e3 * self.eps)

    def require_samples(self, count: int, part: int = 1) -> None:
        """Raise if the batch has too few samples, or the loss is random or does not run on some of them.

        Args:
            count: the samples that a law needs.
            part: the number of samples on which the loss must run.

        Raises:
            NotApplicableError: with the reason.
        """
        self.batch.require_samples(count)
        samples = "one sample" if part == 1 else f"{part} samples"
        try:
            self.evaluate_loss(self.copy(plain=True), self.batch.take(range(part)))
        except (TargetError, InputError) as error:
            raise NotApplicableError(f"the batch cannot be split: with {samples} of it, {error}") from None
        if self.is_random:
            raise NotApplicableError("the loss draws random numbers that depend on the batch; pass them in the batch")

    @functools.cached_property
    def gradient(self) -> Gradients:
        """The gradient of the whole batch, in float64 if the step can."""
        try:
            return self.evaluate_gradient(self.copy(), self.batch.tree)
        except TargetError:
            if not self.has_twin:
                raise
            self.has_twin = self._refuse_twin()
            return self.evaluate_gradient(self.copy(), self.batch.tree)

    @functools.cached_property
    def nothing_to_compare(self) -> str:
        """Why laws of the gradient say nothing here: there is none, or it is zero or NaN; '' if they do."""
        size = math.hypot(*map(norm, self.gradient.values()))
        reason = "the gradient is NaN or infinite" if not math.isfinite(size) else "" if size else "the gradient is zero"
        reason = reason if any(values is not None for values in self.gradient.values()) else "no parameter has a gradient"
        return reason and f"{reason}, so that there is nothing to compare"

    @functools.cached_property
    def untrained(self) -> list[str]:
        """The parameters that this step leaves to another one, as a GAN's discriminator step leaves the generator.

        The loss gives them no gradient, and no optimiser of the step holds them, or the training step moves them otherwise.
        """
        copied = self.exact_copy()
        held = {id(p) for optimizer in copied.optimizers for group in optimizer.param_groups for p in group["params"]}
        before = {name: (p, p.detach().clone()) for name, p in copied.parameters.items() if self.gradient.get(name, p) is None}
        if self.pieces.training_step is not None and before:
            self.take_step(copied)
        return [name for name, (p, old) in before.items() if id(p) not in held or not torch.equal(p.detach(), old)]

    @functools.cached_property
    def noise(self) -> dict[str, float]:
        """How far rounding moves the gradient of each parameter."""
        return self.measure_noise(self.copy, self.batch, self.gradient)

    def measure_noise(self, make: Callable[[], Copy], batch: Batch, gradient: Gradients) -> dict[str, float]:
        """Measure how far rounding moves the gradient of each parameter.

        Every parameter and every number of the batch moves by one rounding up or down, as if all sums were taken in another
        order, and the gradient is evaluated again.
        """
        noise = dict.fromkeys(gradient, 0.0)
        for draw in range(NOISE_DRAWS):
            copied, generator = make(), torch.Generator().manual_seed(draw)
            with torch.no_grad():
                for parameter in copied.parameters.values():
                    parameter.copy_(_round_otherwise(parameter, self.eps, generator))
            tree = to_dtype(batch.tree, torch.float64) if copied.is_double else batch.tree
            tree = tree_map(functools.partial(_round_otherwise, eps=self.eps, generator=generator), tree)
            moved = self.evaluate_gradient(copied, tree)
            for name, values in gradient.items():
                noise[name] = max(noise[name], norm(difference(moved[name], values)))
        return noise


def _outside_modes(method: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        with _disable_current_modes():
            return method(*args, **kwargs)

    return call


class _Scaler(GradScaler):
    """A loss scaler that computes in float32, as its kernels require, in a step where float32 becomes float64."""

    scale = _outside_modes(GradScaler.scale)
    unscale_ = _outside_modes(GradScaler.unscale_)
    step = _outside_modes(GradScaler.step)
    update = _outside_modes(GradScaler.update)


def _step_optimizers(copied: Copy, closure: Callable[[], Tensor]) -> None:
    """Take a step of each optimiser; one that evaluates the loss several times, as LBFGS does, gets the closure."""
    closure()
    for optimizer in copied.optimizers:
        parameter = inspect.signature(optimizer.step).parameters.get("closure")
        needs_closure = parameter is not None and parameter.default is inspect.Parameter.empty
        optimizer.step(*[closure] * needs_closure)


def _compute_loss(pieces: Pieces, copied: Copy, batch: Any) -> Tensor:
    """Zero the gradients, evaluate the loss and its backward: the closure that an optimiser's step takes."""
    clear_gradients(copied)
    with torch.enable_grad():
        loss = _require_scalar(call_user("the loss", pieces.loss, copied.model, batch))
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]
    return loss


def _require_scalar(loss: Any) -> Tensor:
    if isinstance(loss, Tensor) and loss.numel() == 1 and loss.is_floating_point():
        return loss.reshape(())
    got = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else f"a {type(loss).__name__}"
    raise InputError(f"the loss returned {got}: expected a scalar tensor, such as the mean or the sum of the samples' losses")


def _drop_out_nothing(model: torch.nn.Module) -> None:
    """Switch dropout off: its layers, and the numbers called after it that other layers pass on."""
    for module in model.modules():
        if isinstance(module, _DropoutNd):
            module.p = 0.0
        for name, value in vars(module).items():
            if "dropout" in name and isinstance(value, float):
                setattr(module, name, 0.0)


def _round_otherwise(x: Any, eps: float, generator: torch.Generator) -> Any:
    """Move each number of a floating tensor by one rounding, up or down."""
    if not (isinstance(x, Tensor) and x.is_floating_point()):
        return x
    signs = torch.randint(0, 2, x.shape, generator=generator).to(x) * 2 - 1
    return x.detach() * (1 + eps * signs)


def _precision(dtype: torch.dtype) -> float:
    return float(torch.finfo(dtype).eps)


def clear_gradients(copied: Copy) -> None:
    """Set every gradient to None."""
    for parameter in copied.model.parameters():
        parameter.grad = None
    for optimizer in copied.optimizers:
        with suppress(Exception):
            optimizer.zero_grad(set_to_none=True)


def read_gradients(copied: Copy) -> Gradients:
    """Return copies of the gradients of the trainable parameters."""
    return {n: None if p.grad is None else p.grad.detach().clone() for n, p in copied.parameters.items() if p.requires_grad}


def norm(x: Tensor | None) -> float:
    """Return the Euclidean norm of a gradient; 0 for None."""
    if x is None:
        return 0.0
    return float(
        torch.linalg.vector_norm(x.to_dense() if x.is_sparse else x, dtype=torch.float64 if x.is_floating_point() else None)
    )


def difference(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    """Subtract two gradients; None counts as zero."""
    if a is None or b is None:
        return b if a is None else a
    return a.double() - b.double()
