"""The rules of differentiation, held by the claims themselves: no differences are taken, so they are sharp in every dtype.

What automatic differentiation says of a combination of functions must be what the rule makes of the claims about each:

    linearity    d(2 f - 3 g) = 2 df - 3 dg
    product      d(f g) = g df + f dg
    chain        d(f²) = 2 f df
    vjp          Jᵀ(2 v - 3 w) = 2 Jᵀv - 3 Jᵀw
    adjoint      ⟨v, J u⟩ = ⟨Jᵀ v, u⟩

g is a function of the user's, or f itself at three quarters of its inputs: a backward that keeps anything from one call to the
next outside its context gets the two mixed up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.backends.flat import EPS
from gradcheck.backends.program import Unavailable
from gradcheck.compare import conditioning, directional, internal_precision, jacobians
from gradcheck.compare.output_scaling import outlook
from gradcheck.errors import InputError, TargetError
from gradcheck.evidence import directions
from gradcheck.results import CheckTable, Reason, Row, Verdict
from gradcheck.seeds import generator

if TYPE_CHECKING:
    from gradcheck.backends.program import Claim, Program
    from gradcheck.compare.trial import Bench
    from gradcheck.evidence.line import F64

COLUMNS = ("law", "combination", "by the rule", "rel err", "bound")
SHRUNK = 0.75  # of its inputs: where f is its own partner
UNITS = 64.0  # in the last place of a leaf's largest term
JITTERS = 4
COARSE = 1e-2  # relative: a law that holds to within that only is not counted as held
LAST = 1e-20  # where both sides are the same everywhere, the largest entry is shown
NOT_HERE = "not available"


@dataclass(frozen=True)
class _Member:
    """A function in a combination, as claimed: everything is a function of the point, (N,).

    Attributes:
        fn: how the backend calls it; None: the target, at inputs multiplied by `scales`, one number a leaf.
        value: (N,) -> (M,).
        vjp: (N,), (M,) -> (N,).
    """

    fn: Callable[..., Any] | None
    scales: tuple[float, ...]
    value: Callable[[F64], F64]
    vjp: Callable[[F64, F64], F64]


@dataclass(frozen=True)
class _Law:
    """One equation: `left` must be the sum of `terms`; of a point, (N,) -> (n,) and (K, n).

    Attributes:
        size: of the largest output that it is about: terms as large as that may cancel in a derivative.
    """

    name: str
    size: float
    left: Callable[[F64], F64]
    terms: Callable[[F64], list[F64]]


def examine(bench: Bench, claim: Claim, partners: Sequence[Program], used: frozenset[str]) -> CheckTable:
    """Hold every law, with every partner."""
    held_rows = [_held(bench, claim, law) for law in _laws(bench, claim, partners, used)]
    rows, missing = [row for row, _ in held_rows], _missing(held_rows)
    broken = [row.label for row in rows if row.remark == Verdict.FAIL.value]
    held = [row.label for row in rows if not row.remark and not row.values[3] > COARSE]
    if broken:
        verdict, reason, words = Verdict.FAIL, Reason.LAW_BROKEN, f"{', '.join(broken)}: {Reason.LAW_BROKEN.message}"
    elif held:
        words = f"{len(held)} {'law holds' if len(held) == 1 else 'laws hold'} to rounding{missing and f'; {missing}'}"
        verdict, reason = Verdict.PASS, Reason.AGREES
    else:
        verdict, reason, words = Verdict.INCONCLUSIVE, Reason.NOTHING_CLAIMED, missing
    return CheckTable("laws", claim.method, verdict, reason, words, COLUMNS, tuple(rows), trial=bench.trial)


def _missing(rows: list[tuple[Row, str]]) -> str:
    """Which laws could not be held, and why."""
    causes: dict[str, list[str]] = {}
    for row, why in rows:
        if why:
            causes.setdefault(why, []).append(row.label)
    return "; ".join(f"{', '.join(names)} {NOT_HERE}: {why}" for why, names in causes.items())


def _laws(bench: Bench, claim: Claim, partners: Sequence[Program], used: frozenset[str]) -> Iterator[_Law]:
    v, w = _cotangents(bench)
    f, real = _target(bench, claim, 1.0), all(leaf.width == 1 for leaf in bench.program.outputs)
    others = [_partner(bench.program, p) for p in partners] or [_shrunk(bench, claim)]
    names = [f" with {p.name}" for p in partners] or [""]
    for g, name in zip(others, names, strict=True):
        yield _linearity(bench, f, g, v, name, used)
        if real:
            yield _product(bench, f, g, v, name, used)
    if real:
        yield _chain(bench, f, v, used)
    if claim.vjp is not None and not claim.linear:
        yield _of_vjp(bench, f, v, w)
    pushes = [c for c in bench.program.claims if c.jvp is not None]
    if claim.vjp is not None and (pushes or "complex-step" in used):
        yield _adjoint(bench, f, pushes[0] if pushes else None, v)


def _linearity(bench: Bench, f: _Member, g: _Member, v: F64, name: str, used: frozenset[str]) -> _Law:
    def combined(x: F64) -> F64:
        return _composed(bench, x, (f, g), lambda a, b: 2 * a - 3 * b, v, used)

    x = bench.program.point
    size = _size(v * (2 * np.abs(f.value(x)) + 3 * np.abs(g.value(x))))
    return _Law(f"linearity{name}", size, combined, lambda x: [f.vjp(x, 2 * v), g.vjp(x, -3 * v)])


def _product(bench: Bench, f: _Member, g: _Member, v: F64, name: str, used: frozenset[str]) -> _Law:
    def combined(x: F64) -> F64:
        return _composed(bench, x, (f, g), lambda a, b: a * b, v, used)

    size = _size(v * f.value(bench.program.point) * g.value(bench.program.point))
    return _Law(f"product rule{name}", size, combined, lambda x: [f.vjp(x, v * g.value(x)), g.vjp(x, v * f.value(x))])


def _chain(bench: Bench, f: _Member, v: F64, used: frozenset[str]) -> _Law:
    def combined(x: F64) -> F64:
        return _composed(bench, x, (f,), lambda a: a * a, v, used)

    size = _size(2 * v * f.value(bench.program.point) ** 2)
    return _Law("chain rule", size, combined, lambda x: [f.vjp(x, 2 * v * f.value(x))])


def _of_vjp(bench: Bench, f: _Member, v: F64, w: F64) -> _Law:
    size = _size((2 * np.abs(v) + 3 * np.abs(w)) * f.value(bench.program.point))
    return _Law("vjp is linear", size, lambda x: f.vjp(x, 2 * v - 3 * w), lambda x: [2 * f.vjp(x, v), -3 * f.vjp(x, w)])


def _adjoint(bench: Bench, f: _Member, forward: Claim | None, v: F64) -> _Law:
    program, u = bench.program, directional.displacement(bench, "adjoint")

    def pushed(x: F64) -> F64:
        if forward is not None and forward.jvp is not None:
            along = forward.jvp(x, u[None])[0]
        else:
            assert program.complex_step is not None
            along = program.complex_step(x, u)
        return np.asarray([v @ along])

    return _Law("adjoint test", _size(v * f.value(program.point)), pushed, lambda x: list((f.vjp(x, v) * u)[:, None]))


def _size(outputs: F64) -> float:
    return float(np.max(np.abs(outputs), initial=0.0, where=np.isfinite(outputs)))


def _composed(
    bench: Bench, x: F64, members: tuple[_Member, ...], combine: Callable[..., Any], v: F64, used: frozenset[str]
) -> F64:
    if bench.program.composed is None:
        raise Unavailable("this framework does not differentiate combinations")
    return bench.program.composed(x, [(m.fn, m.scales) for m in members], combine, v, used)


def _held(bench: Bench, claim: Claim, law: _Law) -> tuple[Row, str]:
    """One line, at the entry where the two sides differ most; and why it is empty, where it is."""
    program, nothing = bench.program, (float("nan"),) * 4
    try:
        left, terms = law.left(program.point), np.stack(law.terms(program.point))
    except (Unavailable, TargetError) as why:
        return Row(law.name, nothing, NOT_HERE), str(why)
    eps = max(claim.eps, *(EPS[leaf.dtype] for leaf in program.outputs))
    right, size = terms.sum(axis=0), np.abs(terms).sum(axis=0)
    apart, scale = np.abs(left - right), np.maximum(np.abs(left), np.abs(right))
    allowed = UNITS * (eps * np.maximum(_largest(bench, size), law.size / _scales(bench, size)) + directions.smallest(eps))
    whole = _largest(bench, scale)
    if np.any(apart > allowed):
        allowed = allowed + UNITS * (_spread(program.point, law, eps) + internal_precision.noise(bench) * _largest(bench, size))
    excess = np.nan_to_num(apart - allowed - bench.rtol_of(eps) * scale, nan=np.inf)
    broken = bool(np.any(excess > 0))
    with np.errstate(all="ignore"):
        relative = np.nan_to_num(apart / whole, nan=0.0)
        place = int(np.argmax(excess if broken else relative + LAST * np.nan_to_num(scale / whole)))
        beside = scale[place] if broken else whole[place]
        coarse = "too coarse to tell" if allowed[place] > COARSE * beside > 0 else ""
        values = left[place], right[place], apart[place] / beside if apart[place] else 0.0, allowed[place] / (beside or np.nan)
    return Row(law.name, tuple(map(float, values)), Verdict.FAIL.value if broken else coarse), ""


def _scales(bench: Bench, sizes: F64) -> F64:
    """The size of each entry's leaf; of one number along a tangent 1."""
    if sizes.size == 1:
        return np.ones(1)
    return np.concatenate(
        [np.full(o.entries * o.width, directions.scale_of(bench.program.point[o.span])) for o in bench.program.leaves]
    )


