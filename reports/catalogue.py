"""Functions and layers whose gradients the studies spoil: dense and sparse Jacobians, from one input number to a million."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

if TYPE_CHECKING:
    from faults import Function

Shapes = tuple[tuple[int, ...], ...]
SEED = 0


@dataclass(frozen=True)
class Subject:
    """A function, and the inputs it takes.

    Attributes:
        shapes: of its leaves, for about so many input numbers.
        sizes: the small and the large one studied.
        sparse: whether most of its Jacobian is zero, at large sizes.
        positive: whether its inputs are.
    """

    name: str
    function: Function
    shapes: Callable[[int], Shapes]
    sizes: tuple[int, int]
    sparse: bool = False
    positive: bool = False

    def inputs(self, size: int, dtype: torch.dtype) -> list[Tensor]:
        """Draw its leaves: standard normal, or log-normal where they must be positive."""
        rng = np.random.default_rng([SEED, zlib.crc32(self.name.encode()), size])
        drawn = [rng.standard_normal(shape) for shape in self.shapes(size)]
        return [torch.from_numpy(np.exp(x) if self.positive else x).to(dtype) for x in drawn]


def vector(n: int) -> Shapes:
    """One vector."""
    return ((n,),)


def pair(n: int) -> Shapes:
    """Two vectors."""
    return ((max(n // 2, 1),),) * 2


def rows(width: int, *more: tuple[int, ...]) -> Callable[[int], Shapes]:
    """A matrix of so many columns, and further leaves."""
    return lambda n: ((max((n - sum(map(int, map(np.prod, more)))) // width, 2), width), *more)


def square(n: int) -> Shapes:
    """A square matrix."""
    return ((max(int(n**0.5), 1),) * 2,)


def square_and_vector(n: int) -> Shapes:
    """A square matrix and a vector that it acts on."""
    k = max(int(n**0.5), 1)
    return ((k, k), (k,))


def squares(n: int) -> Shapes:
    """Two square matrices."""
    return square(n // 2) * 2


def dense_layer(n: int) -> Shapes:
    """A batch of four, weights and biases of a layer from k to k numbers."""
    k = max(int(n**0.5) - 2, 2)
    return ((4, k), (k, k), (k,))


def signal(n: int) -> Shapes:
    """Two channels of a signal, and three filters of width three."""
    return ((1, 2, max((n - 18) // 2, 5)), (3, 2, 3))


def image(n: int) -> Shapes:
    """Two channels of a square image, and two 3×3 filters."""
    k = max(int(((n - 36) / 2) ** 0.5) if n > 36 else 0, 4)
    return ((1, 2, k, k), (2, 2, 3, 3))


def picture(n: int) -> Shapes:
    """Two channels of a square image of even side."""
    return ((1, 2, *(2 * max(int((n / 8) ** 0.5), 2),) * 2),)


def channels(n: int) -> Shapes:
    """A batch of three with four channels of a signal, and a gain and a bias per channel."""
    return ((3, 4, max((n - 8) // 12, 2)), (4,), (4,))


def heads(n: int) -> Shapes:
    """Queries, keys and values of width four."""
    return ((2, max(n // 24, 2), 4),) * 3


def cell(gates: int) -> Callable[[int], Shapes]:
    """Input, state, and the weights and biases of a recurrent cell with so many gates."""

    def shapes(n: int) -> Shapes:
        k = max(int((n / (2 * gates)) ** 0.5) - 1, 2)
        return ((2, k), (2, k), (gates * k, k), (gates * k, k), (gates * k,), (gates * k,))

    return shapes


def _pattern(n: int, below: int, seed: int = 1) -> Tensor:
    """Fixed random indices."""
    return torch.from_numpy(np.random.default_rng([seed, n, below]).integers(0, below, n))


def _order(n: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng([2, n]).permutation(n))


def _rosenbrock(x: Tensor) -> Tensor:
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def _gaussian(x: Tensor, mean: Tensor, spread: Tensor) -> Tensor:
    return (0.5 * ((x - mean) / F.softplus(spread)) ** 2 + F.softplus(spread).log()).sum(0)


def _spd(a: Tensor) -> Tensor:
    return a @ a.mT + torch.eye(a.shape[-1], dtype=a.dtype)


def _solve(a: Tensor, b: Tensor) -> Tensor:
    found: Tensor = torch.linalg.solve(_spd(a), b)
    return found


def _mlp(x: Tensor, w: Tensor, b: Tensor, out: Tensor) -> Tensor:
    return torch.tanh(x @ w.mT + b) @ out


def _mlp_shapes(n: int) -> Shapes:
    k = max(int(n**0.5) - 3, 2)
    return ((4, k), (k, k), (k,), (k, 2))


def _lstm(x: Tensor, h: Tensor, wx: Tensor, wh: Tensor, bx: Tensor, bh: Tensor) -> Tensor:
    return torch.cat(torch.lstm_cell(x, (h, h.tanh()), wx, wh, bx, bh), -1)


def _logistic(w: Tensor, x: Tensor) -> Tensor:
    z = x @ w
    return (F.softplus(z) - z * (torch.arange(len(z)) % 2)).mean()


def _segments(x: Tensor) -> Tensor:
    n = x.shape[0]
    return torch.zeros(max(n // 3, 1), dtype=x.dtype).index_add(0, _pattern(n, max(n // 3, 1)), x)


def _band(x: Tensor, a: Tensor) -> Tensor:
    return a * x + F.pad(x[1:], (0, 1)) * a.sin() - 2 * F.pad(x[:-1], (1, 0))


def _polynomial(x: Tensor) -> Tensor:
    return ((0.3 * x - 1.2) * x + 0.5) * x + 2.0


def _nll(x: Tensor) -> Tensor:
    return F.cross_entropy(x, _pattern(len(x), x.shape[1]))


def _embedding(table: Tensor) -> Tensor:
    return F.embedding(_pattern(2 * len(table) // 3 + 1, len(table)), table)


def _interpolate(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def _quadratic(a: Tensor, x: Tensor) -> Tensor:
    return x @ a @ x


ELEMENTWISE = [
    Subject("exp", torch.exp, vector, (1, 6_000), sparse=True),
    Subject("tanh", torch.tanh, vector, (7, 100_000), sparse=True),
    Subject("sin", torch.sin, vector, (2, 1_100), sparse=True),
    Subject("sigmoid", torch.sigmoid, vector, (12, 3_000), sparse=True),
    Subject("softplus", F.softplus, vector, (20, 5_000), sparse=True),
    Subject("gelu", F.gelu, vector, (9, 2_500), sparse=True),
    Subject("silu", F.silu, vector, (5, 2_000), sparse=True),
    Subject("relu", F.relu, vector, (16, 20_000), sparse=True),
    Subject("leaky_relu", F.leaky_relu, vector, (11, 4_000), sparse=True),
    Subject("elu", F.elu, vector, (24, 300), sparse=True),
    Subject("erf", torch.erf, vector, (3, 6_000), sparse=True),
    Subject("atan", torch.atan, vector, (30, 1_200), sparse=True),
    Subject("log", torch.log, vector, (8, 4_000), sparse=True, positive=True),
    Subject("sqrt", torch.sqrt, vector, (1, 2_000), sparse=True, positive=True),
    Subject("reciprocal", torch.reciprocal, vector, (6, 1_500), sparse=True, positive=True),
    Subject("polynomial", _polynomial, vector, (4, 8_000), sparse=True),
    Subject("product", torch.mul, pair, (10, 10_000), sparse=True),
    Subject("quotient", torch.div, pair, (2, 4_000), sparse=True, positive=True),
    Subject("power", torch.pow, pair, (16, 1_300), sparse=True, positive=True),
    Subject("hypot", torch.hypot, pair, (40, 3_000), sparse=True),
]

REDUCTIONS = [
    Subject("sum of squares", lambda x: x.square().sum(), vector, (25, 200_000)),
    Subject("small mean", lambda x: (1e-3 * x).mean(), vector, (50, 1_000_000)),
    Subject("norm", torch.linalg.vector_norm, vector, (10, 100_000)),
    Subject("3-norm", lambda x: torch.linalg.vector_norm(x, 3), vector, (15, 5_000)),
    Subject("logsumexp", lambda x: x.logsumexp(-1), rows(5), (20, 10_000)),
    Subject("variance", lambda x: x.var(), vector, (12, 20_000)),
    Subject("standard deviation", lambda x: x.std(0), rows(4), (24, 2_000)),
    Subject("largest", lambda x: x.amax(-1), rows(10), (60, 10_000), sparse=True),
    Subject("softmax", lambda x: x.softmax(-1), rows(6), (36, 3_000)),
    Subject("log-softmax", lambda x: x.log_softmax(-1), rows(8), (16, 5_000)),
    Subject("cumulative sum", lambda x: x.cumsum(0), vector, (14, 2_000)),
    Subject("cumulative product", lambda x: x.cumprod(0), vector, (6, 30), positive=True),
    Subject("product of all", lambda x: x.prod(), vector, (5, 40), positive=True),
    Subject("mean of rows", lambda x: x.mean(0), rows(7), (35, 20_000)),
    Subject("weighted mean", lambda x, w: (x * w).sum() / w.sum(), pair, (18, 30_000), positive=True),
    Subject("rosenbrock", _rosenbrock, vector, (8, 10_000)),
]

LOSSES = [
    Subject("mean squared error", F.mse_loss, pair, (20, 20_000)),
    Subject("cross entropy", _nll, rows(5), (30, 5_000)),
    Subject("binary cross entropy", lambda x, y: F.binary_cross_entropy_with_logits(x, y.sigmoid()), pair, (16, 10_000)),
    Subject("Huber loss", F.huber_loss, pair, (22, 3_000)),
    Subject(
        "Kullback-Leibler", lambda x, y: F.kl_div(x.log_softmax(-1), y.softmax(-1)), lambda n: rows(5)(n // 2) * 2, (40, 2_000)
    ),
    Subject("cosine similarity", F.cosine_similarity, lambda n: rows(8)(n // 2) * 2, (64, 4_000)),
    Subject("Gaussian likelihood", _gaussian, rows(4, (4,), (4,)), (32, 10_000)),
    Subject("logistic regression", _logistic, lambda n: ((5,), (max((n - 5) // 5, 2), 5)), (45, 5_000)),
]

ALGEBRA = [
    Subject("matrix product", torch.matmul, squares, (32, 5_000)),
    Subject("matrix times vector", torch.mv, square_and_vector, (30, 10_100)),
    Subject("quadratic form", _quadratic, square_and_vector, (20, 10_000)),
    Subject("outer product", torch.outer, pair, (12, 150)),
    Subject("batched product", torch.bmm, lambda n: ((2, max(n // 16, 1), 4), (2, 4, max(n // 16, 1))), (48, 1_600)),
    Subject("einsum", lambda a, b: torch.einsum("ij,jk->ki", a, b), squares, (18, 2_000)),
    Subject("linear solve", _solve, square_and_vector, (20, 1_056)),
    Subject("inverse", lambda a: torch.linalg.inv(_spd(a)), square, (16, 1_100)),
    Subject("log-determinant", lambda a: torch.logdet(_spd(a)), square, (25, 1_600)),
    Subject("distances", torch.cdist, lambda n: rows(3)(n // 2) * 2, (30, 240)),
    Subject("bilinear form", F.bilinear, lambda n: ((3, 4), (3, 5), (max(n // 20, 1), 4, 5)), (67, 2_000)),
]

LAYERS = [
    Subject("linear layer", F.linear, dense_layer, (38, 5_000)),
    Subject("two-layer network", _mlp, _mlp_shapes, (40, 3_000)),
    Subject("1-d convolution", lambda x, w: F.conv1d(x, w, padding=1), signal, (36, 6_000), sparse=True),
    Subject("2-d convolution", F.conv2d, image, (68, 3_000), sparse=True),
    Subject("transposed convolution", lambda x, w: F.conv_transpose2d(x, w, stride=2), image, (68, 1_200), sparse=True),
    Subject("layer norm", lambda x, g, b: F.layer_norm(x, (6,), g, b), rows(6, (6,), (6,)), (42, 5_000), sparse=True),
    Subject("batch norm", lambda x, g, b: F.batch_norm(x, None, None, g, b, training=True), channels, (44, 3_000)),
    Subject("group norm", lambda x, g, b: F.group_norm(x, 2, g, b), channels, (56, 2_000)),
    Subject("root-mean-square norm", lambda x, g: F.rms_norm(x, (5,), g), rows(5, (5,)), (30, 3_000), sparse=True),
    Subject("attention", F.scaled_dot_product_attention, heads, (72, 2_400)),
    Subject("recurrent cell", torch.rnn_tanh_cell, cell(1), (32, 1_500)),
    Subject("LSTM cell", _lstm, cell(4), (56, 3_000)),
    Subject("GRU cell", torch.gru_cell, cell(3), (44, 3_000)),
    Subject("average pooling", lambda x: F.avg_pool2d(x, 2), picture, (32, 5_000), sparse=True),
    Subject("max pooling", lambda x: F.max_pool2d(x, 2), picture, (32, 8_000), sparse=True),
    Subject("gated linear unit", F.glu, rows(6), (24, 4_000), sparse=True),
    Subject("interpolation", _interpolate, picture, (32, 1_200), sparse=True),
]

INDEXING = [
    Subject("embedding", _embedding, rows(4), (40, 40_000), sparse=True),
    Subject("gather", lambda x: x[_pattern(2 * len(x), len(x))] * 1.5, vector, (9, 5_000), sparse=True),
    Subject("segment sum", _segments, vector, (21, 30_000), sparse=True),
    Subject("permutation", lambda x: x[_order(len(x))].sin(), vector, (13, 9_000), sparse=True),
    Subject("finite difference", lambda x: x[1:] - x[:-1], vector, (10, 12_000), sparse=True),
    Subject("tridiagonal product", _band, pair, (26, 4_000), sparse=True),
    Subject("upper triangle", lambda x: x.triu() ** 2, square, (36, 5_000), sparse=True),
    Subject("sliding windows", lambda x: x.unfold(0, 3, 1).prod(-1), vector, (17, 5_000), sparse=True),
    Subject("every second", lambda x: x[::2].exp(), vector, (11, 6_000), sparse=True),
    Subject("Fourier transform", lambda x: torch.view_as_real(torch.fft.rfft(x)), vector, (16, 2_048)),
    Subject("transposition", lambda x: x.mT.reshape(-1).square(), rows(5), (30, 4_000), sparse=True),
]

SUBJECTS = [*ELEMENTWISE, *REDUCTIONS, *LOSSES, *ALGEBRA, *LAYERS, *INDEXING]
