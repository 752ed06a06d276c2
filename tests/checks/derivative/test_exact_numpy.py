"""Proofs and refutations of derivatives of NumPy code that are written by hand."""

import math
import sys

import numpy as np
import pytest
from numpy import zeros
from scipy import special

import gradcheck
from gradcheck import Reason, Verdict


def draw(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


def check(fn, *args, **options):
    return gradcheck.check(fn, *args, exact=True, contracts=False, methods=("analytic", "numeric"), **options)


def reasons_of(result):
    return {row.wrt: row.reason for row in result.comparisons if row.against == "exact"}


def notes_of(result):
    return " ".join(note for note in result.notes if note.startswith("exact not available"))


def mse(x, w, b, y):
    return np.mean((x @ w + b - y) ** 2)


def mse_gradient(x, w, b, y):
    r = x @ w + b - y
    return {"w": 2 / len(y) * x.T @ r, "b": 2 / len(y) * np.sum(r)}


REGRESSION = (draw(5, 3), draw(3), np.array(0.3), draw(5))
LABELS = np.array([0, 2, 1, 1])


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def cross_entropy(z):
    return -np.mean(np.log(softmax(z)[np.arange(len(z)), LABELS]))


def cross_entropy_gradient(z, count=4):
    p = softmax(z)
    p[np.arange(len(z)), LABELS] -= 1
    return p / count


def norm(axis):
    def forward(x, gamma, beta):
        return gamma * (x - x.mean(axis, keepdims=True)) / np.sqrt(x.var(axis, keepdims=True) + 1e-5) + beta

    return forward


def norm_vjp(axis, ddof=0, mean_axis=None):
    along = axis if mean_axis is None else mean_axis

    def vjp(g, x, gamma, beta):
        deviation = np.sqrt(np.var(x, axis=axis, keepdims=True, ddof=ddof) + 1e-5)
        normal = (x - np.mean(x, axis=axis, keepdims=True)) / deviation
        d = g * gamma
        dx = (d - d.mean(along, keepdims=True) - normal * (d * normal).mean(along, keepdims=True)) / deviation
        return dx, (g * normal).sum(0), g.sum(axis=0)

    return vjp


def rnn(x, h, w, u):
    for t in range(x.shape[1]):
        h = np.tanh(x[:, t] @ w.T + h @ u.T)
    return h


def rnn_vjp(g, x, h, w, u):
    states = [h]
    for t in range(x.shape[1]):
        states.append(np.tanh(x[:, t] @ w.T + states[-1] @ u.T))
    dx, dw, du = np.empty(x.shape), np.zeros_like(w), np.zeros_like(u)
    for t in reversed(range(x.shape[1])):
        delta = g * (1 - states[t + 1] ** 2)
        dw += delta.T @ x[:, t]
        du += np.dot(delta.T, states[t])
        dx[:, t] = delta @ w
        g = delta @ u
    return dx, g, dw, du


def im2col(x, k):
    rows, columns = x.shape[0] - k + 1, x.shape[1] - k + 1
    patches = zeros((rows * columns, k * k))
    for i in range(rows):
        for j in range(columns):
            patches[i * columns + j] = x[i : i + k, j : j + k].reshape(-1)
    return patches


def conv(x, kernel):
    k = len(kernel)
    return (im2col(x, k) @ kernel.ravel()).reshape(x.shape[0] - k + 1, -1)


def conv_vjp(g, x, kernel):
    dx, k = np.zeros_like(x), len(kernel)
    for i, j in np.ndindex(*g.shape):
        dx[i : i + k, j : j + k] += g[i, j] * kernel
    return dx, (im2col(x, k).T @ g.flatten()).reshape(k, k)


def rms(x):
    return x / np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + 1e-6)


def rms_vjp(g, x, eps=1e-6):
    r = 1 / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + 1e-6)
    other = (np.mean(x * x, axis=-1, keepdims=True) + eps) ** -1.5
    return g * r - x * other * (g * x).mean(-1, keepdims=True)


ROOT = math.sqrt(2 / math.pi)


def gelu(x):
    return 0.5 * x * (1 + np.tanh(ROOT * (x + 0.044715 * x**3)))


def gelu_vjp(g, x, root=ROOT):
    t = np.tanh(root * (x + 0.044715 * x**3))
    return g * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * root * (1 + 0.134145 * x * x))


def double_tail(x):
    out = np.empty_like(x)
    np.multiply(x, x, out=out)
    tail = out[1:]
    tail *= 2
    return out


def lookup_vjp(g, table):
    d = np.zeros_like(table)
    np.add.at(d, LABELS, g)
    return d


def branches_vjp(g, x):
    order = np.argsort(x)
    d = np.zeros_like(x)
    d[order] = g
    return d + g * np.where(x > 0.1, 2 * np.abs(x), 0) + g * ((x > -0.5) & (x < 0.5))


def solve_vjp(g, a, b):
    d = np.linalg.solve(a.T, g[0])
    return -np.outer(d, np.linalg.solve(a, b)) + g[1] * np.linalg.det(a) * np.linalg.inv(a).T, d


