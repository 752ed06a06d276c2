"""bfloat16 and float16: the error of a claim and of a value compared with that of a plain implementation in the same dtype."""

from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import gradcheck
from gradcheck import Reason, Verdict, normal
from gradcheck.backends.torch.twin_precision import RoundingMode, WideningMode
from gradcheck.cli import app
from gradcheck.compare import ulp_error
from gradcheck.targets import discover

CASES = discover.import_target(str(Path(__file__).parents[2] / "reports" / "low_precision" / "functions.py")).module
DTYPES = [torch.bfloat16, torch.float16]
PAIRS = {pair.name: pair for pair in CASES.make_pairs(4, 512)}
LONG = {torch.bfloat16: (2048, 4), torch.float16: (1024, 1)}  # numbers in a row, and in a block that is added up exactly


def accuracies(result):
    return {c.wrt: c for c in result.comparisons if c.ratio is not None}


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", list(PAIRS))
@pytest.mark.parametrize("dtype", DTYPES)
def test_right_functions_pass_plain_ones_and_those_that_compute_in_float32(dtype, name, seed):
    pair = PAIRS[name]
    for function, most in ((pair.plain, 3.0), (pair.make_by_hand(), 1.0)):
        result = gradcheck.check(function, *CASES.draw_inputs(pair, dtype, seed), contracts=False, seed=seed)
        assert result.verdict is Verdict.PASS, str(result)
        rows = accuracies(result)
        assert len(rows) == 1 + len(pair.shapes)
        assert all(c.ratio <= most and c.ratio == pytest.approx(c.error_ulp / c.plain_ulp) for c in rows.values())


@pytest.mark.parametrize(("name", "where", "dtype"), [
    ("softmax", "forward", torch.float16),
    ("softmax", "backward", torch.bfloat16),
    ("RMSNorm", "forward", torch.bfloat16),
    ("RMSNorm", "backward", torch.float16),
    ("cross-entropy", "backward", torch.bfloat16),
])  # fmt: skip
def test_sums_in_the_low_dtype_fail_with_the_ratio(name, where, dtype, monkeypatch):
    """The partial sums are kept in the low dtype."""
    columns, block = LONG[dtype]
    monkeypatch.setattr(CASES, "EXACT_BLOCK", block)
    pair = next(pair for pair in CASES.make_pairs(2, columns) if pair.name == name)
    low = CASES.make_low_precision_sum(dtype)
    wrong = pair.make_by_hand(low) if where == "forward" else pair.make_by_hand(CASES.sum_exactly, low)
    given = CASES.draw_inputs(pair, dtype, 0)
    if where == "backward":  # of each pair once
        assert gradcheck.check(pair.make_by_hand(), *given, contracts=False).verdict is Verdict.PASS
    result = gradcheck.check(wrong, *given, contracts=False)
    assert (result.verdict, result.reason) == (Verdict.FAIL, Reason.INACCURATE)
    off = [c for c in accuracies(result).values() if c.verdict is Verdict.FAIL]
    assert max(c.ratio for c in off) > 5
    assert f"a plain {str(dtype).removeprefix('torch.')} implementation by" in str(result)
    assert f"ratio {off[0].ratio:.2g}" in str(result)


@pytest.mark.parametrize("weight", [24.0, 1.5])
def test_the_cotangent_lets_no_sum_of_many_terms_of_one_sign_overflow(weight):
    x = (torch.rand(8192, generator=torch.Generator().manual_seed(0)) * 20 + 10).half()
    function = {24.0: lambda x, w: x * (w / 16), 1.5: lambda x, w: x * w}[weight]
    result = gradcheck.check(function, x, torch.tensor(weight).half(), contracts=False)
    assert result.verdict is Verdict.PASS, str(result)


