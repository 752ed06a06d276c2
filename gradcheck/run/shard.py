"""A run in parts: which cases belong to a part, and the merging of the parts, which refuses to lose a case."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from gradcheck.errors import UsageError
from gradcheck.results import CheckResult, Reason, RunResult, Shard

if TYPE_CHECKING:
    from gradcheck.targets.case import Case

Part = tuple[str, RunResult]  # the file that a part was read from, and its results


def parse_shard(text: str) -> tuple[int, int]:
    """Parse `2/5` into the index of the part, from 1, and the number of parts.

    Raises:
        UsageError: if the text has another form.
    """
    index, slash, total = text.partition("/")
    if not (slash and index.isdecimal() and total.isdecimal() and 1 <= int(index) <= int(total)):
        raise UsageError(f"--shard {text}: expected i/n with 1 <= i <= n, as in --shard 2/5")
    return int(index), int(total)


def index_of(name: str, total: int) -> int:
    """Return the index of the part that a case belongs to. It depends on the name alone, not on the machine or other cases."""
    return int.from_bytes(hashlib.sha256(name.encode(errors="backslashreplace")).digest()[:8], "big") % total + 1


def select_cases(cases: Sequence[Case], shard: Shard) -> list[Case]:
    """Return the cases of one part."""
    return [case for case in cases if index_of(case.name, shard.total) == shard.index]


def merge_parts(parts: Sequence[Part]) -> RunResult:
    """Merge the parts of a run.

    Raises:
        UsageError: if a part or a case is missing or there twice, or two parts come from different runs.
    """
    shards = [_require_shard(part) for part in parts]
    for part, shard in zip(parts[1:], shards[1:], strict=True):
        _require_same_run(parts[0], part)
        _require_same_plan(parts[0][0], shards[0], part[0], shard)
    _require_each_shard_once([name for name, _ in parts], shards)
    for (name, run), shard in zip(parts, shards, strict=True):
        _require_complete(name, run, shard)
    planned = shards[0].cases
    root = parts[0][1].root
    results = {result.case: _relocate_files(result, run.root, root) for _, run in parts for result in run.results}
    stale = [name for name in results if name not in {*planned}]  # entries of a baseline whose case is gone
    return replace(
        parts[0][1],
        environment=_merge_environments([run for _, run in parts]),
        started=min(run.started for _, run in parts),
        commit=", ".join(dict.fromkeys(run.commit for _, run in parts if run.commit)),
        command="\n".join(run.command for _, run in parts if run.command),
        results=tuple(results[name] for name in (*planned, *stale)),
        seconds=sum(run.seconds for _, run in parts),
        interrupted=False,
        planned=len(planned),
        shard=None,
    )


def _require_shard(part: Part) -> Shard:
    name, run = part
    if run.shard is None:
        raise UsageError(f"{name} is a whole run: expected a part, made with `gradcheck run --shard i/n`")
    return run.shard


def _require_same_run(first: Part, second: Part) -> None:
    """Refuse two parts with different settings."""
    (first_name, first_run), (second_name, second_run) = first, second
    settings = {
        "gradcheck's version": (first_run.gradcheck_version, second_run.gradcheck_version),
        **{key: (first_run.config.get(key), second_run.config.get(key)) for key in {**first_run.config, **second_run.config}},
    }
    for setting, (value, other_value) in settings.items():
        if value != other_value:
            raise UsageError(
                f"{first_name} and {second_name} come from different runs: "
                f"{setting} is {_shorten(value)} and {_shorten(other_value)}"
            )


def _require_same_plan(first_name: str, first: Shard, second_name: str, second: Shard) -> None:
    """Refuse two parts of different plans."""
    names = f"{first_name} and {second_name}"
    if first.total != second.total:
        raise UsageError(f"{names} come from different runs: of {first.total} parts and of {second.total}")
    if first.cases != second.cases:
        unshared = _join_names(sorted({*first.cases} ^ {*second.cases}))
        difference = f"{unshared} is planned in only one of them" if unshared else "the cases are planned in another order"
        raise UsageError(f"{names} come from different runs: {difference}")


def _require_each_shard_once(names: Sequence[str], shards: Sequence[Shard]) -> None:
    """Refuse parts of which one is missing or there twice."""
    files: dict[int, str] = {}
    for name, shard in zip(names, shards, strict=True):
        if shard.index in files:
            raise UsageError(f"shard {shard.index}/{shard.total} is there twice: {files[shard.index]} and {name}")
        files[shard.index] = name
    total = shards[0].total
    missing = [f"{index}/{total}" for index in range(1, total + 1) if index not in files]
    if missing:
        raise UsageError(f"shard {_join_names(missing)} is missing: give the files of all {total} parts")


def _require_complete(name: str, run: RunResult, shard: Shard) -> None:
    """Refuse a part that lacks a case, contains a case of another part, or one twice."""
    expected = [case for case in shard.cases if index_of(case, shard.total) == shard.index]
    counts = Counter(result.case for result in run.results if result.reason is not Reason.STALE_BASELINE)
    if missing := [case for case in expected if case not in counts]:
        raise UsageError(
            f"{name} lacks {_join_names(missing)}: was it interrupted, or stopped by --fail-fast? Run that shard again"
        )
    if repeated := [case for case, count in counts.items() if count > 1]:
        raise UsageError(f"{name} contains {_join_names(repeated)} twice: was it edited by hand? Run that shard again")
    if foreign := sorted({*counts} - {*expected}):
        raise UsageError(f"{name} contains {_join_names(foreign)}, which does not belong to shard {shard.index}/{shard.total}")


def _relocate_files(result: CheckResult, old_root: str, new_root: str) -> CheckResult:
    """Return a result from one checkout with the paths of its files as they are in another."""
    if not old_root or not new_root or old_root == new_root:
        return result

    def relocate(file: str | None) -> str | None:
        return f"{new_root}{file.removeprefix(old_root)}" if file and file.startswith(f"{old_root}/") else file

    layers = tuple(replace(layer, file=relocate(layer.file)) for layer in result.layers)
    return replace(result, file=relocate(result.file), claim_file=relocate(result.claim_file), layers=layers)


def _merge_environments(runs: Sequence[RunResult]) -> dict[str, str]:
    """Return the environment of the parts; where they differ, all values with commas."""
    keys = dict.fromkeys(key for run in runs for key in run.environment)
    return {key: ", ".join(dict.fromkeys(run.environment[key] for run in runs if key in run.environment)) for key in keys}


def _join_names(names: Sequence[str], limit: int = 3) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def _shorten(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]} …"
