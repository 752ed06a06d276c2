"""Count the diagnoses of the planted faults at their full size: how many remain unknown?

python reports/detection/diagnoses.py            # prints a table; two minutes on one core
python reports/detection/diagnoses.py float32    # the same in float32
"""

from __future__ import annotations

import sys
import warnings
from collections import Counter
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).resolve().parents[1] / "common"))
from study import choose_problems
from trial import check_fault, choose_place

from gradcheck import CheckResult, Verdict

UNKNOWN = "unknown"


def name_diagnosis(result: CheckResult) -> str:
    """Return the first diagnosis of a FAIL that is not unknown, or else 'unknown'; 'none' if only contracts fail."""
    texts = [row.diagnosis for row in result.comparisons if row.verdict is Verdict.FAIL and row.diagnosis]
    codes = [text.partition(":")[0] for text in texts]
    return next((code for code in codes if code != UNKNOWN), UNKNOWN if codes else "none")


def main() -> None:
    """Check every fault in every mode, and print the counts by kind of fault."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    dtype = sys.argv[1] if len(sys.argv) > 1 else "float64"
    counts: dict[str, Counter[str]] = {}
    for problem in choose_problems(""):
        for mode in ("auto", "full", "probe") if problem.has_both_modes else ("auto",):
            result = check_fault(problem, 1.0, mode, choose_place(problem)) if problem.dtype == dtype else None
            if result is not None and result.verdict is Verdict.FAIL:
                counts.setdefault(problem.kind, Counter())[name_diagnosis(result)] += 1
    for kind, of_kind in sorted(counts.items()):
        named = ", ".join(f"{code} {count}" for code, count in of_kind.most_common())
        sys.stdout.write(f"{kind:20} {of_kind[UNKNOWN]:3} of {of_kind.total():3} unknown   {named}\n")
    total = sum(counts.values(), Counter[str]())
    sys.stdout.write(f"{'all':20} {total[UNKNOWN]:3} of {total.total():3} unknown\n")


if __name__ == "__main__":
    main()