class Layer:
    """A layer that keeps what its backward needs, and leaves gradients of parameters in attributes."""

    def __init__(self):
        self.W, self.b = draw(3, 2), draw(2)

    def forward(self, x):
        self.x, self.z = x, x @ self.W + self.b
        return np.maximum(self.z, 0)

    def backward(self, g):
        g = g * (self.z > 0)
        self.dW, self.db = self.x.T @ g, g.sum(axis=0)
        return g @ self.W.T


def write_flat(x):
    y = np.zeros_like(x.T)
    y.flat = x.T
    y.T.flat[0] = 0.0
    return y.T**2


LAYER, A = Layer(), draw(4, 4)
NORM = (draw(6, 4), draw(4), draw(4, seed=1))
RIGHT = {
    "linear regression": (mse, REGRESSION, {"gradient": mse_gradient, "wrt": ("w", "b")}),
    "softmax cross-entropy": (cross_entropy, (draw(4, 3),), {"gradient": cross_entropy_gradient}),
    "random constants": (lambda x: np.sum((A @ x) ** 2), (draw(4),), {"gradient": lambda x: 2 * A.T @ (A @ x)}),
    "quotients": (lambda x: np.sum(x**3) * (1 / 6), (draw(4),), {"gradient": lambda x: x**2 * 3 * (1 / 6)}),
    "layer norm": (norm(-1), NORM, {"vjp": norm_vjp(-1)}),
    "batch norm": (norm(0), NORM, {"vjp": norm_vjp(0)}),
    "rnn": (rnn, (draw(2, 3, 2), draw(2, 3), draw(3, 2), draw(3, 3)), {"vjp": rnn_vjp}),
    "convolution": (conv, (draw(4, 4), draw(2, 2)), {"vjp": conv_vjp}),
    "rms norm": (rms, (draw(3, 4),), {"vjp": rms_vjp}),
    "gelu": (gelu, (draw(4),), {"vjp": gelu_vjp}),
    "float32": (gelu, (draw(4).astype(np.float32),), {"vjp": gelu_vjp}),
    "views and out=": (double_tail, (draw(4),), {"vjp": lambda g, x: g * x * np.array([2, 4, 4, 4])}),
    "lookups": (lambda table: table[LABELS], (draw(3, 2),), {"vjp": lookup_vjp}),
    "branches": (
        lambda x: np.maximum(x, 0.1) * np.where(x > 0, x, 0) + np.sort(x) + np.clip(x, -0.5, 0.5),
        (np.array([0.3, -1.0, 0.7, -0.2]),),
        {"vjp": branches_vjp},
    ),
    "division where it is possible": (
        lambda x: np.divide(1, x, out=np.zeros_like(x), where=x != 0),
        (draw(3),),
        {"vjp": lambda g, x: -g / x**2},
    ),
    "einsum": (
        lambda a, b, c: np.einsum("ij,jk,kl->il", a, b, c),
        (draw(2, 3), draw(3, 2), draw(2, 2)),
        {
            "vjp": lambda g, a, b, c: (
                g @ (b @ c).T,
                np.einsum("ij,il,kl->jk", a, g, c),
                np.tensordot(a @ b, g, axes=((0,), (0,))),
            )
        },
    ),
    "linear equations": (lambda a, b: (np.linalg.solve(a, b), np.linalg.det(a)), (draw(3, 3), draw(3)), {"vjp": solve_vjp}),
    "jvp": (
        lambda x: np.sin(x) * np.cumsum(x),
        (draw(4),),
        {"jvp": lambda t, x: t * np.cos(x) * x.cumsum() + np.sin(x) * t.cumsum()},
    ),
    "jacobian": (
        lambda x: x[1:] * x[:-1],
        (draw(3),),
        {"jacobian": lambda x: np.array([[x[1], x[0], 0 * x[0]], [0 * x[0], x[2], x[1]]])},
    ),
    "float()": (
        lambda x: float(np.sum(x) * float(x[0])) * math.exp(x[1]),
        (draw(3),),
        {"gradient": lambda x: math.exp(x[1]) * (np.array([x[0] + x.sum(), x[0] * x.sum() + x[0], x[0]], dtype=float))},
    ),
    "flat": (write_flat, (draw(2, 3),), {"vjp": lambda g, x: 2 * g * x * np.array([[0, 1, 1], [1, 1, 1]])}),
    "a layer": (LAYER.forward, (draw(4, 3),), {"backward": LAYER.backward}),
}


@pytest.mark.parametrize("name", RIGHT)
def test_right_derivatives_are_proved(name):
    fn, args, derivative = RIGHT[name]
    result = check(fn, *args, **derivative)
    assert result.verdict is Verdict.PASS, str(result)
    leaves = {row.wrt for row in result.comparisons if row.against == "numeric"}
    assert reasons_of(result) == dict.fromkeys(leaves, Reason.IDENTITY_PROVED), result.notes


