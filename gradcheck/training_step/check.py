"""Try every law on a training step, and collect the lines into the result of a case."""

from __future__ import annotations

import difflib
import time
from collections.abc import Iterable
from dataclasses import replace
from importlib import import_module

from gradcheck import progress
from gradcheck.errors import InputError, TargetError
from gradcheck.glossary.laws import LAWS
from gradcheck.glossary.verdicts import SEVERITY
from gradcheck.results import CheckResult, Law, Reason, Verdict
from gradcheck.training_step.batches import NotApplicableError
from gradcheck.training_step.experiment import Experiment
from gradcheck.training_step.pieces import Pieces, leaving_intact, require_pieces

REASONS = {Verdict.PASS: Reason.AGREES, Verdict.FAIL: Reason.STEP_BROKEN, Verdict.INCONCLUSIVE: Reason.DULL}


def check_training_step(pieces: Pieces, blank: CheckResult) -> CheckResult:
    """Try the laws of a training step on copies of its pieces.

    Args:
        pieces: the step.
        blank: the result before anything was tried.

    Raises:
        InputError: if a piece is not what it must be.
        TargetError: if the user's code raises.
    """
    names = choose_laws(pieces.laws)
    require_pieces(pieces)
    with leaving_intact(pieces):
        experiment = Experiment(pieces, blank.seed)
        _ = experiment.gradient  # a loss or a step that raises ends the check here
        experiment.take_step(experiment.exact_copy())
        laws = tuple(_try_law(name, experiment, done, len(names)) for done, name in enumerate(names))
    verdict = min((law.verdict for law in laws if law.verdict), key=SEVERITY.index, default=Verdict.INCONCLUSIVE)
    return replace(
        blank,
        verdict=verdict,
        reason=REASONS[verdict],
        laws=laws,
        notes=tuple(experiment.notes),
        framework="torch",
        evaluations=experiment.evaluations,
        device=str(experiment.device),
    )


def choose_laws(names: Iterable[str] | None) -> tuple[str, ...]:
    """Return the laws to try, in their order; None: all.

    Raises:
        InputError: if a name is unknown.
    """
    chosen = set(LAWS if names is None else names)
    for name in sorted(chosen - LAWS.keys()):
        near = difflib.get_close_matches(name, LAWS, 1)
        expected = f"did you mean {near[0]!r}? The laws are" if near else "expected some of"
        raise InputError(f"law {name!r}: {expected} {', '.join(LAWS)}")
    return tuple(name for name in LAWS if name in chosen)


def _try_law(name: str, experiment: Experiment, done: int, total: int) -> Law:
    """Try one law; what does not apply or cannot be evaluated has no verdict."""
    progress.report_progress(name, done, total)
    start = time.perf_counter()
    try:
        if experiment.nothing_to_compare and name != "receives":
            raise NotApplicableError(experiment.nothing_to_compare)
        law: Law = import_module(f"gradcheck.training_step.laws.{name.replace('-', '_')}").check_law(experiment)
    except NotApplicableError as error:
        law = Law(name, None, f"not available: {error}")
    except (InputError, TargetError) as error:
        law = Law(name, Verdict.FAIL, f"{error}\n{error.frames}".rstrip() if isinstance(error, TargetError) else str(error))
    return replace(law, seconds=round(time.perf_counter() - start, 3))
