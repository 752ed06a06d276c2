"""Record what gradcheck says about a fixed set of targets, and compare two recordings: a refactoring must change nothing.

    python reports/unchanged/record.py record BEFORE.json
    python reports/unchanged/record.py record AFTER.json
    python reports/unchanged/record.py compare BEFORE.json AFTER.json            # numbers, verdicts and codes
    python reports/unchanged/record.py compare BEFORE.json AFTER.json --texts    # and every message

A recording holds the reference models, the sample project of the tests and two samples of every operator in PyTorch's
database, in float64 and float32. It takes about three minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
# What differs between two machines or two checkouts and says nothing about a derivative.
IGNORED = {
    "seconds",
    "environment",
    "root",
    "gradcheck_version",
    "file",
    "line",
    "claim_file",
    "claim_line",
    "traceback",
    "replay",
}
# What is written for people: compared only with --texts.
TEXTS = {"message", "notes", "details", "conclusion", "remark", "because", "culprit", "label", "columns"}
# These operators draw random numbers themselves, so that two recordings of them differ although nothing has changed.
EXCLUDED = {"pca_lowrank", "svd_lowrank"}
SHOWN = 20  # differences printed


def record(path: Path) -> None:
    """Run every target and write one JSON file."""
    recording = {
        "reference": _run(ROOT, "gradcheck.reference"),
        "sample_project": _run(ROOT / "tests" / "data" / "sample_project"),
        **{f"operators {dtype}": _operators(dtype) for dtype in ("float64", "float32")},
    }
    path.write_text(json.dumps(recording, indent=1))


def _run(folder: Path, *words: str) -> Any:
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "run.json"
        command = [sys.executable, "-m", "gradcheck", "run", *words, "--json", str(out), "--jobs", "1"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        if not out.exists():
            sys.exit(f"`{' '.join(command)}` wrote no JSON (exit code {done.returncode}):\n{done.stderr}")
        return json.loads(out.read_text())


def _operators(dtype: str) -> dict[str, Any]:
    with multiprocessing.get_context("spawn").Pool(2, initializer=_load, initargs=(dtype,)) as pool:
        return dict(pool.imap(_nth, range(pool.apply(_count)), chunksize=10))


SAMPLES: list[Any] = []  # of the database, in each worker: functions cannot be sent


def _load(dtype: str) -> None:
    sys.path.append(str(ROOT / "reports" / "false_alarms"))
    import operator_samples
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    warnings.simplefilter("ignore")
    samples = operator_samples.load_samples(getattr(torch, dtype))
    SAMPLES[:] = [sample for sample in samples if sample.chosen and sample.name not in EXCLUDED]


def _count() -> int:
    return len(SAMPLES)


def _nth(number: int) -> tuple[str, Any]:
    import gradcheck

    sample = SAMPLES[number]
    name = f"{sample.name} {sample.index}"
    try:
        result = gradcheck.check(sample.function, *sample.args, kwargs=sample.kwargs, framework="torch", name=name)
    except Exception as error:
        return name, {"raised": type(error).__name__, "message": str(error)}
    return name, result.to_dict()


def compare(before: Any, after: Any, *, texts: bool, place: str = "") -> list[str]:
    """List the places in which two recordings differ."""
    if isinstance(before, dict) and isinstance(after, dict):
        ignored = IGNORED if texts else IGNORED | TEXTS
        keys = [key for key in {**before, **after} if key not in ignored and key.split(" ")[0] not in EXCLUDED]
        return [line for key in keys for line in compare(before.get(key), after.get(key), texts=texts, place=f"{place}/{key}")]
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        pairs = enumerate(zip(before, after, strict=True))
        return [line for i, (old, new) in pairs for line in compare(old, new, texts=texts, place=f"{place}[{i}]")]
    if not texts and place.endswith("/diagnosis"):  # 'code: explanation'
        before, after = (str(value).partition(":")[0] for value in (before, after))
    return [] if before == after else [f"{place}: {str(before)[:90]} -> {str(after)[:90]}"]


def main() -> None:
    """Record, or compare and exit with 1 where two recordings differ."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("record").add_argument("out", type=Path)
    comparing = commands.add_parser("compare")
    comparing.add_argument("before", type=Path)
    comparing.add_argument("after", type=Path)
    comparing.add_argument("--texts", action="store_true", help="compare messages and notes, too")
    arguments = parser.parse_args()
    if arguments.command == "record":
        record(arguments.out)
        return
    before, after = (json.loads(path.read_text()) for path in (arguments.before, arguments.after))
    differences = compare(before, after, texts=arguments.texts)
    sys.stdout.write("".join(f"{line}\n" for line in differences[:SHOWN]) + f"{len(differences)} differences\n")
    sys.exit(1 if differences else 0)


if __name__ == "__main__":
    main()
