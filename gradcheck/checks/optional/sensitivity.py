"""Which inputs matter: |∂f/∂x_i| times the size of x_i, ranked; and which are dead.

Of several outputs the root sum of squares over them: exactly where there are few, else over random signs of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradcheck.compare import directional
from gradcheck.evidence import directions
from gradcheck.results import CheckTable, Reason, Row, Verdict
from gradcheck.seeds import generator

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gradcheck.backends.flat import Leaf
    from gradcheck.backends.program import Claim
    from gradcheck.compare.trial import Bench
    from gradcheck.evidence.line import F64

FEW = 16  # outputs that are looked at one by one; of more, so many random combinations
FEATURES = 32  # along a leaf's last axis that get a row each
COLUMNS = ("input", "|df/dx| size", "share")
DEAD = "dead"


def examine(bench: Bench, claim: Claim) -> CheckTable:
    """Rank the inputs by what the claim says of them.

    Raises:
        Unavailable: where the claim cannot be had.
    """
    rows = np.abs(directional.gradient(bench, claim, _cotangents(bench)).rows)
    if not np.all(np.isfinite(rows)):
        words, reason = "the claim is not finite: there is nothing to rank", Reason.CLAIM_NOT_FINITE
        return CheckTable("sensitivity", claim.method, Verdict.INCONCLUSIVE, reason, words, trial=bench.trial)
    largest = np.max(rows, axis=0)  # taken out, so that no square underflows: dead is what is exactly zero
    shares = np.divide(rows, largest, out=np.zeros(rows.shape), where=largest > 0)
    per_entry = largest * np.sqrt(np.sum(shares**2, axis=0) / (1 if bench.program.value.size <= FEW else len(rows)))
    found = [row for leaf in bench.leaves for row in _of_leaf(leaf, per_entry[leaf.span], bench.program.point[leaf.span])]
    return ranked(claim.method, found, bench.trial)


def merged(tables: list[CheckTable]) -> CheckTable:
    """The same over all trials: the mean of each input; dead is what was zero in every one."""
    seen: dict[str, list[float]] = {}
    for row in (row for table in tables for row in table.rows):
        seen.setdefault(row.label, []).append(row.values[0])
    if not seen:
        return tables[0]
    return ranked(tables[0].method, [Row(label, (float(np.mean(v)), np.nan)) for label, v in seen.items()], 0, len(tables))


def ranked(method: str, found: list[Row], trial: int, trials: int = 1) -> CheckTable:
    """The table, the most important input first."""
    total = sum(row.values[0] for row in found)
    rows = [
        Row(row.label, (row.values[0], row.values[0] / total if total > 0 else np.nan), "" if row.values[0] else DEAD)
        for row in sorted(found, key=lambda row: -row.values[0])
    ]
    conclusion = _words(rows, trials)
    return CheckTable("sensitivity", method, Verdict.PASS, Reason.AGREES, conclusion, COLUMNS, tuple(rows), True, trial)


def _cotangents(bench: Bench) -> F64:
    size = bench.program.value.size
    if size <= FEW:
        return np.eye(size)
    return generator(0, "signs", bench.label).choice([-1.0, 1.0], (FEW, size))


def _of_leaf(leaf: Leaf, slopes: F64, x: F64) -> Iterator[Row]:
    """A row for each feature, the entries along the last axis; one for all where there are many."""
    if leaf.width == 2:
        slopes, x = (np.linalg.norm(a.reshape(-1, 2), axis=1) for a in (slopes, x))
    features = leaf.shape[-1] if leaf.shape else 1
    if not leaf.shape or features > FEATURES:
        yield Row(leaf.path, (_sized(slopes, x), np.nan))
        return
    inside = "..., " if len(leaf.shape) > 1 else ""
    columns = zip(slopes.reshape(-1, features).T, x.reshape(-1, features).T, strict=True)
    for i, (of_slopes, of_x) in enumerate(columns):
        yield Row(f"{leaf.path}[{inside}{i}]", (_sized(of_slopes, of_x), np.nan))


def _sized(slopes: F64, x: F64) -> float:
    largest = float(np.max(slopes, initial=0.0))
    return largest * float(np.linalg.norm(slopes / largest)) * directions.scale_of(x) if largest else 0.0


def _words(rows: Iterable[Row], trials: int) -> str:
    rows = list(rows)
    dead = _joined([row.label for row in rows if row.remark], [row.label for row in rows if not row.remark])
    alive = [row for row in rows if not row.remark]
    over = f"in all {trials} trials" if trials > 1 else "here"
    if not alive:
        return f"every input is dead: the claim is exactly zero {over}"
    told = f"{alive[0].label} matters most, {alive[0].values[1]:.0%} of the whole"
    if dead:
        named = ", ".join(dead[:6]) + (f" and {len(dead) - 6} more" if len(dead) > 6 else "")
        told += f"; dead: {named} (the claim is exactly zero {over}: detached, or not used?)"
    return told


def _joined(dead: list[str], alive: list[str]) -> list[str]:
    """The dead inputs by name; a leaf of which no feature is alive by its own."""
    living = {label.rpartition("[")[0] for label in alive}
    leaves = [label.rpartition("[")[0] for label in dead]
    return list(dict.fromkeys(leaf if leaf and leaf not in living else label for label, leaf in zip(dead, leaves, strict=True)))
