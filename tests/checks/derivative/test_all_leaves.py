"""All leaves at once along two directions: right gradients cost a dozen evaluations, wrong ones are caught all the same."""

import numpy as np
import pytest
import torch
from elementwise import FUNCTIONS, WRONG, changed, layer, with_forward_mode

import gradcheck
from gradcheck import Reason, Verdict, normal

CHEAP = 20  # evaluations


def numeric(result):
    return [c for c in result.comparisons if c.against == "numeric"]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("n", [2, 2000, 200_000])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_right_gradient_is_confirmed_by_a_few_evaluations(name, n, dtype):
    result = gradcheck.check(layer(name=name), normal(n), dtype=dtype, mode="probe")
    assert (result.verdict, result.evaluations <= CHEAP) == (Verdict.PASS, True), str(result)


@pytest.mark.parametrize(
    ("n", "dtype", "seed"), [(20, "float64", 0), (20, "float32", 1), (2000, "float64", 1), (20_000, "float32", 0)]
)
@pytest.mark.parametrize("name", WRONG)
def test_wrong_gradients_are_caught(name, n, dtype, seed):
    result = gradcheck.check(layer(WRONG[name]), normal(n), dtype=dtype, mode="probe", seed=seed, contracts=False)
    assert result.verdict is Verdict.FAIL, str(result)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("name", "n"), [("sin", 3000), ("exp", 500), ("cube", 2000)])
def test_an_entry_wrong_by_more_than_the_stated_resolution_does_not_pass(name, n, seed):
    x = torch.from_numpy(np.random.default_rng(seed).standard_normal(n))
    options = {"mode": "probe", "seed": seed, "contracts": False}
    stated = numeric(gradcheck.check(layer(name=name), x, **options))[0].resolution
    size_of = np.abs(FUNCTIONS[name][1](x).numpy())
    typical = int(np.argmin(np.where(size_of >= np.sqrt(np.mean(size_of**2)), size_of, np.inf)))
    for size in (max(4 * stated, 1e-7), 1e-4):
        result = gradcheck.check(layer(changed(typical, factor=1 + size), name), x, **options)
        assert result.verdict is Verdict.FAIL or numeric(result)[0].resolution > size / 2, str(result)


