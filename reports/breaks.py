"""Kinks and jumps, and right and wrong claims about them: the other cases of the accuracy study."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from known import distance
from page import table

import gradcheck
from gradcheck import Reason, Verdict
from gradcheck.evidence import directions
from gradcheck.verdict.interval import UNSEEN

POINTS = 36  # of a function, beside its kink or jump; and one on it for every three of them
EPS = 2.0**-52
BANDS = (0.0, 1e-12, 1e-9, 1e-6, 1e-3, 1.0)  # of the distance


@dataclass(frozen=True)
class Broken:
    """A function of x and u = x - c that has a kink or a jump at u = 0, with its slopes on either side."""

    name: str
    value: Callable[[Any, Any], Any]
    left: Callable[[Any, Any], Any]
    right: Callable[[Any, Any], Any]
    jumps: bool = False


@dataclass(frozen=True)
class Break:
    """A function looked at beside a kink or a jump (`gap` away), or on it, with right and wrong claims by name."""

    function: Broken
    x: float
    c: float
    right: dict[str, float]
    wrong: dict[str, float]

    @property
    def gap(self) -> float:
        """The distance."""
        return abs(self.x - self.c)


@dataclass(frozen=True)
class Held:
    """One claim held against a function with a kink or a jump."""

    at: Break
    claim: str
    value: float
    is_right: bool
    verdict: Verdict
    reason: Reason
    resolution: float

    @property
    def off(self) -> float:
        """How far a claim is from the nearest right one, relative to the larger; infinite where none is right."""
        near = min(self.at.right.values(), key=lambda r: abs(r - self.value), default=math.inf)
        return math.inf if math.isinf(near) else abs(near - self.value) / max(abs(near), abs(self.value), 5e-324)

    @property
    def violates(self) -> bool:
        """A right claim that fails, a wrong one that passes."""
        return self.verdict is (Verdict.FAIL if self.is_right else Verdict.PASS)


def breaks(rng: np.random.Generator) -> Iterator[Break]:
    """Points beside and on the kinks and jumps: at numbers of every kind, and with the kink or jump at the origin."""
    for f in BROKEN:
        for k in range(POINTS):
            side = rng.choice([-1, 1])
            c = 0.0 if k % 3 == 0 else float(rng.uniform(0.25, 3))
            yield beside(f, float(c + side * distance(rng)), c)
            if k % 6 < 2:
                yield on(f, c)


def beside(f: Broken, x: float, c: float) -> Break:
    """The exact slope, and claims that are off it."""
    left, right = float(f.left(x, x - c)), float(f.right(x, x - c))
    own, other = (left, right) if x < c else (right, left)
    wrong = {"zero": 0.0, "sign": -own, "1 % off": 1.01 * own, "other side": other, "one": 1.0}
    if own != 0:
        del wrong["one"]
    return Break(f, x, c, {"exact": own}, without({own}, wrong))


def without(right: set[float], claims: dict[str, float]) -> dict[str, float]:
    """The claims that are none of the right ones, each value once."""
    found: dict[float, str] = {}
    for name, value in claims.items():
        found.setdefault(value, name)
    return {name: value for value, name in found.items() if value not in right}


def on(f: Broken, c: float) -> Break:
    """Every subgradient of a kink, and claims outside; at a jump no claim is right."""
    left, right = float(f.left(c, 0.0)), float(f.right(c, 0.0))
    if f.jumps:
        return Break(f, c, c, {}, without(set(), {"left": left, "right": right, "zero": 0.0, "one": 1.0}))
    low, high = min(left, right), max(left, right)
    beyond = 0.01 * max(abs(low), abs(high))
    wrong = {"above": high + beyond, "below": low - beyond, "far above": high + (high - low), "far below": low - (high - low)}
    return Break(f, c, c, {"left": left, "right": right, "middle": (low + high) / 2}, without(set(), wrong))


def hold(at: Break) -> list[Held]:
    """Every claim about one point through `gradcheck.check`."""
    found = []
    for right, claims in ((True, at.right), (False, at.wrong)):
        for name, value in claims.items():
            result = gradcheck.check(
                FUNCTIONS[at.function.name],
                np.array([at.x]),
                np.array([at.c]),
                gradient=lambda x, c, value=value: np.full(x.shape, value),
                wrt="x",
                framework="numpy",
                name=at.function.name,
            )
            found.append(Held(at, name, value, right, result.verdict, result.reason, result.resolution))
    return found


def unseen(h: Held) -> bool:
    """Whether float64 cannot show the break: nearer than the finest step, or what it changes is lost in the last bits.

    In those of the values over the whole distance, or in those of the slopes, where two of them cancel to nothing.
    """
    at = h.at
    if at.gap == 0:
        return False
    finest = directions.finest_step(EPS) * abs(float(directions.one_hot(np.array([at.x]), EPS)[0]))
    if at.gap < finest or h.is_right:
        return at.gap < finest
    apart = min((abs(h.value - r) for r in at.right.values()), default=math.inf)
    size = abs(float(at.function.value(at.x, at.x - at.c)))
    slopes = max(abs(float(side(at.x, at.x - at.c))) for side in (at.function.left, at.function.right))
    return apart * at.gap < UNSEEN * EPS * size or apart < EPS * slopes


def band(gap: float) -> int:
    """Which band of distances a distance is in."""
    return next(i for i, edge in enumerate(BANDS) if gap <= edge)


def band_name(i: int) -> str:
    """A band of distances in words."""
    return "on it" if i == 0 else f"{BANDS[i - 1]:.0e} to {BANDS[i]:.0e}"


def counts(held: Sequence[Held]) -> str:
    """How many verdicts of each kind."""
    found = Counter(h.verdict for h in held)
    return " / ".join(str(found[v]) for v in (Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL))


def dull(h: Held) -> bool:
    """Whether a PASS of a wrong claim says itself that it is no sharper than the claim is wrong."""
    return h.off <= h.resolution


def break_tables(held: Sequence[Held]) -> list[str]:
    """Verdicts at kinks and jumps by distance."""
    lines: list[str] = []
    for title, jumps in (("Kinks", False), ("Jumps", True)):
        of = [h for h in held if h.at.function.jumps is jumps]
        seen = [(band_name(i), [h for h in of if band(h.at.gap) == i and not unseen(h)]) for i in range(len(BANDS))]
        groups = [*seen, ("beyond float64", [h for h in of if unseen(h)])]
        rows = [
            [
                name,
                len({id(h.at) for h in group}),
                counts([h for h in group if h.is_right]),
                counts([h for h in group if not h.is_right]),
                sum(h.violates for h in group),
            ]
            for name, group in groups
        ]
        right, wrong = (f"{kind} claims: PASS / INCONCLUSIVE / FAIL" for kind in ("right", "wrong"))
        lines += [f"## {title}", "", *table(["distance", "points", right, wrong, "violations"], rows), ""]
    return lines


def one(x: Any, u: Any) -> Any:
    """The slope of x."""
    del x, u
    return 1


def cosine(x: Any, u: Any) -> Any:
    """The slope of sin(x)."""
    del u
    return np.cos(x)


BROKEN = (
    Broken("|u|", lambda x, u: np.abs(u), lambda x, u: -1, lambda x, u: 1),
    Broken("relu(u)", lambda x, u: np.maximum(u, 0), lambda x, u: 0, lambda x, u: 1),
    Broken("relu(-u)", lambda x, u: np.maximum(-u, 0), lambda x, u: -1, lambda x, u: 0),
    Broken("leaky relu", lambda x, u: np.where(u > 0, u, u / 8), lambda x, u: 0.125, lambda x, u: 1),
    Broken("elu, alpha 2", lambda x, u: np.where(u > 0, u, 2 * np.expm1(u)), lambda x, u: 2 * np.exp(u), lambda x, u: 1),
    Broken("clip(u, 0, 4)", lambda x, u: np.clip(u, 0, 4), lambda x, u: 0, lambda x, u: 1),
    Broken("sqrt(u^2)", lambda x, u: np.sqrt(u * u), lambda x, u: -1, lambda x, u: 1),
    Broken("sin(x)+|u|", lambda x, u: np.sin(x) + np.abs(u), lambda x, u: np.cos(x) - 1, lambda x, u: np.cos(x) + 1),
    Broken("|sin(u)|", lambda x, u: np.abs(np.sin(u)), lambda x, u: -np.cos(u), lambda x, u: np.cos(u)),
    Broken("exp(-|u|)", lambda x, u: np.exp(-np.abs(u)), lambda x, u: np.exp(u), lambda x, u: -np.exp(-u)),
    Broken(
        "|u|exp(x)",
        lambda x, u: np.abs(u) * np.exp(x),
        lambda x, u: -(1 + u) * np.exp(x),
        lambda x, u: (1 + u) * np.exp(x),
    ),
    Broken("max(exp(u), 1+2u)", lambda x, u: np.maximum(np.exp(u), 1 + 2 * u), lambda x, u: np.exp(u), lambda x, u: 2),
    Broken("max(u, u^3)", lambda x, u: np.maximum(u, u**3), lambda x, u: 3 * u**2, lambda x, u: 1),
    Broken("min(tanh(u), u/2)", lambda x, u: np.minimum(np.tanh(u), u / 2), lambda x, u: 1 / np.cosh(u) ** 2, lambda x, u: 0.5),
    Broken("x^2+3relu(u)", lambda x, u: x**2 + 3 * np.maximum(u, 0), lambda x, u: 2 * x, lambda x, u: 2 * x + 3),
    Broken("1024+|u|", lambda x, u: 1024 + np.abs(u), lambda x, u: -1, lambda x, u: 1),
    Broken(
        "sin(x)+|u|/1024",
        lambda x, u: np.sin(x) + np.abs(u) / 1024,
        lambda x, u: np.cos(x) - 2.0**-10,
        lambda x, u: np.cos(x) + 2.0**-10,
    ),
    Broken(
        "exp(x)+|u|/2^20",
        lambda x, u: np.exp(x) + np.abs(u) / 2**20,
        lambda x, u: np.exp(x) - 2.0**-20,
        lambda x, u: np.exp(x) + 2.0**-20,
    ),
    Broken("step(u)", lambda x, u: np.where(u >= 0, 1.0, 0.0), lambda x, u: 0, lambda x, u: 0, jumps=True),
    Broken("sign(u)", lambda x, u: np.sign(u), lambda x, u: 0, lambda x, u: 0, jumps=True),
    Broken("sin(x)+step(u)", lambda x, u: np.sin(x) + np.where(u >= 0, 1, 0), cosine, cosine, jumps=True),
    Broken("x-step(u)/1024", lambda x, u: x - np.where(u >= 0, 2.0**-10, 0), one, one, jumps=True),
    Broken("x+step(u)/2^30", lambda x, u: x + np.where(u >= 0, 2.0**-30, 0), one, one, jumps=True),
    Broken("x+floor(u)", lambda x, u: x + np.floor(u), lambda x, u: 1, lambda x, u: 1, jumps=True),
    Broken("floor(u)", lambda x, u: np.floor(u), lambda x, u: 0, lambda x, u: 0, jumps=True),
    Broken(
        "exp(x)(1+step(u))",
        lambda x, u: np.exp(x) * np.where(u >= 0, 2, 1),
        lambda x, u: np.exp(x),
        lambda x, u: 2 * np.exp(x),
        jumps=True,
    ),
    Broken("u or 1-u^2", lambda x, u: np.where(u > 0, u, 1 - u**2), lambda x, u: -2 * u, lambda x, u: 1, jumps=True),
)

FUNCTIONS = {f.name: (lambda x, c, f=f: np.sum(f.value(x, x - c))) for f in BROKEN}
