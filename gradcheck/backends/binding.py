"""The inputs of a call as a flat list of leaves, and which of them to differentiate with respect to."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gradcheck.errors import InputError
from gradcheck.trees import KINDS, Flat, flatten

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gradcheck.backends.flat import Leaf
    from gradcheck.targets.signature import Inputs

STORED = ".values()"  # at the end of a path: the numbers that a sparse array stores


@dataclass(frozen=True)
class Call:
    """A call taken apart: every leaf of its arguments, with its path."""

    paths: tuple[str, ...]
    leaves: tuple[Any, ...]
    positional: tuple[Flat, ...]
    named: dict[str, Flat]

    def rebuild(self, leaves: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments with other leaves in the same places: (args, kwargs)."""
        rest = iter(leaves)
        args = tuple(flat.rebuild([next(rest) for _ in flat.leaves]) for flat in self.positional)
        kwargs = {name: flat.rebuild([next(rest) for _ in flat.leaves]) for name, flat in self.named.items()}
        return args, kwargs


@dataclass(frozen=True)
class Binding:
    """Which leaves of a call are differentiable inputs, and which leaves of what it returns are differentiable outputs."""

    call: Call
    places: tuple[int, ...]
    leaves: tuple[Leaf, ...]
    kept: tuple[int, ...]
    outputs: tuple[Leaf, ...]


def take_apart(inputs: Inputs) -> Call:
    """Flatten every argument; paths start with the parameter's name."""
    positional = tuple(flatten(arg, label) for arg, label in zip(inputs.args, inputs.labels, strict=True))
    named = {name: flatten(value, name) for name, value in inputs.kwargs.items()}
    flats = (*positional, *named.values())
    return Call(
        tuple(p for flat in flats for p in flat.paths),
        tuple(x for flat in flats for x in flat.leaves),
        positional,
        named,
    )


def leaves_of(arguments: tuple[tuple[Any, ...], dict[str, Any]]) -> list[Any]:
    """Every leaf of some arguments, in the order of a call's paths."""
    args, kwargs = arguments
    return [x for value in (*args, *kwargs.values()) for x in flatten(value).leaves]


def shapes_of(call: Call, outputs: Sequence[Leaf]) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """The shapes of all arrays of a call, with their paths."""
    arrays = [(p, tuple(x.shape)) for p, x in zip(call.paths, call.leaves, strict=True) if hasattr(x, "shape")]
    return (*arrays, *((leaf.path, leaf.shape) for leaf in outputs))


def described(call: Call) -> str:
    """The arrays of a call with their shapes and dtypes, in a few words."""
    arrays = [
        f"{p} {tuple(x.shape)} {str(x.dtype).removeprefix('torch.')}"
        for p, x in zip(call.paths, call.leaves, strict=True)
        if hasattr(x, "shape")
    ]
    return ", ".join(arrays[:8]) + (f" and {len(arrays) - 8} more" if len(arrays) > 8 else "") or "no array"


def root_of(path: str) -> str:
    """The argument a leaf belongs to: `x` of `x['a'][0]`."""
    for i, character in enumerate(path):
        if character in "[.":
            return path[:i]
    return path


def stem(path: str) -> str:
    """The path of the array itself where a leaf is what a sparse array stores."""
    return path.removesuffix(STORED)


def select(
    paths: Sequence[str], leaves: Sequence[Any], wrt: tuple[str, ...] | None, differentiable: Callable[[Any], bool]
) -> tuple[int, ...]:
    """Places of the leaves to differentiate with respect to.

    Args:
        wrt: leaf paths or argument names; None: all that are differentiable, and plain Python floats where nothing else is.
        differentiable: tells a floating or complex array.

    Raises:
        InputError: where a name fits no leaf, a named leaf is not floating, or no leaf is.
    """
    if wrt is None:
        arrays = [i for i, leaf in enumerate(leaves) if differentiable(leaf)]
        found = arrays or [i for i, leaf in enumerate(leaves) if isinstance(leaf, float | complex)]
        if not found:
            opaque = any(hasattr(leaf, "__dict__") and not hasattr(leaf, "shape") for leaf in leaves)
            hint = f", by itself or in {KINDS}" if opaque else ""
            raise InputError(
                f"no differentiable input: {_described(paths, leaves)}; give at least one floating-point array{hint}"
            )
        return tuple(found)
    found = []
    for name in wrt:
        fits = _named("wrt", name, paths)
        floats = [i for i in fits if differentiable(leaves[i]) or isinstance(leaves[i], float | complex)]
        if not floats:
            raise InputError(
                f"wrt={name!r} is not differentiable: {_described([paths[i] for i in fits], [leaves[i] for i in fits])}"
            )
        found += floats
    return tuple(sorted(set(found)))


def without(paths: Sequence[str], places: Sequence[int], detached: Sequence[str]) -> tuple[int, ...]:
    """Those places that are not declared detached.

    Raises:
        InputError: where a name fits no leaf, or none is left.
    """
    apart = {i for name in detached for i in _named("detached", name, paths)}
    left = tuple(i for i in places if i not in apart)
    if not left:
        raise InputError(f"detached={', '.join(detached)}: nothing is left to differentiate with respect to; declare fewer")
    return left


def _named(option: str, name: str, paths: Sequence[str]) -> list[int]:
    """The places of a leaf, or of all leaves of an argument."""
    fits = [i for i, path in enumerate(paths) if name in (path, stem(path), root_of(path))]
    if not fits:
        known = [*paths, *dict.fromkeys(root_of(p) for p in paths)]
        near = difflib.get_close_matches(name, known, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise InputError(f"{option}={name!r} names no input (there are {', '.join(dict.fromkeys(known)) or 'none'}){hint}")
    return fits


def _described(paths: Sequence[str], leaves: Sequence[Any]) -> str:
    kinds = [f"{p} is {getattr(x, 'dtype', type(x).__name__)}" for p, x in zip(paths, leaves, strict=True)]
    return ", ".join(kinds) or "there are no inputs"
