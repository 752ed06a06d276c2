"""Gradients, right and wrong, that a checker may easily misjudge, and the verdicts of three checkers on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from other_checkers import check_with_jax, check_with_torch_fast
from planted_faults import FAULT_KINDS, FaultKind, corrupt_leaf, plant_fault
from targets import JAX_CHECK_GRADS, MILLION, PROBE_MODE, TORCH_FAST, Calls, cauchy, draw_normal, silu
from torch import Tensor

import gradcheck
from gradcheck import Verdict


@dataclass(frozen=True)
class Judgement:
    """The verdicts on one gradient.

    Attributes:
        right: whether each checker judges the gradient rightly.
        evaluations: the evaluations that gradcheck reports.
        forward: the forward calls of gradcheck that autograd did not record.
        named: the entries that gradcheck names as wrong.
    """

    text: str
    right: Mapping[str, bool]
    evaluations: int
    forward: int
    named: tuple[int, ...]


@dataclass(frozen=True)
class EasilyMisjudgedGradient:
    """A gradient that a checker may misjudge; it is wrong if it has a kind of fault, else right."""

    text: str
    function: Callable[[Tensor], Tensor]
    x: Callable[[], Tensor]
    kind: FaultKind | None
    place: int = 0

    def judge(self) -> Judgement:
        """Check the gradient with gradcheck in probe mode, counting forward calls, and with the others at their defaults."""
        calls, x, right = Calls(), self.x(), self.kind is None
        function = plant_fault(
            lambda x: calls.count_forward(self.function(x)), self.kind or ZERO, float(not right), (0, self.place)
        )
        result = gradcheck.check(function, x, mode="probe", name=self.text)
        named = tuple(e.entry[0] for c in result.comparisons if c.where for e in c.where.entries)
        forward, judges = (
            calls.forward - calls.recorded,
            {PROBE_MODE: result.verdict is (Verdict.PASS if right else Verdict.FAIL)},
        )
        for who, check in ((TORCH_FAST, check_with_torch_fast), (JAX_CHECK_GRADS, check_with_jax)):
            judges[who] = check(function, [x], self.function(x)) == right
        return Judgement(self.text, judges, result.evaluations, forward, named)


FACTORS = {12_345: 1.01, 500_000: 0.97, 987_654: 2.0}  # what three entries of a million are multiplied by


def _corrupt_three_entries(g: Tensor, _: Any) -> Tensor:
    changed = g.clone()
    for place, factor in FACTORS.items():
        changed[place] *= factor
    return changed


def make_three_of_a_million(dtype: torch.dtype) -> EasilyMisjudgedGradient:
    """Make the gradient of `silu` of a million numbers, three entries of which are wrong."""
    text = f"three entries of 1e6 are wrong (by 1 %, 3 % and a factor 2), {str(dtype).removeprefix('torch.')}"
    return EasilyMisjudgedGradient(
        text,
        silu,
        lambda: draw_normal(MILLION).to(dtype),
        FaultKind("three entries are wrong", corrupt_leaf(_corrupt_three_entries)),
    )


ZERO, ONE, SIGN, SHUFFLED = (FAULT_KINDS[name] for name in ("zero", "one entry", "sign", "shuffled"))
MISJUDGED = (
    EasilyMisjudgedGradient("mean over 1e5 entries: the gradient is zero", torch.mean, lambda: draw_normal(100_000), ZERO),
    EasilyMisjudgedGradient(
        "(1e-3 x).mean() over 1,000: the gradient is zero", lambda x: (1e-3 * x).mean(), lambda: draw_normal(1000), ZERO
    ),
    EasilyMisjudgedGradient("a scalar loss over 5,000: the sign is wrong", cauchy, lambda: draw_normal(5000), SIGN),
    EasilyMisjudgedGradient(
        "a scalar loss over 50,000: the entries are shuffled", cauchy, lambda: draw_normal(50_000), SHUFFLED
    ),
    EasilyMisjudgedGradient(
        "sum of 2,000 squares: one entry is doubled", lambda x: x.square().sum(), lambda: draw_normal(2000).exp(), ONE, 100
    ),
    EasilyMisjudgedGradient("elementwise, 2,000 entries: one is doubled", silu, lambda: draw_normal(2000), ONE, 7),
    *(make_three_of_a_million(dtype) for dtype in (torch.float64, torch.float32)),
    EasilyMisjudgedGradient("elementwise in float32: right", silu, lambda: draw_normal(1000).float(), None),
    EasilyMisjudgedGradient(
        "1/x of 1,000 numbers of size 1e-4: right", torch.reciprocal, lambda: 1e-4 * draw_normal(1000), None
    ),
)
