"""What a comparison says, in sentences: every report for people tells it in the same words."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradcheck.glossary.diagnoses import Diagnosis
from gradcheck.results import CheckResult, Comparison, Intent, Reason, Verdict, Whereabouts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

VALUES = "values"
SECOND = "second derivatives, of ∂output/∂x; of several outputs a random combination"
SAVED = (
    "unless a formula is wrong: what a forward saves besides inputs and outputs, or a backward computes in NumPy or of what is"
    " detached, is a constant to the second backward"
)
UNKNOWN = "unknown:"  # a diagnosis that is told only where none of the other methods' has more to say

WAYS = {  # to pass
    Reason.KINK_SUBGRADIENT: "kink",
    Reason.BOTH_ZERO: "zero",
    Reason.TIE: "tie",
    Reason.STRAIGHT_THROUGH: "declared",
}


@dataclass(frozen=True)
class Told:
    """What is not PASS at one place of a leaf.

    Attributes:
        place: which derivative.
        lines: its values, which entries are wrong, and what the error looks like.
        advice: what to do about it; of a fault that has a name, the usual mend.
    """

    verdict: Verdict
    reason: Reason
    place: str
    lines: tuple[str, ...]
    advice: str
    diagnosis: Diagnosis | None = None

    @property
    def why(self) -> str:
        """The reason, in a sentence."""
        return self.reason.message


def explained(of_leaf: Sequence[Comparison]) -> Iterator[Told]:
    """What is not PASS on one leaf: where, by how much, and the likely cause."""
    groups: dict[tuple[object, ...], list[Comparison]] = {}
    for c in of_leaf:
        if c.verdict is not Verdict.PASS:
            groups.setdefault((c.verdict, c.worst_entry, c.output, c.method, c.trial), []).append(c)
    said: dict[str, list[Whereabouts]] = defaultdict(list)
    for group in groups.values():
        first = group[0]
        lines = [values(c) for c in group] + [accuracy(c) for c in group if c.ratio is not None]
        if first.where and not any(_covers(earlier, first.where) for earlier in said[first.method]):
            said[first.method].append(first.where)
            lines.append(whereabouts(first, first.where))
        told = list(dict.fromkeys(c.diagnosis for c in group if c.diagnosis))
        known = [line for line in told if not line.startswith(UNKNOWN)]
        told = known or ([SAVED] if told and first.order > 1 else told)
        lines += told
        if first.self_test and first.self_test.slipped:
            lines.append(f"slipped through: {', '.join(first.self_test.slipped)}")
        at = f"{derivative(first)}{f', trial {first.trial}' if first.trial else ''}"
        named = diagnosis_of(told[0]) if told else None
        new = named is not None and named.mend not in told[0]
        mend = f"The usual mend: {named.mend}." if named and new else ""
        yield Told(first.verdict, first.reason, at, tuple(lines), first.reason.advice or mend, named)


def diagnosis_of(line: str) -> Diagnosis | None:
    """Which diagnosis a line tells; None of one that this version does not know."""
    code = line.partition(":")[0]
    return next((known for known in Diagnosis if known.code == code), None)


def located(of_leaf: Sequence[Comparison]) -> Iterator[tuple[Comparison, Whereabouts]]:
    """The comparisons that know wrong entries, each set of entries of a claim once."""
    said: dict[str, list[Whereabouts]] = defaultdict(list)
    for c in of_leaf:
        where = c.where
        if c.verdict is Verdict.FAIL and where and where.entries and not any(_covers(w, where) for w in said[c.method]):
            said[c.method].append(where)
            yield c, where


def stands_alone(of_leaf: Sequence[Comparison]) -> str:
    """Which method every other contradicts, in a sentence; '' where there is no such."""
    alone = _alone(of_leaf)
    if not alone:
        return ""
    others = sorted({m for c in of_leaf if c.ratio is None for m in (c.method, c.against)} - {alone})
    return f"{alone} stands alone: {', '.join(others)} agree with each other"


def _covers(known: Whereabouts, where: Whereabouts) -> bool:
    """Whether the wrong entries of a claim were listed already: of the same ones another method may be sure of fewer."""
    before, now = ({w.entry for w in which.entries} for which in (known, where))
    return now <= before and (where.count or 0) <= (known.count or 0)


def whereabouts(c: Comparison, where: Whereabouts) -> str:
    """How many entries are wrong, and which; where not all were looked at, what that rests on."""
    listed = len(where.entries)
    total = f"{c.entries:,} {'entry' if c.entries == 1 else 'entries'}"
    if where.count == c.entries:
        return f"all {total} are wrong" if c.entries > 1 else "the only entry is wrong"
    if where.count is not None:
        more = f" and {where.count - listed} more" if where.count > listed else ""
        counted = f"all {where.count} entries of {where.slice}" if where.slice else f"{where.count} of {total}"
        told = f"{counted} {'is' if where.count == 1 else 'are'} wrong: {_wrong(c, where, more)}"
        return told if where.examined == 1 else f"{told}; {_share(where)}"
    looked, wrong = where.sampled
    others = f"; of {looked} others taken at random {wrong} are wrong" if looked else ""
    return f"of {total} at least {listed} wrong: {_wrong(c, where)}{others}; {_share(where)}"


def _wrong(c: Comparison, where: Whereabouts, more: str = "") -> str:
    """The wrong entries with what is claimed for what is true; of which output, where it is not the one named above."""
    others = {w.output for w in where.entries} - {"", c.output}
    kind = _outputs(c)
    combined = others == {"combination"}
    of = {output: f" ({output})" for output in others if not combined}
    named = ", ".join(f"{index(w.entry)} {w.claimed:.6g} for {w.estimate:.6g}{of.get(w.output, '')}" for w in where.entries)
    return named + more + (f" (of a random combination of the {kind})" if combined else "")


def _share(where: Whereabouts) -> str:
    return f"{100 * where.examined:.3g} % of the leaf examined"


def derivative(c: Comparison) -> str:
    """Which derivative it is: of an output with respect to an entry of a leaf, or along a direction; or which value."""
    index = f"[{', '.join(map(str, c.worst_entry))}]" if c.worst_entry else ""
    along = "" if c.mode == "full" or c.worst_entry is not None else " along a random direction"
    if c.order == 0:
        return f"{c.wrt}{index}"
    output = c.output if c.order == 1 else f"({c.output})"
    if c.output == "combination":
        output = f"(a random combination of the {_outputs(c)})"
    return f"∂{output} / ∂{c.wrt}{index}{along}"


def _outputs(c: Comparison) -> str:
    """What is differentiated."""
    return "outputs" if c.order == 1 else "gradients"


def values(c: Comparison) -> str:
    """The claim beside the estimate."""
    return f"{c.method} {c.claimed:.9g}, {c.against} {c.estimate:.9g} ± {c.bound:.0e}: relative error {c.rel_err:.2g}"


def accuracy(c: Comparison) -> str:
    """The error in half precision beside that of a plain implementation."""
    if c.ratio is None or math.isinf(c.ratio):
        return f"a plain {c.dtype} implementation is off by {c.plain_ulp:.2g} units in the last place"
    off, plain = f"off by {c.error_ulp:.2g} units in the last place", f"a plain {c.dtype} implementation by {c.plain_ulp:.2g}"
    return f"{off}, {plain}: ratio {c.ratio:.2g}"


def accuracies(comparisons: Sequence[Comparison]) -> list[str]:
    """One line for each comparison in half precision."""
    return [f"{c.method} {c.wrt}: {accuracy(c)}" for c in comparisons if c.ratio is not None]


def _alone(of_leaf: Sequence[Comparison]) -> str | None:
    """The one method that every other contradicts, while those agree; None where there is no such."""
    of_leaf = [c for c in of_leaf if c.ratio is None]  # accuracy is another matter
    methods = {m for c in of_leaf for m in (c.method, c.against)}
    for method in sorted(methods):
        own = [c for c in of_leaf if method in (c.method, c.against)]
        rest = [c.verdict for c in of_leaf if method not in (c.method, c.against)]
        contradicted = all(c.verdict is Verdict.FAIL or c.reason is Reason.REFERENCE_DIFFERS for c in own)
        if rest and contradicted and all(v is Verdict.PASS for v in rest):
            return method
    return None


def index(entry: tuple[int, ...]) -> str:
    """An entry's index, as in '[0, 3]'."""
    return f"[{', '.join(map(str, entry))}]" if entry else ""


