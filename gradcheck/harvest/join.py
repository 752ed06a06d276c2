"""The parts that several processes leave, joined to one result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from gradcheck.glossary.verdicts import SEVERITY
from gradcheck.harvest.draft import DraftedCase
from gradcheck.harvest.watch import LOOKED_FOR
from gradcheck.results import CheckResult, RunResult

Part = dict[str, Any]  # JSON data: 'run', 'drafts', 'not_recorded' and 'loaded'; 'error' if gradcheck itself broke
LOST = "{} ended before the recorded calls could be checked: by os._exit, by a signal, or as a forked worker"


@dataclass(frozen=True)
class Joined:
    """What came of the watched processes.

    Attributes:
        run: the results of all of them; None if no call was recorded.
        drafts: the drafted cases, each once.
        not_recorded: why a target has no record, or lacks one, by its name.
        errors: why a process could not check its calls.
        processes: the number of processes, and of those that had loaded PyTorch or JAX.
        lost: the number of processes whose records are lost.
    """

    run: RunResult | None
    drafts: list[DraftedCase]
    not_recorded: dict[str, str]
    errors: list[str]
    processes: tuple[int, int]
    lost: int = 0

    @property
    def messages(self) -> list[str]:
        """What was not checked, and why."""
        messages = [f"not recorded: {name}: {why}" for name, why in self.not_recorded.items()]
        messages += [f"the calls of a process could not be checked: {error}" for error in self.errors]
        if self.lost:
            messages.append(LOST.format(f"{self.lost} process{'es' * (self.lost != 1)}"))
        elif self.run is None and not self.errors:
            count, loaded = self.processes
            seen = f"{count} Python process{'es' * (count != 1)} seen, {loaded} with PyTorch or JAX loaded"
            messages.append(f"{LOOKED_FOR}: {seen}")
        return messages


def join_parts(parts: Sequence[Part], lost: int = 0) -> Joined:
    """Join the parts of several processes; others are lost."""
    drafts: list[DraftedCase] = []
    for data in (data for part in parts for data in part.get("drafts", ())):
        draft = DraftedCase(**data)
        if draft not in drafts:
            drafts.append(draft)
    runs = [RunResult.from_dict(part["run"]) for part in parts if "run" in part]
    return Joined(
        run=join_runs([run for run in runs if run.results]),
        drafts=drafts,
        not_recorded={name: why for part in parts for name, why in part["not_recorded"].items()},
        errors=[part["error"] for part in parts if "error" in part],
        processes=(len(parts), sum(bool(part["loaded"]) for part in parts)),
        lost=lost,
    )


def join_runs(runs: Sequence[RunResult]) -> RunResult | None:
    """Join the runs of several processes; of a case that several have checked, the worst result is kept. None if none ran."""
    if not runs:
        return None
    results: dict[str, CheckResult] = {}
    for result in (result for run in runs for result in run.results):
        before = results.get(result.case)
        if before is None or SEVERITY.index(result.outcome) < SEVERITY.index(before.outcome):
            results[result.case] = result
    not_recorded = {name: why for run in runs for name, why in run.config["not_recorded"].items()}
    return replace(
        runs[0],
        results=tuple(results.values()),
        seconds=max(run.seconds for run in runs),
        interrupted=any(run.interrupted for run in runs),
        planned=len(results),
        config={**runs[0].config, "not_recorded": not_recorded},
    )
