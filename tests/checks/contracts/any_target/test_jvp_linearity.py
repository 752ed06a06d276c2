import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import gradcheck
from gradcheck import Verdict

X = np.linspace(0.3, 2.0, 3)


def make_cube(scale):
    """Return x^3 with a rule whose tangent is scale(tangent) times the derivative."""

    @jax.custom_jvp
    def cube(x):
        return x**3

    @cube.defjvp
    def rule(primals, tangents):
        (x,), (u,) = primals, tangents
        return x**3, 3 * x**2 * scale(u)

    return cube


def contract_of(result):
    (contract,) = [contract for contract in result.contracts if contract.name == "linear-jvp"]
    return contract


@pytest.mark.parametrize(
    ("scale", "words"),
    [
        (jnp.sign, "jvp(2t) is not 2 jvp(t)"),
        (jnp.abs, "jvp(-t) is not -jvp(t)"),
        (lambda u: u + u * u, "jvp(2t) is not 2 jvp(t)"),
        (lambda u: u / jnp.linalg.norm(u), "jvp(2t) is not 2 jvp(t)"),
    ],
)
def test_a_jax_rule_that_is_not_linear_fails(scale, words):
    result = gradcheck.check(make_cube(scale), jnp.asarray(X, "float32"))
    assert result.verdict is Verdict.FAIL
    assert contract_of(result).verdict is Verdict.FAIL
    assert words in contract_of(result).message
    (note,) = [note for note in result.notes if note.startswith("reverse not available")]
    assert "test_jvp_linearity.py" in note  # the line of the rule that cannot be transposed


@pytest.mark.parametrize("function", [make_cube(lambda u: u), lambda x: jax.nn.relu(x).sum(), jax.nn.relu])
def test_linear_rules_pass(function):
    result = gradcheck.check(function, jnp.asarray(X, "float32"))
    assert result.ok
    assert contract_of(result).verdict is Verdict.PASS


def test_a_backward_that_raises_an_assertion_is_an_error_still():
    @jax.custom_vjp
    def cube(x):
        return x**3

    def backward(x, v):
        raise AssertionError("not yet")

    cube.defvjp(lambda x: (x**3, x), backward)
    result = gradcheck.check(cube, jnp.asarray(X, "float32"))
    assert result.verdict is Verdict.ERROR
    assert "not yet" in result.message


@pytest.mark.parametrize(("scale", "verdict"), [(lambda u: u, Verdict.PASS), (abs, Verdict.FAIL)])
def test_a_hand_written_jvp_must_be_linear(scale, verdict):
    result = gradcheck.check(lambda x: x**3, X, jvp=lambda u, x: 3 * x**2 * scale(u))
    assert (result.verdict, contract_of(result).verdict) == (verdict, verdict)


class CubeOfAbsoluteTangent(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.x = x
        return x**3

    @staticmethod
    def backward(ctx, v):
        return 3 * ctx.x**2 * v

    @staticmethod
    def jvp(ctx, u):
        return 3 * ctx.x**2 * u.abs()


def test_the_jvp_of_a_function_must_be_linear():
    assert contract_of(gradcheck.check(CubeOfAbsoluteTangent, torch.tensor(X))).verdict is Verdict.FAIL


@pytest.mark.parametrize("x", [X, jnp.asarray(X, "float32"), torch.tensor(X)])
def test_a_jvp_that_is_nan_at_some_tangents_fails(x):
    where = {np.ndarray: np.where, torch.Tensor: torch.where}.get(type(x), jnp.where)
    result = gradcheck.check(lambda x: x**3, x, jvp=lambda u, x: 3 * x**2 * where(abs(u).max() > 2, float("nan"), u))
    assert contract_of(result).verdict is Verdict.FAIL
    assert "is nan instead of" in contract_of(result).message


@pytest.mark.parametrize("x", [X, jnp.asarray(X, "float32"), torch.tensor(X)])
def test_a_jvp_that_the_user_did_not_write_is_not_tried(x):
    gradient = {"gradient": lambda x: 3 * x**2} if isinstance(x, np.ndarray) else {}
    result = gradcheck.check(lambda x: (x**3).sum(), x, **gradient)
    assert "linear-jvp" not in {contract.name for contract in result.contracts}
