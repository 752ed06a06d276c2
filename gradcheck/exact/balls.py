"""The values of a graph's nodes in real numbers, as balls: a midpoint of many digits, and a radius that bounds its error.

The arithmetic is that of Arb (Johansson, IEEE Transactions on Computers 66(8), 2017) by python-flint.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from functools import cached_property, partial
from math import factorial
from typing import Any

import numpy as np
from flint import arb, ctx, fmpq
from numpy.typing import NDArray

from gradcheck.exact.arithmetic import Arithmetic, list_ancestors
from gradcheck.exact.constants import Constant
from gradcheck.exact.graph import (
    F64,
    Bilinear,
    Constants,
    Exp,
    Function,
    Input,
    Linear,
    Log,
    Node,
    NotAvailable,
    Power,
    PowerOfArray,
    Product,
    Sum,
    Undefined,
)

Balls = NDArray[np.object_]

# So far a constant of the program may be from the number that was meant: that many are recognised by `read_constant`.
CONSTANT_ERROR = 2.0**-50
# A binary number with more bits than this may be the rounded result of a computation, such as the sum of two random numbers.
MAX_EXACT_BITS = 40
# Midpoints are added up as integers of at most this many bits; what is smaller than the last of them goes to the radius.
MAX_WINDOW = 8000
# Sums of integers are exact in float64 up to this many bits.
MAX_BITS = 52
# Radii are added up in float64 too; this covers the rounding there.
ROUNDED_UP = 1 + 2.0**-20
# So often is a map applied to random numbers, which shows coefficients below zero that matter.
SIGN_TRIALS = 3
# An entry that stands for no number may be any number in this ball.
ANY_NUMBER_BITS = 10**6
# Functions that have the same name here and there.
NAMED = frozenset(("erf", "erfinv", "asin", "atan", "asinh", "acosh", "atanh", "lgamma"))


@contextmanager
def working_precision(bits: int) -> Iterator[None]:
    """Compute with midpoints of this many bits."""
    before = ctx.prec
    ctx.prec = bits
    try:
        yield
    finally:
        ctx.prec = before


def make_balls(numbers: F64) -> Balls:
    """Return floating-point numbers as balls of radius zero."""
    return _each(arb, np.asarray(numbers, np.float64).astype(object))


def _each(function: Callable[..., Any], *arrays: Balls) -> Balls:
    return np.asarray(np.frompyfunc(function, len(arrays), 1)(*arrays), dtype=object)


def _fill(x: Balls, where: NDArray[np.bool_], number: Any) -> Balls:
    filled = np.array(x, dtype=object)
    filled[where] = number
    return filled


class BallEvaluation(Arithmetic):
    """The values of nodes at one point, for real numbers.

    Args:
        inputs: the values of every input.
        at_ties: whether equal numbers that compete are chosen the other way round.
        blurs: whether every constant may be off by the rounding of the program's.
    """

    def __init__(self, inputs: Mapping[Node, Balls], *, at_ties: bool = False, blurs: bool = False) -> None:
        super().__init__()
        self.at_ties, self.blurs = at_ties, blurs
        self._values: dict[Node, Balls] = dict(inputs)

    def value(self, node: Node) -> Balls:
        """Return the balls of a node."""
        for needed in list_ancestors([node], self._values.__contains__, lambda n: n.arguments):
            if isinstance(needed, Input):
                raise NotAvailable("an input without a value")
            arguments = [self._values[argument] for argument in needed.arguments]
            numbers = np.asarray(VALUES[type(needed)](self, needed, *arguments), dtype=object)
            self._values[needed] = np.broadcast_to(numbers, needed.shape)
        return self._values[node]

    def _value_of_constants(self, node: Constants) -> Balls:
        assert node.places is not None
        distinct = np.empty(len(node.distinct), dtype=object)
        distinct[:] = [self._number(constant) for constant in node.distinct]
        return np.asarray(distinct[node.places]).reshape(node.shape)

    def _value_of_exp(self, node: Exp, x: Balls) -> Balls:
        result = _each(lambda v: arb(node.base) ** v if node.base else v.exp(), x)
        return result if node.vanishes is None else _fill(result, node.vanishes, arb(0))

    def _value_of_function(self, node: Function, x: Balls) -> Balls:
        name, _, order = node.name.partition(" ")
        if node.name in NAMED:
            return _each(getattr(arb, name), x)
        if node.name == "sin and cos":
            return _each(lambda v: (v / 2).tan(), x)
        if name == "polygamma":
            return _each(lambda v: _polygamma(int(order), v), x)
        raise NotAvailable(f"{node.name} has no values in high precision")

    # --- what values and derivatives need

    def _reduce(self, numbers: Any) -> Balls:
        return np.asarray(numbers, dtype=object)

    def _zeros(self, shape: tuple[int, ...]) -> Balls:
        return np.full(shape, arb(0), dtype=object)

    def _number(self, constant: Constant) -> Any:
        rational, radicand = constant.rational, constant.radicand
        result = _fraction(rational)
        if radicand != 1:
            result *= _fraction(radicand).sqrt()
        if constant.half_powers_of_pi:
            result *= arb.pi().sqrt() ** constant.half_powers_of_pi
        if constant.logarithm:
            result *= arb(abs(constant.logarithm)).log() ** int(np.sign(constant.logarithm))
        is_short = rational.numerator.bit_length() <= MAX_EXACT_BITS
        is_exact = constant.is_rational and is_short and Fraction(float(rational)) == rational
        return result if is_exact or not self.blurs else result * arb(1, CONSTANT_ERROR)

    def _raise(self, x: Balls, exponent: Fraction) -> Balls:
        if exponent.denominator == 1:
            return _each(lambda v: v**exponent.numerator, x)
        if exponent == Fraction(1, 2):
            return _each(arb.sqrt, x)
        return _each(lambda v: v ** _fraction(exponent), x)

    def _logarithm_of(self, node: Node) -> Balls:
        return _each(arb.log, self.value(node))

    def _mark_undefined(self, node: Undefined, x: Balls) -> Balls:
        assert node.where is not None
        return _fill(x, node.where, arb(0, arb((1, ANY_NUMBER_BITS))))

    def _combine(self, node: Linear, arrays: Sequence[Balls]) -> Balls:
        apply = node.at_ties if self.at_ties and node.at_ties is not None else node.apply
        sizes = [int(np.prod(argument.shape)) for argument in node.arguments]
        flat = np.concatenate([np.broadcast_to(x, n.shape).reshape(-1) for x, n in zip(arrays, node.arguments, strict=True)])

        def run(numbers: NDArray[Any]) -> F64:
            parts = np.split(numbers.astype(np.float64), np.cumsum(sizes)[:-1])
            return np.asarray(apply([part.reshape(n.shape) for part, n in zip(parts, node.arguments, strict=True)]))

        if node.moves:  # each entry of the result is an entry of an argument, or zero
            places = run(np.arange(1, len(flat) + 1)).astype(np.int64)
            return np.asarray(np.concatenate([flat, self._zeros((1,))])[places - 1])
        return _apply_exactly(run, [flat], node.terms)

    def _multiply(self, node: Bilinear, first: Balls, second: Balls) -> Balls:
        def run(a: NDArray[Any], b: NDArray[Any]) -> F64:
            shaped = [x.astype(np.float64).reshape(n.shape) for x, n in zip((a, b), node.arguments, strict=True)]
            return np.asarray(node.apply(*shaped))

        arrays = [np.broadcast_to(x, n.shape).reshape(-1) for x, n in zip((first, second), node.arguments, strict=True)]
        return _apply_exactly(run, arrays, node.terms)


def _fraction(x: Fraction) -> Any:
    return arb(fmpq(x.numerator, x.denominator))


def _polygamma(order: int, x: Any) -> Any:
    return x.digamma() if not order else (-1) ** (order + 1) * factorial(order) * arb(order + 1).zeta(x)


# --- maps with integer coefficients that only know float64


def _apply_exactly(run: Callable[..., F64], arrays: Sequence[Balls], terms: int) -> Balls:
    """Apply a map that is linear in each of one or two arrays, with integer coefficients that are not negative.

    Midpoints are written as integers times a power of two, and these in parts that the map adds up exactly in float64.
    """
    _refuse_negative_coefficients(run, arrays)
    numbers = [_Dissected(x) for x in arrays]
    bits = (MAX_BITS - terms.bit_length()) // len(arrays)
    middle: Any = 0
    for parts in _list_combinations([x.split(bits) for x in numbers]):
        result = run(*(limb for limb, _ in parts))
        rounded = np.rint(result)
        if not np.array_equal(rounded, result):
            raise NotAvailable("an operator that is linear, but not with integer coefficients")
        middle = middle + (rounded.astype(np.int64).astype(object) << sum(shift for _, shift in parts))
    exponent = sum(x.exponent for x in numbers)
    return _each(lambda m, r: +arb(arb((int(m), exponent)), r), np.asarray(middle, dtype=object), _bound_radii(run, numbers))


def _bound_radii(run: Callable[..., F64], numbers: Sequence[_Dissected]) -> Balls:
    """Bound how far the results of a map may be off: |A(x, y) - A(x', y')| for all x', y' in the balls."""
    with np.errstate(all="ignore"):
        if len(numbers) == 1:
            factors = [[numbers[0].radius_bounds]]
        else:
            (a, b) = numbers
            factors = [[a.size_bounds, b.radius_bounds], [a.radius_bounds, b.size_bounds]]
        total: Any = 0
        for bounds in factors:
            values, exponent = run(*(floats for floats, _ in bounds)) * ROUNDED_UP, sum(e for _, e in bounds)
            total = total + _each(partial(_scale, exponent), values.astype(object))
    return np.asarray(total, dtype=object)


def _scale(exponent: int, radius: float) -> Any:
    return arb(radius) * arb((1, exponent)) if np.isfinite(radius) else arb.nan()


def _refuse_negative_coefficients(run: Callable[..., F64], arrays: Sequence[Balls]) -> None:
    draw = np.random.default_rng(0)
    for _ in range(SIGN_TRIALS):
        numbers = [draw.uniform(-1.0, 1.0, x.size) for x in arrays]
        if np.any(np.abs(run(*numbers)) > run(*map(np.abs, numbers)) * ROUNDED_UP):
            raise NotAvailable("an operator that is linear with negative coefficients")


def _list_combinations(lists: Sequence[list[tuple[F64, int]]]) -> Iterator[tuple[tuple[F64, int], ...]]:
    if len(lists) == 1:
        return ((part,) for part in lists[0])
    return ((first, second) for first in lists[0] for second in lists[1])


class _Dissected:
    """An array of balls as integers times a power of two, with their radii and their largest sizes in float64.

    Attributes:
        integers, exponent: the midpoints are integers * 2^exponent.
        bits: of the largest integer, with its sign.
        radius_bounds: bounds of the radii in float64, times a power of two.
    """

    def __init__(self, balls: Balls) -> None:
        pairs = [_integer_and_exponent(x.mid()) if x.is_finite() else (0, 0) for x in balls]
        ends = [exponent + integer.bit_length() for integer, exponent in pairs if integer]
        top, bottom = max(ends, default=0), min((exponent for integer, exponent in pairs if integer), default=0)
        self.exponent = max(bottom, top - MAX_WINDOW)
        cut = arb((1, self.exponent)) if self.exponent > bottom else arb(0)
        self.integers = np.empty(len(pairs), dtype=object)
        self.integers[:] = [_shift(integer, exponent - self.exponent) for integer, exponent in pairs]
        self.bits = top - self.exponent + 1
        radii = [x.rad() + cut if x.is_finite() else None for x in balls]
        self.radius_bounds = _bound_in_float64(radii)
        self.balls, self.cut = balls, cut

    @cached_property
    def size_bounds(self) -> tuple[F64, int]:
        """Bounds of the sizes, times a power of two."""
        return _bound_in_float64([x.abs_upper() + self.cut if x.is_finite() else None for x in self.balls])

    def split(self, bits: int) -> list[tuple[F64, int]]:
        """Return parts of some bits each as float64, with the power of two that each is multiplied with."""
        rest, mask, parts = self.integers, (1 << bits) - 1, []
        for shift in range(0, max(self.bits, 1), bits):
            is_last = shift + bits >= self.bits  # which has the sign
            parts.append(((rest if is_last else rest & mask).astype(np.float64), shift))
            rest = rest >> bits
        return parts


def _integer_and_exponent(x: Any) -> tuple[int, int]:
    integer, exponent = x.man_exp()
    return int(integer), int(exponent)


def _shift(integer: int, bits: int) -> int:
    return integer << bits if bits >= 0 else integer >> -bits


def _bound_in_float64(numbers: Sequence[Any]) -> tuple[F64, int]:
    """Return upper bounds of numbers that are not negative, and the power of two that they are multiplied with."""
    pairs = [(0, 0) if x is None else _integer_and_exponent(x.upper()) for x in numbers]
    exponent = max((e + integer.bit_length() for integer, e in pairs if integer), default=0)
    tiny = np.finfo(np.float64).tiny

    def bound(pair: tuple[int, int]) -> float:
        integer, e = pair
        excess = max(integer.bit_length() - 60, 0)
        top = (integer >> excess) + 1
        return max(float(np.ldexp(float(top), max(e + excess - exponent, -2000))) * ROUNDED_UP, tiny) if integer else 0.0

    values = [np.inf if x is None else bound(pair) for x, pair in zip(numbers, pairs, strict=True)]
    return np.array(values, dtype=np.float64), exponent


VALUES: dict[type[Node], Callable[..., Any]] = {
    Constants: BallEvaluation._value_of_constants,
    Sum: lambda _, node, a, b: a + node.sign * b,
    Product: lambda _, node, a, b: a * b,
    Linear: lambda evaluation, node, *values: evaluation._combine(node, values),
    Bilinear: lambda evaluation, node, a, b: evaluation._multiply(node, a, b),
    Power: lambda evaluation, node, x: evaluation._raise(x, node.exponent),
    PowerOfArray: lambda _, node, a, b: _each(lambda x, y: x**y, a, b),
    Exp: BallEvaluation._value_of_exp,
    Log: lambda _, node, x: _each(arb.log, x),
    Function: BallEvaluation._value_of_function,
    Undefined: lambda evaluation, node, x: evaluation._mark_undefined(node, x),
}
