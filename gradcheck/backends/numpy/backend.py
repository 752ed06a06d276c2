"""The NumPy backend."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.backends.numpy.bind import bind
from gradcheck.backends.user_code import call_factory
from gradcheck.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from gradcheck.backends.backend import Backend
    from gradcheck.backends.program import Program
    from gradcheck.targets.case import Case
    from gradcheck.targets.signature import Inputs


class NumpyBackend:
    """Functions on NumPy arrays. They hold no state, and compute on the host; see `Backend` for each method."""

    def bind(self, case: Case, target: Callable[..., Any], inputs: Inputs) -> Program:
        """Bind a function on NumPy arrays, or on arrays of another namespace of the array API."""
        return bind(case, target, inputs)

    def construct(self, case: Case, dtype: str, *, seed: int, trial: int) -> Callable[..., Any]:
        """Call the factory, which takes no seed and no dtype."""
        return call_factory(case)

    def default_dtype(self, target: Any) -> str | None:
        """Return None: NumPy code suggests no dtype."""
        return None

    def from_numpy(self, array: NDArray[Any], layout: str | None = None, dtype: str | None = None) -> NDArray[Any]:
        """Return the array itself; refuse sparse layouts and dtypes that NumPy lacks."""
        if dtype is not None:
            raise InputError(f"dtype={dtype!r}: NumPy has no such dtype; float16 is its half precision")
        if layout is not None:
            raise InputError(
                f"layout={layout!r} is for torch targets: NumPy arrays are dense; sparse(...) draws one with zeros"
            )
        return array

    def to_numpy(self, array: Any) -> NDArray[Any]:
        """Return the array, converted if it is of another namespace."""
        return np.asarray(array)

    def move_to_device(self, target: Any, inputs: Inputs, device: str) -> tuple[Any, Inputs]:
        """Refuse: NumPy computes on the host."""
        raise InputError(f"device={device!r} is for torch targets: NumPy computes on the host, JAX where JAX_PLATFORMS says")

    def restoring(self, target: Any) -> AbstractContextManager[None]:
        """Do nothing: arguments are copied for every call."""
        return nullcontext()

    def initialising(self, target: Any, inputs: Inputs, stream: str, *, always: bool) -> AbstractContextManager[None]:
        """Do nothing: functions create no parameters."""
        return nullcontext()


BACKEND: Backend = NumpyBackend()
