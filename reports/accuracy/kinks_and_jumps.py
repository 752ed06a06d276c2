"""Functions with a kink or a jump, and right and wrong claims about them: the other cases of the accuracy study."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from known_derivatives import draw_distance
from study_page import make_table

import gradcheck
from gradcheck import Reason, Verdict
from gradcheck.backends.flat import EPS
from gradcheck.evidence import directions
from gradcheck.verdict.interval import MAX_UNSEEN_ULPS

POINTS_PER_FUNCTION = 36  # points near a function's kink or jump; for every three of them, one lies on it
FLOAT64_EPS = EPS["float64"]
DISTANCE_BANDS = (0.0, 1e-12, 1e-9, 1e-6, 1e-3, 1.0)  # upper ends, in units of x


@dataclass(frozen=True)
class BrokenFunction:
    """A function of x and u = x - c that has a kink or a jump at u = 0, with its slopes on either side."""

    name: str
    value: Callable[[Any, Any], Any]
    left: Callable[[Any, Any], Any]
    right: Callable[[Any, Any], Any]
    jumps: bool = False


@dataclass(frozen=True)
class Point:
    """A point x near a function's kink or jump at c, or on it, with right and wrong claims about the slope, by name."""

    function: BrokenFunction
    x: float
    c: float
    right: dict[str, float]
    wrong: dict[str, float]

    @property
    def distance(self) -> float:
        """The distance of the point from the kink or jump."""
        return abs(self.x - self.c)


@dataclass(frozen=True)
class Judgement:
    """The verdict about one claim at one point."""

    point: Point
    claim: str
    value: float
    is_right: bool
    verdict: Verdict
    reason: Reason
    resolution: float

    @property
    def relative_error(self) -> float:
        """The distance of the claim from the nearest right one, relative to the larger; infinite if none is right."""
        nearest = min(self.point.right.values(), key=lambda r: abs(r - self.value), default=math.inf)
        return math.inf if math.isinf(nearest) else abs(nearest - self.value) / max(abs(nearest), abs(self.value), 5e-324)

    @property
    def violates(self) -> bool:
        """Whether a right claim fails or a wrong one passes."""
        return self.verdict is (Verdict.FAIL if self.is_right else Verdict.PASS)


def make_points(rng: np.random.Generator) -> Iterator[Point]:
    """Yield points near and on the kinks and jumps, a third of which lie at the origin."""
    for f in BROKEN_FUNCTIONS:
        for k in range(POINTS_PER_FUNCTION):
            side = rng.choice([-1, 1])
            c = 0.0 if k % 3 == 0 else float(rng.uniform(0.25, 3))
            yield make_point_near(f, float(c + side * draw_distance(rng)), c)
            if k % 6 < 2:
                yield make_point_on(f, c)


def make_point_near(f: BrokenFunction, x: float, c: float) -> Point:
    """Make a point with the exact slope as the right claim, and with wrong ones."""
    left, right = float(f.left(x, x - c)), float(f.right(x, x - c))
    claimed, opposite = (left, right) if x < c else (right, left)
    wrong = {"zero": 0.0, "sign": -claimed, "1 % off": 1.01 * claimed, "other side": opposite, "one": 1.0}
    if claimed != 0:
        del wrong["one"]
    return Point(f, x, c, {"exact": claimed}, drop_right_claims({claimed}, wrong))


def drop_right_claims(right: set[float], claims: dict[str, float]) -> dict[str, float]:
    """Return the claims whose value is not among the right ones, each value once."""
    names: dict[float, str] = {}
    for name, value in claims.items():
        names.setdefault(value, name)
    return {name: value for value, name in names.items() if value not in right}


def make_point_on(f: BrokenFunction, c: float) -> Point:
    """Make the point on a kink, where every subgradient is right, or on a jump, where no claim is right."""
    left, right = float(f.left(c, 0.0)), float(f.right(c, 0.0))
    if f.jumps:
        return Point(f, c, c, {}, drop_right_claims(set(), {"left": left, "right": right, "zero": 0.0, "one": 1.0}))
    low, high = min(left, right), max(left, right)
    beyond = 0.01 * max(abs(low), abs(high))
    wrong = {"above": high + beyond, "below": low - beyond, "far above": high + (high - low), "far below": low - (high - low)}
    return Point(f, c, c, {"left": left, "right": right, "middle": (low + high) / 2}, drop_right_claims(set(), wrong))


