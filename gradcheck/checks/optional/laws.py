"""Check `laws`: the claims obey the rules of differentiation. No differences are taken, so it is sharp in every dtype.

Automatic differentiation of a combination of functions must give what the rule makes of the claims about each:

    linearity    d(2 f - 3 g) = 2 df - 3 dg
    product      d(f g) = g df + f dg
    chain        d(f²) = 2 f df
    vjp          Jᵀ(2 v - 3 w) = 2 Jᵀv - 3 Jᵀw
    adjoint      ⟨v, J u⟩ = ⟨Jᵀ v, u⟩

g is the user's partner function, or f itself at three quarters of its inputs. A backward that keeps anything from one call to
the next outside its context confuses the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.backends.flat import EPS
from gradcheck.backends.program import Unavailable
from gradcheck.compare import claimed_jacobians, conditioning, directional, internal_precision
from gradcheck.compare.identity import bound_difference, bound_round_off, explain_by_precision, explain_by_shift
from gradcheck.compare.output_scaling import measure_output_scales
from gradcheck.errors import InputError, TargetError
from gradcheck.evidence import directions
from gradcheck.results import CheckTable, Reason, Row, Verdict
from gradcheck.seeds import make_generator

if TYPE_CHECKING:
    from gradcheck.backends.program import Claim, Program
    from gradcheck.compare.trial import MeasuredTrial
    from gradcheck.evidence.line import F64

COLUMNS = ("law", "combination", "by the rule", "rel err", "bound")
# With its inputs multiplied by this factor, f is its own partner.
SHRINKING = 0.75
# A law does not count as confirmed if its bound, relative to the entry, is larger than this.
MAX_CONFIRMED_BOUND = 1e-2
# In the choice of the entry to show, an entry's size has this weight: it decides only if both sides agree everywhere.
TIE_BREAK = 1e-20
NOT_HERE = "not available"


@dataclass(frozen=True)
class _Member:
    """A function in a combination, with its claimed derivative; both are functions of the point (N,).

    Attributes:
        fn: the function as the backend calls it; None: the target, at inputs multiplied by `scales`, one factor for each leaf.
        value: (N,) -> (M,).
        vjp: (N,), (M,) -> (N,).
    """

    fn: Callable[..., Any] | None
    scales: tuple[float, ...]
    value: Callable[[F64], F64]
    vjp: Callable[[F64, F64], F64]


@dataclass(frozen=True)
class _Law:
    """An equation: `left` must be the sum of `terms`.

    Attributes:
        size: size of the largest output in it: terms as large as that may cancel in a derivative.
        left: point (N,) -> (n,).
        terms: point (N,) -> K arrays (n,).
    """

    name: str
    size: float
    left: Callable[[F64], F64]
    terms: Callable[[F64], list[F64]]


def check_laws(trial: MeasuredTrial, claim: Claim, partners: Sequence[Program], methods: frozenset[str]) -> CheckTable:
    """Check every law with every partner.

    Args:
        partners: programs to combine the target with; if there is none, the target is its own partner.
        methods: names of the methods that may be used to differentiate a combination.
    """
    checked = [_check_law(trial, claim, law) for law in _laws(trial, claim, partners, methods)]
    rows, missing = [row for row, _ in checked], _describe_missing(checked)
    broken = [row.label for row in rows if row.remark == Verdict.FAIL.value]
    confirmed = [row.label for row in rows if not row.remark and not row.values[3] > MAX_CONFIRMED_BOUND]
    if broken:
        verdict, reason = Verdict.FAIL, Reason.LAW_BROKEN
        conclusion = f"{', '.join(broken)}: {Reason.LAW_BROKEN.message}"
    elif confirmed:
        verdict, reason = Verdict.PASS, Reason.AGREES
        hold = "law holds" if len(confirmed) == 1 else "laws hold"
        conclusion = f"{len(confirmed)} {hold} to rounding{missing and f'; {missing}'}"
    else:
        verdict, reason, conclusion = Verdict.INCONCLUSIVE, Reason.NOTHING_CLAIMED, missing
    return CheckTable("laws", claim.method, verdict, reason, conclusion, COLUMNS, tuple(rows), trial=trial.number)


def _describe_missing(checked: list[tuple[Row, str]]) -> str:
    """Name the laws that could not be checked, and why."""
    causes: dict[str, list[str]] = {}
    for row, cause in checked:
        if cause:
            causes.setdefault(cause, []).append(row.label)
    return "; ".join(f"{', '.join(names)} {NOT_HERE}: {cause}" for cause, names in causes.items())


def _laws(trial: MeasuredTrial, claim: Claim, partners: Sequence[Program], methods: frozenset[str]) -> Iterator[_Law]:
    """Yield the laws that apply: products need real outputs, and the last two a vjp that is not linear by construction."""
    v, w = _draw_cotangents(trial)
    f, is_real = _make_target_member(trial, claim, 1.0), all(leaf.width == 1 for leaf in trial.program.outputs)
    partner_members = [_make_partner_member(trial.program, p) for p in partners] or [_make_shrunk_member(trial, claim)]
    names = [f" with {p.name}" for p in partners] or [""]
    for g, name in zip(partner_members, names, strict=True):
        yield _linearity(trial, f, g, v, name, methods)
        if is_real:
            yield _product_rule(trial, f, g, v, name, methods)
    if is_real:
        yield _chain_rule(trial, f, v, methods)
    if claim.vjp is not None and not claim.linear:
        yield _vjp_linearity(trial, f, v, w)
    forward_claims = [c for c in trial.program.claims if c.jvp is not None]
    if claim.vjp is not None and (forward_claims or "complex-step" in methods):
        yield _adjoint_test(trial, f, forward_claims[0] if forward_claims else None, v)


def _linearity(trial: MeasuredTrial, f: _Member, g: _Member, v: F64, name: str, methods: frozenset[str]) -> _Law:
    def combined(x: F64) -> F64:
        return _differentiate_combination(trial, x, (f, g), lambda a, b: 2 * a - 3 * b, v, methods)

    x = trial.program.point
    size = _largest_finite(v * (2 * np.abs(f.value(x)) + 3 * np.abs(g.value(x))))
    return _Law(f"linearity{name}", size, combined, lambda x: [f.vjp(x, 2 * v), g.vjp(x, -3 * v)])


def _product_rule(trial: MeasuredTrial, f: _Member, g: _Member, v: F64, name: str, methods: frozenset[str]) -> _Law:
    def combined(x: F64) -> F64:
        return _differentiate_combination(trial, x, (f, g), lambda a, b: a * b, v, methods)

    size = _largest_finite(v * f.value(trial.program.point) * g.value(trial.program.point))
    return _Law(f"product rule{name}", size, combined, lambda x: [f.vjp(x, v * g.value(x)), g.vjp(x, v * f.value(x))])


def _chain_rule(trial: MeasuredTrial, f: _Member, v: F64, methods: frozenset[str]) -> _Law:
    def combined(x: F64) -> F64:
        return _differentiate_combination(trial, x, (f,), lambda a: a * a, v, methods)

    size = _largest_finite(2 * v * f.value(trial.program.point) ** 2)
    return _Law("chain rule", size, combined, lambda x: [f.vjp(x, 2 * v * f.value(x))])


def _vjp_linearity(trial: MeasuredTrial, f: _Member, v: F64, w: F64) -> _Law:
    size = _largest_finite((2 * np.abs(v) + 3 * np.abs(w)) * f.value(trial.program.point))
    return _Law("vjp is linear", size, lambda x: f.vjp(x, 2 * v - 3 * w), lambda x: [2 * f.vjp(x, v), -3 * f.vjp(x, w)])


def _adjoint_test(trial: MeasuredTrial, f: _Member, forward: Claim | None, v: F64) -> _Law:
    """Make the adjoint test with a forward-mode claim, or with the complex step if there is none."""
    program, u = trial.program, directional.draw_tangent(trial, "adjoint")

    def weighted_jvp(x: F64) -> F64:
        if forward is not None and forward.jvp is not None:
            output_tangent = forward.jvp(x, u[None])[0]
        else:
            assert program.capabilities.complex_step is not None
            output_tangent = program.capabilities.complex_step(x, u)
        return np.asarray([v @ output_tangent])

    size = _largest_finite(v * f.value(program.point))
    return _Law("adjoint test", size, weighted_jvp, lambda x: list((f.vjp(x, v) * u)[:, None]))


def _largest_finite(outputs: F64) -> float:
    """Return the largest absolute value among the finite ones; 0 if there is none."""
    return float(np.max(np.abs(outputs), initial=0.0, where=np.isfinite(outputs)))


def _differentiate_combination(
    trial: MeasuredTrial, x: F64, members: tuple[_Member, ...], combine: Callable[..., Any], v: F64, methods: frozenset[str]
) -> F64:
    """Compute the vjp of a combination of functions, (N,).

    Raises:
        Unavailable: if no method can differentiate it.
    """
    if trial.program.capabilities.vjp_of_combination is None:
        raise Unavailable("this framework does not differentiate combinations")
    return trial.program.capabilities.vjp_of_combination(x, [(m.fn, m.scales) for m in members], combine, v, methods)


def _check_law(trial: MeasuredTrial, claim: Claim, law: _Law) -> tuple[Row, str]:
    """Return the row of a law, at the entry where its sides differ most, and the reason if the row is empty."""
    program = trial.program
    try:
        left, terms = law.left(program.point), np.stack(law.terms(program.point))
    except (Unavailable, TargetError) as error:
        return Row(law.name, (float("nan"),) * 4, NOT_HERE), str(error)
    eps = max(claim.eps, *(EPS[leaf.dtype] for leaf in program.outputs))
    right, size = terms.sum(axis=0), np.abs(terms).sum(axis=0)
    difference, scale = np.abs(left - right), np.maximum(np.abs(left), np.abs(right))
    leaf_scale, leaf_size = _largest_of_leaf(trial, scale), _largest_of_leaf(trial, size)
    points = conditioning.jitter_points(program.point, eps, law.name)
    allowed = np.asarray(
        bound_difference(
            difference,
            bound_round_off(eps, np.maximum(leaf_size, law.size / _input_scales(trial, size))),
            explain_by_shift(lambda: conditioning.measure_shift(lambda x: np.sum(law.terms(x), axis=0), right, points)),
            explain_by_precision(lambda: internal_precision.measure_internal_tolerance(trial), leaf_size),
        )
    )
    excess = np.nan_to_num(difference - allowed - trial.rtol_of(eps) * scale, nan=np.inf)
    is_broken = bool(np.any(excess > 0))
    with np.errstate(all="ignore"):
        relative = np.nan_to_num(difference / leaf_scale, nan=0.0)
        worst = int(np.argmax(excess if is_broken else relative + TIE_BREAK * np.nan_to_num(scale / leaf_scale)))
        unit = scale[worst] if is_broken else leaf_scale[worst]
        coarse = "too coarse to tell" if allowed[worst] > MAX_CONFIRMED_BOUND * unit > 0 else ""
        relative_error = difference[worst] / unit if difference[worst] else 0.0
        values = left[worst], right[worst], relative_error, allowed[worst] / (unit or np.nan)
    return Row(law.name, tuple(map(float, values)), Verdict.FAIL.value if is_broken else coarse), ""


def _input_scales(trial: MeasuredTrial, sizes: F64) -> F64:
    """Return the scale of each entry's leaf, (N,), or 1 for the single number of the adjoint test."""
    if sizes.size == 1:
        return np.ones(1)
    leaves, point = trial.program.leaves, trial.program.point
    return np.concatenate([np.full(o.entries * o.width, directions.compute_leaf_scale(point[o.span])) for o in leaves])


