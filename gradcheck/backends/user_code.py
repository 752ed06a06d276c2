"""Calls of the user's code: its exceptions become errors of the target, and its outputs are laid out as a flat vector."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.backends.flat import Leaf, lay_out_leaves
from gradcheck.backends.flat_call import FlatCall, describe_arrays
from gradcheck.backends.time_budget import refuse_after_deadline
from gradcheck.errors import DerivativeError, NoMemoryError, TargetError
from gradcheck.interrupts import is_interrupt
from gradcheck.targets.plain_class import advise_on_class, advise_on_methods, is_plain_layer
from gradcheck.tracebacks import advise_on_error, format_user_frames, is_out_of_memory, summarise_error
from gradcheck.trees import TREE_KINDS, flatten

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from gradcheck.targets.case import Case


def call_factory(case: Case) -> Callable[..., Any]:
    """Build the target from a factory.

    Raises:
        TargetError: if the factory raises or returns something that cannot be called.
    """
    target = call_user_code("the factory", case.fn, (), dict(case.init or {}))
    if is_plain_layer(target):
        return target.forward  # type: ignore[no-any-return]
    if not callable(target):
        advice = advise_on_class(type(target)) or (
            advise_on_methods(type(target), case.target) if case.fn is type(target) else ""
        )
        advice = advice or f": {case.target or case.fn.__name__} must return a function to check"
        raise TargetError(f"{type(target).__name__}{advice}")
    return target  # type: ignore[no-any-return]


def call_user_code(
    what: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], call: FlatCall | None = None
) -> Any:
    """Call the user's code.

    Args:
        what: the code in words, as a message starts with it: 'the function'.
        function: called with `args` and `kwargs`.
        call: the inputs, whose shapes a message then shows.

    Raises:
        TargetError: if the code raises; with the user's frames and the shapes of the inputs.
        NoMemoryError: if it runs out of memory.
    """
    try:
        return function(*args, **kwargs)
    except TargetError:
        raise
    except BaseException as error:
        if is_interrupt(error):
            raise
        inputs = f", given {describe_arrays(call)}" if call is not None else ""
        if is_out_of_memory(error):
            raise NoMemoryError(
                f"{what} ran out of memory ({summarise_error(error, 160)}){inputs}", format_user_frames(error)
            ) from None
        raise TargetError(
            f"{what} raised {summarise_error(error)}{inputs}{advise_on_error(error)}", format_user_frames(error)
        ) from None


def call_derivative(
    label: str,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    advise: Callable[[BaseException], str] = lambda error: "",
) -> Any:
    """Call a hand-written derivative.

    Args:
        label: the derivative, as messages call it: 'vjp='.
        function: called with `args` and `kwargs`.
        advise: from what it raises to advice at the end of the message.

    Raises:
        DerivativeError: if it raises; with the user's frames.
        ClaimError: if what it returns has another form than in its first call.
    """
    refuse_after_deadline()
    try:
        return function(*args, **kwargs)
    except TargetError:
        raise
    except BaseException as error:
        if is_interrupt(error):
            raise
        raise DerivativeError(f"{label} raised {summarise_error(error)}{advise(error)}", format_user_frames(error)) from None


def lay_out_outputs(
    returned: Any, differentiable: Callable[[Any], bool], to_numpy: Callable[[Any], NDArray[Any]]
) -> tuple[tuple[int, ...], tuple[Leaf, ...]]:
    """Find the floating outputs among all leaves that were returned, and lay them out.

    Args:
        returned: what the function returned.
        differentiable: says whether a leaf is a floating or complex array.
        to_numpy: from an array of the framework to one of NumPy.

    Returns:
        Their places among the leaves, and their layout.

    Raises:
        TargetError: if there is none.
    """
    flat = flatten(returned, "output")
    places = tuple(i for i, leaf in enumerate(flat.leaves) if differentiable(leaf) or isinstance(leaf, float | complex))
    if not places:
        got = ", ".join(str(getattr(leaf, "dtype", type(leaf).__name__)) for leaf in flat.leaves) or "None"
        hint = "; is a return missing?" if returned is None else ""
        raise TargetError(f"the function returned {got}: expected a floating-point array, or {TREE_KINDS} with one{hint}")
    arrays = [to_numpy(flat.leaves[i]) for i in places]
    return places, lay_out_leaves([flat.paths[i] for i in places], [a.shape for a in arrays], [a.dtype.name for a in arrays])


def find_changed_arrays(paths: tuple[str, ...], before: list[Any], after: list[Any]) -> list[str]:
    """Return the paths of the arrays that changed between two times."""
    return [
        path
        for path, a, b in zip(paths, before, after, strict=True)
        if isinstance(a, np.ndarray) and not np.array_equal(a, b, equal_nan=a.dtype.kind in "fc")
    ]
