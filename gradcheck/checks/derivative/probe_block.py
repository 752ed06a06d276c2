"""Random directions on a part of a leaf: the estimates along them, a claim along them, and what they resolve."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.backends.flat import Leaf
from gradcheck.compare import entry_lines
from gradcheck.compare.entry_lines import along_tangents
from gradcheck.compare.estimates import Sheet, measure
from gradcheck.compare.jacobians import Rows
from gradcheck.compare.judge import Along, Compared
from gradcheck.compare.table import comparison
from gradcheck.evidence import directions
from gradcheck.evidence.line import F64, Setting
from gradcheck.results import Comparison
from gradcheck.seeds import generator

if TYPE_CHECKING:
    from gradcheck.compare.trial import Bench

DENSE, SPARSE = 3, 1
PROBES = DENSE + SPARSE
CERTAINTY = 0.99  # with which a wrong entry of the stated resolution would have been caught
MISSED = (1 - CERTAINTY) ** (1 / DENSE) / 0.8  # of its scale: hardly any draw moves an entry by less in all dense probes


@dataclass(frozen=True)
class Part:
    """Some consecutive numbers of a leaf, with probes on them: tangents (P, n), each read in the channel of its number."""

    sheet: Sheet
    tangents: F64
    place: slice


def probes_on(bench: Bench, leaf: Leaf, part: slice) -> Part:
    """Estimate the derivative along random directions of a part of a leaf, cheaply.

    Dense directions, and a sparse one for derivatives that dense ones would drown.
    """
    program = bench.program
    x = program.point[leaf.span]
    tangents = np.zeros((PROBES, x.size))
    for k in range(PROBES):
        rng = generator(0, "tangent", bench.label, leaf.path, part.start, part.stop, k)
        tangents[k, part] = (directions.dense if k < DENSE else directions.sparse)(rng, x[part], program.eps)
    phis = [bench.evaluator.line(entry_lines.embedded(program, leaf, u)) for u in tangents]
    return Part(measure(leaf, phis, [only(bench.setting, k) for k in range(PROBES)], program.eps), tangents, part)


def only(setting: Setting, channel: int) -> Setting:
    """The same for one of its channels."""
    assert setting.channels is not None
    return replace(setting, channels=setting.channels[channel : channel + 1])


def along(rows: Rows, part: Part) -> Along:
    """A claim, one row per probe, along a part's probes."""
    return along_tangents(rows, part.sheet.leaf.span, part.tangents)


def resolution_of_probes(found: Compared, rows: Rows, part: Part) -> float:
    """Relative error of a single entry of typical size that would have been caught with probability 99 %.

    An entry wrong by r moves probe k by r |g_i u_i|; it is missed by k probes that all have |u_i| below t with probability
    (0.8 t)^k, 0.8 t being the chance that a standard normal number stays below a small t. NaN where the derivative is zero.
    """
    s = found.sides
    if s.apart.shape[1] != PROBES or np.all(s.size <= s.allowed):
        return float("nan")
    touched = np.any(part.tangents != 0, axis=0)
    terms = (rows.rows[:, part.sheet.leaf.span] * part.tangents)[:DENSE, touched]
    size = np.sqrt(np.mean(terms**2, axis=1))
    with np.errstate(all="ignore"):
        seen = (s.apart + s.allowed)[0, :DENSE] / (MISSED * size)
    return float(np.max(np.where(np.isnan(seen), 0.0, seen)))


def row(bench: Bench, c: Compared, rows: Rows, against: str, resolution: float, *, entries: bool = False) -> Comparison:
    """The line of the table; `entries` where every entry was compared, not sums along probes."""
    entry, unit = c.at if c.at is not None else (None, 1.0)
    line = comparison(
        c,
        bench.program,
        (rows.method, against),
        bench.rtol(rows),
        units=np.full(c.code.shape[1], unit),
        channels=bench.setting.channels,
        resolution=resolution,
        trial=bench.trial,
        mode="full" if entries else "probe",
        certainty=1.0 if entries else CERTAINTY,
    )
    return line if entry is None else replace(line, worst_entry=c.leaf.index(c.leaf.start + entry))
