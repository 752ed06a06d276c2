"""Search one case: vary its inputs until a derivative is wrong, and return the result of the smallest failure."""

from __future__ import annotations

import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from gradcheck.backends.load_target import choose_framework
from gradcheck.errors import TargetError
from gradcheck.fuzzing import rejections, reproducer
from gradcheck.fuzzing.hypothesis_engine import CheckedExample, SearchTrace, run_search
from gradcheck.fuzzing.slice_reduction import shrink_to_slices
from gradcheck.fuzzing.space import Example, build_space, examples
from gradcheck.options import Options, override_options
from gradcheck.progress import LISTENER, report_progress
from gradcheck.results import CheckResult, Reason, Search, Verdict
from gradcheck.run.api import get_target_name
from gradcheck.run.case import check_case, check_case_safely, refuse_unknown_sizes, result_of_exception
from gradcheck.run.merge_trials import REMARKABLE_PASSES
from gradcheck.targets.case import Case

EXAMPLES = 300  # default of the largest number of examples
BUDGET = 60.0  # default of the time that a search may take, in seconds
Replay = Callable[["Case", Options, Example], str]


def search_case(
    case: Case,
    options: Options,
    *,
    count: int,
    budget: float,
    command: str | None = None,
    alone: bool = False,
    replay: Replay = lambda *_: "",
) -> CheckResult:
    """Search for an input on which a derivative of one case is wrong.

    Args:
        options: how to check each example; the case's own options take precedence.
        count: maximum number of examples.
        budget: seconds.
        command: the name of the target on the command line, for messages.
        alone: whether the options are meant for a single case, so that a size that it does not have is an error.
        replay: returns the command that checks an example again.

    Returns:
        The result of the smallest example that fails; if none fails, a summary of all examples.

    Raises:
        UsageError: if the inputs or the options do not fit the target, or leave nothing to search.
    """
    start_time = time.perf_counter()
    options = override_options(options, case.option_overrides)
    refuse_unknown_sizes(case, options, alone=alone)
    framework = choose_framework(case)
    try:
        space = build_space(case, options, framework, command)
    except TargetError:  # the constructor raises; an ordinary check reports it
        return check_case(case, options, command)
    trace = run_search(
        examples(space),
        lambda example: check_example(case, example, options),
        lambda example, fails: shrink_to_slices(example, space.inputs, fails),
        examples=count,
        budget=budget,
        seed=options.seed,
        key=f"gradcheck {case.seed_label}",
        on_progress=lambda done: report_progress("examples", done, count),
    )
    failure = _smallest_failure(trace)
    summary = _summarise_search(trace)
    if failure is None:
        result = replace(_result_without_failure(case, options, trace), framework=framework, search=summary)
    else:
        result = replace(
            failure.result,
            framework=framework,
            verdict=Verdict.ERROR if failure.result.reason is Reason.INTERNAL else Verdict.FAIL,
            search=replace(summary, inputs=reproducer.describe_inputs(failure.example)),
            example=reproducer.write_test(
                case, space, failure.example, options, framework, _required_name(case, failure.example, options)
            ),
            replay=replay(case, options, failure.example),
        )
    evaluations = sum(checked.result.evaluations for checked in trace.checked.values())
    return replace(result, evaluations=evaluations, seconds=time.perf_counter() - start_time)


def search_planned_case(case: Case, options: Options, **arguments: Any) -> CheckResult:
    """Search one case of a run; an exception becomes the result of this case, so that the others still run.

    Args:
        options: how to check each example.
        **arguments: the other keyword arguments of `search_case`.
    """
    try:
        return search_case(case, options, command=case.target, **arguments)
    except Exception as error:
        return result_of_exception(case, options, error)


def check_example(case: Case, example: Example, options: Options) -> CheckResult:
    """Check a case on one example."""
    example_case = replace(
        case,
        args=example.inputs.args,
        kwargs=example.inputs.kwargs,
        declared_args=(),
        declared_kwargs={},
        wrt=example.wrt or case.wrt,
        options={},
    )
    contracts = options.contracts and example.contracts
    example_options = replace(options, dims={}, dtype=example.dtype, contracts=contracts, trials=1)
    previous_listener = LISTENER.set(None)  # progress counts examples, not what a check does
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # special values overflow, which would print hundreds of warnings
            return check_case_safely(example_case, example_options)
    finally:
        LISTENER.reset(previous_listener)


def _smallest_failure(trace: SearchTrace) -> CheckedExample | None:
    """Return the failure that shrinking ended with, else the failure with the fewest entries; None if nothing failed."""
    if trace.smallest is not None:
        return trace.checked[repr(trace.smallest)]

    def size(failure: CheckedExample) -> tuple[int, int]:
        return _count_entries(failure.example), len(repr(failure.example))

    return min(trace.failures, key=size, default=None)


def _required_name(case: Case, example: Example, options: Options) -> str:
    """Return the name that a check needs to fail on the example with the same random numbers; '' if it fails without a name."""
    default_name = get_target_name(case.fn)
    if case.seed_label == default_name:
        return ""
    result = check_example(replace(case, name=default_name), example, options)
    if CheckedExample(example, result).failed:
        return ""
    return case.seed_label


def _count_entries(example: Example) -> int:
    return sum(spec.entries for _, spec in rejections.literal_leaves(example))


def _summarise_search(trace: SearchTrace) -> Search:
    """Count the results of a search and describe the rejected examples."""
    examples = list(trace.checked.values())
    counts = Counter(
        "rejected" if checked.rejected else "failed" if checked.failed else checked.result.verdict.value.lower()
        for checked in examples
    )
    return Search(
        examples=len(examples),
        passed=counts["pass"],
        inconclusive=counts["inconclusive"],
        failed=counts["failed"],
        rejected=counts["rejected"],
        before=next((number for number, checked in enumerate(examples, 1) if checked.failed), 0),
        regions=rejections.describe_regions(examples),
        stopped=trace.stopped,
    )


def _result_without_failure(case: Case, options: Options, trace: SearchTrace) -> CheckResult:
    """Return the result of a search in which no example failed."""
    accepted = [checked.result for checked in trace.checked.values() if not checked.rejected]
    blank = CheckResult(
        case=case.name,
        target=case.target or case.name,
        verdict=Verdict.INCONCLUSIVE,
        reason=Reason.EMPTY,
        expect=case.expect,
        because=case.because,
        intents=case.intents,
        seed=options.seed,
        file=case.file,
        line=case.line,
    )
    pass_reasons = {result.reason for result in accepted if result.verdict is Verdict.PASS} - {Reason.EMPTY}
    if pass_reasons:
        reason = next((reason for reason in REMARKABLE_PASSES if reason in pass_reasons), Reason.AGREES)
        return replace(blank, verdict=Verdict.PASS, reason=reason)
    if accepted:
        (reason, _), *_ = Counter(result.reason for result in accepted).most_common()
        return replace(blank, reason=reason)
    rejected = [checked.result for checked in trace.checked.values()]
    if not rejected:
        return replace(blank, reason=Reason.OVER_BUDGET, message="no input was tried within the budget")
    first = rejected[0]
    message = f"the target takes none of the {len(rejected)} inputs that were tried: {first.message}"
    return replace(blank, verdict=Verdict.ERROR, reason=first.reason, message=message, traceback=first.traceback)
