"""The targets of the speed study with their bare calls, and the checkers that run on them."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import jax
import numdifftools  # type: ignore[import-untyped]
import numpy as np
import scipy.differentiate
import scipy.optimize
import torch
from jax.test_util import check_grads
from other_checkers import run_torch_gradcheck
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

import gradcheck
from gradcheck import CheckResult, Verdict

SEED = 0
MILLION = 1_000_000


@dataclass(frozen=True)
class Problem:
    """A target at a point, with the bare calls that a check of it is compared with.

    Attributes:
        fn, inputs, gradient: the arguments of gradcheck; inputs of real numbers are in float64.
        jax: an equal function of the same leaves in JAX, compiled at its first call.
    """

    fn: Callable[..., Any]
    inputs: tuple[Any, ...]
    gradient: Callable[..., Any] | None = None
    jax: Callable[..., Any] | None = None

    @property
    def is_float32(self) -> bool:
        """Whether the parameters are float32, so that claim and evidence differ in dtype."""
        return any(x.dtype is torch.float32 for x in list_parameters(self.fn))

    @cached_property
    def double(self) -> Callable[..., Any]:
        """The target's function in float64."""
        return copy.deepcopy(self.fn).double() if isinstance(self.fn, nn.Module) and self.is_float32 else self.fn

    @cached_property
    def leaves(self) -> list[Any]:
        """The leaves to differentiate, in float64: the inputs of real numbers, then the parameters."""
        if self.gradient is not None:
            return list(self.inputs)
        return [x.detach() for x in (*(x for x in self.inputs if x.is_floating_point()), *list_parameters(self.double))]

    @cached_property
    def arrays(self) -> tuple[Any, ...]:
        """The leaves as JAX arrays, after an assertion that the function in JAX has the same value."""
        assert self.jax is not None
        arrays = tuple(jax.numpy.asarray(x.numpy()) for x in self.leaves)
        np.testing.assert_allclose(np.asarray(self.jax(*arrays)), self.forward().numpy(), rtol=1e-9, atol=1e-12)
        return arrays

    @property
    def entries(self) -> int:
        """The number of input entries."""
        return sum(math.prod(x.shape) for x in self.leaves)

    @cached_property
    def outputs(self) -> int:
        """The number of output entries."""
        return sum(math.prod(y.shape) for y in _flatten_outputs(self.forward()))

    def call_with_leaves(self, *leaves: Tensor) -> tuple[Tensor, ...]:
        """Compute the outputs from the leaves, in float64."""
        leaf_iterator = iter(leaves)
        inputs = [next(leaf_iterator) if x.is_floating_point() else x for x in self.inputs]
        if not isinstance(self.double, nn.Module):
            return _flatten_outputs(self.double(*inputs))
        names = [name for name, _ in self.double.named_parameters()]
        parameters = dict(zip(names, leaf_iterator, strict=True))
        return _flatten_outputs(torch.func.functional_call(self.double, parameters, tuple(inputs)))

    def forward(self) -> Any:
        """Run one bare forward call in float64."""
        with torch.no_grad():
            return self.double(*self.inputs)

    def backward(self, *, native: bool = False) -> Any:
        """Run one bare forward and backward call in float64, or in the target's own dtype."""
        if self.gradient is not None:
            return self.gradient(*self.inputs)
        fn = self.fn if native else self.double
        inputs = [x.detach().requires_grad_() if x.is_floating_point() else x for x in self.inputs]
        outputs = _flatten_outputs(fn(*inputs))
        leaves = [*(x for x in inputs if x.requires_grad), *list_parameters(fn)]
        return torch.autograd.grad(outputs, leaves, [torch.ones_like(y) for y in outputs])


def list_parameters(fn: Callable[..., Any]) -> list[Tensor]:
    """List a module's parameters."""
    return list(fn.parameters()) if isinstance(fn, nn.Module) else []


def _flatten_outputs(outputs: Any) -> tuple[Any, ...]:
    return tuple(y for part in outputs for y in _flatten_outputs(part)) if isinstance(outputs, tuple) else (outputs,)


@dataclass
class Calls:
    """Counts of the calls of a target.

    Attributes:
        forward: all calls.
        recorded: the calls whose operations autograd recorded.
        backward: the backward passes through the target.
    """

    forward: int = 0
    recorded: int = 0
    backward: int = 0

    def count_forward(self, output: Any) -> Any:
        """Count a call by its output."""
        self.forward += 1
        first = _flatten_outputs(output)[0]
        if isinstance(first, Tensor) and first.requires_grad:
            self.recorded += 1
            first.register_hook(self._count_backward)  # type: ignore[no-untyped-call]
        return output

    def _count_backward(self, _: Tensor) -> None:
        self.backward += 1


def count_calls(problem: Problem, calls: Calls, check: Callable[[Problem], Any]) -> Any:
    """Run a check of a problem and count the calls."""
    if isinstance(problem.fn, nn.Module):
        hook = problem.fn.register_forward_hook(lambda module, inputs, output: calls.count_forward(output))
        try:
            return check(problem)
        finally:
            hook.remove()

    @functools.wraps(problem.fn)
    def called(*inputs: Any) -> Any:
        return calls.count_forward(problem.fn(*inputs))

    return check(replace(problem, fn=called))


