"""Study: layers that people use. PyTorch's module database, the rest of torch.nn, networks of kinks, and other packages.

    python reports/modules.py                     # writes reports/modules.md
    python reports/modules.py --only kornia       # one collection or package

The packages are for this study alone: install them (without their dependency on PyTorch) beside gradcheck, in an environment of
their own; those that are not there are passed over. The database needs `expecttest`.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import findings
import modules_cases
import page
import third_party
import third_party_more
import torch
from modules_known import EXPLAINED
from third_party import Case

import gradcheck
from gradcheck import CheckResult, Reason, Verdict

LARGEST = 400  # numbers in inputs and parameters
SPREAD = 4  # forward inputs of a module, training or not, spread over those there are
SHOWN = 150  # characters of what was seen
NAMES = {
    "torch_betainc": "torch-betainc",
    "pytorch_wavelets": "pytorch-wavelets",
    "linear_operator": "linear-operator",
    "pyro": "pyro-ppl",
}


@dataclasses.dataclass(frozen=True)
class Row:
    """What became of a case."""

    collection: str
    name: str
    outcome: str
    seconds: float
    detail: str = ""
    contracts: tuple[str, ...] = ()


def database(dtype: torch.dtype, every: bool) -> Iterator[Case]:
    """The forward inputs of every module of PyTorch's database."""
    from torch.testing._internal.common_modules import module_db

    for info in module_db:
        for training in (True, False) if info.train_and_eval_differ else (True,):
            torch.manual_seed(0)
            given = info.module_inputs_func(info, device="cpu", dtype=dtype, requires_grad=True, training=training)
            cases = [
                case for i, one in enumerate(given) if one.forward_input and (case := _module(info, one, i, dtype, training))
            ]
            chosen = {round(k * (len(cases) - 1) / max(SPREAD - 1, 1)) for k in range(SPREAD)}
            yield from (case for i, case in enumerate(cases) if every or i in chosen)


def _module(info: object, one: object, number: int, dtype: torch.dtype, training: bool) -> Case | None:
    torch.manual_seed(number)
    module = info.module_cls(*one.constructor_input.args, **one.constructor_input.kwargs).to(dtype)
    module.train(training)
    leaves = torch.utils._pytree.tree_leaves((one.forward_input.args, one.forward_input.kwargs))
    lazy = any(isinstance(p, torch.nn.parameter.UninitializedParameter) for p in module.parameters())
    sizes = (
        [] if lazy else [x.numel() for x in (*leaves, *module.parameters()) if isinstance(x, torch.Tensor) and not x.is_nested]
    )
    if sum(sizes) > LARGEST:
        return None
    name = f"{info.name} {number}{'' if training else ' eval'}"
    return Case(name, module, one.forward_input.args, one.forward_input.kwargs)


def collections(every: bool) -> dict[str, Callable[[], Iterator[Case]]]:
    """The cases by where they come from."""
    found: dict[str, Callable[[], Iterator[Case]]] = {
        "module_db float64": lambda: database(torch.float64, every),
        "module_db float32": lambda: database(torch.float32, every),
        "torch.nn beyond": modules_cases.rest,
        "kinks": modules_cases.kinks,
    }
    for module in (third_party, third_party_more):
        found |= {name: f for name, f in vars(module).items() if inspect.isgeneratorfunction(f)}
    return found


def checked(collection: str, case: Case) -> Row:
    """Check one case with gradcheck."""
    began = time.process_time()
    torch.manual_seed(1)
    contracts: tuple[str, ...] = ()
    try:
        result = gradcheck.check(
            case.function,
            *case.args,
            kwargs=case.kwargs,
            name=f"{collection} {case.name}",
            **{"framework": "torch", **case.options},
        )
        outcome = "empty" if result.reason is Reason.EMPTY else f"{result.verdict.value} {result.reason.code}"
        detail = detail_of(result)
        contracts = tuple(f"{c.name}: {c.message}" for c in result.contracts if c.verdict is not Verdict.PASS)
    except gradcheck.UsageError as error:
        outcome, detail = "refused", str(error)
    except Exception as error:
        outcome, detail = "crash", f"{type(error).__name__}: {error}"
    return Row(collection, case.name, outcome, time.process_time() - began, detail.replace("\n", " ")[:SHOWN], contracts)


def detail_of(result: CheckResult) -> str:
    """The first comparison or contract that did not pass."""
    bad = next((c for c in result.comparisons if c.verdict is not Verdict.PASS), None)
    if bad is not None:
        where = f"{bad.wrt}{list(bad.worst_entry or ())}"
        return f"{where}: {bad.method} {bad.claimed:.6g}, {bad.against} {bad.estimate:.6g} ± {bad.bound:.0e}"
    broken = next((f"contract {c.name}: {c.message}" for c in result.contracts if c.verdict is Verdict.FAIL), "")
    return result.message or broken or result.reason.message


def run(wanted: dict[str, Callable[[], Iterator[Case]]]) -> tuple[list[Row], dict[str, str]]:
    """Check all cases; and why collections were passed over, or came to an end before their last case."""
    rows: list[Row] = []
    passed_over: dict[str, str] = {}
    for collection, cases in wanted.items():
        torch.manual_seed(0)
        began = time.process_time()
        try:
            rows += [checked(collection, case) for case in cases()]
        except ImportError as error:
            passed_over[collection] = str(error)
        sys.stderr.write(f"{collection}: {time.process_time() - began:.0f} s\n")
    return rows, passed_over


