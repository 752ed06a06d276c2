"""What the speed study measures: its targets, with the bare calls of each, and every checker that is run on them."""

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
from faults import KINDS, Kind, on_leaf, planted
from jax.test_util import check_grads
from rivals import _torch as torch_check
from rivals import jax_check, torch_fast
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

import gradcheck
from gradcheck import CheckResult, Verdict

SEED = 0
MILLION = 1_000_000


@dataclass(frozen=True)
class Problem:
    """A target at a point, and the bare calls that a check of it is measured by.

    Attributes:
        fn, inputs, gradient: what gradcheck is given; inputs of real numbers are in float64.
        jax: the equal function of the same leaves in JAX, compiled at its first call.
    """

    fn: Callable[..., Any]
    inputs: tuple[Any, ...]
    gradient: Callable[..., Any] | None = None
    jax: Callable[..., Any] | None = None

    @property
    def narrow(self) -> bool:
        """Whether its parameters are float32, so that claim and evidence differ in dtype."""
        return any(x.dtype is torch.float32 for x in parameters_of(self.fn))

    @cached_property
    def double(self) -> Callable[..., Any]:
        """The same function in float64."""
        return copy.deepcopy(self.fn).double() if isinstance(self.fn, nn.Module) and self.narrow else self.fn

    @cached_property
    def leaves(self) -> list[Any]:
        """What is differentiated, in float64: the inputs of real numbers, then the parameters."""
        if self.gradient is not None:
            return list(self.inputs)
        return [x.detach() for x in (*(x for x in self.inputs if x.is_floating_point()), *parameters_of(self.double))]

    @cached_property
    def arrays(self) -> tuple[Any, ...]:
        """The leaves as JAX has them; with a look whether the function there is equal."""
        assert self.jax is not None
        arrays = tuple(jax.numpy.asarray(x.numpy()) for x in self.leaves)
        np.testing.assert_allclose(np.asarray(self.jax(*arrays)), self.forward().numpy(), rtol=1e-9, atol=1e-12)
        return arrays

    @property
    def entries(self) -> int:
        """Input numbers."""
        return sum(math.prod(x.shape) for x in self.leaves)

    @cached_property
    def outputs(self) -> int:
        """Output numbers."""
        return sum(math.prod(y.shape) for y in _flat(self.forward()))

    def of_leaves(self, *leaves: Tensor) -> tuple[Tensor, ...]:
        """Its outputs as a function of its leaves, in float64."""
        given = iter(leaves)
        inputs = [next(given) if x.is_floating_point() else x for x in self.inputs]
        if not isinstance(self.double, nn.Module):
            return _flat(self.double(*inputs))
        names = [name for name, _ in self.double.named_parameters()]
        parameters = dict(zip(names, given, strict=True))
        return _flat(torch.func.functional_call(self.double, parameters, tuple(inputs)))

    def forward(self) -> Any:
        """One bare forward call in float64."""
        with torch.no_grad():
            return self.double(*self.inputs)

    def backward(self, *, own: bool = False) -> Any:
        """One bare forward and backward call in float64, or in the target's own dtype."""
        if self.gradient is not None:
            return self.gradient(*self.inputs)
        fn = self.fn if own else self.double
        given = [x.detach().requires_grad_() if x.is_floating_point() else x for x in self.inputs]
        outputs = _flat(fn(*given))
        leaves = [*(x for x in given if x.requires_grad), *parameters_of(fn)]
        return torch.autograd.grad(outputs, leaves, [torch.ones_like(y) for y in outputs])


def parameters_of(fn: Callable[..., Any]) -> list[Tensor]:
    """A module's parameters."""
    return list(fn.parameters()) if isinstance(fn, nn.Module) else []


def _flat(outputs: Any) -> tuple[Any, ...]:
    return tuple(y for part in outputs for y in _flat(part)) if isinstance(outputs, tuple) else (outputs,)


