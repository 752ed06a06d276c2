"""Try the contracts of a derivative that the user wrote: what it must honour besides its value, in every way PyTorch uses it.

PyTorch's own operators honour these contracts. They are tried only if the graph holds an `autograd.Function` or a registered
operator of the user. The exception is `train-eval`: it is tried if the target is, or holds, a module of the user's own class.
`reports/modules.md` lists the contracts that were broken or remarked on in layers that people use.

To add a contract:

1. Copy a short file of this folder, such as `retain_graph.py`, and name the copy after the contract, with `_` for `-`.
2. Set `NAME` to the name of the contract, and `FIX` to the usual fix: a phrase that is printed after the message, following a
   semicolon.
3. Write `find_breach(base: Baseline) -> str`. It returns '' if the contract holds, or else a clause that says what was seen,
   without a period at its end. It raises `Remark`, `NotApplicable` or `UserCodeRaised` as these classes say in
   `support/plain_vjp.py`. Any other exception counts as a breach and is shown with the user's own lines.
4. Append the name to `REST`, and add it to `PASSES` if it costs more than `DEFAULT_PASSES`.
5. Add the name and the sentence that users read (`gradcheck explain NAME`, `-v`) to `gradcheck/glossary/contracts.py`. A
   contract that takes seconds also belongs to the contracts there that are tried only on request.
6. Run `make guide`, give the new page an example, and add a row to `guide/how-to/contracts.md`. Add layers that break the
   contract to `VIOLATIONS` in `tests/support/unruly.py`.

The order matters. The contracts in `FIRST` are tried first: all others assume that they hold, so that after a breach of one
of them the contracts in `REST` are not tried. Within each group, the order is that of the report.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection
from contextlib import nullcontext
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from gradcheck import progress
from gradcheck.backends.torch.parameter_swap import swap_scope
from gradcheck.backends.torch.time_limit import TimeLimit, TimeLimitExceeded
from gradcheck.checks.contracts.torch import upstream
from gradcheck.checks.contracts.torch.support.plain_vjp import Baseline, NotApplicable, Remark, UserCodeRaised, compute_baseline
from gradcheck.evidence.line import F64
from gradcheck.glossary.contracts import CONTRACTS
from gradcheck.results import Contract, Verdict
from gradcheck.tracebacks import format_user_frames, summarise_error

if TYPE_CHECKING:
    from gradcheck.backends.contract_target import Layer
    from gradcheck.compare.trial_recorder import Recorder

# If one of these is broken, the contracts that follow would only report its consequences.
FIRST = ("primal", "backward-intact", "deterministic-backward")
REST = (
    "gradient-form", "some-outputs", "requires-grad", "cotangent-layout", "input-layout", "retain-graph", "state",
    "accumulation", "batched-vjp", "checkpoint", "double-backward", "empty-batch", "one-element", "adjoint", "autocast",
    "opcheck", "train-eval", "upstream", "compile",
)  # fmt: skip
# The predicted cost of a contract is a multiple of one forward and backward pass.
PASSES = {
    "requires-grad": 10,
    "train-eval": 12,
    "double-backward": 8,
    "autocast": 6,
    "batched-vjp": 5,
    "cotangent-layout": 5,
    "input-layout": 4,
    "adjoint": 4,
}
# A contract that `PASSES` does not name is predicted to cost this many passes.
DEFAULT_PASSES = 2
# If the user sets no budget, all contracts together may take this many seconds.
DEFAULT_BUDGET = 10.0
# These run the target with other numerics, in which an adaptive solver may take any number of steps.
UNPREDICTABLE = ("autocast",)
# These compare gradients with differences, which say nothing about inputs of a draw by rejection.
BY_DIFFERENCES = ("autocast", "double-backward", "one-element", "state", "train-eval")
# They are stopped after this many times their predicted cost; if the user set a budget, when it is used up.
MAX_OVER_PREDICTED = 20.0
# They may take at least this many seconds.
MIN_SECONDS = 1.0

STOPPED = "not fully tried: it takes far longer than a plain call (--budget allows more)"


def check_contracts(
    layer: Layer,
    gradient_shift: Callable[[F64], F64],
    internal_tolerance: Callable[[], float],
    label: str,
    skipped: Collection[str],
    budget: float | None,
    recorder: Recorder,
) -> list[Contract]:
    """Try every contract that applies to a layer and is not skipped.

    Args:
        gradient_shift, internal_tolerance: as in `compute_baseline`.
        label: names the random streams.
        skipped: names of the contracts to leave out.
        budget: seconds that all contracts together may take; None: `DEFAULT_BUDGET`.
        recorder: takes remarks for the report.
    """
    first, rest = ([name for name in names if name not in skipped and _applies(name, layer)] for names in (FIRST, REST))
    if not first and not rest:
        return []
    predicted, allowed = math.inf, budget or DEFAULT_BUDGET
    passes = sum(PASSES.get(name, DEFAULT_PASSES) for name in (*first, *rest))
    for _ in range(2):  # the first call may be slow because it loads code
        start = time.perf_counter()
        try:
            with swap_scope():
                base = compute_baseline(layer, gradient_shift, internal_tolerance, label)
        except Exception:
            return []  # the check of the derivative itself reports it
        predicted = min(predicted, passes * (time.perf_counter() - start))
        if predicted <= allowed:
            break
    if predicted > allowed:
        names = ", ".join(layer.user_functions) or type(layer.module).__name__
        recorder.note(f"contracts of {names} not tried: they would take about {predicted:.0f} s; raise --budget to try them")
        return []
    if not all(np.all(np.isfinite(gradient)) for gradient in base.gradients):
        return []
    contracts: list[Contract] = []
    to_try, deadline = [*first, *rest], time.perf_counter() + allowed
    for done, name in enumerate(to_try):
        if name in rest and any(contract.verdict is Verdict.FAIL for contract in contracts[: len(first)]):
            break
        left = deadline - time.perf_counter()
        if left <= 0:
            recorder.note(f"contracts not tried after {allowed:g} s (--budget allows more): {', '.join(to_try[done:])}")
            break
        progress.report_progress(name, done, len(to_try))
        expected = predicted / passes * PASSES.get(name, DEFAULT_PASSES)
        limit = left if budget else min(left, max(MIN_SECONDS, MAX_OVER_PREDICTED * expected))
        contracts.append(
            _try_contract(
                import_module(f"{__package__}.{name.replace('-', '_')}"), base, limit if name in UNPREDICTABLE else None
            )
        )
    return contracts


def _applies(name: str, layer: Layer) -> bool:
    """Whether a contract concerns a layer: `train-eval` needs a module, `upstream` a model around the layer."""
    if name in BY_DIFFERENCES and any(leaf.drawn_by_rejection for leaf in layer.leaves):
        return False
    if name == "train-eval":
        return layer.module is not None
    return bool(layer.user_functions) and (name != "upstream" or upstream.applies(layer))


def _try_contract(contract: ModuleType, base: Baseline, seconds: float | None) -> Contract:
    """Turn what a contract's `find_breach` returns or raises into a verdict and a message.

    Args:
        seconds: after which it is stopped; None: never.
    """
    limit = None if seconds is None else TimeLimit(seconds)
    try:
        with swap_scope(), limit or nullcontext():
            breach = contract.find_breach(base)
    except (TimeLimitExceeded, Exception) as error:
        if limit is not None and limit.is_over:  # the target's code may have turned the exception into another
            return Contract(contract.NAME, Verdict.PASS, STOPPED, is_untried=True)
        if isinstance(error, Remark):
            return Contract(contract.NAME, Verdict.INCONCLUSIVE, str(error))
        if isinstance(error, NotApplicable):
            return Contract(contract.NAME, Verdict.PASS, f"not fully tried: {error}", is_untried=True)
        cause = error.__cause__ if isinstance(error, UserCodeRaised) and error.__cause__ else error
        context = f"{error} " if cause is not error else ""
        breach = f"{context}it raises {summarise_error(cause)}\n{format_user_frames(cause)}".rstrip()
    if not breach:
        return Contract(contract.NAME, Verdict.PASS, CONTRACTS[contract.NAME])
    summary, *frames = breach.split("\n", 1)
    return Contract(contract.NAME, Verdict.FAIL, "\n".join([f"{summary.rstrip('.')}; {contract.FIX}", *frames]))
