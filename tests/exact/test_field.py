import itertools
from fractions import Fraction

import numpy as np
import pytest

from gradcheck.exact.field import CHAIN_HEADS, CHAIN_LENGTH, make_chain


def is_prime(n):
    """Miller and Rabin with the bases that decide every number below 3.3e24."""
    d, s = n - 1, 0
    while d % 2 == 0:
        d, s = d // 2, s + 1
    for base in (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37):
        x = pow(base, d, n)
        if base % n and x not in (1, n - 1) and all((x := x * x % n) != n - 1 for _ in range(s - 1)):
            return False
    return True


@pytest.fixture(params=CHAIN_HEADS)
def chain(request):
    return make_chain(request.param)


def test_the_chains_are_of_primes_each_twice_the_next_plus_one(chain):
    assert len(chain) == CHAIN_LENGTH
    assert all(is_prime(field.p) and field.p < 2**31 for field in chain)
    assert all(field.q == smaller.p for field, smaller in itertools.pairwise(chain))


def test_every_small_integer_is_a_square_where_constants_have_roots(chain):
    for field in chain[:-2]:
        assert field.is_square(np.arange(1, 11)).all()


def test_exponentials_turn_sums_into_products(chain):
    field, (a, b) = chain[0], np.random.default_rng(0).integers(0, chain[1].p, (2, 50))
    base = np.array(4)
    product = field.power_by_array(base, a) * field.power_by_array(base, b) % field.p
    assert np.array_equal(field.power_by_array(base, (a + b) % chain[1].p), product)


def test_a_root_of_a_square_is_the_square_that_gives_it(chain):
    field = chain[0]
    squares = field.power(np.random.default_rng(1).integers(1, field.p, 50), 2)
    for exponent in (Fraction(1, 2), Fraction(2, 3), Fraction(-5, 4)):
        root = field.power(squares, field.root_exponent(exponent))
        assert np.array_equal(field.power(root, exponent.denominator), field.power(squares, exponent.numerator))
        assert field.is_square(root).all()


def test_fractions_are_residues(chain):
    field = chain[0]
    assert field.of_fraction(Fraction(-3, 7)) * 7 % field.p == field.p - 3
    with pytest.raises(ZeroDivisionError):
        field.of_fraction(Fraction(1, field.p))


def test_pseudo_random_functions_depend_on_argument_name_and_seed(chain):
    x = np.arange(1000)
    first = chain[0].hash("erf", 0, x)
    assert np.array_equal(first, chain[0].hash("erf", 0, x))
    for other in (chain[0].hash("erf", 1, x), chain[0].hash("log", 0, x), chain[0].hash("erf", 0, x + 1)):
        assert not np.any(first == other)
    assert len(np.unique(first)) == 1000
    assert first.min() >= 0
    assert first.max() < chain[0].p
