"""Study: layers that people use. PyTorch's module database, the rest of torch.nn, networks of kinks, and other packages.

    python reports/modules/study.py                     # writes reports/modules.md
    python reports/modules/study.py --only kornia       # one collection or package

The packages are for this study alone: `packages.txt` lists them and says how to install them. The study skips packages that are
not installed. The database needs `expecttest`.
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

import torch

sys.path.append(str(Path(__file__).resolve().parents[1] / "common"))
import more_package_cases
import package_cases
import reproducers
import study_page
import torch_cases
from explanations import EXPLAINED
from package_cases import Case

import gradcheck
from gradcheck import CheckResult, Reason, Verdict

LARGEST = 400  # modules whose inputs and parameters hold more numbers than this are left out
INPUTS_PER_MODULE = 4  # forward inputs of a module, in each mode, evenly chosen
DETAIL_LENGTH = 150  # characters of the column `seen`
DISTRIBUTION_NAMES = {  # by the name that a package is imported under
    "torch_betainc": "torch-betainc",
    "pytorch_wavelets": "pytorch-wavelets",
    "linear_operator": "linear-operator",
    "pyro": "pyro-ppl",
}


@dataclasses.dataclass(frozen=True)
class Row:
    """The outcome of one case.

    Attributes:
        outcome: a verdict with its reason code, or a word for what happened instead.
        detail: the first comparison that did not pass, or the message.
        contracts: the contracts that did not pass, with their messages.
    """

    collection: str
    name: str
    outcome: str
    seconds: float
    detail: str = ""
    contracts: tuple[str, ...] = ()


def load_module_database(dtype: torch.dtype, every: bool) -> Iterator[Case]:
    """Yield the forward inputs of every module of PyTorch's database."""
    from torch.testing._internal.common_modules import module_db

    for info in module_db:
        for training in (True, False) if info.train_and_eval_differ else (True,):
            torch.manual_seed(0)
            inputs = info.module_inputs_func(info, device="cpu", dtype=dtype, requires_grad=True, training=training)
            cases = [
                case
                for i, module_input in enumerate(inputs)
                if module_input.forward_input and (case := _make_module_case(info, module_input, i, dtype, training))
            ]
            chosen = {round(k * (len(cases) - 1) / max(INPUTS_PER_MODULE - 1, 1)) for k in range(INPUTS_PER_MODULE)}
            yield from (case for i, case in enumerate(cases) if every or i in chosen)


def _make_module_case(info: object, module_input: object, number: int, dtype: torch.dtype, training: bool) -> Case | None:
    torch.manual_seed(number)
    module = info.module_cls(*module_input.constructor_input.args, **module_input.constructor_input.kwargs).to(dtype)
    module.train(training)
    leaves = torch.utils._pytree.tree_leaves((module_input.forward_input.args, module_input.forward_input.kwargs))
    lazy = any(isinstance(p, torch.nn.parameter.UninitializedParameter) for p in module.parameters())
    sizes = (
        [] if lazy else [x.numel() for x in (*leaves, *module.parameters()) if isinstance(x, torch.Tensor) and not x.is_nested]
    )
    if sum(sizes) > LARGEST:
        return None
    name = f"{info.name} {number}{'' if training else ' eval'}"
    return Case(name, module, module_input.forward_input.args, module_input.forward_input.kwargs)


def list_collections(every: bool) -> dict[str, Callable[[], Iterator[Case]]]:
    """List the generators of cases, by the name of the collection; a package's collection has the name of its function."""
    collections: dict[str, Callable[[], Iterator[Case]]] = {
        "module_db float64": lambda: load_module_database(torch.float64, every),
        "module_db float32": lambda: load_module_database(torch.float32, every),
        "torch.nn beyond": torch_cases.make_other_cases,
        "kinks": torch_cases.make_kink_cases,
    }
    for module in (package_cases, more_package_cases):
        collections |= {name: f for name, f in vars(module).items() if inspect.isgeneratorfunction(f)}
    return collections


def check_case(collection: str, case: Case) -> Row:
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
        detail = describe_failure(result)
        contracts = tuple(
            f"{contract.name}: {contract.message}" for contract in result.contracts if contract.verdict is not Verdict.PASS
        )
    except gradcheck.UsageError as error:
        outcome, detail = "refused", str(error)
    except Exception as error:
        outcome, detail = "crash", f"{type(error).__name__}: {error}"
    return Row(
        collection, case.name, outcome, time.process_time() - began, detail.replace("\n", " ")[:DETAIL_LENGTH], contracts
    )


def describe_failure(result: CheckResult) -> str:
    """Describe the first comparison that did not pass, or else the message, the first broken contract or the reason."""
    failure = next((comparison for comparison in result.comparisons if comparison.verdict is not Verdict.PASS), None)
    if failure is not None:
        where = f"{failure.wrt}{list(failure.worst_entry or ())}"
        return (
            f"{where}: {failure.method} {failure.claimed:.6g}, {failure.against} {failure.estimate:.6g} ± {failure.bound:.0e}"
        )
    broken = next(
        (
            f"contract {comparison.name}: {comparison.message}"
            for comparison in result.contracts
            if comparison.verdict is Verdict.FAIL
        ),
        "",
    )
    return result.message or broken or result.reason.message