def test_a_cast_that_is_forgotten_before_a_sum_of_squares_is_named_as_overflow():
    x = torch.tensor([[300.0, 100.0, -20.0], [1.0, 2.0, 3.0]], dtype=torch.float16)
    assert gradcheck.check(CASES.rms_norm(), x, torch.ones(3).half(), contracts=False).ok
    forgotten = CASES.rms_norm(CASES.sum_exactly, CASES.sum_exactly, CASES.skip_cast)
    result = gradcheck.check(forgotten, x, torch.ones(3).half(), contracts=False)
    assert (result.verdict, result.reason) == (Verdict.FAIL, Reason.UNDERFLOW)  # 1 / sqrt(inf) is 0

    def length(x):
        return (x * x).sum(-1).sqrt()

    result = gradcheck.check(length, x)
    assert (result.verdict, result.reason) == (Verdict.FAIL, Reason.OVERFLOW)
    assert gradcheck.check(lambda x: (x.float() ** 2).sum(-1).sqrt().to(x.dtype), x).ok


def scaled_inside(factor):
    class Scaled(torch.autograd.Function):
        """Its gradient is the cotangent, through numbers `factor` times that."""

        @staticmethod
        def forward(ctx, x):
            return x * 1

        @staticmethod
        def backward(ctx, g):
            return g * factor * factor / factor / factor

    return Scaled


@pytest.mark.parametrize(("factor", "reason"), [(1.0, Reason.AGREES), (1e-5, Reason.UNDERFLOW), (1e4, Reason.OVERFLOW)])
def test_what_leaves_the_range_inside_a_backward_is_named(factor, reason):
    x = torch.linspace(-1, 1, 20).half()
    result = gradcheck.check(scaled_inside(factor), x, contracts=False)
    assert result.reason is reason
    assert gradcheck.check(scaled_inside(factor), x.bfloat16(), contracts=False).ok  # which has the range of float32


@pytest.mark.parametrize(("factor", "message"), [(1e-9, "100 % of the derivative"), (1e9, "scale the loss")])
def test_a_gradient_that_no_float16_can_hold_is_no_fault_of_the_backward(factor, message):
    result = gradcheck.check(lambda x: (x.float() * factor).sum(), torch.linspace(-1, 1, 20).half(), framework="torch")
    assert (result.verdict, result.reason) == (Verdict.INCONCLUSIVE, Reason.OUT_OF_RANGE)
    assert message in str(result)
    explained = CliRunner().invoke(app, ["explain", "out-of-range"]).output
    assert "scale the loss" in explained


def test_a_gradient_that_underflows_in_part_is_noted():
    def loss(x):
        return torch.nn.functional.cross_entropy(8 * x, torch.arange(16))

    result = gradcheck.check(loss, normal(16, 400), framework="torch", dtype="float16")
    assert result.verdict is Verdict.PASS
    assert any("% of the derivative with respect to x is below the smallest float16 number" in note for note in result.notes)


