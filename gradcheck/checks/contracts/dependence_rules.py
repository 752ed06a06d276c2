"""Declared dependencies of a program: which positions of its inputs each position of an output may depend on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.backends.flat_call import flatten_call, root_of, strip_rank
from gradcheck.errors import InputError
from gradcheck.targets.dependence import EVERY, show_declaration
from gradcheck.tracebacks import summarise_error

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from gradcheck.backends.flat import Leaf
    from gradcheck.backends.program import Program
    from gradcheck.targets.dependence import Axes, Dependence
    from gradcheck.targets.signature import Inputs

    ToNumpy = Callable[[Any], NDArray[Any]]
    Allowed = NDArray[np.bool_]  # (positions of the output, positions of the inputs)

# A table of at most this many pairs of positions is made.
MAX_PAIRS = 2**22
WHICH = {
    "causal": "a later position",
    "independent": "another position",
    "masked": "which the mask excludes",
    "only": "which is not among its declared inputs",
}


@dataclass(frozen=True)
class PositionedLeaf:
    """A leaf, divided into positions along some of its axes.

    Attributes:
        leaf: an input or an output.
        axes: counted from the front; (): the whole leaf is one position.
    """

    leaf: Leaf
    axes: Axes

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """The number of positions along each axis."""
        return tuple(self.leaf.shape[axis] for axis in self.axes)

    def find_positions(self) -> NDArray[np.intp]:
        """Return the position that each number of the leaf belongs to."""
        positions = np.zeros(self.leaf.shape, dtype=np.intp)
        for axis, n in zip(self.axes, self.sizes, strict=True):
            places = np.arange(n).reshape([-1 if k == axis else 1 for k in range(positions.ndim)])
            positions = positions * n + places
        return np.repeat(positions.ravel(), self.leaf.width)

    def name_position(self, position: int) -> str:
        """Name a position, as in 'x[:, 3]'."""
        if not self.axes:
            return self.leaf.path
        places = dict(zip(self.axes, np.unravel_index(position, self.sizes), strict=True))
        return f"{self.leaf.path}[{', '.join(str(places.get(k, ':')) for k in range(max(self.axes) + 1))}]"


@dataclass(frozen=True)
class DependenceRule:
    """A declared dependence of one output.

    Attributes:
        declared: by the user.
        output: the output.
        inputs: the inputs that are concerned, all of the same sizes along their axes.
        allowed: which positions of the inputs each position of the output may depend on.
    """

    declared: Dependence
    output: PositionedLeaf
    inputs: tuple[PositionedLeaf, ...]
    allowed: Allowed

    def __str__(self) -> str:
        """Return the rule with the inputs that it concerns."""
        inputs = "" if self.declared.inputs else f" of {', '.join(part.leaf.path for part in self.inputs)}"
        text = self.declared.text
        head, fully = (text.removesuffix(", fully"), ", fully") if self.declared.fully else (text, "")
        return f"{self.output.leaf.path}: {head}{inputs}{fully}"

    def describe_pair(self, i: int, j: int) -> str:
        """Say how the position `j` of an input lies to the position `i` of the output."""
        return "the position itself" if self.declared.kind == "causal" and i == j else WHICH[self.declared.kind]


def bind_rules(declared: Sequence[Dependence], program: Program, inputs: Inputs, to_numpy: ToNumpy) -> list[DependenceRule]:
    """Bind what is declared to the inputs and outputs of a program.

    Args:
        declared: by the user.
        program: the target.
        inputs: of the call, among which masks are looked up.
        to_numpy: from an array of the framework to one of NumPy.

    Raises:
        InputError: if an output, an input, an axis or a mask does not fit.
    """
    return [
        _bind_rule(dependence, output, program, mask)
        for dependence in declared
        for mask in [_read_mask(dependence, inputs, to_numpy)]
        for output in _find_leaves(dependence.output, program.outputs, dependence, "output")
    ]


def _find_leaves(name: str, leaves: Sequence[Leaf], declared: Dependence, kind: str) -> list[Leaf]:
    """Find the leaves that a path, an argument's name or the last name of a path means."""
    paths = {leaf: strip_rank(leaf.path) for leaf in leaves}
    named = [leaf for leaf, path in paths.items() if name in (EVERY, leaf.path, path, root_of(path))]
    named = named or [leaf for leaf, path in paths.items() if path.endswith((f"[{name!r}]", f".{name}"))]
    if not named:
        known = ", ".join(leaf.path for leaf in leaves)
        raise _misfit(declared, f"{name!r} is not a differentiable {kind}: expected one of {known}")
    return named


def _read_mask(declared: Dependence, inputs: Inputs, to_numpy: ToNumpy) -> Any:
    """Return the mask of a rule as an array, or the function that it is; None if the rule has none."""
    mask = declared.mask
    if isinstance(mask, str):
        call = flatten_call(inputs)
        if mask not in call.paths:
            raise _misfit(declared, f"the mask {mask!r} is not an input: expected one of {', '.join(call.paths)}")
        mask = call.leaves[call.paths.index(mask)]
    return mask if mask is None or callable(mask) else np.asarray(to_numpy(mask) if hasattr(mask, "shape") else mask)


