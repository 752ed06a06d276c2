"""What high precision settles, from end to end: where the fields leave a claim open, or rounding hides the derivative."""

import sys

import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812

import gradcheck
from gradcheck import Reason, Verdict


def draw(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed + len(shape)))


def check(fn, *args, **options):
    options = {"exact": True, "contracts": False, "methods": ("reverse", "numeric"), **options}
    return gradcheck.check(fn, *args, **options)


def make_function(forward, backward):
    class Function(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *inputs):
            ctx.save_for_backward(*inputs)
            return forward(*inputs)

        @staticmethod
        def backward(ctx, g):
            return backward(g, *ctx.saved_tensors)

    return Function.apply


def find_rows(result, against="high-precision"):
    return [row for row in result.comparisons if row.against == against]


def square_of_sine(factor):
    """Return a function with a backward that is right for a reason that the fields do not know, but for a factor."""
    return make_function(lambda x: torch.sin(x) ** 2, lambda g, x: g * torch.sin(2 * x) * factor)


def sum_of_roots(factor):
    """Return a function with so many roots that they rarely exist together in a field."""

    def root(x):
        return torch.sqrt(x.square() + x.roll(1, 0).square() + 1)

    return make_function(lambda x: root(x).sum(), lambda g, x: g * factor * x * (1 / root(x) + (1 / root(x)).roll(-1, 0)))


def cancel(factor):
    """Return a function whose values are rounded so much that differences show nothing."""
    return make_function(lambda x: x + (x * 1e12).sum() - (x * 1e12).sum(), lambda g, x: g * factor)


@pytest.mark.parametrize(("make", "size"), [(square_of_sine, 4), (sum_of_roots, 40)])
def test_right_claims_that_the_fields_leave_open_agree_to_fifty_digits(make, size):
    result = check(make(1.0), draw(size))
    (row,) = find_rows(result)
    assert (result.verdict, row.verdict, row.reason) == (Verdict.PASS, Verdict.PASS, Reason.HIGH_PRECISION_AGREES)
    assert 0 < row.rel_err < 1e-50
    assert "reverse ~ high-precision" in str(result)
    assert any(note.startswith("high-precision: claim and derivative agree") for note in result.notes)


@pytest.mark.parametrize(("make", "size", "against"), [(square_of_sine, 4, "exact"), (sum_of_roots, 40, "high-precision")])
def test_a_small_fault_is_a_remark_with_its_size(make, size, against):
    result = check(make(1 + 1e-12), draw(size))
    (row,) = find_rows(result, against)
    assert (result.verdict, row.reason) == (Verdict.PASS, Reason.SMALL_DIFFERENCE)
    assert row.rel_err == pytest.approx(1e-12, rel=1e-3)


def test_a_difference_that_only_digits_show_fails_with_its_own_reason():
    result = check(sum_of_roots(1 + 1e-7), draw(40), rtol=1e-8)
    (row,) = find_rows(result)
    assert (result.verdict, row.reason) == (Verdict.FAIL, Reason.HIGH_PRECISION_DIFFERS)
    assert row.rel_err == pytest.approx(1e-7, rel=1e-3)


def test_only_the_wrong_entry_is_named():
    fault = torch.ones(4, dtype=torch.float64)
    fault[2] = 1 + 1e-10
    (row,) = find_rows(check(square_of_sine(fault), draw(4)), "exact")
    assert row.worst_entry == (2,)
    assert row.rel_err == pytest.approx(1e-10, rel=1e-3)


@pytest.mark.parametrize(
    ("factor", "verdict", "reason"),
    [(1.0, Verdict.PASS, Reason.IDENTITY_PROVED), (1.001, Verdict.FAIL, Reason.IDENTITY_REFUTED)],
)
def test_what_rounding_hides_is_settled_without_being_asked_for(factor, verdict, reason):
    fn, x = cancel(factor), draw(4)
    assert check(fn, x, exact=False).verdict is Verdict.INCONCLUSIVE
    result = check(fn, x, exact=None)
    (row,) = find_rows(result, "exact")
    assert (result.verdict, row.reason) == (verdict, reason)


def test_each_trial_must_be_settled():
    case = gradcheck.check(
        lambda x: cancel(1.0)(x) if x[0] > 0 else cancel(1.0)(x) * torch.from_numpy(np.cos(x.detach().numpy())),
        gradcheck.normal(4),
        contracts=False,
        methods=("reverse", "numeric"),
        trials=4,
        framework="torch",
    )
    assert find_rows(case, "exact")
    assert case.verdict is not Verdict.PASS