@dataclass
class Calls:
    """How often a target was called, in all and with its operations recorded, and a backward pass run through it."""

    forward: int = 0
    recorded: int = 0
    backward: int = 0

    def seen(self, output: Any) -> Any:
        """Count a call by its output."""
        self.forward += 1
        first = _flat(output)[0]
        if isinstance(first, Tensor) and first.requires_grad:
            self.recorded += 1
            first.register_hook(self._came_back)  # type: ignore[no-untyped-call]
        return output

    def _came_back(self, _: Tensor) -> None:
        self.backward += 1


def counted(problem: Problem, calls: Calls, check: Callable[[Problem], Any]) -> Any:
    """Run a check of a problem whose calls are counted."""
    if isinstance(problem.fn, nn.Module):
        hook = problem.fn.register_forward_hook(lambda module, inputs, output: calls.seen(output))
        try:
            return check(problem)
        finally:
            hook.remove()

    @functools.wraps(problem.fn)
    def called(*inputs: Any) -> Any:
        return calls.seen(problem.fn(*inputs))

    return check(replace(problem, fn=called))


def ours(problem: Problem, mode: str) -> CheckResult:
    """Ours, in one of its modes."""
    return gradcheck.check(problem.fn, *problem.inputs, mode=mode, gradient=problem.gradient)


def _jax(problem: Problem) -> bool:
    arrays = problem.arrays
    try:
        check_grads(problem.jax, arrays, order=1, modes=("rev",))  # type: ignore[no-untyped-call]
    except AssertionError:
        return False
    return True


def _numpy(derivative: Callable[..., Any]) -> Callable[[Problem], bool]:
    """Another way to the derivative of a NumPy function, which its gradient by hand is held against."""

    def passes(problem: Problem) -> bool:
        assert problem.gradient is not None
        (x,) = problem.inputs
        return bool(np.allclose(derivative(problem.fn, problem.gradient, x), problem.gradient(x), rtol=1e-5, atol=1e-6))

    return passes


FULL, PROBE, SLOW, FAST, JAX = "gradcheck, full", "gradcheck, probe", "torch slow", "torch fast", "JAX check_grads"
RUNS: dict[str, Callable[[Problem], Any]] = {
    FULL: lambda p: ours(p, "full").verdict is Verdict.PASS,
    PROBE: lambda p: ours(p, "probe").verdict is Verdict.PASS,
    SLOW: lambda p: torch_check(SimpleNamespace(apply=p.of_leaves), p.leaves, fast=False),
    FAST: lambda p: torch_check(SimpleNamespace(apply=p.of_leaves), p.leaves, fast=True),
    JAX: _jax,
    "numdifftools.Gradient": _numpy(lambda f, g, x: numdifftools.Gradient(f)(x)),
    "scipy.optimize.check_grad": _numpy(lambda f, g, x: g(x) + scipy.optimize.check_grad(f, g, x)),
    "scipy.differentiate.jacobian": _numpy(lambda f, g, x: scipy.differentiate.jacobian(f, x).df),
}


def silu(x: Tensor) -> Tensor:
    """An elementwise function."""
    return x * torch.sigmoid(x)


def cauchy(x: Tensor) -> Tensor:
    """A scalar loss: the mean of log(1 + x²)."""
    return torch.log1p(x * x).mean()


def elementwise(n: int) -> Problem:
    """`silu` of n numbers."""
    return Problem(silu, (_normal(n),), jax=jax.jit(lambda x: x * jax.nn.sigmoid(x)))


def scalar(n: int) -> Problem:
    """`cauchy` of n numbers."""
    return Problem(cauchy, (_normal(n),), jax=jax.jit(lambda x: jax.numpy.log1p(x * x).mean()))


def _normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(SEED), dtype=torch.float64)


def _module(make: Callable[[], nn.Module], *inputs: Tensor, in_jax: Callable[..., Any] | None = None) -> Problem:
    """A module in float64, with seeded parameters."""
    return Problem(_seeded(make).double(), inputs, jax=None if in_jax is None else jax.jit(in_jax))


