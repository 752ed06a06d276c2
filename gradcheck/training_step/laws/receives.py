"""Law `receives`: every trainable parameter receives a gradient and moves, and is in the optimiser; frozen ones do neither."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Sequence

import torch

from gradcheck.results import Row, Verdict
from gradcheck.training_step.choices import Choices
from gradcheck.training_step.experiment import Experiment, Gradients, clear_gradients, norm, read_gradients
from gradcheck.training_step.graph_cut import Trace, explain_missing_gradient, tracing
from gradcheck.training_step.judge import SHOWN_ROWS, Law
from gradcheck.training_step.pieces import Copy, call_user

NAME = "receives"
EXTRA_STEPS = 3  # after which a parameter with a zero gradient, such as LoRA's A while B = 0, must receive one
NO_INPUT_GRADIENT = "None of the inputs have requires_grad=True"


def check_law(experiment: Experiment) -> Law:
    """Follow gradients and steps on a copy, in the order in which a cause explains the others."""
    copied = experiment.exact_copy()
    gradients, trace, warned = _trace_gradients(experiment, copied)
    if all(values is None for values in gradients.values()):
        cause = f"; {warned}" if warned else ": does the loss use the model that it is given, and not another one?"
        return _fail(f"no parameter receives a gradient{cause}", list(gradients))
    trainable = [name for name in gradients if name not in experiment.untrained]
    wrong = [name for name in trainable if gradients[name] is not None and not _is_finite(gradients, name)]
    if wrong:
        return _fail("the gradient is NaN or infinite", wrong)
    missing = [name for name in trainable if gradients[name] is None]
    if missing:
        explain = functools.partial(explain_missing_gradient, trace, copied.model)
        return _report(copied, trace, gradients, missing, lambda name: f"disconnected, no gradient: {warned or explain(name)}")
    return _check_optimizer(experiment, copied, trainable) or _check_moves(experiment, copied, gradients, trainable)


def _trace_gradients(experiment: Experiment, copied: Copy) -> tuple[Gradients, Trace, str]:
    """Return the gradients, the calls of the modules, and what PyTorch warned of inputs of a checkpoint."""
    clear_gradients(copied)
    experiment.reseed()
    with warnings.catch_warnings(record=True) as caught, tracing(copied.model) as trace:
        warnings.simplefilter("always")
        with Choices() as made:
            loss = call_user("the loss", experiment.pieces.loss, copied.model, experiment.batch.tree)
        trace.is_routed = any(chosen.dtype is torch.long for _, chosen in made.made)
        if loss.requires_grad:
            trace.follow(loss)
            call_user("the backward of the loss", loss.backward)
    is_checkpoint = any(NO_INPUT_GRADIENT in str(warning.message) for warning in caught)
    advice = (
        "checkpoint(use_reentrant=True) is given no input that requires a gradient: use_reentrant=False keeps the gradients"
    )
    return read_gradients(copied), trace, advice if is_checkpoint else ""


def _is_finite(gradients: Gradients, name: str) -> bool:
    return math.isfinite(norm(gradients[name]))


def _fail(message: str, names: Sequence[str], value: float = math.nan) -> Law:
    rows = tuple(Row(name, (value, math.nan)) for name in names[:SHOWN_ROWS])
    return Law(NAME, Verdict.FAIL, f"{_and_more(names)}: {message}", value, math.nan, names[0], rows)


def _report(copied: Copy, trace: Trace, gradients: Gradients, names: list[str], cause: Callable[[str], str]) -> Law:
    """Report parameters without a gradient: FAIL, or INCONCLUSIVE if the batch leaves out all of their modules.

    Args:
        copied: the copy that was traced.
        trace: its forward.
        gradients: what its parameters received.
        names: the parameters.
        cause: returns the cause for the first of those that are not left out.
    """
    cut = [name for name in names if not _is_left_out(copied, trace, gradients, name)]
    if cut:
        return _fail(cause(cut[0]), cut, 0.0)
    message = f"{names[0]} and {len(names) - 1} more are not reached by this batch, but their siblings are: pass a larger batch"
    return Law(NAME, Verdict.INCONCLUSIVE, message, worst=names[0])


def _is_left_out(copied: Copy, trace: Trace, gradients: Gradients, name: str) -> bool:
    """Whether a parameter belongs to one of a list of equal modules that was not called or routed to, and others were."""
    path = name.rpartition(".")[0]
    while path:
        parent, _, _ = path.rpartition(".")
        siblings = copied.model.get_submodule(parent)
        is_idle = path not in trace.calls or (trace.is_routed and gradients[name] is not None)
        if isinstance(siblings, torch.nn.ModuleList) and is_idle:
            kind = type(copied.model.get_submodule(path))
            equals = tuple(f"{parent}.{key}.".lstrip(".") for key, other in siblings.named_children() if type(other) is kind)
            return any(norm(values) for other, values in gradients.items() if other.startswith(equals))
        path = parent
    return False


def _check_optimizer(experiment: Experiment, copied: Copy, trainable: list[str]) -> Law | None:
    """Compare the optimiser's parameters with the model's."""
    if experiment.pieces.optimizer is None:
        return None
    held = {id(p) for optimizer in copied.optimizers for group in optimizer.param_groups for p in group["params"]}
    known = {id(p) for p in copied.model.parameters()}
    if not held & known:
        return Law(
            NAME, Verdict.FAIL, "the optimizer holds no parameter of this model: make it after the model, from its parameters"
        )
    missing = [name for name in trainable if id(copied.parameters[name]) not in held]
    return (
        _fail(
            "receives a gradient, but is not in the optimizer; if another step trains it, freeze it: requires_grad_(False)",
            missing,
        )
        if missing
        else None
    )


def _check_moves(experiment: Experiment, copied: Copy, gradients: Gradients, trainable: list[str]) -> Law:
    """Take steps, and see what moves and which zero gradients stay zero."""
    zero = [name for name in trainable if not norm(gradients[name])]
    before = {name: p.detach().clone() for name, p in copied.parameters.items()}
    for _ in range(EXTRA_STEPS):
        experiment.take_step(copied)
    moved = {name for name, p in copied.parameters.items() if not torch.equal(p.detach(), before[name])}
    frozen = [name for name, p in copied.parameters.items() if not p.requires_grad and name in moved]
    if frozen:
        return _fail("is frozen, but moves in a step: weight decay, or code that writes to it?", frozen)
    later, trace, _ = _trace_gradients(experiment, copied)
    dead = [name for name in zero if not norm(later[name])]
    if dead:
        cause = f"its gradient is zero and stays zero for {EXTRA_STEPS} steps: multiplied by zero, masked, or a dead unit?"
        return _report(copied, trace, later, dead, lambda _: cause)
    groups = [group for optimizer in copied.optimizers for group in optimizer.param_groups]
    rates = {id(p): float(group.get("lr", 1.0)) for group in groups for p in group["params"]}
    still = [name for name in trainable if name not in moved and rates.get(id(copied.parameters[name]))]
    if still:
        low = copied.parameters[still[0]].dtype in (torch.bfloat16, torch.float16)
        cause = (
            "the step is below the spacing of its dtype: keep a float32 copy" if low else "the optimizer leaves it where it is"
        )
        return _fail(f"receives a gradient, but does not move in {EXTRA_STEPS} steps: {cause}", still)
    woken = f"; {zero[0]} and {len(zero) - 1} more have a zero gradient here, and receive one after a step" if zero else ""
    if not any(rates.values()):
        woken += "; the learning rate is zero here, so that nothing moves"
    left = [name for name in experiment.untrained if name not in moved]
    if left:
        message = (
            f"{_and_more(left)} receives no gradient and is in no optimizer: if another step trains it, freeze it for this one"
            " (requires_grad_(False)), or pass the list of all optimizers"
        )
        return Law(NAME, Verdict.INCONCLUSIVE, message, worst=left[0])
    return Law(NAME, Verdict.PASS, f"all {len(trainable)} trainable parameters receive a gradient{woken}")


def _and_more(names: Sequence[str]) -> str:
    """Name the first of some parameters, and count the others."""
    return names[0] + (f" (and {len(names) - 1} more)" if len(names) > 1 else "")
