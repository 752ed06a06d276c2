"""A catalogue of scalar functions whose derivatives are known: the cases of the accuracy study.

Each formula is written once and evaluated twice: by NumPy, in float64 or float32, and by mpmath, whose derivative at 60
digits, at the very float that NumPy is given, is the truth. Constants are small whole numbers and dyadic fractions, the same
number in every precision; so NumPy's values differ from the formula's by rounding alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import mpmath
import numpy as np
from numpy.typing import NDArray
from scipy import special

F64 = NDArray[np.float64]
DIGITS = 60
NEAREST = 1e-12  # the smallest distance to a border, a kink or a jump that is drawn
SPAN = 12.0  # decades of the scales of x and f, either way
NOISES = (1e-12, 1e-10, 1e-8, 1e-6, 1e-4)
PLAIN = ("exp", "sin", "cos", "tan", "sinh", "cosh", "tanh", "sqrt", "log", "log1p", "expm1")
ARCS = ("sin", "cos", "tan", "sinh", "cosh", "tanh")
SPECIAL = ("erf", "gammaln", "digamma", "j0")
FAST = SimpleNamespace(
    **{name: getattr(np, name) for name in (*PLAIN, *(f"arc{name}" for name in ARCS))},
    **{name: getattr(special, name) for name in SPECIAL},
)
EXACT = SimpleNamespace(
    **{name: getattr(mpmath, name) for name in PLAIN},
    **{f"arc{name}": getattr(mpmath, f"a{name}") for name in ARCS},
    erf=mpmath.erf,
    digamma=mpmath.digamma,
    gammaln=mpmath.loggamma,
    j0=lambda x: mpmath.besselj(0, x),
)


@dataclass(frozen=True)
class Smooth:
    """A smooth function, and where it is looked at: log-uniformly where the interval spans two decades."""

    name: str
    formula: Callable[[Any, Any], Any]
    low: float
    high: float

    def draw(self, rng: np.random.Generator) -> float:
        """A point of the interval."""
        if self.low > 0 and self.high >= 100 * self.low:
            return float(np.exp(rng.uniform(math.log(self.low), math.log(self.high))))
        return float(rng.uniform(self.low, self.high))


@dataclass(frozen=True)
class Bordered:
    """A function that exists on one side of a border, and its slope there where it has one."""

    name: str
    formula: Callable[[Any, Any], Any]
    border: float
    inside: int
    slope: float | None = None


@dataclass(frozen=True)
class Case:
    """One derivative that is known.

    Attributes:
        function: float64 to float64, elementwise; what it computes in is `eps`.
        exact: the derivative at `x`, correctly rounded.
    """

    condition: str
    name: str
    function: Callable[[F64], F64]
    x: float
    exact: float
    eps: float = 2.0**-52


def _horner(m: Any, x: Any) -> Any:
    """The expanded (x - 1)^7: near 1 all of it cancels."""
    del m
    total = 0 * x
    for k in range(8):
        total = total * x + (-1) ** k * math.comb(7, k)
    return total


def _logistic_map(m: Any, x: Any) -> Any:
    """Eight steps of a chaotic recurrence."""
    del m
    for _ in range(8):
        x = 3.75 * x * (1 - x)
    return x


def _chebyshev(m: Any, x: Any) -> Any:
    """T_20 by its recurrence."""
    del m
    before, now = 1 + 0 * x, x
    for _ in range(19):
        before, now = now, 2 * x * now - before
    return now


def _newton(m: Any, x: Any) -> Any:
    """The cube root by Newton's iteration, to convergence."""
    del m
    y = 1 + x / 4
    for _ in range(12):
        y = (2 * y + x / (y * y)) / 3
    return y


