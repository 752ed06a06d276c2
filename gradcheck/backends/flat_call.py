"""The inputs of a call as a flat list of leaves, and which of them to differentiate with respect to."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import TYPE_CHECKING, Any

from gradcheck.backends.flat import Leaf, lay_out_leaves
from gradcheck.errors import InputError
from gradcheck.trees import TREE_KINDS, FlatTree, flatten

if TYPE_CHECKING:
    from gradcheck.targets.signature import Inputs

STORED_VALUES = ".values()"  # ends the path of a leaf that holds the stored values of a sparse array


@dataclass(frozen=True)
class FlatCall:
    """The arguments of a call as a flat list of leaves.

    Attributes:
        paths: of each leaf; they start with the parameter's name.
        leaves: arrays and plain values.
        positional: the structure of each positional argument.
        named: the structure of each keyword argument.
    """

    paths: tuple[str, ...]
    leaves: tuple[Any, ...]
    positional: tuple[FlatTree, ...]
    named: dict[str, FlatTree]

    def rebuild(self, leaves: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments (args, kwargs) with other leaves in the same places."""
        rest = iter(leaves)
        args = tuple(flat.rebuild([next(rest) for _ in flat.leaves]) for flat in self.positional)
        kwargs = {name: flat.rebuild([next(rest) for _ in flat.leaves]) for name, flat in self.named.items()}
        return args, kwargs


@dataclass(frozen=True)
class Binding:
    """The leaves of a call that are differentiable inputs, and the leaves of its result that are differentiable outputs.

    Attributes:
        call: the flat call.
        input_places: of the differentiable inputs among the leaves of the call.
        leaves: layout of the differentiable inputs.
        output_places: of the differentiable outputs among the leaves of what is returned.
        outputs: layout of the differentiable outputs.
    """

    call: FlatCall
    input_places: tuple[int, ...]
    leaves: tuple[Leaf, ...]
    output_places: tuple[int, ...]
    outputs: tuple[Leaf, ...]

    def keep_outputs(self, kept: Sequence[bool]) -> Binding:
        """Leave out some of the outputs, of which one at least is kept."""
        places, outputs = tuple(compress(self.output_places, kept)), tuple(compress(self.outputs, kept))
        paths, shapes, dtypes = zip(*((leaf.path, leaf.shape, leaf.dtype) for leaf in outputs), strict=True)
        return replace(self, output_places=places, outputs=lay_out_leaves(paths, shapes, dtypes))


def flatten_call(inputs: Inputs) -> FlatCall:
    """Flatten every argument; paths start with the parameter's name."""
    positional = tuple(flatten(arg, label) for arg, label in zip(inputs.args, inputs.labels, strict=True))
    named = {name: flatten(value, name) for name, value in inputs.kwargs.items()}
    flats = (*positional, *named.values())
    return FlatCall(
        tuple(p for flat in flats for p in flat.paths),
        tuple(x for flat in flats for x in flat.leaves),
        positional,
        named,
    )


def rebuild_outputs(returned: Any, binding: Binding, arrays: Sequence[Any]) -> Any:
    """Return what a target returned with other arrays in place of its differentiable outputs."""
    flat = flatten(returned)
    values = list(flat.leaves)
    for i, array in zip(binding.output_places, arrays, strict=True):
        values[i] = array
    return flat.rebuild(values)


def flatten_arguments(arguments: tuple[tuple[Any, ...], dict[str, Any]]) -> list[Any]:
    """Return every leaf of some arguments (args, kwargs), in the order of a call's paths."""
    args, kwargs = arguments
    return [x for value in (*args, *kwargs.values()) for x in flatten(value).leaves]


def shapes_of(call: FlatCall, outputs: Sequence[Leaf]) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Return the path and shape of every array of a call, inputs first."""
    arrays = [(p, tuple(x.shape)) for p, x in zip(call.paths, call.leaves, strict=True) if hasattr(x, "shape")]
    return (*arrays, *((leaf.path, leaf.shape) for leaf in outputs))


def describe_arrays(call: FlatCall) -> str:
    """Name the arrays of a call with their shapes and dtypes, at most eight of them."""
    arrays = [
        f"{p} {tuple(x.shape)} {str(x.dtype).removeprefix('torch.')}"
        for p, x in zip(call.paths, call.leaves, strict=True)
        if hasattr(x, "shape")
    ]
    return ", ".join(arrays[:8]) + (f" and {len(arrays) - 8} more" if len(arrays) > 8 else "") or "no array"


def root_of(path: str) -> str:
    """Return the argument that a leaf belongs to: 'x' for "x['a'][0]"."""
    for i, character in enumerate(path):
        if character in "[.":
            return path[:i]
    return path


def strip_rank(path: str) -> str:
    """Return the path of a leaf on its own rank: 'x' for 'rank 0: x'."""
    return re.sub(r"^rank \d+: ", "", path)


def array_path(path: str) -> str:
    """Return the path of the array that a leaf belongs to; it differs from the leaf's for stored values of a sparse array."""
    return path.removesuffix(STORED_VALUES)


