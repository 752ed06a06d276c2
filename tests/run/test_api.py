import functools
import os
import random
import subprocess
import sys

import numpy as np
import pytest
import torch

import gradcheck
from gradcheck import GradientError, InputError, UsageError, Verdict, normal
from gradcheck.results import CheckResult, Reason
from gradcheck.run import case as run_case
from gradcheck.run.api import build_case


def quadratic(x):
    return np.sum(x**2)


def test_a_right_gradient_is_ok_and_says_how_sharp_the_check_was():
    result = gradcheck.check(quadratic, normal(4), gradient=lambda x: 2 * x)
    assert result.ok
    assert 0 < result.resolution < 1e-6
    assert result.to_dict()["verdict"] == "PASS"


@pytest.mark.parametrize(
    ("verdict", "expect", "truth"),
    [
        (Verdict.PASS, "pass", True),
        (Verdict.FAIL, "pass", False),
        (Verdict.ERROR, "pass", False),
        (Verdict.INCONCLUSIVE, "pass", False),
        (Verdict.FAIL, "fail", True),
        (Verdict.PASS, "fail", False),
    ],
)
def test_a_result_is_true_if_it_is_ok(verdict, expect, truth):
    result = CheckResult("f", "f", verdict, Reason.AGREES, expect=expect)
    assert bool(result) is result.ok is truth


def test_asserting_a_check_of_a_wrong_gradient_fails():
    assert gradcheck.check(quadratic, normal(4), gradient=lambda x: 2 * x)
    with pytest.raises(AssertionError):
        assert gradcheck.check(quadratic, normal(4), gradient=lambda x: 3 * x)


def test_printing_a_result_shows_the_table_without_colour():
    text = str(gradcheck.check(quadratic, normal(4), gradient=lambda x: 3 * x))
    assert "analytic ~ numeric" in text
    assert "FAIL ∂output / ∂x[" in text
    assert "\x1b" not in text


def test_assert_gradients_returns_the_result_or_raises_the_table():
    assert gradcheck.assert_gradients(quadratic, normal(4), gradient=lambda x: 2 * x).ok
    with pytest.raises(GradientError, match="FAIL ∂output") as caught:
        gradcheck.assert_gradients(quadratic, normal(4), gradient=lambda x: 3 * x)
    assert caught.value.result.verdict is Verdict.FAIL
    assert isinstance(caught.value, AssertionError)


def test_an_rtol_decides_what_matters():
    def nearly(x):
        return 2 * x * (1 + 1e-5)

    assert not gradcheck.check(quadratic, normal(4), gradient=nearly).ok
    assert gradcheck.check(quadratic, normal(4), gradient=nearly, rtol=1e-4).ok


def test_an_rtol_that_the_evidence_cannot_meet_is_inconclusive():
    def rounded(x):
        return np.round(np.sum(np.sin(x)), 6)

    assert gradcheck.check(rounded, normal(3), gradient=np.cos, wrt="x").ok
    strict = gradcheck.check(rounded, normal(3), gradient=np.cos, rtol=1e-9)
    assert (strict.verdict, strict.reason) == (Verdict.INCONCLUSIVE, Reason.QUANTISED)


@pytest.mark.parametrize("before", [None, "/mine"])
def test_the_folder_of_the_compiler_does_not_stay_in_the_environment(monkeypatch, before):
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    if before:
        monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", before)

    def compiled(x):
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = "/tmp/torchinductor"  # as torch.compile does
        return np.sum(x**2)

    assert gradcheck.check(compiled, normal(3), gradient=lambda x: 2 * x, framework="numpy").ok
    assert os.environ.get("TORCHINDUCTOR_CACHE_DIR") == before


@pytest.mark.parametrize("draw", [np.random.rand, lambda n: torch.rand(n).numpy(), lambda n: np.array([random.random()] * n)])
def test_what_a_function_draws_depends_on_the_seed_and_not_on_what_was_drawn_before(draw):
    def scaled(x):
        return np.sum(x * draw(3))

    def seen(**options):
        draw(5)
        return gradcheck.check(scaled, np.ones(3), framework="numpy", gradient=np.zeros_like, **options).comparisons[0].estimate

    assert seen() == seen()
    assert seen() != seen(seed=1)


def test_trials_draw_anew_and_the_worst_is_shown():
    seen = set()

    def records(x):
        seen.add(x.shape)
        return np.sum(x**2)

    def wrong_for_three(x):
        return (3 if x.size == 3 else 2) * x

    result = gradcheck.check(records, normal("n"), gradient=wrong_for_three, trials=8, dims={"n": (1, 3)})
    assert seen == {(1,), (2,), (3,)}
    assert result.verdict is Verdict.FAIL
    assert result.comparisons[0].shape == (3,)
    assert result.trials == 8


