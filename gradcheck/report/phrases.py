"""Comparisons and results in words: every report for people uses the same phrases."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Container, Iterator, Mapping, Sequence

from gradcheck.results import CheckResult, Comparison, Intent, Reason, RunResult, Verdict, Whereabouts

HEADINGS = {
    0: "values",
    1: "",
    2: "second derivatives, of ∂output/∂x (of a random combination of several outputs)",
    3: "third derivatives: the derivative of a random combination of the second derivatives",
}
# How a claim passed, if not by plain agreement: shown next to PASS in the table.
PASS_REMARKS = {
    Reason.IDENTITY_PROVED: "proved",
    Reason.KINK_SUBGRADIENT: "kink",
    Reason.BOTH_ZERO: "zero",
    Reason.SMALL_DIFFERENCE: "within rtol",
    Reason.TIE: "tie",
    Reason.STRAIGHT_THROUGH: "declared",
    Reason.UNBIASED: "mean",
}

MAX_LISTED_SEEDS = 8  # seeds of a grid that the summary lists
MIN_DIGITS, MAX_DIGITS = 4, 17  # significant digits of numbers that are printed because they differ
# The reason of a FAIL by declaration: a PASS although something else was expected.
UNMET_EXPECTATION = {"fail": Reason.EXPECTED_FAIL_PASSED, "straight-through": Reason.NOTHING_STRAIGHT_THROUGH}


def split_layer_path(path: str, known: Container[str]) -> tuple[str, str]:
    """Split the path of a layer into that of the innermost known layer around it, and the layer's name there."""
    ends = [end for end, letter in enumerate(path) if letter in ".[" and path[:end] in known]
    return (path[: ends[-1]], path[ends[-1] :].removeprefix(".")) if ends else ("", path)


def list_wrong_entries(comparisons: Sequence[Comparison]) -> Iterator[tuple[Comparison, Whereabouts]]:
    """List the comparisons of a leaf that name wrong entries; for each method, the same entries once."""
    listed: dict[str, list[Whereabouts]] = defaultdict(list)
    for comparison in comparisons:
        where = comparison.where
        if comparison.verdict is not Verdict.FAIL or not where or not where.entries:
            continue
        if not any(_covers(earlier, where) for earlier in listed[comparison.method]):
            listed[comparison.method].append(where)
            yield comparison, where


def _covers(earlier: Whereabouts, where: Whereabouts) -> bool:
    """Whether the wrong entries of a claim were listed already: another method may be certain of only some of them."""
    before, now = ({entry.entry for entry in listing.entries} for listing in (earlier, where))
    return now <= before and (where.count or 0) <= (earlier.count or 0)


def describe_wrong_entries(comparison: Comparison, where: Whereabouts) -> str:
    """Say how many entries are wrong and which; if not all were examined, how many were."""
    listed = len(where.entries)
    total = f"{comparison.entries:,} {'entry' if comparison.entries == 1 else 'entries'}"
    if where.count == comparison.entries:
        return f"all {total} are wrong" if comparison.entries > 1 else "the only entry is wrong"
    if where.count is not None:
        more = f" and {where.count - listed} more" if where.count > listed else ""
        wrong = f"all {where.count} entries of {where.slice}" if where.slice else f"{where.count} of {total}"
        text = f"{wrong} {'is' if where.count == 1 else 'are'} wrong: {_format_entries(comparison, where, more)}"
        return text if where.examined == 1 else f"{text}; {_describe_share(where)}"
    examined, wrong_examined = where.sampled
    others = f"; {wrong_examined} of {examined} others, chosen at random, are wrong" if examined else ""
    return f"at least {listed} of {total} wrong: {_format_entries(comparison, where)}{others}; {_describe_share(where)}"


