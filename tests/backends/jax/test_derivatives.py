import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest

import gradcheck
from gradcheck import Reason, Verdict, normal
from gradcheck.backends.jax.arrays import use_x64

X = np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32)


def product(x):
    return jnp.sin(x) * x


def fwd(x):
    return product(x), x


def by_vjp(bwd, fwd=fwd):
    made = jax.custom_vjp(product)
    made.defvjp(fwd, bwd)
    return made


def by_jvp(tangent, primal=product):
    made = jax.custom_jvp(product)
    made.defjvp(lambda primals, tangents: (primal(*primals), tangent(*primals, *tangents)))
    return made


def slope(x):
    return jnp.sin(x) + x * jnp.cos(x)


WRONG = {
    "zero": lambda x, g: jnp.zeros_like(g),
    "sign": lambda x, g: -g * slope(x),
    "factor": lambda x, g: 2 * g * slope(x),
    "permuted": lambda x, g: (g * slope(x))[::-1],
    "missing-term": lambda x, g: g * jnp.sin(x),
}


@pytest.fixture(params=["float32", "x64"])
def x(request):
    with use_x64(request.param == "x64"):
        yield jnp.array(X, dtype=jnp.float64 if request.param == "x64" else jnp.float32)


def test_a_right_custom_vjp_passes_and_a_note_says_that_forward_mode_is_missing(x):
    result = gradcheck.check(by_vjp(lambda x, g: (g * slope(x),)), x)
    assert result.verdict is Verdict.PASS
    assert [c.method for c in result.comparisons] == ["reverse"]
    assert any("forward not available" in note for note in result.notes)
    assert result.framework == "jax"


@pytest.mark.parametrize(
    ("fault", "x"), [*((fault, "float32") for fault in WRONG), ("factor", "x64"), ("missing-term", "x64")], indirect=["x"]
)
def test_a_wrong_custom_vjp_fails(fault, x):
    result = gradcheck.check(by_vjp(lambda x, g: (WRONG[fault](x, g),)), x)
    assert (result.verdict, result.reason) == (Verdict.FAIL, Reason.DISAGREES)
    said = str(result)
    assert fault in said or fault in ("permuted", "missing-term")


def test_a_custom_jvp_is_checked_in_both_modes(x):
    right = gradcheck.check(by_jvp(lambda x, t: t * slope(x)), x)
    assert right.verdict is Verdict.PASS
    assert {c.method for c in right.comparisons if c.against == "numeric"} == {"reverse", "forward"}
    for fault in ("zero", "missing-term"):
        wrong = gradcheck.check(by_jvp(lambda x, t, fault=fault: WRONG[fault](x, t)), x)
        assert {c.method for c in wrong.comparisons if c.verdict is Verdict.FAIL} >= {"reverse", "forward"}


@pytest.mark.parametrize("made", [
    by_vjp(lambda x, g: (g * slope(x),), lambda x: (1.001 * product(x), x)),
    by_jvp(lambda x, t: t * slope(x), lambda x: product(x) + 0.01),
])  # fmt: skip
def test_a_rule_that_returns_another_value_breaks_a_contract(made, x):
    result = gradcheck.check(made, x)
    assert (result.verdict, result.reason) == (Verdict.FAIL, Reason.CONTRACT_BROKEN)
    (contract,) = [c for c in result.contracts if c.verdict is Verdict.FAIL]
    assert contract.name == "primal"
    assert "custom_vjp's fwd" in contract.message
    assert gradcheck.check(made, x, no_contract=("primal",)).verdict is Verdict.PASS


def test_a_rule_may_round_differently():
    naive = jax.custom_jvp(lambda x: jnp.log(jnp.exp(x) + 1))
    naive.defjvp(lambda p, t: (jnp.logaddexp(p[0], 0.0), jax.nn.sigmoid(p[0]) * t[0]))
    result = gradcheck.check(naive, jnp.array([-8.0, 3.0]))
    assert [c.verdict for c in result.contracts if c.name == "primal"] == [Verdict.PASS]