@pytest.mark.parametrize("mode", ["full", "probe"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_wrong_formula_is_caught_as_sharply_as_in_float64(dtype, mode):
    class Off(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return torch.tanh(x.float()).to(x.dtype)

        @staticmethod
        def backward(ctx, g):
            return (1.001 * g.float() * (1 - torch.tanh(ctx.saved_tensors[0].float()) ** 2)).to(g.dtype)

    result = gradcheck.check(Off, normal(30), dtype=dtype, mode=mode, contracts=False)
    assert result.verdict is Verdict.FAIL
    assert [c.against for c in result.comparisons if c.verdict is Verdict.FAIL] == ["numeric"]  # no rounding shows it


def test_a_few_entries_that_are_grossly_off_in_the_low_dtype_alone_fail():
    class Special(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return 2 * x

        @staticmethod
        def backward(ctx, g):
            g = 2 * g
            return torch.where(torch.arange(g.numel()) == 7, -g, g) if g.dtype is torch.bfloat16 else g

    for size in (20, 5000):
        assert gradcheck.check(Special, normal(size), dtype="bfloat16", contracts=False).verdict is Verdict.FAIL


def test_an_input_may_be_declared_in_bfloat16():
    assert gradcheck.check(lambda x: 2 * x, normal(4, dtype="bfloat16"), framework="torch").verdict is Verdict.PASS


def test_a_module_is_made_and_drawn_in_bfloat16():
    result = gradcheck.check(torch.nn.LayerNorm, normal(4, 32), init={"normalized_shape": 32}, dtype="bfloat16")
    assert result.verdict is Verdict.PASS
    assert {c.dtype for c in accuracies(result).values()} == {"bfloat16"}


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_jax_in_half_precision(dtype):
    jax = pytest.importorskip("jax")
    result = gradcheck.check(jax.nn.softmax, normal(2, 30), dtype=dtype, framework="jax")
    assert result.verdict is Verdict.PASS
    assert set(accuracies(result)) == {"output", "x"}
    wrong = gradcheck.check(lambda x: x * jax.lax.stop_gradient(x), normal(30), dtype=dtype, framework="jax")
    assert wrong.verdict is Verdict.FAIL


def test_numpy_has_float16_and_no_bfloat16():
    def square(x):
        return x * x

    assert gradcheck.check(square, normal(9), dtype="float16", vjp=lambda g, x: 2 * g * x, framework="numpy").ok
    wrong = gradcheck.check(square, normal(9), dtype="float16", vjp=lambda g, x: 2.2 * g * x, framework="numpy")
    assert wrong.verdict is Verdict.FAIL
    with pytest.raises(gradcheck.UsageError, match="NumPy has no such dtype"):
        gradcheck.check(square, normal(9), dtype="bfloat16", framework="numpy")


def test_the_reference_says_how_far_a_plain_implementation_is_off():
    def kernel(x):
        """Runs in bfloat16 alone, as a kernel would."""
        assert x.dtype is torch.bfloat16
        return torch.softmax(x, -1)

    alone = gradcheck.check(kernel, normal(2, 8), dtype="bfloat16", framework="torch", contracts=False)
    assert not accuracies(alone)
    assert any("accuracy not checked" in note for note in alone.notes)
    result = gradcheck.check(
        kernel, normal(2, 32), dtype="bfloat16", framework="torch", contracts=False, reference=lambda x: torch.softmax(x, -1)
    )
    assert {c.against for c in accuracies(result).values()} == {"reference"}
    assert all(c.verdict is Verdict.PASS for c in accuracies(result).values())
    assert result.verdict is Verdict.PASS, str(result)  # although differences in bfloat16 are too coarse to decide

    def coarse(x):
        assert x.dtype is torch.bfloat16
        return torch.softmax(x, -1).to(torch.float8_e5m2).to(x.dtype)

    given = {"dtype": "bfloat16", "framework": "torch", "reference": lambda x: torch.softmax(x, -1), "contracts": False}
    result = gradcheck.check(coarse, normal(2, 8), **given)
    assert result.verdict is Verdict.FAIL
    assert accuracies(result)["output"].ratio > 4


def test_a_reference_of_another_value_is_seen_beneath_the_rounding():
    def standardised(x):
        return torch.nn.functional.layer_norm(x, x.shape[-1:])

    def in_numpy(ddof):
        return lambda x: (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, ddof=ddof, keepdims=True) + 1e-5)

    for dtype in ("bfloat16", "float16"):
        right, wrong = (
            gradcheck.check(standardised, normal(2, 64), dtype=dtype, framework="torch", reference=in_numpy(ddof))
            for ddof in (0, 1)  # off by less than 1 %
        )
        assert right.verdict is Verdict.PASS, str(right)
        assert {c.verdict for c in right.comparisons} == {Verdict.PASS}
        assert (wrong.verdict, wrong.reason) == (Verdict.FAIL, Reason.VALUE_DIFFERS), str(wrong)


def test_weights_stored_in_float8_are_constants():
    weight = torch.linspace(-2, 2, 12).reshape(4, 3).to(torch.float8_e4m3fn)

    def linear(x, w, scale):
        return x @ w.to(x.dtype) * scale

    for dtype in ("bfloat16", "float64"):
        result = gradcheck.check(linear, normal(5, 4), weight, 0.5, framework="torch", dtype=dtype)
        assert result.verdict is Verdict.PASS, str(result)
        assert {c.wrt for c in result.comparisons if c.order == 1} == {"x"}


# --- the dtype modes


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_constants_in_half_precision_are_widened_for_the_twin(dtype):
    weight, frozen = torch.linspace(-1, 1, 24).reshape(8, 3).to(dtype), torch.nn.Linear(8, 3).to(dtype)
    memory = torch.zeros(2, 3, dtype=dtype)

    class Product(torch.autograd.Function):
        factor = 1.0

        @staticmethod
        def forward(ctx, x):
            return x @ weight

        @staticmethod
        def backward(ctx, g):
            return Product.factor * g @ weight.mT

    def remembering(x):
        with torch.no_grad():
            memory.mul_(0.5).add_(x @ weight)
        return torch.softmax(x @ weight, -1)

    x = torch.randn(2, 8, generator=torch.Generator().manual_seed(0)).to(dtype)
    for function in (Product, frozen.forward, remembering, lambda x: torch.cat([x, weight.mT])):
        result = gradcheck.check(function, x, contracts=False, framework="torch")
        assert result.verdict is Verdict.PASS, str(result)
        assert all(c.against != "numeric" or c.resolution < 1e-4 for c in result.comparisons)
    Product.factor = 1.01
    assert gradcheck.check(Product, x, contracts=False).reason is Reason.DISAGREES
    assert weight.dtype is frozen.weight.dtype is dtype


def test_casts_of_a_twin_lead_to_float64():
    with WideningMode():
        x = torch.ones(3, dtype=torch.float64)
        assert x.float().dtype is x.to(torch.bfloat16).dtype is torch.zeros(2, dtype=torch.float16).dtype is torch.float64
        assert torch.arange(3).dtype is torch.int64


@pytest.mark.parametrize("low", DTYPES)
def test_a_plain_implementation_rounds_every_result_but_the_parts_of_a_sum(low):
    x = (torch.rand(100, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 1).to(low).double()
    with RoundingMode(low):
        product = x * x
        total = product[0]
        for k in range(1, 100):
            total = total + product[k]
        used = total * 1
    assert torch.equal(product, (x * x).to(low).double())
    assert used == product.sum().to(low).double()
    with RoundingMode(low, every_operation=True):
        stagnant = x[0] * 0
        for k in range(100):
            stagnant = stagnant + x[k]
    by_hand = torch.zeros((), dtype=low)
    for k in range(100):
        by_hand = by_hand + x[k].to(low)
    assert stagnant == by_hand


@pytest.mark.parametrize("function", [torch.sign, torch.round])
def test_zeros_without_memory_are_not_written_to(function):
    assert gradcheck.check(function, normal(4), framework="torch", dtype="bfloat16").verdict is not Verdict.FAIL


@pytest.mark.parametrize("dtype", DTYPES)
def test_rounding_is_that_of_the_dtype(dtype):
    x = torch.randn(1000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    name = str(dtype).removeprefix("torch.")
    assert np.array_equal(ulp_error.round_to_half(x.numpy(), ulp_error.HALF_EPS[name]), x.to(dtype).double().numpy())


def test_a_deep_module_may_be_off_as_a_plain_one_is():
    """Its errors add up: a tolerance for one layer would call it wrong."""
    name, make, shape = CASES.MODULES[-2]
    assert name == "12 residual blocks"
    torch.manual_seed(0)
    result = gradcheck.check(make().bfloat16(), normal(*shape), contracts=False)
    assert result.verdict is Verdict.PASS
    assert max(c.ratio for c in accuracies(result).values()) < 3
    assert max(c.error_ulp for c in accuracies(result).values()) > 1


def test_a_search_draws_in_bfloat16():
    found = gradcheck.fuzz(torch.nn.Linear(3, 2, dtype=torch.bfloat16), normal("n", 3), examples=3)
    assert found.verdict is Verdict.PASS


def test_tiny_outputs_do_not_overflow_the_cotangents_of_a_function_without_a_twin():
    matrix = torch.full((6, 30), 1e-3, dtype=torch.float16)

    def function(x):
        assert x.dtype == torch.float16
        return x @ matrix

    x = 1e-3 * torch.randn(2, 6, generator=torch.Generator().manual_seed(0))
    result = gradcheck.check(function, x.half())
    assert result.verdict is not Verdict.FAIL, str(result)
