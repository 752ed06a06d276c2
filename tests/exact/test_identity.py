from fractions import Fraction

import numpy as np
import pytest

from gradcheck.exact.constants import Constant
from gradcheck.exact.graph import (
    Bilinear,
    Constants,
    Exp,
    Function,
    Input,
    Linear,
    Log,
    NotAvailable,
    Power,
    PowerOfArray,
    Product,
    Sum,
    Undefined,
)
from gradcheck.exact.identity import FEW_POINTS, Identity, IdentityOutcome, decide

SHAPE = (4,)
X, G = Input(SHAPE, name="x"), Input(SHAPE, name="g")


def number(value):
    return Constants((), distinct=(Constant(Fraction(value)),), places=np.zeros(1, np.intp))


def mul(a, b):
    return Product(np.broadcast_shapes(a.shape, b.shape), (a, b))


def add(a, b, sign=1):
    return Sum(np.broadcast_shapes(a.shape, b.shape), (a, b), sign=sign)


def power(a, exponent):
    return Power(a.shape, (a,), exponent=Fraction(exponent))


def exp(a):
    return Exp(a.shape, (a,))


def total(a):
    return Linear(a.shape, (a,), apply=lambda arrays: np.broadcast_to(arrays[0].sum(), SHAPE), terms=4)


def decide_claim(output, claim, *, x=X, g=G):
    decision = decide(Identity((x,), (g,), (output,), (claim,)), seed=0, seconds=60.0)
    return decision.outcomes[0]


def softmax(x):
    return mul(exp(x), power(total(exp(x)), -1))


def test_the_gradient_of_softmax_is_proved_and_one_without_a_term_refuted():
    y, gy = softmax(X), mul(G, softmax(X))
    assert decide_claim(y, add(gy, mul(y, total(gy)), -1)) is IdentityOutcome.PROVED
    assert decide_claim(y, gy) is IdentityOutcome.REFUTED


def test_exponentials_of_sums_are_products_at_any_depth():
    nested = exp(exp(exp(add(X, X))))
    inner, middle = exp(add(X, X)), exp(exp(add(X, X)))
    right = mul(mul(number(2), G), mul(nested, mul(middle, mul(exp(X), exp(X)))))
    assert decide_claim(nested, right) is IdentityOutcome.PROVED
    assert decide_claim(nested, mul(G, mul(nested, mul(middle, inner)))) is IdentityOutcome.REFUTED


def test_the_exponential_of_a_logarithm_is_its_argument():
    square = add(mul(X, X), number(1))
    ratio = exp(add(X, Log(SHAPE, (square,)), -1))
    output = mul(exp(X), power(square, -1))
    slope = add(number(1), mul(mul(number(2), X), power(square, -1)), -1)
    assert decide_claim(output, mul(G, mul(ratio, slope))) is IdentityOutcome.PROVED
    root = exp(mul(number(Fraction(1, 2)), Log(SHAPE, (square,))))
    assert decide_claim(power(square, Fraction(1, 2)), mul(G, mul(X, power(root, -1)))) is IdentityOutcome.PROVED


def test_roots_are_decided_where_they_exist():
    root = power(X, Fraction(1, 2))
    assert decide_claim(root, mul(G, power(mul(number(2), root), -1))) is IdentityOutcome.PROVED
    assert decide_claim(root, mul(G, power(root, -1))) is IdentityOutcome.REFUTED
    cube_root = power(X, Fraction(1, 3))
    assert decide_claim(cube_root, mul(G, mul(number(Fraction(1, 3)), mul(cube_root, power(X, -1))))) is IdentityOutcome.PROVED


def decide_sum_of_roots(mix):
    """Decide the gradient of the sum of the roots of 60 numbers, which `mix` makes of 60 inputs."""
    shape = (60,)
    x, g = Input(shape, name="x"), Input((), name="g")
    root = Power(shape, (Linear(shape, (x,), apply=lambda arrays: mix(arrays[0]), terms=2),), exponent=Fraction(1, 2))
    output = Linear((), (root,), apply=lambda arrays: arrays[0].sum(), terms=60)
    slope = mul(g, Power(shape, (mul(number(2), root),), exponent=Fraction(-1)))
    claim = Linear(shape, (slope,), apply=lambda arrays: mix(np.eye(60)).T @ arrays[0], terms=60)
    return decide(Identity((x,), (g,), (output,), (claim,)), seed=0, seconds=60.0)


def test_roots_that_depend_on_a_slice_each_are_made_to_exist():
    assert decide_sum_of_roots(lambda x: x).outcomes == [IdentityOutcome.PROVED]


def test_an_output_that_needs_too_many_roots_at_once_is_unknown():
    decision = decide_sum_of_roots(lambda x: x + np.roll(x, 1, axis=0))
    assert (decision.outcomes, decision.why) == ([IdentityOutcome.UNKNOWN], FEW_POINTS.format("roots"))


