import math
from fractions import Fraction

import numpy as np
import pytest

from gradcheck.exact.constants import Constant, read_array, read_constant


@pytest.mark.parametrize("text", ["0.044715", "1e-6", "-0.7978845608", "3", "1e300", "0.1", "0.134145"])
def test_a_short_decimal_is_what_it_shows(text):
    assert read_constant(float(text)) == Constant(Fraction(text))


@pytest.mark.parametrize(
    ("value", "constant"),
    [
        (1 / 3, Constant(Fraction(1, 3))),
        (-5 / 7, Constant(Fraction(-5, 7))),
        (2 / 90000, Constant(Fraction(1, 45000))),
        (1 - 0.999, Constant(Fraction(1, 1000))),
        (1 - 0.9, Constant(Fraction(1, 10))),
        (0.1 * (1 + 1e-12), Constant(Fraction(0.1 * (1 + 1e-12)))),
        (0.7 * 3, Constant(Fraction(21, 10))),
        (math.sqrt(0.5), Constant(Fraction(1), Fraction(1, 2))),
        (-1 / math.sqrt(8), Constant(Fraction(-1), Fraction(1, 8))),
        (2 / math.sqrt(math.pi), Constant(Fraction(2), half_powers_of_pi=-1)),
        (math.sqrt(2 / math.pi), Constant(Fraction(1), Fraction(2), -1)),
        (1 / math.sqrt(2 * math.pi), Constant(Fraction(1), Fraction(1, 2), -1)),
        (math.pi, Constant(Fraction(1), half_powers_of_pi=2)),
        (math.log(2), Constant(Fraction(1), logarithm=2)),
        (1 / math.log(10), Constant(Fraction(1), logarithm=-10)),
    ],
)
def test_well_known_numbers_are_recognised(value, constant):
    assert read_constant(value) == constant


def test_a_number_with_more_digits_than_people_type_is_the_binary_number():
    assert read_constant(0.736254483726494) == Constant(Fraction("0.736254483726494"))
    assert read_constant(0.7362544837264938) == Constant(Fraction(0.7362544837264938))


@pytest.mark.parametrize("value", [float(np.finfo(float).max), 2.0**60, -(3.0**40)])
def test_a_large_integer_is_the_integer(value):
    assert read_constant(value) == Constant(Fraction(value))


def test_random_numbers_are_not_taken_for_well_known_ones():
    values = np.random.default_rng(0).standard_normal(2000)
    assert read_array(values) == [Constant(Fraction(float(x))) for x in values]
    assert all(read_constant(x).is_rational and float(read_constant(x).rational) == x for x in values)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_twice_a_random_number_is_twice_the_number_however_few_digits_it_has(dtype):
    values = np.random.default_rng(0).standard_normal(3000).astype(dtype)
    once, twice = ([x.rational for x in read_array(array.astype(float), dtype)] for array in (values, 2 * values))
    assert twice == [2 * x for x in once]


def test_the_decimals_of_a_table_and_of_a_random_array_with_zeros_stay_decimals():
    table = [0.1, 0.25, 1 / 3, 0.7, math.sqrt(0.5)]
    assert [x.rational for x in read_array(table)] == [Fraction(1, 10), Fraction(1, 4), Fraction(1, 3), Fraction(7, 10), 1]
    assert read_array([0.1, *np.random.default_rng(0).standard_normal(9)])[0] == Constant(Fraction(1, 10))


def test_a_number_in_single_precision_shows_as_what_it_is():
    assert read_constant(float(np.float32(0.1)), "float32") == Constant(Fraction(1, 10))
    assert read_constant(float(np.float32(0.1))) == Constant(Fraction(float(np.float32(0.1))))