def run_gradcheck(problem: Problem, mode: str) -> CheckResult:
    """Check a problem with gradcheck in one of its modes."""
    return gradcheck.check(problem.fn, *problem.inputs, mode=mode, gradient=problem.gradient)


def _run_check_grads(problem: Problem) -> bool:
    arrays = problem.arrays
    try:
        check_grads(problem.jax, arrays, order=1, modes=("rev",))  # type: ignore[no-untyped-call]
    except AssertionError:
        return False
    return True


def _compare_with_numpy(derivative: Callable[..., Any]) -> Callable[[Problem], bool]:
    """Make a checker that compares the hand-written gradient of a NumPy function with another derivative."""

    def passes(problem: Problem) -> bool:
        assert problem.gradient is not None
        (x,) = problem.inputs
        return bool(np.allclose(derivative(problem.fn, problem.gradient, x), problem.gradient(x), rtol=1e-5, atol=1e-6))

    return passes


FULL_MODE, PROBE_MODE, TORCH_SLOW, TORCH_FAST, JAX_CHECK_GRADS = (
    "gradcheck, full",
    "gradcheck, probe",
    "torch slow",
    "torch fast",
    "JAX check_grads",
)
CHECKERS: dict[str, Callable[[Problem], Any]] = {
    FULL_MODE: lambda p: run_gradcheck(p, "full").verdict is Verdict.PASS,
    PROBE_MODE: lambda p: run_gradcheck(p, "probe").verdict is Verdict.PASS,
    TORCH_SLOW: lambda p: run_torch_gradcheck(SimpleNamespace(apply=p.call_with_leaves), p.leaves, fast=False),
    TORCH_FAST: lambda p: run_torch_gradcheck(SimpleNamespace(apply=p.call_with_leaves), p.leaves, fast=True),
    JAX_CHECK_GRADS: _run_check_grads,
    "numdifftools.Gradient": _compare_with_numpy(lambda f, g, x: numdifftools.Gradient(f)(x)),
    "scipy.optimize.check_grad": _compare_with_numpy(lambda f, g, x: g(x) + scipy.optimize.check_grad(f, g, x)),
    "scipy.differentiate.jacobian": _compare_with_numpy(lambda f, g, x: scipy.differentiate.jacobian(f, x).df),
}


def silu(x: Tensor) -> Tensor:
    """Compute SiLU, an elementwise function."""
    return x * torch.sigmoid(x)


def cauchy(x: Tensor) -> Tensor:
    """Compute a scalar loss: the mean of log(1 + x²)."""
    return torch.log1p(x * x).mean()


def make_elementwise(n: int) -> Problem:
    """Make the problem of `silu` of n numbers."""
    return Problem(silu, (draw_normal(n),), jax=jax.jit(lambda x: x * jax.nn.sigmoid(x)))


def make_scalar_loss(n: int) -> Problem:
    """Make the problem of `cauchy` of n numbers."""
    return Problem(cauchy, (draw_normal(n),), jax=jax.jit(lambda x: jax.numpy.log1p(x * x).mean()))


def draw_normal(*shape: int) -> Tensor:
    """Draw standard normal numbers in float64 from a fixed seed."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(SEED), dtype=torch.float64)


def _make_module(make: Callable[[], nn.Module], *inputs: Tensor, in_jax: Callable[..., Any] | None = None) -> Problem:
    """Make the problem of a module in float64 with seeded parameters."""
    return Problem(_make_seeded(make).double(), inputs, jax=None if in_jax is None else jax.jit(in_jax))


def _make_seeded(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        return make()


def _linear_in_jax(x: Any, w: Any, b: Any) -> Any:
    return x @ w.T + b


def _make_linear(width: int, batch: int) -> Problem:
    return _make_module(lambda: nn.Linear(width, width), draw_normal(batch, width), in_jax=_linear_in_jax)


def _make_mlp(width: int, batch: int) -> Problem:
    def make() -> nn.Module:
        return nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.LayerNorm(2 * width), nn.Linear(2 * width, width))

    def in_jax(x: Any, w: Any, b: Any, gain: Any, bias: Any, v: Any, c: Any) -> Any:
        h = jax.nn.gelu(_linear_in_jax(x, w, b), approximate=False)
        h = (h - h.mean(-1, keepdims=True)) / jax.numpy.sqrt(h.var(-1, keepdims=True) + 1e-5)
        return _linear_in_jax(gain * h + bias, v, c)

    return _make_module(make, draw_normal(batch, width), in_jax=in_jax)


def _make_convolution(channels: int, size: int) -> Problem:
    return _make_module(lambda: nn.Conv2d(3, channels, 3), draw_normal(1, 3, size, size))


def _make_attention(width: int, heads: int, length: int) -> Problem:
    return _make_module(lambda: nn.MultiheadAttention(width, heads), *draw_normal(3, length, width))


def _make_lstm(inputs: int, width: int, length: int) -> Problem:
    return _make_module(lambda: nn.LSTM(inputs, width), draw_normal(length, 2, inputs))


def _make_logistic(inputs: int = 500, samples: int = 64) -> Problem:
    """Make the loss of logistic regression in NumPy, vectorised over further axes of the weights, with its gradient."""
    rng = np.random.default_rng(SEED)
    X = rng.standard_normal((samples, inputs)) * rng.choice([-1.0, 1.0], (samples, 1)) / math.sqrt(inputs)

    def logistic(w: Any) -> Any:
        return np.mean(np.log1p(np.exp(-np.tensordot(X, w, axes=1))), axis=0)

    def gradient(w: Any) -> Any:
        return -X.T @ (1 / (1 + np.exp(X @ w))) / samples

    return Problem(logistic, (rng.standard_normal(inputs),), gradient=gradient)


class Block(nn.Module):
    """A block of a GPT: causal self-attention and an MLP, each after a LayerNorm and with a residual connection."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the block's output of shape (batch, length, width)."""
        h = self.before(x)
        q, k, v = (project(h).unflatten(-1, (self.heads, -1)).transpose(1, 2) for project in (self.q, self.k, self.v))
        x = x + self.out(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))
        y: Tensor = x + self.down(F.gelu(self.up(self.after(x))))
        return y