def _largest_of_leaf(trial: MeasuredTrial, sizes: F64) -> F64:
    """Replace each entry by the largest of its leaf; a single number stays as it is."""
    if sizes.size == 1:
        return sizes
    largest = np.zeros(sizes.shape)
    for leaf in trial.leaves:
        largest[leaf.span] = np.max(sizes[leaf.span])
    return largest


def _draw_cotangents(trial: MeasuredTrial) -> tuple[F64, F64]:
    scaling = measure_output_scales(trial.evaluator, trial.setting, trial.label)
    first, second = (scaling.draw_cotangent(make_generator(0, "laws", trial.label, k)) for k in range(2))
    return first, second


def _make_target_member(trial: MeasuredTrial, claim: Claim, scale: float) -> _Member:
    """Make a member of the target with its inputs multiplied by a factor; a module's parameters stay as they are."""
    program = trial.program
    scales = tuple(1.0 if leaf.path.startswith("params[") else scale for leaf in program.leaves)
    factors = np.concatenate([np.full(leaf.entries * leaf.width, s) for leaf, s in zip(program.leaves, scales, strict=True)])
    evaluate = program.capabilities.evaluate_native or program.evaluate

    def vjp(x: F64, v: F64) -> F64:
        return np.asarray(claimed_jacobians.evaluate_rows(claim, x * factors, v[None])[0] * factors)

    return _Member(None, scales, lambda x: evaluate(x * factors), vjp)


