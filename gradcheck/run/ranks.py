"""The trials of a case that runs on several ranks of `torch.distributed`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck.backends import load_target
from gradcheck.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradcheck.backends.backend import Backend
    from gradcheck.checks.trial_result import TrialResult
    from gradcheck.options import Options
    from gradcheck.targets.case import Case

SECONDS = 60.0  # that an evaluation on all ranks may take, unless the trial has a budget


def check_ranks(
    case: Case, options: Options, dtype: str, seconds: float | None, check: Callable[[Backend, int], TrialResult]
) -> list[TrialResult]:
    """Check every trial of a case on its ranks.

    Args:
        case: the declaration.
        options: how to check, with the number of ranks.
        dtype: of drawn inputs and constructed modules.
        seconds: that an evaluation on all ranks may take; None: `SECONDS`.
        check: checks a trial, given a backend that binds the joint program and the number of the trial.

    Raises:
        InputError: if the case or the options ask for what several ranks cannot do.
        TargetError: if the code of a rank raises, a rank dies or the ranks wait for each other.
    """
    from gradcheck.backends.torch.world import joint, payload, pool

    results: list[TrialResult] = []
    assert options.world is not None
    try:
        with pool.Pool(options.world, payload.pack(case, options), seconds or SECONDS) as ranks:
            for number in range(options.trials):
                parts = ranks.prepare(number, dtype)
                results.append(check(joint.JointBackend(joint.bind(ranks, case, options, parts)), number))
                if not parts[0].redrawn or results[-1].stop is not None:
                    break
    except pool.LostRankError as lost:
        raise lost.error from None
    return results


def choose_framework(case: Case) -> str:
    """Choose the framework of a case: PyTorch, unless the case shows another.

    Raises:
        InputError: if the declared one is not supported.
    """
    try:
        return load_target.choose_framework(case)
    except InputError:
        if case.framework:
            raise
        return "torch"


def refuse_unsupported(case: Case, options: Options, framework: str) -> None:
    """Refuse what several ranks cannot do.

    Raises:
        InputError: with what was asked for.
    """
    if framework != "torch":
        raise InputError(f"world={options.world} is for torch targets, but {case.name} uses {framework}")
    asked = {
        "a hand-written derivative": case.claims,
        "reference=": case.reference,
        "detached=": case.detached,
        "params=": case.params,
        "device=": options.device not in (None, "cpu"),
        "by_layer=": options.by_layer,
        "exact=": options.exact,
        "order=": options.order > 1,
        "methods= without 'reverse'": options.methods and "reverse" not in options.methods,
        "masks by name in depends=": any(isinstance(dependence.mask, str) for dependence in case.depends),
        "partners=": options.partners,
    }
    superfluous = [name for name, value in asked.items() if value]
    if superfluous:
        raise InputError(
            f"world={options.world} checks the reverse mode of PyTorch on several ranks: leave out {', '.join(superfluous)}"
        )