def explanation(row: Row) -> tuple[str, str]:
    """What is known about a case that did not pass: a kind, and a sentence."""
    full = f"{row.collection} {row.name}"
    known = next((told for start, told in EXPLAINED.items() if full.startswith(start)), None)
    finding = findings.explaining(full)
    if known is None and finding is not None:
        return "finding", finding.title
    return known or ("", "not looked into yet")


def counts(rows: Sequence[Row]) -> list[str]:
    """A line for each collection."""
    lines = []
    for collection in dict.fromkeys(row.collection for row in rows):
        own = [row for row in rows if row.collection == collection]
        tally = Counter(row.outcome.split()[0] for row in own)
        kinds = Counter(explanation(row)[0] or "not looked into" for row in own if row.outcome.startswith("FAIL"))
        failed = ", ".join(f"{n} {kind}" for kind, n in kinds.items()) or "0"
        remarks = sum(bool(row.contracts) and not row.outcome.startswith("FAIL") for row in own)
        others = [tally[name] for name in ("INCONCLUSIVE", "refused", "ERROR", "crash", "empty")]
        spent = f"{sum(row.seconds for row in own):.0f} s"
        lines.append((collection, len(own), tally["PASS"], failed, *others, remarks, spent))
    columns = (
        "collection",
        "cases",
        "PASS",
        "FAIL",
        "INCONCLUSIVE",
        "refused",
        "ERROR",
        "crash",
        "empty",
        "contract remarks",
        "CPU time",
    )
    return page.table(columns, lines)


def not_passed(rows: Sequence[Row]) -> list[str]:
    """What did not pass, with what is known about it; of a collection with one explanation and outcome the first."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        if row.outcome.split()[0] not in ("PASS", "empty"):
            kind, told = explanation(row)
            groups.setdefault((row.collection, row.outcome, told if kind else row.name), []).append(row)
    cells = []
    for (collection, outcome, _), own in groups.items():
        kind, told = explanation(own[0])
        cells.append((collection, f"`{own[0].name}`", len(own), outcome, own[0].detail, f"{kind}: {told}" if kind else told))
    return page.table(("collection", "first case", "cases", "verdict", "seen", "known"), cells)


def remarks(rows: Sequence[Row]) -> list[str]:
    """Contracts that are remarked or broken, by name."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        for text in row.contracts:
            groups.setdefault((row.collection, text.split(":")[0]), []).append(row)
    cells = [
        (
            collection,
            contract,
            len(own),
            f"`{own[0].name}`",
            next(t for t in own[0].contracts if t.startswith(contract))[:SHOWN].replace("\n", " "),
        )
        for (collection, contract), own in groups.items()
    ]
    return page.table(("collection", "contract", "cases", "first", "seen"), cells)


def versions(wanted: Sequence[str]) -> str:
    """The packages that were run, with their versions."""
    told = []
    for name in wanted:
        try:
            told.append(f"{NAMES.get(name, name)} {version(NAMES.get(name, name))}")
        except PackageNotFoundError:
            continue
    return ", ".join(told)


def main() -> None:
    """Run the study and write its page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", help="collections or packages whose name contains this")
    parser.add_argument("--every", action="store_true", help=f"every forward input of the database, not {SPREAD} of a module")
    parser.add_argument("--out", default=str(Path(__file__).with_suffix(".md")))
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    wanted = {name: cases for name, cases in collections(given.every).items() if given.only in name}
    rows, passed_over = run(wanted)
    options = " ".join([*(["--every"] if given.every else []), *([f"--only {given.only}"] if given.only else [])])
    table = counts(rows)
    lines = [
        *page.heading("Modules: layers that people use", __file__, ("torch", "numpy"), options),
        *INTRODUCTION.strip().splitlines(),
        "",
        f"Packages: {versions(list(wanted))}.",
        *(f"Passed over: {name} ({why})." for name, why in passed_over.items()),
        "",
        *table,
        "",
        "## Findings",
        "",
        *findings.chapter([f for f in findings.FINDINGS if given.only in f.package]),
        "## Not passed",
        "",
        *not_passed(rows),
        "",
        "## Contracts remarked or broken",
        "",
        *remarks(rows),
    ]
    page.write(lines, Path(given.out))
    sys.stdout.write("\n".join(table) + "\n")


INTRODUCTION = f"""
PyTorch's own module database (`torch.testing._internal.common_modules.module_db`: up to {SPREAD} forward inputs of each module,
training and not, of up to {LARGEST} numbers with the parameters; `--every` takes all), what torch.nn and torch.nn.functional
hold beyond it and beyond the operator database, networks of many kinks (5 networks, {modules_cases.SEEDS} seeds, two modes, two
dtypes), and packages with derivatives written by hand. gradcheck at its defaults; one process, one thread. FAIL by kind: a
*finding* is a wrong derivative with a reproducer below; *by design* is a claim that is not meant to be the derivative of the
value; *documented* is one whose conditions the case breaks; *limit* is a false FAIL.
"""

if __name__ == "__main__":
    main()
