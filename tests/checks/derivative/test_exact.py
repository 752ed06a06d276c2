"""Proofs and refutations from end to end, on PyTorch's functions and on autograd Functions with a backward by hand."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812

import gradcheck
from gradcheck import Reason, Verdict, normal


def draw(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed + len(shape)))


def check(fn, *args, **options):
    return gradcheck.check(fn, *args, exact=True, contracts=False, **options)


def exact_rows(result):
    return [row for row in result.comparisons if row.against == "exact"]


def assert_proved(result):
    assert result.verdict is Verdict.PASS, str(result)
    claims = {(row.wrt, row.method) for row in result.comparisons if row.against == "numeric"}
    assert {(row.wrt, row.method): row.reason for row in exact_rows(result)} == dict.fromkeys(claims, Reason.IDENTITY_PROVED)


def make_function(forward, backward):
    """Make an autograd Function with a backward by hand: (cotangent, inputs) -> gradients."""

    class Function(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *inputs):
            ctx.save_for_backward(*inputs)
            return forward(*inputs)

        @staticmethod
        def backward(ctx, g):
            return backward(g, *ctx.saved_tensors)

    return Function


ROOT = math.sqrt(2 / math.pi)
EYE = torch.eye(3, dtype=torch.float64)
CAUSAL = torch.ones(4, 4, dtype=torch.bool).tril()


def attend(q, k, v):
    scores = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).masked_fill(~CAUSAL, -math.inf)
    return torch.softmax(scores, -1) @ v


RIGHT = {
    "softmax": (lambda x: torch.softmax(x, -1), draw(3, 4)),
    "log_softmax": (lambda x: torch.log_softmax(x, 0), draw(3, 4)),
    "cross_entropy": (lambda x: F.cross_entropy(x, torch.tensor([0, 3, 1])), draw(3, 4)),
    "cross_entropy with weights": (
        lambda x: F.cross_entropy(x, torch.tensor([0, -100, 1]), torch.tensor([1.0, 2, 0.5, 3]).double(), label_smoothing=0.1),
        draw(3, 4),
    ),
    "silu": (F.silu, draw(3, 4)),
    "mish": (F.mish, draw(5)),
    "gelu": (F.gelu, draw(3, 4)),
    "gelu by tanh": (lambda x: F.gelu(x, approximate="tanh"), draw(3, 4)),
    "rms_norm": (lambda x, w: F.rms_norm(x, (4,), w, 1e-6), draw(3, 4), draw(4)),
    "layer_norm": (lambda x, w, b: F.layer_norm(x, (4,), w, b), draw(30, 4), draw(4), draw(4, seed=1)),
    "batch_norm": (torch.nn.BatchNorm1d(3).double(), draw(5, 3)),
    "group_norm": (torch.nn.GroupNorm(2, 4).double(), draw(2, 4, 3)),
    "linear and mse": (lambda x, w, b, t: F.mse_loss(F.linear(x, w, b), t), draw(5, 4), draw(3, 4), draw(3), draw(5, 3)),
    "conv": (torch.nn.Conv2d(2, 3, 3, padding=1, stride=2).double(), draw(2, 2, 5, 5)),
    "transposed conv": (torch.nn.ConvTranspose1d(2, 3, 3).double(), draw(2, 2, 4)),
    "attention": (attend, draw(2, 4, 3), draw(2, 4, 3, seed=1), draw(2, 4, 3, seed=2)),
    "flash attention": (F.scaled_dot_product_attention, *(draw(1, 2, 4, 8, seed=k) for k in range(3))),
    "relu network": (torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.ReLU(), torch.nn.Linear(5, 1)).double(), draw(3, 4)),
    "convolutions and batch norms": (
        torch.nn.Sequential(
            *(torch.nn.Conv1d(2, 12, 3), torch.nn.BatchNorm1d(12), torch.nn.ReLU()),
            *(torch.nn.Conv1d(12, 12, 3), torch.nn.BatchNorm1d(12), torch.nn.Flatten(), torch.nn.Linear(36, 2)),
        ).double(),
        draw(3, 2, 7),
    ),
    "max_pool": (lambda x: F.max_pool2d(x, 2), draw(1, 2, 4, 4)),
    "avg_pool": (lambda x: F.avg_pool2d(x, 3, 1, 1), draw(1, 1, 4, 4)),
    "bilinear interpolation": (lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), draw(1, 1, 2, 3)),
    "logsumexp": (lambda x: torch.logsumexp(x, 1), draw(3, 4)),
    "norm": (lambda x: torch.linalg.vector_norm(x, dim=1), draw(3, 4)),
    "variance": (lambda x: x.var(0) + x.std(0), draw(4, 3)),
    "products": (lambda x: torch.cumprod(x, 1) + x.prod(1, keepdim=True), draw(2, 4)),
    "powers": (lambda x, y: x.abs() ** 2.5 + x.abs() ** y + 3**x, draw(4), draw(4, seed=1)),
    "waves": (lambda x: torch.sin(x) * torch.cos(x) + torch.atan(x), draw(4)),
    "order": (lambda x: torch.sort(x).values.cumsum(0) + x.max() + x.clamp(-0.5, 0.5), draw(6)),
    "gather and scatter": (
        lambda x: torch.zeros(4).double().index_add(0, torch.tensor([0, 1, 0]), x[[0, 2, 2]]) * x.flip(0).roll(1),
        draw(4),
    ),
    "embedding": (torch.nn.Embedding(5, 3).double(), torch.tensor([1, 2, 1])),
    "in place": (lambda x: (x * 1).mul_(x).add_(x).sigmoid_() * (x * 2).unsqueeze_(0), draw(4)),
    "dropout": (lambda x: F.dropout(x, 0.3) * x, draw(8)),
    "equal maxima": (lambda x: torch.softmax(x * 0 + x.sum(), 0) + torch.softmax(torch.relu(x), 0), draw(6)),
    "linear equations": (torch.linalg.solve, draw(3, 3), draw(3, 2)),
    "determinants": (lambda a: (torch.linalg.det(a), torch.linalg.slogdet(a)[1], torch.linalg.inv(a)), draw(2, 3, 3)),
    "factors": (lambda a: (torch.linalg.lu(a)[1:], *torch.linalg.qr(a)), draw(3, 3)),
    "cholesky": (lambda a, b: torch.cholesky_solve(b, torch.linalg.cholesky(a @ a.T + EYE)), draw(3, 3), draw(3, 1)),
    "a condition in Python": (lambda x: x * x if bool(x.sum() < 100) else x, draw(4)),
    "entropy": (lambda x: (torch.softmax(x, 0) * torch.log(torch.softmax(x, 0))).sum(), draw(4)),
    "binary cross-entropy": (F.binary_cross_entropy, torch.sigmoid(draw(4)), torch.sigmoid(draw(4, seed=1))),
    "a distribution": (lambda m, s: torch.distributions.Normal(m, s.exp()).log_prob(torch.ones(4)), draw(4), draw(4, seed=1)),
    "float32": (lambda x: F.gelu(x) / 3, draw(4).float()),
}


@pytest.mark.parametrize("name", RIGHT)
def test_right_gradients_are_proved(name):
    fn, *args = RIGHT[name]
    assert_proved(check(fn, *args))


def rms(x, eps=1e-6):
    return torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)


def gelu(x):
    return 0.5 * x * (1 + torch.tanh(ROOT * (x + 0.044715 * x**3)))


def gelu_backward(g, x, slope=0.134145, root=ROOT):
    t = torch.tanh(root * (x + 0.044715 * x**3))
    return g * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * root * (1 + slope * x * x))


def softmax(x):
    return torch.softmax(x, -1)


def softmax_backward(g, x, axis=-1):
    y = softmax(x)
    return y * (g - (g * y).sum(axis, keepdim=True))


def erf_gelu_backward(g, x, factor=ROOT / 2):
    return g * (0.5 * (1 + torch.erf(x / math.sqrt(2))) + x * factor * torch.exp(-x * x / 2))


def mse(x, t):
    return ((x - t) ** 2).mean()


def linear_backward(g, x, w, *, transposed=False):
    return g @ w, (x.T @ g if transposed else g.T @ x)


def rms_backward(g, x, eps=1e-6):
    return g * rms(x) - x * rms(x, eps) ** 3 * (g * x).mean(-1, keepdim=True)


def entropy(x):
    return (torch.softmax(x, 0) * torch.log(torch.softmax(x, 0))).sum()


X = draw(3, 4)
BY_HAND = {
    "softmax": (softmax, softmax_backward, X),
    "gelu by tanh": (gelu, gelu_backward, X),
    "gelu": (F.gelu, erf_gelu_backward, X),
    "rms": (lambda x: x * rms(x), rms_backward, X),
    "entropy": (
        lambda x: (torch.softmax(x, 0) * torch.log_softmax(x, 0)).sum(),
        lambda g, x: g * (torch.softmax(x, 0) * (torch.log(torch.softmax(x, 0)) - entropy(x))),
        draw(4),
    ),
    "silu": (F.silu, lambda g, x: g * torch.sigmoid(x) * (1 + x * (1 - torch.sigmoid(x))), X),
    "mse": (mse, lambda g, x, t: (g * 2 * (x - t) / x.numel(), -g * 2 * (x - t) / x.numel()), X, draw(3, 4, seed=1)),
    "linear": (lambda x, w: x @ w.T, linear_backward, X, draw(3, 4, seed=1)),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_right_backwards_by_hand_are_proved(name):
    forward, backward, *args = BY_HAND[name]
    assert_proved(check(make_function(forward, backward).apply, *args))


WRONG = {
    "wrong axis": (softmax, lambda g, x: softmax_backward(g, x, 0), X),
    "sign": (softmax, lambda g, x: -softmax_backward(g, x), X),
    "missing 1/N": (mse, lambda g, x, t: (g * 2 * (x - t), -g * 2 * (x - t)), X, draw(3, 4, seed=1)),
    "transposed": (
        lambda x, w: x @ w.T,
        lambda g, x, w: linear_backward(g, x, w, transposed=True),
        draw(4, 4),
        draw(4, 4, seed=1),
    ),
    "eps of one term": (lambda x: x * rms(x), lambda g, x: rms_backward(g, x, 2e-6), X),
    "a digit of a constant": (gelu, lambda g, x: gelu_backward(g, x, slope=0.134146), X),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_backwards_are_refuted(name):
    forward, backward, *args = WRONG[name]
    result = check(make_function(forward, backward).apply, *args)
    assert result.verdict is Verdict.FAIL
    wrong = {row.wrt for row in result.comparisons if row.against == "numeric" and row.verdict is Verdict.FAIL}
    assert {row.wrt for row in exact_rows(result) if row.reason is Reason.IDENTITY_REFUTED} == wrong
    assert {row.wrt for row in exact_rows(result) if row.reason is Reason.IDENTITY_PROVED}.isdisjoint(wrong)


SLIGHTLY_WRONG = {
    "a relative fault of 1e-12": (softmax, lambda g, x: softmax_backward(g, x) * (1 + 1e-12), X, 1e-12),
    "a constant with ten digits": (gelu, lambda g, x: gelu_backward(g, x, root=0.7978845608), X, 1e-11),
    "a constant with ten digits beside erf": (F.gelu, lambda g, x: erf_gelu_backward(g, x, 0.3989422804), X, 1e-11),
    "a constant in single precision": (
        lambda x: 0.1 * x * x,
        lambda g, x: g * x * 0.2 * float(np.float32(0.1)) * 10,
        X,
        1.5e-8,
    ),
}


@pytest.mark.parametrize("name", SLIGHTLY_WRONG)
def test_a_difference_below_rtol_is_a_remark_that_says_how_large_it_is(name):
    forward, backward, x, size = SLIGHTLY_WRONG[name]
    result = check(make_function(forward, backward).apply, x)
    (row,) = exact_rows(result)
    assert (result.verdict, row.verdict, row.reason) == (Verdict.PASS, Verdict.PASS, Reason.SMALL_DIFFERENCE)
    assert size / 10 < row.rel_err < size * 10
    assert "within rtol" in str(result)


def test_a_small_difference_above_a_requested_rtol_is_refuted():
    result = check(make_function(softmax, lambda g, x: softmax_backward(g, x) * (1 + 1e-7)).apply, X, rtol=1e-8)
    (row,) = exact_rows(result)
    assert (result.verdict, row.reason) == (Verdict.FAIL, Reason.IDENTITY_REFUTED)


def test_only_the_leaf_that_is_wrong_is_refuted():
    function = make_function(lambda x, w: x @ w.T, lambda g, x, w: (g @ w, 2 * g.T @ x))
    rows = {row.wrt: row.reason for row in exact_rows(check(function.apply, X, draw(3, 4, seed=1)))}
    assert [rows[wrt] for wrt in sorted(rows)] == [Reason.IDENTITY_PROVED, Reason.IDENTITY_REFUTED]


def halve(x):
    return x * 0.5 if x.detach().sum().item() < 100 else x


@torch.library.custom_op("gradcheck_tests::opaque_square", mutates_args=())
def opaque(x: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(x.detach().numpy() ** 2)


opaque.register_autograd(lambda ctx, g: g * 2 * ctx.x, setup_context=lambda ctx, inputs, output: setattr(ctx, "x", inputs[0]))

UNDECIDED = {
    "values of tensors": (lambda x: x * torch.from_numpy(np.sin(x.detach().numpy())), "the traced graph"),
    "numbers of tensors": (halve, "the code reads numbers of its tensors"),
    "an opaque kernel": (opaque, "no rule for the operator"),
    "roots of unity": (lambda x: torch.fft.rfft(x).abs(), "no rule for the operator _fft_r2c of complex numbers"),
    "sparse tensors": (lambda x: torch.sparse.mm(torch.eye(4).double().to_sparse(), x[:, None]), "sparse tensors"),
    "an operator without a rule": (lambda x: torch.special.i0e(x), "no rule for the operator"),
    "equal numbers": (lambda x: torch.sort(torch.cat([x, x])).values * torch.arange(8.0), "equal numbers in sort"),
    "too many factors": (lambda x: x.repeat(100).prod(), "a product of 400 factors"),
}


@pytest.mark.parametrize("name", UNDECIDED)
def test_what_cannot_be_decided_is_a_note_with_the_reason(name):
    fn, reason = UNDECIDED[name]
    result = check(fn, draw(4), seed=1)
    assert exact_rows(result) == []
    assert any(note.startswith(f"exact not available: {reason}") for note in result.notes), result.notes


@pytest.mark.parametrize(("slope", "reason"), [(1.0, Reason.IDENTITY_PROVED), (1 + 1e-12, Reason.SMALL_DIFFERENCE)])
def test_a_jvp_by_hand_is_decided_too(slope, reason):
    class Square(torch.autograd.Function):
        @staticmethod
        def forward(x, w):
            return w * x * x

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(*inputs)
            ctx.save_for_forward(*inputs)

        @staticmethod
        def backward(ctx, g):
            x, w = ctx.saved_tensors
            return g * 2 * x * w, g * x * x

        @staticmethod
        def jvp(ctx, dx, dw):
            x, w = ctx.saved_tensors
            return 2 * w * x * dx + slope * x * x * dw

    rows = {(row.wrt, row.method): row for row in exact_rows(check(Square, draw(4), draw(4, seed=1)))}
    wrong = min(wrt for wrt, _ in rows)
    assert len(rows) == 4
    assert rows.pop((wrong, "forward")).reason is reason
    assert {row.reason for row in rows.values()} == {Reason.IDENTITY_PROVED}


def test_second_derivatives_are_decided_too():
    def backward(g, x):
        return g * 3 * x.detach() * x

    result = check(make_function(lambda x: x**3, backward).apply, draw(3), order=2)
    reasons = {row.order: row.reason for row in exact_rows(result)}
    assert reasons == {1: Reason.IDENTITY_PROVED, 2: Reason.IDENTITY_REFUTED}
    right = check(lambda x: torch.softmax(x, 0) * x, draw(3), order=2)
    assert {(row.order, row.reason) for row in exact_rows(right)} == {(k, Reason.IDENTITY_PROVED) for k in (1, 2)}


@pytest.mark.parametrize(
    "fn",
    [
        lambda x: torch.where(x >= 1, x * x, 2 * x - 1),
        lambda x: torch.where(x == 1, x, x * x),
        lambda x: torch.maximum(x, 2 - x),
        lambda x: x.clamp(min=1),
    ],
)
def test_a_branch_that_equal_numbers_choose_is_not_proved(fn):
    assert exact_rows(check(fn, torch.ones(3, dtype=torch.float64))) == []


WRITTEN = {
    "vjp": ({"vjp": softmax_backward}, softmax, X),
    "gradient": ({"gradient": lambda x: x**2 / 4}, lambda x: (x**3).mean(), X),
    "jacobian": ({"jacobian": lambda x: EYE * x.sum() + x[:, None]}, lambda x: x * x.sum(), draw(3)),
    "jvp": ({"jvp": lambda t, x: t * x.cos()}, torch.sin, X),
}


@pytest.mark.parametrize("form", WRITTEN)
def test_derivatives_that_are_given_beside_the_function_are_proved(form):
    derivative, fn, x = WRITTEN[form]
    result = check(fn, x, **derivative, methods=("analytic", "numeric"))
    assert_proved(result)


def test_a_wrong_gradient_beside_the_function_is_refuted_and_the_right_reverse_mode_proved():
    result = check(softmax, X, vjp=lambda g, x: softmax_backward(g, x, 0), methods=("analytic", "reverse", "numeric"))
    reasons = {row.method: row.reason for row in exact_rows(result)}
    assert reasons == {"analytic": Reason.IDENTITY_REFUTED, "reverse": Reason.IDENTITY_PROVED}


def test_what_pytorch_makes_of_numpy_code_is_not_traced():
    result = check(lambda x: np.sum(x**2), np.ones(3))
    assert exact_rows(result) == []
    (note,) = [note for note in result.notes if note.startswith("exact")]
    assert "is one that you give by gradient=" in note


def test_a_straight_through_estimator_is_not_refuted():
    function = make_function(torch.round, lambda g, x: g)
    result = check(function.apply, draw(4), expect="straight-through", because="quantised")
    assert exact_rows(result) == []
    assert result.verdict is Verdict.PASS


def test_a_tie_that_decides_the_gradient_is_not_proved():
    result = check(lambda x: torch.relu(x), torch.zeros(3, dtype=torch.float64))
    assert exact_rows(result) == []


def test_the_branch_is_named_and_the_random_points_are_counted():
    (note,) = [note for note in check(torch.relu, draw(4)).notes if note.startswith("exact: proved")]
    assert "at 3 random points" in note
    assert "(relu" in note


@pytest.mark.parametrize(
    ("fn", "visits"),
    [
        (torch.relu, "2 branches visited in 6 draws (relu, threshold_backward)"),
        (lambda x: x * (x > 0), "2 branches visited in 6 draws (comparisons)"),
        (lambda x: x**2 if bool(x.sum() < 100) else x, "1 branch visited in 6 draws (a condition in Python, comparisons)"),
        (lambda x: x * (9 * x).int(), "6 branches visited in 6 draws (a conversion to integers)"),
        (lambda x: F.dropout(x, 0.5) * x, ""),
    ],
)
def test_the_branches_that_several_draws_visit_are_counted(fn, visits):
    result = check(fn, normal(1), framework="torch", trials=6)
    (note,) = [note for note in result.notes if note.startswith("exact: proved")]
    assert ("on" in note.split()) == bool(visits)
    assert visits in note


def test_a_proof_settles_what_the_differences_cannot_decide():
    def drowned(x):
        return x + (x * 1e12).sum() - (x * 1e12).sum()

    methods = ("reverse", "numeric")
    plain = gradcheck.check(drowned, draw(4), contracts=False, methods=methods, exact=False)
    proved = check(drowned, draw(4), methods=methods)
    assert plain.verdict is Verdict.INCONCLUSIVE
    assert_proved(proved)


def test_nothing_of_the_users_is_changed():
    x, layer = draw(5, 3), torch.nn.BatchNorm1d(3).double()
    before, state = x.clone(), {name: t.clone() for name, t in layer.state_dict().items()}
    generator = torch.get_rng_state()
    check(layer, x)
    assert torch.equal(x, before)
    assert all(torch.equal(t, state[name]) for name, t in layer.state_dict().items())
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(p.grad is None for p in layer.parameters())


def test_the_result_is_the_same_in_every_run():
    results = [check(softmax, X) for _ in range(2)]
    assert [row for row in results[0].comparisons if row.against == "exact"] == exact_rows(results[1])


def test_without_the_option_nothing_is_decided():
    for options in ({}, {"exact": False}):
        assert exact_rows(gradcheck.check(softmax, X, contracts=False, **options)) == []


POINT = torch.tensor([0.3, -1.2, 2.1], dtype=torch.float64)
COPY = POINT.clone()
# Wrong by little, or wrong only elsewhere: none may be called a proof.
NEVER_PROVED = {
    "a small part is read through NumPy": (
        lambda x: x**2 + 1e-8 * torch.from_numpy(x.detach().numpy() ** 3),
        lambda g, x: 2 * x * g,
    ),
    "a constant of float32, diluted": (
        lambda x: x + 1e-3 * x**2 / 2,
        lambda g, x: g * (1 + 1e-3 * x * torch.tensor(1.0000002)),
    ),
    "fourteen digits": (lambda x: x * 0.00020000000000005, lambda g, x: g * 0.0002),
    "a copy of the inputs": (lambda x: x**2, lambda g, x: 2 * COPY * g + 0 * x),
}


@pytest.mark.parametrize("name", NEVER_PROVED)
def test_what_is_wrong_by_little_or_elsewhere_is_not_proved(name):
    result = check(make_function(*NEVER_PROVED[name]).apply, POINT)
    assert Reason.IDENTITY_PROVED not in {row.reason for row in exact_rows(result)}
    assert (result.verdict is Verdict.FAIL) == (name == "a copy of the inputs"), str(result)
