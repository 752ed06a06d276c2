"""Scalar functions whose derivatives are known: the cases of the accuracy study.

Each formula is written once and evaluated twice: by NumPy, in float64 or float32, and by mpmath. The true derivative is
mpmath's, at 60 digits, at the same float that NumPy is given. Constants are small integers and dyadic fractions, exact in every
precision, so that NumPy's values differ from the formula's by rounding alone.
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

from gradcheck.backends.flat import EPS

Float64 = NDArray[np.float64]
DIGITS = 60  # decimal digits of mpmath's derivatives
NEAREST = 1e-12  # the smallest distance to a border, a kink or a jump that is drawn
SPAN = 12.0  # the scales of x and f are drawn up to this many decades above and below 1
NOISES = (1e-12, 1e-10, 1e-8, 1e-6, 1e-4)  # standard deviations of the noise added, relative to |f(x)|
ELEMENTARY = ("exp", "sin", "cos", "tan", "sinh", "cosh", "tanh", "sqrt", "log", "log1p", "expm1")
ARCS = ("sin", "cos", "tan", "sinh", "cosh", "tanh")
SPECIAL = ("erf", "gammaln", "digamma", "j0")
NUMPY = SimpleNamespace(
    **{name: getattr(np, name) for name in (*ELEMENTARY, *(f"arc{name}" for name in ARCS))},
    **{name: getattr(special, name) for name in SPECIAL},
)
MPMATH = SimpleNamespace(
    **{name: getattr(mpmath, name) for name in ELEMENTARY},
    **{f"arc{name}": getattr(mpmath, f"a{name}") for name in ARCS},
    erf=mpmath.erf,
    digamma=mpmath.digamma,
    gammaln=mpmath.loggamma,
    j0=lambda x: mpmath.besselj(0, x),
)


@dataclass(frozen=True)
class SmoothFunction:
    """A smooth function and the interval of its points, drawn log-uniformly if the interval spans two decades."""

    name: str
    formula: Callable[[Any, Any], Any]
    low: float
    high: float

    def draw(self, rng: np.random.Generator) -> float:
        """Draw a point of the interval."""
        if self.low > 0 and self.high >= 100 * self.low:
            return float(np.exp(rng.uniform(math.log(self.low), math.log(self.high))))
        return float(rng.uniform(self.low, self.high))


@dataclass(frozen=True)
class BorderedFunction:
    """A function that exists on one side of a border, with its slope on the border if it has one.

    Attributes:
        inside: 1 if the function exists above the border, -1 if it exists below.
    """

    name: str
    formula: Callable[[Any, Any], Any]
    border: float
    inside: int
    slope: float | None = None


@dataclass(frozen=True)
class Case:
    """One derivative that is known.

    Attributes:
        condition: what is difficult about the case, such as noise or a border.
        function: maps float64 to float64, elementwise.
        exact: the derivative at `x`, correctly rounded.
        eps: machine epsilon of the dtype that the function computes in.
    """

    condition: str
    name: str
    function: Callable[[Float64], Float64]
    x: float
    exact: float
    eps: float = EPS["float64"]


def _horner(m: Any, x: Any) -> Any:
    """Evaluate the expanded (x - 1)^7, whose terms cancel near 1."""
    del m
    total = 0 * x
    for k in range(8):
        total = total * x + (-1) ** k * math.comb(7, k)
    return total


def _logistic_map(m: Any, x: Any) -> Any:
    """Evaluate eight steps of a chaotic recurrence."""
    del m
    for _ in range(8):
        x = 3.75 * x * (1 - x)
    return x


def _chebyshev(m: Any, x: Any) -> Any:
    """Evaluate the Chebyshev polynomial T_20 by its recurrence."""
    del m
    before, now = 1 + 0 * x, x
    for _ in range(19):
        before, now = now, 2 * x * now - before
    return now


def _newton(m: Any, x: Any) -> Any:
    """Compute the cube root by Newton's iteration, to convergence."""
    del m
    y = 1 + x / 4
    for _ in range(12):
        y = (2 * y + x / (y * y)) / 3
    return y