def judge_claims(point: Point) -> list[Judgement]:
    """Check every claim about a point with `gradcheck.check`."""
    judgements = []
    for is_right, claims in ((True, point.right), (False, point.wrong)):
        for name, value in claims.items():
            result = gradcheck.check(
                CHECKED_FUNCTIONS[point.function.name],
                np.array([point.x]),
                np.array([point.c]),
                gradient=lambda x, c, value=value: np.full(x.shape, value),
                wrt="x",
                framework="numpy",
                name=point.function.name,
            )
            judgements.append(Judgement(point, name, value, is_right, result.verdict, result.reason, result.resolution))
    return judgements


def is_beyond_float64(judgement: Judgement) -> bool:
    """Whether float64 cannot show the kink or jump.

    It cannot if the kink or jump is nearer than the finest step. For a wrong claim, it cannot either if the difference from
    the right one is lost in the last bits of the values over the whole distance, or of slopes that cancel.
    """
    point = judgement.point
    if point.distance == 0:
        return False
    finest = directions.finest_step(FLOAT64_EPS) * abs(
        float(directions.entry_displacements(np.array([point.x]), FLOAT64_EPS)[0])
    )
    if point.distance < finest or judgement.is_right:
        return point.distance < finest
    gap = min((abs(judgement.value - r) for r in point.right.values()), default=math.inf)
    size = abs(float(point.function.value(point.x, point.x - point.c)))
    slopes = max(abs(float(side(point.x, point.x - point.c))) for side in (point.function.left, point.function.right))
    return gap * point.distance < MAX_UNSEEN_ULPS * FLOAT64_EPS * size or gap < FLOAT64_EPS * slopes


def distance_band(distance: float) -> int:
    """Return the index of the band that a distance is in."""
    return next(i for i, edge in enumerate(DISTANCE_BANDS) if distance <= edge)


def name_band(i: int) -> str:
    """Describe a band of distances."""
    return "on it" if i == 0 else f"{DISTANCE_BANDS[i - 1]:.0e} to {DISTANCE_BANDS[i]:.0e}"


def count_verdicts(judgements: Sequence[Judgement]) -> str:
    """Count the verdicts of each kind, as 'PASS / INCONCLUSIVE / FAIL'."""
    counts = Counter(judgement.verdict for judgement in judgements)
    return " / ".join(str(counts[v]) for v in (Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL))


def is_covered_by_resolution(judgement: Judgement) -> bool:
    """Whether the claim is wrong by no more than the resolution that its PASS states."""
    return judgement.relative_error <= judgement.resolution


def make_tables(judgements: Sequence[Judgement]) -> list[str]:
    """Make the tables of verdicts at kinks and jumps by distance."""
    lines: list[str] = []
    for title, jumps in (("Kinks", False), ("Jumps", True)):
        chosen = [judgement for judgement in judgements if judgement.point.function.jumps is jumps]
        visible = [
            (
                name_band(i),
                [
                    judgement
                    for judgement in chosen
                    if distance_band(judgement.point.distance) == i and not is_beyond_float64(judgement)
                ],
            )
            for i in range(len(DISTANCE_BANDS))
        ]
        groups = [*visible, ("beyond float64", [judgement for judgement in chosen if is_beyond_float64(judgement)])]
        rows = [
            [
                name,
                len({id(judgement.point) for judgement in group}),
                count_verdicts([judgement for judgement in group if judgement.is_right]),
                count_verdicts([judgement for judgement in group if not judgement.is_right]),
                sum(judgement.violates for judgement in group),
            ]
            for name, group in groups
        ]
        right, wrong = (f"{kind} claims: PASS / INCONCLUSIVE / FAIL" for kind in ("right", "wrong"))
        lines += [f"## {title}", "", *make_table(["distance", "points", right, wrong, "violations"], rows), ""]
    return lines


def slope_of_x(x: Any, u: Any) -> Any:
    """Return the slope of x."""
    del x, u
    return 1


def slope_of_sin(x: Any, u: Any) -> Any:
    """Return the slope of sin(x)."""
    del u
    return np.cos(x)