def _format_entries(comparison: Comparison, where: Whereabouts, more: str = "") -> str:
    """List the wrong entries as 'claimed for true'; with the output, if it differs from that of the comparison."""
    others = {entry.output for entry in where.entries} - {"", comparison.output}
    combined = others == {"combination"}
    suffixes = {output: f" ({output})" for output in others if not combined}
    entries = ", ".join(
        f"{format_index(entry.entry)} "
        + " for ".join(format_pair(entry.claimed, entry.estimate))
        + suffixes.get(entry.output, "")
        for entry in where.entries
    )
    return entries + more + (f" (of a random combination of the {_output_noun(comparison)})" if combined else "")


def _describe_share(where: Whereabouts) -> str:
    return f"{100 * where.examined:.3g} % of the leaf examined"


def name_entry(comparison: Comparison) -> str:
    """Name the entry of a leaf that a comparison is about; the leaf alone if it has a single entry, or along a direction."""
    return f"{comparison.wrt}{format_index(comparison.worst_entry or ())}"


def name_derivative(comparison: Comparison) -> str:
    """Name the derivative of an output with respect to an entry of a leaf, or along a direction; at order 0, the value."""
    if comparison.order == 0:
        return name_entry(comparison)
    along = "" if comparison.mode == "full" or comparison.worst_entry is not None else " along a random direction"
    output = {1: "{}", 2: "({})", 3: "((v·∂){})"}[comparison.order].format(comparison.output)
    if comparison.output == "combination":
        output = f"(a random combination of the {_output_noun(comparison)})"
    return f"∂{output} / ∂{name_entry(comparison)}{along}"


def _output_noun(comparison: Comparison) -> str:
    return "outputs" if comparison.order == 1 else "gradients"


def describe_values(comparisons: Sequence[Comparison]) -> Iterator[str]:
    """Give claims, estimates and relative errors of comparisons at one place; claims that look the same share a line."""
    lines: dict[str, list[Comparison]] = defaultdict(list)
    for comparison in comparisons:
        lines[format_pair(comparison.claimed, comparison.estimate)[0]].append(comparison)
    for claim, group in lines.items():
        methods = " and ".join(dict.fromkeys(c.method for c in group))
        estimates = {c.against: f"{format_pair(c.claimed, c.estimate)[1]} ± {c.bound:.0e}" for c in reversed(group)}
        trusted = ", ".join(f"{against} {estimates[against]}" for against in dict.fromkeys(c.against for c in group))
        yield f"{methods} {claim}, {trusted}: relative error {group[0].rel_err:.2g}"


def format_pair(first: float, second: float) -> tuple[str, str]:
    """Format two numbers with the digits in which they differ, and two more."""
    scale, finite = max(abs(first), abs(second)), math.isfinite(first) and math.isfinite(second)
    difference = abs(first - second) / scale if scale and finite else 0.0
    digits = min(max(MIN_DIGITS, math.ceil(-math.log10(difference)) + 2), MAX_DIGITS) if difference else MIN_DIGITS
    return f"{first + 0.0:.{digits}g}", f"{second + 0.0:.{digits}g}"  # which turns -0 into 0


def describe_accuracy(comparison: Comparison) -> str:
    """Compare the error in half precision with that of a plain implementation."""
    plain = f"a plain {comparison.dtype} implementation"
    if comparison.ratio is None or math.isinf(comparison.ratio):
        return f"{plain} is off by {comparison.plain_ulp:.2g} units in the last place"
    error = f"off by {comparison.error_ulp:.2g} units in the last place"
    return f"{error}, {plain} by {comparison.plain_ulp:.2g}: ratio {comparison.ratio:.2g}"


def list_accuracies(comparisons: Sequence[Comparison]) -> list[str]:
    """Return one line for each comparison in half precision."""
    return [f"{c.method} {c.wrt}: {describe_accuracy(c)}" for c in comparisons if c.ratio is not None]


def format_index(entry: tuple[int, ...]) -> str:
    """Format the index of an entry, such as '[0, 3]'."""
    return f"[{', '.join(map(str, entry))}]" if entry else ""