def _largest(bench: Bench, sizes: F64) -> F64:
    """Of each leaf the largest, at every entry; one number stays as it is."""
    if sizes.size == 1:
        return sizes
    found = np.zeros(sizes.shape)
    for leaf in bench.leaves:
        found[leaf.span] = np.max(sizes[leaf.span])
    return found


def _spread(point: F64, law: _Law, eps: float) -> F64:
    """How far the rule's side moves when the inputs move by one unit in the last place."""
    here = np.sum(law.terms(point), axis=0)
    spread = np.zeros(here.shape)
    for at in conditioning.points_around(point, eps, law.name, JITTERS):
        try:
            moved = np.sum(law.terms(at), axis=0) - here
        except (Unavailable, TargetError):
            continue
        spread = np.fmax(spread, np.abs(moved))
    return spread


def _cotangents(bench: Bench) -> tuple[F64, F64]:
    found = outlook(bench.evaluator, bench.setting, bench.label)
    first, second = (found.cotangent(generator(0, "laws", bench.label, k)) for k in range(2))
    return first, second


def _target(bench: Bench, claim: Claim, scale: float) -> _Member:
    """The target as a member, its inputs multiplied by a number; a module's parameters stay as they are."""
    program = bench.program
    scales = tuple(1.0 if leaf.path.startswith("params[") else scale for leaf in program.leaves)
    wide = np.concatenate([np.full(leaf.entries * leaf.width, s) for leaf, s in zip(program.leaves, scales, strict=True)])
    value = program.native or program.evaluate

    def vjp(x: F64, v: F64) -> F64:
        return np.asarray(jacobians.rows_of(claim, x * wide, v[None])[0] * wide)

    return _Member(None, scales, lambda x: value(x * wide), vjp)


