"""gradcheck says whether a derivative is right, where it is wrong, and why, with no tolerance to tune.

The public names are declared in `__init__.pyi` and loaded at first use: `import gradcheck` imports neither a framework nor
NumPy.
"""

from typing import TYPE_CHECKING, Any

import lazy_loader

from gradcheck import result_text

if TYPE_CHECKING:
    from gradcheck.results import CheckResult, RunResult

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def _table(result: "CheckResult") -> str:
    from gradcheck.report.terminal import run_tables  # loads rich, which only printing needs

    return run_tables.to_text(result)


def _summary(result: "CheckResult") -> str:
    from gradcheck.report import problems

    return problems.summarise(result)


def _html(result: "CheckResult | RunResult") -> str:
    from gradcheck.report.html import fragment

    return fragment.render(result)


def load_ipython_extension(shell: Any) -> None:
    """Add the magic `%gradcheck` to IPython, for `%load_ext gradcheck`."""
    from gradcheck.run import magic

    magic.register(shell)


result_text.set_printers(_table, _summary, _html)
