"""Hand-written derivatives that keep state between calls, write to their arguments, or draw random numbers of their own."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch

import gradcheck
from gradcheck import Verdict
from gradcheck.checks.contracts.any_target import direct_calls

X = np.linspace(0.3, 2.0, 6).reshape(2, 3)
MAKERS = {
    "numpy": lambda: X.copy(),
    "torch": lambda: torch.tensor(X),
    "jax": lambda: jnp.asarray(X, "float32"),
}


def cube_sum(x):
    return (x**3).sum()


def cubes(x):
    return x**3


def accumulating():
    total = 0.0

    def gradient(x):
        nonlocal total
        total = total + 3 * x**2
        return total

    return {"gradient": gradient}


def buffered():
    buffer = np.empty(X.shape)

    def gradient(x):
        buffer[...] = 3 * np.asarray(x) ** 2
        return buffer

    return {"gradient": gradient}


def cached_by_shape():
    cache = {}
    return {"gradient": lambda x: cache.setdefault(tuple(x.shape), 3 * x**2)}


def cached_by_value():
    cache = {}
    return {"gradient": lambda x: cache.setdefault(np.asarray(x).tobytes(), 3 * x**2)}


def random():
    return {"gradient": lambda x: 3 * x**2 * np.random.rand()}


def broken(result):
    return {contract.name for contract in result.contracts if contract.verdict is Verdict.FAIL}


def message_of(result, name):
    return next(contract.message for contract in result.contracts if contract.name == name)


@pytest.mark.parametrize("framework", ["numpy", "torch"])
@pytest.mark.parametrize(
    ("make", "contract", "words"),
    [
        (accumulating, "deterministic-backward", "it adds to what it keeps"),
        (random, "deterministic-backward", "it draws random numbers of its own"),
        (buffered, "state", "returns an array that the next call overwrites"),
        (cached_by_shape, "state", "the numbers of the first inputs at these inputs"),
    ],
)
def test_a_gradient_that_depends_on_more_than_its_arguments_fails(framework, make, contract, words):
    result = gradcheck.check(cube_sum, MAKERS[framework](), **make())
    assert result.verdict is Verdict.FAIL
    assert broken(result) == {contract}
    assert words in message_of(result, contract)


def test_generators_are_searched_for_only_where_two_calls_differ(monkeypatch):
    searches = []
    monkeypatch.setattr(direct_calls.global_state, "snapshot", lambda *holders: searches.append(holders) or {})
    gradcheck.check(cube_sum, X, **cached_by_value())
    searches_of_a_right_gradient = len(searches)
    gradcheck.check(cube_sum, X, **accumulating())
    assert len(searches) == 2 * searches_of_a_right_gradient + 1


@pytest.mark.parametrize("make", [accumulating, random, buffered, cached_by_shape])
def test_a_jax_gradient_with_state_fails(make):
    assert broken(gradcheck.check(cube_sum, MAKERS["jax"](), **make())) & {"state", "deterministic-backward"}


@pytest.mark.parametrize("framework", MAKERS)
def test_a_cache_by_value_passes(framework):
    result = gradcheck.check(cube_sum, MAKERS[framework](), **cached_by_value())
    assert result.ok
    assert message_of(result, "state") == "gradient= returns the same numbers after a call with other inputs"


def test_a_gradient_that_overwrites_its_input_fails():
    def gradient(x):
        x **= 2
        return 3 * x

    assert broken(gradcheck.check(cube_sum, X.copy(), gradient=gradient)) == {"inputs-intact"}


def test_a_vjp_that_overwrites_its_cotangent_is_a_remark():
    def vjp(v, x):
        v *= 3 * x**2
        return v

    result = gradcheck.check(cubes, X.copy(), vjp=vjp)
    assert result.ok
    (contract,) = [contract for contract in result.contracts if contract.verdict is Verdict.INCONCLUSIVE]
    assert contract.name == "inputs-intact"
    assert "changes its first argument in place" in contract.message


def test_a_jvp_that_returns_its_buffer_fails():
    buffer = np.empty(X.shape)

    def jvp(u, x):
        buffer[...] = 3 * x**2 * u
        return buffer

    assert broken(gradcheck.check(cubes, X.copy(), jvp=jvp)) == {"state"}


def test_a_gradient_that_accumulates_in_grad_fails():
    def gradient(x):
        cube_sum(x.requires_grad_()).backward()
        return x.grad

    assert broken(gradcheck.check(cube_sum, torch.tensor(X), gradient=gradient)) == {"retain-graph"}


def test_a_backward_that_reads_what_its_forward_kept_passes():
    class Layer:
        def forward(self, x):
            self.x = x
            return x**3

        def backward(self, v):
            return 3 * self.x**2 * v

    layer = Layer()
    assert gradcheck.check(layer.forward, X.copy(), vjp=lambda v, x: layer.backward(v)).ok


def test_the_constant_gradient_of_a_linear_function_passes():
    constant = np.full(X.shape, 2.0)
    assert gradcheck.check(lambda x: (2 * x).sum(), X.copy(), gradient=lambda x: constant).ok


def test_contracts_that_are_not_asked_for_are_not_tried():
    result = gradcheck.check(cube_sum, X.copy(), **buffered(), no_contract=("state",))
    assert result.ok
    assert "state" not in {contract.name for contract in result.contracts}


def test_an_expensive_gradient_is_not_called_again_and_again(monkeypatch):
    monkeypatch.setattr(direct_calls, "DEFAULT_BUDGET", 0.0)
    result = gradcheck.check(cube_sum, X.copy(), **buffered())
    assert result.ok
    assert message_of(result, "state").startswith("gradient= not tried: it would take about")


class CachedByShape(torch.autograd.Function):
    cache: dict = {}  # noqa: RUF012 - the fault under test

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, v):
        (x,) = ctx.saved_tensors
        return v * CachedByShape.cache.setdefault(x.shape, 3 * x**2)


def test_a_function_whose_backward_caches_by_shape_fails():
    result = gradcheck.check(CachedByShape, torch.tensor(X))
    assert broken(result) == {"state"}
    assert "at other inputs the gradient is that of the first ones" in message_of(result, "state")


@pytest.mark.parametrize(("shape", "is_noted"), [((3, 3), True), ((1, 1), False), ((2, 3), False), ((4,), False)])
def test_equal_sizes_of_an_input_are_noted(shape, is_noted):
    x = np.ones(shape)
    written = gradcheck.check(cube_sum, x, gradient=lambda x: 3 * x**2)
    assert any(note.startswith("sizes coincide: x has 3×3") for note in written.notes) is is_noted
    assert not any(note.startswith("sizes coincide") for note in gradcheck.check(cube_sum, torch.tensor(x)).notes)


@pytest.mark.parametrize("framework", MAKERS)
def test_a_cache_fails_at_inputs_that_are_zero(framework):
    cache = {}
    zeros = MAKERS[framework]() * 0
    exp = {"numpy": np.exp, "torch": torch.exp, "jax": jnp.exp}[framework]
    result = gradcheck.check(lambda x: exp(x).sum(), zeros, gradient=lambda x: cache.setdefault(tuple(x.shape), exp(x)))
    assert broken(result) == {"state"}


@pytest.mark.parametrize("option", ["gradient", "vjp", "jvp"])
def test_numbers_that_were_kept_before_the_check_are_a_remark(option):
    kept = 3 * X**2
    function = cube_sum if option == "gradient" else cubes
    result = gradcheck.check(function, X.copy(), **{option: lambda *args: kept if option == "gradient" else kept * args[0]})
    assert result.ok
    assert "right for recorded numbers, wrong for a cache" in message_of(result, "state")
    assert {contract.verdict for contract in result.contracts if contract.name == "state"} == {Verdict.INCONCLUSIVE}