SMOOTH_FUNCTIONS = (
    SmoothFunction("3x^2-2x+1", lambda m, x: 3 * x**2 - 2 * x + 1, -3, 3),
    SmoothFunction("x^3-x", lambda m, x: x**3 - x, -2, 2),
    SmoothFunction("(x-1)...(x-5)", lambda m, x: (x - 1) * (x - 2) * (x - 3) * (x - 4) * (x - 5), 0, 6),
    SmoothFunction("(x-1)^7 expanded", _horner, 0.5, 1.5),
    SmoothFunction("x^10", lambda m, x: x**10, -2, 2),
    SmoothFunction("x^(3/2)", lambda m, x: x**1.5, 0.01, 10),
    SmoothFunction("x^(1/8)", lambda m, x: x**0.125, 0.01, 10),
    SmoothFunction("x^-3", lambda m, x: x**-3.0, 0.1, 10),
    SmoothFunction("exp(x)", lambda m, x: m.exp(x), -5, 5),
    SmoothFunction("exp(-x^2)", lambda m, x: m.exp(-(x**2)), -3, 3),
    SmoothFunction("narrow Gaussian", lambda m, x: m.exp(-128 * (x - 1) ** 2), 0.5, 1.5),
    SmoothFunction("exp(-1/x)", lambda m, x: m.exp(-1 / x), 0.05, 2),
    SmoothFunction("bump", lambda m, x: m.exp(-1 / (1 - x**2)), -0.9, 0.9),
    SmoothFunction("expm1(x)", lambda m, x: m.expm1(x), -1, 1),
    SmoothFunction("exp(x)-1", lambda m, x: m.exp(x) - 1, -0.01, 0.01),
    SmoothFunction("(exp(x)-1)/x", lambda m, x: (m.exp(x) - 1) / x, 1e-3, 1),
    SmoothFunction("log(x)", lambda m, x: m.log(x), 0.01, 10),
    SmoothFunction("log1p(x)", lambda m, x: m.log1p(x), -0.9, 3),
    SmoothFunction("x log(x)", lambda m, x: x * m.log(x), 0.01, 10),
    SmoothFunction("log(log(x))", lambda m, x: m.log(m.log(x)), 1.01, 5),
    SmoothFunction("sqrt(log(x))", lambda m, x: m.sqrt(m.log(x)), 1.01, 5),
    SmoothFunction("log(cosh(x))", lambda m, x: m.log(m.cosh(x)), -4, 4),
    SmoothFunction("log(1+exp(x))", lambda m, x: m.log(1 + m.exp(x)), -10, 10),
    SmoothFunction("log1p(exp(x))", lambda m, x: m.log1p(m.exp(x)), -10, 10),
    SmoothFunction("log(x+sqrt(1+x^2))", lambda m, x: m.log(x + m.sqrt(1 + x**2)), -5, 5),
    SmoothFunction("logistic", lambda m, x: 1 / (1 + m.exp(-x)), -15, 15),
    SmoothFunction("x logistic(x)", lambda m, x: x / (1 + m.exp(-x)), -10, 10),
    SmoothFunction("x^x", lambda m, x: m.exp(x * m.log(x)), 0.05, 3),
    SmoothFunction("sin(x)", lambda m, x: m.sin(x), -6, 6),
    SmoothFunction("cos(x)", lambda m, x: m.cos(x), -6, 6),
    SmoothFunction("tan(x)", lambda m, x: m.tan(x), -1.5, 1.5),
    SmoothFunction("sin(50x)", lambda m, x: m.sin(50 * x), -2, 2),
    SmoothFunction("sin(1000x)", lambda m, x: m.sin(1000 * x), 0.5, 1.5),
    SmoothFunction("cos(100x)+x^2", lambda m, x: m.cos(100 * x) + x**2, -2, 2),
    SmoothFunction("sin(1/x)", lambda m, x: m.sin(1 / x), 0.02, 1),
    SmoothFunction("x sin(1/x)", lambda m, x: x * m.sin(1 / x), 0.02, 1),
    SmoothFunction("sin(x^2)", lambda m, x: m.sin(x**2), 0, 10),
    SmoothFunction("sin(exp(x))", lambda m, x: m.sin(m.exp(x)), 0, 4),
    SmoothFunction("exp(sin(5x))", lambda m, x: m.exp(m.sin(5 * x)), -2, 2),
    SmoothFunction("exp(x)cos(20x)", lambda m, x: m.exp(x) * m.cos(20 * x), -2, 2),
    SmoothFunction("sin(x)/x", lambda m, x: m.sin(x) / x, 0.01, 10),
    SmoothFunction("(1-cos(x))/x^2", lambda m, x: (1 - m.cos(x)) / x**2, 1e-3, 1),
    SmoothFunction("sin(x)^2+cos(x)^2-x", lambda m, x: m.sin(x) ** 2 + m.cos(x) ** 2 - x, -3, 3),
    SmoothFunction("tanh(x)", lambda m, x: m.tanh(x), -5, 5),
    SmoothFunction("tanh(10 sin(x))", lambda m, x: m.tanh(10 * m.sin(x)), -3, 3),
    SmoothFunction("sinh(x)", lambda m, x: m.sinh(x), -5, 5),
    SmoothFunction("cosh(x)", lambda m, x: m.cosh(x), -5, 5),
    SmoothFunction("arcsin(x)", lambda m, x: m.arcsin(x), -0.99, 0.99),
    SmoothFunction("arccos(x)", lambda m, x: m.arccos(x), -0.99, 0.99),
    SmoothFunction("arctan(x)", lambda m, x: m.arctan(x), -5, 5),
    SmoothFunction("arctan(1000(x-1))", lambda m, x: m.arctan(1000 * (x - 1)), 0.9, 1.1),
    SmoothFunction("arcsinh(x)", lambda m, x: m.arcsinh(x), -5, 5),
    SmoothFunction("arccosh(x)", lambda m, x: m.arccosh(x), 1.01, 5),
    SmoothFunction("arctanh(x)", lambda m, x: m.arctanh(x), -0.99, 0.99),
    SmoothFunction("1/x", lambda m, x: 1 / x, 0.01, 10),
    SmoothFunction("1/(x-1) beside its pole", lambda m, x: 1 / (x - 1), 1.0001, 1.1),
    SmoothFunction("Runge", lambda m, x: 1 / (1 + 25 * x**2), -1, 1),
    SmoothFunction("(x^3-2)/(x^2+3)", lambda m, x: (x**3 - 2) / (x**2 + 3), -4, 4),
    SmoothFunction("(x^2-1)/(x-1)", lambda m, x: (x**2 - 1) / (x - 1), 1.001, 3),
    SmoothFunction("sqrt(x^2+1)-x", lambda m, x: m.sqrt(x**2 + 1) - x, 1, 100),
    SmoothFunction("sqrt(1+sqrt(1+x))", lambda m, x: m.sqrt(1 + m.sqrt(1 + x)), 0, 5),
    SmoothFunction("1024+sin(x)", lambda m, x: 1024 + m.sin(x), -3, 3),
    SmoothFunction("erf(x)", lambda m, x: m.erf(x), -3, 3),
    SmoothFunction("x(1+erf(3x/4))/2", lambda m, x: x * (1 + m.erf(0.75 * x)) / 2, -4, 4),
    SmoothFunction("log gamma", lambda m, x: m.gammaln(x), 0.05, 10),
    SmoothFunction("digamma", lambda m, x: m.digamma(x), 0.1, 10),
    SmoothFunction("Bessel J0", lambda m, x: m.j0(x), 0.1, 20),
    SmoothFunction("Chebyshev T20", _chebyshev, -1, 1),
    SmoothFunction("cube root by Newton", _newton, 0.1, 8),
    SmoothFunction("logistic map, 8 steps", _logistic_map, 0.05, 0.95),
)