class GPT(nn.Module):
    """The cross entropy of each next token of a sequence."""

    def __init__(self, words: int, length: int, width: int, blocks: int, heads: int) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(words, width), nn.Parameter(0.02 * torch.randn(length, width))
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(blocks)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, words)
        nn.init.normal_(self.words.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """Compute the loss of tokens of shape (batch, length)."""
        h: Tensor = self.head(self.norm(self.blocks(self.words(tokens) + self.places)))
        return F.cross_entropy(h[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())


def _make_gpt(words: int, length: int, width: int, blocks: int) -> Problem:
    """Make the problem of a GPT-like module in float32, with one sequence of tokens."""
    tokens = torch.randint(words, (1, length), generator=torch.Generator().manual_seed(SEED))
    return Problem(_make_seeded(lambda: GPT(words, length, width, blocks, width // 64)), (tokens,))


def _make_tiny_gpt() -> Problem:
    return _make_gpt(4, 3, 64, 1)


@dataclass(frozen=True)
class Target:
    """A target, with the checkers to compare gradcheck with in each of its modes.

    Attributes:
        build: makes the problem.
        small: makes a tiny problem of the same kind, whose check loads all modules that are loaded at first use.
        rivals: the other checkers by mode of gradcheck; gradcheck does not run in an absent mode.
    """

    name: str
    build: Callable[[], Problem]
    small: Callable[[], Problem]
    rivals: Mapping[str, tuple[str, ...]]


BOTH = {"full": (TORCH_SLOW,), "probe": (TORCH_FAST,)}
JAX_TOO = {"full": (TORCH_SLOW,), "probe": (TORCH_FAST, JAX_CHECK_GRADS)}
NUMPY = {"full": ("numdifftools.Gradient", "scipy.optimize.check_grad", "scipy.differentiate.jacobian")}
SMALL_GPT, LARGE_GPT = "GPT, 5 million parameters", "GPT, 100 million parameters"
TARGETS = (
    Target("Linear 64x64, batch 8", lambda: _make_linear(64, 8), lambda: _make_linear(2, 1), JAX_TOO),
    Target("MLP 32-64-32 (GELU, LayerNorm), batch 16", lambda: _make_mlp(32, 16), lambda: _make_mlp(2, 1), JAX_TOO),
    Target("Conv2d 3->8 on 12x12", lambda: _make_convolution(8, 12), lambda: _make_convolution(1, 3), BOTH),
    Target("MultiheadAttention 32x4 on 10", lambda: _make_attention(32, 4, 10), lambda: _make_attention(4, 2, 2), BOTH),
    Target("LSTM 8->16 on 5, batch 2", lambda: _make_lstm(8, 16, 5), lambda: _make_lstm(2, 2, 2), BOTH),
    Target("scalar loss, 2,048 inputs", lambda: make_scalar_loss(2048), lambda: make_scalar_loss(3), JAX_TOO),
    Target(
        "scalar loss, 200,000 inputs",
        lambda: make_scalar_loss(200_000),
        lambda: make_scalar_loss(3),
        {"probe": (TORCH_FAST, JAX_CHECK_GRADS)},
    ),
    Target("NumPy function, 500 inputs", _make_logistic, lambda: _make_logistic(3, 4), NUMPY),
    Target(
        "elementwise, 1e6 entries",
        lambda: make_elementwise(MILLION),
        lambda: make_elementwise(3),
        {"probe": (TORCH_FAST, JAX_CHECK_GRADS)},
    ),
    Target(SMALL_GPT, lambda: _make_gpt(words=512, length=32, width=256, blocks=6), _make_tiny_gpt, {"probe": (TORCH_FAST,)}),
    Target(LARGE_GPT, lambda: _make_gpt(words=9728, length=64, width=768, blocks=12), _make_tiny_gpt, {"probe": ()}),
)
