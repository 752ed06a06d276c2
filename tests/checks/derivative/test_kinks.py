"""Claims at ties and kinks, where wrong code may look right: what counts is the claim near them."""

import pytest
import torch
from elementwise import with_backward
from torch.nn.functional import max_pool1d

import gradcheck
from gradcheck import Reason, Verdict

TIED = {
    "sort": lambda x: (torch.sort(x).values * torch.arange(1.0, len(x) + 1, dtype=x.dtype)).sum(),
    "topk": lambda x: (torch.topk(x, 2).values * torch.tensor([1.0, 3.0], dtype=x.dtype)).sum(),
    "median": lambda x: torch.median(x),
    "amax": lambda x: torch.amax(x, 0),
    "cummax": lambda x: (torch.cummax(x, 0).values * torch.arange(1.0, len(x) + 1, dtype=x.dtype)).sum(),
    "max_pool": lambda x: max_pool1d(x[None], 3, 1).sum(),
}


def make_middle_tie(ways):
    """Make an input with that many equal entries, one smaller and one larger."""
    return torch.tensor([0.3, *[1.25] * ways, 2.0] if ways != 2 else [0.3, 1.25, 1.25, 2.0, -1.0], dtype=torch.float64)


def make_top_tie(ways):
    """Make an input whose largest entries, that many, are equal."""
    return torch.tensor([0.3, *[1.25] * ways, -1.0], dtype=torch.float64)


PAIR_ONLY = ("topk", "median")  # their larger ties are in test_claims_around.py


@pytest.mark.parametrize(
    ("mode", "make_point", "ways"),
    [("full", make_middle_tie, 2), ("probe", make_middle_tie, 5), ("full", make_top_tie, 5), ("probe", make_top_tie, 2)],
)
@pytest.mark.parametrize("name", TIED)
def test_pytorchs_conventions_pass_at_ties(name, ways, mode, make_point):
    result = gradcheck.check(TIED[name], make_point(2 if name in PAIR_ONLY else ways), mode=mode, name=name)
    assert result.verdict is Verdict.PASS, str(result)


