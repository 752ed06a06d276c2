"""Custom derivatives of JAX with a fault planted in them: what the study of JAX functions wants to see caught."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import nn

Function = Callable[..., Any]


@dataclass(frozen=True)
class Problem:
    """A function, its input's shape, and a version of it of whose derivative a term is missing."""

    name: str
    function: Function
    shape: tuple[int, ...]
    lacking: Function


def rms(x: Any, scale: Any) -> Any:
    """RMS norm, by a scale that is given."""
    return x / scale


def norm_of(x: Any) -> Any:
    """The root of the mean square of each row."""
    return jnp.sqrt(jnp.mean(x**2, axis=-1, keepdims=True) + 1e-6)


PROBLEMS = (
    Problem("sin(x) x, 12", lambda x: jnp.sin(x) * x, (4, 3), lambda x: jnp.sin(x) * jax.lax.stop_gradient(x)),
    Problem("tanh, 500", jnp.tanh, (500,), lambda x: x - jax.lax.stop_gradient(x) + jnp.tanh(x)),
    Problem("softmax, 8 x 16", lambda x: nn.softmax(x), (8, 16),
            lambda x: jnp.exp(x) / jax.lax.stop_gradient(jnp.exp(x).sum(-1, keepdims=True))),
    Problem("RMS norm, 16 x 64", lambda x: rms(x, norm_of(x)), (16, 64), lambda x: rms(x, jax.lax.stop_gradient(norm_of(x)))),
    Problem("mean square of 10,000", lambda x: jnp.mean(x**2), (10_000,), lambda x: jnp.mean(x * jax.lax.stop_gradient(x))),
    Problem("log det of x x' + 1, 6 x 6", lambda x: jnp.linalg.slogdet(x @ x.T + jnp.eye(6))[1], (6, 6),
            lambda x: jnp.linalg.slogdet(x @ jax.lax.stop_gradient(x).T + jnp.eye(6))[1]),
)  # fmt: skip

Spoil = Callable[[Any, Any], Any]  # (what the right rule returns, the same without a term) -> what the planted one returns
FAULTS: dict[str, Spoil] = {
    "none": lambda right, lacking: right,
    "zero": lambda right, lacking: jnp.zeros_like(right),
    "sign": lambda right, lacking: -right,
    "factor 2": lambda right, lacking: 2 * right,
    "factor 1.01": lambda right, lacking: 1.01 * right,
    "a term is missing": lambda right, lacking: lacking,
    "rolled by one": lambda right, lacking: jnp.roll(right, 1) if right.ndim else right,
    "one entry zero": lambda right, lacking: right.ravel().at[0].set(0).reshape(right.shape),
}
VALUE = "another value, by 1 %"


@dataclass(frozen=True)
class Planted:
    """A custom rule with a fault."""

    problem: Problem
    rule: str
    fault: str

    def function(self) -> Function:
        """The function with its rule."""
        return (_by_vjp if self.rule == "custom_vjp" else _by_jvp)(self)

    def input(self, dtype: str) -> Any:
        """What it is checked on."""
        rng = np.random.default_rng(sum(map(ord, self.problem.name)))
        return jnp.array(rng.normal(size=self.problem.shape), dtype=dtype)


def planted() -> Iterator[Planted]:
    """Every fault in every rule; a scalar's tangent has no place to be rolled to, and no entry beside others."""
    for problem in PROBLEMS:
        for rule in ("custom_vjp", "custom_jvp"):
            scalar = rule == "custom_jvp" and problem.name.startswith(("mean", "log det"))
            for fault in (*FAULTS, VALUE):
                if not (scalar and fault in ("rolled by one", "one entry zero")):
                    yield Planted(problem, rule, fault)


def _by_vjp(one: Planted) -> Function:
    made = jax.custom_vjp(one.problem.function)

    def forward(x: Any) -> Any:
        value = one.problem.function(x)
        return (1.01 * value if one.fault == VALUE else value), x

    def backward(x: Any, v: Any) -> Any:
        right, lacking = (jax.vjp(f, x)[1](v)[0] for f in (one.problem.function, one.problem.lacking))
        return (FAULTS.get(one.fault, FAULTS["none"])(right, lacking),)

    made.defvjp(forward, backward)
    return made


def _by_jvp(one: Planted) -> Function:
    made = jax.custom_jvp(one.problem.function)

    def rule(primals: Any, tangents: Any) -> Any:
        value, right = jax.jvp(one.problem.function, primals, tangents)
        lacking = jax.jvp(one.problem.lacking, primals, tangents)[1]
        return (1.01 * value if one.fault == VALUE else value), FAULTS.get(one.fault, FAULTS["none"])(right, lacking)

    made.defjvp(rule)
    return made
