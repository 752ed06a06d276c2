import math
from fractions import Fraction

import numpy as np
import pytest

from gradcheck.exact.constants import Constant, read_constant


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
        (0.1 * (1 + 1e-12), Constant(Fraction(repr(0.1 * (1 + 1e-12))))),
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


def test_a_number_of_many_digits_is_a_decimal():
    value = 0.7362544837264938
    assert read_constant(value) == Constant(Fraction("0.7362544837264938"))


def test_random_numbers_are_not_taken_for_well_known_ones():
    values = np.random.default_rng(0).standard_normal(2000)
    assert all(read_constant(float(x)) == Constant(Fraction(repr(float(x)))) for x in values)


def test_a_number_in_single_precision_shows_as_what_it_is():
    assert read_constant(float(np.float32(0.1)), "float32") == Constant(Fraction(1, 10))
    assert read_constant(float(np.float32(0.1))) == Constant(Fraction("0.10000000149011612"))
