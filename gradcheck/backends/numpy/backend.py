"""The NumPy backend."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from gradcheck.backends.numpy.bind import bind
from gradcheck.backends.program import Program
from gradcheck.backends.stateless import StatelessBackend
from gradcheck.errors import InputError
from gradcheck.targets.case import Case
from gradcheck.targets.signature import Inputs

if TYPE_CHECKING:
    from gradcheck.backends.backend import Backend


class NumpyBackend(StatelessBackend):
    """Functions on NumPy arrays. They hold no state, and compute on the host; see `Backend` for each method."""

    def bind(self, case: Case, target: Callable[..., Any], inputs: Inputs) -> Program:
        """Bind a function on NumPy arrays, or on arrays of another namespace of the array API."""
        return bind(case, target, inputs)

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


BACKEND: Backend = NumpyBackend()
