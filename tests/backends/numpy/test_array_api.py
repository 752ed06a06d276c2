"""Functions on arrays of other namespaces of the array API standard."""

import array_api_strict as xp
import numpy as np
import pytest
import torch

import gradcheck
from gradcheck import InputError, Reason, Verdict, normal

MATRIX = [[1.0, 2.0, 3.0], [0.5, -0.2, 0.1]]
WEIGHT = [1.0, -2.0, 3.0]


def weighted(x, w):
    return xp.sum(xp.tanh(x) * w, axis=1)


def right(v, x, w):
    t = xp.tanh(x)
    return v[:, None] * (1 - t * t) * w, xp.sum(v[:, None] * t, axis=0)


def wrong(v, x, w):
    t = xp.tanh(x)
    return v[:, None] * (1 - t) * w, xp.sum(v[:, None] * t, axis=0)


@pytest.mark.parametrize("dtype", [xp.float64, xp.float32])
def test_a_derivative_by_hand_is_judged(dtype):
    inputs = xp.asarray(MATRIX, dtype=dtype), xp.asarray(WEIGHT, dtype=dtype)
    assert gradcheck.check(weighted, *inputs, vjp=right).verdict is Verdict.PASS
    result = gradcheck.check(weighted, *inputs, vjp=wrong)
    assert result.verdict is Verdict.FAIL
    assert {c.wrt for c in result.comparisons if c.verdict is Verdict.FAIL} == {"x"}


@pytest.mark.parametrize("function", [lambda x: xp.sum(x * x), lambda x: (x * x, xp.sum(x))], ids=["number", "tuple"])
def test_cotangents_of_single_numbers_are_converted_too(function):
    def vjp(v, x):
        return 2 * x * v if not isinstance(v, tuple) else 2 * x * v[0] + v[1]

    result = gradcheck.check(function, xp.asarray(WEIGHT), vjp=vjp)
    assert result.verdict is Verdict.PASS, str(result)


def test_without_a_derivative_nothing_is_claimed():
    result = gradcheck.check(weighted, xp.asarray(MATRIX), xp.asarray(WEIGHT))
    assert result.reason is Reason.NOTHING_CLAIMED
    assert "not those of another namespace" in str(result)


@pytest.mark.parametrize("reference", [lambda x, w: torch.tanh(x) @ w, lambda x, w: (x.__array_namespace__().tanh(x)) @ w])
def test_it_is_compared_with_a_reference(reference):
    result = gradcheck.check(weighted, xp.asarray(MATRIX), xp.asarray(WEIGHT), vjp=right, reference=reference)
    assert result.verdict is Verdict.PASS
    assert "reference" in {c.against for c in result.comparisons}


def test_a_function_of_any_namespace_takes_numpy_arrays():
    def scaled(x):
        return x.__array_namespace__().sum(x * x)

    result = gradcheck.check(scaled, normal(3), gradient=lambda x: 2 * x, framework="numpy")
    assert result.verdict is Verdict.PASS


def test_pytrees_and_keywords_are_taken():
    def total(p, *, scale):
        return {"sum": xp.sum(p["a"] * p["b"][0]) * scale}

    given = {"a": xp.asarray([1.0, 2.0]), "b": [xp.asarray([3.0, 4.0])]}
    result = gradcheck.check(
        total, given, kwargs={"scale": 2.0}, gradient=lambda p, scale: {"a": p["b"][0] * scale, "b": [p["a"] * scale]}
    )
    assert result.verdict is Verdict.PASS, str(result)


@pytest.mark.parametrize("copying", [False, True])
def test_inputs_are_unchanged_and_writing_to_them_is_reported(copying, monkeypatch):
    made = xp.asarray
    if copying:  # as a namespace on another device does
        monkeypatch.setattr(xp, "asarray", lambda x, **more: made(np.array(x), **more))

    def doubled(x):
        x *= 2.0
        return xp.sum(x)

    x = made(WEIGHT)
    assert "inputs-intact: INCONCLUSIVE" in str(gradcheck.check(doubled, x, gradient=lambda x: 2 * xp.ones(x.shape)))
    assert np.from_dlpack(x).tolist() == WEIGHT


@pytest.mark.parametrize(
    ("beside", "named"),
    [(np.ones(3), "array_api_strict and numpy"), (torch.ones(3), "array_api_strict and torch")],
    ids=["numpy", "torch"],
)
def test_arrays_of_two_namespaces_are_one_error(beside, named):
    with pytest.raises(InputError, match=f"inputs mix arrays of {named}"):
        gradcheck.check(weighted, xp.asarray(MATRIX), beside)


def test_an_array_that_cannot_be_read_on_the_host_is_one_error():
    class Remote:
        shape, dtype, device = (3,), "float64", "elsewhere"

        def __array_namespace__(self):
            return xp

    with pytest.raises(InputError, match=r"an array of .* on elsewhere cannot be read .* give arrays on the host"):
        gradcheck.check(xp.sum, Remote())


def test_hips_autograd_derivatives_are_judged_as_hand_written_ones():
    anp = pytest.importorskip("autograd.numpy")
    import autograd

    def norm(x):
        return anp.sqrt(anp.sum(x**2))

    assert gradcheck.check(norm, normal(4), gradient=autograd.grad(norm)).verdict is Verdict.PASS
    other = autograd.grad(lambda x: anp.sum(x**2))
    assert gradcheck.check(norm, normal(4), gradient=other).verdict is Verdict.FAIL