def format_number(x: float) -> str:
    """Format a number with two digits; '-' if it is NaN."""
    return "-" if math.isnan(x) else "0" if x == 0 else f"{x:.1e}"


def relative_bound(comparison: Comparison) -> float:
    """Return the bound in units of the relative error; NaN at a kink, where slopes form an interval."""
    abs_err, rel_err = comparison.abs_err, comparison.rel_err
    if math.isnan(rel_err) or (comparison.reason is Reason.KINK_SUBGRADIENT and abs_err == 0):
        return math.nan
    if abs_err and math.isfinite(rel_err):
        return comparison.bound * rel_err / abs_err
    scale = max(abs(comparison.claimed), abs(comparison.estimate))
    return comparison.bound / scale if scale else math.nan


def outcome_reason(result: CheckResult) -> Reason:
    """Return the reason of the outcome: that of the verdict, unless a PASS was not expected."""
    if result.outcome is not Verdict.FAIL or result.verdict is not Verdict.PASS:
        return result.reason
    return Reason.STALE_BASELINE if result.as_declared is Verdict.PASS else UNMET_EXPECTATION[result.expect]


def describe_expectation(result: CheckResult) -> str:
    """Say how the verdict relates to what was declared and to what a baseline lists, to follow the verdict."""
    return _describe_declared(result) + (_describe_known(result, result.known) if result.known else "")


def _describe_known(result: CheckResult, known: Intent) -> str:
    if result.ok:
        return f" (known: {known.because})"
    if result.as_declared is Verdict.PASS:
        return f" although the baseline lists {known.subject}: {Reason.STALE_BASELINE.advice}"
    return f" (the baseline lists another failure: {known.subject})"


def _describe_declared(result: CheckResult) -> str:
    if result.expect == "pass":
        return " (tolerated)" if result.as_declared is Verdict.PASS and result.verdict is not Verdict.PASS else ""
    if result.as_declared is Verdict.FAIL and result.verdict is Verdict.PASS:
        return f" although expect={result.expect!r}: {UNMET_EXPECTATION[result.expect].advice}"
    if result.expect != "fail":
        return ""
    return " (expected)" if result.verdict is Verdict.FAIL else " (expected to fail)"


def describe_intent(intent: Intent, result: CheckResult) -> str:
    """Say what is declared and why; for a tolerated contract, also if the declaration is not needed."""
    text = f"{intent.kind} {intent.subject}".rstrip() + f", as {intent.because}"
    honoured = any(contract.name == intent.subject and contract.verdict is Verdict.PASS for contract in result.contracts)
    return f"{text} (not needed: it is honoured)" if intent.kind == "tolerates" and honoured else text


def verdict_remark(comparison: Comparison) -> str:
    """Return the remark that follows a verdict in the table.

    A PASS may say how the claim passed, or how many entries are too small to be judged by their own size. In half precision,
    the remark is the error divided by that of a plain implementation.
    """
    if comparison.ratio is not None:
        return f"ratio {comparison.ratio:.2g}"
    if comparison.verdict is not Verdict.PASS:
        return ""
    return PASS_REMARKS.get(comparison.reason, f"{comparison.unresolved} small" if comparison.unresolved else "")


def group_by_order(comparisons: Sequence[Comparison]) -> list[tuple[str, tuple[Comparison, ...]]]:
    """Group comparisons into values and derivatives of each order, with a heading ('' for first derivatives)."""
    orders = dict.fromkeys(comparison.order for comparison in comparisons)
    return [(HEADINGS[order], tuple(c for c in comparisons if c.order == order)) for order in orders]


def group_by_leaf(comparisons: Sequence[Comparison]) -> list[list[Comparison]]:
    """Group comparisons by order and leaf, in the order of their first appearance."""
    groups: dict[tuple[int, str], list[Comparison]] = {}
    for comparison in comparisons:
        groups.setdefault((comparison.order, comparison.wrt), []).append(comparison)
    return list(groups.values())