def _misfit(declared: Dependence, problem: str) -> InputError:
    rule = [name for name, _ in declared.inputs] if declared.kind == "only" else declared.text
    return InputError(f"{show_declaration(declared.output, rule)}: {problem}")


def _bind_rule(declared: Dependence, output: Leaf, program: Program, mask: Any) -> DependenceRule:
    if declared.kind == "only":
        used = [leaf for name, _ in declared.inputs for leaf in _find_leaves(name, program.leaves, declared, "input")]
        others = tuple(PositionedLeaf(leaf, ()) for leaf in program.leaves if leaf not in used)
        return DependenceRule(declared, PositionedLeaf(output, ()), others, np.zeros((1, 1), dtype=bool))
    count, shape = len(declared.axes), getattr(mask, "shape", None)
    is_for_whole_output = shape is not None and len(shape) == count
    part = PositionedLeaf(output, () if is_for_whole_output else _find_axes(declared, declared.axes, output))
    if shape is not None and (shape[:-count] != part.sizes or len(shape) < count):
        expected = "one entry for every position of the inputs, or for every pair of positions, those of the output first"
        raise _misfit(declared, f"the mask has shape {shape}, and {_describe_sizes(part)}: expected {expected}")
    inputs = _find_named(declared, program) or _find_free(declared, part.sizes if shape is None else shape[-count:], program)
    sizes = inputs[0].sizes if callable(mask) else part.sizes if shape is None else shape[-count:]
    misfit = next((named for named in inputs if named.sizes != sizes), None)
    if misfit is not None:
        wanted = _describe_sizes(part) if shape is None else f"the mask has shape {shape}"
        different = "" if mask is not None else "; if the sizes differ, give a mask: ('masked along ...', mask)"
        raise _misfit(declared, f"{_describe_sizes(misfit)}, and {wanted}{different}")
    pairs = math.prod(part.sizes) * math.prod(sizes)
    if pairs > MAX_PAIRS:
        raise _misfit(declared, f"{pairs:,} pairs of positions are too many to be tried: use smaller inputs")
    return DependenceRule(declared, part, inputs, _make_table(declared, mask, part.sizes, sizes))


def _describe_sizes(part: PositionedLeaf) -> str:
    sizes = f" has size {' × '.join(map(str, part.sizes))} along axis {' and '.join(map(str, part.axes))}"
    return f"{part.leaf.path}{sizes if part.axes else ' is taken as a whole'}"


def _find_axes(declared: Dependence, axes: Axes, leaf: Leaf) -> Axes:
    if any(not -len(leaf.shape) <= axis < len(leaf.shape) for axis in axes):
        raise _misfit(declared, f"{leaf.path} of shape {leaf.shape} has no axis {' and '.join(map(str, axes))}")
    return tuple(axis % len(leaf.shape) for axis in axes)


def _find_named(declared: Dependence, program: Program) -> tuple[PositionedLeaf, ...]:
    """Find the inputs that a rule names."""
    return tuple(
        PositionedLeaf(leaf, _find_axes(declared, axes or declared.axes, leaf))
        for name, axes in declared.inputs
        for leaf in _find_leaves(name, program.leaves, declared, "input")
    )


def _find_free(declared: Dependence, sizes: tuple[int, ...], program: Program) -> tuple[PositionedLeaf, ...]:
    """Find the inputs with these sizes along the axes of a rule; parameters of a module are left out."""
    free = [leaf for leaf in program.leaves if not strip_rank(leaf.path).startswith("params[")]
    parts = [
        PositionedLeaf(leaf, _find_axes(declared, declared.axes, leaf))
        for leaf in free
        if all(-len(leaf.shape) <= axis < len(leaf.shape) for axis in declared.axes)
    ]
    parts = [part for part in parts if part.sizes == sizes]
    if not parts:
        shapes = ", ".join(f"{leaf.path} {leaf.shape}" for leaf in free)
        problem = f"no input has size {' × '.join(map(str, sizes))} along axis {' and '.join(map(str, declared.axes))}"
        raise _misfit(declared, f"{problem} (there are {shapes}): name the input and its axis, as in 'of x along 0'")
    return tuple(parts)


def _make_table(declared: Dependence, mask: Any, output_sizes: tuple[int, ...], sizes: tuple[int, ...]) -> Allowed:
    """Make the table of the pairs that are allowed."""
    n = math.prod(sizes)
    if declared.kind == "independent":
        return np.eye(n, dtype=bool)
    if declared.kind == "causal":
        return np.tri(n, k=-1 if declared.strictly else 0, dtype=bool)
    if not callable(mask):
        return np.asarray(mask != 0).reshape(-1, n)
    rows, columns = ([p if len(p) > 1 else p[0] for p in np.ndindex(*shape)] for shape in (output_sizes, sizes))
    try:
        return np.array([[bool(mask(i, j)) for j in columns] for i in rows])
    except Exception as error:
        problem = f"the mask raised {summarise_error(error, 200)}; it is called with two positions, of output and input"
        raise _misfit(declared, problem) from None