def _shrunk(bench: Bench, claim: Claim) -> _Member:
    """The target at three quarters of its inputs, or at the same ones, where it is not finite there."""
    found = _target(bench, claim, SHRUNK)
    try:
        finite = bool(np.all(np.isfinite(found.value(bench.program.point))))
    except Exception:
        finite = False
    return found if finite else _target(bench, claim, 1.0)


def _told_of(program: Program) -> str:
    return ", ".join(f"{leaf.dtype} {leaf.shape}" for leaf in program.outputs)


def _partner(program: Program, partner: Program) -> _Member:
    """A function of the user's as a member; its leaves are found among the target's by their paths."""
    own = {leaf.path: leaf for leaf in program.leaves}
    got, expected = ([(leaf.shape, leaf.width) for leaf in p.outputs] for p in (partner, program))
    if got != expected:
        expected_ones = f"expected those of the target's outputs, {_told_of(program)}"
        raise InputError(f"partner {partner.name} returns {_told_of(partner)}: {expected_ones}")
    strange = [leaf.path for leaf in partner.leaves if leaf.path not in own]
    if strange:
        raise InputError(f"partner {partner.name} has the inputs {', '.join(strange)}: expected those of the target")
    places = np.concatenate([np.arange(own[o.path].span.start, own[o.path].span.stop) for o in partner.leaves])
    claim = directional.chief(partner)
    if claim is None:
        raise InputError(f"partner {partner.name} carries no derivative: every output is detached or constant")
    value = partner.native or partner.evaluate

    def vjp(x: F64, v: F64) -> F64:
        found = np.zeros(x.shape)
        found[places] = jacobians.rows_of(claim, x[places], v[None])[0]
        return found

    return _Member(partner.fn, (1.0,) * len(program.leaves), lambda x: value(x[places]), vjp)