SMOOTH = (
    Smooth("3x^2-2x+1", lambda m, x: 3 * x**2 - 2 * x + 1, -3, 3),
    Smooth("x^3-x", lambda m, x: x**3 - x, -2, 2),
    Smooth("(x-1)...(x-5)", lambda m, x: (x - 1) * (x - 2) * (x - 3) * (x - 4) * (x - 5), 0, 6),
    Smooth("(x-1)^7 expanded", _horner, 0.5, 1.5),
    Smooth("x^10", lambda m, x: x**10, -2, 2),
    Smooth("x^(3/2)", lambda m, x: x**1.5, 0.01, 10),
    Smooth("x^(1/8)", lambda m, x: x**0.125, 0.01, 10),
    Smooth("x^-3", lambda m, x: x**-3.0, 0.1, 10),
    Smooth("exp(x)", lambda m, x: m.exp(x), -5, 5),
    Smooth("exp(-x^2)", lambda m, x: m.exp(-(x**2)), -3, 3),
    Smooth("narrow Gaussian", lambda m, x: m.exp(-128 * (x - 1) ** 2), 0.5, 1.5),
    Smooth("exp(-1/x)", lambda m, x: m.exp(-1 / x), 0.05, 2),
    Smooth("bump", lambda m, x: m.exp(-1 / (1 - x**2)), -0.9, 0.9),
    Smooth("expm1(x)", lambda m, x: m.expm1(x), -1, 1),
    Smooth("exp(x)-1", lambda m, x: m.exp(x) - 1, -0.01, 0.01),
    Smooth("(exp(x)-1)/x", lambda m, x: (m.exp(x) - 1) / x, 1e-3, 1),
    Smooth("log(x)", lambda m, x: m.log(x), 0.01, 10),
    Smooth("log1p(x)", lambda m, x: m.log1p(x), -0.9, 3),
    Smooth("x log(x)", lambda m, x: x * m.log(x), 0.01, 10),
    Smooth("log(log(x))", lambda m, x: m.log(m.log(x)), 1.01, 5),
    Smooth("sqrt(log(x))", lambda m, x: m.sqrt(m.log(x)), 1.01, 5),
    Smooth("log(cosh(x))", lambda m, x: m.log(m.cosh(x)), -4, 4),
    Smooth("log(1+exp(x))", lambda m, x: m.log(1 + m.exp(x)), -10, 10),
    Smooth("log1p(exp(x))", lambda m, x: m.log1p(m.exp(x)), -10, 10),
    Smooth("log(x+sqrt(1+x^2))", lambda m, x: m.log(x + m.sqrt(1 + x**2)), -5, 5),
    Smooth("logistic", lambda m, x: 1 / (1 + m.exp(-x)), -15, 15),
    Smooth("x logistic(x)", lambda m, x: x / (1 + m.exp(-x)), -10, 10),
    Smooth("x^x", lambda m, x: m.exp(x * m.log(x)), 0.05, 3),
    Smooth("sin(x)", lambda m, x: m.sin(x), -6, 6),
    Smooth("cos(x)", lambda m, x: m.cos(x), -6, 6),
    Smooth("tan(x)", lambda m, x: m.tan(x), -1.5, 1.5),
    Smooth("sin(50x)", lambda m, x: m.sin(50 * x), -2, 2),
    Smooth("sin(1000x)", lambda m, x: m.sin(1000 * x), 0.5, 1.5),
    Smooth("cos(100x)+x^2", lambda m, x: m.cos(100 * x) + x**2, -2, 2),
    Smooth("sin(1/x)", lambda m, x: m.sin(1 / x), 0.02, 1),
    Smooth("x sin(1/x)", lambda m, x: x * m.sin(1 / x), 0.02, 1),
    Smooth("sin(x^2)", lambda m, x: m.sin(x**2), 0, 10),
    Smooth("sin(exp(x))", lambda m, x: m.sin(m.exp(x)), 0, 4),
    Smooth("exp(sin(5x))", lambda m, x: m.exp(m.sin(5 * x)), -2, 2),
    Smooth("exp(x)cos(20x)", lambda m, x: m.exp(x) * m.cos(20 * x), -2, 2),
    Smooth("sin(x)/x", lambda m, x: m.sin(x) / x, 0.01, 10),
    Smooth("(1-cos(x))/x^2", lambda m, x: (1 - m.cos(x)) / x**2, 1e-3, 1),
    Smooth("sin(x)^2+cos(x)^2-x", lambda m, x: m.sin(x) ** 2 + m.cos(x) ** 2 - x, -3, 3),
    Smooth("tanh(x)", lambda m, x: m.tanh(x), -5, 5),
    Smooth("tanh(10 sin(x))", lambda m, x: m.tanh(10 * m.sin(x)), -3, 3),
    Smooth("sinh(x)", lambda m, x: m.sinh(x), -5, 5),
    Smooth("cosh(x)", lambda m, x: m.cosh(x), -5, 5),
    Smooth("arcsin(x)", lambda m, x: m.arcsin(x), -0.99, 0.99),
    Smooth("arccos(x)", lambda m, x: m.arccos(x), -0.99, 0.99),
    Smooth("arctan(x)", lambda m, x: m.arctan(x), -5, 5),
    Smooth("arctan(1000(x-1))", lambda m, x: m.arctan(1000 * (x - 1)), 0.9, 1.1),
    Smooth("arcsinh(x)", lambda m, x: m.arcsinh(x), -5, 5),
    Smooth("arccosh(x)", lambda m, x: m.arccosh(x), 1.01, 5),
    Smooth("arctanh(x)", lambda m, x: m.arctanh(x), -0.99, 0.99),
    Smooth("1/x", lambda m, x: 1 / x, 0.01, 10),
    Smooth("1/(x-1) beside its pole", lambda m, x: 1 / (x - 1), 1.0001, 1.1),
    Smooth("Runge", lambda m, x: 1 / (1 + 25 * x**2), -1, 1),
    Smooth("(x^3-2)/(x^2+3)", lambda m, x: (x**3 - 2) / (x**2 + 3), -4, 4),
    Smooth("(x^2-1)/(x-1)", lambda m, x: (x**2 - 1) / (x - 1), 1.001, 3),
    Smooth("sqrt(x^2+1)-x", lambda m, x: m.sqrt(x**2 + 1) - x, 1, 100),
    Smooth("sqrt(1+sqrt(1+x))", lambda m, x: m.sqrt(1 + m.sqrt(1 + x)), 0, 5),
    Smooth("1024+sin(x)", lambda m, x: 1024 + m.sin(x), -3, 3),
    Smooth("erf(x)", lambda m, x: m.erf(x), -3, 3),
    Smooth("x(1+erf(3x/4))/2", lambda m, x: x * (1 + m.erf(0.75 * x)) / 2, -4, 4),
    Smooth("log gamma", lambda m, x: m.gammaln(x), 0.05, 10),
    Smooth("digamma", lambda m, x: m.digamma(x), 0.1, 10),
    Smooth("Bessel J0", lambda m, x: m.j0(x), 0.1, 20),
    Smooth("Chebyshev T20", _chebyshev, -1, 1),
    Smooth("cube root by Newton", _newton, 0.1, 8),
    Smooth("logistic map, 8 steps", _logistic_map, 0.05, 0.95),
)

