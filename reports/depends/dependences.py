"""Functions with a declared dependence: right ones, and ones with a fault like those that were found in public code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
import torch
from torch import nn

from gradcheck import normal

T, N, D = 6, 3, 4
X = normal(N, T, D)
SEGMENTS = np.array([0, 0, 0, 1, 1, 2])
KEEP = np.array([1, 1, 0, 1, 1, 0], dtype=bool)
LABELS = np.array([1, -100, 0, 3, -100, 2])
DOCUMENTS = ("masked along 1", lambda i, j: SEGMENTS[i] == SEGMENTS[j])
QUERIES = np.tri(2, T, k=2, dtype=bool)  # what each of two queries sees of T keys
KEPT = np.tri(N, T, k=2, dtype=bool)  # the positions of each sample that are not padding
PADDING = ("masked along 1", np.tile(KEEP, (T, 1)) | np.eye(T, dtype=bool))


@dataclass(frozen=True)
class Declared:
    """A function, and the dependence that is declared for it.

    Attributes:
        name: for the page.
        make: () -> the function or module.
        depends: the declaration.
        inputs: the specs of its inputs.
        framework: of the function.
        fault: what is wrong; '' for a right one.
        named: a part of the message that a fault must get.
    """

    name: str
    make: Callable[[], Any]
    depends: Any
    inputs: tuple[Any, ...] = (X,)
    framework: str | None = "torch"
    fault: str = ""
    named: str = ""


def attention(visible: Any, *, floor: float = -torch.inf) -> Callable[[Any], Any]:
    """Attention of x to itself where `visible` is true."""
    shown = torch.as_tensor(np.array(visible, dtype=bool))

    def attend(x: Any) -> Any:
        scores = (x @ x.transpose(1, 2)).masked_fill(~shown, floor)
        return torch.softmax(scores, -1) @ x

    return attend


def causal(offset: int) -> Any:
    """A causal mask that shows `offset` positions too many."""
    return np.tri(T, k=offset)


def module(make: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    """Return what makes a module in float64 with the same parameters every time."""

    def made() -> nn.Module:
        torch.manual_seed(0)
        return make().double()

    return made


class CausalConvolution(nn.Module):
    """A convolution along axis 1, padded on the left by `left` positions."""

    def __init__(self, left: int) -> None:
        super().__init__()
        self.left, self.convolution = left, nn.Conv1d(D, D, 3)

    def forward(self, x: Any) -> Any:
        """Pad, convolve and keep the length."""
        padded = nn.functional.pad(x.transpose(1, 2), (self.left, 2 - self.left))
        return self.convolution(padded).transpose(1, 2)


class Recurrent(nn.Module):
    """A recurrent layer; only its outputs."""

    def __init__(self, *, bidirectional: bool = False) -> None:
        super().__init__()
        self.layer = nn.GRU(D, D, batch_first=True, bidirectional=bidirectional)

    def forward(self, x: Any) -> Any:
        """Return the output at every position."""
        return self.layer(x)[0]


def fft_convolution(x: Any) -> Any:
    """A causal convolution by a transform, in which every position rounds with every other."""
    kernel = np.exp(-np.arange(T) / 2)[:, None]
    return np.fft.irfft(np.fft.rfft(x, 2 * T, axis=1) * np.fft.rfft(kernel, 2 * T, axis=0), 2 * T, axis=1)[:, :T]


def cross_entropy(*, divide_by_all: bool = False, ignore: int = -100) -> Callable[[Any], Any]:
    """Cross entropy in which labels of -100 are ignored."""
    labels = torch.as_tensor(np.where(LABELS == -100, ignore, LABELS))

    def loss(x: Any) -> Any:
        value = nn.functional.cross_entropy(x, labels.clamp(min=-100), ignore_index=-100)
        return value + 0.01 * torch.logsumexp(x, 1).mean() if divide_by_all else value

    return loss


def cross_attention(offset: int) -> Callable[[Any, Any], Any]:
    """Attention of two queries to T keys, of which the first query sees one more than `offset`."""
    visible = torch.as_tensor(np.tri(2, T, k=offset, dtype=bool))
    return lambda q, k: nn.functional.scaled_dot_product_attention(q, k, k, attn_mask=visible)


def jax_blocks(lengths: Any) -> Callable[[Any], Any]:
    """Attention in blocks, in JAX."""
    visible = lengths[:, None] == lengths

    def attend(x: Any) -> Any:
        scores = jnp.where(visible, x @ jnp.swapaxes(x, 1, 2), -jnp.inf)
        weights = jnp.exp(scores - scores.max(-1, keepdims=True))
        return weights / weights.sum(-1, keepdims=True) @ x

    return attend


def pooled(kept: Any) -> Callable[[Any], Any]:
    """The mean over the positions of each sample that are not padding."""
    return lambda x: np.sum(x * kept[..., None], axis=1) / np.sum(KEPT, axis=1)[:, None]


def jax_cumulative(x: Any) -> Any:
    """A running mean in JAX."""
    return jnp.cumsum(x, axis=1) / jnp.arange(1, T + 1)[:, None]


def jax_normalised(x: Any) -> Any:
    """A running mean whose scale is that of the whole sequence."""
    return jax_cumulative(x) / jnp.abs(x).max(axis=1, keepdims=True)


def two_heads(*, leak: bool) -> Callable[[Any, Any], Any]:
    """Two outputs of two inputs; `b` must not see x."""
    return lambda x, y: {"a": (x * y).sum(), "b": (y**2).sum() + (1e-6 * x.mean() if leak else 0.0)}


ROWS = "independent along 0"
RIGHT = (
    Declared("causal attention", lambda: attention(causal(0)), f"causal along 1, fully; {ROWS}"),
    Declared("causal attention, masked by -1e9", lambda: attention(causal(0), floor=-1e9), f"causal along 1, fully; {ROWS}"),
    Declared("attention in blocks (packed documents)", lambda: attention(SEGMENTS[:, None] == SEGMENTS), DOCUMENTS),
    Declared("attention with padding", lambda: attention(np.tile(KEEP, (T, 1)) | np.eye(T, dtype=bool)), PADDING),
    Declared("causal convolution", module(lambda: CausalConvolution(2)), "causal along 1"),
    Declared("convolution by a transform", lambda: fft_convolution, "causal along 1", framework="numpy"),
    Declared("GRU", module(Recurrent), f"causal along 1, fully; {ROWS}", framework=None),
    Declared("cumsum", lambda: lambda x: np.cumsum(x, axis=1), "causal along 1, fully", framework="numpy"),
    Declared("cumsum without the position itself", lambda: lambda x: np.cumsum(x, axis=1) - x, "strictly causal along 1",
             framework="numpy"),
    Declared("running mean in JAX", lambda: jax_cumulative, f"causal along 1, fully; {ROWS}", framework="jax"),
    Declared("cross entropy with ignored labels", cross_entropy, ("masked along 0", LABELS != -100), (normal(T, D),)),
    Declared("loss of each sample", lambda: lambda x: (x**2).sum((1, 2)), f"{ROWS}, fully"),
    Declared("layer norm", module(lambda: nn.LayerNorm(D)), "independent along 0 and 1, fully", framework=None),
    Declared("batch norm in evaluation", module(lambda: nn.BatchNorm1d(T).eval()), ROWS, framework=None),
    Declared("cross-attention", lambda: cross_attention(2), ("masked along 1 of k, fully", QUERIES), (normal(N, 2, D), X)),
    Declared("attention in blocks in JAX", lambda: jax_blocks(SEGMENTS), DOCUMENTS, framework="jax"),
    Declared("mean of a padded sequence", lambda: pooled(KEPT), ("masked along 0 and 1", KEPT), framework="numpy"),
    Declared("two outputs of two inputs", lambda: two_heads(leak=False), {"a": ["x", "y"], "b": ["y"]}, (X, X)),
)  # fmt: skip
WRONG = (
    Declared("causal attention", lambda: attention(causal(1)), "causal along 1", fault="mask off by one",
             named="a later position"),
    Declared("causal attention", lambda: attention(np.ones((T, T))), "causal along 1", fault="no mask",
             named="a later position"),
    Declared("causal attention", lambda: attention(causal(0), floor=-5.0), "causal along 1", fault="mask of -5",
             named="a later position"),
    Declared("causal convolution", module(lambda: CausalConvolution(1)), "causal along 1", framework=None,
             fault="padded on both sides", named="a later position"),
    Declared("GRU", module(lambda: Recurrent(bidirectional=True)), "causal along 1", framework=None, fault="bidirectional",
             named="a later position"),
    Declared("running mean in JAX", lambda: jax_normalised, "causal along 1", framework="jax",
             fault="scaled by the maximum of all positions", named="a later position"),
    Declared("cumsum", lambda: lambda x: np.cumsum(x, axis=1) - x, "causal along 1, fully", framework="numpy",
             fault="hides the position itself", named="does not depend on x[:, 0]"),
    Declared("causal attention", lambda: attention(np.triu(causal(0), -2)), "causal along 1, fully", fault="window of three",
             named="does not depend on"),
    Declared("causal convolution", module(lambda: CausalConvolution(2)), "causal along 1, fully", framework=None,
             fault="sees three positions", named="does not depend on"),
    Declared("centred rows", lambda: lambda x: x - 1e-6 * x.mean(0), ROWS, fault="mean over axis 0, times 1e-6",
             named="another position"),
    Declared("clipped rows", lambda: lambda x: x / x.detach().abs().max(), ROWS, fault="scale of the whole batch, detached",
             named="another position"),
    Declared("batch norm", module(lambda: nn.BatchNorm1d(T)), ROWS, framework=None, fault="in training",
             named="normalises over the batch"),
    Declared("model with batch norm", module(lambda: nn.Sequential(nn.Flatten(), nn.Linear(T * D, 3), nn.BatchNorm1d(3))), ROWS,
             framework=None, fault="in training", named="2 (BatchNorm1d)"),
    Declared("attention in blocks", lambda: attention(np.arange(T)[:, None] // 2 == np.arange(T) // 2), DOCUMENTS,
             fault="blocks of another length", named="which the mask excludes"),
    Declared("attention with padding", lambda: attention(np.tile(~KEEP, (T, 1)) | np.eye(T, dtype=bool)), PADDING,
             fault="mask inverted", named="which the mask excludes"),
    Declared("cross entropy", lambda: cross_entropy(ignore=0), ("masked along 0", LABELS != -100), (normal(T, D),),
             fault="ignored labels become 0", named="which the mask excludes"),
    Declared("cross entropy", lambda: cross_entropy(divide_by_all=True), ("masked along 0", LABELS != -100), (normal(T, D),),
             fault="a penalty on every row", named="which the mask excludes"),
    Declared("cross-attention", lambda: cross_attention(3), ("masked along 1 of k", QUERIES), (normal(N, 2, D), X),
             fault="sees one key too many", named="which the mask excludes"),
    Declared("cross-attention", lambda: cross_attention(1), ("masked along 1 of k, fully", QUERIES), (normal(N, 2, D), X),
             fault="hides one key too many", named="output[:, 0] does not depend on k[:, 2]"),
    Declared("attention in blocks in JAX", lambda: jax_blocks(np.minimum(SEGMENTS, 1)), DOCUMENTS, framework="jax",
             fault="two blocks are one", named="which the mask excludes"),
    Declared("mean of a padded sequence", lambda: pooled(np.tri(N, T, k=3)), ("masked along 0 and 1", KEPT), framework="numpy",
             fault="one position of padding counts", named="which the mask excludes"),
    Declared("two outputs of two inputs", lambda: two_heads(leak=True), {"b": ["y"]}, (X, X), fault="a mean of x, times 1e-6",
             named="not among its declared"),
    Declared("two outputs of two inputs", lambda: lambda x, y: {"b": (y + x * (x > 3)).sum() + 0 * x.sum()},
             {"b": ["y"]}, (X, X), fault="only entries above 3", named="not among its declared"),
    Declared("linear layer", module(lambda: nn.Linear(D, D)), ["input"], framework=None, fault="parameters are not declared",
             named="not among its declared"),
)  # fmt: skip
