"""The pieces of a training step as the user gives them, and copies of them to experiment on."""

from __future__ import annotations

import copy
import difflib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch.nn.parameter import is_lazy

from gradcheck.backends.torch.module_state import find_tensor_attributes, replace_tensors, restoring
from gradcheck.errors import InputError, TargetError
from gradcheck.tracebacks import format_user_frames, summarise_error

# Without an optimiser of the user, steps are those of gradient descent at this learning rate.
DEFAULT_RATE = 1e-2
# The arguments of the user's functions, in all forms that may be written.
ARGUMENTS = {
    "loss": (("model", "batch"),),
    "accumulate": (("model", "loss", "batches"),),
    "training_step": (("model", "batch", "optimizer", "scaler"), ("model", "batch", "optimizer")),
}


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
    unknown, missing = sorted(returned.keys() - set(names), key=str), sorted({"model", "loss", "batch"} - returned.keys())
    if unknown or missing:
        near = difflib.get_close_matches(str(unknown[0]), names, 1) if unknown else []
        problem = f"has an unknown key {unknown[0]!r}" if unknown else f"has no {missing[0]}"
        problem += f" (did you mean {near[0]}?)" if near else ""
        raise InputError(f"the dictionary of the step {problem}; its keys are {', '.join(names)}")
    return Pieces(**{**returned, **overrides})


@dataclass(frozen=True)
class Copy:
    """A copy of model, optimiser and scheduler, bound to each other.

    Attributes:
        model: the model.
        optimizer: the optimiser, or the list of optimisers that the user gave.
        scheduler: the scheduler, or None.
        is_double: whether the copy computes in float64.
    """

    model: torch.nn.Module
    optimizer: Any
    scheduler: Any
    is_double: bool

    @property
    def parameters(self) -> dict[str, torch.nn.Parameter]:
        """The parameters by name; a tied one appears once."""
        return dict(self.model.named_parameters())

    @property
    def optimizers(self) -> list[Any]:
        """The optimisers; most steps have one."""
        return list_optimizers(self.optimizer)


def list_optimizers(optimizer: Any) -> list[Any]:
    """Return the optimisers of a step as a list."""
    return list(optimizer) if isinstance(optimizer, list | tuple) else [optimizer]


def require_pieces(pieces: Pieces) -> None:
    """Refuse pieces that no step can be made of, before anything runs.

    Raises:
        InputError: with what was expected.
    """
    model, batch = pieces.model, pieces.batch
    if isinstance(batch, torch.utils.data.DataLoader) or inspect.isgenerator(batch):
        raise InputError(f"batch: expected one batch, got a {type(batch).__name__}; pass next(iter(loader))")
    for name, takes in ARGUMENTS.items():
        function = getattr(pieces, name)
        if function is not None and not callable(function):
            raise InputError(f"{name}: expected a function, got a {type(function).__name__}")
        if function is not None and count_arguments(function, takes) is None:
            forms = " or ".join(f"{name}({', '.join(form)})" for form in takes[::-1])
            raise InputError(f"{name}{inspect.signature(function)}: expected {forms}")
    bound = [piece for piece in (*list_optimizers(pieces.optimizer), pieces.scheduler) if piece and not callable(piece)]
    if isinstance(model, torch.nn.Module):
        _refuse_lazy(model)
    elif bound:
        raise InputError("the model is a function that makes one: give an optimizer as a function, too, as torch.optim.Adam")


