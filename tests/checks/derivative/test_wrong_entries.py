"""The search for wrong entries of large leaves: each is named with its true value, within a budget of evaluations."""

import numpy as np
import pytest
import torch
from elementwise import square

import gradcheck
from gradcheck import Verdict, normal


def layer(bad, factor=1.01):
    class Layer(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return torch.sin(x)

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            gradient = g * torch.cos(x)
            gradient.view(-1)[bad] *= factor
            return gradient

    return Layer


def numeric(result):
    return next(comparison for comparison in result.comparisons if comparison.against == "numeric")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("shape", [(3000,), (50, 40)])
@pytest.mark.parametrize("bad", [[0], [7, 8], [3, 900, 1999], [0, 500, 501, 502, 1500]])
def test_every_wrong_entry_is_named_with_its_values(bad, shape, dtype):
    result = gradcheck.check(layer(bad), normal(*shape), dtype=dtype, mode="probe", contracts=False)
    where = numeric(result).where
    assert result.verdict is Verdict.FAIL
    assert {int(np.ravel_multi_index(wrong.entry, shape)) for wrong in where.entries} == set(bad)
    assert (where.count, where.examined) == (len(bad), 1.0)
    assert all(wrong.claimed / wrong.estimate == pytest.approx(1.01, rel=1e-3) for wrong in where.entries)
    assert f"{len(bad)} of {np.prod(shape):,} entries" in str(result)


@pytest.mark.parametrize(
    ("bad", "factor", "words"),
    [
        ([3, 900, 1999], 1.01, "factor: the claim is 1.01 times the derivative on 3 of 3000"),
        ([7, 8], 0.0, "zero: the claim is 0 on 2 of 3000"),
    ],
)
def test_a_few_wrong_entries_are_diagnosed(bad, factor, words):
    result = gradcheck.check(layer(bad, factor), normal(3000), contracts=False)
    assert words in (numeric(result).diagnosis or "")


def test_entries_that_are_wrong_at_special_inputs_are_diagnosed_as_such():
    x = torch.randn(3000, generator=torch.manual_seed(0), dtype=torch.float64)
    x[[5, 700, 2999]] = 0.0
    result = gradcheck.check(layer(x == 0, 0.5), x)
    assert (
        "special-values: the claim is 0.5 times the derivative on 3 of 3000 entries, those where the input is 0"
        in numeric(result).diagnosis
    )


def test_three_of_200000_entries_are_named_within_350_evaluations():
    result = gradcheck.check(layer([4, 100_000, 199_999]), normal(200_000), contracts=False)
    assert {wrong.entry for wrong in numeric(result).where.entries} == {(4,), (100_000,), (199_999,)}
    assert result.evaluations <= 350


def test_if_most_entries_are_wrong_one_is_named_and_the_rest_sampled():
    result = gradcheck.check(layer(slice(None)), normal(3000), contracts=False)
    where = numeric(result).where
    assert len(where.entries) == 1
    assert where.count is None
    assert where.sampled == (8, 8)
    assert "8 of 8 others, chosen at random, are wrong; 0.3 % of the leaf examined" in str(result).replace("\n    ", " ")
    assert result.evaluations <= 600


def test_if_more_entries_are_wrong_than_are_searched_for_some_are_named_and_the_count_is_unknown():
    result = gradcheck.check(layer(list(range(0, 3000, 100))), normal(3000), contracts=False)
    where = numeric(result).where
    assert len(where.entries) == 8
    assert where.count is None
    assert 0 < where.examined < 1


def test_in_full_mode_all_wrong_entries_are_counted_and_the_largest_errors_listed_first():
    x = np.arange(1.0, 13.0)
    factors = np.where(x % 2 == 0, 1.5, 1.0)
    result = gradcheck.check(lambda x: np.sum(x**2), x, gradient=lambda x: 2 * x * factors, framework="numpy")
    where = numeric(result).where
    assert where.count == 6
    assert [wrong.entry for wrong in where.entries] == [(11,), (9,), (7,), (5,), (3,), (1,)]


def test_wrong_entries_of_several_leaves_are_located_in_each():
    def gradient(x, y):
        g, h = y.copy(), x.copy()
        g[5] *= 2
        h[700] = 0
        return g, h

    result = gradcheck.check(lambda x, y: np.sum(x * y), normal(2000), normal(2000), gradient=gradient, framework="numpy")
    located = {
        comparison.wrt: [wrong.entry for wrong in comparison.where.entries]
        for comparison in result.comparisons
        if comparison.method == "analytic" and comparison.against == "numeric"
    }
    assert located == {"x": [(5,)], "y": [(700,)]}


@pytest.mark.parametrize("mode", ["full", "probe"])
def test_complex_entries_count_once(mode):
    def inject_fault(gradient):
        gradient[[1, 6]] *= 1.5

    result = gradcheck.check(square(inject_fault), normal(40, dtype="complex128"), mode=mode, contracts=False)
    where = numeric(result).where
    assert {wrong.entry for wrong in where.entries} == {(1,), (6,)}
    assert where.count == 2


def test_an_entry_that_is_not_finite_is_located():
    def gradient(x):
        g = np.cos(x)
        g[100] = np.nan
        return g

    result = gradcheck.check(lambda x: np.sum(np.sin(x)), normal(3000), gradient=gradient, framework="numpy")
    assert numeric(result).worst_entry == (100,)


def test_right_entries_that_are_lost_in_rounding_are_not_called_wrong():
    weights = np.where(np.arange(3000) % 2, 1.0, 1e-9)

    def gradient(x):
        g = 2 * weights * x
        g[[3, 901]] *= 1.5
        return g

    result = gradcheck.check(lambda x: np.sum(weights * x**2), normal(3000), gradient=gradient, framework="numpy")
    assert {wrong.entry for wrong in numeric(result).where.entries} == {(3,), (901,)}


def test_kinks_among_wrong_entries_are_not_called_wrong():
    x = torch.cat([torch.zeros(10), torch.arange(1.0, 11.0)]).double()

    class Relu(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return torch.relu(x).sum()

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            gradient = g * (x > 0)
            gradient[10:16] *= 3
            return gradient

    where = numeric(gradcheck.check(Relu, x)).where
    assert where.count == 6


FILLED = {
    "w[:, 3]": np.s_[:, 3],
    "w[2:4, :]": np.s_[2:4],
    "w[::2, :]": np.s_[::2],
    "the diagonal of w": np.arange(5),
    "w above the diagonal": np.triu_indices(5, 1),
}


@pytest.mark.parametrize("filled", FILLED)
def test_the_slice_that_the_wrong_entries_fill_is_named(filled):
    index = (FILLED[filled],) * 2 if isinstance(FILLED[filled], np.ndarray) else FILLED[filled]

    def gradient(w):
        g = np.cos(w)
        g[index] += 0.5
        return g

    result = gradcheck.check(lambda w: np.sum(np.sin(w)), normal(5, 5), gradient=gradient, framework="numpy")
    where = numeric(result).where
    assert where.slice == filled
    assert f"all {where.count} entries of {filled} are wrong" in str(result)


def test_what_the_diagnosis_says_about_a_slice_is_not_repeated():
    def gradient(w):
        g = np.cos(w)
        g[:, 3] = 0
        return g

    result = gradcheck.check(lambda w: np.sum(np.sin(w)), normal(5, 4), gradient=gradient, framework="numpy")
    assert numeric(result).diagnosis.startswith("slice: ")
    assert "all 5 entries of w[:, 3] are wrong: " in str(result)
    assert str(result).count("5 of 20 entries") == 1


def test_a_complex_entry_with_one_wrong_part_counts_as_wrong_in_a_slice():
    def inject_fault(gradient):
        gradient[1, :2] *= 1.5
        gradient[1, 2] += 1j

    result = gradcheck.check(square(inject_fault), normal(3, 3, dtype="complex128"), mode="full", contracts=False)
    assert numeric(result).where.slice == "z[1, :]"
    assert numeric(result).where.count == 3


def test_wrong_entries_that_fill_no_slice_are_listed_without_one():
    result = gradcheck.check(layer([1, 5, 6]), normal(12), contracts=False)
    assert numeric(result).where.slice == ""
    assert "3 of 12 entries are wrong: " in str(result)
