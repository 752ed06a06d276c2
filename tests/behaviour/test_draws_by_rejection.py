"""Draws by rejection, whose derivative is implicit, and draws that PyTorch gives no derivative."""

import jax
import jax.numpy as jnp
import pytest
import torch
from elementwise import with_backward
from torch.distributions import Beta, Dirichlet, Gamma, Normal, StudentT

import gradcheck
from gradcheck import Reason, Verdict

X = torch.linspace(1.5, 3, 3, dtype=torch.float64)
DRAWS = {
    "gamma": lambda a: Gamma(a, 1.0).rsample(),
    "beta": lambda a: Beta(a, a + 1).rsample().sum(),
    "dirichlet": lambda a: Dirichlet(a).rsample(),
    "student": lambda a: StudentT(a).rsample(),
}


@pytest.mark.parametrize("name", DRAWS)
def test_the_implicit_derivative_of_a_draw_by_rejection_is_not_called_wrong(name):
    torch.manual_seed(0)
    result = gradcheck.check(DRAWS[name], X)
    assert (result.verdict, result.reason) == (Verdict.INCONCLUSIVE, Reason.DRAWN_BY_REJECTION), str(result)
    assert gradcheck.check(DRAWS[name], X, tolerates={"drawn-by-rejection": "implicit"}).ok


@pytest.mark.parametrize(("factor", "verdict"), [(1, Verdict.INCONCLUSIVE), (2, Verdict.FAIL)])
def test_an_input_that_a_draw_does_not_depend_on_is_judged(factor, verdict):
    scaled = with_backward(lambda w: 3 * w, lambda g, w: 3 * factor * g)
    result = gradcheck.check(lambda a, w: (scaled(w) * Gamma(a, 1.0).rsample()).sum(), X, X.clone())
    assert result.verdict is verdict, str(result)
    assert {c.verdict for c in result.comparisons if c.wrt == "a"} == {Verdict.INCONCLUSIVE}


@pytest.mark.parametrize(("factor", "verdict"), [(1, Verdict.INCONCLUSIVE), (2, Verdict.FAIL)])
def test_jax_differentiates_draws_by_rejection_implicitly_too(factor, verdict):
    @jax.custom_vjp
    def scale(w):
        return 3 * w

    scale.defvjp(lambda w: (3 * w, None), lambda _, g: (3 * factor * g,))
    key = jax.random.key(0)
    result = gradcheck.check(lambda a, w: (scale(w) * jax.random.gamma(key, a)).sum(), jnp.array([1.5]), jnp.ones(1))
    assert result.verdict is verdict, str(result)
    assert {c.verdict for c in result.comparisons if c.wrt == "a" and c.against == "numeric"} == {Verdict.INCONCLUSIVE}


@pytest.mark.parametrize(
    ("draw", "verdict"),
    [(lambda x: torch.normal(x, 1.0), Verdict.FAIL), (lambda x: Normal(x, 1.0).rsample(), Verdict.PASS)],
)
def test_a_draw_without_a_pathwise_derivative_is_named(draw, verdict):
    result = gradcheck.check(draw, X)
    assert result.verdict is verdict
    assert any("torch.normal" in note for note in result.notes) is (verdict is Verdict.FAIL)