def count_arguments(function: Callable[..., Any], forms: Sequence[Sequence[str]]) -> int | None:
    """Return how many arguments a function takes: those of the first form that fits; None if none does.

    A last parameter with a default value counts only if it is called as in the form.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a builtin does not say
        return len(forms[-1])
    for form in forms:
        last = list(signature.parameters.values())[len(form) - 1 : len(form)]
        with suppress(TypeError):
            signature.bind(*form)
            if form is forms[-1] or any(p.default is p.empty or p.name == form[-1] for p in last):
                return len(form)
    return None


def make_copy(pieces: Pieces, *, double: bool = False) -> Copy:
    """Copy the pieces of a step.

    Args:
        pieces: what to copy.
        double: whether parameters, buffers, other tensors and the optimiser's state become float64.

    Raises:
        InputError: if a piece cannot be copied, or is not what it must be.
    """
    is_factory = not isinstance(pieces.model, torch.nn.Module)
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
        _widen_state(list_optimizers(optimizer))
    scheduler = call_user("the function that makes the scheduler", scheduler, optimizer) if callable(scheduler) else scheduler
    _require_scheduler(scheduler, list_optimizers(optimizer))
    return Copy(model, optimizer, scheduler, double)


def _copy_together(pieces: Pieces) -> tuple[Any, Any, Any]:
    """Copy model, optimiser and scheduler; PyTorch's copy of an optimiser leaves out what its class adds, as LBFGS does."""
    memo: dict[int, Any] = {}
    copied = copy.deepcopy((pieces.model, pieces.optimizer, pieces.scheduler), memo)
    for original, new in zip(list_optimizers(pieces.optimizer), list_optimizers(copied[1]), strict=True):
        if isinstance(original, torch.optim.Optimizer):
            for name, value in vars(original).items():
                if name not in vars(new) and not callable(value):
                    setattr(new, name, copy.deepcopy(value, memo))
    return copied


def _call_factory(factory: Callable[[], Any]) -> torch.nn.Module:
    if not callable(factory):
        raise InputError(f"model={factory!r:.80}: expected an nn.Module or a function that makes one")
    torch.manual_seed(0)
    model = call_user("the function that makes the model", factory)
    if not isinstance(model, torch.nn.Module):
        raise InputError(f"the function that makes the model returned a {type(model).__name__}: expected an nn.Module")
    _refuse_lazy(model)
    return model


def _refuse_lazy(model: torch.nn.Module) -> None:
    lazy = next((name for name, p in model.named_parameters() if is_lazy(p)), None)
    if lazy:
        raise InputError(f"the model is lazy, and the shape of {lazy} is not known yet: run it once on a batch before")


def _make_optimizer(optimizer: Any, model: torch.nn.Module) -> Any:
    """Return the optimiser of a copy: the user's, what the user's function makes, or gradient descent."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    if not trainable:
        raise InputError("the model has no parameter with requires_grad=True: there is nothing to train")
    if optimizer is None:
        return torch.optim.SGD(trainable, lr=DEFAULT_RATE)
    if callable(optimizer):
        takes_model = next(iter(inspect.signature(optimizer).parameters), "") == "model"
        argument = model if takes_model else model.parameters()
        optimizer = call_user("the function that makes the optimizer", optimizer, argument)
    for made in list_optimizers(optimizer):
        if not all(hasattr(made, name) for name in ("param_groups", "step", "state", "state_dict")):
            raise InputError(f"optimizer: expected a torch.optim.Optimizer or a function that makes one, got {made!r:.80}")
    return optimizer


def _require_scheduler(scheduler: Any, optimizers: Sequence[Any]) -> None:
    if scheduler is None:
        return
    if not hasattr(scheduler, "step"):
        raise InputError(f"scheduler: expected one scheduler or a function that makes one, got {scheduler!r:.80}")
    bound = getattr(scheduler, "optimizer", None)
    if bound is not None and not any(bound is optimizer for optimizer in optimizers):
        raise InputError("scheduler: it sets the learning rate of another optimizer than optimizer=; pass that one, too")


def _widen_model(model: torch.nn.Module) -> None:
    model.double()
    for attribute in find_tensor_attributes(model):
        replace_tensors(attribute, {id(t): t.double() for t in attribute.tensors if t.is_floating_point()})


def _widen_state(optimizers: Sequence[Any]) -> None:
    for state in [state for optimizer in optimizers for state in optimizer.state.values()]:
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