def _make_shrunk_member(trial: MeasuredTrial, claim: Claim) -> _Member:
    """Make a member of the target at three quarters of its inputs, or at the inputs themselves if it is not finite there."""
    shrunk = _make_target_member(trial, claim, SHRINKING)
    try:
        is_finite = bool(np.all(np.isfinite(shrunk.value(trial.program.point))))
    except Exception:
        is_finite = False
    return shrunk if is_finite else _make_target_member(trial, claim, 1.0)


def _describe_outputs(program: Program) -> str:
    return ", ".join(f"{leaf.dtype} {leaf.shape}" for leaf in program.outputs)


def _make_partner_member(program: Program, partner: Program) -> _Member:
    """Make a member of the user's partner function; its leaves are matched with the target's by their paths.

    Raises:
        InputError: if its inputs or outputs do not fit the target, or it has no derivative.
    """
    leaves = {leaf.path: leaf for leaf in program.leaves}
    actual, expected = ([(leaf.shape, leaf.width) for leaf in p.outputs] for p in (partner, program))
    if actual != expected:
        hint = f"expected those of the target's outputs, {_describe_outputs(program)}"
        raise InputError(f"partner {partner.name} returns {_describe_outputs(partner)}: {hint}")
    unknown = [leaf.path for leaf in partner.leaves if leaf.path not in leaves]
    if unknown:
        raise InputError(f"partner {partner.name} has the inputs {', '.join(unknown)}: expected those of the target")
    places = np.concatenate([np.arange(leaves[o.path].span.start, leaves[o.path].span.stop) for o in partner.leaves])
    claim = directional.choose_main_claim(partner)
    if claim is None:
        raise InputError(f"partner {partner.name} carries no derivative: every output is detached or constant")
    evaluate = partner.capabilities.evaluate_native or partner.evaluate

    def vjp(x: F64, v: F64) -> F64:
        gradient = np.zeros(x.shape)
        gradient[places] = claimed_jacobians.evaluate_rows(claim, x[places], v[None])[0]
        return gradient

    return _Member(partner.fn, (1.0,) * len(program.leaves), lambda x: evaluate(x[places]), vjp)
