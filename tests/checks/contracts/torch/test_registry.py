"""Each contract catches what breaks it, and lets right layers pass."""

from pathlib import Path

import pytest
import torch
from elementwise import layer
from lawful import RIGHT, Averaged, Function
from unruly import VIOLATIONS, flattens_the_rows, other, returns_doubles, views_the_cotangent

import gradcheck
from gradcheck import Verdict, normal
from gradcheck.checks.contracts.torch import registry
from gradcheck.errors import UsageError
from gradcheck.glossary.contracts import CONTRACTS

KNOWN = {*registry.FIRST, *registry.REST}
TRIED = KNOWN - {"compile", "train-eval", "upstream"}  # tried only for modules, inside models, or on request


def broken_contracts(result):
    return {c.name for c in result.contracts if c.verdict is Verdict.FAIL}


def test_every_contract_has_a_file_of_its_name():
    files = {path.stem.replace("_", "-") for path in Path(registry.__file__).parent.glob("*.py")} - {"--init--", "registry"}
    assert files == KNOWN


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("name", "make"), VIOLATIONS, ids=[f"{name}-{i}" for i, (name, _) in enumerate(VIOLATIONS)])
def test_a_violation_is_caught(name, make, dtype):
    alone = {"contracts": False, "contract": (name,)} if dtype == "float32" else {}
    result = gradcheck.check(make(), normal(3, 4), normal(3, 4), dtype=dtype, **alone)
    assert result.verdict is Verdict.FAIL, str(result)
    assert name in broken_contracts(result), str(result)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", RIGHT)
def test_right_layers_pass_all_of_them(name, dtype):
    layer, inputs = RIGHT[name]
    for seed, mode in enumerate(("auto", "probe")):
        result = gradcheck.check(layer, *inputs, dtype=dtype, seed=seed, mode=mode)
        assert result.verdict is Verdict.PASS, str(result)
        assert {c.name for c in result.contracts} >= TRIED
        assert not broken_contracts(result)


@pytest.mark.parametrize("inherited", [False, True])
def test_a_gradient_in_another_dtype_is_remarked(inherited):
    function = other(backward=returns_doubles)
    function = type("Child", (function,), {}) if inherited else function
    result = gradcheck.check(function, normal(3, 4), normal(3, 4), dtype="float32")
    (contract,) = [c for c in result.contracts if c.verdict is not Verdict.PASS]
    assert (result.verdict, contract.name, contract.verdict) == (Verdict.PASS, "gradient-form", Verdict.INCONCLUSIVE)
    assert "float64 for input 0, which is in float32" in contract.message


def test_saved_tensors_that_are_read_twice_are_remarked():
    def backward(ctx, g):
        return g * 2 * ctx.saved_tensors[0] * torch.sin(ctx.saved_tensors[1]), g * ctx.saved_tensors[0] ** 2 * torch.cos(
            ctx.saved_tensors[1]
        )

    result = gradcheck.check(other(backward=backward), normal(3, 4), normal(3, 4))
    (contract,) = [c for c in result.contracts if c.verdict is not Verdict.PASS]
    assert (result.verdict, contract.name, contract.verdict) == (Verdict.PASS, "checkpoint", Verdict.INCONCLUSIVE)


def test_what_is_not_linear_in_the_cotangent_breaks_no_other_contract():
    class Clipped(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, g):
            return g.clamp(-1, 1)

    assert broken_contracts(gradcheck.check(Clipped, normal(3, 4), straight_through=True)) == {"linear-vjp"}


