import math
import operator
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradcheck.exact.constants import Constant
from gradcheck.exact.graph import (
    Bilinear,
    Constants,
    Exp,
    Function,
    Input,
    Linear,
    NotAvailable,
    Power,
    Product,
    Sum,
    Undefined,
)
from gradcheck.exact.high_precision import Point
from gradcheck.exact.identity import Identity

flint = pytest.importorskip("flint")
from gradcheck.exact.balls import BallEvaluation, make_balls, working_precision  # noqa: E402

SHAPE = (3,)
X, G = Input(SHAPE, name="x"), Input(SHAPE, name="g")
NUMBERS = np.array([0.3, -1.7, 2.5])


def number(value):
    return Constants(
        (), distinct=(value if isinstance(value, Constant) else Constant(Fraction(value)),), places=np.zeros(1, np.intp)
    )


def mul(a, b):
    return Product(np.broadcast_shapes(a.shape, b.shape), (a, b))


def add(a, b, sign=1):
    return Sum(np.broadcast_shapes(a.shape, b.shape), (a, b), sign=sign)


def total(a):
    return Linear(SHAPE, (a,), apply=lambda arrays: np.broadcast_to(arrays[0].sum(), SHAPE), terms=3)


def reverse(a):
    return Linear(SHAPE, (a,), apply=lambda arrays: arrays[0][::-1], moves=True)


def convolve(a, b):
    return Bilinear(SHAPE, (a, b), apply=lambda x, y: np.convolve(x, y)[:3], terms=3)


def function(name, x=X):
    return Function(x.shape, (x,), name=name)


def evaluate(node, numbers=NUMBERS, bits=200, **options):
    with working_precision(bits):
        return BallEvaluation({X: make_balls(numbers)}, **options).value(node)


def fractions_of(node, x):
    """Evaluate a rational graph in fractions."""
    if isinstance(node, Input):
        return x
    parts = [fractions_of(argument, x) for argument in node.arguments]
    if isinstance(node, Constants):
        return [node.single.rational] * 3
    if isinstance(node, Linear):
        return parts[0][::-1] if node.moves else [sum(parts[0])] * 3
    if isinstance(node, Bilinear):
        return [sum((parts[0][i] * parts[1][k - i] for i in range(k + 1)), Fraction(0)) for k in range(3)]
    combine = operator.mul if isinstance(node, Product) else operator.add if node.sign > 0 else operator.sub
    return [combine(a, b) for a, b in zip(*parts, strict=True)]


def contains(ball, value):
    with working_precision(4000):
        scaled = ball * value.denominator - value.numerator
    return bool(scaled.contains(0))


GRAPHS = st.recursive(
    st.just(X) | st.fractions(-3, 3, max_denominator=50).map(number).map(lambda c: add(mul(X, number(0)), c)),
    lambda parts: st.one_of(
        st.builds(mul, parts, parts),
        st.builds(add, parts, parts, st.sampled_from([1, -1])),
        st.builds(convolve, parts, parts),
        parts.map(total),
        parts.map(reverse),
    ),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None)
@given(GRAPHS, st.lists(st.floats(-1e30, 1e30), min_size=3, max_size=3), st.sampled_from([12, 60, 200]))
def test_balls_contain_the_exact_value_whatever_the_precision(node, numbers, bits):
    exact = fractions_of(node, [Fraction(x) for x in numbers])
    for ball, value in zip(evaluate(node, np.array(numbers), bits), exact, strict=True):
        assert contains(ball, value)


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        (Exp(SHAPE, (X,)), np.exp),
        (Exp(SHAPE, (X,), base=2), np.exp2),
        (Power(SHAPE, (mul(X, X),), exponent=Fraction(3, 2)), lambda x: np.abs(x) ** 3),
        (function("erf"), np.vectorize(math.erf)),
        (function("sin and cos"), lambda x: np.tan(x / 2)),
        (function("atan"), np.arctan),
        (function("polygamma 1", number(2)), lambda _: math.pi**2 / 6 - 1),
        (number(Constant(Fraction(2), Fraction(1, 3), -1, -7)), lambda _: 2 / math.sqrt(3 * math.pi) / math.log(7)),
    ],
)
def test_functions_and_constants_have_their_values(node, expected):
    np.testing.assert_allclose(evaluate(node).astype(float), expected(NUMBERS), rtol=1e-14)