def test_a_vjp_that_is_not_linear_in_its_cotangent_is_named():
    result = gradcheck.check(by_vjp(lambda x, g: (jnp.abs(g) * slope(x),)), jnp.array(X))
    assert "linear-vjp" in {c.name for c in result.contracts if c.verdict is Verdict.FAIL}


def test_an_all_zero_tangent_on_500_float32_numbers_fails_where_check_grads_passes():
    x = jnp.array(np.random.default_rng(0).normal(size=500), dtype=jnp.float32)
    broken = jax.custom_jvp(jnp.tanh)
    broken.defjvp(lambda primals, tangents: (jnp.tanh(*primals), jnp.zeros_like(*tangents)))
    jax.test_util.check_grads(broken, (x,), order=1, modes=["fwd"])
    result = gradcheck.check(broken, x)
    assert result.verdict is Verdict.FAIL
    assert result.comparisons[0].diagnosis.startswith("zero")


def test_the_evidence_of_a_float32_target_is_taken_in_float64():
    with use_x64(False):
        result = gradcheck.check(lambda x: jnp.sum(jnp.tanh(x)), jnp.array(X), rtol=1e-5)
    assert result.verdict is Verdict.PASS
    assert result.comparisons[0].abs_err < 1e-6
    assert not jax.config.jax_enable_x64


def test_a_function_that_cannot_run_in_float64_is_differenced_in_its_own_dtype():
    result = gradcheck.check(lambda x: jax.lax.mul(x, jnp.full((3, 2), 2.0, jnp.float32)), jnp.array(X))
    assert result.verdict is Verdict.PASS
    assert any("differences in its own dtype: it does not run in float64" in note for note in result.notes)


def test_numbers_drawn_from_a_key_are_inputs_like_others():
    result = gradcheck.check(lambda x, key: x * jax.random.normal(key, x.shape), jnp.array(X), jax.random.key(0))
    assert result.verdict is Verdict.PASS
    assert not any("in its own dtype" in note for note in result.notes)


def test_a_path_cut_off_by_stop_gradient_is_diagnosed():
    def cut(x, y):
        return jnp.sum(x * jax.lax.stop_gradient(y))

    result = gradcheck.check(cut, jnp.array(X), jnp.array(X + 1))
    assert {c.wrt for c in result.comparisons if c.verdict is Verdict.FAIL} == {"y"}
    assert "detached: the claim would be right if nothing were detached in test_derivatives.py:" in str(result)
    assert "stop_gradient" in str(result)
    meant = gradcheck.case(x=normal(3, 2), y=normal(3, 2), detached={"y": "a target network"})(cut)
    assert gradcheck.check(meant).verdict is Verdict.PASS
    forgotten = gradcheck.case(x=normal(3, 2), y=normal(3, 2), detached={"y": "a target"})(lambda x, y: jnp.sum(x * y))
    told = gradcheck.check(forgotten, framework="jax")
    assert [c.name for c in told.contracts if c.verdict is Verdict.FAIL] == ["detached"]


def test_a_function_that_loses_its_whole_gradient_fails():
    def lose_gradient(x):
        return jnp.sum(jax.lax.stop_gradient(x) ** 2)

    result = gradcheck.check(lose_gradient, jnp.array(X))
    assert (result.verdict, result.reason) == (Verdict.FAIL, Reason.DETACHED)
    assert gradcheck.check(lose_gradient, jnp.array(X), tolerates={"detached": "a target network"}).ok
    written = gradcheck.check(lose_gradient, jnp.array(X), gradient=lambda x: 2 * x)
    assert written.ok
    assert {row.method for row in written.comparisons} == {"analytic"}


def test_an_output_behind_stop_gradient_is_named_and_not_compared():
    result = gradcheck.check(lambda x: {"loss": jnp.sum(x**2), "seen": jax.lax.stop_gradient(2 * x)}, jnp.array(X))
    assert result.verdict is Verdict.PASS
    assert "output['seen'] carries no gradient: not compared" in result.notes


def test_a_constant_function_passes_with_a_claim_of_zero():
    assert gradcheck.check(jnp.sign, jnp.array(X)).verdict is Verdict.PASS