def _seeded(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        return make()


def _linear_jax(x: Any, w: Any, b: Any) -> Any:
    return x @ w.T + b


def _linear(width: int, batch: int) -> Problem:
    return _module(lambda: nn.Linear(width, width), _normal(batch, width), in_jax=_linear_jax)


def _mlp(width: int, batch: int) -> Problem:
    def make() -> nn.Module:
        return nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.LayerNorm(2 * width), nn.Linear(2 * width, width))

    def in_jax(x: Any, w: Any, b: Any, gain: Any, bias: Any, v: Any, c: Any) -> Any:
        h = jax.nn.gelu(_linear_jax(x, w, b), approximate=False)
        h = (h - h.mean(-1, keepdims=True)) / jax.numpy.sqrt(h.var(-1, keepdims=True) + 1e-5)
        return _linear_jax(gain * h + bias, v, c)

    return _module(make, _normal(batch, width), in_jax=in_jax)


def _conv(channels: int, size: int) -> Problem:
    return _module(lambda: nn.Conv2d(3, channels, 3), _normal(1, 3, size, size))


def _attention(width: int, heads: int, length: int) -> Problem:
    return _module(lambda: nn.MultiheadAttention(width, heads), *_normal(3, length, width))


def _lstm(inputs: int, width: int, length: int) -> Problem:
    return _module(lambda: nn.LSTM(inputs, width), _normal(length, 2, inputs))


def _logistic(inputs: int = 500, samples: int = 64) -> Problem:
    """The loss of logistic regression in NumPy, at any further axes of the weights, with its gradient by hand."""
    rng = np.random.default_rng(SEED)
    X = rng.standard_normal((samples, inputs)) * rng.choice([-1.0, 1.0], (samples, 1)) / math.sqrt(inputs)

    def logistic(w: Any) -> Any:
        return np.mean(np.log1p(np.exp(-np.tensordot(X, w, axes=1))), axis=0)

    def gradient(w: Any) -> Any:
        return -X.T @ (1 / (1 + np.exp(X @ w))) / samples

    return Problem(logistic, (rng.standard_normal(inputs),), gradient=gradient)