BORDERED = (
    Bordered("sqrt(x)", lambda m, x: m.sqrt(x), 0, 1),
    Bordered("sqrt(x-1)", lambda m, x: m.sqrt(x - 1), 1, 1),
    Bordered("sqrt(2-x)", lambda m, x: m.sqrt(2 - x), 2, -1),
    Bordered("sqrt(1-x^2)", lambda m, x: m.sqrt(1 - x**2), 1, -1),
    Bordered("1/sqrt(x-1)", lambda m, x: 1 / m.sqrt(x - 1), 1, 1),
    Bordered("log(x)", lambda m, x: m.log(x), 0, 1),
    Bordered("log(x-1)", lambda m, x: m.log(x - 1), 1, 1),
    Bordered("log1p(x)", lambda m, x: m.log1p(x), -1, 1),
    Bordered("x log(x)", lambda m, x: x * m.log(x), 0, 1),
    Bordered("log(-log(x))", lambda m, x: m.log(-m.log(x)), 1, -1),
    Bordered("x^x", lambda m, x: m.exp(x * m.log(x)), 0, 1),
    Bordered("x^(1/8)", lambda m, x: x**0.125, 0, 1),
    Bordered("(x-1)^(1/4)", lambda m, x: (x - 1) ** 0.25, 1, 1),
    Bordered("arcsin(x)", lambda m, x: m.arcsin(x), 1, -1),
    Bordered("arccos(x)", lambda m, x: m.arccos(x), -1, 1),
    Bordered("arctanh(x)", lambda m, x: m.arctanh(x), 1, -1),
    Bordered("arccosh(x)", lambda m, x: m.arccosh(x), 1, 1),
    Bordered("log gamma", lambda m, x: m.gammaln(x), 0, 1),
    Bordered("x^(3/2)", lambda m, x: x**1.5, 0, 1, 0.0),
    Bordered("2x+x^(3/2)", lambda m, x: 2 * x + x**1.5, 0, 1, 2.0),
    Bordered("(x-1)^(3/2)", lambda m, x: (x - 1) ** 1.5, 1, 1, 0.0),
    Bordered("x-(1-x)^(3/2)", lambda m, x: x - (1 - x) ** 1.5, 1, -1, 1.0),
    Bordered("x+(x-1)^(5/2)", lambda m, x: x + (x - 1) ** 2.5, 1, 1, 1.0),
    Bordered("cos(sqrt(x))", lambda m, x: m.cos(m.sqrt(x)), 0, 1, -0.5),
    Bordered("sinh(sqrt(x))^2", lambda m, x: m.sinh(m.sqrt(x)) ** 2, 0, 1, 1.0),
    Bordered("arccos(x)^2", lambda m, x: m.arccos(x) ** 2, 1, -1, -2.0),
)