BROKEN_FUNCTIONS = (
    BrokenFunction("|u|", lambda x, u: np.abs(u), lambda x, u: -1, lambda x, u: 1),
    BrokenFunction("relu(u)", lambda x, u: np.maximum(u, 0), lambda x, u: 0, lambda x, u: 1),
    BrokenFunction("relu(-u)", lambda x, u: np.maximum(-u, 0), lambda x, u: -1, lambda x, u: 0),
    BrokenFunction("leaky relu", lambda x, u: np.where(u > 0, u, u / 8), lambda x, u: 0.125, lambda x, u: 1),
    BrokenFunction(
        "elu, alpha 2", lambda x, u: np.where(u > 0, u, 2 * np.expm1(u)), lambda x, u: 2 * np.exp(u), lambda x, u: 1
    ),
    BrokenFunction("clip(u, 0, 4)", lambda x, u: np.clip(u, 0, 4), lambda x, u: 0, lambda x, u: 1),
    BrokenFunction("sqrt(u^2)", lambda x, u: np.sqrt(u * u), lambda x, u: -1, lambda x, u: 1),
    BrokenFunction("sin(x)+|u|", lambda x, u: np.sin(x) + np.abs(u), lambda x, u: np.cos(x) - 1, lambda x, u: np.cos(x) + 1),
    BrokenFunction("|sin(u)|", lambda x, u: np.abs(np.sin(u)), lambda x, u: -np.cos(u), lambda x, u: np.cos(u)),
    BrokenFunction("exp(-|u|)", lambda x, u: np.exp(-np.abs(u)), lambda x, u: np.exp(u), lambda x, u: -np.exp(-u)),
    BrokenFunction(
        "|u|exp(x)",
        lambda x, u: np.abs(u) * np.exp(x),
        lambda x, u: -(1 + u) * np.exp(x),
        lambda x, u: (1 + u) * np.exp(x),
    ),
    BrokenFunction("max(exp(u), 1+2u)", lambda x, u: np.maximum(np.exp(u), 1 + 2 * u), lambda x, u: np.exp(u), lambda x, u: 2),
    BrokenFunction("max(u, u^3)", lambda x, u: np.maximum(u, u**3), lambda x, u: 3 * u**2, lambda x, u: 1),
    BrokenFunction(
        "min(tanh(u), u/2)", lambda x, u: np.minimum(np.tanh(u), u / 2), lambda x, u: 1 / np.cosh(u) ** 2, lambda x, u: 0.5
    ),
    BrokenFunction("x^2+3relu(u)", lambda x, u: x**2 + 3 * np.maximum(u, 0), lambda x, u: 2 * x, lambda x, u: 2 * x + 3),
    BrokenFunction("1024+|u|", lambda x, u: 1024 + np.abs(u), lambda x, u: -1, lambda x, u: 1),
    BrokenFunction(
        "sin(x)+|u|/1024",
        lambda x, u: np.sin(x) + np.abs(u) / 1024,
        lambda x, u: np.cos(x) - 2.0**-10,
        lambda x, u: np.cos(x) + 2.0**-10,
    ),
    BrokenFunction(
        "exp(x)+|u|/2^20",
        lambda x, u: np.exp(x) + np.abs(u) / 2**20,
        lambda x, u: np.exp(x) - 2.0**-20,
        lambda x, u: np.exp(x) + 2.0**-20,
    ),
    BrokenFunction("step(u)", lambda x, u: np.where(u >= 0, 1.0, 0.0), lambda x, u: 0, lambda x, u: 0, jumps=True),
    BrokenFunction("sign(u)", lambda x, u: np.sign(u), lambda x, u: 0, lambda x, u: 0, jumps=True),
    BrokenFunction("sin(x)+step(u)", lambda x, u: np.sin(x) + np.where(u >= 0, 1, 0), slope_of_sin, slope_of_sin, jumps=True),
    BrokenFunction("x-step(u)/1024", lambda x, u: x - np.where(u >= 0, 2.0**-10, 0), slope_of_x, slope_of_x, jumps=True),
    BrokenFunction("x+step(u)/2^30", lambda x, u: x + np.where(u >= 0, 2.0**-30, 0), slope_of_x, slope_of_x, jumps=True),
    BrokenFunction("x+floor(u)", lambda x, u: x + np.floor(u), lambda x, u: 1, lambda x, u: 1, jumps=True),
    BrokenFunction("floor(u)", lambda x, u: np.floor(u), lambda x, u: 0, lambda x, u: 0, jumps=True),
    BrokenFunction(
        "exp(x)(1+step(u))",
        lambda x, u: np.exp(x) * np.where(u >= 0, 2, 1),
        lambda x, u: np.exp(x),
        lambda x, u: 2 * np.exp(x),
        jumps=True,
    ),
    BrokenFunction("u or 1-u^2", lambda x, u: np.where(u > 0, u, 1 - u**2), lambda x, u: -2 * u, lambda x, u: 1, jumps=True),
)

CHECKED_FUNCTIONS = {f.name: (lambda x, c, f=f: np.sum(f.value(x, x - c))) for f in BROKEN_FUNCTIONS}