class Block(nn.Module):
    """A block of a GPT: causal self-attention and an MLP, each after a LayerNorm and beside a residual."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Of (batch, length, width)."""
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
        """Of whole numbers (batch, length)."""
        h: Tensor = self.head(self.norm(self.blocks(self.words(tokens) + self.places)))
        return F.cross_entropy(h[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())


def _gpt(words: int, length: int, width: int, blocks: int) -> Problem:
    """A GPT-like module in float32, with one sequence of tokens."""
    tokens = torch.randint(words, (1, length), generator=torch.Generator().manual_seed(SEED))
    return Problem(_seeded(lambda: GPT(words, length, width, blocks, width // 64)), (tokens,))


def _tiny_gpt() -> Problem:
    return _gpt(4, 3, 64, 1)


@dataclass(frozen=True)
class Target:
    """A target, and in each mode of gradcheck the rivals that are run beside it; a mode that is absent is not run.

    Attributes:
        small: one of the same kind and next to no size: a check of it loads whatever is loaded at first use.
    """

    name: str
    build: Callable[[], Problem]
    small: Callable[[], Problem]
    rivals: Mapping[str, tuple[str, ...]]


BOTH = {"full": (SLOW,), "probe": (FAST,)}
JAX_TOO = {"full": (SLOW,), "probe": (FAST, JAX)}
NUMPY = {"full": ("numdifftools.Gradient", "scipy.optimize.check_grad", "scipy.differentiate.jacobian")}
SMALL_GPT, LARGE_GPT = "GPT, 5 million parameters", "GPT, 100 million parameters"
TARGETS = (
    Target("Linear 64x64, batch 8", lambda: _linear(64, 8), lambda: _linear(2, 1), JAX_TOO),
    Target("MLP 32-64-32 (GELU, LayerNorm), batch 16", lambda: _mlp(32, 16), lambda: _mlp(2, 1), JAX_TOO),
    Target("Conv2d 3->8 on 12x12", lambda: _conv(8, 12), lambda: _conv(1, 3), BOTH),
    Target("MultiheadAttention 32x4 on 10", lambda: _attention(32, 4, 10), lambda: _attention(4, 2, 2), BOTH),
    Target("LSTM 8->16 on 5, batch 2", lambda: _lstm(8, 16, 5), lambda: _lstm(2, 2, 2), BOTH),
    Target("scalar loss, 2,048 inputs", lambda: scalar(2048), lambda: scalar(3), JAX_TOO),
    Target("scalar loss, 200,000 inputs", lambda: scalar(200_000), lambda: scalar(3), {"probe": (FAST, JAX)}),
    Target("NumPy function, 500 inputs", _logistic, lambda: _logistic(3, 4), NUMPY),
    Target("elementwise, 1e6 entries", lambda: elementwise(MILLION), lambda: elementwise(3), {"probe": (FAST, JAX)}),
    Target(SMALL_GPT, lambda: _gpt(words=512, length=32, width=256, blocks=6), _tiny_gpt, {"probe": (FAST,)}),
    Target(LARGE_GPT, lambda: _gpt(words=9728, length=64, width=768, blocks=12), _tiny_gpt, {"probe": ()}),
)


@dataclass(frozen=True)
class Judged:
    """What became of such a gradient: who judges it rightly, what gradcheck spent, and which entries it named."""

    text: str
    right: Mapping[str, bool]
    evaluations: int
    forward: int
    named: tuple[int, ...]


@dataclass(frozen=True)
class Gradient:
    """A gradient that a checker may misjudge: with a kind of fault it is wrong, without one it is right."""

    text: str
    function: Callable[[Tensor], Tensor]
    x: Callable[[], Tensor]
    kind: Kind | None
    place: int = 0

    def judged(self) -> Judged:
        """Put it through gradcheck in probe mode, with its forward calls counted, and through the others at their defaults."""
        calls, x, right = Calls(), self.x(), self.kind is None
        function = planted(lambda x: calls.seen(self.function(x)), self.kind or ZERO, float(not right), (0, self.place))
        result = gradcheck.check(function, x, mode="probe", name=self.text)
        named = tuple(e.entry[0] for c in result.comparisons if c.where for e in c.where.entries)
        forward, judges = calls.forward - calls.recorded, {PROBE: result.verdict is (Verdict.PASS if right else Verdict.FAIL)}
        for who, check in ((FAST, torch_fast), (JAX, jax_check)):
            judges[who] = check(function, [x], self.function(x)) == right
        return Judged(self.text, judges, result.evaluations, forward, named)


FACTORS = {12_345: 1.01, 500_000: 0.97, 987_654: 2.0}  # what three entries of a million are multiplied by


def _three(g: Tensor, _: Any) -> Tensor:
    changed = g.clone()
    for place, factor in FACTORS.items():
        changed[place] *= factor
    return changed


def three_of_a_million(dtype: torch.dtype) -> Gradient:
    """`silu` of a million numbers; three entries of its gradient are wrong."""
    text = f"three entries of 1e6 are wrong (by 1 %, 3 % and a factor 2), {str(dtype).removeprefix('torch.')}"
    return Gradient(text, silu, lambda: _normal(MILLION).to(dtype), Kind("three entries are wrong", on_leaf(_three)))


ZERO, ONE, SIGN, SHUFFLED = (KINDS[name] for name in ("zero", "one entry", "sign", "shuffled"))
MISJUDGED = (
    Gradient("mean over 1e5 entries: the gradient is zero", torch.mean, lambda: _normal(100_000), ZERO),
    Gradient("(1e-3 x).mean() over 1,000: the gradient is zero", lambda x: (1e-3 * x).mean(), lambda: _normal(1000), ZERO),
    Gradient("a scalar loss over 5,000: the sign is wrong", cauchy, lambda: _normal(5000), SIGN),
    Gradient("a scalar loss over 50,000: the entries are shuffled", cauchy, lambda: _normal(50_000), SHUFFLED),
    Gradient("sum of 2,000 squares: one entry is doubled", lambda x: x.square().sum(), lambda: _normal(2000).exp(), ONE, 100),
    Gradient("elementwise, 2,000 entries: one is doubled", silu, lambda: _normal(2000), ONE, 7),
    *(three_of_a_million(dtype) for dtype in (torch.float64, torch.float32)),
    Gradient("elementwise in float32: right", silu, lambda: _normal(1000).float(), None),
    Gradient("1/x of 1,000 numbers of size 1e-4: right", torch.reciprocal, lambda: 1e-4 * _normal(1000), None),
)