BORDERED_FUNCTIONS = (
    BorderedFunction("sqrt(x)", lambda m, x: m.sqrt(x), 0, 1),
    BorderedFunction("sqrt(x-1)", lambda m, x: m.sqrt(x - 1), 1, 1),
    BorderedFunction("sqrt(2-x)", lambda m, x: m.sqrt(2 - x), 2, -1),
    BorderedFunction("sqrt(1-x^2)", lambda m, x: m.sqrt(1 - x**2), 1, -1),
    BorderedFunction("1/sqrt(x-1)", lambda m, x: 1 / m.sqrt(x - 1), 1, 1),
    BorderedFunction("log(x)", lambda m, x: m.log(x), 0, 1),
    BorderedFunction("log(x-1)", lambda m, x: m.log(x - 1), 1, 1),
    BorderedFunction("log1p(x)", lambda m, x: m.log1p(x), -1, 1),
    BorderedFunction("x log(x)", lambda m, x: x * m.log(x), 0, 1),
    BorderedFunction("log(-log(x))", lambda m, x: m.log(-m.log(x)), 1, -1),
    BorderedFunction("x^x", lambda m, x: m.exp(x * m.log(x)), 0, 1),
    BorderedFunction("x^(1/8)", lambda m, x: x**0.125, 0, 1),
    BorderedFunction("(x-1)^(1/4)", lambda m, x: (x - 1) ** 0.25, 1, 1),
    BorderedFunction("arcsin(x)", lambda m, x: m.arcsin(x), 1, -1),
    BorderedFunction("arccos(x)", lambda m, x: m.arccos(x), -1, 1),
    BorderedFunction("arctanh(x)", lambda m, x: m.arctanh(x), 1, -1),
    BorderedFunction("arccosh(x)", lambda m, x: m.arccosh(x), 1, 1),
    BorderedFunction("log gamma", lambda m, x: m.gammaln(x), 0, 1),
    BorderedFunction("x^(3/2)", lambda m, x: x**1.5, 0, 1, 0.0),
    BorderedFunction("2x+x^(3/2)", lambda m, x: 2 * x + x**1.5, 0, 1, 2.0),
    BorderedFunction("(x-1)^(3/2)", lambda m, x: (x - 1) ** 1.5, 1, 1, 0.0),
    BorderedFunction("x-(1-x)^(3/2)", lambda m, x: x - (1 - x) ** 1.5, 1, -1, 1.0),
    BorderedFunction("x+(x-1)^(5/2)", lambda m, x: x + (x - 1) ** 2.5, 1, 1, 1.0),
    BorderedFunction("cos(sqrt(x))", lambda m, x: m.cos(m.sqrt(x)), 0, 1, -0.5),
    BorderedFunction("sinh(sqrt(x))^2", lambda m, x: m.sinh(m.sqrt(x)) ** 2, 0, 1, 1.0),
    BorderedFunction("arccos(x)^2", lambda m, x: m.arccos(x) ** 2, 1, -1, -2.0),
)


