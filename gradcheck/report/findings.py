"""What is wrong with a case in words: each cause once, with the leaves that it concerns."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from gradcheck.glossary.diagnoses import Diagnosis
from gradcheck.report import phrases
from gradcheck.results import Comparison, Reason, Verdict

HIGHER_ORDER_HINT = (
    "unless a formula is wrong: anything that the forward saves except inputs and outputs, or that the backward computes in"
    " NumPy or from detached tensors, is a constant to the second backward"
)
# What hides a part of a function from automatic differentiation, by framework.
HIDING_PLACES = {
    "torch": "look for .detach(), .data, .item(), torch.no_grad() or torch.tensor(...) in the function; in a custom Function,"
    " backward and jvp may share an error",
    "jax": "look for jax.lax.stop_gradient in the function, or an error in a custom_jvp or custom_vjp rule",
}
MODES_AGREE = "reverse and forward agree with each other: a part of the function may be hidden from both; {}"
CONSEQUENCE = "the derivatives differ from those of the reference too, as they must if the values do"
CONFIRMED = "not counted: other evidence in the table confirms this claim"
AUTODIFF = {"reverse", "forward"}
PROOFS = (Reason.IDENTITY_REFUTED, Reason.HIGH_PRECISION_DIFFERS)
UNKNOWN_PREFIX = f"{Diagnosis.UNKNOWN.code}:"
EXTENT = re.compile(r"(on )?(all \d+ entries|the only entry)")  # the part of a diagnosis that differs between leaves


@dataclass(frozen=True)
class Finding:
    """One cause of a verdict that is not PASS, in words.

    Attributes:
        verdict: FAIL or INCONCLUSIVE.
        reason: the reason of the verdict.
        subject: the derivative that is concerned, such as '∂y[0] / ∂x[3]'; if several are, the first.
        entry: the entry of the leaf in it, such as 'x[3]'.
        lines: its values, the entries that are wrong, what the error looks like, and the other leaves that it concerns.
        advice: what to do about it; for a fault with a name, the usual fix.
        diagnosis: the name of the fault, if it has one.
    """

    verdict: Verdict
    reason: Reason
    subject: str
    entry: str
    lines: tuple[str, ...]
    advice: str
    diagnosis: Diagnosis | None = None

    @property
    def message(self) -> str:
        """The message of the reason."""
        return self.reason.message


def explain(comparisons: Sequence[Comparison], framework: str = "", *, passed: bool = False) -> Iterator[Finding]:
    """Explain what is not PASS among comparisons: which derivative, by how much, and the likely cause. Each cause comes once.

    Args:
        comparisons: of all leaves of a case, or of some.
        framework: of the target, in whose words advice is given.
        passed: whether the case passes all the same, because other evidence confirms what these comparisons cannot decide.
    """
    groups_by_leaf = phrases.group_by_leaf(comparisons)
    values_differ = any(c.reason is Reason.VALUE_DIFFERS for c in comparisons)
    causes: dict[tuple[object, ...], list[tuple[list[Comparison], list[Comparison]]]] = {}
    for of_leaf in groups_by_leaf:
        groups: dict[tuple[object, ...], list[Comparison]] = {}
        for comparison in of_leaf:
            if comparison.verdict is not Verdict.PASS and not (values_differ and _is_consequence(comparison)):
                groups.setdefault(_identify_cause(comparison, of_leaf), []).append(comparison)
        for cause, group in groups.items():
            causes.setdefault(cause, []).append((group, of_leaf))
    for (group, of_leaf), *others in causes.values():
        finding = _describe_group(group, of_leaf, framework)
        if passed and finding.reason is not Reason.REFERENCE_DIFFERS:
            finding = replace(finding, lines=(finding.lines[0], CONFIRMED), advice="")
        elsewhere = _list_other_leaves([other for other, _ in others])
        skipped = [CONSEQUENCE] if finding.reason is Reason.VALUE_DIFFERS and any(map(_is_consequence, comparisons)) else []
        yield replace(finding, lines=(*finding.lines, *elsewhere, *skipped))


def _is_consequence(comparison: Comparison) -> bool:
    """Whether a derivative differs from that of the reference, as it must if the values differ."""
    return comparison.order > 0 and comparison.against == "reference" and comparison.verdict is not Verdict.PASS


def _identify_cause(comparison: Comparison, of_leaf: Sequence[Comparison]) -> tuple[object, ...]:
    """Return what two comparisons have in common if one fault causes both: the verdict, its reason and the diagnosis."""
    methods = AUTODIFF if comparison.method in AUTODIFF and _modes_agree(of_leaf) else {comparison.method}
    related = [c for c in of_leaf if c.verdict is comparison.verdict and {c.method, c.against} & methods]
    diagnoses = [c.diagnosis for c in (comparison, *related) if c.diagnosis]
    specific = [diagnosis for diagnosis in diagnoses if not diagnosis.startswith(UNKNOWN_PREFIX)]
    diagnosis = (specific or diagnoses or [""])[0]
    return comparison.order, comparison.verdict, comparison.reason, EXTENT.sub("", diagnosis)


def _list_other_leaves(groups: Sequence[list[Comparison]]) -> Iterator[str]:
    """Yield a line with the leaves that have the same fault, and how many of their entries are wrong if not all are."""
    if groups:
        leaves = [f"{group[0].wrt}{_count_wrong(group)}" for group in groups]
        yield f"the same for {len(leaves)} more: {', '.join(leaves)}"


def _count_wrong(group: Sequence[Comparison]) -> str:
    where = next((c.where for c in group if c.where and c.where.count), None)
    return f" ({where.count} of {group[0].entries:,} entries)" if where and where.count != group[0].entries else ""


def _describe_group(group: Sequence[Comparison], of_leaf: Sequence[Comparison], framework: str) -> Finding:
    """Describe what is wrong on one leaf by the comparisons that share a cause."""
    first = group[0]
    same_place = [c for c in group if (c.worst_entry, c.output, c.trial) == (first.worst_entry, first.output, first.trial)]
    lines = list(phrases.describe_values(same_place))
    lines += [phrases.describe_accuracy(comparison) for comparison in same_place if comparison.ratio is not None]
    where = next((c for c in group if c.where), None)
    if where is not None and where.where:
        lines.append(phrases.describe_wrong_entries(where, where.where))
    if first.self_test and first.self_test.slipped:
        lines.append(f"planted faults that passed: {', '.join(first.self_test.slipped)}")
    text = _choose_diagnosis(group)
    diagnosis, advice = parse_diagnosis(text), first.reason.advice
    outlier = describe_outlier(of_leaf)
    if first.verdict is Verdict.FAIL and first.order == 1 and _modes_agree(of_leaf) and framework in HIDING_PLACES:
        observation = text.partition("; ")[0] if diagnosis not in (None, Diagnosis.UNKNOWN, Diagnosis.DETACHED) else text
        lines += [line for line in (observation,) if diagnosis is not Diagnosis.UNKNOWN and line]
        lines += [] if diagnosis is Diagnosis.DETACHED else [MODES_AGREE.format(HIDING_PLACES[framework])]
    else:
        lines += [line for line in (text, outlier) if line]
        if not advice and diagnosis is not None and diagnosis.fix not in text:
            advice = f"The usual fix: {diagnosis.fix}."
    trial = f", trial {first.trial}" if first.trial else ""
    subject, entry = f"{phrases.name_derivative(first)}{trial}", phrases.name_entry(first)
    return Finding(first.verdict, first.reason, subject, entry, tuple(lines), advice, diagnosis)


def _choose_diagnosis(group: Sequence[Comparison]) -> str:
    """Return the diagnosis of a group; an unknown one only if there is no other, or a hint for a second derivative."""
    diagnoses = [comparison.diagnosis for comparison in group if comparison.diagnosis]
    specific = [diagnosis for diagnosis in diagnoses if not diagnosis.startswith(UNKNOWN_PREFIX)]
    if not specific and diagnoses and group[0].order > 1:
        return HIGHER_ORDER_HINT
    return (specific or diagnoses or [""])[0]


def parse_diagnosis(line: str) -> Diagnosis | None:
    """Return the diagnosis that a line begins with; None if this version does not know it."""
    code = line.partition(":")[0]
    return next((diagnosis for diagnosis in Diagnosis if diagnosis.code == code), None)


def _modes_agree(of_leaf: Sequence[Comparison]) -> bool:
    """Whether automatic differentiation agrees with itself in both modes, and not with the numerical derivative."""
    agreeing = any({c.method, c.against} == AUTODIFF and c.verdict is Verdict.PASS for c in of_leaf)
    wrong = {c.method for c in of_leaf if c.against == "numeric" and c.verdict is Verdict.FAIL}
    by_probe = any(c.mode == "probe" for c in of_leaf)  # then the two modes are compared with the estimates only
    return wrong >= AUTODIFF and (agreeing or by_probe)


def describe_outlier(comparisons: Sequence[Comparison]) -> str:
    """Say which method all others contradict on a leaf; '' if there is none."""
    outlier = _find_outlier(comparisons)
    if not outlier:
        return ""
    others = sorted({method for c in comparisons if c.ratio is None for method in (c.method, c.against)} - {outlier})
    return f"{outlier} stands alone: {', '.join(others)} agree with each other"


def _find_outlier(comparisons: Sequence[Comparison]) -> str | None:
    """Return the one method that every other method contradicts while the others agree; None if there is none."""
    # Half precision compares accuracy only, and a proof does not stand alone.
    pairs = [((c.method, c.against), c) for c in comparisons if c.ratio is None and c.reason not in PROOFS]
    for candidate in sorted({method for methods, _ in pairs for method in methods}):
        contradicted = all(
            c.verdict is Verdict.FAIL or c.reason is Reason.REFERENCE_DIFFERS for methods, c in pairs if candidate in methods
        )
        others = [c.verdict for methods, c in pairs if candidate not in methods]
        if others and contradicted and all(verdict is Verdict.PASS for verdict in others):
            return candidate
    return None
