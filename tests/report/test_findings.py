import math
from dataclasses import replace

import numpy as np
import pytest
import torch

import gradcheck
from gradcheck import normal
from gradcheck.report.findings import CONFIRMED, explain
from gradcheck.report.phrases import format_pair
from gradcheck.results import Verdict


def product(a, b):
    return np.sum(np.sin(a) * b)


def product_gradient(a, b):
    return 1.5 * np.cos(a) * b, 1.5 * np.sin(a)


@pytest.fixture(scope="module")
def scaled():
    return gradcheck.check(product, normal(4), normal(4), gradient=product_gradient)


def test_a_cause_comes_once_with_the_leaves_that_it_concerns(scaled):
    (finding,) = explain(scaled.comparisons, scaled.framework)
    assert [line for line in finding.lines if line.startswith("factor: the claim is 1.5 times the derivative")]
    assert finding.lines[-1] == "the same for 1 more: b"


def test_estimates_of_one_claim_share_a_line(scaled):
    (finding,) = explain(scaled.comparisons)
    assert sum("relative error" in line for line in finding.lines) == 1
    assert "all 4 entries are wrong" in finding.lines


def test_two_causes_are_two_findings():
    def gradient(a, b):
        return 1.5 * np.cos(a) * b, -np.sin(a)

    result = gradcheck.check(product, normal(4), normal(4), gradient=gradient)
    assert [finding.diagnosis.code for finding in explain(result.comparisons)] == ["factor", "sign"]


def test_where_both_modes_agree_the_advice_is_in_the_words_of_the_framework():
    def wavy(x):
        return (torch.sin(x) * torch.tensor(np.exp(x.detach().numpy()))).sum()

    result = gradcheck.check(wavy, torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64))
    assert result.verdict is Verdict.FAIL
    (finding,) = explain(result.comparisons, "torch")
    assert finding.lines[0].startswith("reverse and forward ")
    assert any("torch.no_grad()" in line for line in finding.lines)
    assert any("stop_gradient" in line for line in next(explain(result.comparisons, "jax")).lines)


def test_derivatives_that_differ_from_a_reference_are_a_line_if_the_values_differ():
    def target(a, b):
        return (torch.sin(a) * b).sum()

    def reference(a, b):
        return 1.1 * target(a, b) + 1

    result = gradcheck.check(target, normal(4), normal(4), reference=reference)
    (finding,) = explain(result.comparisons)
    assert finding.reason.code == "value-differs"
    assert finding.lines[-1].startswith("the derivatives differ")


def test_what_does_not_count_under_a_pass_is_called_so():
    x = np.array([0.3, -1.2, 2.5, 0.7])
    result = gradcheck.check(lambda x: np.sum(np.sin(x)) + 1e9, x, gradient=np.cos, rtol=1e-9, framework="numpy")
    undecided = [finding for finding in explain(result.comparisons, passed=True) if finding.verdict is Verdict.INCONCLUSIVE]
    assert result.verdict is Verdict.PASS
    assert [finding.lines[1:] for finding in undecided] == [(CONFIRMED,)]


@pytest.mark.parametrize(
    ("numbers", "texts"),
    [
        ((0.5, 0.25), ("0.5", "0.25")),
        ((-1.23456789, 1.23456789), ("-1.235", "1.235")),
        ((0.2, 0.2 + 3e-9), ("0.2", "0.200000003")),
        ((1.0, 1.0), ("1", "1")),
        ((math.inf, 1.0), ("inf", "1")),
        ((math.nan, 1.0), ("nan", "1")),
        ((1.0, math.nan), ("1", "nan")),
        ((1e300, -1e300), ("1e+300", "-1e+300")),
    ],
)
def test_two_numbers_are_printed_with_the_digits_that_differ(numbers, texts):
    assert format_pair(*numbers) == texts


def test_the_summary_begins_with_the_outcome_the_derivative_and_both_values(scaled):
    assert scaled.summary.startswith("FAIL ∂output / ∂a[")
    assert ": analytic " in scaled.summary
    assert ", numeric " in scaled.summary
    assert replace(scaled, comparisons=()).summary.startswith("FAIL: ")


def test_the_heading_names_framework_dtype_and_device():
    result = gradcheck.check(torch.sin, torch.ones(3))
    assert str(result).startswith("sin  torch, float32, cpu, full mode  PASS")
