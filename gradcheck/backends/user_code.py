"""TODO: describe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.backends.binding import Call, described
from gradcheck.backends.flat import Leaf, layout_leaves
from gradcheck.errors import NoMemoryError, TargetError
from gradcheck.tracebacks import advice_on, one_line, out_of_memory, user_frames
from gradcheck.trees import KINDS, flatten

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from gradcheck.targets.case import Case


def construct(case: Case) -> Callable[..., Any]:
    """Build the target from a factory.

    Raises:
        TargetError: where it raises, or returns what cannot be called.
    """
    made = call_user("the factory", case.fn, (), dict(case.init or {}))
    if not callable(made):
        raise TargetError(f"{case.target or case.fn.__name__} returned {type(made).__name__}: expected a function to check")
    return made  # type: ignore[no-any-return]


def call_user(
    what: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], call: Call | None = None
) -> Any:
    """Call the user's code; its exceptions become a TargetError with their frames, and the shapes of the inputs."""
    try:
        return function(*args, **kwargs)
    except TargetError:
        raise
    except Exception as error:
        given = f", given {described(call)}" if call is not None else ""
        if out_of_memory(error):
            raise NoMemoryError(f"{what} ran out of memory ({one_line(error, 160)}){given}", user_frames(error)) from None
        raise TargetError(f"{what} raised {one_line(error)}{given}{advice_on(error)}", user_frames(error)) from None


def outputs_of(
    returned: Any, differentiable: Callable[[Any], bool], to_numpy: Callable[[Any], NDArray[Any]]
) -> tuple[tuple[int, ...], tuple[Leaf, ...]]:
    """Places of the floating outputs among all leaves, and their layout.

    Raises:
        TargetError: where there is none.
    """
    flat = flatten(returned, "output")
    kept = tuple(i for i, leaf in enumerate(flat.leaves) if differentiable(leaf) or isinstance(leaf, float | complex))
    if not kept:
        got = ", ".join(str(getattr(leaf, "dtype", type(leaf).__name__)) for leaf in flat.leaves) or "None"
        hint = "; is a return missing?" if returned is None else ""
        raise TargetError(f"the function returned {got}: expected a floating-point array, or {KINDS} with one{hint}")
    arrays = [to_numpy(flat.leaves[i]) for i in kept]
    return kept, layout_leaves([flat.paths[i] for i in kept], [a.shape for a in arrays], [a.dtype.name for a in arrays])


def differing(paths: tuple[str, ...], before: list[Any], after: list[Any]) -> list[str]:
    """Paths of the arrays that are no longer what they were."""
    return [
        path
        for path, a, b in zip(paths, before, after, strict=True)
        if isinstance(a, np.ndarray) and not np.array_equal(a, b, equal_nan=a.dtype.kind in "fc")
    ]
