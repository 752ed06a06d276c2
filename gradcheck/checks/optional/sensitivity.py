"""Check `sensitivity`: which inputs matter, ranked by |∂f/∂x_i| times the size of x_i, and which are dead.

For several outputs it is the root sum of squares over them: exactly for a few, else over random signs of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradcheck.compare import directional
from gradcheck.evidence import directions
from gradcheck.results import CheckTable, Reason, Row, Verdict
from gradcheck.seeds import make_generator

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gradcheck.backends.flat import Leaf
    from gradcheck.backends.program import Claim
    from gradcheck.compare.trial import MeasuredTrial
    from gradcheck.evidence.line import F64

# Up to this many outputs are taken one by one; more are taken in this many random combinations.
MAX_SINGLE_OUTPUTS = 16
# Up to this many features along a leaf's last axis get a row each.
MAX_FEATURES = 32
# The conclusion names at most this many dead inputs.
MAX_NAMES = 6
COLUMNS = ("input", "|df/dx| size", "share")
DEAD = "dead"


def check_sensitivity(trial: MeasuredTrial, claim: Claim) -> CheckTable:
    """Rank the inputs by the claimed derivative times their size.

    Raises:
        Unavailable: if the claim cannot be evaluated.
    """
    slopes = np.abs(directional.evaluate_gradient(trial, claim, _make_cotangents(trial)).values)
    if not np.all(np.isfinite(slopes)):
        conclusion, reason = "the claim is not finite: there is nothing to rank", Reason.CLAIM_NOT_FINITE
        return CheckTable("sensitivity", claim.method, Verdict.INCONCLUSIVE, reason, conclusion, trial=trial.number)
    largest = np.max(slopes, axis=0)  # divided out so that no square underflows: only what is exactly zero is dead
    shares = np.divide(slopes, largest, out=np.zeros(slopes.shape), where=largest > 0)
    per_entry = largest * np.sqrt(
        np.sum(shares**2, axis=0) / (1 if trial.program.value.size <= MAX_SINGLE_OUTPUTS else len(slopes))
    )
    point = trial.program.point
    features = [row for leaf in trial.leaves for row in _rows_of_leaf(leaf, per_entry[leaf.span], point[leaf.span])]
    return make_table(claim.method, features, trial.number)


def merge_tables(tables: list[CheckTable]) -> CheckTable:
    """Merge the tables of all trials: each input gets its mean, and is dead if it is zero in every trial."""
    values: dict[str, list[float]] = {}
    for row in (row for table in tables for row in table.rows):
        values.setdefault(row.label, []).append(row.values[0])
    if not values:
        return tables[0]
    rows = [Row(label, (float(np.mean(v)), np.nan)) for label, v in values.items()]
    return make_table(tables[0].method, rows, 0, len(tables))


def make_table(method: str, features: list[Row], trial: int, trials: int = 1) -> CheckTable:
    """Make the table of features, the most important one first."""
    total = sum(row.values[0] for row in features)
    rows = [
        Row(row.label, (row.values[0], row.values[0] / total if total > 0 else np.nan), "" if row.values[0] else DEAD)
        for row in sorted(features, key=lambda row: -row.values[0])
    ]
    conclusion = _describe(rows, trials)
    return CheckTable("sensitivity", method, Verdict.PASS, Reason.AGREES, conclusion, COLUMNS, tuple(rows), True, trial)


def _make_cotangents(trial: MeasuredTrial) -> F64:
    """Return the unit vector of each output, or random signs for many outputs, (C, M)."""
    size = trial.program.value.size
    if size <= MAX_SINGLE_OUTPUTS:
        return np.eye(size)
    return make_generator(0, "signs", trial.label).choice([-1.0, 1.0], (MAX_SINGLE_OUTPUTS, size))


def _rows_of_leaf(leaf: Leaf, slopes: F64, x: F64) -> Iterator[Row]:
    """Yield a row for each feature, the entries with one index along the last axis, or a single row if there are many."""
    if leaf.width == 2:
        slopes, x = (np.linalg.norm(a.reshape(-1, 2), axis=1) for a in (slopes, x))
    features = leaf.shape[-1] if leaf.shape else 1
    if not leaf.shape or features > MAX_FEATURES:
        yield Row(leaf.path, (_combine(slopes, x), np.nan))
        return
    leading = "..., " if len(leaf.shape) > 1 else ""
    columns = zip(slopes.reshape(-1, features).T, x.reshape(-1, features).T, strict=True)
    for i, (feature_slopes, feature_x) in enumerate(columns):
        yield Row(f"{leaf.path}[{leading}{i}]", (_combine(feature_slopes, feature_x), np.nan))


def _combine(slopes: F64, x: F64) -> float:
    """Return the norm of the slopes times the scale of the inputs."""
    largest = float(np.max(slopes, initial=0.0))
    return largest * float(np.linalg.norm(slopes / largest)) * directions.compute_leaf_scale(x) if largest else 0.0


def _describe(rows: Iterable[Row], trials: int) -> str:
    """Say in words which input matters most and which are dead."""
    rows = list(rows)
    alive = [row for row in rows if not row.remark]
    dead = _merge_dead_leaves([row.label for row in rows if row.remark], [row.label for row in alive])
    where = f"in all {trials} trials" if trials > 1 else "here"
    if not alive:
        return f"every input is dead: the claim is exactly zero {where}"
    conclusion = f"{alive[0].label} matters most, {alive[0].values[1]:.0%} of the total"
    if dead:
        names = ", ".join(dead[:MAX_NAMES]) + (f" and {len(dead) - MAX_NAMES} more" if len(dead) > MAX_NAMES else "")
        conclusion += f"; dead: {names} (the claim is exactly zero {where}: detached, or not used?)"
    return conclusion


def _merge_dead_leaves(dead: list[str], alive: list[str]) -> list[str]:
    """Name the dead inputs; a leaf without any feature that is alive is named once, by its path."""
    alive_leaves = {label.rpartition("[")[0] for label in alive}
    names = []
    for label in dead:
        leaf = label.rpartition("[")[0]
        names.append(leaf if leaf and leaf not in alive_leaves else label)
    return list(dict.fromkeys(names))