def number(x: float) -> str:
    """A number in three characters' precision; '-' where it has no meaning."""
    return "-" if math.isnan(x) else "0" if x == 0 else f"{x:.1e}"


def relative_bound(c: Comparison) -> float:
    """The bound in the same units as the relative error beside it; NaN at a kink, where slopes have an interval."""
    if math.isnan(c.rel_err) or (c.reason is Reason.KINK_SUBGRADIENT and c.abs_err == 0):
        return math.nan
    return (
        c.bound * c.rel_err / c.abs_err
        if c.abs_err and math.isfinite(c.rel_err)
        else _over(c.bound, max(abs(c.claimed), abs(c.estimate)))
    )


def _over(a: float, b: float) -> float:
    return a / b if b else math.nan


MISSED = {"fail": Reason.EXPECTED_FAIL_PASSED, "straight-through": Reason.NOTHING_STRAIGHT_THROUGH}  # and a PASS came


def why(result: CheckResult) -> Reason:
    """The reason of the outcome: that of the verdict, but where a PASS is not what was declared or is listed."""
    if result.outcome is not Verdict.FAIL or result.verdict is not Verdict.PASS:
        return result.reason
    return Reason.STALE_BASELINE if result.as_declared is Verdict.PASS else MISSED[result.expect]


def as_expected(result: CheckResult) -> str:
    """Beside the verdict, how it stands to what was declared and to what a baseline lists."""
    return _as_declared(result) + (_as_known(result, result.known) if result.known else "")