def test_second_derivatives():
    x = jnp.array(X)
    assert gradcheck.check(lambda x: jnp.sum(jnp.tanh(x) ** 3), x, order=2).verdict is Verdict.PASS
    # the first derivatives are right; differentiated again, the rule forgets a term
    stopped = by_vjp(lambda x, g: (g * jax.lax.stop_gradient(slope(x)),))
    result = gradcheck.check(stopped, x, order=2)
    assert {c.order for c in result.comparisons if c.verdict is Verdict.FAIL} == {2}


def test_a_rule_that_cannot_be_differentiated_again_says_so():
    def called_back(x, g):
        return (jax.pure_callback(lambda a: np.asarray(a), jax.ShapeDtypeStruct(x.shape, x.dtype), g * slope(x)),)

    result = gradcheck.check(by_vjp(called_back), jnp.array(X), order=2)
    assert result.reason is Reason.ONCE_DIFFERENTIABLE
    assert "Pure callbacks do not support JVP" in result.message


def test_a_loop_without_reverse_mode_is_checked_in_forward_mode():
    def loop(x):
        return jax.lax.while_loop(lambda c: c[1] < 2, lambda c: (jnp.sin(c[0]), c[1] + 1), (x, 0))[0]

    result = gradcheck.check(loop, jnp.array(X))
    assert result.verdict is Verdict.PASS
    assert {c.method for c in result.comparisons} == {"forward"}


def test_derivatives_written_by_hand():
    x = jnp.array(X)
    loss = lambda x, y: jnp.sum(x["a"] ** 2) * y  # noqa: E731
    gradient = lambda x, y: ({"a": 2 * x["a"] * y}, jnp.sum(x["a"] ** 2))  # noqa: E731
    result = gradcheck.check(loss, {"a": x}, jnp.array(2.0), gradient=gradient)
    assert result.verdict is Verdict.PASS
    assert {c.wrt for c in result.comparisons if c.method == "analytic"} == {"x['a']", "y"}
    assert gradcheck.check(product, x, vjp=lambda v, x: v * slope(x)).verdict is Verdict.PASS
    assert gradcheck.check(product, x, jvp=lambda t, x: 2 * t * slope(x)).verdict is Verdict.FAIL


def test_laws_and_descent_run_on_jax():
    result = gradcheck.check(
        lambda x: jnp.sum(jnp.cosh(x)), jnp.array(X), checks=("laws", "descent"), optimizer=lambda p, g, rate: p - rate * g
    )
    assert result.verdict is Verdict.PASS
    assert {t.check for t in result.checks} == {"laws", "descent"}


def test_third_derivatives_are_checked_as_first_ones_are():
    x = jnp.array([0.3, 0.7])
    assert gradcheck.check(lambda x: jnp.sum(jnp.tanh(x) ** 3), x, order=3).verdict is Verdict.PASS


KEY = jax.random.key(0)


@pytest.mark.parametrize(
    "draw",
    [
        lambda x: jax.random.normal(KEY, x.shape),
        lambda x: jax.random.uniform(KEY, x.shape, x.dtype),
        lambda x: jax.random.bernoulli(KEY, 0.4, x.shape),
    ],
)
def test_the_twin_of_a_random_function_draws_the_same_numbers(draw):
    x = jnp.linspace(-1, 2, 8, dtype="float32")
    right = gradcheck.check(lambda x: jnp.sum(draw(x) * x**2), x)
    assert right.ok
    assert not right.notes
    wrong = gradcheck.check(lambda x: jnp.sum(draw(x) * x * jax.lax.stop_gradient(x)), x, mode="probe")
    assert wrong.verdict is Verdict.FAIL


@pytest.mark.parametrize(("factor", "verdict"), [(1, Verdict.PASS), (2, Verdict.FAIL)])
def test_the_twin_of_a_rule_that_draws_random_numbers_draws_the_same_in_its_backward(factor, verdict):
    @jax.custom_vjp
    def drop(x):
        return x * jax.random.bernoulli(KEY, 0.5, x.shape)

    drop.defvjp(lambda x: (drop(x), None), lambda _, g: (factor * g * jax.random.bernoulli(KEY, 0.5, g.shape),))
    assert gradcheck.check(drop, jnp.linspace(-1, 2, 8, dtype="float32")).verdict is verdict
