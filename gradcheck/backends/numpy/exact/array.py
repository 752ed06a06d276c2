"""An array of NumPy code that is traced: its floating-point numbers, and the exact node that it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import NDArray

from gradcheck.backends.numpy.exact.record import active_record, is_recording
from gradcheck.exact import build
from gradcheck.exact.branches import TO_INTEGERS
from gradcheck.exact.build import linear, mark_undefined, node_of
from gradcheck.exact.graph import F64, Node, NotAvailable
from gradcheck.exact.identity import Equality

READS_NUMBERS = "the code reads numbers of its arrays, as `int(x)` and compiled code do"
GIVES_AWAY = "the code writes to an array that it had before the call, or gives its arrays to compiled code"
# A rule of a ufunc: (result in floating point, *operands) -> node. A rule of a function: its arguments -> traced arrays.
UFUNC_RULES: dict[str, Callable[..., Node]] = {}
FUNCTION_RULES: dict[str, Callable[..., Any]] = {}
# Ufuncs that compare two arrays, and all whose branch the floating-point values choose.
COMPARISONS = frozenset(("equal", "not_equal", "less", "less_equal", "greater", "greater_equal"))
BRANCHES = COMPARISONS | {"maximum", "minimum", "fmax", "fmin", "absolute", "fabs", "sign", "copysign", "floor", "ceil", "rint"}
REDUCTIONS = {"add": "sum", "multiply": "prod", "maximum": "max", "minimum": "min"}
ACCUMULATIONS = {"add": "cumsum", "multiply": "cumprod"}


def note_branch(name: str, result: Any, *operands: Any) -> None:
    """Note that the floating-point values of some operands choose a branch, which shows in the result."""
    nodes = [x.node for x in operands if isinstance(x, TracedArray)]
    if any(node.varies for node in nodes):
        active_record.get().branches.add(name, result.node if isinstance(result, TracedArray) else result, nodes)


@dataclass(eq=False)
class _Storage:
    """The memory of an array and its views.

    Attributes:
        shadow: the array that owns the floating-point numbers.
        node: what it is now, of the same shape.
    """

    shadow: NDArray[Any]
    node: Node


class TracedArray(NDArrayOperatorsMixin):
    """An array that is traced: NumPy's functions and operators on it make exact nodes.

    Code may keep it, as a layer keeps its input. After the trace it does what a plain array of its numbers would do, and in
    another trace it is one of constants.

    Args:
        shadow: its floating-point numbers; the view of an array is a view of its shadow.
        storage: where it lies.
        places: of its entries in the storage; None for all of them in order.
    """

    def __init__(self, shadow: NDArray[Any], storage: _Storage, places: NDArray[np.int64] | None = None) -> None:
        self.shadow, self.storage, self._places = shadow, storage, places
        self._of_view: tuple[Node, Node] | None = None
        self._trace = active_record.get(None)

    @property
    def places(self) -> NDArray[np.int64]:
        """The places of the entries in the storage."""
        return np.arange(self.shadow.size).reshape(self.shadow.shape) if self._places is None else self._places

    @property
    def node(self) -> Node:
        """What the array is now."""
        if self._trace is not active_record.get(None):
            return build.node_of(np.array(self.shadow, np.float64))
        whole = self.storage.node
        if self._places is None:
            return whole
        if self._of_view is None or self._of_view[0] is not whole:
            places = self._places
            self._of_view = whole, build.move(whole, lambda numbers: numbers.reshape(-1)[places])
        return self._of_view[1]

    def move(self, function: Callable[[Any], Any]) -> Any:
        """Take entries as a function of one array does: a view if NumPy returns one, a list for a list."""
        moved = function(self.shadow)
        if not is_recording():
            return moved
        if isinstance(moved, list | tuple):
            return type(moved)(self.move(lambda x, k=k: function(x)[k]) for k in range(len(moved)))  # type: ignore[misc]
        if isinstance(moved, np.ndarray) and np.may_share_memory(moved, self.shadow):
            return TracedArray(moved, self.storage, function(self.places))
        return finish(moved, build.move(self.node, function))

    def write(self, key: Any, value: Any, *, sign: int = 0) -> None:
        """Overwrite entries, or add to each as often as the key names it.

        Args:
            key: as of an assignment.
            value: a number or an array, traced or not.
            sign: 1 to add, -1 to subtract, 0 to overwrite.
        """
        value = trace_sequences(value)
        if self._trace is not active_record.get(None) and contains_traced(value):
            raise NotAvailable(GIVES_AWAY)
        if sign:
            (np.add if sign > 0 else np.subtract).at(self.shadow, key, shadow_of(value))
        else:
            self.shadow[key] = shadow_of(value)
        if self._trace is not active_record.get(None):
            return
        places, before = np.asarray(self.places[key]), self.storage.node

        def apply(arrays: Sequence[F64]) -> F64:
            changed = np.array(arrays[0]).reshape(-1)
            if sign:
                (np.add if sign > 0 else np.subtract).at(changed, places, arrays[1])
            else:
                changed[places] = arrays[1]
            return changed.reshape(before.shape)

        active_record.get().count(self.storage.shadow.size)
        node = linear([before, node_of(value)], apply, before.shape, moves=not sign)
        self.storage.node = mark_undefined(node, np.asarray(self.storage.shadow, np.float64))

    # --- what NumPy calls

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = None, where: Any = True, **kwargs: Any
    ) -> Any:
        """Apply a ufunc, or one of its methods."""
        if not is_recording():
            settings = {
                **kwargs,
                **({} if out is None else {"out": shadow_of(out)}),
                **({} if where is True else {"where": where}),
            }
            return getattr(ufunc, method)(*map(shadow_of, inputs), **settings)
        if method == "at":
            return _write_at(ufunc, *inputs)
        if out is not None:
            return _write_out(out[0], where, getattr(ufunc, method)(*inputs, **kwargs))
        if where is not True:
            raise NotAvailable(f"{ufunc.__name__} with where= and without out=")
        if method == "__call__":
            return _apply_ufunc(ufunc, [trace_sequences(x) for x in inputs])
        name = {"reduce": REDUCTIONS, "accumulate": ACCUMULATIONS}.get(method, {}).get(ufunc.__name__)
        if name is not None:
            return FUNCTION_RULES[name](*inputs, **{"axis": 0, **kwargs})
        if method == "outer":
            first, second = (trace_sequences(x) for x in inputs)
            return ufunc(np.reshape(first, np.shape(first) + (1,) * np.ndim(second)), second)
        raise NotAvailable(f"no rule for {ufunc.__name__}.{method}")

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        """Apply a function of NumPy by its rule, or run its own code if that is made of others."""
        if not is_recording():
            return function(*map(shadow_of, args), **{key: shadow_of(value) for key, value in kwargs.items()})
        name = f"{function.__module__.partition('.')[2]}.{function.__name__}".removeprefix(".")
        if name in FUNCTION_RULES:
            return _call_rule(name, *args, **kwargs)
        try:
            return function._implementation(*args, **kwargs)
        except NotAvailable as error:
            is_read = str(error) in (READS_NUMBERS, GIVES_AWAY)
            raise NotAvailable(f"no rule for numpy.{name}" if is_read else str(error)) from None

    def __getitem__(self, key: Any) -> Any:
        """Return some entries."""
        return self.move(lambda x: x[key])

    def __setitem__(self, key: Any, value: Any) -> None:
        """Overwrite some entries."""
        self.write(key, value)

    def __len__(self) -> int:
        """Return the length of the first axis."""
        return len(self.shadow)

    def __iter__(self) -> Iterator[Any]:
        """Iterate along the first axis."""
        return (self[k] for k in range(len(self)))

    def __bool__(self) -> bool:
        """Say whether the number is not zero: a condition in Python, whose branch the floating-point value chooses."""
        return bool(self != 0)

    def __array__(self, *args: Any, **_: Any) -> NDArray[Any]:
        """Return the plain array after the trace, and refuse before."""
        if is_recording():
            raise NotAvailable(GIVES_AWAY)
        return np.array(self.shadow, *args)

    def _refuse(self, *_: Any) -> Any:
        raise NotAvailable(READS_NUMBERS)

    def __float__(self) -> float:
        """Return the number after the trace, and refuse before."""
        return self._refuse() if is_recording() else float(self.shadow)

    __int__ = __index__ = __complex__ = __round__ = __format__ = tolist = tobytes = view = _refuse

    def __copy__(self) -> Any:
        """Return a copy."""
        return finish(self.shadow.copy(), self.node) if is_recording() else self.shadow.copy()

    def __deepcopy__(self, _: Any) -> Any:
        """Return a copy."""
        return self.__copy__()

    def __getattr__(self, name: str) -> Any:
        """Return a method that is a function of NumPy as well, such as `sum`."""
        if not name.startswith("_") and not is_recording():
            return getattr(self.shadow, name)
        if name.startswith("_") or name not in FUNCTION_RULES:
            raise AttributeError(f"a traced array has no attribute {name!r}")
        return partial(_call_rule, name, self)

    shape = property(lambda self: self.shadow.shape)
    ndim = property(lambda self: self.shadow.ndim)
    size = property(lambda self: self.shadow.size)
    dtype = property(lambda self: self.shadow.dtype)
    nbytes = property(lambda self: self.shadow.nbytes)
    T = property(lambda self: self.transpose())
    mT = property(lambda self: self.swapaxes(-1, -2))  # noqa: N815 - NumPy's name
    real = property(lambda self: self)

    @property
    def flat(self) -> TracedArray:
        """The entries in one axis; writes show in the array."""
        entries = self.reshape(-1)
        return entries if np.may_share_memory(entries.shadow, self.shadow) else _Flat(entries, self)

    @flat.setter
    def flat(self, value: Any) -> None:
        self.flat[...] = trace_sequences(value) if np.ndim(value) == 0 else as_traced(value).reshape(-1)

    def reshape(self, *shape: Any, **_: Any) -> Any:
        """Return the entries in another shape."""
        return self.move(lambda x: x.reshape(*shape))

    def transpose(self, *axes: Any) -> Any:
        """Return the array with its axes in another order."""
        return self.move(lambda x: x.transpose(*axes))

    def flatten(self, *_: Any) -> TracedArray:
        """Return a copy of one axis."""
        return self.reshape(-1).copy()  # type: ignore[no-any-return]

    def item(self, *key: Any) -> TracedArray:
        """Return one number, which stays traced."""
        return self.reshape(-1)[key[0] if key else 0].copy() if len(key) < 2 else self[key]  # type: ignore[no-any-return]

    def fill(self, value: Any) -> None:
        """Overwrite all entries."""
        self.write(..., value)

    def sort(self, axis: int = -1, **_: Any) -> None:
        """Sort in place."""
        if not is_recording():
            return self.shadow.sort(axis)
        return self.write(..., FUNCTION_RULES["sort"](self, axis))

    def astype(self, dtype: Any, **_: Any) -> Any:
        """Convert: to floating point nothing changes but rounding, other dtypes are constant between jumps."""
        if not is_recording():
            return self.shadow.astype(dtype)
        if np.dtype(dtype).kind == "f":
            return finish(self.shadow.astype(dtype), self.node)
        converted = self.shadow.astype(dtype)
        note_branch(TO_INTEGERS, converted, self)
        return converted


class _Flat(TracedArray):
    """A copy in one axis of an array that has no view in one axis; what is written to it is written to the array."""

    def __init__(self, entries: TracedArray, source: TracedArray) -> None:
        super().__init__(entries.shadow, entries.storage)
        self._source = source

    def write(self, key: Any, value: Any, *, sign: int = 0) -> None:
        """Overwrite entries here and in the array."""
        super().write(key, value, sign=sign)
        where = np.unravel_index(np.arange(self.size)[key], self._source.shape)
        self._source.write(where, value, sign=sign)


@node_of.register
def _node_of_traced(operand: TracedArray) -> Node:
    return operand.node


def finish(shadow: Any, node: Node) -> TracedArray:
    """Make a traced array of a result in floating point and of its node."""
    array = np.asarray(shadow)
    if node.shape != array.shape:
        raise NotAvailable(f"a rule that gives the shape {node.shape} for {array.shape}")
    record = active_record.get()
    record.count(array.size)
    if node.varies and array.dtype.kind == "f" and array.dtype.itemsize < np.dtype(float).itemsize:
        record.demotions.add(array.dtype.name)
    return TracedArray(array, _Storage(array, mark_undefined(node, np.asarray(array, np.float64))))


def make_constant(values: Any) -> TracedArray:
    """Make a traced array of known numbers."""
    array = np.array(values, np.float64)
    return finish(array, build.node_of(array))


def shadow_of(value: Any) -> Any:
    """Return a value with the floating-point numbers in place of traced arrays."""
    if isinstance(value, list | tuple):
        return type(value)(map(shadow_of, value)) if type(value) in (list, tuple) else value
    return value.shadow if isinstance(value, TracedArray) else value


def contains_traced(value: Any) -> bool:
    """Say whether a value is a traced array, or a list or tuple with one."""
    return any(map(contains_traced, value)) if isinstance(value, list | tuple) else isinstance(value, TracedArray)


def trace_sequences(value: Any) -> Any:
    """Make one array of a list or tuple of numbers and arrays."""
    if not isinstance(value, list | tuple):
        return value
    return np.stack([trace_sequences(x) for x in value]) if contains_traced(value) else np.asarray(value)


def as_traced(value: Any) -> TracedArray:
    """Return a traced array as it is, and anything else as constants."""
    value = trace_sequences(value)
    return value if isinstance(value, TracedArray) else make_constant(value)


def _call_rule(name: str, *args: Any, out: Any = None, **kwargs: Any) -> Any:
    result = FUNCTION_RULES[name](*args, **{key: value for key, value in kwargs.items() if key not in ("order", "like")})
    return result if out is None else _write_out(out, True, result)


def _write_at(ufunc: np.ufunc, target: Any, key: Any, value: Any = None) -> None:
    sign = {"add": 1, "subtract": -1}.get(ufunc.__name__)
    if sign is None or not isinstance(target, TracedArray):
        raise NotAvailable(GIVES_AWAY if sign else f"no rule for {ufunc.__name__}.at")
    target.write(key, value, sign=sign)


def _write_out(out: Any, where: Any, result: Any) -> Any:
    if isinstance(out, tuple):
        (out,) = out
    if not isinstance(out, TracedArray):
        if contains_traced(result):
            raise NotAvailable(GIVES_AWAY)
        np.copyto(out, result, where=where)
        return out
    out.write(..., result if where is True else np.where(where, result, out))
    return out


def _apply_ufunc(ufunc: np.ufunc, operands: Sequence[Any]) -> Any:
    name, result = ufunc.__name__, ufunc(*map(shadow_of, operands))
    if name in COMPARISONS or name == "sign":
        _note_equal_numbers(*[*operands, 0][:2])
    kind = np.asarray(result).dtype.kind
    if kind == "c":
        raise NotAvailable("complex numbers")
    if kind == "f" and name not in UFUNC_RULES:
        raise NotAvailable(f"no rule for the ufunc {name}")
    applied = finish(result, UFUNC_RULES[name](result, *operands)) if kind == "f" else result
    if name in BRANCHES:
        note_branch(name, applied, *operands)
    return applied


def _note_equal_numbers(a: Any, b: Any) -> None:
    """Note where two operands of a comparison are equal and finite."""
    first, second = node_of(a), node_of(b)
    where = np.asarray(shadow_of(a) == shadow_of(b)) & np.isfinite(shadow_of(a))
    if (first.varies or second.varies) and bool(where.any()):
        active_record.get().equalities.append(Equality(first, second, where))