def test_a_power_with_a_variable_exponent_follows_the_rules_of_powers():
    y = Input(SHAPE, name="y")
    output = PowerOfArray(SHAPE, (X, y))
    base_claim = mul(G, mul(y, PowerOfArray(SHAPE, (X, add(y, number(1), -1)))))
    exponent_claim = mul(G, mul(Log(SHAPE, (X,)), output))
    right = decide(Identity((X, y), (G,), (output,), (base_claim, exponent_claim)), seed=0, seconds=60.0)
    wrong = decide(Identity((X, y), (G,), (output,), (base_claim, mul(G, output))), seed=0, seconds=60.0)
    assert right.outcomes == [IdentityOutcome.PROVED, IdentityOutcome.PROVED]
    assert wrong.outcomes == [IdentityOutcome.PROVED, IdentityOutcome.REFUTED]


def test_a_named_function_is_known_by_its_derivative_and_is_named():
    sine = Function(SHAPE, (X,), name="f", derivative=lambda x, y: mul(y, x), parity=-1)
    right = decide(Identity((X,), (G,), (sine,), (mul(G, mul(sine, X)),)), seed=0, seconds=60.0)
    assert (right.outcomes, right.unknown) == ([IdentityOutcome.PROVED], {"f"})
    assert decide_claim(sine, mul(G, sine)) is IdentityOutcome.REFUTED
    negative = Function(SHAPE, (mul(number(-1), X),), name="f", derivative=lambda x, y: mul(y, x), parity=-1)
    assert decide_claim(add(sine, negative), None) is IdentityOutcome.PROVED


def test_matrix_products_are_exact():
    a, b, g = Input((5, 40), name="a"), Input((40, 3), name="b"), Input((5, 3), name="g")
    product = Bilinear((5, 3), (a, b), apply=lambda x, y: x @ y, terms=40)
    of_a = Bilinear((5, 40), (g, b), apply=lambda x, y: x @ y.T, terms=3)
    of_b = Bilinear((40, 3), (a, g), apply=lambda x, y: x.T @ y, terms=5)
    assert decide(Identity((a, b), (g,), (product,), (of_a, of_b)), 0, 60.0).outcomes == [IdentityOutcome.PROVED] * 2
    off = mul(of_b, number(Fraction(10**12 + 1, 10**12)))
    assert decide(Identity((a, b), (g,), (product,), (of_a, off)), 0, 60.0).outcomes == [
        IdentityOutcome.PROVED,
        IdentityOutcome.REFUTED,
    ]


def test_only_the_claims_that_are_wrong_are_refuted():
    y = Input(SHAPE, name="y")
    decision = decide(Identity((X, y), (G,), (mul(X, y),), (mul(G, y), mul(G, y))), seed=0, seconds=60.0)
    assert decision.outcomes == [IdentityOutcome.PROVED, IdentityOutcome.REFUTED]


def test_what_stands_for_no_number_decides_nothing_unless_it_vanishes():
    where = np.array([True, False, False, False])
    hole = Undefined(SHAPE, (mul(X, number(0)),), where=where)
    hidden = Exp(SHAPE, (add(X, hole),), vanishes=where)
    assert decide_claim(hidden, mul(G, hidden)) is IdentityOutcome.PROVED
    decision = decide(Identity((X,), (G,), (add(X, hole),), (G,)), seed=0, seconds=60.0)
    assert (decision.outcomes, decision.why) == ([IdentityOutcome.UNKNOWN], FEW_POINTS.format("infinities"))


def test_a_choice_between_equal_entries_must_not_matter():
    first, last = (lambda arrays: arrays[0][[0]], lambda arrays: arrays[0][[3]])
    largest = Linear((1,), (X,), apply=first, moves=True, at_ties=last)
    claim = Linear(SHAPE, (Input((1,), name="g"),), apply=lambda arrays: np.concatenate([arrays[0], np.zeros(3)]))
    decision = decide(Identity((X,), (claim.arguments[0],), (largest,), (claim,)), seed=0, seconds=60.0)
    assert decision.outcomes == [IdentityOutcome.UNKNOWN]
    shifted = exp(add(X, largest, -1))
    assert decide_claim(mul(shifted, power(total(shifted), -1)), None) is IdentityOutcome.REFUTED
    y = mul(shifted, power(total(shifted), -1))
    gy = mul(G, softmax(X))
    assert decide_claim(y, add(gy, mul(softmax(X), total(gy)), -1)) is IdentityOutcome.PROVED


def test_what_the_fields_do_not_express_is_said():
    log_sum = total(Log(SHAPE, (X,)))
    with pytest.raises(NotAvailable, match="a logarithm inside an exponential"):
        decide_claim(exp(log_sum), G)
    halves = Linear(SHAPE, (X,), apply=lambda arrays: arrays[0] / 2)
    with pytest.raises(NotAvailable, match="integer coefficients"):
        decide_claim(halves, G)


def test_deep_graphs_need_no_recursion():
    deep = X
    for _ in range(3000):
        deep = add(deep, number(1))
    assert decide_claim(exp(deep), mul(G, exp(deep))) is IdentityOutcome.PROVED
