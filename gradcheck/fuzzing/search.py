"""One case searched: the hunt through what may vary, and its result."""

from __future__ import annotations

import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.backends.loading import framework_of
from gradcheck.errors import TargetError
from gradcheck.fuzzing import rejections, reproducer
from gradcheck.fuzzing.engine import Trace, Tried, hunt
from gradcheck.fuzzing.shrink import reduced
from gradcheck.fuzzing.space import Example, examples, space_of
from gradcheck.options import Options, overridden
from gradcheck.progress import LISTENER, tell
from gradcheck.results import CheckResult, Reason, Search, Verdict
from gradcheck.run.api import title_of
from gradcheck.run.case import attempted, check_case, failed_to_start, refuse_unknown_sizes
from gradcheck.run.merge_trials import REMARKABLE

if TYPE_CHECKING:
    from gradcheck.targets.case import Case

EXAMPLES = 300
BUDGET = 60.0  # seconds
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
    """Search for the input that breaks a derivative of one case.

    Args:
        count: examples to draw, at most.
        budget: seconds.
        command: how the target was named on the command line, for messages.
        alone: whether no other case is searched with the same options.
        replay: the command that checks an example again.

    Returns:
        The result of the smallest example that fails; where none does, what the examples came to.

    Raises:
        UsageError: where inputs or options do not fit the target, or leave nothing to search.
    """
    began = time.perf_counter()
    refuse_unknown_sizes(case, options.dims if alone else overridden(Options(), case.chosen).dims)
    options = overridden(options, case.chosen)
    framework = framework_of(case)
    try:
        space = space_of(case, options, framework, command)
    except TargetError:  # in the constructor
        return check_case(case, options, command)
    trace = hunt(
        examples(space),
        lambda example: examined(case, example, options),
        lambda example, fails: reduced(example, space.inputs, fails),
        examples=count,
        budget=budget,
        seed=options.seed,
        key=f"gradcheck {case.stream}",
        heard=lambda done: tell("examples", done, count),
    )
    found = _smallest(trace)
    told = _told(trace)
    if found is None:
        result = replace(_nothing_wrong(case, options, trace), framework=framework, search=told)
    else:
        result = replace(
            found.result,
            framework=framework,
            verdict=Verdict.ERROR if found.result.reason is Reason.INTERNAL else Verdict.FAIL,
            search=replace(told, inputs=reproducer.inputs_of(found.example)),
            example=reproducer.as_test(
                case, space, found.example, options, framework, _needed_name(case, found.example, options)
            ),
            replay=replay(case, options, found.example),
        )
    evaluations = sum(t.result.evaluations for t in trace.tried.values())
    return replace(result, evaluations=evaluations, seconds=time.perf_counter() - began)


def attempted_search(case: Case, options: Options, **how: Any) -> CheckResult:
    """Search through one case of a run: what would be raised costs this case alone, and is its result."""
    try:
        return search_case(case, options, command=case.target, **how)
    except (Exception, SystemExit) as error:
        return failed_to_start(case, options, error)


def examined(case: Case, example: Example, options: Options) -> CheckResult:
    """Check a case on one example."""
    asked = replace(
        case,
        args=example.inputs.args,
        kwargs=example.inputs.kwargs,
        declared_args=(),
        declared_kwargs={},
        wrt=example.wrt or case.wrt,
        options={},
    )
    chosen = replace(options, dims={}, dtype=example.dtype, contracts=options.contracts and example.contracts, trials=1)
    quiet = LISTENER.set(None)
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # special values overflow: once a search would be told of it in hundreds of lines
            return attempted(asked, chosen)
    finally:
        LISTENER.reset(quiet)


def _smallest(trace: Trace) -> Tried | None:
    """The failure that shrinking ended at; where it was not through, that with the fewest entries."""
    if trace.smallest is not None:
        return trace.tried[repr(trace.smallest)]
    return min(trace.failures, key=lambda t: (_entries(t.example), len(repr(t.example))), default=None)


def _needed_name(case: Case, example: Example, options: Options) -> str:
    """The name that a check of the example must be given to fail by the same random numbers; '' where it fails without."""
    plain = title_of(case.fn)
    if case.stream == plain or Tried(example, examined(replace(case, name=plain), example, options)).failed:
        return ""
    return case.stream


def _entries(example: Example) -> int:
    return sum(spec.entries for _, spec in rejections.leaves_of(example))


def _told(trace: Trace) -> Search:
    tried = list(trace.tried.values())
    kinds = Counter("rejected" if t.rejected else "failed" if t.failed else t.result.verdict.value.lower() for t in tried)
    return Search(
        examples=len(tried),
        passed=kinds["pass"],
        inconclusive=kinds["inconclusive"],
        failed=kinds["failed"],
        rejected=kinds["rejected"],
        before=next((i for i, t in enumerate(tried, 1) if t.failed), 0),
        regions=rejections.regions(tried),
        stopped=trace.stopped,
    )


def _nothing_wrong(case: Case, options: Options, trace: Trace) -> CheckResult:
    """What the examples came to, none of which failed."""
    taken = [t.result for t in trace.tried.values() if not t.rejected]
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
    passed = {r.reason for r in taken if r.verdict is Verdict.PASS}
    if passed:
        return replace(blank, verdict=Verdict.PASS, reason=next((r for r in REMARKABLE if r in passed), Reason.AGREES))
    if taken:
        (reason, _), *_ = Counter(r.reason for r in taken).most_common()
        return replace(blank, reason=reason)
    refused = [t.result for t in trace.tried.values()]
    if not refused:
        return replace(blank, reason=Reason.OVER_BUDGET, message="no input was tried within it")
    first = refused[0]
    message = f"it takes none of {len(refused)} inputs that were tried: {first.message}"
    return replace(blank, verdict=Verdict.ERROR, reason=first.reason, message=message, traceback=first.traceback)