def check_collections(chosen: dict[str, Callable[[], Iterator[Case]]]) -> tuple[list[Row], dict[str, str]]:
    """Check all cases.

    Returns:
        The rows, and by collection the error that ended it before its last case.
    """
    rows: list[Row] = []
    skipped: dict[str, str] = {}
    for collection, cases in chosen.items():
        torch.manual_seed(0)
        began = time.process_time()
        try:
            rows += [check_case(collection, case) for case in cases()]
        except ImportError as error:
            skipped[collection] = str(error)
        sys.stderr.write(f"{collection}: {time.process_time() - began:.0f} s\n")
    return rows, skipped


def explain(row: Row) -> tuple[str, str]:
    """Explain a case that did not pass by a kind and a sentence."""
    full = f"{row.collection} {row.name}"
    known = next((text for start, text in EXPLAINED.items() if full.startswith(start)), None)
    finding = reproducers.find_explanation(full)
    if known is None and finding is not None:
        return "finding", finding.title
    return known or ("", "not looked into yet")


def make_counts_table(rows: Sequence[Row]) -> list[str]:
    """Make the table of counts, with a row for each collection."""
    lines = []
    for collection in dict.fromkeys(row.collection for row in rows):
        collection_rows = [row for row in rows if row.collection == collection]
        tally = Counter(row.outcome.split()[0] for row in collection_rows)
        kinds = Counter(explain(row)[0] or "not looked into" for row in collection_rows if row.outcome.startswith("FAIL"))
        failed = ", ".join(f"{n} {kind}" for kind, n in kinds.items()) or "0"
        remarks = sum(bool(row.contracts) and not row.outcome.startswith("FAIL") for row in collection_rows)
        other_counts = [tally[name] for name in ("INCONCLUSIVE", "refused", "ERROR", "crash", "empty")]
        spent = f"{sum(row.seconds for row in collection_rows):.0f} s"
        lines.append((collection, len(collection_rows), tally["PASS"], failed, *other_counts, remarks, spent))
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
    return study_page.make_table(columns, lines)


def list_not_passed(rows: Sequence[Row]) -> list[str]:
    """List what did not pass with its explanation; cases with the same outcome and explanation share a row."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        if row.outcome.split()[0] not in ("PASS", "empty"):
            kind, text = explain(row)
            groups.setdefault((row.collection, row.outcome, text if kind else row.name), []).append(row)
    cells = []
    for (collection, outcome, _), group in groups.items():
        kind, text = explain(group[0])
        cells.append(
            (collection, f"`{group[0].name}`", len(group), outcome, group[0].detail, f"{kind}: {text}" if kind else text)
        )
    return study_page.make_table(("collection", "first case", "cases", "verdict", "seen", "known"), cells)


def list_remarks(rows: Sequence[Row]) -> list[str]:
    """List the contracts that are remarked or broken, by collection and name."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        for text in row.contracts:
            groups.setdefault((row.collection, text.split(":")[0]), []).append(row)
    cells = [
        (
            collection,
            contract,
            len(group),
            f"`{group[0].name}`",
            next(remark for remark in group[0].contracts if remark.startswith(contract))[:DETAIL_LENGTH].replace("\n", " "),
        )
        for (collection, contract), group in groups.items()
    ]
    return study_page.make_table(("collection", "contract", "cases", "first", "seen"), cells)


def format_versions(packages: Sequence[str]) -> str:
    """Format the names and versions of the packages that are installed."""
    versions = []
    for name in packages:
        try:
            versions.append(f"{DISTRIBUTION_NAMES.get(name, name)} {version(DISTRIBUTION_NAMES.get(name, name))}")
        except PackageNotFoundError:
            continue
    return ", ".join(versions)


def main() -> None:
    """Run the study and write its page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", help="collections or packages whose name contains this")
    parser.add_argument(
        "--every", action="store_true", help=f"every forward input of the database, not {INPUTS_PER_MODULE} of a module"
    )
    parser.add_argument("--out", default=str(study_page.page_path(__file__)))
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    chosen = {name: cases for name, cases in list_collections(arguments.every).items() if arguments.only in name}
    rows, skipped = check_collections(chosen)
    options = " ".join([*(["--every"] if arguments.every else []), *([f"--only {arguments.only}"] if arguments.only else [])])
    table = make_counts_table(rows)
    lines = [
        *study_page.make_heading("Modules: layers that people use", __file__, ("torch", "numpy"), options),
        *INTRODUCTION.strip().splitlines(),
        "",
        f"Packages: {format_versions(list(chosen))}.",
        *(f"Passed over: {name} ({why})." for name, why in skipped.items()),
        "",
        *table,
        "",
        "## Findings",
        "",
        *reproducers.make_chapter([f for f in reproducers.FINDINGS if arguments.only in f.package]),
        "## Not passed",
        "",
        *list_not_passed(rows),
        "",
        "## Contracts remarked or broken",
        "",
        *list_remarks(rows),
    ]
    study_page.write_page(lines, Path(arguments.out))
    sys.stdout.write("\n".join(table) + "\n")


INTRODUCTION = f"""
PyTorch's own module database (`torch.testing._internal.common_modules.module_db`: up to {INPUTS_PER_MODULE} forward inputs of
each module, training and not, of up to {LARGEST} numbers with the parameters; `--every` takes all), what torch.nn and
torch.nn.functional hold beyond it and beyond the operator database, networks of many kinks (5 networks, {torch_cases.SEEDS}
seeds, two modes, two dtypes), and packages with hand-written derivatives. gradcheck at its defaults; one process, one thread.
FAIL by kind: a *finding* is a wrong derivative with a reproducer below; *by design* is a claim that is not meant to be the
derivative of the value; *documented* is one whose conditions the case breaks; *limit* is a false FAIL.
"""

if __name__ == "__main__":
    main()
