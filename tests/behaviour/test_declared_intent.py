"""What is declared to be meant so decides, is shown with its reason, and is missed where it is not so."""

import itertools
import math

import pytest
import torch
from elementwise import layer
from unruly import other, random_backward, views_the_cotangent

import gradcheck
from gradcheck import Verdict, normal
from gradcheck.errors import InputError, UsageError
from gradcheck.results import RunResult
from gradcheck.run.runner import describe_environment


class Rounded(torch.autograd.Function):
    """Rounding with the gradient of the identity."""

    @staticmethod
    def forward(ctx, x):
        return torch.round(x)

    @staticmethod
    def backward(ctx, g):
        return g


def loss(x, target):
    return torch.sum((x - target.detach()) ** 2)


def leaky(x, target):
    return torch.sum((x - target) ** 2)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_straight_through_estimator_that_is_expected_passes_and_is_missed_where_it_is_gone(dtype):
    meant = {"expect": "straight-through", "because": "rounding is trained through", "dtype": dtype}
    there = gradcheck.check(Rounded, normal(4), **meant)
    assert (there.verdict, there.outcome, there.reason.code) == (Verdict.PASS, Verdict.PASS, "straight-through")
    assert "expected: rounding is trained through" in str(there)
    assert math.isnan(there.resolution) or there.resolution < 1e-2  # of what is declared nothing is known
    gone = gradcheck.check(layer(), normal(4), **meant)
    assert (gone.verdict, gone.outcome) == (Verdict.PASS, Verdict.FAIL)
    assert "although expect='straight-through'" in str(gone)
    wrong = gradcheck.check(layer(lambda g: 2 * g), normal(4), **meant)
    assert wrong.outcome is Verdict.FAIL


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_no_gradient_comes_through_what_is_declared_detached(dtype):
    meant = {"detached": ["target"], "because": "labels are data", "dtype": dtype}
    right = gradcheck.check(loss, normal(4), normal(4), **meant)
    assert right.verdict is Verdict.PASS
    assert {c.wrt for c in right.comparisons} == {"x"}
    assert "declared: detached target, as labels are data" in str(right)
    wrong = gradcheck.check(leaky, normal(4), normal(4), **meant)
    assert wrong.verdict is Verdict.FAIL
    assert "a gradient comes through to target, declared detached: at target[0] it is" in " ".join(str(wrong).split())
    assert gradcheck.check(leaky, normal(4), normal(4), no_contract=("detached",), **meant).verdict is Verdict.PASS
    assert gradcheck.check(loss, normal(4), normal(4), dtype=dtype).verdict is Verdict.FAIL  # where nothing is declared


def test_detached_leaves_of_a_tree_and_of_a_module():
    class Scaled(torch.nn.Module):
        def __init__(self, cut):
            super().__init__()
            self.weight, self.cut = torch.nn.Parameter(torch.ones(3)), cut

        def forward(self, parts):
            weight = self.weight.detach() if self.cut else self.weight
            return weight * parts["x"] * parts["mask"].detach()

    parts = {"x": normal(3), "mask": normal(3)}
    meant = {"detached": {"parts['mask']": "a mask is fixed", "params['weight']": "the teacher is not trained"}}
    assert gradcheck.check(Scaled(True), parts, **meant).verdict is Verdict.PASS
    wrong = gradcheck.check(Scaled(False), parts, **meant)
    assert "comes through to params['weight']" in " ".join(str(wrong).split())


def test_a_contract_that_is_tolerated_is_shown_and_decides_nothing():
    function = other(backward=views_the_cotangent)
    meant = {"tolerates": {"cotangent-layout": "the caller makes it contiguous"}}
    result = gradcheck.check(function, normal(3, 4), normal(3, 4), **meant)
    assert result.ok
    assert "FAIL (tolerated: the caller makes it contiguous)" in " ".join(str(result).split())
    needless = gradcheck.check(function, normal(3, 4), normal(3, 4), tolerates={"state": "a cache"}, because="")
    assert needless.verdict is Verdict.FAIL
    assert "declared: tolerates state, as a cache (not needed: it is honoured)" in str(needless)


