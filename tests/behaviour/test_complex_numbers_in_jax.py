import jax
import jax.numpy as jnp
import pytest

import gradcheck
from gradcheck import Verdict

Z = jnp.array([1 + 2j, 0.5 - 1j], dtype=jnp.complex64)


def size(z):
    return jnp.sum(jnp.abs(z) ** 2 * jnp.real(jnp.sin(z)))


def test_jax_of_real_and_complex_outputs_passes_in_both_modes():
    for function in (size, jnp.exp, lambda z: z * jnp.conj(z) ** 2):
        result = gradcheck.check(function, Z)
        assert result.verdict is Verdict.PASS
        assert {c.method for c in result.comparisons} >= {"reverse", "forward"}


def test_second_derivatives_of_complex_inputs():
    assert gradcheck.check(lambda z: jnp.sum(jnp.abs(z) ** 2 * jnp.imag(z)), Z, order=2).verdict is Verdict.PASS


def test_a_gradient_by_hand_is_in_the_convention_of_jax():
    loss = lambda z: jnp.sum(jnp.abs(z) ** 2)  # noqa: E731
    assert gradcheck.check(loss, Z, gradient=jax.grad(loss)).verdict is Verdict.PASS
    assert gradcheck.check(loss, Z, gradient=lambda z: 2 * jnp.conj(z)).verdict is Verdict.PASS
    wrong = gradcheck.check(loss, Z, gradient=lambda z: 2 * z)
    assert wrong.verdict is Verdict.FAIL
    assert "conjugated" in str(wrong)


@pytest.mark.parametrize(("rule", "verdict"), [
    (lambda z, g: (g * 2 * z,), Verdict.PASS),
    (lambda z, g: (g * 2 * jnp.conj(z),), Verdict.FAIL),
])  # fmt: skip
def test_a_custom_vjp_of_a_holomorphic_function(rule, verdict):
    square = jax.custom_vjp(lambda z: z * z)
    square.defvjp(lambda z: (z * z, z), rule)
    assert gradcheck.check(square, Z).verdict is verdict


def test_a_vjp_and_a_jvp_by_hand():
    assert gradcheck.check(lambda z: z * z, Z, vjp=lambda v, z: 2 * z * v).verdict is Verdict.PASS
    assert gradcheck.check(lambda z: z * z, Z, jvp=lambda t, z: 2 * z * t).verdict is Verdict.PASS
