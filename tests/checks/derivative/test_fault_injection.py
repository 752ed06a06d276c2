"""The self-test of a PASS: faults planted in the claim are caught, counted and shown; one that passes takes the PASS back."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import gradcheck
from gradcheck import Reason, Verdict, normal
from gradcheck.checks.derivative import check, fault_injection
from gradcheck.report.terminal import run_tables
from gradcheck.results import RunResult, SelfTest
from gradcheck.verdict.facts import Fact
from gradcheck.verdict.planted_faults import inject_faults


def run_of(*results):
    return RunResult("0", {}, 0, {}, results, seconds=1.0, planned=len(results))


def numpy_scalar(x):
    return np.sum(np.sin(x) * np.arange(1, 1 + x.size).reshape(x.shape))


def numpy_gradient(x):
    return np.cos(x) * np.arange(1, 1 + x.size).reshape(x.shape)


class Cube(torch.autograd.Function):
    """x³ with a backward and a jvp."""

    @staticmethod
    def forward(x):
        return x**3

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx, g):
        return 3 * g * ctx.saved_tensors[0] ** 2

    @staticmethod
    def jvp(ctx, t):
        return 3 * t * ctx.saved_tensors[0] ** 2


TARGETS = {
    "a NumPy function": (numpy_scalar, (normal(3, 4),), {"gradient": numpy_gradient}),
    "a NumPy function of many outputs": (np.tanh, (normal(30),), {"vjp": lambda v, x: v / np.cosh(x) ** 2}),
    "an autograd Function": (Cube, (normal(3, 4),), {}),
    "a module": (torch.nn.Linear, (normal(5, 3),), {"init": {"in_features": 3, "out_features": 2}}),
    "several inputs": (lambda a, b: torch.tanh(a @ b).sum(), (normal(3, 4), normal(4, 2)), {"framework": "torch"}),
    "one number": (torch.exp, (normal(),), {"framework": "torch"}),
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("mode", ["full", "probe"])
@pytest.mark.parametrize("name", TARGETS)
def test_a_pass_has_a_score_and_no_fault_passed(name, mode, dtype):
    function, inputs, more = TARGETS[name]
    result = gradcheck.check(function, *inputs, mode=mode, dtype=dtype, **more)
    assert result.verdict is Verdict.PASS, str(result)
    for c in result.comparisons:
        if c.against == "numeric":
            assert c.self_test is not None, str(result)
            assert {"zeroed", "sign flipped", "scaled down"} <= set(c.self_test.tried)
            assert c.self_test.slipped == ()


@pytest.mark.parametrize("mode", ["full", "probe"])
def test_forward_mode_is_scored_too(mode):
    result = gradcheck.check(Cube, normal(20), mode=mode)
    assert {c.method for c in result.comparisons if c.self_test and c.self_test.tried} == {"reverse", "forward"}


@pytest.mark.parametrize("size", [5, 3000])
def test_a_complex_leaf_is_conjugated_and_a_matrix_transposed(size):
    z = normal(size, dtype="complex128")
    result = gradcheck.check(lambda z: (z * z * z).real.sum(), z, framework="torch")
    assert result.verdict is Verdict.PASS
    assert "conjugated" in result.comparisons[0].self_test.tried
    matrix = gradcheck.check(numpy_scalar, normal(3, 4), gradient=numpy_gradient)
    assert "transposed" in matrix.comparisons[0].self_test.tried


@pytest.mark.parametrize("mode", ["full", "probe"])
def test_a_fault_that_makes_no_difference_is_not_tried(mode):
    result = gradcheck.check(np.sum, normal(12), gradient=np.ones_like, mode=mode)
    assert result.verdict is Verdict.PASS
    assert "sign flipped" in result.comparisons[0].self_test.tried
    assert not {"flipped", "shuffled"} & set(result.comparisons[0].self_test.tried)


def test_what_did_not_pass_has_no_score():
    result = gradcheck.check(numpy_scalar, normal(4), gradient=lambda x: 2 * numpy_gradient(x))
    assert result.verdict is Verdict.FAIL
    assert all(c.self_test is None for c in result.comparisons if c.method == "analytic")


@pytest.mark.parametrize("n", [6, 2000])
def test_a_gradient_that_is_zero_everywhere_is_tested_by_one_changed_entry(n):
    result = gradcheck.check(lambda x: np.sum(x - x) + 3.0, normal(n), gradient=np.zeros_like)
    assert result.verdict is Verdict.PASS, str(result)
    assert result.comparisons[0].self_test.tried == ("one entry changed",)


@pytest.mark.parametrize("mode", ["full", "probe"])
def test_what_the_score_says_was_caught_does_not_pass_as_a_claim_of_its_own(mode):
    x = np.random.default_rng(5).standard_normal((4, 6))
    clean = gradcheck.check(numpy_scalar, x, gradient=numpy_gradient, mode=mode).comparisons[0]
    size = 10 * max(clean.resolution, clean.rtol)
    g = numpy_gradient(x)
    for name, faulty in inject_faults(g[None, ..., None], size, 1.0, np.random.default_rng(0)):
        if name in clean.self_test.tried:
            wrong = gradcheck.check(numpy_scalar, x, gradient=lambda _, g_faulty=faulty: g_faulty.reshape(g.shape), mode=mode)
            assert wrong.verdict is not Verdict.PASS, name


@pytest.fixture
def blinded(monkeypatch):
    """Evidence that lets everything pass in the self-test."""
    judge_lines = fault_injection.judge_lines

    def blind(*args, **kwargs):
        judged = judge_lines(*args, **kwargs)
        everywhere = np.ones_like(judged.doubtful)
        return replace(judged, facts={Fact.SHARP: everywhere}, doubtful=~everywhere)

    monkeypatch.setattr(fault_injection, "judge_lines", blind)
    monkeypatch.setattr(check, "compare_whole_input", lambda *_, **__: None)  # it has evidence of its own


@pytest.mark.parametrize("mode", ["full", "probe"])
def test_evidence_that_lets_a_fault_pass_decides_nothing(blinded, mode):
    result = gradcheck.check(Cube, normal(6), mode=mode)
    assert (result.verdict, result.reason) == (Verdict.INCONCLUSIVE, Reason.BLIND)
    row = result.comparisons[0]
    assert set(row.self_test.slipped) == set(row.self_test.tried) > {"zeroed"}
    text = " ".join(run_tables.render(run_of(result), width=140).split())
    assert "planted faults that passed: zeroed, sign flipped, " in text
    assert Reason.BLIND.message in text


def test_if_other_evidence_is_sound_a_blind_one_takes_nothing_back(blinded):
    result = gradcheck.check(np.sum, normal(6), gradient=np.ones_like, mode="full")  # the complex step proves it too
    assert result.verdict is Verdict.PASS
    assert {c.reason for c in result.comparisons if c.against == "numeric"} == {Reason.BLIND}


def test_one_blind_fault_is_named_alone(monkeypatch):
    monkeypatch.setattr(fault_injection, "inject_faults", lambda g, *_: iter([("of 1 %", g * 1.01), ("minus", -g)]))
    judge_lines = fault_injection.judge_lines

    def blind_to_small_ones(estimates, claim, rtol, **more):
        judged = judge_lines(estimates, claim, rtol, **more)
        everywhere = np.ones_like(judged.doubtful)
        facts = {Fact.SHARP: everywhere} if np.all(claim.value > 0) else judged.facts
        return replace(judged, facts=facts, doubtful=~everywhere)

    monkeypatch.setattr(fault_injection, "judge_lines", blind_to_small_ones)
    row = gradcheck.check(np.sum, normal(6), gradient=np.ones_like, every_entry=True).comparisons[0]
    assert row.self_test == SelfTest(("of 1 %", "minus"), ("of 1 %",))
    assert (row.verdict, row.reason) == (Verdict.INCONCLUSIVE, Reason.BLIND)


def test_the_score_is_shown_with_v_alone():
    result = gradcheck.check(numpy_scalar, normal(3, 4), gradient=numpy_gradient)
    tried = sum(len(c.self_test.tried) for c in result.comparisons if c.self_test)
    summary = f"self-test: {tried} of {tried} planted faults caught (zeroed, sign flipped, "
    assert summary in run_tables.render(run_of(result), width=140, verbosity=1)
    assert "self-test" not in run_tables.render(run_of(result), width=140)


def test_json_keeps_the_score():
    result = gradcheck.check(numpy_scalar, normal(3, 4), gradient=numpy_gradient)
    again = RunResult.from_dict(json.loads(run_of(result).to_json())).results[0]
    assert [c.self_test for c in again.comparisons] == [c.self_test for c in result.comparisons]
    assert again.comparisons[0].self_test.tried


@pytest.mark.parametrize("mode", ["full", "probe"])
def test_the_certainty_is_that_of_the_mode(mode):
    result = gradcheck.check(numpy_scalar, normal(3, 4), gradient=numpy_gradient, mode=mode)
    assert {c.certainty for c in result.comparisons if c.against == "numeric"} == {1.0 if mode == "full" else 0.99}


COARSE = {
    "smooth": (lambda x: np.sum(np.sin(x)), np.cos),
    "noise of 1e-7": (lambda x: np.sum(np.round(np.sin(x), 7)), np.cos),
    "small plus large": (lambda x: 1e8 + np.sum(np.sin(x)), np.cos),
    "noise of 1e-4": (lambda x: np.sum(np.round(np.sin(x), 4)), np.cos),
}


@pytest.mark.parametrize("rtol", [None, 1e-5])
@pytest.mark.parametrize("size", [50, 300])
@pytest.mark.parametrize("name", COARSE)
def test_a_pass_of_probes_is_never_coarser_than_1e_2_or_rtol(name, size, rtol):
    function, gradient = COARSE[name]
    result = gradcheck.check(function, normal(size), gradient=gradient, mode="probe", rtol=rtol)
    for c in result.comparisons:
        if c.verdict is Verdict.PASS and c.against == "numeric":
            assert c.resolution <= (rtol or 1e-2)
