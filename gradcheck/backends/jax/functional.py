"""What a JAX target is called with: its inputs, and the arrays of a target that is a pytree itself, as one list of leaves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import MethodType
from typing import TYPE_CHECKING, Any

import jax

from gradcheck.backends.binding import (
    Binding,
    Call,
    select,
    take_apart,
    without,
)
from gradcheck.backends.jax.arrays import copied, is_differentiable, widened
from gradcheck.errors import InputError
from gradcheck.targets import framework
from gradcheck.trees import Flat, flatten

if TYPE_CHECKING:
    from gradcheck.targets.case import Case
    from gradcheck.targets.signature import Inputs

PARAMS = "params[{!r}]"


@dataclass(frozen=True)
class Called:
    """What is called: a plain callable, or a pytree that can be called, such as an equinox module, made anew of its leaves.

    Attributes:
        fn: the callable as it was given.
        tree: the same taken apart, or the object that it is a method of; None where that is no pytree.
        call: the arguments' leaves, and after them those of the tree.
    """

    fn: Callable[..., Any]
    tree: Flat | None
    call: Call

    def __call__(self, leaves: Sequence[Any]) -> Any:
        """What the target returns, given every leaf."""
        own = len(leaves) - (len(self.tree.leaves) if self.tree else 0)
        args, kwargs = self.call.rebuild(leaves[:own])
        if self.tree is None:
            return self.fn(*args, **kwargs)
        made = self.tree.rebuild(list(leaves[own:]))
        return (MethodType(self.fn.__func__, made) if isinstance(self.fn, MethodType) else made)(*args, **kwargs)

    def arguments(self, leaves: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments by position and by name, made of leaves."""
        return self.call.rebuild(leaves)

    def params(self, leaves: Sequence[Any]) -> dict[str, Any]:
        """The arrays of the tree by name."""
        if self.tree is None:
            return {}
        own = len(leaves) - len(self.tree.leaves)
        return {name_of(path): x for path, x in zip(self.tree.paths, leaves[own:], strict=True) if is_differentiable(x)}


def called_with(case: Case, target: Callable[..., Any], inputs: Inputs) -> tuple[Called, tuple[int, ...]]:
    """Join the arrays of a target that is a pytree to the call's leaves, and choose what to differentiate with respect to.

    Raises:
        InputError: where nothing is differentiable, or an input is a tracer, was deleted, or is of another framework.
    """
    call = take_apart(inputs)
    tree = tree_of(target)
    paths = (*call.paths, *(PARAMS.format(name_of(path)) for path in (tree.paths if tree else ())))
    joined = Call(paths, (*call.leaves, *(tree.leaves if tree else ())), call.positional, call.named)
    _refuse(joined)
    chosen = select(joined.paths, joined.leaves, case.wrt, is_differentiable)
    return Called(target, tree, joined), without(joined.paths, chosen, case.detached)


def leaves_with(bound: Binding, moving: Sequence[Any], still: Sequence[Any] | None = None, *, wide: bool = False) -> list[Any]:
    """Every leaf of a call: the differentiable ones, the arrays that stand still, and copies of all else.

    Args:
        still: in the order of `standing`; None: copies of them.
        wide: whether floating arrays are to be float64.
    """
    others = dict(zip(standing(bound), still, strict=True)) if still is not None else {}
    moved = dict(zip(bound.places, moving, strict=True)) | others
    every = enumerate(bound.call.leaves)
    return [moved[i] if i in moved else copied(widened(x) if wide else x) for i, x in every]


def standing(bound: Binding) -> list[int]:
    """Places of JAX's arrays among the leaves that are not differentiated."""
    return [i for i, x in enumerate(bound.call.leaves) if isinstance(x, jax.Array) and i not in bound.places]


def tree_of(target: Any) -> Flat | None:
    """A callable taken apart, or the object that it is a method of, where that is a pytree with arrays of its own."""
    owner = target.__self__ if isinstance(target, MethodType) else target
    flat = flatten(owner)
    return flat if any(map(is_differentiable, flat.leaves)) and (len(flat.leaves) != 1 or flat.leaves[0] is not owner) else None


def name_of(path: str) -> str:
    """The name of a target's own array: `layers[0].weight`; that of a bound method is its object's."""
    return path.removeprefix(".").removeprefix("__self__").removeprefix(".")


def _refuse(call: Call) -> None:
    foreign = framework.of_arrays([x for x in call.leaves if not framework.is_of(x, "numpy")])
    if foreign not in (None, "jax"):
        raise InputError(f"the target is of jax, but the inputs are {foreign} arrays: give JAX or NumPy arrays")
    for path, leaf in zip(call.paths, call.leaves, strict=True):
        if isinstance(leaf, jax.core.Tracer):
            raise InputError(
                f"{path} is a tracer: expected an array; call gradcheck outside of jit, grad and vmap, or look for an array"
                " that a traced function stored somewhere"
            )
        if isinstance(leaf, jax.Array) and leaf.is_deleted():
            raise InputError(f"{path} was deleted: a function that it was donated to (donate_argnums) took it; give a copy")
