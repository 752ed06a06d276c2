"""Functions and layers into whose gradients faults are injected, with dense and sparse Jacobians and 1 to a million inputs."""

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
    from planted_faults import Function

Shapes = tuple[tuple[int, ...], ...]
SEED = 0


@dataclass(frozen=True)
class StudiedFunction:
    """A function and the inputs it takes.

    Attributes:
        shapes: gives the shapes of the leaves for about a given number of input entries.
        sizes: the small and the large number of input entries studied.
        sparse: whether most of the Jacobian is zero at the large size.
        positive: whether the inputs must be positive.
    """

    name: str
    function: Function
    shapes: Callable[[int], Shapes]
    sizes: tuple[int, int]
    sparse: bool = False
    positive: bool = False

    def inputs(self, size: int, dtype: torch.dtype) -> list[Tensor]:
        """Draw the leaves: standard normal numbers, or log-normal ones if they must be positive."""
        rng = np.random.default_rng([SEED, zlib.crc32(self.name.encode()), size])
        drawn = [rng.standard_normal(shape) for shape in self.shapes(size)]
        return [torch.from_numpy(np.exp(x) if self.positive else x).to(dtype) for x in drawn]


def vector_shapes(n: int) -> Shapes:
    """Return the shape of one vector."""
    return ((n,),)


