import numpy as np
import pytest

import gradcheck
from gradcheck import Verdict, normal


def softmax_in_place(x):
    p = np.exp(x)
    p /= p.sum()
    return p


def centred_in_place(x):
    x -= x.mean()
    x *= x
    return x


def eliminated(A):
    A = A.copy()
    for k in range(len(A)):
        A[k + 1 :, k] /= A[k, k]
        A[k + 1 :, k + 1 :] -= np.outer(A[k + 1 :, k], A[k, k + 1 :])
    return A


def methods(result):
    return {c.method for c in result.comparisons}


@pytest.mark.parametrize(
    ("function", "spec"),
    [
        (softmax_in_place, normal(4)),
        (centred_in_place, normal(4)),
        (eliminated, normal(3, 3)),
        (lambda x: np.vander(x, 3), normal(4)),
        (np.median, normal(4)),
        (lambda x: np.percentile(x, 30), normal(4)),
    ],
    ids=["softmax", "input", "elimination", "vander", "median", "percentile"],
)
def test_updates_in_place_and_outputs_of_another_shape_are_traced(function, spec):
    result = gradcheck.check(lambda x: function(x), spec, mode="full", every_entry=True, contracts=False)
    assert result.verdict is Verdict.PASS
    assert "reverse" in methods(result)


@pytest.mark.parametrize(
    ("function", "gradient"),
    [
        (lambda x: np.sum(np.bincount([0, 1, 1], weights=x) * [2, 3]), lambda x: np.array([2.0, 3, 3])),
        (lambda x: np.sum(x * 3 + x // 1e9), lambda x: np.full(3, 3.0)),
        (lambda x: np.sum(np.unique(x) ** 2), lambda x: 2 * x),
        (lambda x: np.sum(np.outer(x, x)[np.triu_indices(3)]), lambda x: x + np.sum(x)),
        (lambda x: np.sum(x * np.array(["2", "3", "4"], dtype=object).astype(float)), lambda x: np.array([2.0, 3, 4])),
    ],
    ids=["bincount", "integer-division", "unique", "triu_indices", "objects"],
)
@pytest.mark.parametrize("wrong", [False, True], ids=["right", "wrong"])
def test_a_trace_that_fails_costs_only_its_own_column(function, gradient, wrong):
    result = gradcheck.check(function, normal(3), gradient=lambda x: gradient(x) + wrong * (x == x[0]), every_entry=True)
    assert result.verdict is (Verdict.FAIL if wrong else Verdict.PASS)
    assert methods(result) == {"analytic"}
    assert any(note.startswith("reverse not available") for note in result.notes)


def test_traced_code_that_returns_another_shape_leaves_nothing_to_check():
    result = gradcheck.check(lambda X: X[np.triu_indices(3)], normal(3, 3))
    assert result.verdict is Verdict.INCONCLUSIVE
    assert any("returns shape (2, 6, 3) for output, and NumPy (6,)" in note for note in result.notes)


def test_second_derivatives_of_a_function_that_traces_to_another_shape_are_checked():
    result = gradcheck.check(lambda x: np.median(x) ** 2, normal(3), order=2)
    assert result.verdict is Verdict.PASS
    assert {c.order for c in result.comparisons} == {1, 2}