def compute_derivative(formula: Callable[[Any, Any], Any], x: Any) -> Any:
    """Compute a derivative by mpmath at a number that mpmath represents exactly."""
    with mpmath.workdps(DIGITS):
        return mpmath.re(mpmath.diff(lambda t: formula(MPMATH, t), mpmath.mpf(x)))


def make_smooth_cases(rng: np.random.Generator, each: int) -> Iterator[Case]:
    """Yield every smooth function at `each` points under every condition but those of a border."""
    for f in SMOOTH_FUNCTIONS:
        for _ in range(each):
            yield from _float64_cases(f, f.draw(rng), float(10 ** rng.uniform(-SPAN, SPAN)))
            yield _float32_case(f, float(np.float32(f.draw(rng))))
            yield _scaled_input_case(f, f.draw(rng), float(10 ** rng.uniform(-SPAN, SPAN)))


def _float64_cases(f: SmoothFunction, x: float, scale: float) -> Iterator[Case]:
    exact = compute_derivative(f.formula, x)

    def function(t: Float64) -> Float64:
        return np.asarray(f.formula(NUMPY, t))

    yield Case("float64", f.name, function, x, float(exact))
    size = abs(float(function(np.array(x)))) or 1.0
    for noise in NOISES:
        yield Case(f"noise {noise:.0e}", f.name, add_noise(function, noise * size), x, float(exact))
    yield Case("scale of f", f.name, lambda t: scale * function(t), x, float(exact * mpmath.mpf(scale)))


def _float32_case(f: SmoothFunction, x: float) -> Case:
    def function(t: Float64) -> Float64:
        return np.asarray(f.formula(NUMPY, np.asarray(t).astype(np.float32)), dtype=np.float64)

    return Case("float32", f.name, function, x, float(compute_derivative(f.formula, x)), EPS["float32"])


def _scaled_input_case(f: SmoothFunction, x: float, scale: float) -> Case:
    x = x * scale
    with mpmath.workdps(DIGITS):
        exact = compute_derivative(f.formula, mpmath.mpf(x) / mpmath.mpf(scale)) / mpmath.mpf(scale)
    return Case("scale of x", f.name, lambda t: np.asarray(f.formula(NUMPY, t / scale)), x, float(exact))


def add_noise(function: Callable[[Float64], Float64], size: float) -> Callable[[Float64], Float64]:
    """Add noise of standard deviation `size` to a function: the bits of x, hashed by splitmix64, as a number in [-1, 1)."""

    def with_noise(t: Float64) -> Float64:
        z = np.array(t, dtype=np.float64).view(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        draw = ((z ^ (z >> np.uint64(31))) >> np.uint64(11)) * 2.0**-52 - 1
        return np.asarray(function(t) + math.sqrt(3) * size * draw)

    return with_noise


def make_bordered_cases(rng: np.random.Generator, each: int) -> Iterator[Case]:
    """Yield `each` points at log-uniform distances from the border of a domain, and the border itself if it has a slope."""
    for f in BORDERED_FUNCTIONS:

        def function(t: Float64, f: BorderedFunction = f) -> Float64:
            return np.asarray(f.formula(NUMPY, t))

        if f.slope is not None:
            yield Case("on a border", f.name, function, float(f.border), f.slope)
        for _ in range(each):
            x = f.border + f.inside * draw_distance(rng)
            if x != f.border:
                yield Case("beside a border", f.name, function, x, float(compute_derivative(f.formula, x)))


def draw_distance(rng: np.random.Generator) -> float:
    """Draw a distance between `NEAREST` and 1, log-uniformly."""
    return float(10 ** rng.uniform(math.log10(NEAREST), 0))
