"""`gradcheck.fuzz`: search for an input on which a derivative is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

from gradcheck.errors import UsageError
from gradcheck.fuzzing.search import BUDGET, EXAMPLES, search_case
from gradcheck.options import Options, override_options
from gradcheck.results import CheckResult
from gradcheck.run.api import build_case
from gradcheck.targets.check_arguments import FuzzArguments, document_arguments, split_arguments


@document_arguments
def fuzz(
    fn: Callable[..., Any], *inputs: Any, examples: int = EXAMPLES, budget: float = BUDGET, **arguments: Unpack[FuzzArguments]
) -> CheckResult:
    """Search for the input on which a derivative is wrong: shapes, dtypes, layouts, special values, subsets of gradients.

    Specs say what may vary: their sizes, if the function takes others; values within their domain; dtypes and layouts that
    they do not name. Inputs that are not specs stay as they are. An input that the function itself raises on is no failure.

    Args:
        fn: as for `gradcheck.check`.
        *inputs: specs such as `gradcheck.normal("batch", 3)`, and inputs that stay as they are.
        examples: largest number of examples to draw.
        budget: seconds that the search may take; it replaces the option of this name.
        **arguments: keywords of `FuzzArguments`.

    Returns:
        The result for the smallest input that fails, with `result.example`, a test that can be pasted; else a PASS, or
        INCONCLUSIVE if no example could be decided. `result.search` says what was tried.

    Raises:
        UsageError: if the inputs or the options do not fit the target, or leave nothing to search.
    """
    if not isinstance(examples, int) or isinstance(examples, bool) or examples < 1:
        raise UsageError(f"examples={examples!r}: expected an integer of at least 1")
    if not isinstance(budget, int | float) or not budget > 0:
        raise UsageError(f"budget={budget!r}: expected a number of seconds, more than 0")
    description, overrides = split_arguments(arguments)
    case = build_case(fn, *inputs, **description)
    options = override_options(Options(), overrides)
    return search_case(case, options, count=examples, budget=budget, alone=True)
