"""A JAX target as a functional call: its inputs, and the arrays of a target that is a pytree, as one list of leaves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import MethodType
from typing import TYPE_CHECKING, Any

import jax

from gradcheck.backends.flat_call import Binding, FlatCall, exclude_detached, flatten_call, select_inputs
from gradcheck.backends.jax.arrays import copy_array, is_differentiable, widen
from gradcheck.errors import InputError
from gradcheck.targets import framework
from gradcheck.trees import FlatTree, flatten

if TYPE_CHECKING:
    from gradcheck.targets.case import Case
    from gradcheck.targets.signature import Inputs

PARAMETER_PATH = "params[{!r}]"  # path of an array of the target, by its name


@dataclass(frozen=True)
class JaxFunctionalCall:
    """A target as a function of all its arrays: a plain callable, or a callable pytree, such as an equinox module.

    Attributes:
        fn: the callable as the user gave it.
        tree: the callable, or the object that it is a method of, flattened; None if that is not a pytree with arrays.
        call: the leaves of the arguments, followed by those of the tree.
    """

    fn: Callable[..., Any]
    tree: FlatTree | None
    call: FlatCall

    def __call__(self, leaves: Sequence[Any]) -> Any:
        """Call the target with every leaf."""
        count = len(leaves) - (len(self.tree.leaves) if self.tree else 0)
        args, kwargs = self.call.rebuild(leaves[:count])
        if self.tree is None:
            return self.fn(*args, **kwargs)
        rebuilt = self.tree.rebuild(list(leaves[count:]))
        return (MethodType(self.fn.__func__, rebuilt) if isinstance(self.fn, MethodType) else rebuilt)(*args, **kwargs)

    def arguments(self, leaves: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments (args, kwargs), made of leaves."""
        return self.call.rebuild(leaves)

    def params(self, leaves: Sequence[Any]) -> dict[str, Any]:
        """Return the floating arrays of the tree by name."""
        if self.tree is None:
            return {}
        count = len(leaves) - len(self.tree.leaves)
        return {
            parameter_name(path): x for path, x in zip(self.tree.paths, leaves[count:], strict=True) if is_differentiable(x)
        }


def make_functional_call(case: Case, target: Callable[..., Any], inputs: Inputs) -> tuple[JaxFunctionalCall, tuple[int, ...]]:
    """Join the arrays of a target that is a pytree to the leaves of the call, and choose the differentiable inputs.

    Returns:
        The functional call, and the places of the differentiable inputs among its leaves.

    Raises:
        InputError: if nothing is differentiable, or an input is a tracer, was deleted or belongs to another framework.
    """
    call = flatten_call(inputs)
    tree = flatten_target(target)
    paths = (*call.paths, *(PARAMETER_PATH.format(parameter_name(path)) for path in (tree.paths if tree else ())))
    joined = FlatCall(paths, (*call.leaves, *(tree.leaves if tree else ())), call.positional, call.named)
    _refuse_unusable(joined)
    chosen = select_inputs(joined.paths, joined.leaves, case.wrt, is_differentiable)
    return JaxFunctionalCall(target, tree, joined), exclude_detached(joined.paths, chosen, case.detached)


def fill_leaves(
    binding: Binding, moving_leaves: Sequence[Any], constants: Sequence[Any] | None = None, *, twin: bool = False
) -> list[Any]:
    """Return every leaf of a call: the differentiable ones, the constant arrays, and copies of everything else.

    Args:
        moving_leaves: arrays of the differentiable leaves.
        constants: JAX's arrays among the other leaves, in the order of `constant_places`. None: copies of the user's.
        twin: whether floating arrays become float64.
    """
    constant_leaves = dict(zip(constant_places(binding), constants, strict=True)) if constants is not None else {}
    values = dict(zip(binding.input_places, moving_leaves, strict=True)) | constant_leaves
    leaves = enumerate(binding.call.leaves)
    return [values[i] if i in values else copy_array(widen(x) if twin else x) for i, x in leaves]


def constant_places(binding: Binding) -> list[int]:
    """Return the places of JAX's arrays among the leaves that are not differentiated."""
    return [i for i, x in enumerate(binding.call.leaves) if isinstance(x, jax.Array) and i not in binding.input_places]


def flatten_target(target: Any) -> FlatTree | None:
    """Flatten a callable, or the object that it is a method of; None if that is not a pytree with floating arrays."""
    owner = target.__self__ if isinstance(target, MethodType) else target
    flat = flatten(owner)
    return flat if any(map(is_differentiable, flat.leaves)) and (len(flat.leaves) != 1 or flat.leaves[0] is not owner) else None


def parameter_name(path: str) -> str:
    """Name an array of the target by its path: `layers[0].weight`; for a bound method, an array of its object."""
    return path.removeprefix(".").removeprefix("__self__").removeprefix(".")


def _refuse_unusable(call: FlatCall) -> None:
    """Raise an InputError if an input is a tracer, was deleted or belongs to another framework."""
    foreign = framework.infer_from_arrays([x for x in call.leaves if not framework.is_from_framework(x, "numpy")])
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
