"""The pieces of a training step as the user gives them, and copies of them to experiment on."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import torch

from gradcheck.backends.torch.module_state import find_tensor_attributes, replace_tensors, restoring
from gradcheck.errors import InputError, TargetError
from gradcheck.tracebacks import format_user_frames, summarise_error

# Without an optimiser of the user, steps are those of gradient descent at this learning rate.
DEFAULT_RATE = 1e-2


@dataclass(frozen=True)
class Pieces:
    """What a training step is made of; `gradcheck.step` describes each piece."""

    model: Any
    loss: Callable[..., Any]
    batch: Any
    optimizer: Any = None
    scheduler: Any = None
    accumulate: Callable[..., Any] | None = None
    training_step: Callable[..., Any] | None = None
    laws: tuple[str, ...] | None = None


def read_pieces(function: Callable[[], Any], overrides: Mapping[str, Any]) -> Pieces:
    """Call a function that returns the pieces of a step as a dictionary.

    Raises:
        InputError: if it returns anything else.
    """
    returned = call_user("the function that returns the pieces of the step", function)
    names = [field.name for field in fields(Pieces)]
    if not isinstance(returned, Mapping):
        raise InputError(
            f"the function returned a {type(returned).__name__}: expected the arguments of gradcheck.step as a dictionary, "
            "as in dict(model=model, loss=loss, batch=batch)"
        )
    unknown, missing = sorted(returned.keys() - set(names)), sorted({"model", "loss", "batch"} - returned.keys())
    if unknown or missing:
        problem = f"has no {missing[0]}" if missing else f"has an unknown key {unknown[0]!r}"
        raise InputError(f"the dictionary of the step {problem}; its keys are {', '.join(names)}")
    return Pieces(**{**returned, **overrides})


@dataclass(frozen=True)
class Copy:
    """A copy of model, optimiser and scheduler, bound to each other."""

    model: torch.nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: Any

    @property
    def parameters(self) -> dict[str, torch.nn.Parameter]:
        """The parameters by name; a tied one appears once."""
        return dict(self.model.named_parameters())


def make_copy(pieces: Pieces, *, double: bool = False) -> Copy:
    """Copy the pieces of a step.

    Args:
        pieces: what to copy.
        double: whether parameters, buffers, other tensors and the optimiser's state become float64.

    Raises:
        InputError: if a piece cannot be copied, or is not what it must be.
    """
    for name in ("loss", "accumulate", "training_step"):
        function = getattr(pieces, name)
        if function is not None and not callable(function):
            raise InputError(f"{name}: expected a function, got a {type(function).__name__}")
    is_factory = not isinstance(pieces.model, torch.nn.Module)
    bound = [piece for piece in (pieces.optimizer, pieces.scheduler) if piece is not None and not callable(piece)]
    if is_factory and bound:
        raise InputError("the model is a function that makes one: give an optimizer as a function, too, as torch.optim.Adam")
    try:
        model, optimizer, scheduler = (
            (_call_factory(pieces.model), pieces.optimizer, pieces.scheduler) if is_factory else _copy_together(pieces)
        )
    except (InputError, TargetError):
        raise
    except Exception as error:
        raise InputError(
            f"the step cannot be copied: {summarise_error(error, 200)}; pass a function that makes the model, "
            "as in gradcheck.step(lambda: Model(), loss, batch)"
        ) from None
    if double:
        _widen_model(model)
    optimizer = _make_optimizer(optimizer, model)
    if double:
        _widen_state(optimizer)
    scheduler = scheduler(optimizer) if callable(scheduler) else scheduler
    return Copy(model, optimizer, scheduler)


def _copy_together(pieces: Pieces) -> tuple[Any, Any, Any]:
    """Copy model, optimiser and scheduler; PyTorch's copy of an optimiser leaves out what its class adds, as LBFGS does."""
    memo: dict[int, Any] = {}
    copied = copy.deepcopy((pieces.model, pieces.optimizer, pieces.scheduler), memo)
    if isinstance(pieces.optimizer, torch.optim.Optimizer):
        for name, value in vars(pieces.optimizer).items():
            if name not in vars(copied[1]) and not callable(value):
                setattr(copied[1], name, copy.deepcopy(value, memo))
    return copied


def _call_factory(factory: Callable[[], Any]) -> torch.nn.Module:
    if not callable(factory):
        raise InputError(f"model={factory!r}: expected an nn.Module or a function that makes one")
    torch.manual_seed(0)
    model = call_user("the function that makes the model", factory)
    if not isinstance(model, torch.nn.Module):
        raise InputError(f"the function that makes the model returned a {type(model).__name__}: expected an nn.Module")
    return model


def _make_optimizer(optimizer: Any, model: torch.nn.Module) -> torch.optim.Optimizer:
    """Return the optimiser of a copy: the user's, what the user's function makes, or gradient descent."""
    if optimizer is None:
        trainable = [p for p in model.parameters() if p.requires_grad]
        if not trainable:
            raise InputError("the model has no parameter with requires_grad=True: there is nothing to train")
        return torch.optim.SGD(trainable, lr=DEFAULT_RATE)
    if not callable(optimizer):
        return _require_optimizer(optimizer)
    takes_model = next(iter(inspect.signature(optimizer).parameters), "") == "model"
    argument = model if takes_model else model.parameters()
    return _require_optimizer(call_user("the function that makes the optimizer", optimizer, argument))


def _require_optimizer(optimizer: Any) -> torch.optim.Optimizer:
    if not (hasattr(optimizer, "param_groups") and hasattr(optimizer, "step")):
        raise InputError(f"optimizer: expected a torch.optim.Optimizer or a function that makes one, got {optimizer!r:.80}")
    checked: torch.optim.Optimizer = optimizer
    return checked


def _widen_model(model: torch.nn.Module) -> None:
    model.double()
    for attribute in find_tensor_attributes(model):
        replace_tensors(attribute, {id(t): t.double() for t in attribute.tensors if t.is_floating_point()})


def _widen_state(optimizer: torch.optim.Optimizer) -> None:
    for state in optimizer.state.values():
        for name, value in state.items():
            if isinstance(value, torch.Tensor) and value.is_floating_point() and name != "step":
                state[name] = value.double()


def call_user(what: str, function: Callable[..., Any], *args: Any) -> Any:
    """Call code of the user.

    Raises:
        TargetError: if it raises; the message begins with `what`.
    """
    try:
        return function(*args)
    except (TargetError, InputError):
        raise
    except Exception as error:
        raise TargetError(f"{what} raised {summarise_error(error)}", format_user_frames(error)) from error


@contextmanager
def leaving_intact(pieces: Pieces) -> Iterator[None]:
    """Restore the user's model and its gradients on exit: a loss may use it instead of the copy that it is given."""
    model = pieces.model
    if not isinstance(model, torch.nn.Module):
        yield
        return
    gradients = [(p, p.grad, None if p.grad is None else p.grad.detach().clone()) for p in model.parameters()]
    with restoring(model):
        try:
            yield
        finally:
            for parameter, gradient, values in gradients:
                if gradient is not None and values is not None and not torch.equal(gradient, values):
                    gradient.detach().copy_(values)
                parameter.grad = gradient