def test_many_outputs_are_not_all_tried_alone():
    calls = []

    def counted(g):
        calls.append(g)
        return g

    function = layer(counted)
    result = gradcheck.check(lambda x: [function.apply(x[i]) for i in range(100)], normal(100), framework="torch", mode="probe")
    assert result.verdict is Verdict.PASS
    assert len(calls) < 100 * 80


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    ("name", "remarked"),
    [("function", False), ("two outputs", False), ("softmax", False), ("normalised", True), ("once", False)],
)
def test_a_silently_wrong_second_derivative_is_remarked(name, remarked, dtype):
    layer, inputs = RIGHT[name]
    result = gradcheck.check(layer, *inputs, dtype=dtype)
    (contract,) = [c for c in result.contracts if c.name == "double-backward"]
    assert (result.verdict, contract.verdict is Verdict.INCONCLUSIVE) == (Verdict.PASS, remarked), contract.message
    assert ("cannot be differentiated twice" in contract.message) is (name == "once")


def test_a_batch_without_rows():
    wrong = gradcheck.check(Averaged, normal(5, 4), normal(4))
    assert broken_contracts(wrong) == {"empty-batch"}
    assert "the gradient of b is nan instead of 0" in str(wrong)
    refused = gradcheck.check(other(backward=flattens_the_rows), normal(3, 4), normal(3, 4))
    contract, _ = [c for c in refused.contracts if c.verdict is not Verdict.PASS]  # inputs without an axis have no len either
    assert (refused.verdict, contract.name, contract.verdict) == (Verdict.PASS, "empty-batch", Verdict.INCONCLUSIVE)


@pytest.mark.parametrize("index", [[1, 0, 3, 2], [1, 2, 3, 3], [[0, 1], [2, 3]]])
def test_no_kernel_is_led_out_of_bounds_by_indices_beside_smaller_inputs(index):
    asked = []

    class Chosen(torch.autograd.Function):
        """Some rows, where a kernel would read whatever is there."""

        @staticmethod
        def forward(ctx, x, index):
            asked.append((len(x), index.clone()))
            ctx.save_for_backward(index)
            ctx.size = x.shape
            return x[index.reshape(-1)]

        @staticmethod
        def backward(ctx, g):
            return torch.zeros(ctx.size, dtype=g.dtype).index_add(0, ctx.saved_tensors[0].reshape(-1), g.contiguous()), None

    assert gradcheck.check(Chosen, normal(4, 3), torch.tensor(index)).verdict is Verdict.PASS
    assert all((index < rows).all() for rows, index in asked)
    assert {rows for rows, _ in asked} >= ({4, 1} if index[0] == 1 and 0 in index else {4})


def test_every_contract_can_be_left_out_by_its_name():
    of_every_target = {"deterministic", "inputs-intact", "linear-vjp", "linear-jvp", "detached", "depends"}
    of_every_target |= {"symmetric-hessian", "double-adjoint", "own-derivative"}
    assert set(CONTRACTS) == KNOWN | of_every_target
    layer = other(backward=views_the_cotangent)
    assert broken_contracts(gradcheck.check(layer, normal(3, 4), normal(3, 4))) == {"cotangent-layout"}
    result = gradcheck.check(layer, normal(3, 4), normal(3, 4), no_contract=("cotangent-layout",))
    assert result.verdict is Verdict.PASS
    assert "cotangent-layout" not in {c.name for c in result.contracts}
    result = gradcheck.check(Function, normal(3, 4), normal(3, 4), no_contract=tuple(CONTRACTS))
    assert not result.contracts
    with pytest.raises(UsageError, match="did you mean cotangent-layout"):
        gradcheck.check(layer, normal(3, 4), normal(3, 4), no_contract=("cotangent-layouts",))


def test_an_exception_is_reported_with_the_user_s_own_lines():
    result = gradcheck.check(other(backward=views_the_cotangent), normal(3, 4), normal(3, 4))
    (contract,) = [c for c in result.contracts if c.verdict is Verdict.FAIL]
    assert "transposed in memory" in contract.message
    assert "unruly.py" in contract.message
    assert "g.view(-1)" in contract.message
    assert "plain_vjp.py" not in contract.message


