"""What the backends share whose targets are functions without state, and whose devices gradcheck does not choose."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.backends.user_code import call_factory
from gradcheck.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from gradcheck.targets.case import Case
    from gradcheck.targets.signature import Inputs


class StatelessBackend:
    """The methods of a backend that are the same for every framework of functions without state; see `Backend` for each."""

    def construct(self, case: Case, dtype: str, *, seed: int, trial: int) -> Callable[..., Any]:
        """Call the factory, which draws what it needs itself and takes no dtype."""
        return call_factory(case)

    def to_numpy(self, array: Any) -> NDArray[Any]:
        """Return the array on the host, converted if it is of another namespace."""
        return np.asarray(array)

    def move_to_device(self, target: Any, inputs: Inputs, device: str) -> tuple[Any, Inputs]:
        """Refuse: NumPy computes on the host, and JAX takes its devices from the environment."""
        raise InputError(f"device={device!r} is for torch targets: NumPy computes on the host, JAX where JAX_PLATFORMS says")

    def restoring(self, target: Any) -> AbstractContextManager[tuple[str, ...]]:
        """Do nothing: NumPy arguments are copied for every call, and JAX arrays cannot be changed."""
        return nullcontext(())

    def initialising(self, target: Any, inputs: Inputs, stream: str, *, always: bool) -> AbstractContextManager[None]:
        """Do nothing: functions create no parameters."""
        return nullcontext()