def test_a_reason_to_be_inconclusive_that_is_tolerated_counts_as_passed():
    result = gradcheck.check(torch.sqrt, torch.zeros(1, dtype=torch.float64), tolerates={"singular": "at the border"})
    assert (result.verdict, result.outcome) == (Verdict.INCONCLUSIVE, Verdict.PASS)
    assert "INCONCLUSIVE (tolerated)" in str(result)
    run = RunResult("0", describe_environment(), 0, {}, (result,))
    assert run.verdict is Verdict.PASS
    (again,) = RunResult.from_dict(run.to_dict()).results
    assert (again.outcome, again.intents) == (result.outcome, result.intents)


def test_a_function_that_is_declared_random_is_looked_at_all_the_same():
    calls = itertools.count()

    def noisy(x):
        return torch.sin(x) * (1 + 1e-2 * (next(calls) * 0.618 % 1))

    assert gradcheck.check(noisy, normal(3)).reason.code == "nondeterministic"
    declared = gradcheck.check(noisy, normal(3), nondeterministic="dithered on purpose")
    assert declared.comparisons
    assert declared.verdict is Verdict.INCONCLUSIVE
    assert "declared: nondeterministic, as dithered on purpose" in str(declared)
    function = other(backward=random_backward)
    assert gradcheck.check(function, normal(3, 4), normal(3, 4), rtol=0.5).verdict is Verdict.FAIL


def test_what_is_declared_of_a_model_holds_for_its_layers():
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Inner()

        def forward(self, x, w):
            return self.inner(x, w)

    class Inner(torch.nn.Module):
        def forward(self, x, w):
            return other(backward=views_the_cotangent).apply(x, w)

    meant = {"tolerates": ["cotangent-layout"], "because": "the caller makes it contiguous"}
    assert gradcheck.check(Model(), normal(3, 4), normal(3, 4), by_layer=True).verdict is Verdict.FAIL
    assert gradcheck.check(Model(), normal(3, 4), normal(3, 4), by_layer=True, **meant).ok


@pytest.mark.parametrize(
    ("meant", "message"),
    [
        ({"expect": "pas"}, r"expect='pas': expected one of 'pass', 'fail', 'straight-through'"),
        ({"expect": "straight-through"}, r"expect='straight-through' needs because="),
        ({"detached": ["x"]}, r"detached='x' needs because="),
        ({"detached": {"x": " "}}, r"detached='x' needs because="),
        ({"tolerates": "cotangent-layouts", "because": "so"}, r"did you mean cotangent-layout\?"),
        ({"tolerates": "disagrees", "because": "so"}, r"expected a contract, or a reason for an INCONCLUSIVE result"),
        ({"tolerates": {"state": 3}}, r"expected names, or names with their reasons"),
        ({"nondeterministic": True}, r"expected the reason"),
    ],
)
def test_a_declaration_without_a_reason_or_with_an_unknown_name_is_refused(meant, message):
    with pytest.raises(UsageError, match=message):
        gradcheck.case(x=normal(3), **meant)
    with pytest.raises(UsageError, match=message):
        gradcheck.check(torch.sin, normal(3), **meant)


def test_names_of_what_is_detached_are_checked():
    with pytest.raises(InputError, match=r"detached='targets' names no input .*did you mean 'target'"):
        gradcheck.check(loss, normal(4), normal(4), detached={"targets": "labels"})
    with pytest.raises(InputError, match="nothing is left"):
        gradcheck.check(loss, normal(4), normal(4), detached={"x": "a", "target": "b"})
    with pytest.raises(InputError, match="for torch and jax targets"):
        gradcheck.check(lambda x, y: x @ y, normal(4), normal(4), framework="numpy", detached={"x": "a"})