RIGHT = {
    "a sum that cancels": (lambda x: F.layer_norm(x, (4,)).sum(), draw(3, 4)),
    "a tail of GELU": (F.gelu, torch.tensor([-6.9, -20.0], dtype=torch.float64)),
    "a tail of log-sum-exp": (lambda x: torch.logsumexp(x, 0), torch.tensor([0.0, -300.0], dtype=torch.float64)),
    "a small number after a large one": (lambda x: (x + 1e8) - 1e8, draw(3)),
}


@pytest.mark.parametrize("name", RIGHT)
def test_derivatives_near_zero_are_decided(name):
    fn, x = RIGHT[name]
    result = check(fn, x)
    assert result.verdict is Verdict.PASS
    assert {row.reason for row in result.comparisons if row.against in ("exact", "high-precision")} == {Reason.IDENTITY_PROVED}


KINKS = {
    "abs": (torch.abs, torch.zeros(3)),
    "relu": (torch.relu, torch.zeros(3)),
    "max": (torch.amax, torch.ones(3)),
    "norm": (torch.linalg.vector_norm, torch.zeros(3)),
    "root of a square": (lambda x: torch.sqrt(x**2 + 0), torch.ones(3)),
}


@pytest.mark.parametrize("name", KINKS)
def test_a_subgradient_is_not_refuted(name):
    fn, x = KINKS[name]
    result = check(fn, x.double())
    assert result.verdict is Verdict.PASS
    assert all(row.verdict is Verdict.PASS for row in result.comparisons)


def cut(x):
    return (x * 2**20).long().double() / 2**20


@pytest.mark.parametrize("step", [lambda x: torch.round(x * 2**20) / 2**20, cut])
def test_rounding_on_purpose_stays_open(step):
    fn = make_function(lambda x: step(x + (x * 1e12).sum() - (x * 1e12).sum()), lambda g, x: g)
    result = check(fn, draw(4), exact=None)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert {row.against for row in result.comparisons} == {"numeric"}


@pytest.mark.parametrize("fn", [lambda x: x.float().sin().double() + x, lambda x: x * x.mean(dtype=torch.float32)])
def test_less_precision_inside_is_said(fn):
    notes = check(fn, draw(3)).notes
    assert any("computes in float32 inside" in note for note in notes), notes


def test_without_python_flint_a_note_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "flint", None)
    monkeypatch.delitem(sys.modules, "gradcheck.exact.balls", raising=False)
    monkeypatch.delattr("gradcheck.exact.balls", raising=False)
    result = check(square_of_sine(1.0), draw(4))
    assert result.notes.count("high precision needs python-flint: pip install 'gradcheck[exact]'") == 1
    assert find_rows(result) == []
    (row,) = find_rows(check(square_of_sine(1 + 1e-9), draw(4)), "exact")
    assert row.rel_err == pytest.approx(1e-9, rel=1e-2)


class KeepsFirstInput:
    """A square whose backward uses a copy of its first input."""

    def __init__(self):
        self.x = None

    def __call__(self, x):
        self.x = x.detach().clone() if self.x is None else self.x
        return make_function(lambda x: x**2, lambda g, _: 2 * g * self.x)(x)

    def square(self, x):
        self.x = np.array(x) if self.x is None else self.x
        return x**2

    def vjp(self, g, _):
        return 2 * g * self.x


@pytest.mark.parametrize("with_flint", [True, False])
def test_a_backward_that_is_right_at_the_first_input_only_is_refuted(with_flint, monkeypatch):
    if not with_flint:
        monkeypatch.setitem(sys.modules, "gradcheck.exact.balls", None)
    for_numpy = KeepsFirstInput()
    of_torch = check(KeepsFirstInput(), draw(3))
    of_numpy = check(for_numpy.square, np.arange(1.0, 4.0), vjp=for_numpy.vjp, methods=("analytic", "numeric"))
    for result in (of_torch, of_numpy):
        (row,) = find_rows(result, "exact")
        assert (result.verdict, row.reason) == (Verdict.FAIL, Reason.IDENTITY_REFUTED)
        assert any("at these inputs only: does it use numbers of an earlier call" in note for note in result.notes)
        assert "stands alone" not in str(result)


def test_numbers_that_were_recorded_as_a_gradient_are_not_refuted():
    options = {"gradient": lambda x: np.array([2.0, 4.0]), "methods": ("analytic", "numeric")}
    result = check(lambda x: np.sum(x**2), np.array([1.0, 2.0]), **options)
    assert (result.verdict, find_rows(result, "exact")) == (Verdict.PASS, [])
    (note,) = [note for note in result.notes if note.startswith("exact")]
    assert note.endswith("gradient= does not depend on the inputs: right for recorded numbers, wrong for a cache")
    wrong = check(lambda x: np.sum(x**3), np.array([1.0, 2.0]), **options)
    assert wrong.verdict is Verdict.FAIL
