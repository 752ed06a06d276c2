"""The PyTorch twin of a NumPy model: written once more with tensors, and compared with the model's hand-written gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import torch

from gradcheck.targets.case import CASES_ATTRIBUTE, Case, get_declared_cases
from gradcheck.trees import tree_map

T = TypeVar("T", bound=Callable[..., Any])


def twin_of(model: Callable[..., Any]) -> Callable[[T], T]:
    """Declare a function of tensors as the twin of a model, with the model's cases: inputs, options, hand-written derivative.

    PyTorch's derivative of the twin, differences of the twin, and the hand-written derivative must then all agree.
    """
    first, *others = get_declared_cases(model)

    def declare(function: T) -> T:
        setattr(function, CASES_ATTRIBUTE, tuple(_twin(declared, function) for declared in (first, *others)))
        return function

    return declare


def _twin(declared: Case, function: Callable[..., Any]) -> Case:
    claims = {kind: _of_tensors(written) for kind, written in declared.claims.items()}
    return replace(declared, fn=function, claims=claims)


def _of_tensors(written: Callable[..., Any]) -> Callable[..., Any]:
    def derivative(*args: Any, **kwargs: Any) -> Any:
        return tree_map(_to_tensor, written(*tree_map(_to_array, args), **tree_map(_to_array, kwargs)))

    return derivative


def _to_array(value: Any) -> Any:
    return value.detach().numpy() if isinstance(value, torch.Tensor) else value


def _to_tensor(value: Any) -> torch.Tensor:
    return torch.as_tensor(np.asarray(value))