def select_inputs(
    paths: Sequence[str], leaves: Sequence[Any], wrt: tuple[str, ...] | None, differentiable: Callable[[Any], bool]
) -> tuple[int, ...]:
    """Return the places of the leaves to differentiate with respect to.

    Args:
        paths: of the leaves.
        leaves: arrays and plain values.
        wrt: leaf paths or argument names. None: all differentiable leaves; plain Python floats if nothing else is.
        differentiable: says whether a leaf is a floating or complex array.

    Raises:
        InputError: if a name fits no leaf, a named leaf is not floating, or no leaf is.
    """
    if wrt is None:
        arrays = [i for i, leaf in enumerate(leaves) if differentiable(leaf)]
        chosen = arrays or [i for i, leaf in enumerate(leaves) if isinstance(leaf, float | complex)]
        if not chosen:
            opaque = any(hasattr(leaf, "__dict__") and not hasattr(leaf, "shape") for leaf in leaves)
            hint = f", alone or in {TREE_KINDS}" if opaque else ""
            raise InputError(
                f"no differentiable input: {_describe_leaves(paths, leaves)}; give at least one floating-point array{hint}"
                f"{_advise_on_lists(paths, leaves)}"
            )
        return tuple(chosen)
    chosen = []
    for name in wrt:
        matches = _find_places("wrt", name, paths)
        floats = [i for i in matches if differentiable(leaves[i]) or isinstance(leaves[i], float | complex)]
        if not floats:
            described = _describe_leaves([paths[i] for i in matches], [leaves[i] for i in matches])
            raise InputError(f"wrt={name!r} is not differentiable: {described}")
        chosen += floats
    return tuple(sorted(set(chosen)))


def exclude_detached(paths: Sequence[str], places: Sequence[int], detached: Sequence[str]) -> tuple[int, ...]:
    """Leave out the places of the leaves that are declared detached.

    Raises:
        InputError: if a name fits no leaf, or no leaf is left.
    """
    excluded = {i for name in detached for i in _find_places("detached", name, paths)}
    remaining = tuple(i for i in places if i not in excluded)
    if not remaining:
        raise InputError(
            f"detached={', '.join(detached)}: nothing is left to differentiate with respect to; declare fewer, or, if the"
            " function has no gradient at all, tolerates='detached'"
        )
    return remaining


def _find_places(option: str, name: str, paths: Sequence[str]) -> list[int]:
    """Return the place of a leaf, or the places of all leaves of an argument.

    Args:
        option: that the name was given to, for the message.
        name: path of a leaf or of a sparse array, or name of an argument.
        paths: of all leaves.

    Raises:
        InputError: if the name fits none of them.
    """
    matches = [i for i, path in enumerate(paths) if name in (path, array_path(path), root_of(path))]
    if not matches:
        names = [*paths, *dict.fromkeys(root_of(p) for p in paths)]
        similar = difflib.get_close_matches(name, names, 1)
        hint = f"; did you mean {similar[0]!r}?" if similar else ""
        raise InputError(f"{option}={name!r} names no input (there are {', '.join(dict.fromkeys(names)) or 'none'}){hint}")
    return matches


def _advise_on_lists(paths: Sequence[str], leaves: Sequence[Any]) -> str:
    """Return advice on lists of plain numbers, as in '; w is a list of numbers: pass np.array(w)'; '' without one."""
    numbers = [path for path, leaf in zip(paths, leaves, strict=True) if isinstance(leaf, int | float | complex)]
    lists = dict.fromkeys(root_of(path) for path in numbers if re.fullmatch(r"[^\[.]+(\[\d+\])+", path))
    return "".join(f"; {name} is a list of numbers: pass np.array({name}, dtype=float)" for name in lists)


def _describe_leaves(paths: Sequence[str], leaves: Sequence[Any]) -> str:
    kinds = [f"{p} is {_describe_leaf(p, x)}" for p, x in zip(paths, leaves, strict=True)]
    return ", ".join(kinds) or "there are no inputs"


def _describe_leaf(path: str, leaf: Any) -> str:
    """Describe a leaf by its dtype or its class; a table of pandas, xarray and the like by the array to give instead."""
    name = type(leaf).__name__
    return f"a {name} (give {path}.to_numpy())" if hasattr(leaf, "to_numpy") else str(getattr(leaf, "dtype", name))
