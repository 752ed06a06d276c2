"""`gradcheck.fuzz`: a search for the input that breaks a derivative."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from gradcheck.errors import UsageError
from gradcheck.fuzzing.search import BUDGET, EXAMPLES, search_case
from gradcheck.options import Options, overridden
from gradcheck.results import CheckResult
from gradcheck.run.api import case_of


def fuzz(
    fn: Callable[..., Any], *inputs: Any, examples: int = EXAMPLES, budget: float = BUDGET, **arguments: Any
) -> CheckResult:
    """Search for the input on which a derivative is wrong: shapes, dtypes, layouts, special values, subsets of gradients.

    Specs say what may vary: their named sizes and those given as numbers, where the function takes others; values within
    their domain; dtypes and layouts that they do not name. What is no spec stays as it is. What the function itself raises
    on is no failure.

    Args:
        fn: as for `gradcheck.check`.
        *inputs: specs such as `gradcheck.normal("batch", 3)`, and whatever stays as it is.
        examples: to draw, at most.
        budget: seconds.
        **arguments: those of `gradcheck.check` but for its `budget`.

    Returns:
        The result of the smallest input that fails, with `result.example`, a test that can be pasted; else a PASS (or
        INCONCLUSIVE, where no example could be decided). `result.search` says what was tried.

    Raises:
        UsageError: where inputs or options do not fit the target, or leave nothing to search.
    """
    if not isinstance(examples, int) or isinstance(examples, bool) or examples < 1:
        raise UsageError(f"examples={examples!r}: expected an integer of at least 1")
    if not isinstance(budget, int | float) or not budget > 0:
        raise UsageError(f"budget={budget!r}: expected a number of seconds, more than 0")
    own = inspect.signature(case_of).parameters
    case = case_of(fn, *inputs, **{name: value for name, value in arguments.items() if name in own})
    options = overridden(Options(), {name: value for name, value in arguments.items() if name not in own})
    return search_case(case, options, count=examples, budget=budget, alone=True)
