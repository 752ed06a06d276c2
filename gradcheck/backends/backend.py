"""The interface that a framework implements so that its targets can be checked: the only one between it and gradcheck.

To support another framework, write `backends/<name>/backend.py` with a class that has these methods and an instance of it
called `BACKEND`. `bind` is where the work is; `backends/numpy/` is the smallest example.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray

    from gradcheck.backends.program import Program
    from gradcheck.targets.case import Case
    from gradcheck.targets.signature import Inputs


class Backend(Protocol):
    """Evaluates and differentiates the targets of one framework."""

    def bind(self, case: Case, target: Callable[..., Any], inputs: Inputs) -> Program:
        """Bind a target to one draw of its inputs.

        Args:
            case: the declaration: which inputs to differentiate, derivatives written by hand, declared intents.
            target: the function or module to call, already constructed.
            inputs: arrays of this framework and plain values.

        Raises:
            InputError: if nothing is differentiable.
            TargetError: if the target raises at the primal or returns no floating-point array.
        """
        ...

    def construct(self, case: Case, dtype: str, *, seed: int, trial: int) -> Callable[..., Any]:
        """Build the target from the class or factory that the case holds.

        Args:
            case: its `fn` is called with the arguments in `init`.
            dtype: of the parameters, where the framework has them.
            seed: with the case's name and `trial`, seeds what the constructor draws.
            trial: number of the trial.

        Raises:
            TargetError: if the constructor raises or returns something that cannot be called.
        """
        ...

    def default_dtype(self, target: Any) -> str | None:
        """Return the dtype in which inputs are drawn for a target; None if the target suggests none."""
        ...

    def from_numpy(self, array: NDArray[Any], layout: str | None = None, dtype: str | None = None) -> Any:
        """Turn an array that was drawn from a spec into an array of this framework.

        Args:
            array: of any shape; its memory layout is kept.
            layout: a sparse layout such as 'csr', or None for a dense array.
            dtype: a dtype that NumPy lacks, such as 'bfloat16', or None for that of `array`.

        Raises:
            InputError: if the framework has no such layout or dtype.
        """
        ...

    def to_numpy(self, array: Any) -> NDArray[Any]:
        """Return an array of this framework as a NumPy array on the host; a dtype that NumPy lacks may be widened."""
        ...

    def move_to_device(self, target: Any, inputs: Inputs, device: str) -> tuple[Any, Inputs]:
        """Return the target and its inputs on a device, copied if they are elsewhere.

        Raises:
            InputError: if there is no such device or the framework chooses devices in another way.
        """
        ...

    def restoring(self, target: Any) -> AbstractContextManager[tuple[str, ...]]:
        """Restore the state of a target on exit: parameters, buffers, modes, attributes. Yield remarks for the report."""
        ...

    def initialising(self, target: Any, inputs: Inputs, stream: str, *, always: bool) -> AbstractContextManager[None]:
        """Let a target create the parameters that it creates at its first call, and remove them again on exit.

        Args:
            target: the function or module.
            inputs: for that first call.
            stream: name of the random stream that seeds the new parameters.
            always: call the target even if nothing indicates that it creates parameters.

        Raises:
            TargetError: if the target raises.
        """
        ...