def pair_shapes(n: int) -> Shapes:
    """Return the shapes of two vectors."""
    return ((max(n // 2, 1),),) * 2


def rows_shapes(width: int, *more: tuple[int, ...]) -> Callable[[int], Shapes]:
    """Give the shapes of a matrix of `width` columns, and of further leaves."""
    return lambda n: ((max((n - sum(map(int, map(np.prod, more)))) // width, 2), width), *more)


def square_shapes(n: int) -> Shapes:
    """Return the shape of a square matrix."""
    return ((max(int(n**0.5), 1),) * 2,)


def square_and_vector_shapes(n: int) -> Shapes:
    """Return the shapes of a square matrix and a vector that it acts on."""
    k = max(int(n**0.5), 1)
    return ((k, k), (k,))


def two_squares_shapes(n: int) -> Shapes:
    """Return the shapes of two square matrices."""
    return square_shapes(n // 2) * 2


def dense_layer_shapes(n: int) -> Shapes:
    """Return the shapes of a batch of four, and of the weights and biases of a layer from k to k numbers."""
    k = max(int(n**0.5) - 2, 2)
    return ((4, k), (k, k), (k,))


def signal_shapes(n: int) -> Shapes:
    """Return the shapes of two channels of a signal, and of three filters of width three."""
    return ((1, 2, max((n - 18) // 2, 5)), (3, 2, 3))


def image_shapes(n: int) -> Shapes:
    """Return the shapes of two channels of a square image, and of two 3×3 filters."""
    k = max(int(((n - 36) / 2) ** 0.5) if n > 36 else 0, 4)
    return ((1, 2, k, k), (2, 2, 3, 3))


def even_image_shapes(n: int) -> Shapes:
    """Return the shape of two channels of a square image of even side."""
    return ((1, 2, *(2 * max(int((n / 8) ** 0.5), 2),) * 2),)


def channels_shapes(n: int) -> Shapes:
    """Return the shapes of a batch of three with four channels of a signal, and of a gain and a bias per channel."""
    return ((3, 4, max((n - 8) // 12, 2)), (4,), (4,))


def attention_shapes(n: int) -> Shapes:
    """Return the shapes of queries, keys and values of width four."""
    return ((2, max(n // 24, 2), 4),) * 3


def cell_shapes(gates: int) -> Callable[[int], Shapes]:
    """Give the shapes of the input, the state, the weights and the biases of a recurrent cell."""

    def shapes(n: int) -> Shapes:
        k = max(int((n / (2 * gates)) ** 0.5) - 1, 2)
        return ((2, k), (2, k), (gates * k, k), (gates * k, k), (gates * k,), (gates * k,))

    return shapes


def _random_indices(n: int, below: int, seed: int = 1) -> Tensor:
    """Return fixed random indices."""
    return torch.from_numpy(np.random.default_rng([seed, n, below]).integers(0, below, n))


def _random_order(n: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng([2, n]).permutation(n))


def _rosenbrock(x: Tensor) -> Tensor:
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def _gaussian(x: Tensor, mean: Tensor, spread: Tensor) -> Tensor:
    return (0.5 * ((x - mean) / F.softplus(spread)) ** 2 + F.softplus(spread).log()).sum(0)


def _make_spd(a: Tensor) -> Tensor:
    return a @ a.mT + torch.eye(a.shape[-1], dtype=a.dtype)


def _solve(a: Tensor, b: Tensor) -> Tensor:
    solution: Tensor = torch.linalg.solve(_make_spd(a), b)
    return solution


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
    return torch.zeros(max(n // 3, 1), dtype=x.dtype).index_add(0, _random_indices(n, max(n // 3, 1)), x)


def _band(x: Tensor, a: Tensor) -> Tensor:
    return a * x + F.pad(x[1:], (0, 1)) * a.sin() - 2 * F.pad(x[:-1], (1, 0))


def _polynomial(x: Tensor) -> Tensor:
    return ((0.3 * x - 1.2) * x + 0.5) * x + 2.0


def _nll(x: Tensor) -> Tensor:
    return F.cross_entropy(x, _random_indices(len(x), x.shape[1]))


def _embedding(table: Tensor) -> Tensor:
    return F.embedding(_random_indices(2 * len(table) // 3 + 1, len(table)), table)


def _interpolate(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def _quadratic(a: Tensor, x: Tensor) -> Tensor:
    return x @ a @ x


ELEMENTWISE = [
    StudiedFunction("exp", torch.exp, vector_shapes, (1, 6_000), sparse=True),
    StudiedFunction("tanh", torch.tanh, vector_shapes, (7, 100_000), sparse=True),
    StudiedFunction("sin", torch.sin, vector_shapes, (2, 1_100), sparse=True),
    StudiedFunction("sigmoid", torch.sigmoid, vector_shapes, (12, 3_000), sparse=True),
    StudiedFunction("softplus", F.softplus, vector_shapes, (20, 5_000), sparse=True),
    StudiedFunction("gelu", F.gelu, vector_shapes, (9, 2_500), sparse=True),
    StudiedFunction("silu", F.silu, vector_shapes, (5, 2_000), sparse=True),
    StudiedFunction("relu", F.relu, vector_shapes, (16, 20_000), sparse=True),
    StudiedFunction("leaky_relu", F.leaky_relu, vector_shapes, (11, 4_000), sparse=True),
    StudiedFunction("elu", F.elu, vector_shapes, (24, 300), sparse=True),
    StudiedFunction("erf", torch.erf, vector_shapes, (3, 6_000), sparse=True),
    StudiedFunction("atan", torch.atan, vector_shapes, (30, 1_200), sparse=True),
    StudiedFunction("log", torch.log, vector_shapes, (8, 4_000), sparse=True, positive=True),
    StudiedFunction("sqrt", torch.sqrt, vector_shapes, (1, 2_000), sparse=True, positive=True),
    StudiedFunction("reciprocal", torch.reciprocal, vector_shapes, (6, 1_500), sparse=True, positive=True),
    StudiedFunction("polynomial", _polynomial, vector_shapes, (4, 8_000), sparse=True),
    StudiedFunction("product", torch.mul, pair_shapes, (10, 10_000), sparse=True),
    StudiedFunction("quotient", torch.div, pair_shapes, (2, 4_000), sparse=True, positive=True),
    StudiedFunction("power", torch.pow, pair_shapes, (16, 1_300), sparse=True, positive=True),
    StudiedFunction("hypot", torch.hypot, pair_shapes, (40, 3_000), sparse=True),
]

REDUCTIONS = [
    StudiedFunction("sum of squares", lambda x: x.square().sum(), vector_shapes, (25, 200_000)),
    StudiedFunction("small mean", lambda x: (1e-3 * x).mean(), vector_shapes, (50, 1_000_000)),
    StudiedFunction("norm", torch.linalg.vector_norm, vector_shapes, (10, 100_000)),
    StudiedFunction("3-norm", lambda x: torch.linalg.vector_norm(x, 3), vector_shapes, (15, 5_000)),
    StudiedFunction("logsumexp", lambda x: x.logsumexp(-1), rows_shapes(5), (20, 10_000)),
    StudiedFunction("variance", lambda x: x.var(), vector_shapes, (12, 20_000)),
    StudiedFunction("standard deviation", lambda x: x.std(0), rows_shapes(4), (24, 2_000)),
    StudiedFunction("largest", lambda x: x.amax(-1), rows_shapes(10), (60, 10_000), sparse=True),
    StudiedFunction("softmax", lambda x: x.softmax(-1), rows_shapes(6), (36, 3_000)),
    StudiedFunction("log-softmax", lambda x: x.log_softmax(-1), rows_shapes(8), (16, 5_000)),
    StudiedFunction("cumulative sum", lambda x: x.cumsum(0), vector_shapes, (14, 2_000)),
    StudiedFunction("cumulative product", lambda x: x.cumprod(0), vector_shapes, (6, 30), positive=True),
    StudiedFunction("product of all", lambda x: x.prod(), vector_shapes, (5, 40), positive=True),
    StudiedFunction("mean of rows", lambda x: x.mean(0), rows_shapes(7), (35, 20_000)),
    StudiedFunction("weighted mean", lambda x, w: (x * w).sum() / w.sum(), pair_shapes, (18, 30_000), positive=True),
    StudiedFunction("rosenbrock", _rosenbrock, vector_shapes, (8, 10_000)),
]

LOSSES = [
    StudiedFunction("mean squared error", F.mse_loss, pair_shapes, (20, 20_000)),
    StudiedFunction("cross entropy", _nll, rows_shapes(5), (30, 5_000)),
    StudiedFunction(
        "binary cross entropy", lambda x, y: F.binary_cross_entropy_with_logits(x, y.sigmoid()), pair_shapes, (16, 10_000)
    ),
    StudiedFunction("Huber loss", F.huber_loss, pair_shapes, (22, 3_000)),
    StudiedFunction(
        "Kullback-Leibler",
        lambda x, y: F.kl_div(x.log_softmax(-1), y.softmax(-1)),
        lambda n: rows_shapes(5)(n // 2) * 2,
        (40, 2_000),
    ),
    StudiedFunction("cosine similarity", F.cosine_similarity, lambda n: rows_shapes(8)(n // 2) * 2, (64, 4_000)),
    StudiedFunction("Gaussian likelihood", _gaussian, rows_shapes(4, (4,), (4,)), (32, 10_000)),
    StudiedFunction("logistic regression", _logistic, lambda n: ((5,), (max((n - 5) // 5, 2), 5)), (45, 5_000)),
]

ALGEBRA = [
    StudiedFunction("matrix product", torch.matmul, two_squares_shapes, (32, 5_000)),
    StudiedFunction("matrix times vector", torch.mv, square_and_vector_shapes, (30, 10_100)),
    StudiedFunction("quadratic form", _quadratic, square_and_vector_shapes, (20, 10_000)),
    StudiedFunction("outer product", torch.outer, pair_shapes, (12, 150)),
    StudiedFunction("batched product", torch.bmm, lambda n: ((2, max(n // 16, 1), 4), (2, 4, max(n // 16, 1))), (48, 1_600)),
    StudiedFunction("einsum", lambda a, b: torch.einsum("ij,jk->ki", a, b), two_squares_shapes, (18, 2_000)),
    StudiedFunction("linear solve", _solve, square_and_vector_shapes, (20, 1_056)),
    StudiedFunction("inverse", lambda a: torch.linalg.inv(_make_spd(a)), square_shapes, (16, 1_100)),
    StudiedFunction("log-determinant", lambda a: torch.logdet(_make_spd(a)), square_shapes, (25, 1_600)),
    StudiedFunction("distances", torch.cdist, lambda n: rows_shapes(3)(n // 2) * 2, (30, 240)),
    StudiedFunction("bilinear form", F.bilinear, lambda n: ((3, 4), (3, 5), (max(n // 20, 1), 4, 5)), (67, 2_000)),
]

LAYERS = [
    StudiedFunction("linear layer", F.linear, dense_layer_shapes, (38, 5_000)),
    StudiedFunction("two-layer network", _mlp, _mlp_shapes, (40, 3_000)),
    StudiedFunction("1-d convolution", lambda x, w: F.conv1d(x, w, padding=1), signal_shapes, (36, 6_000), sparse=True),
    StudiedFunction("2-d convolution", F.conv2d, image_shapes, (68, 3_000), sparse=True),
    StudiedFunction(
        "transposed convolution", lambda x, w: F.conv_transpose2d(x, w, stride=2), image_shapes, (68, 1_200), sparse=True
    ),
    StudiedFunction(
        "layer norm", lambda x, g, b: F.layer_norm(x, (6,), g, b), rows_shapes(6, (6,), (6,)), (42, 5_000), sparse=True
    ),
    StudiedFunction(
        "batch norm", lambda x, g, b: F.batch_norm(x, None, None, g, b, training=True), channels_shapes, (44, 3_000)
    ),
    StudiedFunction("group norm", lambda x, g, b: F.group_norm(x, 2, g, b), channels_shapes, (56, 2_000)),
    StudiedFunction(
        "root-mean-square norm", lambda x, g: F.rms_norm(x, (5,), g), rows_shapes(5, (5,)), (30, 3_000), sparse=True
    ),
    StudiedFunction("attention", F.scaled_dot_product_attention, attention_shapes, (72, 2_400)),
    StudiedFunction("recurrent cell", torch.rnn_tanh_cell, cell_shapes(1), (32, 1_500)),
    StudiedFunction("LSTM cell", _lstm, cell_shapes(4), (56, 3_000)),
    StudiedFunction("GRU cell", torch.gru_cell, cell_shapes(3), (44, 3_000)),
    StudiedFunction("average pooling", lambda x: F.avg_pool2d(x, 2), even_image_shapes, (32, 5_000), sparse=True),
    StudiedFunction("max pooling", lambda x: F.max_pool2d(x, 2), even_image_shapes, (32, 8_000), sparse=True),
    StudiedFunction("gated linear unit", F.glu, rows_shapes(6), (24, 4_000), sparse=True),
    StudiedFunction("interpolation", _interpolate, even_image_shapes, (32, 1_200), sparse=True),
]

INDEXING = [
    StudiedFunction("embedding", _embedding, rows_shapes(4), (40, 40_000), sparse=True),
    StudiedFunction("gather", lambda x: x[_random_indices(2 * len(x), len(x))] * 1.5, vector_shapes, (9, 5_000), sparse=True),
    StudiedFunction("segment sum", _segments, vector_shapes, (21, 30_000), sparse=True),
    StudiedFunction("permutation", lambda x: x[_random_order(len(x))].sin(), vector_shapes, (13, 9_000), sparse=True),
    StudiedFunction("finite difference", lambda x: x[1:] - x[:-1], vector_shapes, (10, 12_000), sparse=True),
    StudiedFunction("tridiagonal product", _band, pair_shapes, (26, 4_000), sparse=True),
    StudiedFunction("upper triangle", lambda x: x.triu() ** 2, square_shapes, (36, 5_000), sparse=True),
    StudiedFunction("sliding windows", lambda x: x.unfold(0, 3, 1).prod(-1), vector_shapes, (17, 5_000), sparse=True),
    StudiedFunction("every second", lambda x: x[::2].exp(), vector_shapes, (11, 6_000), sparse=True),
    StudiedFunction("Fourier transform", lambda x: torch.view_as_real(torch.fft.rfft(x)), vector_shapes, (16, 2_048)),
    StudiedFunction("transposition", lambda x: x.mT.reshape(-1).square(), rows_shapes(5), (30, 4_000), sparse=True),
]

STUDIED_FUNCTIONS = [*ELEMENTWISE, *REDUCTIONS, *LOSSES, *ALGEBRA, *LAYERS, *INDEXING]
