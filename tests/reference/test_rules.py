import numpy as np
import pytest
import scipy.special
import torch
from planted import draw_inputs

import gradcheck
from gradcheck import Verdict
from gradcheck.reference import rules
from gradcheck.reference.rules import df, dg, du, dv, f, g, u, v
from gradcheck.targets.case import get_declared_cases

MODELS = [
    rules.constant,
    rules.variable,
    rules.sum_rule,
    rules.difference_rule,
    rules.product_rule,
    rules.quotient_rule,
    rules.power_rule,
    rules.chain_rule,
    rules.multivariate_chain_rule,
]


def first_term_only(y, A):
    x = np.sin(A @ y)
    return np.exp(x[0]) / np.sum(np.exp(x)) * np.cos(A[0] @ y) * A[0]


def own_index_only(y, A):
    x = np.sin(A @ y)
    return np.exp(x) / np.sum(np.exp(x)) * np.cos(A @ y) * np.diag(A)


def jacobian_transposed(y, A):
    x = np.sin(A @ y)
    return (np.cos(A @ y)[:, None] * A) @ (np.exp(x) / np.sum(np.exp(x)))


def inner_derivative_forgotten(y, A):
    x = np.sin(A @ y)
    return np.exp(x) / np.sum(np.exp(x)) @ A


FAULTS = [
    (rules.constant, "derivative 1", lambda c_, x, c: c_),
    (rules.constant, "the value itself", lambda c_, x, c: c_ * c),
    (rules.variable, "derivative x", lambda c_, x: c_ * x),
    (rules.variable, "derivative 0", lambda c_, x: 0 * c_),
    (rules.sum_rule, "v' forgotten", lambda c_, x: c_ * du(x)),
    (rules.sum_rule, "u' - v'", lambda c_, x: c_ * (du(x) - dv(x))),
    (rules.difference_rule, "u' + v'", lambda c_, x: c_ * (du(x) + dv(x))),
    (rules.product_rule, "u' v'", lambda c_, x: c_ * du(x) * dv(x)),
    (rules.product_rule, "u v' forgotten", lambda c_, x: c_ * du(x) * v(x)),
    (rules.product_rule, "u' v - u v'", lambda c_, x: c_ * (du(x) * v(x) - u(x) * dv(x))),
    (rules.quotient_rule, "u' / v'", lambda c_, x: c_ * du(x) / dv(x)),
    (rules.quotient_rule, "u' v + u v'", lambda c_, x: c_ * (du(x) * v(x) + u(x) * dv(x)) / v(x) ** 2),
    (rules.quotient_rule, "over v", lambda c_, x: c_ * (du(x) * v(x) - u(x) * dv(x)) / v(x)),
    (rules.power_rule, "factor n forgotten", lambda c_, x, n: c_ * x ** (n - 1)),
    (rules.power_rule, "exponent kept", lambda c_, x, n: c_ * n * x**n),
    (rules.power_rule, "factor n - 1", lambda c_, x, n: c_ * (n - 1) * x ** (n - 1)),
    (rules.power_rule, "that of nˣ", lambda c_, x, n: c_ * np.log(abs(n)) * x**n),
    (rules.chain_rule, "g' forgotten", lambda c_, x: c_ * df(g(x))),
    (rules.chain_rule, "f' at x", lambda c_, x: c_ * df(np.abs(x)) * dg(x)),
    (rules.chain_rule, "f for f'", lambda c_, x: c_ * f(g(x)) * dg(x)),
    (rules.chain_rule, "f' at g'", lambda c_, x: c_ * df(dg(x))),
    (rules.multivariate_chain_rule, "the first term of the sum alone", first_term_only),
    (rules.multivariate_chain_rule, "i = j alone", own_index_only),
    (rules.multivariate_chain_rule, "∂x/∂y transposed", jacobian_transposed),
    (rules.multivariate_chain_rule, "inner derivative forgotten", inner_derivative_forgotten),
]


def derivative_of(model):
    (written,) = get_declared_cases(model)[0].claims.values()
    return written


def twice(model):
    return lambda *args, **inputs: 2 * derivative_of(model)(*args, **inputs)


def flipped(model):
    return lambda *args, **inputs: -derivative_of(model)(*args, **inputs)


FAULTS += [(model, "factor 2", twice(model)) for model in MODELS[1:]]
FAULTS += [(model, "sign", flipped(model)) for model in MODELS[1:]]


@pytest.mark.parametrize(("model", "fault", "wrong"), FAULTS, ids=[f"{m.__name__}: {fault}" for m, fault, _ in FAULTS])
def test_a_rule_misapplied_is_caught(model, fault, wrong):
    case = get_declared_cases(model)[0]
    (kind,) = case.claims
    result = gradcheck.check(model, kwargs=case.kwargs, wrt=case.wrt, **case.options, **{kind: wrong})
    assert {c.verdict for c in result.comparisons if c.method == "analytic"} == {Verdict.FAIL}, str(result)


def test_a_vjp_that_ignores_its_cotangent_is_caught():
    case = get_declared_cases(rules.product_rule)[0]
    result = gradcheck.check(
        rules.product_rule,
        kwargs=case.kwargs,
        vjp=lambda cotangent, x: rules.product_rule_vjp(np.ones_like(x), x),
        **case.options,
    )
    assert result.verdict is Verdict.FAIL


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.__name__)
def test_the_twin_computes_the_same_value(model):
    inputs = draw_inputs(model, 1)
    twin = getattr(rules, f"torch_{model.__name__}")
    value = twin(**{name: torch.from_numpy(x) for name, x in inputs.items()})
    np.testing.assert_allclose(value.numpy(), model(**inputs), rtol=1e-13)


KNOWN = [
    (rules.constant, lambda x, c: np.full(6, c)),
    (rules.power_rule, lambda x, n: np.exp(n * np.log(x))),
    (rules.chain_rule, lambda x: np.logaddexp(0, x)),
    (rules.multivariate_chain_rule, lambda y, A: scipy.special.logsumexp(np.sin(A @ y))),
]


@pytest.mark.parametrize(("model", "known"), KNOWN, ids=[m.__name__ for m, _ in KNOWN])
def test_the_value_is_that_of_another_implementation(model, known):
    inputs = draw_inputs(model, 2)
    np.testing.assert_allclose(model(**inputs), known(**inputs), rtol=1e-13)


def test_the_derivative_of_softplus_is_the_sigmoid():
    x = np.random.default_rng(3).standard_normal(6)
    np.testing.assert_allclose(rules.chain_rule_vjp(np.ones(6), x), scipy.special.expit(x), rtol=1e-13)


def test_the_multivariate_rule_with_one_inner_function_is_the_chain_rule():
    y, a = 0.3, 1.7
    gradient = rules.multivariate_chain_rule_gradient(np.array([y]), np.array([[a]]))
    np.testing.assert_allclose(gradient, [np.cos(a * y) * a], rtol=1e-13)
