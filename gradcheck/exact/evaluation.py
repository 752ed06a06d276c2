"""The values of a graph's nodes, and their derivatives along a tangent, in the fields of one chain of primes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradcheck.exact.arithmetic import Arithmetic, Array, list_ancestors
from gradcheck.exact.constants import Constant
from gradcheck.exact.field import LIMB_BITS, MAX_TERMS, PrimeField, Residues
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


class Evaluation(Arithmetic):
    """The values of nodes at one random point.

    An entry that the field cannot express, such as the square root of a number that is no square, is filled at random. What
    depends on it changes with the seed of the filling, and what does not change is right.

    Args:
        chain: the fields; exponentials in field k have their exponents in field k + 1.
        inputs: the values of every input in each field, by node.
        seed: of all pseudo-random functions.
        filling: the seed of what is filled in.
        expands_logs: whether the logarithm of a product is a sum. Then numbers that are equal, but not by their formulas, may
            have different logarithms.

    Attributes:
        filled: why anything was filled in, in words.
        unknown: the names of the functions that took part without their identities.
    """

    def __init__(
        self,
        chain: Sequence[PrimeField],
        inputs: Mapping[Node, Sequence[Residues]],
        seed: int,
        filling: int = 0,
        *,
        expands_logs: bool = False,
    ) -> None:
        super().__init__()
        self.chain, self.inputs, self.seed, self.filling, self.expands_logs = chain, inputs, seed, filling, expands_logs
        self.filled: set[str] = set()
        self.unknown: set[str] = set()
        self._values: dict[tuple[Node, int], Residues] = {}
        self._exponentials: dict[tuple[Node, int, int], Residues] = {}
        self._fillings = 0

    # --- values

    def value(self, node: Node, level: int = 0) -> Residues:
        """Return the residues of a node in the field of a level."""
        if (node, level) not in self._values:
            for needed in list_ancestors([node], lambda n: (n, level) in self._values, _same_level_arguments):
                self._values[needed, level] = self._evaluate(needed, level)
        return self._values[node, level]

    def _evaluate(self, node: Node, level: int) -> Residues:
        return VALUES[type(node)](self, node, level)

    def _value_of_input(self, node: Input, level: int) -> Residues:
        return self.inputs[node][level]

    def _value_of_constants(self, node: Constants, level: int) -> Residues:
        distinct = np.array([self._constant(constant, level) for constant in node.distinct], dtype=np.int64)
        assert node.places is not None
        return distinct[node.places].reshape(node.shape)

    def _value_of_sum(self, node: Sum, level: int) -> Residues:
        first, second = (self.value(argument, level) for argument in node.arguments)
        return (first + node.sign * second) % self.chain[level].p

    def _value_of_product(self, node: Product, level: int) -> Residues:
        first, second = (self.value(argument, level) for argument in node.arguments)
        return first * second % self.chain[level].p

    def _value_of_linear(self, node: Linear, level: int) -> Residues:
        return self._apply_linear(node, [self.value(argument, level) for argument in node.arguments], self.chain[level])

    def _value_of_bilinear(self, node: Bilinear, level: int) -> Residues:
        first, second = (self.value(argument, level) for argument in node.arguments)
        return _apply_bilinear(node, first, second, self.chain[level])

    def _value_of_power(self, node: Power, level: int) -> Residues:
        return self._power(self.value(node.arguments[0], level), node.exponent, self.chain[level])

    def _value_of_power_of_array(self, node: PowerOfArray, level: int) -> Residues:
        base = self._fill_where_no_square(self.value(node.arguments[0], level), self.chain[level])
        return self.chain[level].power_by_array(base, self._exponent_value(node.arguments[1], level))

    def _value_of_exp(self, node: Exp, level: int) -> Residues:
        result = self._exponential(node.arguments[0], level, node.base)
        return result if node.vanishes is None else np.where(node.vanishes, 0, result)

    def _value_of_log(self, node: Log, level: int) -> Residues:
        return np.broadcast_to(self._logarithm(node.arguments[0], level), node.shape)

    def _logarithm(self, node: Node, level: int) -> Residues:
        """Return the logarithm of a node: a pseudo-random number, or if they are expanded the sum of those of its factors."""
        field = self.chain[level]
        if self.expands_logs and isinstance(node, Product):
            first, second = (self._logarithm(argument, level) for argument in node.arguments)
            return (first + second) % field.p
        if self.expands_logs and isinstance(node, Power):
            return field.of_fraction(node.exponent) * self._logarithm(node.arguments[0], level) % field.p
        if self.expands_logs and isinstance(node, Exp) and not node.base and node.vanishes is None:
            return self.value(node.arguments[0], level)
        if self.expands_logs and isinstance(node, Linear) and node.moves:
            return self._apply_linear(node, [self._logarithm(argument, level) for argument in node.arguments], field)
        return field.hash("log", self.seed, self.value(node, level))

    def _value_of_function(self, node: Function, level: int) -> Residues:
        self.unknown.add(node.name)
        field, x = self.chain[level], self.value(node.arguments[0], level)
        if not node.parity:
            return field.hash(node.name, self.seed, x)
        is_negative = x > field.q
        result = field.hash(node.name, self.seed, np.where(is_negative, field.p - x, x))
        return result if node.parity == 1 else np.where(x == 0, 0, np.where(is_negative, field.p - result, result) % field.p)

    def _value_of_undefined(self, node: Undefined, level: int) -> Residues:
        return self._fill(self.value(node.arguments[0], level), node.where, self.chain[level], "infinities")

    def _constant(self, constant: Constant, level: int) -> int:
        field = self.chain[level]
        try:
            result = field.of_fraction(constant.rational)
            if constant.radicand != 1:
                exponent = field.root_exponent(Fraction(1, 2))
                assert exponent is not None
                root = pow(field.of_fraction(constant.radicand), exponent, field.p)
                if root * root % field.p != field.of_fraction(constant.radicand):
                    raise NotAvailable(f"the square root of {constant.radicand} has no value in the field")
                result = result * root % field.p
        except ZeroDivisionError:
            raise NotAvailable("a constant has no value in the field") from None
        if constant.half_powers_of_pi:
            root_of_pi = int(field.hash("pi", self.seed, np.array(level))) ** 2 % field.p
            result = result * pow(root_of_pi, constant.half_powers_of_pi, field.p) % field.p
        if constant.logarithm:
            log = int(field.hash("log", self.seed, np.array(abs(constant.logarithm))))
            result = result * pow(log, int(np.sign(constant.logarithm)), field.p) % field.p
        return result

    def _apply_linear(self, node: Linear, arrays: Sequence[Residues], field: PrimeField) -> Residues:
        if node.terms > MAX_TERMS:
            raise NotAvailable(f"a sum of {node.terms:,} terms")
        apply = node.apply
        if node.at_ties is not None:
            self.filled.add("equal numbers")
            apply = node.at_ties if self.filling % 2 else apply
        result = np.asarray(apply([array.astype(np.float64) for array in arrays]))
        rounded = np.rint(result)
        if not np.array_equal(rounded, result):
            raise NotAvailable("an operator that is linear, but not with integer coefficients")
        return rounded.astype(np.int64) % field.p

    def _power(self, x: Residues, exponent: Fraction, field: PrimeField) -> Residues:
        if exponent.denominator == 1:
            if exponent < 0:
                x = self._fill(x, x == 0, field, "quotients")
            return field.power(x, exponent.numerator)
        integer = field.root_exponent(exponent)
        if integer is None:
            raise NotAvailable(f"the power {exponent} has no value in the field")
        return field.power(self._fill_where_no_square(x, field), integer)

    def _fill_where_no_square(self, x: Residues, field: PrimeField) -> Residues:
        """Fill in squares where there is none."""
        filled = self._fill(x, ~field.is_square(x), field, "roots")
        return x if filled is x else np.where(filled == x, x, filled * filled % field.p)

    def _fill(self, x: Residues, where: NDArray[np.bool_] | None, field: PrimeField, why: str) -> Residues:
        """Fill in pseudo-random numbers that depend on the entry's place, so that two of them are not equal by chance."""
        if where is None or not where.any():
            return x
        self.filled.add(why)
        self._fillings += 1
        places = np.arange(x.size, dtype=np.int64).reshape(x.shape)
        return np.where(where, 1 + field.hash(f"fill/{self.filling}", self._fillings, places) % (field.p - 1), x)

    # --- exponentials

    def _exponential(self, node: Node, level: int, base: int) -> Residues:
        """Return the base to the power of a node."""
        key = node, level, base
        if key not in self._exponentials:
            if node.has_log:
                resolved = self._resolve_exponential(node, level, base)
            else:
                field = self.chain[level]
                number = base or int(field.hash("e", self.seed, np.array(level))) ** 2 % field.p
                resolved = field.power_by_array(np.asarray(number, dtype=np.int64), self._exponent_value(node, level))
            self._exponentials[key] = resolved
        return self._exponentials[key]

    def _exponent_value(self, node: Node, level: int) -> Residues:
        if level + 1 < len(self.chain):
            return self.value(node, level + 1)
        self.unknown.add("exp")
        return self.value(node, level) % self.chain[level].q

    def _resolve_exponential(self, node: Node, level: int, base: int) -> Residues:
        """Return the exponential of a node with logarithms in it by the rules of exponents."""
        field = self.chain[level]

        def exponential(argument: Node) -> Residues:
            return self._exponential(argument, level, base)

        if isinstance(node, Log) and not base:
            return self.value(node.arguments[0], level)
        if isinstance(node, Sum):
            first, second = map(exponential, node.arguments)
            return first * (second if node.sign > 0 else self._power(second, Fraction(-1), field)) % field.p
        if isinstance(node, Linear) and node.moves:
            return self._apply_linear(node, [exponential(argument) for argument in node.arguments], field)
        if isinstance(node, Undefined):
            return self._fill(exponential(node.arguments[0]), node.where, field, "infinities")
        factor, other = _split_factor(node)
        return np.broadcast_to(self._power(exponential(other), factor, field), node.shape)

    # --- what derivatives need

    def _reduce(self, numbers: Array) -> Residues:
        return np.asarray(numbers % self.chain[0].p)

    def _zeros(self, shape: tuple[int, ...]) -> Residues:
        return np.zeros(shape, np.int64)

    def _number(self, constant: Constant) -> int:
        return self._constant(constant, 0)

    def _raise(self, x: Residues, exponent: Fraction) -> Residues:
        return self._power(x, exponent, self.chain[0])

    def _logarithm_of(self, node: Node) -> Residues:
        return self._logarithm(node, 0)

    def _combine(self, node: Linear, arrays: Sequence[Residues]) -> Residues:
        return self._apply_linear(node, arrays, self.chain[0])

    def _multiply(self, node: Bilinear, first: Residues, second: Residues) -> Residues:
        return _apply_bilinear(node, first, second, self.chain[0])

    def _mark_undefined(self, node: Undefined, x: Residues) -> Residues:
        return self._fill(x, node.where, self.chain[0], "infinities")


