import warnings

import numpy as np
import pytest

import gradcheck
from gradcheck.compat import answer, policies
from gradcheck.results import Reason, Verdict

X = np.array([0.5, -1.0, 2.0])


def scaled_square(factor):
    """A check of the square whose gradient is wrong by a factor."""
    return answer.CheckCall(lambda x: (x * x).sum(), (X,), {"gradient": lambda x: 2 * factor * x})


def test_a_right_gradient_passes_and_a_wrong_one_fails():
    assert answer.ask(answer.Translation((scaled_square(1),))).verdict is Verdict.PASS
    wrong = answer.ask(answer.Translation((scaled_square(1), scaled_square(1.01))))
    assert wrong.verdict is Verdict.FAIL
    assert wrong.describe().startswith("FAIL ∂output / ∂x[0]")


@pytest.mark.parametrize(
    ("factor", "atol", "rtol", "verdict"),
    [
        (1 + 1e-4, 0, 1e-3, Verdict.PASS),
        (1 + 1e-4, 0, 1e-5, Verdict.FAIL),
        (1 + 1e-4, 1e-3, 0, Verdict.PASS),
        (1 + 1e-4, 1e-5, 0, Verdict.FAIL),
        (0, 1e6, 0, Verdict.FAIL),  # no absolute tolerance passes a gradient of zero
        (0, 0, 0.9, Verdict.FAIL),
        (1.3, 0, 0.31, Verdict.PASS),
        (1.4, 0, 0.31, Verdict.FAIL),  # 0.29 of the claim, but 0.4 of the derivative
        (2, 0, 0.5, Verdict.FAIL),
        (np.array([1, 1, np.nan]), 1e-2, 0.5, Verdict.FAIL),
    ],
)
def test_tolerances_of_the_caller_pass_errors_up_to_their_size(factor, atol, rtol, verdict):
    translation = answer.Translation((scaled_square(factor),), atol=atol, rtol=rtol)
    given = answer.ask(translation)
    assert (given.verdict, bool(given.tolerated)) == (verdict, verdict is Verdict.PASS)
    assert answer.ask(translation, policies.Policy(tolerances="gradcheck")).verdict is Verdict.FAIL


def test_what_is_tolerated_is_not_shown_where_something_else_fails():
    check = answer.CheckCall(lambda x, y: (x * y).sum(), (X, X + 1), {"gradient": lambda x, y: (1.001 * y, 2 * x)})
    given = answer.ask(answer.Translation((check,), rtol=1e-2))
    assert given.verdict is Verdict.FAIL
    assert {row.wrt for row in given.tolerated} == {"x"}
    assert "∂y" in given.describe()
    assert "∂x" not in given.describe()


def test_a_broken_contract_is_not_tolerated():
    import torch

    class WritesToItsCotangent(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx, g):
            return g.mul_(2.0002 * ctx.saved_tensors[0])

    x = torch.ones(2, dtype=torch.float64, requires_grad=True)
    call = answer.CheckCall(WritesToItsCotangent.apply, (x,))
    translation = answer.Translation((call,), rtol=1e-2)
    assert answer.ask(translation, policies.Policy(contracts=False)).verdict is Verdict.PASS
    given = answer.ask(translation)
    assert (given.verdict, bool(given.tolerated)) == (Verdict.FAIL, True)


def join_parts(factor, *parts):
    """A check of the square that consists of others."""
    return answer.CheckCall(*(getattr(scaled_square(factor), name) for name in ("fn", "inputs", "arguments")), parts)


def test_parts_of_a_check_take_its_place_if_it_does_not_pass():
    right, wrong = scaled_square(1), scaled_square(2)
    passed = answer.ask(answer.Translation((join_parts(1, wrong),)))
    assert (passed.verdict, len(passed.results)) == (Verdict.PASS, 1)
    failed = answer.ask(answer.Translation((join_parts(3, right, join_parts(3, right, wrong)),)))
    assert [result.verdict for result in failed.results] == [Verdict.PASS, Verdict.PASS, Verdict.FAIL]
    unexplained = answer.ask(answer.Translation((join_parts(3, right),)))
    assert [result.verdict for result in unexplained.results] == [Verdict.FAIL, Verdict.PASS]


def test_inconclusive_warns_passes_or_fails_as_the_policy_says():
    undecided = answer.Answer(Verdict.INCONCLUSIVE)
    with pytest.warns(answer.InconclusiveWarning):
        assert answer.passes(undecided)
    with policies.policy(inconclusive="pass"), warnings.catch_warnings():
        warnings.simplefilter("error")
        assert answer.passes(undecided)
    assert not answer.passes(undecided, policies.Policy(inconclusive="fail"))


def test_a_checker_that_a_checked_function_calls_is_not_run():
    counts = []

    def checks_itself(x):
        counts.append(answer.ask(answer.Translation((scaled_square(0),))))
        return (x * x).sum()

    outer = answer.ask(answer.Translation((answer.CheckCall(checks_itself, (X,), {"gradient": lambda x: 2 * x}),)))
    assert outer.verdict is Verdict.PASS
    assert {inner.verdict for inner in counts} == {Verdict.PASS}
    assert not any(inner.results for inner in counts)


def test_a_call_over_its_budget_is_inconclusive():
    given = answer.ask(answer.Translation((scaled_square(1),)), policies.Policy(budget=1e-9))
    assert (given.verdict, given.results[0].reason) == (Verdict.INCONCLUSIVE, Reason.OVER_BUDGET)


def test_notes_are_logged_once(caplog):
    for _ in range(2):
        answer.say_once(("eps has no meaning",))
    assert [record.getMessage() for record in caplog.records] == ["gradcheck.compat: eps has no meaning"]


def test_a_policy_is_validated():
    with pytest.raises(gradcheck.UsageError, match="expected one of 'warn', 'fail', 'pass'"):
        policies.set_policy(inconclusive="maybe")
    with pytest.raises(gradcheck.UsageError, match="unknown policy strict=True"):
        policies.set_policy(strict=True)
    with pytest.raises(gradcheck.UsageError, match="expected seconds"):
        policies.set_policy(budget=-1)
    with pytest.raises(gradcheck.UsageError, match="budget=True: expected seconds"):
        policies.set_policy(budget=True)
    for contracts in ("no", None):
        with pytest.raises(gradcheck.UsageError, match="expected True or False"):
            policies.set_policy(contracts=contracts)
    assert policies.current_policy() == policies.Policy()