def test_the_user_s_objects_and_state_are_unchanged():
    backward = vars(Function)["backward"]
    x = torch.linspace(-1, 1, 12, dtype=torch.float64, requires_grad=True)
    before = x.detach().clone()
    state = torch.get_rng_state()
    assert gradcheck.check(Function, x, x.detach() + 1).verdict is Verdict.PASS
    assert vars(Function)["backward"] is backward
    assert torch.equal(x, before)
    assert x.grad is None
    assert torch.equal(torch.get_rng_state(), state)


def test_pytorch_s_own_operators_are_not_tried():
    assert not TRIED & {c.name for c in gradcheck.check(torch.nn.Linear(3, 2), normal(4, 3)).contracts}


def test_a_budget_that_is_too_small_for_contracts_is_noted(monkeypatch):
    monkeypatch.setattr(registry, "DEFAULT_BUDGET", 0.0)
    result = gradcheck.check(Function, normal(1), normal(1))
    assert result.verdict is Verdict.PASS
    assert not TRIED & {c.name for c in result.contracts}
    assert any("contracts of Function not tried" in note for note in result.notes)


def test_a_contract_that_never_ends_is_stopped_and_the_report_says_so(monkeypatch):
    class Endless(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            y = x * x
            while torch.is_autocast_enabled("cpu"):  # as an adaptive solver that never reaches its tolerance
                y = y + torch.zeros_like(y)
            return y

        @staticmethod
        def backward(ctx, g):
            return 2 * g * ctx.saved_tensors[0]

    monkeypatch.setattr(registry, "MIN_SECONDS", 0.05)
    result = gradcheck.check(Endless, normal(3))
    assert result.verdict is Verdict.PASS
    assert "takes far longer than a plain call" in next(c.message for c in result.contracts if c.name == "autocast")
    assert {c.name for c in result.contracts} >= {"opcheck", "double-backward"}


def test_a_backward_that_never_ends_is_stopped_too(monkeypatch):
    class Endless(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            ctx.never_ends = torch.is_autocast_enabled("cpu")
            return x * x

        @staticmethod
        def backward(ctx, g):
            try:
                while ctx.never_ends:  # as the adjoint solver of a neural differential equation
                    g = g + torch.zeros_like(g)
            except BaseException as error:
                raise RuntimeError("the solver failed") from error
            return 2 * g * ctx.saved_tensors[0]

    monkeypatch.setattr(registry, "MIN_SECONDS", 0.05)
    contracts = {c.name: c for c in gradcheck.check(Endless, normal(3)).contracts}
    assert "takes far longer than a plain call" in contracts["autocast"].message


def test_contracts_after_the_budget_are_named(monkeypatch):
    clock = iter(range(0, 10**6, 3))
    monkeypatch.setattr(registry.time, "perf_counter", lambda: float(next(clock)))
    monkeypatch.setattr(registry, "PASSES", {})
    monkeypatch.setattr(registry, "DEFAULT_PASSES", 1e-3)
    result = gradcheck.check(Function, normal(1), normal(1), budget=30)
    assert any("contracts not tried after 30 s (--budget allows more): " in note for note in result.notes), result.notes


def test_parameters_of_pytorchs_own_modules_lie_as_these_made_them():
    # the kernel of batch norm reads its weight as if it were contiguous
    class Scaled(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.own = torch.nn.BatchNorm1d(4, dtype=torch.float64), layer().apply

        def forward(self, x):
            return self.norm(self.own(x))

    assert gradcheck.check(Scaled(), normal(6, 4)).verdict is Verdict.PASS


def test_a_backward_that_reads_pairs_of_numbers_as_complex_ones_is_no_breach():
    class Spectrum(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.size = x.shape[-1]
            return torch.view_as_real(torch.fft.fft(x))

        @staticmethod
        def backward(ctx, g):
            return torch.fft.ifft(torch.view_as_complex(g.contiguous())).real * ctx.size

    assert gradcheck.check(Spectrum, normal(8)).verdict is Verdict.PASS