def overwriting_vjp(g, table):
    d = np.zeros_like(table)
    d[LABELS] += g
    return d


WRONG = {
    "missing 1/n": (cross_entropy, (draw(4, 3),), {"gradient": lambda z: cross_entropy_gradient(z, 1)}),
    "wrong axis": (norm(-1), (draw(4, 4), draw(4), draw(4, seed=1)), {"vjp": norm_vjp(-1, mean_axis=0)}),
    "ddof": (norm(-1), NORM, {"vjp": norm_vjp(-1, ddof=1)}),
    "transposed": (lambda x, w: x @ w, (draw(3, 3), draw(3, 3, seed=1)), {"vjp": lambda g, x, w: (g @ w, x.T @ g)}),
    "eps of one term": (rms, (draw(3, 4),), {"vjp": lambda g, x: rms_vjp(g, x, 2e-6)}),
    "repeated indices": (lambda table: table[LABELS], (draw(3, 2),), {"vjp": overwriting_vjp}),
    "jvp": (np.sin, (draw(4),), {"jvp": lambda t, x: -t * np.cos(x)}),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_derivatives_are_refuted(name):
    fn, args, derivative = WRONG[name]
    result = check(fn, *args, **derivative)
    failed = {row.wrt for row in result.comparisons if row.against == "numeric" and row.verdict is Verdict.FAIL}
    assert result.verdict is Verdict.FAIL
    assert {wrt for wrt, reason in reasons_of(result).items() if reason is Reason.IDENTITY_REFUTED} == failed


@pytest.mark.parametrize(
    ("size", "vjp"),
    [
        (1e-10, lambda g, x: gelu_vjp(g, x) * (1 + 1e-10)),
        (1e-11, lambda g, x: gelu_vjp(g, x, 0.7978845608)),
    ],
)
def test_a_small_difference_is_a_remark(size, vjp):
    result = check(gelu, draw(4), vjp=vjp)
    (row,) = [row for row in result.comparisons if row.against == "exact"]
    assert (result.verdict, row.reason) == (Verdict.PASS, Reason.SMALL_DIFFERENCE)
    assert size / 10 < row.rel_err < size * 10


BUFFER = np.zeros(3)


def write_elsewhere(x):
    d = BUFFER
    d[:] = 2 * x
    return d


UNDECIDED = {
    "int(x)": (lambda x: np.sum(x) * int(x[0]), lambda x: np.full(3, int(x[0])), "the code reads numbers of its arrays"),
    "an array from elsewhere": (lambda x: np.sum(x**2), write_elsewhere, "the code writes to an array that it had before"),
    "float32": (lambda x: np.sum(x**2), lambda x: (2 * x).astype(np.float32), "the code computes in float32 inside"),
    "no rule": (lambda x: np.sum(np.sinc(x) * x), lambda x: np.cos(np.pi * x), "no rule for numpy.sinc"),
    "a kink": (lambda x: np.sum(np.abs(x)), np.sign, "a branch depends on numbers that are equal"),
    "equal numbers": (lambda x: np.sum(np.where(x >= 1, x, x * x)), lambda x: np.ones(3), "the traced graph holds"),
}


@pytest.mark.parametrize("name", UNDECIDED)
def test_what_cannot_be_decided_is_a_note_with_the_reason(name):
    fn, gradient, reason = UNDECIDED[name]
    x = {"equal numbers": np.ones(3), "a kink": np.zeros(3)}.get(name, draw(3))
    result = check(fn, x, gradient=gradient)
    assert reasons_of(result) == {}
    assert reason in notes_of(result)


def test_numpy_is_as_before_afterwards():
    before = np, zeros
    check(lambda x: np.sum(x**2), draw(3), gradient=write_elsewhere)
    check(double_tail, draw(4), vjp=lambda g, x: 1 / 0)
    assert (np, zeros) == before
    assert np is sys.modules["numpy"]
    assert type(np.zeros(3)) is np.ndarray
    assert "float" not in globals()


def test_functions_of_scipy_are_traced():
    result = check(lambda x: special.logsumexp(x), draw(4), gradient=lambda x: special.softmax(x))
    assert reasons_of(result) == {"x": Reason.IDENTITY_PROVED}


def test_random_draws_are_replayed():
    def drop(x):
        mask = (np.random.rand(*x.shape) < 0.5) / 0.5
        return x * mask, mask

    result = check(drop, draw(4, 3), backward=lambda g, mask: g * mask)
    assert set(reasons_of(result).values()) == {Reason.IDENTITY_PROVED}


@pytest.mark.parametrize("fault", [0.0, 1e-5])
def test_a_gradient_that_computes_something_else_in_float32_is_not_proved(fault):
    x = draw(3).astype(np.float32)
    result = check(lambda x: np.sum(x**2), x, gradient=lambda x: 2 * x * (1 + fault * (x.dtype == np.float32)))
    assert (Reason.IDENTITY_PROVED in reasons_of(result).values()) == (fault == 0), str(result)