def test_many_digits_are_right():
    (ball, *_) = evaluate(Exp(SHAPE, (X,)), np.ones(3))
    assert ball.str(40, radius=False).startswith("2.71828182845904523536028747135266249775")


def test_a_large_number_next_to_a_small_one_hides_no_digit():
    (ball, *_) = evaluate(add(total(X), number(2**100), -1), np.array([2.0**100, 2.0**-60, 1.0]))
    assert contains(ball, 1 + Fraction(1, 2**60))
    assert ball.rel_accuracy_bits() > 90


def test_negative_coefficients_are_refused():
    difference = Linear((), (X,), apply=lambda arrays: arrays[0][0] - arrays[0][1], terms=3)
    with pytest.raises(NotAvailable, match="negative coefficients"):
        evaluate(difference)


def test_what_stands_for_no_number_may_be_any_number_unless_it_vanishes():
    where = np.array([True, False, False])
    hole = Undefined(SHAPE, (X,), where=where)
    assert evaluate(hole)[0].contains(10**100)
    assert evaluate(mul(Exp(SHAPE, (hole,), vanishes=where), hole))[0] == 0


def test_constants_may_be_off_by_their_rounding():
    tenth, half = number(Fraction(1, 10)), number(Fraction(1, 2))
    assert evaluate(tenth, blurs=True)[()].contains(flint.arb(0.1).mid())
    assert evaluate(half, blurs=True)[()].is_exact()


def compare(output, claim, numbers=NUMBERS):
    identity = Identity((X,), (G,), (output,), (claim,))
    return Point(identity, [numbers], [np.array([1.0, 0.5, -2.0])], 10**6).compare(0, [np.array([0.25, 1.0, 0.5])])


def test_right_claims_agree_to_fifty_digits():
    y = Exp(SHAPE, (X,))
    measured = compare(convolve(y, X), None)
    assert measured.differs
    cubes = compare(mul(mul(X, X), X), mul(G, mul(number(3), mul(X, X))))
    assert not cubes.differs
    assert cubes.rel_err < 1e-50


def test_the_size_of_a_small_fault_is_measured():
    claim = mul(mul(G, number(Fraction(10**12 + 1, 10**12))), Exp(SHAPE, (X,)))
    measured = compare(Exp(SHAPE, (X,)), claim, np.array([0.3, 40.0, 0.0]))
    assert measured.differs
    assert measured.rel_err == pytest.approx(1e-12, rel=1e-3)


def test_a_derivative_that_cancels_to_zero_is_zero_in_any_precision():
    share = mul(Exp(SHAPE, (X,)), Power(SHAPE, (total(Exp(SHAPE, (X,))),), exponent=Fraction(-1)))
    measured = compare(total(share), None)
    assert (measured.differs, measured.rel_err) == (False, 0.0)


def test_tails_that_cancel_are_resolved_with_more_digits():
    """1 - tanh^2 at 200 is 1e-173, a difference of numbers near one."""
    tail = np.full(3, 200.0)
    tanh = add(number(1), mul(number(2), Power(SHAPE, (add(Exp(SHAPE, (add(X, X),)), number(1)),), exponent=Fraction(-1))), -1)
    slope = add(number(1), mul(tanh, tanh), -1)
    right, wrong = compare(tanh, mul(G, slope), tail), compare(tanh, mul(mul(number(2), G), slope), tail)
    assert (right.differs, wrong.differs) == (False, True)
    assert wrong.rel_err > 0.01


def test_large_graphs_are_refused():
    identity = Identity((X,), (G,), (mul(X, X),), (G,))
    with pytest.raises(NotAvailable, match="too large"):
        Point(identity, [NUMBERS], [NUMBERS], 2)
