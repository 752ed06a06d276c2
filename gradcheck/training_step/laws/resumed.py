"""Law `resumed`: a step whose state is saved and loaded continues bit for bit."""

from __future__ import annotations

import io
from typing import Any

import torch
from torch import Tensor

from gradcheck.backends.global_state import restore, snapshot
from gradcheck.results import Verdict
from gradcheck.tracebacks import summarise_error
from gradcheck.training_step.experiment import Experiment
from gradcheck.training_step.judge import Law
from gradcheck.training_step.pieces import Copy
from gradcheck.trees import flatten

NAME = "resumed"
BEFORE, AFTER = 2, 2  # steps before the state is saved, and after it is loaded
MODULE_ATTRIBUTES = ("_parameters", "_buffers", "_modules")


def check_law(experiment: Experiment) -> Law:
    """Take steps, save and load the state into a new copy, and take the same steps with both."""
    first, again = _start(experiment), _start(experiment)
    if _find_difference(first, again):
        message = f"two runs from the same state differ in {_find_difference(first, again)}: nondeterministic kernels"
        return Law(NAME, Verdict.INCONCLUSIVE, message)
    states = snapshot()
    try:
        stream = io.BytesIO()
        torch.save(_collect_state(first), stream)
        stream.seek(0)
        state = torch.load(stream, weights_only=False)
    except Exception as error:
        return Law(NAME, Verdict.FAIL, f"the state cannot be saved and loaded: {summarise_error(error, 200)}")
    resumed = experiment.exact_copy()
    unsaved = _find_unsaved(resumed, first)
    try:
        _load_state(resumed, state)
    except Exception as error:
        return Law(NAME, Verdict.FAIL, f"the state cannot be loaded into a new copy: {summarise_error(error, 200)}")
    for copied in (first, resumed):
        restore(states)
        for _ in range(AFTER):
            experiment.take_step(copied)
    worst = _find_difference(first, resumed)
    if not worst:
        return Law(NAME, Verdict.PASS, f"{AFTER} steps after loading are equal bit for bit", 0.0, 0.0)
    a, b = _collect_tensors(first)[worst], _collect_tensors(resumed)[worst]
    value = (
        float((a.double() - b.double()).norm() / max(float(a.double().norm()), 1e-300)) if a.shape == b.shape else float("inf")
    )
    cause = f"; not in any state_dict: {', '.join(unsaved[:3])}" if unsaved else ""
    return Law(NAME, Verdict.FAIL, f"after loading, {worst} takes another course{cause}", value, 0.0, worst)


def _start(experiment: Experiment) -> Copy:
    copied = experiment.exact_copy()
    experiment.reseed()
    for _ in range(BEFORE):
        experiment.take_step(copied)
    return copied


def _list_parts(copied: Copy) -> dict[str, Any]:
    parts = {"model": copied.model, **{f"optimizer {k}": o for k, o in enumerate(copied.optimizers)}}
    return parts if copied.scheduler is None else {**parts, "scheduler": copied.scheduler}


def _collect_state(copied: Copy) -> dict[str, Any]:
    return {name: part.state_dict() for name, part in _list_parts(copied).items()}


def _load_state(copied: Copy, state: dict[str, Any]) -> None:
    for name, values in state.items():
        _list_parts(copied)[name].load_state_dict(values)


def _collect_tensors(copied: Copy) -> dict[str, Tensor]:
    return {name: x.detach() for name, x in (*copied.model.named_parameters(), *copied.model.named_buffers())}


def _find_difference(a: Copy, b: Copy) -> str:
    """Return the first parameter or buffer in which two copies differ; '' if there is none."""
    ours, theirs = _collect_tensors(a), _collect_tensors(b)
    return next((name for name, values in ours.items() if not _equal(values, theirs.get(name))), "")


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.shape == b.shape and bool(torch.all((a == b) | ((a != a) & (b != b))))
    return type(a) is type(b) and (not isinstance(a, int | float | str) or a == b)


def _find_unsaved(fresh: Copy, stepped: Copy) -> list[str]:
    """Return the names of numbers and tensors that steps changed and no `state_dict` holds."""
    saved = set(stepped.model.state_dict())
    buffers = dict(fresh.model.named_buffers())
    names = [
        f"{n} (a buffer with persistent=False)"
        for n, x in stepped.model.named_buffers()
        if n not in saved and not _equal(x, buffers.get(n))
    ]
    modules = dict(fresh.model.named_modules())
    holders = [(path, module, modules.get(path)) for path, module in stepped.model.named_modules()]
    optimizers = [("optimizer", after, before) for after, before in zip(stepped.optimizers, fresh.optimizers, strict=True)]
    for path, after, before in [*holders, *optimizers]:
        for name, value in vars(after).items():
            if name in MODULE_ATTRIBUTES or (path == "optimizer" and name in ("state", "param_groups")):
                continue
            new, old = flatten(value).leaves, flatten(vars(before).get(name)).leaves if before is not None else ()
            if len(old) != len(new) or not all(map(_equal, new, old)):
                names.append(f"{path}.{name}".lstrip("."))
    return names
