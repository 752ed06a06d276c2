"""The result of a whole run: the argument of every report."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

from gradcheck import result_text
from gradcheck.glossary.verdicts import Verdict, worst_verdict
from gradcheck.results.case import CheckResult
from gradcheck.results.serialise import SCHEMA_VERSION, json_converter, to_json_data


@dataclass(frozen=True)
class Shard:
    """The part of a plan that a run covers.

    Attributes:
        index: the number of the shard, from 1 to `total`.
        total: the number of shards.
        cases: the names of all cases of the whole plan, in its order.
    """

    index: int
    total: int
    cases: tuple[str, ...]


@dataclass(frozen=True)
class RunResult:
    """The results of a run, with everything that a report needs.

    Attributes:
        gradcheck_version: the version that made the run.
        environment: versions of Python and of the packages involved, by name.
        seed: the seed of all random numbers.
        config: the options of the run, by name.
        results: the results of the cases, in the order of the plan.
        seconds: wall-clock time.
        interrupted: whether the run ended early.
        planned: the number of cases to check.
        shard: the part of the plan that was run; None for all of it.
        root: the folder of the repository, or the one in which the run was started: reports name files relative to it.
        started: the date and time of the start, in UTC and the format of ISO 8601; '' if unknown, as for all fields below.
        commit: the commit of the repository, with the suffix '-dirty' if files differ from it.
        command: the command line of the process that made the run; after a merge, one line for each part.
    """

    gradcheck_version: str
    environment: dict[str, str]
    seed: int
    config: dict[str, Any]
    results: tuple[CheckResult, ...]
    seconds: float = 0.0
    interrupted: bool = False
    schema_version: int = SCHEMA_VERSION
    planned: int = 0
    shard: Shard | None = None
    root: str = ""
    started: str = ""
    commit: str = ""
    command: str = ""

    @property
    def verdict(self) -> Verdict:
        """The most severe outcome, in the order FAIL, ERROR, INCONCLUSIVE, PASS. A run that ended early is no PASS."""
        unfinished = (Verdict.INCONCLUSIVE,) if self.interrupted else ()
        return worst_verdict((*unfinished, *(result.outcome for result in self.results)))

    @property
    def unchecked(self) -> tuple[str, ...]:
        """The names of the cases that pass although a derivative of the user was not compared."""
        return tuple(result.case for result in self.results if result.ok and result.unchecked)

    @property
    def strict(self) -> bool:
        """Whether INCONCLUSIVE results count as failures."""
        return bool(self.config.get("strict"))

    @property
    def report_only(self) -> bool:
        """Whether FAIL and INCONCLUSIVE are reported and fail nothing."""
        return bool(self.config.get("report_only"))

    @property
    def counts(self) -> dict[str, int]:
        """The number of cases by outcome; 'expected_fail' and 'known' are subsets of the passed."""
        tally = Counter(result.outcome.value for result in self.results)
        counts = {verdict.value.lower(): tally[verdict.value] for verdict in Verdict}
        counts["expected_fail"] = sum(result.expect == "fail" and result.ok for result in self.results)
        counts["known"] = sum(result.known is not None and result.ok for result in self.results)
        return counts

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, with `verdict` and `counts`."""
        data = to_json_data(self)
        return {**data, "verdict": self.verdict.value, "counts": self.counts}

    def to_json(self) -> str:
        """Return the JSON text; non-finite numbers become the strings 'nan', 'inf' and '-inf'."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False).replace("\x7f", "\\u007f")

    def _repr_html_(self) -> str:
        """Show the cases in a notebook."""
        return result_text.format_html(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> RunResult:
        """Build a run from its JSON form."""
        fields = {key: value for key, value in data.items() if key not in ("verdict", "counts")}  # these two are derived
        result: RunResult = json_converter().structure(fields, cls)
        return result