def test_arrays_given_as_they_are_need_one_trial():
    assert gradcheck.check(quadratic, np.ones(3), gradient=lambda x: 2 * x, trials=9).trials == 1


def test_methods_and_partials_have_names():
    class Model:
        def loss(self, x):
            return np.sum(x**2)

    assert gradcheck.check(Model().loss, np.ones(2), gradient=lambda x: 2 * x).case.endswith("Model.loss")
    scaled = functools.partial(lambda k, x: k * np.sum(x), 2.0)
    assert gradcheck.check(scaled, np.ones(2), gradient=lambda x: np.full(2, 2.0)).ok


@pytest.mark.parametrize("mode", ["full", "probe"])
def test_only_the_methods_that_are_named_are_compared(mode):
    def pairs(methods):
        result = gradcheck.check(lambda x: np.sum(x**2), np.ones(3), gradient=lambda x: 2 * x, methods=methods, mode=mode)
        assert result.verdict is Verdict.PASS
        return {(c.method, c.against) for c in result.comparisons}

    assert pairs(("analytic",)) == {("analytic", "numeric")}
    assert pairs(["reverse", "numeric"]) == {("reverse", "numeric")}
    with pytest.raises(InputError, match="methods=forward: none of them is claimed; the target has analytic, reverse"):
        pairs(("forward",))


def test_without_the_traced_derivative_a_numpy_function_loads_no_torch():
    code = (
        "import sys, numpy as np, gradcheck\n"
        "for factor in (2, 3):\n"
        "    gradcheck.check(lambda x: np.sum(x**2), np.ones(3), gradient=lambda x: factor * x, methods=('analytic',))\n"
        "print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_a_declared_case_is_checked_where_no_inputs_are_given():
    @gradcheck.case(x=normal(3), gradient=lambda x: 2 * x, options={"trials": 2})
    def declared(x):
        return np.sum(x**2)

    result = gradcheck.check(declared)
    assert result.ok
    assert result.trials == 2


def test_a_declared_fail_is_ok_when_it_fails():
    @gradcheck.case(x=normal(3), gradient=lambda x: x, expect="fail", because="forgets the 2")
    def declared(x):
        return np.sum(x**2)

    result = gradcheck.check(declared)
    assert result.ok
    assert result.verdict is Verdict.FAIL
    assert "forgets the 2" in str(result)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gradcheck.check(3), "expected a function"),
        (lambda: gradcheck.check(quadratic, normal(3), gradient="no"), "gradient='no': expected a function"),
        (lambda: gradcheck.check(quadratic, normal(3), normal(3)), "leave out the last 1"),
        (lambda: gradcheck.check(quadratic), "no input for x"),
        (lambda: gradcheck.check(quadratic, normal(3), kwargs={"y": 1}), "no parameter 'y'"),
        (lambda: gradcheck.check(quadratic, normal(3), trails=2), "did you mean trials="),
        (lambda: gradcheck.check(quadratic, normal(3), framework="tensorflow"), "expected one of numpy, torch"),
        (lambda: gradcheck.check(eval("lambda x: x.sum()", {}), normal(3)), "cannot tell whether"),
    ],
)
def test_a_wrong_call_is_one_clear_error(call, message):
    with pytest.raises(UsageError, match=message):
        call()


def test_a_case_with_a_misspelt_keyword_is_refused():
    with pytest.raises(TypeError, match="unexpected keyword argument 'gradent'"):
        build_case(quadratic, normal(4), gradent=lambda x: 2 * x)


def test_missing_inputs_are_listed_with_what_to_write():
    with pytest.raises(InputError, match=r"no input for b, c.*b=gradcheck.normal\(4, 3\), c="):
        gradcheck.check(lambda a, b, c: a + b + c, np.ones(3))


def test_what_the_target_raises_is_an_error_with_its_own_frames():
    def broken(x):
        raise RuntimeError("broken inside")

    result = gradcheck.check(broken, np.ones(3))
    assert (result.verdict, result.reason) == (Verdict.ERROR, Reason.TARGET_RAISED)
    assert "broken inside" in result.message
    assert result.traceback.count("File") == 1


def test_two_hand_written_derivatives_at_once_are_refused():
    with pytest.raises(UsageError, match="gradient= and vjp= given"):
        gradcheck.check(quadratic, np.ones(2), gradient=lambda x: 2 * x, vjp=lambda v, x: 2 * v * x)


def test_a_gradient_mapping_with_other_names_is_not_guessed():
    result = gradcheck.check(lambda a, b: a @ b, np.ones(2), np.ones(2), gradient=lambda a, b: {"p": b, "q": a})
    assert result.reason is Reason.BAD_CLAIM


