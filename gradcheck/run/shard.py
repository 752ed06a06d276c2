"""A run in parts: which cases a part takes, and the parts put together again. Nothing may be lost on the way."""

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

Part = tuple[str, RunResult]  # with the file that it was read from


def read(text: str) -> tuple[int, int]:
    """Read `2/5`: the part, from 1, and how many there are.

    Raises:
        UsageError: where it is none.
    """
    index, slash, total = text.partition("/")
    if not (slash and index.isdecimal() and total.isdecimal() and 1 <= int(index) <= int(total)):
        raise UsageError(f"--shard {text}: expected i/n with 1 <= i <= n, as in --shard 2/5")
    return int(index), int(total)


def of(name: str, total: int) -> int:
    """The part that a case belongs to, by its name alone: the same on every machine, whatever other cases there are."""
    return int.from_bytes(hashlib.sha256(name.encode(errors="backslashreplace")).digest()[:8], "big") % total + 1


def taken(cases: Sequence[Case], shard: Shard) -> list[Case]:
    """The cases of one part."""
    return [case for case in cases if of(case.name, shard.total) == shard.index]


def merged(parts: Sequence[Part]) -> RunResult:
    """Put the parts of a run together.

    Raises:
        UsageError: where a part or a case is missing or there twice, or two parts are of different runs.
    """
    shards = [_shard_of(part) for part in parts]
    for part, shard in zip(parts[1:], shards[1:], strict=True):
        _of_one_run(parts[0], part)
        _of_one_plan(parts[0][0], shards[0], part[0], shard)
    _each_once([name for name, _ in parts], shards)
    for (name, run), shard in zip(parts, shards, strict=True):
        _whole(name, run, shard)
    planned = shards[0].cases
    root = parts[0][1].root
    found = {result.case: _moved(result, run.root, root) for _, run in parts for result in run.results}
    stale = [name for name in found if name not in {*planned}]
    return replace(
        parts[0][1],
        environment=_environment([run for _, run in parts]),
        results=tuple(found[name] for name in (*planned, *stale)),
        seconds=sum(run.seconds for _, run in parts),
        interrupted=False,
        planned=len(planned),
        shard=None,
    )


def _shard_of(part: Part) -> Shard:
    name, run = part
    if run.shard is None:
        raise UsageError(f"{name} is a whole run: expected a part, made with --shard i/n")
    return run.shard


def _of_one_run(first: Part, other: Part) -> None:
    """Refuse two that differ in what decides their results."""
    (one, run), (two, there) = first, other
    pairs = {
        "gradcheck's version": (run.gradcheck_version, there.gradcheck_version),
        **{key: (run.config.get(key), there.config.get(key)) for key in {**run.config, **there.config}},
    }
    for what, (here, over) in pairs.items():
        if here != over:
            raise UsageError(f"{one} and {two} are of different runs: {what} is {_short(here)} and {_short(over)}")


def _of_one_plan(one: str, here: Shard, two: str, there: Shard) -> None:
    if here.total != there.total:
        raise UsageError(f"{one} and {two} are of different runs: of {here.total} parts and of {there.total}")
    if here.cases != there.cases:
        odd = _listed(sorted({*here.cases} ^ {*there.cases})) or "another order"
        raise UsageError(f"{one} and {two} are of different runs: {odd} is planned in one of them alone")


def _each_once(names: Sequence[str], shards: Sequence[Shard]) -> None:
    holders: dict[int, str] = {}
    for name, shard in zip(names, shards, strict=True):
        if shard.index in holders:
            raise UsageError(f"shard {shard.index}/{shard.total} is there twice: {holders[shard.index]} and {name}")
        holders[shard.index] = name
    total = shards[0].total
    missing = [f"{index}/{total}" for index in range(1, total + 1) if index not in holders]
    if missing:
        raise UsageError(f"shard {_listed(missing)} is missing: give the files of all {total}")


def _whole(name: str, run: RunResult, shard: Shard) -> None:
    """Refuse a part that holds fewer cases than its own, others, or one twice."""
    own = [case for case in shard.cases if of(case, shard.total) == shard.index]
    found = Counter(result.case for result in run.results if result.reason is not Reason.STALE_BASELINE)
    if lost := [case for case in own if case not in found]:
        raise UsageError(f"{name} lacks {_listed(lost)}: was it interrupted, or ended by --fail-fast? Run that shard again")
    if twice := [case for case, count in found.items() if count > 1]:
        raise UsageError(f"{name} holds {_listed(twice)} twice: was it changed by hand? Run that shard again")
    if strange := sorted({*found} - {*own}):
        raise UsageError(f"{name} holds {_listed(strange)}, which is no case of shard {shard.index}/{shard.total}")


def _moved(result: CheckResult, there: str, here: str) -> CheckResult:
    """A result from another checkout, with its files as they are named in this one."""
    if not there or not here or there == here:
        return result

    def moved(file: str | None) -> str | None:
        return f"{here}{file.removeprefix(there)}" if file and file.startswith(f"{there}/") else file

    layers = tuple(replace(layer, file=moved(layer.file)) for layer in result.layers)
    return replace(result, file=moved(result.file), claim_file=moved(result.claim_file), layers=layers)


def _environment(runs: Sequence[RunResult]) -> dict[str, str]:
    """What the parts were run with; where they differ, each of it."""
    keys = dict.fromkeys(key for run in runs for key in run.environment)
    return {key: ", ".join(dict.fromkeys(run.environment[key] for run in runs if key in run.environment)) for key in keys}


def _listed(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]} …"
