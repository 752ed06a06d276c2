"""Arrays as flat float64 vectors: where each leaf lies in the vector, and the way there and back.

A complex entry takes two numbers, its real and its imaginary part.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradcheck.number_format import BFLOAT16, FLOAT16, FLOAT32, FLOAT64

F64 = NDArray[np.float64]
# Relative spacing of floats, by the name of the dtype: the distance from 1 to the next larger number.
HALF_EPS = {number_format.name: number_format.eps for number_format in (FLOAT16, BFLOAT16)}
EPS = {"float64": FLOAT64.eps, "complex128": FLOAT64.eps, "float32": FLOAT32.eps, "complex64": FLOAT32.eps, **HALF_EPS}


@dataclass(frozen=True)
class Leaf:
    """One array among the inputs or outputs, and where it lies in the flat vector.

    Attributes:
        path: of the array in the call or in what was returned, such as `params['linear.weight']`.
        shape: of the array.
        dtype: name of its dtype.
        start: index of its first number in the flat vector.
        drawn_by_rejection: whether it is an input that parametrises a draw by rejection, as that of a Gamma distribution. Its
            derivative is implicit: differences at a fixed random state show another one.
    """

    path: str
    shape: tuple[int, ...]
    dtype: str
    start: int
    drawn_by_rejection: bool = False

    @cached_property
    def width(self) -> int:
        """Numbers per entry: 2 for complex leaves."""
        return 2 if self.dtype.startswith("complex") else 1

    @cached_property
    def entries(self) -> int:
        """Number of entries of the array."""
        return math.prod(self.shape)

    @cached_property
    def span(self) -> slice:
        """The slice of the flat vector that holds the leaf."""
        return slice(self.start, self.start + self.entries * self.width)

    def index(self, position: int) -> tuple[int, ...]:
        """Return the index, in the array, of the entry at a position of the flat vector."""
        return tuple(int(i) for i in np.unravel_index((position - self.start) // self.width, self.shape))

    def entry(self, position: int) -> str:
        """Name the entry at a position of the flat vector: 'x[0, 3]'."""
        index = self.index(position)
        return f"{self.path}[{', '.join(map(str, index))}]" if index else self.path


def lay_out_leaves(paths: Sequence[str], shapes: Sequence[tuple[int, ...]], dtypes: Sequence[str]) -> tuple[Leaf, ...]:
    """Place arrays in a flat vector, one after the other."""
    leaves: list[Leaf] = []
    start = 0
    for path, shape, dtype in zip(paths, shapes, dtypes, strict=True):
        leaves.append(Leaf(path, tuple(shape), dtype, start))
        start = leaves[-1].span.stop
    return tuple(leaves)


def repeat_per_number(values: ArrayLike, leaves: Sequence[Leaf]) -> NDArray[Any]:
    """Repeat one value per leaf for every number of that leaf, as a flat vector."""
    return np.repeat(values, [leaf.entries * leaf.width for leaf in leaves])


def make_gradient_leaves(leaves: Sequence[Leaf]) -> tuple[Leaf, ...]:
    """Lay out the gradients with respect to some leaves as the outputs of a program."""
    paths, shapes, dtypes = zip(*[(f"∂output/∂{leaf.path}", leaf.shape, leaf.dtype) for leaf in leaves], strict=True)
    return lay_out_leaves(list(paths), list(shapes), list(dtypes))


def to_flat(array: Any) -> F64:
    """Return the entries of one array as float64 numbers; complex entries as (real, imaginary)."""
    array = np.asarray(array)
    if array.dtype == np.float64:  # the usual case
        return np.ravel(array)
    converted = np.ascontiguousarray(array, dtype=np.complex128 if array.dtype.kind == "c" else np.float64)
    return converted.reshape(-1).view(np.float64)


def from_flat(numbers: F64, leaf: Leaf) -> NDArray[Any]:
    """Make a leaf's array of its flat numbers: a new array of the leaf's shape, float64 or complex128."""
    dtype = np.complex128 if leaf.width == 2 else np.float64
    return np.array(numbers, dtype=np.float64).view(dtype).reshape(leaf.shape)


def is_plain(array: NDArray[Any]) -> bool:
    """Whether an array behaves as `np.ndarray` does; derived classes may redefine operators, as `np.matrix` does."""
    return type(array) in (np.ndarray, np.memmap)


def match_class(values: NDArray[Any], template: NDArray[Any]) -> NDArray[Any]:
    """Return values as an array of a template's class, with its attributes, such as a unit."""
    if is_plain(template):
        return values
    array = template.astype(values.dtype)
    np.asarray(array)[...] = values
    return array


def match_strides(values: NDArray[Any], template: NDArray[Any]) -> NDArray[Any]:
    """Return values in the memory layout of a template, or contiguous if entries of the template share memory.

    If the values' dtype is wider than the template's, the strides grow with it.
    """
    strides = tuple(stride // template.itemsize * values.itemsize for stride in template.strides)
    is_shared = any(stride <= 0 for stride, n in zip(strides, template.shape, strict=True) if n > 1)
    if template.size == 0 or values.strides == strides or is_shared:
        return values
    extent = sum(stride * (n - 1) for stride, n in zip(strides, template.shape, strict=True)) + values.itemsize
    buffer = np.zeros(-(-extent // values.itemsize), values.dtype)
    strided = np.lib.stride_tricks.as_strided(buffer, template.shape, strides)
    strided[...] = values
    return strided
