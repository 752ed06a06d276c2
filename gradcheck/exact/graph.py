"""A program as a graph of exact operations: rational ones, linear maps, powers, exponentials and named functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from gradcheck.exact.constants import Constant

F64 = NDArray[np.float64]
# A function of float64 arrays that hold integers, which returns such an array.
ApplyLinear = Callable[[Sequence[F64]], F64]
ApplyBilinear = Callable[[F64, F64], F64]
# Larger programs are not translated: this many operators, and numbers in all their results together.
MAX_OPERATORS = 20_000
MAX_NUMBERS = 5_000_000

DEMOTES = "the code computes in {} inside, whose rounding is no part of the formulas"


class NotAvailable(Exception):  # noqa: N818 - not an error: a proof that cannot be tried
    """The identity cannot be decided exactly; the message says why."""


@dataclass(frozen=True, eq=False)
class Node:
    """An array of the program.

    Attributes:
        shape: of the array.
        arguments: the nodes that it is made of.
    """

    shape: tuple[int, ...]
    arguments: tuple[Node, ...] = ()

    def __post_init__(self) -> None:
        """Look at the arguments, whose own are known."""
        opaque = isinstance(self, Exp | Function | PowerOfArray)
        has_log = isinstance(self, Log) or (not opaque and any(argument.has_log for argument in self.arguments))
        object.__setattr__(self, "has_log", has_log)
        varies = isinstance(self, Input) or any(argument.varies for argument in self.arguments)
        object.__setattr__(self, "varies", varies)

    has_log: bool = field(init=False, repr=False)  # whether a logarithm takes part other than inside an exponential
    varies: bool = field(init=False, repr=False)  # whether an input takes part


@dataclass(frozen=True, eq=False)
class Input(Node):
    """Numbers that are drawn at random: a leaf of the inputs, or a cotangent."""

    name: str = ""


@dataclass(frozen=True, eq=False)
class Constants(Node):
    """Known numbers: the distinct ones, and the place of each entry's among them."""

    distinct: tuple[Constant, ...] = ()
    places: NDArray[np.intp] | None = None

    @property
    def single(self) -> Constant | None:
        """The number that all entries are; None if they differ."""
        return self.distinct[0] if len(self.distinct) == 1 else None


@dataclass(frozen=True, eq=False)
class Sum(Node):
    """The sum of two arrays, or their difference, with broadcasting."""

    sign: int = 1


@dataclass(frozen=True, eq=False)
class Product(Node):
    """The product of two arrays, entry by entry, with broadcasting."""


@dataclass(frozen=True, eq=False)
class Linear(Node):
    """A linear map of all its arguments together, with integer coefficients that are not negative.

    Attributes:
        apply: the map.
        moves: whether each entry of the result is an entry of an argument.
        terms: the largest number of entries that are added up.
        at_ties: the same map with another choice among equal numbers, such as those that compete for a maximum.
    """

    apply: ApplyLinear = lambda arrays: arrays[0]
    moves: bool = False
    terms: int = 1
    at_ties: ApplyLinear | None = None


@dataclass(frozen=True, eq=False)
class Bilinear(Node):
    """A map that is linear in each of its two arguments, such as a matrix product: integer coefficients, none negative."""

    apply: ApplyBilinear = lambda a, b: a * b
    terms: int = 1


@dataclass(frozen=True, eq=False)
class Power(Node):
    """A rational power, entry by entry. If the exponent is no integer, the argument must be a square."""

    exponent: Fraction = Fraction(1)


@dataclass(frozen=True, eq=False)
class PowerOfArray(Node):
    """The first argument to the power of the second, entry by entry."""


@dataclass(frozen=True, eq=False)
class Exp(Node):
    """The exponential, to the base e or to a given one.

    Attributes:
        base: a positive integer; 0: e.
        vanishes: where the argument is minus infinity.
    """

    base: int = 0
    vanishes: NDArray[np.bool_] | None = None


@dataclass(frozen=True, eq=False)
class Log(Node):
    """The natural logarithm."""


@dataclass(frozen=True, eq=False)
class Function(Node):
    """A function of which nothing is known but its derivative.

    Attributes:
        name: of the function.
        derivative: (argument, the function's own node) -> its derivative.
        evaluate: its values in floating point.
        parity: 1 for an even function, -1 for an odd one, 0 for another.
    """

    name: str = ""
    derivative: Callable[[Node, Node], Node] | None = None
    evaluate: Callable[[F64], F64] | None = None
    parity: int = 0


@dataclass(frozen=True, eq=False)
class Undefined(Node):
    """An array with entries that stand for no number, such as infinities.

    Attributes:
        where: marks them.
        floats: the array in floating point.
    """

    where: NDArray[np.bool_] | None = None
    floats: F64 | None = None
