"""Input specs: a few words that say how to draw an array, as in `normal(4, 3)`.

A size is an integer, a name (`normal("batch", 3)`) or a sum or product of these; equal names get equal sizes. Every
constructor takes `dtype=` (such as 'float32') and `layout=`. A layout is 'contiguous', 'transposed', 'strided' (every second
element of a larger buffer) or 'expanded' (stride 0 along the first axis). For torch targets, 'sparse_coo' and 'sparse_csr'
store only the entries that are not 0. No value is excluded on purpose.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from gradcheck.errors import SpecError
from gradcheck.options import DIFFERENTIABLE_DTYPES, resolve_dtype_name
from gradcheck.targets.specs import sizes

if TYPE_CHECKING:
    from numpy.typing import NDArray

Size = int | str
LAYOUTS = ("contiguous", "transposed", "strided", "expanded")
SPARSE_LAYOUTS = ("sparse_coo", "sparse_csr")  # layouts to which a framework converts a drawn array
NUMPY_SUBSTITUTES = {"bfloat16": "float32"}  # dtypes that NumPy lacks, and what it draws instead
MATRIX_KINDS = ("spd", "orthogonal", "triangular", "eye")
DTYPES = (*DIFFERENTIABLE_DTYPES, "int64", "int32", "int16", "int8", "uint8", "bool")


@dataclass(frozen=True, repr=False)
class Spec:
    """How to draw one array. Make one with a constructor, such as `normal` or `uniform`.

    Attributes:
        kind: name of the constructor.
        shape: shape of the array; for kinds of square matrices, the batch sizes and then the matrix size once.
        params: the constructor's other arguments.
        dtype: dtype of the array; None: the check's dtype, or the dtype that the kind implies (integers: int64).
        layout: layout of the array in memory.
    """

    kind: str
    shape: tuple[Size, ...]
    params: tuple[tuple[str, Any], ...] = ()
    dtype: str | None = None
    layout: str = "contiguous"
    __tree_atom__: ClassVar[bool] = True  # a leaf of pytrees, although a dataclass

    def __post_init__(self) -> None:
        """Validate sizes, dtype and layout.

        Raises:
            SpecError: if one of them is wrong; the message says what was expected.
        """
        for size in self.shape:
            is_text = isinstance(size, str) and sizes.is_size(size)
            if not is_text and (not isinstance(size, int) or isinstance(size, bool) or size < 0):
                raise SpecError(f"{self.kind}: size {size!r}: expected an integer of at least 0, or a name such as 'batch'")
        if self.dtype is not None:
            object.__setattr__(self, "dtype", resolve_dtype_name(self.dtype))
        if self.dtype is not None and self.dtype not in DTYPES:
            raise SpecError(f"{self.kind}: dtype={self.dtype!r}: expected one of {', '.join(DTYPES)}")
        if self.layout not in (*LAYOUTS, *SPARSE_LAYOUTS):
            raise SpecError(f"{self.kind}: layout={self.layout!r}: expected one of {', '.join((*LAYOUTS, *SPARSE_LAYOUTS))}")
        if self.kind in MATRIX_KINDS and not self.shape:
            raise SpecError(f"{self.kind}(): expected the size of the matrix, as in {self.kind}(3)")
        if self.kind in ("one_hot", "simplex") and (not self.shape or self.shape[-1] == 0):
            raise SpecError(f"{self.kind}: expected at least one class, as in {self.kind}(4, 3) for 4 rows of 3 classes")

    def __repr__(self) -> str:
        """Return the call that makes this spec."""
        return self.format_with(repr)

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:
        """Print the call in IPython and Hypothesis, which would print the fields of a dataclass."""
        printer.text(repr(self))

    @property
    def entries(self) -> int:
        """Number of entries of a spec without named sizes."""
        return math.prod(int(size) for size in self.shape)

    def __str__(self) -> str:
        """Return the text that parses to this spec again."""
        return self.format_with(str)

    def format_with(self, format_size: Callable[[Size], str]) -> str:
        """Return the call that makes this spec, with each size formatted by a function; `repr` makes it valid Python."""
        literal = self.kind == "array"
        parts = [] if literal else [format_size(size) for size in self.shape]
        parts += [repr(_to_lists(value)) if literal else f"{name}={value!r}" for name, value in self.params]
        parts += [f"dtype={self.dtype!r}"] if self.dtype and self.kind != "boolean" else []
        parts += [f"layout={self.layout!r}"] if self.layout != "contiguous" else []
        return f"{self.kind}({', '.join(parts)})"


def _normalise_shape(shape: tuple[Any, ...]) -> tuple[Size, ...]:
    if len(shape) == 1 and isinstance(shape[0], tuple | list):
        shape = tuple(shape[0])
    return tuple(_normalise_size(size) for size in shape)


def _normalise_size(size: Any) -> Any:
    """Return the canonical form of a size: an integer, or a text with the spaces that Python would write."""
    if isinstance(size, str) and sizes.is_size(size):
        return int(size) if size.strip().isdigit() else ast.unparse(ast.parse(size.strip(), mode="eval"))
    return int(size) if isinstance(size, np.integer) else size


def normal(*shape: Any, dtype: str | None = None, layout: str = "contiguous") -> Spec:
    """Independent standard normal entries (real and imaginary parts for a complex dtype)."""
    return Spec("normal", _normalise_shape(shape), (), dtype, layout)


def uniform(*args: Any, dtype: str | None = None, layout: str = "contiguous", **bounds: float) -> Spec:
    """Entries uniform in [low, high): `uniform(low, high, *shape)` or `uniform(*shape, low=…, high=…)`."""
    low, high, shape = _split_bounds("uniform", args, bounds, number=(int, float))
    return Spec("uniform", shape, (("low", float(low)), ("high", float(high))), dtype, layout)


def positive(*shape: Any, dtype: str | None = None, layout: str = "contiguous") -> Spec:
    """Log-normal entries: positive, median 1, no gap around 0."""
    return Spec("positive", _normalise_shape(shape), (), dtype, layout)


def integers(*args: Any, dtype: str | None = None, layout: str = "contiguous", **bounds: int) -> Spec:
    """Integers in [low, high): `integers(low, high, *shape)` or `integers(*shape, low=…, high=…)`; int64 by default."""
    low, high, shape = _split_bounds("integers", args, bounds, number=(int,))
    return Spec("integers", shape, (("low", low), ("high", high)), dtype or "int64", layout)


def boolean(*shape: Any, layout: str = "contiguous") -> Spec:
    """Fair coin flips."""
    return Spec("boolean", _normalise_shape(shape), (), "bool", layout)


def one_hot(*shape: Any, dtype: str | None = None, layout: str = "contiguous") -> Spec:
    """Rows along the last axis that hold a single 1: `one_hot(batch, classes)`."""
    return Spec("one_hot", _normalise_shape(shape), (), dtype, layout)


def simplex(*shape: Any, dtype: str | None = None, layout: str = "contiguous") -> Spec:
    """Rows along the last axis that are positive and sum to 1, uniform on the simplex."""
    return Spec("simplex", _normalise_shape(shape), (), dtype, layout)


def spd(*shape: Any, dtype: str | None = None, layout: str = "contiguous") -> Spec:
    """Symmetric positive definite matrices: `spd(3)` is 3×3, `spd(5, 3)` five of them; A Aᵀ/n + I/10, A normal."""
    return Spec("spd", _normalise_shape(shape), (), dtype, layout)


def orthogonal(*shape: Any, dtype: str | None = None, layout: str = "contiguous") -> Spec:
    """Orthogonal matrices: Q of the QR decomposition of a normal matrix."""
    return Spec("orthogonal", _normalise_shape(shape), (), dtype, layout)


def triangular(*shape: Any, upper: bool = False, dtype: str | None = None, layout: str = "contiguous") -> Spec:
    """Lower (or upper) triangular normal matrices with a diagonal of at least 1/2 in size."""
    if not isinstance(upper, bool):
        raise SpecError(f"triangular: upper={upper!r}: expected True or False")
    return Spec("triangular", _normalise_shape(shape), (("upper", upper),) if upper else (), dtype, layout)


def sparse(*shape: Any, density: float = 0.1, dtype: str | None = None, layout: str = "contiguous") -> Spec:
    """Normal entries, each present with probability `density` and exactly 0 otherwise (a dense array)."""
    if not isinstance(density, int | float) or not 0 <= density <= 1:
        raise SpecError(f"sparse: density={density!r}: expected a number from 0 to 1")
    return Spec("sparse", _normalise_shape(shape), (("density", density),), dtype, layout)


def ones(*shape: Any, dtype: str | None = None, layout: str = "contiguous") -> Spec:
    """All entries 1."""
    return Spec("ones", _normalise_shape(shape), (), dtype, layout)


def zeros(*shape: Any, dtype: str | None = None, layout: str = "contiguous") -> Spec:
    """All entries 0."""
    return Spec("zeros", _normalise_shape(shape), (), dtype, layout)


def eye(*shape: Any, dtype: str | None = None, layout: str = "contiguous") -> Spec:
    """Identity matrices: `eye(3)` is 3×3."""
    return Spec("eye", _normalise_shape(shape), (), dtype, layout)


def array(value: Any, dtype: str | None = None, layout: str = "contiguous") -> Spec:
    """Literal values: `array([[1.0, 2.0], [3.0, 4.0]])`."""
    try:
        values = np.asarray(value)
    except ValueError as error:
        raise SpecError(f"array({value!r}): expected nested lists of equal lengths ({error})") from None
    if values.dtype.kind not in "biufc":
        raise SpecError(f"array({value!r}): expected numbers, got dtype {values.dtype}")
    if dtype is None and values.dtype.kind in "biu":
        dtype = "bool" if values.dtype.kind == "b" else "int64"
    if dtype is None and values.dtype.kind == "c":
        dtype = "complex128"
    return Spec("array", values.shape, (("value", _to_tuples(values.tolist())),), dtype, layout)


def _to_tuples(value: Any) -> Any:
    """Turn nested lists to tuples, which can be hashed."""
    return tuple(_to_tuples(v) for v in value) if isinstance(value, list) else value


def _to_lists(value: Any) -> Any:
    return [_to_lists(v) for v in value] if isinstance(value, tuple) else value


CONSTRUCTORS: dict[str, Callable[..., Spec]] = {
    f.__name__: f
    for f in (
        normal, uniform, positive, integers, boolean, one_hot, simplex, spd, orthogonal, triangular, sparse, ones, zeros,
        eye, array,
    )
}  # fmt: skip


def _split_bounds(
    kind: str, args: tuple[Any, ...], bounds: dict[str, Any], number: tuple[type, ...]
) -> tuple[Any, Any, tuple[Size, ...]]:
    unknown = sorted(set(bounds) - {"low", "high"})
    if unknown:
        raise SpecError(f"{kind}: unknown argument {unknown[0]!r}; expected low, high, dtype or layout")
    if bounds:
        low, high, shape = bounds.get("low", 0), bounds.get("high"), _normalise_shape(args)
    else:
        low, high = [*args[:2], None, None][:2]
        shape = _normalise_shape(args[2:])
    for value in (low, high):
        if not isinstance(value, number) or isinstance(value, bool):
            raise SpecError(
                f"{kind}: expected {kind}(low, high, *sizes) with numbers low and high, got low={low!r}, high={high!r}"
            )
    if low in (-np.inf, np.inf) or high in (-np.inf, np.inf):
        raise SpecError(f"{kind}: low={low!r}, high={high!r}: expected finite numbers")
    if not low < high:
        raise SpecError(f"{kind}: low={low!r}, high={high!r}: expected low < high (high itself is excluded)")
    return low, high, shape


def draw_array(spec: Spec, rng: np.random.Generator, size_of: Mapping[str, int], dtype: str) -> NDArray[Any]:
    """Draw one array.

    Args:
        spec: how to draw it.
        rng: the source of random numbers.
        size_of: sizes by name.
        dtype: dtype if the spec names none.

    Returns:
        The array; for bfloat16, which NumPy lacks, in float32.

    Raises:
        SpecError: if the sizes or the values are impossible, or the values do not fit the dtype.
    """
    shape = tuple(sizes.evaluate_size(s, size_of.__getitem__) if isinstance(s, str) else s for s in spec.shape)
    drawn_dtype = np.dtype(NUMPY_SUBSTITUTES.get(spec.dtype or dtype, spec.dtype or dtype))
    try:
        values = _SAMPLERS[spec.kind](rng, shape, **dict(spec.params))
    except (ValueError, OverflowError, MemoryError) as error:
        raise SpecError(f"{spec} with shape {shape} cannot be drawn: {error}") from None
    if drawn_dtype.kind == "c" and spec.kind in ("normal", "sparse", "triangular"):
        values = values + 1j * rng.standard_normal(values.shape) * (values != 0)
    with np.errstate(over="ignore"):
        cast = (
            values.astype(drawn_dtype)
            if values.dtype.kind != "c" or drawn_dtype.kind == "c"
            else values.real.astype(drawn_dtype)
        )
    if spec.kind in ("integers", "array") and drawn_dtype.kind not in "fc" and not np.array_equal(cast, values):
        raise SpecError(f"{spec}: its values do not fit into dtype {drawn_dtype}")
    if values.dtype.kind == "c" and drawn_dtype.kind != "c":
        raise SpecError(f"{spec}: its values are complex, but dtype {drawn_dtype} is not")
    return copy_to_layout(cast, spec.layout)


def copy_to_layout(values: NDArray[Any], layout: str) -> NDArray[Any]:
    """Return the values in a memory layout; 'expanded' repeats the first slice along the first axis."""
    if values.ndim == 0 or layout in ("contiguous", *SPARSE_LAYOUTS):
        return np.ascontiguousarray(values).reshape(values.shape)
    if layout == "transposed":
        return np.ascontiguousarray(values.T).T
    if layout == "strided":
        buffer = np.zeros((*values.shape[:-1], 2 * values.shape[-1]), values.dtype)
        buffer[..., ::2] = values
        return buffer[..., ::2]
    base = np.ascontiguousarray(values[:1])
    return np.lib.stride_tricks.as_strided(base, values.shape, (0, *base.strides[1:]))


Shape = tuple[int, ...]
Values = np.ndarray[Any, np.dtype[Any]]


def _matrix(rng: np.random.Generator, shape: Shape) -> Values:
    return rng.standard_normal((*shape, shape[-1]))


def _spd(rng: np.random.Generator, shape: Shape) -> Values:
    a = _matrix(rng, shape)
    return np.asarray(a @ np.swapaxes(a, -1, -2) / max(shape[-1], 1) + 0.1 * np.eye(shape[-1]))


def _triangular(rng: np.random.Generator, shape: Shape, upper: bool = False) -> Values:
    a = _matrix(rng, shape)
    diagonal = np.eye(shape[-1], dtype=bool)
    a = np.where(diagonal, np.where(a < 0, -1.0, 1.0) * (0.5 + np.abs(a)), a)
    return np.triu(a) if upper else np.tril(a)


def _one_hot(rng: np.random.Generator, shape: Shape) -> Values:
    return np.eye(shape[-1])[rng.integers(0, shape[-1], shape[:-1])]


def _eye(rng: np.random.Generator, shape: Shape) -> Values:
    return np.broadcast_to(np.eye(shape[-1]), (*shape, shape[-1]))


_SAMPLERS: dict[str, Callable[..., Values]] = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "uniform": lambda rng, shape, low, high: rng.uniform(low, high, shape),
    "positive": lambda rng, shape: np.exp(rng.standard_normal(shape)),
    "integers": lambda rng, shape, low, high: rng.integers(low, high, shape),
    "boolean": lambda rng, shape: rng.random(shape) < 0.5,
    "one_hot": _one_hot,
    "simplex": lambda rng, shape: rng.dirichlet(np.ones(shape[-1]), shape[:-1]),
    "spd": _spd,
    "orthogonal": lambda rng, shape: np.linalg.qr(_matrix(rng, shape))[0],
    "triangular": _triangular,
    "sparse": lambda rng, shape, density: rng.standard_normal(shape) * (rng.random(shape) < density),
    "ones": lambda rng, shape: np.ones(shape),
    "zeros": lambda rng, shape: np.zeros(shape),
    "eye": _eye,
    "array": lambda rng, shape, value: np.asarray(value),
}