def slope(formula: Callable[[Any, Any], Any], x: Any) -> Any:
    """The derivative by mpmath at a number that it holds exactly."""
    with mpmath.workdps(DIGITS):
        return mpmath.re(mpmath.diff(lambda t: formula(EXACT, t), mpmath.mpf(x)))


def smooth_cases(rng: np.random.Generator, each: int) -> Iterator[Case]:
    """Every smooth function at `each` points under every condition but the border's."""
    for f in SMOOTH:
        for _ in range(each):
            yield from _wide(f, f.draw(rng), float(10 ** rng.uniform(-SPAN, SPAN)))
            yield _narrow(f, float(np.float32(f.draw(rng))))
            yield _stretched(f, f.draw(rng), float(10 ** rng.uniform(-SPAN, SPAN)))


def _wide(f: Smooth, x: float, scale: float) -> Iterator[Case]:
    exact = slope(f.formula, x)

    def function(t: F64) -> F64:
        return np.asarray(f.formula(FAST, t))

    yield Case("float64", f.name, function, x, float(exact))
    size = abs(float(function(np.array(x)))) or 1.0
    for noise in NOISES:
        yield Case(f"noise {noise:.0e}", f.name, noisy(function, noise * size), x, float(exact))
    yield Case("scale of f", f.name, lambda t: scale * function(t), x, float(exact * mpmath.mpf(scale)))


def _narrow(f: Smooth, x: float) -> Case:
    def function(t: F64) -> F64:
        return np.asarray(f.formula(FAST, np.asarray(t).astype(np.float32)), dtype=np.float64)

    return Case("float32", f.name, function, x, float(slope(f.formula, x)), 2.0**-23)


def _stretched(f: Smooth, x: float, scale: float) -> Case:
    x = x * scale
    with mpmath.workdps(DIGITS):
        exact = slope(f.formula, mpmath.mpf(x) / mpmath.mpf(scale)) / mpmath.mpf(scale)
    return Case("scale of x", f.name, lambda t: np.asarray(f.formula(FAST, t / scale)), x, float(exact))


def noisy(function: Callable[[F64], F64], size: float) -> Callable[[F64], F64]:
    """A function with noise of standard deviation `size`: the bits of x, hashed (splitmix64), as a number in [-1, 1)."""

    def with_noise(t: F64) -> F64:
        z = np.array(t, dtype=np.float64).view(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        draw = ((z ^ (z >> np.uint64(31))) >> np.uint64(11)) * 2.0**-52 - 1
        return np.asarray(function(t) + math.sqrt(3) * size * draw)

    return with_noise


def bordered_cases(rng: np.random.Generator, each: int) -> Iterator[Case]:
    """Points at log-uniform distances from the border of a domain, and on it where there is a slope."""
    for f in BORDERED:

        def function(t: F64, f: Bordered = f) -> F64:
            return np.asarray(f.formula(FAST, t))

        if f.slope is not None:
            yield Case("on a border", f.name, function, float(f.border), f.slope)
        for _ in range(each):
            x = f.border + f.inside * distance(rng)
            if x != f.border:
                yield Case("beside a border", f.name, function, x, float(slope(f.formula, x)))


def distance(rng: np.random.Generator) -> float:
    """A distance between 1e-12 and 1, log-uniform."""
    return float(10 ** rng.uniform(math.log10(NEAREST), 0))