def format_resolution(result: CheckResult) -> str:
    """Format the resolution of a PASS; '-' for any other verdict, since not all claims passed."""
    return format_number(result.resolution if result.verdict is Verdict.PASS else math.nan)


def describe_resolution(result: CheckResult) -> str:
    """Say what a PASS guarantees; '' if no resolution is stated."""
    passed = [c for c in result.comparisons if c.verdict is Verdict.PASS and not math.isnan(c.resolution)]
    if result.verdict is not Verdict.PASS or not passed:
        return ""
    certainty = min(comparison.certainty for comparison in passed)
    probability = "" if certainty == 1 else f", with a probability of {100 * certainty:.3g} %"
    resolution = format_number(result.resolution)
    if result.reason is Reason.UNBIASED:
        return f"unbiased to {resolution}: the mean of the gradients over random draws is known to this share of its size"
    return f"right to {resolution}: a single entry that is wrong by more would have been caught{probability}"


def list_notes(result: CheckResult) -> list[str]:
    """Return the notes, except those that only concern the listing of partial derivatives."""
    return [note for note in result.notes if "-v does not" not in note]


def describe_self_test(comparisons: Sequence[Comparison]) -> str:
    """Say how many planted faults were caught, and of which kinds; '' if none were planted."""
    scores = [comparison.self_test for comparison in comparisons if comparison.self_test is not None]
    tried, slipped = sum(len(score.tried) for score in scores), sum(len(score.slipped) for score in scores)
    kinds = ", ".join(dict.fromkeys(kind for score in scores for kind in score.tried))
    return f"self-test: {tried - slipped} of {tried} planted faults caught ({kinds})" if tried else ""


def format_setting(value: object) -> str:
    """Format the value of an option without its empty parts; the text is the same before and after JSON."""
    if isinstance(value, Mapping):
        parts = {name: part for name, part in value.items() if part not in (None, "", (), [], {})}
        return f"({'; '.join(f'{name}: {format_setting(part)}' for name, part in parts.items())})" if parts else "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(format_setting, value)) or "none"
    return "none" if value is None else str(value)


def format_shape(comparison: Comparison) -> str:
    """Format the shape of the leaf, such as '4×3'."""
    return "×".join(map(str, comparison.shape)) or "scalar"


def describe_report_only(run: RunResult) -> str:
    """Say which exit code a run in report-only mode leaves out; '' if it leaves out none."""
    fails = any(result.outcome is Verdict.FAIL for result in run.results)
    is_undecided = run.strict and run.verdict is not Verdict.ERROR and (run.verdict is Verdict.INCONCLUSIVE or run.unchecked)
    if not run.report_only or run.interrupted or not (fails or is_undecided):
        return ""
    in_pytest = "pytest" in run.environment  # whose exit code is 1 for any failure
    return f"report only: otherwise the exit code would be {1 if fails or in_pytest else 4}"


def describe_seeds(run: RunResult) -> str:
    """Name the seed of a run, or the seeds of a grid; if there are many, their number."""
    seeds = list(dict.fromkeys(result.seed for result in run.results if "seed" in result.sweep))
    if not seeds:
        return f"seed {run.seed}"
    return f"seeds {', '.join(map(str, seeds))}" if len(seeds) <= MAX_LISTED_SEEDS else f"{len(seeds)} seeds"


def describe_setup(result: CheckResult) -> str:
    """Name framework, dtypes, device, mode and number of trials."""
    parts = (
        result.framework,
        " and ".join(dict.fromkeys(c.dtype for c in result.comparisons if c.order == 1)),
        result.device,
        f"{result.mode} mode" if result.mode else "",
        f"{result.trials} trials" if result.trials > 1 else "",
    )
    return ", ".join(filter(None, parts))
