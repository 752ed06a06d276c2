"""TODO: describe."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

from gradcheck.glossary.verdicts import Verdict, worst
from gradcheck.results.case import CheckResult
from gradcheck.results.serialise import SCHEMA_VERSION, _converter, _to_plain


@dataclass(frozen=True)
class Shard:
    """Which part of a plan a run is.

    Attributes:
        index: from 1 to `total`.
        cases: of the whole plan, in its order.
    """

    index: int
    total: int
    cases: tuple[str, ...]


@dataclass(frozen=True)
class RunResult:
    """Everything one run found out: the argument of every report.

    Attributes:
        planned: how many cases there were to check.
        root: the repository's folder, or that in which the run was started: reports name files relative to it.
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

    @property
    def verdict(self) -> Verdict:
        """The worst outcome, in the order FAIL, ERROR, INCONCLUSIVE, PASS."""
        return worst(r.outcome for r in self.results)

    @property
    def strict(self) -> bool:
        """Whether INCONCLUSIVE ends the run, too."""
        return bool(self.config.get("strict"))

    @property
    def counts(self) -> dict[str, int]:
        """How many cases had which outcome; 'expected_fail' and 'known' are among the passed."""
        tally = Counter(r.outcome.value for r in self.results)
        counts = {v.value.lower(): tally[v.value] for v in Verdict}
        counts["expected_fail"] = sum(r.expect == "fail" and r.ok for r in self.results)
        counts["known"] = sum(r.known is not None and r.ok for r in self.results)
        return counts

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, with `verdict` and `counts`."""
        data = _to_plain(self)
        return {**data, "verdict": self.verdict.value, "counts": self.counts}

    def to_json(self) -> str:
        """Return the JSON text; non-finite numbers are written as the strings 'nan', 'inf' and '-inf'."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> RunResult:
        """Read the JSON form back."""
        own = {k: v for k, v in data.items() if k not in ("verdict", "counts")}
        result: RunResult = _converter().structure(own, cls)
        return result
