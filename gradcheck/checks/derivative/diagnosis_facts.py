"""From a FAIL to the likely cause: the claim, and repairs of it, held against the same evidence."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.compare.judge import look
from gradcheck.results import Comparison, Reason, Verdict
from gradcheck.verdict.diagnose import Facts, diagnose

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from gradcheck.backends.flat import Leaf
    from gradcheck.compare.estimates import Sheet
    from gradcheck.compare.jacobians import Rows
    from gradcheck.compare.judge import Along
    from gradcheck.compare.trial import Bench
    from gradcheck.evidence.line import F64

SHARPEST = 1e-13  # relative: no number counts for more than it would with such an error


def named(
    bench: Bench,
    line: Comparison,
    sheet: Sheet,
    rows: Rows,
    along: Callable[[F64], Along],
    *,
    true: F64 | None = None,
    wrong: NDArray[np.bool_] | None = None,
) -> Comparison:
    """The same FAIL with a diagnosis; none where the evidence has no say, as at kinks or in the claim's own precision.

    Args:
        sheet: the estimates that the claim disagrees with.
        rows: of the claim, and `along` a leaf's part of them, (C, n), along the sheet's lines.
        true: the partial derivatives, (C, n), where every one was estimated; `wrong` which of them the claim misses.
    """
    claim = rows.rows[:, sheet.leaf.span]
    if line.verdict is not Verdict.FAIL or line.reason is not Reason.DISAGREES or not np.all(np.isfinite(claim)):
        return line
    usable = np.isfinite(sheet.bound) & np.isfinite(sheet.value) & np.isnan(sheet.low)
    if not np.any(usable):
        return line

    def holds(candidate: F64) -> bool:
        judged = look(sheet, along(candidate), line.rtol, demanded=False)
        return not np.any(judged.code == 2) and not np.any(judged.doubtful) and bool(np.any(judged.code == 0))

    if holds(claim):  # it is the claim in its own precision that is wrong
        return line

    def fit(candidate: F64, offset: F64) -> tuple[float, int]:
        told, start = along(candidate).value, along(offset).value
        counts = usable & (told != 0)
        error = sheet.bound + SHARPEST * np.abs(sheet.value) + np.finfo(np.float64).tiny
        weight = np.where(counts, 1 / np.where(counts, error, 1.0) ** 2, 0.0)
        size = float(np.sum(weight * told**2))
        rest = np.where(counts, sheet.value - start, 0.0)
        return (float(np.sum(weight * told * rest)) / size if size > 0 else 0.0), int(np.sum(counts))

    leaf = sheet.leaf
    with np.errstate(all="ignore"):
        found = diagnose(
            Facts(
                claim=claim,
                x=bench.program.point[leaf.span],
                shape=leaf.shape,
                width=leaf.width,
                sizes=_sizes(bench),
                holds=holds,
                fit=fit,
                mirrored=lambda: _mirrored(bench, rows, leaf),
                true=true,
                wrong=wrong,
            )
        )
    return replace(line, diagnosis=f"{found.kind.code}: {found.line}")


def _mirrored(bench: Bench, rows: Rows, leaf: Leaf) -> F64 | None:
    """The claim for the conjugated cotangents; None where outputs are real, or where it cannot be asked for."""
    outputs, channels = bench.program.outputs, bench.setting.channels
    if rows.claim is None or rows.claim.vjp is None or all(out.width == 1 for out in outputs):
        return None
    signs = np.concatenate([np.tile([1.0, -1.0] if out.width == 2 else [1.0], out.entries) for out in outputs])
    cotangents = signs * (np.eye(signs.size) if channels is None else channels)
    try:
        return rows.claim.vjp(bench.program.point, cotangents)[:, leaf.span]
    except Exception:
        return None


def _sizes(bench: Bench) -> dict[int, str]:
    """What each size is the size of, among all arrays of the call."""
    found: dict[int, str] = {}
    for path, shape in bench.program.shapes:
        for axis, size in enumerate(shape):
            found.setdefault(size, f"the size of {path} along axis {axis}" if len(shape) > 1 else f"the size of {path}")
    for path, shape in bench.program.shapes:
        found.setdefault(int(np.prod(shape)), f"the number of entries of {path}")
    return found
