"""Custom derivative rules of JAX with an injected fault, which the study of JAX functions expects to be caught."""

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
    """A function, its input's shape, and a version of it whose derivative lacks a term."""

    name: str
    function: Function
    shape: tuple[int, ...]
    incomplete: Function


def divide_by(x: Any, scale: Any) -> Any:
    """Divide by a scale."""
    return x / scale


def root_mean_square(x: Any) -> Any:
    """Compute the root of the mean square of each row."""
    return jnp.sqrt(jnp.mean(x**2, axis=-1, keepdims=True) + 1e-6)


PROBLEMS = (
    Problem("sin(x) x, 12", lambda x: jnp.sin(x) * x, (4, 3), lambda x: jnp.sin(x) * jax.lax.stop_gradient(x)),
    Problem("tanh, 500", jnp.tanh, (500,), lambda x: x - jax.lax.stop_gradient(x) + jnp.tanh(x)),
    Problem("softmax, 8 x 16", lambda x: nn.softmax(x), (8, 16),
            lambda x: jnp.exp(x) / jax.lax.stop_gradient(jnp.exp(x).sum(-1, keepdims=True))),
    Problem("RMS norm, 16 x 64", lambda x: divide_by(x, root_mean_square(x)), (16, 64),
            lambda x: divide_by(x, jax.lax.stop_gradient(root_mean_square(x)))),
    Problem("mean square of 10,000", lambda x: jnp.mean(x**2), (10_000,), lambda x: jnp.mean(x * jax.lax.stop_gradient(x))),
    Problem("log det of x x' + 1, 6 x 6", lambda x: jnp.linalg.slogdet(x @ x.T + jnp.eye(6))[1], (6, 6),
            lambda x: jnp.linalg.slogdet(x @ jax.lax.stop_gradient(x).T + jnp.eye(6))[1]),
)  # fmt: skip

Corruption = Callable[[Any, Any], Any]  # from the right derivative and from one that lacks a term to the wrong derivative
FAULTS: dict[str, Corruption] = {
    "none": lambda right, incomplete: right,
    "zero": lambda right, incomplete: jnp.zeros_like(right),
    "sign": lambda right, incomplete: -right,
    "factor 2": lambda right, incomplete: 2 * right,
    "factor 1.01": lambda right, incomplete: 1.01 * right,
    "a term is missing": lambda right, incomplete: incomplete,
    "rolled by one": lambda right, incomplete: jnp.roll(right, 1) if right.ndim else right,
    "one entry zero": lambda right, incomplete: right.ravel().at[0].set(0).reshape(right.shape),
}
WRONG_VALUE = "another value, by 1 %"


@dataclass(frozen=True)
class PlantedRule:
    """A custom rule with a fault."""

    problem: Problem
    rule: str
    fault: str

    @property
    def name(self) -> str:
        """The names of the problem, the rule and the fault, separated by bars."""
        return f"{self.problem.name}|{self.rule}|{self.fault}"

    def function(self) -> Function:
        """Make the function with its custom rule."""
        return (_make_custom_vjp if self.rule == "custom_vjp" else _make_custom_jvp)(self)

    def input(self, dtype: str) -> Any:
        """Draw the input on which it is checked."""
        rng = np.random.default_rng(sum(map(ord, self.problem.name)))
        return jnp.array(rng.normal(size=self.problem.shape), dtype=dtype)


def make_rules() -> Iterator[PlantedRule]:
    """Yield every fault in every rule, but no fault that moves or removes an entry of a scalar tangent."""
    for problem in PROBLEMS:
        for rule in ("custom_vjp", "custom_jvp"):
            scalar = rule == "custom_jvp" and problem.name.startswith(("mean", "log det"))
            for fault in (*FAULTS, WRONG_VALUE):
                if not (scalar and fault in ("rolled by one", "one entry zero")):
                    yield PlantedRule(problem, rule, fault)


def _make_custom_vjp(planted: PlantedRule) -> Function:
    function = jax.custom_vjp(planted.problem.function)

    def forward(x: Any) -> Any:
        value = planted.problem.function(x)
        return (1.01 * value if planted.fault == WRONG_VALUE else value), x

    def backward(x: Any, v: Any) -> Any:
        right, incomplete = (jax.vjp(f, x)[1](v)[0] for f in (planted.problem.function, planted.problem.incomplete))
        return (FAULTS.get(planted.fault, FAULTS["none"])(right, incomplete),)

    function.defvjp(forward, backward)
    return function


def _make_custom_jvp(planted: PlantedRule) -> Function:
    function = jax.custom_jvp(planted.problem.function)

    def rule(primals: Any, tangents: Any) -> Any:
        value, right = jax.jvp(planted.problem.function, primals, tangents)
        incomplete = jax.jvp(planted.problem.incomplete, primals, tangents)[1]
        return (1.01 * value if planted.fault == WRONG_VALUE else value), FAULTS.get(planted.fault, FAULTS["none"])(
            right, incomplete
        )

    function.defjvp(rule)
    return function
