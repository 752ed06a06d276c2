"""The PyTorch twin of a NumPy model: written once more with tensors, held against the very gradient written for the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import torch

from gradcheck.targets.case import DECLARED, Case, declared_on
from gradcheck.trees import tree_map

T = TypeVar("T", bound=Callable[..., Any])


def twin_of(model: Callable[..., Any]) -> Callable[[T], T]:
    """Declare a function of tensors as twin of a model: its cases, each with its inputs, options and hand-written derivative.

    PyTorch's own derivative of the twin, differences of the twin, and the derivative by hand must then all agree.
    """
    first, *others = declared_on(model)

    def declare(function: T) -> T:
        setattr(function, DECLARED, tuple(_twin(declared, function) for declared in (first, *others)))
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