def chain(leaves):
    return torch.nn.Sequential(*(torch.nn.Linear(6, 6) for _ in range(leaves // 2))).double()


def test_the_cost_does_not_grow_with_the_leaves():
    x = torch.ones(3, 6, dtype=torch.float64)
    few, many = (gradcheck.check(chain(leaves), x, mode="probe") for leaves in (2, 20))
    assert (few.verdict, many.verdict) == (Verdict.PASS, Verdict.PASS)
    assert few.evaluations == many.evaluations <= CHEAP
    assert len({c.wrt for c in many.comparisons}) == 21


class Scaled(torch.nn.Module):
    """The sum of two terms, one with a far smaller gradient, to which `fault` is applied."""

    def __init__(self, small, fault=lambda g: g):
        super().__init__()
        self.large = torch.nn.Parameter(torch.linspace(1, 2, 40, dtype=torch.float64))
        self.small = torch.nn.Parameter(torch.linspace(1, 2, 40, dtype=torch.float64))
        self.factor, self.layer = small, layer(fault)

    def forward(self, x):
        return torch.sum(torch.sin(self.large * x)) + self.factor * torch.sum(self.layer.apply(self.small * x))


@pytest.mark.parametrize("small", [1.0, 1e-4, 1e-8])
@pytest.mark.parametrize("wrong", ["zero", "a constant factor", "one entry"])
def test_a_leaf_with_a_small_share_is_not_hidden_by_the_others(small, wrong):
    x = torch.linspace(0.1, 1, 40, dtype=torch.float64)
    right = gradcheck.check(Scaled(small), x, mode="probe", wrt=["params['large']", "params['small']"])
    assert right.verdict is Verdict.PASS, str(right)
    assert right.resolution < 1e-2
    leaves = ["params['large']", "params['small']"]
    result = gradcheck.check(Scaled(small, WRONG[wrong]), x, mode="probe", wrt=leaves, contracts=False)
    assert {c.wrt for c in result.comparisons if c.verdict is Verdict.FAIL} == {"params['small']"}


def test_a_leaf_with_a_small_share_costs_no_more():
    x = torch.linspace(0.1, 1, 40, dtype=torch.float64)
    result = gradcheck.check(Scaled(1e-5), x, mode="probe", wrt=["params['large']", "params['small']"])
    assert (result.verdict, result.evaluations <= CHEAP) == (Verdict.PASS, True), str(result)


def test_a_table_of_which_a_few_rows_are_used_costs_no_more_in_float32():
    class Words(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.words = torch.nn.Embedding(2000, 8)
            self.register_buffer("powers", torch.tensor([7.1, 7.10001]))

        def forward(self, i):
            large, other = torch.exp(self.powers)  # rounded in their own dtype
            return torch.sum(self.words(i)[:, :3]) + (large - other) * torch.sum(self.words(i)[:, 3])

    result = gradcheck.check(Words(), torch.arange(5), mode="probe")
    assert (result.verdict, result.evaluations <= CHEAP) == (Verdict.PASS, True), str(result)


def test_a_parameter_without_a_part_in_the_output_is_zero():
    class Unused(torch.nn.Linear):
        def __init__(self):
            super().__init__(8, 3)
            self.unused = torch.nn.Parameter(torch.ones(5))

    result = gradcheck.check(Unused().double(), torch.ones(2, 8, dtype=torch.float64), mode="probe")
    assert result.verdict is Verdict.PASS, str(result)
    assert "params['unused']" in {c.wrt for c in result.comparisons}


class Both(torch.nn.Module):
    """The sum of two layers."""

    def __init__(self, *layers):
        super().__init__()
        self.layers = torch.nn.ModuleList(layers)

    def forward(self, x):
        return sum(layer(x) for layer in self.layers)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_gradient_that_cancels_is_zero_and_costs_little(dtype):
    """The softmax of attention takes out what a bias adds to all keys: its gradient is rounding."""

    class Attention(torch.nn.Module):
        def __init__(self, wrong=False):
            super().__init__()
            torch.manual_seed(0)
            self.query, self.key = torch.nn.Linear(8, 8, dtype=dtype), torch.nn.Linear(8, 8, dtype=dtype)
            self.wrong = layer(changed(2, by=1e-3)).apply if wrong else None

        def forward(self, x):
            bias = self.wrong(self.key.bias) if self.wrong else self.key.bias
            scores = self.query(x) @ (x @ self.key.weight.T + bias).T
            return torch.logsumexp(torch.softmax(scores, -1) @ x, (0, 1))

    x = torch.linspace(-1, 1, 48, dtype=dtype).view(6, 8)
    right = gradcheck.check(Attention(), x, mode="probe")
    assert right.verdict is Verdict.PASS, str(right)
    assert {c.wrt for c in numeric(right) if c.reason is Reason.BOTH_ZERO} == {"params['key.bias']"}
    both = gradcheck.check(Both(Attention(), Attention()), x, mode="probe")
    assert len({c.wrt for c in numeric(both) if c.reason is Reason.BOTH_ZERO}) == 2
    assert right.evaluations == both.evaluations <= CHEAP
    wrong = gradcheck.check(Attention(wrong=True), x, mode="probe")
    assert {c.wrt for c in numeric(wrong) if c.verdict is Verdict.FAIL} == {"params['key.bias']"}, str(wrong)


class Gates(torch.nn.Module):
    """A wave, and a tiny share of parameters on which a wrong zero is claimed."""

    def __init__(self, frequency, share, entries=80):
        super().__init__()
        self.frequency, self.share, self.dropped = frequency, share, layer(lambda g: 0 * g, "identity").apply
        self.w = torch.nn.Parameter(torch.linspace(0.3, 1, 5, dtype=torch.float64))
        self.z = torch.nn.Parameter(torch.ones(entries, dtype=torch.float64))

    def forward(self, x):
        return torch.sin(self.frequency * self.w * x).sum() + self.share * self.dropped(self.z).sum()


@pytest.mark.parametrize(("frequency", "share"), [(1, 1e-13), (20, 1e-12), (40, 1e-11), (60, 1e-10)])
def test_a_gradient_lost_in_noise_is_not_called_zero_if_the_noise_is_a_fast_wave(frequency, share):
    for options in ({"wrt": "params['z']"}, {}):
        x = torch.ones(5, dtype=torch.float64)
        result = gradcheck.check(Gates(frequency, share), x, mode="probe", contracts=False, **options)
        assert result.verdict is Verdict.FAIL, str(result)


def test_factors_that_are_all_zero_cost_little():
    class Product(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.factors = torch.nn.ParameterList([torch.nn.Parameter(torch.zeros(70, dtype=torch.float64)) for _ in range(3)])

        def forward(self, x):
            return torch.sin(x).sum() + torch.stack(list(self.factors)).prod(0).sum()

    result = gradcheck.check(Product(), torch.linspace(0.1, 1, 6, dtype=torch.float64), mode="probe")
    assert {c.reason for c in numeric(result) if c.wrt != "x"} == {Reason.BOTH_ZERO}
    assert result.evaluations <= CHEAP


def test_an_unused_parameter_costs_little_in_half_precision():
    class Unused(torch.nn.Linear):
        def __init__(self):
            super().__init__(6, 4, dtype=torch.float16)
            self.unused = torch.nn.Parameter(torch.ones(100, dtype=torch.float16))

    result = gradcheck.check(Unused(), torch.linspace(0.1, 1, 18, dtype=torch.float16).view(3, 6), mode="probe")
    assert (result.verdict, result.evaluations <= CHEAP) == (Verdict.PASS, True), str(result)


@pytest.mark.parametrize("function", [lambda x: torch.sin(50 * x), lambda x: x[:50].prod(), lambda x: torch.sin(50 * x).sum()])
def test_a_fast_wave_is_not_mistaken_for_noise(function):
    for seed in range(3):
        result = gradcheck.check(function, normal(500), mode="probe", seed=seed, framework="torch")
        assert (result.verdict, result.evaluations <= CHEAP) == (Verdict.PASS, True), str(result)


def test_a_float32_claim_is_not_stated_sharper_than_it_is_as_its_twin():
    x = torch.linspace(-1, 1, 20_000)
    wide = layer(lambda g: g, "sin")
    narrow = layer(lambda g: g * (1 + 5e-5 * (g.dtype == torch.float32)), "sin")
    right, off = (numeric(gradcheck.check(f, x, mode="probe"))[0] for f in (wide, narrow))
    assert right.resolution < 1e-5 < 2e-5 < off.resolution < 1e-4


@pytest.mark.parametrize("n", [50, 5000])
def test_kinks_are_left_to_a_closer_look(n):
    x = torch.linspace(-1, 1, 2 * n + 1, dtype=torch.float64)  # one of them is exactly 0
    assert gradcheck.check(torch.relu, x, mode="probe").verdict is Verdict.PASS
    assert gradcheck.check(lambda x: torch.relu(x) * torch.where(x > 0, 1.0, 1.0), x, mode="probe").verdict is Verdict.PASS


def test_a_function_may_return_what_it_was_given_or_keep_what_it_computed():
    kept = {}

    def keeps(x):
        if kept.get("of") is not x:  # a cache by identity must not be fed one tensor with changing values
            kept.update(of=x, value=torch.sin(x))
        return kept["value"]

    x = torch.linspace(0.1, 1, 300, dtype=torch.float64)
    before = x.clone()
    for function in (lambda x: x, lambda x: x.view(30, 10).T, keeps):
        assert gradcheck.check(function, x, mode="probe").verdict is Verdict.PASS
    assert torch.equal(x, before)


def test_inputs_in_other_layouts_and_complex_ones():
    x = torch.linspace(0.1, 1, 600, dtype=torch.float64)
    z = torch.complex(x, x.flip(0))
    for value in (x.view(30, 20).T, x[::2], z, z.view(30, 20).T):
        result = gradcheck.check(lambda v: torch.sin(v) * v, value, mode="probe")
        assert result.verdict is Verdict.PASS, str(result)


def test_several_outputs_of_different_sizes():
    def outputs(x):
        return {"large": 1e6 * torch.sin(x), "small": 1e-6 * torch.cos(x), "sum": x.sum()}

    assert gradcheck.check(outputs, normal(300), mode="probe", framework="torch").verdict is Verdict.PASS
    half = layer(lambda g: 0.5 * g)
    for faulty in (
        lambda x: {"large": 1e6 * torch.sin(x), "small": 1e-6 * half.apply(x)},
        lambda x: {"large": 1e6 * half.apply(x), "small": 1e-6 * torch.sin(x)},
    ):
        result = gradcheck.check(faulty, normal(300), mode="probe", framework="torch", contracts=False)
        assert result.verdict is Verdict.FAIL


@pytest.mark.parametrize("n", [300, 100_000])
def test_a_hand_written_forward_mode_is_checked_too(n):
    result = gradcheck.check(with_forward_mode(lambda out: 1.0001 * out), normal(n), mode="probe", contracts=False)
    assert {c.method for c in result.comparisons if c.verdict is Verdict.FAIL} == {"forward"}, str(result)


def test_a_demanded_rtol_is_met():
    sharp = gradcheck.check(layer(), normal(300), mode="probe", rtol=1e-6)
    assert sharp.verdict is Verdict.PASS
    assert sharp.resolution <= 1e-6
    assert gradcheck.check(layer(changed(3, factor=1.00001)), normal(300), mode="probe", rtol=1e-6).verdict is Verdict.FAIL
    assert gradcheck.check(layer(changed(3, factor=1.0001)), normal(300), mode="probe", rtol=1e-2).verdict is Verdict.PASS


def test_the_same_seed_gives_the_same_numbers():
    first, again = (gradcheck.check(layer(), normal(300), mode="probe", seed=4).to_dict() for _ in range(2))
    assert first["comparisons"] == again["comparisons"]


class Weighed(torch.autograd.Function):
    """sum(c sin(x)) whose backward is wrong in float32 only, in an entry that is small compared with the others."""

    weights = torch.tensor([1.0, 2e-3, 1.0, 1.0])

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (Weighed.weights.to(x.dtype) * torch.sin(x)).sum()

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        gradient = g * Weighed.weights.to(x.dtype) * torch.cos(x)
        return gradient * torch.tensor([1.0, 1.03, 1.0, 1.0]) if x.dtype == torch.float32 else gradient


def test_an_entry_that_is_wrong_in_its_own_precision_only_is_caught_in_a_small_input():
    assert gradcheck.check(Weighed, torch.tensor([0.3, 0.5, -0.2, 0.8])).verdict is Verdict.FAIL


@pytest.mark.parametrize("seed", range(5))
def test_a_demanded_rtol_holds_for_small_entries_of_a_small_input(seed):
    weights = np.array([1.0, 3e-4, 1.0])
    result = gradcheck.check(
        lambda x: np.sum(weights * np.sin(100 * x)),
        np.array([0.3, 0.7, -0.4]),
        gradient=lambda x: 100 * weights * np.cos(100 * x) * np.array([1, 1 + 2e-5, 1]),
        rtol=1e-5,
        seed=seed,
    )
    assert result.verdict is Verdict.FAIL


@pytest.mark.parametrize("seed", range(3))
def test_a_row_with_a_small_share_in_the_outputs_is_caught(seed):
    def jacobian(x):
        return np.vstack([np.diag(1 / x), np.zeros((3, 3))])

    function = lambda x: np.concatenate([np.log(np.abs(x)), 1e3 + 1e-4 * x])  # noqa: E731
    assert gradcheck.check(function, np.array([0.02, 0.7, -0.4]), jacobian=jacobian, seed=seed).verdict is Verdict.FAIL


# --- small inputs of functions with several outputs

SMALL_ROW = np.array([1.0, 1e-6, 1e4])


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("n", [2, 12, 40])
def test_a_small_input_with_several_outputs_is_confirmed_by_a_few_evaluations(n, name, dtype):
    result = gradcheck.check(layer(name=name), normal(n), dtype=dtype)
    assert (result.verdict, result.evaluations <= CHEAP) == (Verdict.PASS, True), str(result)


def test_outputs_that_stand_still_and_zero_rows_cost_little():
    x = torch.tensor([-0.4, 0.7, -1.2, 0.3], dtype=torch.float64)
    for function in (torch.relu, lambda x: torch.stack([torch.sin(x[0]), x.new_tensor(3.0), x[1] * 0])):
        result = gradcheck.check(function, x)
        assert (result.verdict, result.evaluations <= CHEAP) == (Verdict.PASS, True), str(result)


@pytest.mark.parametrize("size", [1e-5, 1e-3, 1.0])
@pytest.mark.parametrize("place", [(0, 0), (1, 2), (2, 1)])
def test_a_single_wrong_entry_of_a_jacobian_is_caught_in_every_row(place, size):
    def function(x):
        return SMALL_ROW * np.sin(np.array([[1.0, 2, 3], [4, 5, 6], [7, 8, 10]]) @ x)

    def jacobian(x):
        matrix = np.array([[1.0, 2, 3], [4, 5, 6], [7, 8, 10]])
        right = SMALL_ROW[:, None] * np.cos(matrix @ x)[:, None] * matrix
        right[place] *= 1 + size
        return right

    for seed in range(3):
        result = gradcheck.check(function, np.array([0.3, -0.2, 0.5]), jacobian=jacobian, seed=seed)
        assert result.verdict is Verdict.FAIL, str(result)


@pytest.mark.parametrize("outputs", [4, 30])
def test_a_zero_that_is_claimed_wrongly_is_caught_with_few_and_many_outputs(outputs):
    weights = np.linspace(1, 2, outputs)

    def jacobian(x):
        right = np.outer(weights, [np.cos(x[0]), 1e-4])
        right[:, 1] = 0.0
        return right

    result = gradcheck.check(lambda x: weights * (np.sin(x[0]) + 1e-4 * x[1]), np.array([0.4, 1.3]), jacobian=jacobian)
    assert result.verdict is Verdict.FAIL, str(result)


class SumOfMany(torch.autograd.Function):
    """Two outputs, whose forward mode is wrong in float32 only, in one of many terms."""

    @staticmethod
    def forward(ctx, x):
        ctx.entries = len(x)
        return torch.stack([x.sum(), 2 * x[0]])

    @staticmethod
    def backward(ctx, g):
        gradient = g[0].repeat(ctx.entries)
        gradient[0] += 2 * g[1]
        return gradient

    @staticmethod
    def jvp(ctx, u):
        weights = torch.ones_like(u)
        weights[-1] += 1e-3 * (u.dtype == torch.float32)
        return torch.stack([(weights * u).sum(), 2 * u[0]])


@pytest.mark.parametrize("n", [10, 500])
def test_a_forward_mode_that_is_wrong_in_float32_only_is_caught_in_one_of_many_terms(n):
    x = torch.from_numpy(np.random.default_rng(0).standard_normal(n).astype(np.float32))
    result = gradcheck.check(SumOfMany, x, contracts=False)
    assert result.verdict is Verdict.FAIL, str(result)
    assert gradcheck.check(SumOfMany, x.double(), contracts=False).verdict is Verdict.PASS


def test_a_wrong_zero_beside_a_steep_neighbour_is_caught():
    result = gradcheck.check(
        lambda x: np.array([np.sin(100 * x[0]) + 1e-6 * x[1], x[0]]),
        np.array([0.7, -0.4]),
        jacobian=lambda x: np.array([[100 * np.cos(100 * x[0]), 0], [1.0, 0]]),
    )
    assert result.verdict is Verdict.FAIL, str(result)


@pytest.mark.parametrize(("outputs", "factor"), [(2, 1.001), (20, 1.7)])
def test_a_small_entry_that_is_wrong_is_caught_or_the_stated_resolution_says_that_it_is_not(outputs, factor):
    matrix = np.random.default_rng(0).standard_normal((outputs, 3)) * [1, 1, 1e-8]

    def jacobian(x):
        claimed = matrix * np.cos(x)
        claimed[1, 2] *= factor
        return claimed

    result = gradcheck.check(lambda x: matrix @ np.sin(x), np.array([0.5, -0.8, 0.3]), jacobian=jacobian)
    assert result.verdict is Verdict.FAIL, str(result)


def test_every_entry_that_is_not_zero_is_resolved_as_stated():
    weights = np.array([1.0, 1e-4, 1.0])
    result = gradcheck.check(
        lambda x: weights * np.sin(x), np.array([0.3, 0.7, -0.4]), jacobian=lambda x: np.diag(weights * np.cos(x))
    )
    assert result.comparisons[0].mode == "full"
    assert result.resolution < 1e-6


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_jvp_alone_is_confirmed_as_cheaply_and_every_entry_of_it_is_known(dtype):
    weights, x = np.arange(1.0, 13.0).reshape(4, 3).astype(dtype) / 10, np.array([0.5, -1.0, 2.0], dtype)

    def outputs(x):
        return np.sin(weights @ x)

    def jvp(factors, tangent, x):
        return np.cos(weights @ x) * ((weights * factors) @ tangent)

    right = gradcheck.check(outputs, x, jvp=lambda t, x: jvp(1.0, t, x), methods=("analytic", "numeric"))
    assert (right.verdict, right.evaluations <= CHEAP) == (Verdict.PASS, True), str(right)
    assert [row.mode for row in right.comparisons] == ["full"]
    for entry in np.ndindex(weights.shape):
        factors = np.ones(weights.shape, dtype)
        factors[entry] = 1.001
        wrong = gradcheck.check(outputs, x, jvp=lambda t, x, f=factors: jvp(f, t, x), methods=("analytic", "numeric"))
        assert wrong.verdict is Verdict.FAIL, str(wrong)
        assert wrong.comparisons[0].worst_entry == entry[1:]


def clamped(x):
    return np.clip(x, 0.0, 1.0)


OPTIMUM = np.linspace(0.3, 1.7, 60)


def similarity_loss(x):
    return np.mean(1 - 2 * x * OPTIMUM / (x * x + OPTIMUM * OPTIMUM))


ZERO = {
    "clamped outputs that leave the limit a little farther on": (clamped, 1 + np.linspace(0.02, 0.2, 12), np.zeros((12, 12))),
    "a loss of 0 at its optimum": (similarity_loss, OPTIMUM, np.zeros(60)),
}


@pytest.mark.parametrize("fault", [0.0, 1e-6])
@pytest.mark.parametrize("name", ZERO)
def test_a_zero_is_known_by_the_slopes_farther_away(name, fault):
    function, x, jacobian = ZERO[name]
    claim = jacobian.copy()
    claim.flat[5] = fault
    result = gradcheck.check(function, x, jacobian=lambda _: claim, methods=("analytic", "numeric"))
    assert result.verdict is (Verdict.FAIL if fault else Verdict.PASS), str(result)
    assert fault or result.evaluations < 60


@pytest.mark.parametrize("fault", [0.0, 1e-2])
def test_only_the_leaves_that_stay_open_are_looked_at_on_their_own(fault):
    """One leaf has an entry far smaller than the others, and its derivative counts all the same."""
    small = np.array([1.0, 1e-6])
    result = gradcheck.check(
        lambda w, x: np.sum(np.sin(w)) + np.sum(small * np.sin(x)),
        np.linspace(0.2, 1.2, 60),
        np.array([0.4, 0.9]),
        gradient=lambda w, x: (np.cos(w), small * np.cos(x) * np.array([1.0, 1 + fault])),
        methods=("analytic", "numeric"),
    )
    assert result.verdict is (Verdict.FAIL if fault else Verdict.PASS), str(result)
    assert [row.wrt for row in result.comparisons] == ["w", "x"]
    assert fault or result.evaluations < 120