def _as_known(result: CheckResult, known: Intent) -> str:
    if result.ok:
        return f" (known: {known.because})"
    if result.as_declared is Verdict.PASS:
        return f" although the baseline lists {known.subject}: {Reason.STALE_BASELINE.advice}"
    return f" (the baseline lists another failure: {known.subject})"


def _as_declared(result: CheckResult) -> str:
    if result.expect == "pass":
        return " (tolerated)" if result.as_declared is Verdict.PASS and result.verdict is not Verdict.PASS else ""
    if result.as_declared is Verdict.FAIL and result.verdict is Verdict.PASS:
        return f" although expect={result.expect!r}: {MISSED[result.expect].advice}"
    if result.expect == "straight-through":
        return ""
    return " (expected)" if result.verdict is Verdict.FAIL else " (expected to fail)"


def meant(intent: Intent, result: CheckResult) -> str:
    """What is declared and why; of what is tolerated, whether it need be."""
    told = f"{intent.kind} {intent.subject}".rstrip() + f", as {intent.because}"
    honoured = any(c.name == intent.subject and c.verdict is Verdict.PASS for c in result.contracts)
    return f"{told} (not needed: it is honoured)" if intent.kind == "tolerates" and honoured else told


def remark(c: Comparison) -> str:
    """What to say beside the verdict: in which way it passed, or how many entries are too small to be judged by their own size.

    In half precision, the error over that of a plain implementation.
    """
    if c.ratio is not None:
        return f"ratio {c.ratio:.2g}"
    if c.verdict is not Verdict.PASS:
        return ""
    small = f"{c.unresolved} small" if c.unresolved else ""
    return WAYS.get(c.reason, small)


def by_order(comparisons: Sequence[Comparison]) -> list[tuple[str, tuple[Comparison, ...]]]:
    """The values, the first derivatives and the second ones, where there are any, each with a heading."""
    orders = dict.fromkeys(c.order for c in comparisons)
    return [({0: VALUES, 1: ""}.get(order, SECOND), tuple(c for c in comparisons if c.order == order)) for order in orders]


def by_leaf(comparisons: Sequence[Comparison]) -> list[list[Comparison]]:
    """Leaf by leaf, in the order in which they first come."""
    groups: dict[tuple[int, str], list[Comparison]] = {}
    for c in comparisons:
        groups.setdefault((c.order, c.wrt), []).append(c)
    return list(groups.values())


def right_to(result: CheckResult) -> str:
    """The resolution of a PASS; '-' of anything else, where it would be that of some of the claims."""
    return number(result.resolution if result.verdict is Verdict.PASS else math.nan)


def sharpness(result: CheckResult) -> str:
    """What a PASS is worth, in a sentence; '' where no resolution is stated."""
    passed = [c for c in result.comparisons if c.verdict is Verdict.PASS and not math.isnan(c.resolution)]
    if result.verdict is not Verdict.PASS or not passed:
        return ""
    certainty = min(c.certainty for c in passed)
    how = "" if certainty == 1 else f", with a probability of {100 * certainty:.3g} %"
    return f"right to {number(result.resolution)}: a single entry that is wrong by more would have been caught{how}"


def notes(result: CheckResult) -> list[str]:
    """What was noticed, without what concerns the listing of partial derivatives alone."""
    return [note for note in result.notes if "-v does not" not in note]


def self_test(comparisons: Sequence[Comparison]) -> str:
    """How many faults planted in the claims were caught, and of which kinds; '' where none were."""
    scores = [c.self_test for c in comparisons if c.self_test is not None]
    tried, slipped = sum(len(s.tried) for s in scores), sum(len(s.slipped) for s in scores)
    kinds = ", ".join(dict.fromkeys(name for s in scores for name in s.tried))
    return f"self-test: {tried - slipped} of {tried} planted faults caught ({kinds})" if tried else ""


def setting(value: object) -> str:
    """What an option was set to, without what is empty: the same before and after it went through JSON."""
    if isinstance(value, Mapping):
        given = {name: held for name, held in value.items() if held not in (None, "", (), [], {})}
        return f"({'; '.join(f'{name}: {setting(held)}' for name, held in given.items())})" if given else "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(setting, value)) or "none"
    return "none" if value is None else str(value)


def shape(c: Comparison) -> str:
    """The shape of the leaf."""
    return "×".join(map(str, c.shape)) or "scalar"


def facts(result: CheckResult) -> str:
    """Framework, mode and trials."""
    found = (
        result.framework,
        f"{result.mode} mode" if result.mode else "",
        f"{result.trials} trials" if result.trials > 1 else "",
    )
    return ", ".join(filter(None, found))