def test_a_gradient_mapping_may_have_marks_of_gradients():
    result = gradcheck.check(lambda a, b: a @ b, np.ones(2), np.arange(2.0), gradient=lambda a, b: {"db": a, "a_grad": b})
    assert result.ok, str(result)


def test_a_function_that_raises_on_its_second_call_is_the_targets_error():
    calls = []

    def once(x):
        calls.append(1)
        if len(calls) > 1:
            raise RuntimeError("only once")
        return np.sum(x**2)

    result = gradcheck.check(once, np.ones(2), gradient=lambda x: 2 * x)
    assert (result.verdict, result.reason) == (Verdict.ERROR, Reason.TARGET_RAISED)
    assert "second call: RuntimeError: only once" in result.message


@pytest.mark.parametrize("wrt", [(), 3])
def test_a_wrt_that_names_nothing_is_refused(wrt):
    with pytest.raises(UsageError, match="expected an argument name"):
        gradcheck.check(quadratic, np.ones(2), wrt=wrt)


def test_a_misspelt_size_is_refused_with_the_names_there_are():
    with pytest.raises(UsageError, match=r"dim m: no input has a size of that name \(there are: n\)"):
        gradcheck.check(quadratic, normal("n"), dims={"m": 3})


@pytest.mark.parametrize("size", [20, 5_000])
def test_a_wrong_entry_is_shown_as_the_partial_derivative_of_one_output(size):
    result = gradcheck.check(lambda x: x**2, np.ones(size), vjp=lambda v, x: 3 * x * v)
    found = result.comparisons[0]
    assert (found.claimed, found.estimate) == (pytest.approx(3.0), pytest.approx(2.0))
    assert found.output == f"output[{found.worst_entry[0]}]"


def test_a_single_output_is_never_called_a_combination():
    result = gradcheck.check(lambda x: np.mean(1e-3 * x), np.ones(5000), gradient=np.zeros_like)
    assert result.comparisons[0].output == "output"
    assert result.comparisons[0].estimate == pytest.approx(2e-7)


def test_a_default_array_is_an_input_and_tells_the_framework():
    ones = np.ones(3)
    namespace = {"ones": ones}
    exec("def f(x=ones):\n    return (x * x).sum()", namespace)
    assert gradcheck.check(namespace["f"], gradient=lambda x: 2 * x).ok


def test_a_check_that_takes_far_longer_than_its_budget_is_stopped(monkeypatch):
    monkeypatch.setattr(run_case, "MAX_OVER_BUDGET", 0.0)
    result = gradcheck.check(lambda x: x**2, np.ones(3), jacobian=lambda x: np.diag(2 * x), budget=1e3)
    assert (result.verdict, result.reason) == (Verdict.INCONCLUSIVE, Reason.OVER_BUDGET)
    assert "times the budget of 1000 s" in result.message


@pytest.mark.parametrize(("methods", "missing"), [
    (("analytic", "numeric"), "forward"),
    (("forward", "numeric"), "analytic"),
])  # fmt: skip
def test_methods_that_leave_out_one_of_two_claims_are_refused(methods, missing):
    claims = {"vjp": lambda g, x: 2 * x * g, "jvp": lambda t, x: 2 * x * t}
    with pytest.raises(InputError, match=f"vjp= and jvp= given, .* add '{missing}' to methods="):
        gradcheck.check(lambda x: x**2, np.ones(3), methods=methods, **claims)
    assert gradcheck.check(lambda x: x**2, np.ones(3), methods=(*methods, missing), **claims).ok


@pytest.mark.parametrize("mode", ["auto", "full", "probe"])
@pytest.mark.parametrize("factor", [1.0, 1.001])
def test_a_jvp_besides_a_vjp_is_the_method_forward_for_numpy_code(mode, factor):
    weights = np.array([1.0, 1.0, 1.0, factor])
    result = gradcheck.check(
        lambda x: np.sin(x) @ np.ones(4),
        normal(3, 4),
        vjp=lambda v, x: v[:, None] * np.cos(x),
        jvp=lambda u, x: (np.cos(x) * u) @ weights,
        methods=("analytic", "forward", "numeric"),
        mode=mode,
    )
    wrong = {row.method for row in result.comparisons if row.verdict is Verdict.FAIL and row.against == "numeric"}
    assert {row.method for row in result.comparisons if row.against == "numeric"} == {"analytic", "forward"}
    assert wrong == (set() if factor == 1 else {"forward"})


def test_a_framework_with_modes_of_its_own_takes_one_written_derivative():
    with pytest.raises(InputError, match="vjp= and jvp= given: a torch target takes one hand-written derivative"):
        gradcheck.check(torch.sin, torch.ones(2), vjp=lambda v, x: v, jvp=lambda u, x: u)