def relu_with(gradient):
    class Relu(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x.clamp(min=0)

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return g * gradient(x)

    return Relu


@pytest.mark.parametrize("mode", ["full", "probe"])
@pytest.mark.parametrize("claim", [0.0, 0.5, 1.0])
def test_any_convention_at_the_kink_of_relu_passes_if_the_gradient_is_right_elsewhere(claim, mode):
    relu = relu_with(lambda x: torch.where(x == 0, claim, (x > 0).to(x.dtype)))
    x = torch.tensor([0.0, 1.0, -1.0, 0.0], dtype=torch.float64)
    result = gradcheck.check(relu, x, mode=mode, contracts=False)
    assert (result.verdict, result.reason) == (Verdict.PASS, Reason.KINK_SUBGRADIENT), str(result)


@pytest.mark.parametrize("size", [1, 4, 30])
@pytest.mark.parametrize("mode", ["full", "probe"])
def test_a_slope_that_is_wrong_near_the_kink_does_not_pass_at_it(mode, size):
    relu = relu_with(lambda x: torch.full_like(x, 0.3))
    result = gradcheck.check(relu, torch.zeros(size, dtype=torch.float64), mode=mode, contracts=False)
    assert (result.verdict, result.reason) == (Verdict.INCONCLUSIVE, Reason.BESIDE_KINK), str(result)


@pytest.mark.parametrize("mode", ["full", "probe"])
@pytest.mark.parametrize("name", ["abs", "relu", "hardtanh", "hinge"])
def test_pytorchs_conventions_pass_at_kinks(name, mode):
    functions = {
        "abs": torch.abs,
        "relu": torch.relu,
        "hardtanh": lambda x: torch.nn.functional.hardtanh(x, 0.0, 1.0),
        "hinge": lambda x: torch.relu(1 - x).sum(),
    }
    x = torch.tensor([0.0, 1.0, -1.0, 0.25], dtype=torch.float64)
    result = gradcheck.check(functions[name], x, mode=mode)
    assert (result.verdict, result.reason) == (Verdict.PASS, Reason.KINK_SUBGRADIENT), str(result)


class Larger(torch.autograd.Function):
    """The larger of two inputs, with a wrong backward: if they are equal, each gets all of the gradient."""

    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return torch.maximum(a, b)

    @staticmethod
    def backward(ctx, g):
        a, b = ctx.saved_tensors
        return g * (a >= b), g * (b >= a)


@pytest.mark.parametrize(
    ("at", "dtype"), [(1.0, torch.float64), (0.0, torch.float32), (0.3, torch.float32), (0.0, torch.float64)]
)
def test_a_tie_of_two_inputs_that_counts_twice_is_wrong(at, dtype):
    a, b, c = (torch.tensor(v, dtype=dtype) for v in ([at, 2.0], [at, 3.0], [0.0, 1.0]))
    assert gradcheck.check(Larger, a, b, contracts=False).reason is Reason.OUTSIDE_KINK
    comparisons = gradcheck.check(
        lambda a, b, c: (Larger.apply(a, b) + torch.relu(c)).sum(), a, b, c, name="target", contracts=False
    ).comparisons
    assert [comparison.verdict for comparison in comparisons] == [Verdict.FAIL, Verdict.FAIL, Verdict.PASS]


BETWEEN_INPUTS = {
    "maximum": torch.maximum,
    "where": lambda a, b: torch.where(a > b, a, b),
    "sort": lambda a, b: torch.cat([a, b]).sort().values,
    "distance": lambda a, b: (a - b).abs(),
    "difference": lambda a, b: (torch.relu(a - 1) - torch.relu(b - 1)).sum(),
    "median": lambda a, b, c: torch.stack([a, b, c]).median(0).values,
    "clamp": torch.clamp,
    "bounded": lambda a, b, c: torch.minimum(torch.maximum(a, b), c),
}


@pytest.mark.parametrize(
    ("name", "scale"), [*((name, 2.0) for name in BETWEEN_INPUTS), ("maximum", 50.0), ("sort", 50.0), ("bounded", 50.0)]
)
def test_pytorchs_conventions_are_not_called_wrong_at_ties_of_several_inputs(name, scale):
    count = 3 if name in ("median", "clamp", "bounded") else 2
    inputs = [torch.tensor([1.0, other], dtype=torch.float64) for other in (scale, 2.0, 2.0)[:count]]
    result = gradcheck.check(BETWEEN_INPUTS[name], *inputs, name=name)
    assert result.verdict is not Verdict.FAIL, str(result)


@pytest.mark.parametrize(
    ("at_kink", "verdict"), [(37.0, Verdict.FAIL), (-0.1, Verdict.FAIL), (0.5, Verdict.PASS), (1.0, Verdict.PASS)]
)
@pytest.mark.parametrize("mode", ["auto", "full"])
def test_a_claim_that_is_wrong_at_a_kink_in_its_own_dtype_only_fails(mode, at_kink, verdict):
    class Relu(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return torch.relu(x).sum()

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            slope = (x > 0).to(x.dtype)
            return g * (torch.where(x == 0, at_kink, slope) if x.dtype == torch.float32 else slope)

    result = gradcheck.check(Relu, torch.tensor([0.0, 1.0, 2.0, -1.0]), contracts=False, mode=mode)
    assert result.verdict is verdict, str(result)


CLAMPED = torch.tensor([-10.0, 2.0, 0.5, -10.0, 2.0], dtype=torch.float64)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_convex_and_concave_kinks_together(dtype):
    """The gradient of a clamp counts both ends as inside, which no common shift of all inputs does."""
    assert gradcheck.check(lambda x: x.clamp(-10, 2).exp().sum(), CLAMPED.to(dtype)).verdict is Verdict.PASS
    image = torch.tensor([0.0, 1.0, 0.5, 0.0, 1.0], dtype=dtype)
    weights = torch.arange(1, 6).to(dtype)
    attack = gradcheck.check(lambda d: ((image + d).clamp(0, 1) * weights).sum(), torch.zeros(5, dtype=dtype))
    assert attack.verdict is Verdict.PASS, str(attack)


def test_a_wrong_slope_at_both_ends_of_a_clamp_is_caught():
    clamp = with_backward(lambda x: x.clamp(-10, 2), lambda g, x: 1.1 * g * ((x >= -10) & (x <= 2)))
    assert gradcheck.check(clamp, CLAMPED, contracts=False).verdict is Verdict.FAIL


@pytest.mark.parametrize("align", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_spatial_transformer_at_its_start(dtype, align):
    image = torch.rand(1, 2, 4, 4, generator=torch.Generator().manual_seed(1)).to(dtype)
    grid = torch.nn.functional.affine_grid(torch.eye(2, 3, dtype=dtype)[None], (1, 1, 4, 4), align_corners=align)
    result = gradcheck.check(lambda x, g: torch.nn.functional.grid_sample(x, g, align_corners=align), image, grid)
    assert result.verdict is Verdict.PASS, str(result)


@pytest.mark.parametrize("name", ["sort", "median", "clamp", "bounded"])
def test_ties_of_several_inputs_are_excused_along_probes_too(name):
    count = 2 if name == "sort" else 3
    inputs = [torch.tensor([1.0, other], dtype=torch.float64) for other in (5.0, 2.0, 2.0)[:count]]
    result = gradcheck.check(BETWEEN_INPUTS[name], *inputs, mode="probe", name=name)
    assert result.verdict is not Verdict.FAIL, str(result)


QUANTISED = torch.randint(0, 7, (30,), generator=torch.Generator().manual_seed(1)).to(torch.float64) / 2


def test_a_median_that_gives_each_of_many_equal_entries_the_whole_gradient_is_wrong():
    median = with_backward(torch.median, lambda g, x: g * (x == x.median()).to(x.dtype))
    result = gradcheck.check(median, QUANTISED, mode="full")
    assert (result.verdict, result.reason) == (Verdict.FAIL, Reason.OUTSIDE_KINK), str(result)


def test_inputs_at_jumps_do_not_blur_the_slopes_of_another_input():
    a, b = (torch.tensor(v, dtype=torch.float64) for v in ([0.3, 0.7], [1.0, 1.0, 2.0, 0.0, 0.5, 1.5]))
    rows = gradcheck.check(lambda a, b: torch.sin(a) + torch.floor(b).sum(), a, b, mode="full", name="function").comparisons
    assert all(row.verdict is Verdict.PASS for row in rows if row.wrt == "a"), rows
