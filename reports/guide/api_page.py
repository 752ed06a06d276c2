"""The page of the Python API, made from the docstrings: `python reports/guide/api_page.py` writes it.

The text up to `## check` is written by hand and kept.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, fields
from typing import Any

import gradcheck
from gradcheck import errors, results, strategies
from gradcheck.cli.guide_pages import GUIDE
from gradcheck.options import Options
from gradcheck.targets.check_arguments import DEFAULTS, CaseArguments
from gradcheck.targets.specs.spec import CONSTRUCTORS

PAGE = GUIDE / "reference" / "python-api.md"
FIRST_HEADING = "## check\n"
WIDTH = 128
RESULT_CLASSES: tuple[type, ...] = (
    results.CheckResult,
    results.Comparison,
    results.Whereabouts,
    results.WrongEntry,
    results.Contract,
    results.LayerResult,
    results.Search,
    results.Intent,
    results.RunResult,
)
ERRORS = (
    errors.GradcheckError,
    errors.UsageError,
    errors.TargetNotFoundError,
    errors.SpecError,
    errors.InputError,
    errors.TargetError,
    errors.DerivativeError,
    errors.ClaimError,
    errors.GradientError,
)
STRATEGIES = ("arrays", "inputs", "from_signature", "special_values", "layouts")
LINKS = (
    "Read on: [describe inputs](../how-to/inputs.md), [command line](command-line.md), [JSON](json.md),\n"
    "[the pytest plugin](pytest-plugin.md).\n"
)


def describe_api() -> str:
    """Describe every public name, as Markdown, from the first heading on."""
    defaults = {field.name: field.default for field in fields(Options) if field.default is not MISSING}
    options = [item for item in _read_section(Options, "Attributes") if item[0] not in DEFAULTS]
    parts = [
        FIRST_HEADING,
        *_describe_function(gradcheck.check),
        "The keywords are the arguments of a case and the options below.\n",
        "### Arguments of a case\n",
        _list_items(_read_section(CaseArguments, "Attributes"), DEFAULTS),
        "### Options\n",
        _list_items(options, defaults),
        "## assert_gradients\n",
        *_describe_function(gradcheck.assert_gradients),
        "## step\n",
        *_describe_function(gradcheck.step),
        "## case\n",
        *_describe_function(gradcheck.case),
        "## fuzz\n",
        *_describe_function(gradcheck.fuzz),
        "## watch\n",
        *_describe_watch(),
        "## Descriptions of inputs\n",
        "Each call describes one array. `layout` is `'contiguous'`, `'transposed'`, `'strided'`, `'expanded'`, or for PyTorch\n"
        "`'sparse_coo'` or `'sparse_csr'`. A size is an integer, a name, or a sum or product of these.\n",
        _list_items((_format_call(name, make), _summary(make)) for name, make in CONSTRUCTORS.items()),
        "## Strategies\n",
        "`gradcheck.strategies` holds strategies for tests with Hypothesis.\n",
        _list_items((f"strategies.{name}", _summary(getattr(strategies, name))) for name in STRATEGIES),
        "## Results\n",
        "`check`, `assert_gradients` and `fuzz` return a `CheckResult`. All results are frozen dataclasses.\n",
        *(text for kind in RESULT_CLASSES for text in _describe_class(kind)),
        "### Verdict\n",
        "One of " + ", ".join(f"`Verdict.{verdict.name}`" for verdict in results.Verdict) + ".\n",
        "### Reason\n",
        "An enumeration. `reason.code` is its name in reports, such as `agrees`; `gradcheck explain agrees` prints its page.\n",
        "## Exceptions\n",
        _list_items((error.__name__, _summary(error)) for error in ERRORS),
        LINKS,
    ]
    return "\n".join(parts)


def _format_call(name: str, function: Callable[..., Any], *more: str) -> str:
    """Return a call with the parameters and the defaults of a function, without types."""
    parameters = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in inspect.signature(function).parameters.values()
        if not more or not (parameter.name in DEFAULTS or parameter.kind is parameter.VAR_KEYWORD)
    ]
    words = [str(parameter) for parameter in parameters]
    return f"{name}({', '.join((*words, *more))})"


def _describe_function(function: Callable[..., Any]) -> list[str]:
    items = [item for item in _read_section(function, "Args") if not _is_shared(item[0])]
    call = _format_call(f"gradcheck.{function.__name__}", function, "**arguments")
    parts = [f"`{call}`\n", _wrap(_summary(function)), _list_items(items)]
    sections = {section: _section_text(function, section) for section in ("Returns", "Raises")}
    return parts + [_wrap(f"**{section}**: {text}") for section, text in sections.items() if text]


def _describe_watch() -> list[str]:
    """Describe `gradcheck.watch`, and what it yields, with the methods that give results."""
    watched = gradcheck.Watched
    methods = (watched.check, watched.draft, watched.draft_configuration)
    calls = [re.sub(r"\(self(, )?", "(", _format_call(method.__name__, method)) for method in methods]
    items = [("not_recorded", _summary(watched.not_recorded)), *zip(calls, map(_summary, methods), strict=True)]
    call = _format_call("gradcheck.watch", gradcheck.watch)
    parts = [f"`{call}`\n", _wrap(_summary(gradcheck.watch)), _list_items(_read_section(gradcheck.watch, "Args"))]
    return [*parts, "### Watched\n", _wrap(_summary(watched)), _list_items(items)]


def _is_shared(name: str) -> bool:
    """Whether the arguments of a case or the options describe an argument already."""
    return name == "**options" or all(part in DEFAULTS for part in name.split(", "))


def _describe_class(kind: type) -> list[str]:
    properties = [
        (name, _summary(value))
        for name, value in vars(kind).items()
        if isinstance(value, property) and not name.startswith("_")
    ]
    items = [*_read_section(kind, "Attributes"), *properties]
    return [f"### {kind.__name__}\n", _wrap(_summary(kind)), _list_items(items)]


def _summary(documented: Any) -> str:
    """Return the text of a docstring before its first section."""
    return " ".join(re.split(r"\n(?:Args|Attributes|Returns|Raises):\n", _doc(documented))[0].split())


def _section_text(documented: Any, section: str) -> str:
    found = re.search(rf"^{section}:\n((?:(?:    .*)?\n?)*)", _doc(documented), flags=re.M)
    return " ".join(found[1].split()) if found else ""


def _read_section(documented: Any, section: str) -> list[tuple[str, str]]:
    """Return the names that a section of a docstring describes, each with its text."""
    found = re.search(rf"^{section}:\n((?:(?:    .*)?\n?)*)", _doc(documented), flags=re.M)
    items = re.findall(r"^    (\S[^:]*): (.*(?:\n     .*)*)", found[1] if found else "", flags=re.M)
    return [(name, " ".join(text.split())) for name, text in items]


def _doc(documented: Any) -> str:
    return inspect.cleandoc(documented.__doc__ or "")


def _list_items(items: Iterable[tuple[str, str]], defaults: Mapping[str, Any] | None = None) -> str:
    lines = []
    for name, text in items:
        default = f" (default: `{defaults[name]!r}`)" if defaults and name in defaults else ""
        sentence = text if "_" in text.split()[0] else f"{text[:1].upper()}{text[1:]}"
        lines.append(_wrap(f"- `{name}`{default}: {sentence}", indent="  ").rstrip("\n"))
    return "\n".join(lines) + "\n"


def _wrap(text: str, indent: str = "") -> str:
    return textwrap.fill(text, WIDTH, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False) + "\n"


def write_page() -> None:
    """Write the page."""
    head = PAGE.read_text(encoding="utf-8").partition(FIRST_HEADING)[0]
    PAGE.write_text(head + describe_api(), encoding="utf-8")


if __name__ == "__main__":
    write_page()