def _apply_bilinear(node: Bilinear, first: Residues, second: Residues, field: PrimeField) -> Residues:
    """Apply a bilinear map to parts of 16 bits, which float64 adds up exactly."""
    if node.terms > MAX_TERMS:
        raise NotAvailable(f"a sum of {node.terms:,} products")
    result: Residues | int = 0
    for a, shift_a in _split(first):
        for b, shift_b in _split(second):
            part = np.rint(np.asarray(node.apply(a, b))).astype(np.int64) % field.p
            result = (result + part * ((1 << (shift_a + shift_b)) % field.p)) % field.p
    return np.asarray(result)


def _split(x: Residues) -> list[tuple[F64, int]]:
    low, high = x & ((1 << LIMB_BITS) - 1), x >> LIMB_BITS
    parts = [(low.astype(np.float64), 0), (high.astype(np.float64), LIMB_BITS)]
    return parts if high.any() else parts[:1]


def _split_factor(node: Node) -> tuple[Fraction, Node]:
    """Split a product into a rational factor and the rest."""
    for factor, other in (node.arguments, node.arguments[::-1]) if isinstance(node, Product) else ():
        if isinstance(factor, Constants) and factor.single is not None and factor.single.is_rational:
            return factor.single.rational, other
    raise NotAvailable("a logarithm inside an exponential, in a form without a rule")


def _same_level_arguments(node: Node) -> Sequence[Node]:
    """Return the arguments of a node whose values in a field its own value in that field needs."""
    if isinstance(node, Exp):
        return ()
    return node.arguments[:1] if isinstance(node, PowerOfArray) else node.arguments


# How each kind of node is evaluated in a field.
VALUES: dict[type[Node], Callable[[Any, Any, int], Residues]] = {
    Input: Evaluation._value_of_input,
    Constants: Evaluation._value_of_constants,
    Sum: Evaluation._value_of_sum,
    Product: Evaluation._value_of_product,
    Linear: Evaluation._value_of_linear,
    Bilinear: Evaluation._value_of_bilinear,
    Power: Evaluation._value_of_power,
    PowerOfArray: Evaluation._value_of_power_of_array,
    Exp: Evaluation._value_of_exp,
    Log: Evaluation._value_of_log,
    Function: Evaluation._value_of_function,
    Undefined: Evaluation._value_of_undefined,
}
