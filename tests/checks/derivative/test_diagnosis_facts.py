"""A fault planted in a right gradient is named by its kind and by no other."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from elementwise import square

import gradcheck
from gradcheck import Verdict, array, normal, positive
from gradcheck.glossary.diagnoses import Diagnosis

RNG = np.random.default_rng(7)
X, Y = RNG.standard_normal((6, 4)), RNG.standard_normal(6)
SQUARE, ZEROS = RNG.standard_normal((4, 4)), np.array([0.0, 1.5, 0.0, -0.7, 2.0, -1.1])


def mse(w):
    return np.mean((X @ w - Y) ** 2) + 0.05 * np.sum(w**2)


def mse_gradient(w):
    return 2 * X.T @ (X @ w - Y) / len(Y) + 0.1 * w


def bilinear(W):
    return np.sum(np.sin(W) * SQUARE)


def bilinear_gradient(W):
    return np.cos(W) * SQUARE


def cubes(x):
    return np.sum(x**3 + x)


def cubes_gradient(x):
    return 3 * x**2 + 1


def parts(x):
    return x**2


FUNCTIONS = {
    "mse": (mse, mse_gradient, normal(4)),
    "bilinear": (bilinear, bilinear_gradient, normal(4, 4)),
    "cubes": (cubes, cubes_gradient, normal(9)),
    "signs": (cubes, cubes_gradient, array([1.5, -0.2, 0.8, -1.1, 2.2, -0.6, -1.9, 0.4])),
    "zeros": (cubes, cubes_gradient, array(ZEROS.tolist())),
}


def first_row(g, x):
    g = g.copy()
    g[0] = 0
    return g


FAULTS = [
    ("zero", "mse", lambda g, x: 0 * g),
    ("zero", "bilinear", lambda g, x: 0 * g),
    ("zero", "cubes", lambda g, x: 0 * g),
    ("sign", "mse", lambda g, x: -g),
    ("sign", "bilinear", lambda g, x: -g),
    ("sign", "cubes", lambda g, x: -g),
    ("factor", "mse", lambda g, x: 2 * g),
    ("factor", "mse", lambda g, x: 6 * g),
    ("factor", "bilinear", lambda g, x: g / 16),
    ("factor", "cubes", lambda g, x: 1.37 * g),
    ("factor", "cubes", lambda g, x: -3 * g),
    ("transposed", "bilinear", lambda g, x: g.T),
    ("flipped", "mse", lambda g, x: g[::-1]),
    ("flipped", "bilinear", lambda g, x: g[:, ::-1]),
    ("flipped", "cubes", lambda g, x: g[::-1]),
    ("rolled", "mse", lambda g, x: np.roll(g, 1)),
    ("rolled", "bilinear", lambda g, x: np.roll(g, -1, 0)),
    ("rolled", "cubes", lambda g, x: np.roll(g, -1)),
    ("permuted", "mse", lambda g, x: g[[1, 0, 3, 2]]),
    ("permuted", "bilinear", lambda g, x: g[[2, 0, 1, 3]]),
    ("permuted", "cubes", lambda g, x: np.sort(g)),
    ("summed", "mse", lambda g, x: np.full_like(g, g.sum())),
    ("summed", "bilinear", lambda g, x: np.broadcast_to(g.sum(0), g.shape)),
    ("summed", "bilinear", lambda g, x: np.broadcast_to(g.mean(1, keepdims=True), g.shape)),
    ("missing-term", "mse", lambda g, x: g - 0.1 * x),
    ("missing-term", "cubes", lambda g, x: g - 1),
    ("missing-term", "bilinear", lambda g, x: g + 0.2 * np.sign(x)),
    ("special-values", "zeros", lambda g, x: g * (x != 0)),
    ("special-values", "signs", lambda g, x: g * np.where(x < 0, 0.5, 1)),
    ("special-values", "cubes", lambda g, x: np.where(x == x.max(), 0, g)),
    ("slice", "bilinear", first_row),
    ("slice", "bilinear", lambda g, x: g * np.array([1, 1, 2, 1])),
    ("slice", "bilinear", lambda g, x: g * np.array([1, 1, 1, 0])[:, None]),
    ("unknown", "mse", lambda g, x: g**2),
    ("unknown", "bilinear", lambda g, x: np.tanh(g)),
    ("formula", "cubes", lambda g, x: g * (1 + x**2)),
    ("formula", "bilinear", lambda g, x: np.abs(g)),
    ("missing-term", "mse", lambda g, x: g - g.mean()),
    ("unknown", "cubes", lambda g, x: g * np.cosh(3 * x)),
]  # fmt: skip


def diagnoses(result):
    return {
        c.diagnosis.partition(":")[0] if c.diagnosis else None
        for c in result.comparisons
        if c.against == "numeric" and c.verdict is Verdict.FAIL
    }


@pytest.mark.parametrize(("kind", "name", "fault"), FAULTS, ids=[f"{n}-{i}-{k}" for i, (k, n, _) in enumerate(FAULTS)])
def test_a_planted_fault_is_named(kind, name, fault):
    function, gradient, spec = FUNCTIONS[name]
    options = {"framework": "numpy", "methods": ("analytic",), "seed": 3}
    result = gradcheck.check(function, spec, gradient=lambda x: fault(gradient(x), x), **options)
    assert diagnoses(result) == {kind}


WHOLE = [f for f in FAULTS if f[0] in ("zero", "sign", "factor", "transposed", "flipped", "rolled", "missing-term")]


@pytest.mark.parametrize(("kind", "name", "fault"), WHOLE, ids=[f"{n}-{i}-{k}" for i, (k, n, _) in enumerate(WHOLE)])
def test_in_probe_mode_a_fault_of_the_whole_leaf_is_named_too(kind, name, fault):
    function, gradient, spec = FUNCTIONS[name]
    options = {"framework": "numpy", "methods": ("analytic",), "seed": 3, "mode": "probe"}
    result = gradcheck.check(function, spec, gradient=lambda x: fault(gradient(x), x), **options)
    assert diagnoses(result) == {kind}


@pytest.mark.parametrize(
    ("factor", "size", "words"),
    [
        (1.5, 3, "the claim is 1.5 times the derivative on all 3 entries: 3/2; look"),
        (1.5, 1, "the claim is 1.5 times the derivative on the only entry: 3/2; look"),
        (4 / 3, 4, "the claim is 1.333 times the derivative on all 4 entries: 4/3; look"),
        (7.0, 7, "entries, where 7 is the size of x; is the 1/N of a mean missing?"),
        (7 / 6, 7, "7/6, where 7 is the size of x"),
        (1.37, 2, "the claim is 1.37 times the derivative on all 2 entries"),
        (1 + 2e-7, 4, "the claim is 1.0000002 times the derivative"),
    ],
)
def test_a_factor_is_called_a_size_only_where_that_is_no_coincidence(factor, size, words):
    result = gradcheck.check(
        lambda x: np.sum(np.sin(x)), normal(size), gradient=lambda x: factor * np.cos(x), framework="numpy"
    )
    (diagnosis,) = {c.diagnosis for c in result.comparisons if c.diagnosis}
    assert words in diagnosis
    assert ("size of" in diagnosis) == (size == factor or size == 7)


def test_a_term_that_is_missing_in_some_rows_is_named():
    def penalised(w):
        return np.sum(np.sin(w)) + 0.05 * np.sum(w[1:3] ** 2)

    result = gradcheck.check(penalised, normal(5, 4), gradient=np.cos, framework="numpy")
    (diagnosis,) = {c.diagnosis for c in result.comparisons if c.diagnosis}
    assert diagnosis.startswith("missing-term: the claim lacks 0.1 times the input on 8 of 20 entries;")


def test_a_single_wrong_complex_entry_is_unknown():
    def fault(gradient):
        gradient[3] *= 1 + 0.3j

    result = gradcheck.check(square(fault), normal(30, dtype="complex128"), mode="full")
    assert "unknown: only one entry is wrong" in str(result), str(result)


def test_what_another_method_names_is_not_called_unknown():
    result = gradcheck.check(mse, normal(4), gradient=lambda w: -mse_gradient(w), framework="numpy")
    first = next(c for c in result.comparisons if c.diagnosis)
    text = str(replace(result, comparisons=(replace(first, diagnosis="unknown: no repair explains it"), *result.comparisons)))
    assert "sign:" in text
    assert "unknown:" not in text


def test_every_diagnosis_has_a_fix_and_an_example():
    assert all(d.message and d.fix and d.example for d in Diagnosis)


def test_float32_claims_are_diagnosed_by_their_twin():
    result = gradcheck.check(
        mse, normal(4), gradient=lambda w: (2 * mse_gradient(w)).astype(w.dtype), framework="numpy", dtype="float32"
    )
    assert diagnoses(result) == {"factor"}


def test_positive_inputs_do_not_make_every_entry_special():
    result = gradcheck.check(cubes, positive(9), gradient=lambda x: cubes_gradient(x) * (np.arange(9) != 4), framework="numpy")
    assert diagnoses(result) == {"zero"}


def test_a_derivative_spread_over_both_triangles_is_named():
    a = torch.eye(3, dtype=torch.float64) + 0.1
    diagnosis_of = {(c.method, c.against): c.diagnosis for c in gradcheck.check(torch.linalg.cholesky, a).comparisons}
    assert diagnosis_of["reverse", "numeric"].startswith(
        "symmetrised: the claim is the mean of the derivative and its transpose"
    )
    assert gradcheck.check(lambda a: torch.linalg.cholesky((a + a.mT) / 2), a).verdict is Verdict.PASS


@pytest.mark.parametrize(("shape", "axes"), [((6, 6), "0 or 1"), ((7, 6), "1")])
def test_a_size_that_two_axes_share_is_named_by_both(shape, axes):
    result = gradcheck.check(
        lambda x: np.mean(np.sum(x**2, axis=0)), normal(*shape), gradient=lambda x: 2 * x, framework="numpy"
    )
    assert f"where 6 is the size of x along axis {axes}" in result.comparisons[0].diagnosis
