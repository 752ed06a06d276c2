import functools

import numpy as np
import pytest

import gradcheck
from gradcheck import GradientError, InputError, UsageError, Verdict, normal
from gradcheck.results import Reason


def quadratic(x):
    return np.sum(x**2)


def test_a_right_gradient_is_ok_and_says_how_sharp_the_check_was():
    result = gradcheck.check(quadratic, normal(4), gradient=lambda x: 2 * x)
    assert result.ok
    assert 0 < result.resolution < 1e-6
    assert result.to_dict()["verdict"] == "PASS"


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
    assert (strict.verdict, strict.reason) == (Verdict.INCONCLUSIVE, Reason.DULL)


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
        (lambda: gradcheck.check(quadratic, normal(3), reference=quadratic), "reference="),
    ],
)
def test_a_wrong_call_is_one_clear_error(call, message):
    with pytest.raises(UsageError, match=message):
        call()


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
