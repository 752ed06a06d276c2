"""Records of calls as cases, checked within a budget of time."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from typing import Any

from gradcheck.glossary.verdicts import Reason, Verdict
from gradcheck.harvest.draft import choose_target_text
from gradcheck.harvest.record import Harvest, Record
from gradcheck.options import Options
from gradcheck.results import CheckResult, RunResult
from gradcheck.run.case import check_case_safely
from gradcheck.run.runner import run
from gradcheck.targets.case import Case, locate_source
from gradcheck.targets.framework import TargetKind, is_from_framework
from gradcheck.trees import flatten

LEAST_BUDGET = 1.0  # seconds of one check, although less may be left for each
NO_TIME = "not checked: the budget of {:g} s for all calls was spent"
PART_WRONG = "not checked: {} inside of it is wrong"


def check_records(harvest: Harvest, options: Options, budget: float, replay: str = "") -> RunResult:
    """Check every record: Functions, operators and rules first, as they are inside of modules.

    Args:
        options: how to check each.
        budget: seconds for all of them.
        replay: the command that repeats the run.
    """
    harvest.complete()
    records = sorted(harvest.records, key=lambda record: record.kind == TargetKind.MODULE.value)
    cases = [make_case(record, name) for record, name in zip(records, name_records(records), strict=True)]
    checker = _Checker(dict(zip((case.name for case in cases), records, strict=True)), budget)
    config = {"budget": budget, "not_recorded": dict(harvest.left_out)}
    checked = run(cases, options, replay=lambda _: "", config=config, check_one=checker.check, alone=False)
    # The mode that a replay would pin is not an option of a program.
    how = replay or "the same code in `with gradcheck.watch()`"
    return replace(checked, results=tuple(replace(result, replay=how) for result in checked.results))


class _Checker:
    """Checks one case after the other, until the budget is spent."""

    def __init__(self, records: dict[str, Record], budget: float) -> None:
        self._records = records
        self._budget = budget
        self._deadline = time.monotonic() + budget
        self._waiting = len(records)
        self._wrong: set[tuple[str, str]] = set()

    def check(self, case: Case, options: Options, *, alone: bool) -> CheckResult:
        """Check a case with its share of the time that is left."""
        record = self._records[case.name]
        seconds = self._deadline - time.monotonic()
        share = max(seconds / self._waiting, LEAST_BUDGET)
        self._waiting -= 1
        broken = sorted(":".join(part) for part in record.parts & self._wrong)
        if broken:
            return _leave_unchecked(case, options, Reason.LAYER_WRONG, PART_WRONG.format(" and ".join(broken)))
        if seconds <= 0:
            return _leave_unchecked(case, options, Reason.OVER_BUDGET, NO_TIME.format(self._budget))
        result = check_case_safely(case, replace(options, budget=min(share, options.budget or share)), alone=alone)
        if result.outcome is Verdict.FAIL:
            self._wrong.add(record.home)
        return result


def _leave_unchecked(case: Case, options: Options, reason: Reason, message: str) -> CheckResult:
    return CheckResult(
        case=case.name,
        target=case.target,
        verdict=Verdict.INCONCLUSIVE,
        reason=reason,
        message=message,
        seed=options.seed,
        file=case.file,
        line=case.line,
    )


def make_case(record: Record, name: str) -> Case:
    """Make the case of a record."""
    call = record.call
    file, line = locate_source(record.source or record.target)
    return Case(
        name,
        call.target or record.target,
        call.args,
        call.kwargs,
        wrt=call.wrt,
        framework="jax" if record.kind in ("custom_vjp", "custom_jvp") else "torch",
        target=choose_target_text(record)[0],
        upstream=call.cotangents,
        overwrites=call.overwritten,
        file=file,
        line=line,
    )


def name_records(records: list[Record]) -> list[str]:
    """Name each record by its target and the dtypes and shapes of its inputs; equal names are numbered."""
    names = [f"{record.name}({', '.join(_describe_inputs(record))})" for record in records]
    numbers, numbered = Counter[str](), []
    for name in names:
        numbers[name] += 1
        numbered.append(name if numbers[name] == 1 else f"{name} #{numbers[name]}")
    return numbered


def _describe_inputs(record: Record) -> list[str]:
    leaves = flatten((record.call.args, record.call.kwargs)).leaves
    return [f"{str(x.dtype).rpartition('.')[2]}{list(x.shape)}" for x in leaves if _is_array(x)]


def _is_array(leaf: Any) -> bool:
    return any(is_from_framework(leaf, name) for name in ("torch", "jax", "numpy")) and hasattr(leaf, "shape")
