"""The pages of the guide that list options, keys and fields; `code_pages.py` writes them.

Each is a table with an introduction. The texts come from the code: the help of the command line, the configuration's keys and
the JSON Schema of the results.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.resources import files
from typing import Any

import typer

from gradcheck.cli import app
from gradcheck.errors import ExitCode
from gradcheck.run.config import schema

EXIT_CODES = {
    ExitCode.OK: "every case passed; without `--strict`, INCONCLUSIVE counts as passed; with `--report-only`, FAIL does too",
    ExitCode.FAIL: "a derivative is wrong, or a baseline lists a failure that no longer occurs",
    ExitCode.USAGE: "the command, the configuration, the baseline or an input is not understood, or a report cannot be written",
    ExitCode.ERROR: "the target raised, or gradcheck broke",
    ExitCode.INCONCLUSIVE: "a result is INCONCLUSIVE, or a derivative of yours was not checked, with `--strict`",
    ExitCode.NOTHING_COLLECTED: "nothing to check was found",
    ExitCode.INTERRUPTED: "interrupted by Ctrl-C or SIGTERM; the reports hold the cases that were finished",
}
# Keys of the configuration whose option on the command line has another name, or that have none.
KEYS = {
    "target": "What to check: `module:name`, `module`, or a path. Required.",
    "name": "Name of the case, if a target is described several times.",
    "laws": "The laws of the training step to try. Default: all.",
    "inputs": "The inputs: a list of specs, or specs by argument name.",
    "dims": "Sizes of named dimensions; a range draws another size for each trial.",
    "partners": "Functions of the same inputs, for `checks = [\"laws\"]`.",
    "expect": "`pass`, `fail`, `straight-through` or `unbiased`: what you expect.",
    "because": "Why. Every declaration needs a reason, and the report shows it.",
    "depends": "What outputs may depend on: a rule, or rules by output.",
    "detached": "Inputs whose gradient must be zero or missing.",
    "tolerates": "Contracts that may be broken, and reasons for which a result may be INCONCLUSIVE.",
    "nondeterministic": "Why the function returns another value on every call.",
}  # fmt: skip


def describe_lists() -> dict[str, str]:
    """Return the text of each page, by its path in the guide."""
    return {
        "reference/command-line.md": describe_command_line(),
        "reference/configuration.md": describe_configuration(),
        "reference/json.md": describe_json(),
        "reference/pytest-plugin.md": describe_pytest_plugin(),
    }


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |\n" for line in lines)


def describe_command_line() -> str:
    """Describe every command with its options, and the exit codes."""
    root = typer.main.get_command(app)
    parts = [
        "# Command line\n\n"
        "`gradcheck COMMAND --help` prints the same in the terminal. Results go to stdout. Progress, messages and the output of"
        " your code go to stderr. Set `NO_COLOR=1` for output without colours.\n",
        "## Exit codes\n\n" + _table(("code", "meaning"), ((str(int(code)), text) for code, text in EXIT_CODES.items())),
    ]
    for name, command in root.commands.items():  # type: ignore[attr-defined]
        parts.append(f"## gradcheck {name}\n\n{_first_paragraph(command.help)}\n\n{_describe_parameters(command)}")
    parts.append("Read on: [configuration](configuration.md), [reports](../how-to/reports.md).\n")
    return "\n".join(parts)


def _first_paragraph(text: str) -> str:
    return " ".join(text.split("\b")[0].strip().partition("\n\n")[0].split())


def _describe_parameters(command: Any) -> str:
    groups: dict[str, list[Sequence[str]]] = {}
    for parameter in command.params:
        if parameter.name == "help":
            continue
        is_option = parameter.param_type_name == "option"
        names = [*parameter.opts, *parameter.secondary_opts] if is_option else [str(parameter.name).upper()]
        title = getattr(parameter, "rich_help_panel", None) or ("Options" if is_option else "Arguments")
        groups.setdefault(title, []).append((", ".join(f"`{name}`" for name in names), parameter.help or ""))
    return "\n".join(f"{title}:\n\n{_table(('name', 'meaning'), rows)}" for title, rows in groups.items())


def _option_helps() -> dict[str, str]:
    """Return the help of each option of `gradcheck run` by its name."""
    command = typer.main.get_command(app).commands["run"]  # type: ignore[attr-defined]
    return {parameter.name: parameter.help.replace(" Repeatable.", "") for parameter in command.params if parameter.name}


def describe_configuration() -> str:
    """Describe every key of `[tool.gradcheck]`."""
    helps = {**_option_helps(), **KEYS}

    def rows(keys: Mapping[str, schema.ValueType]) -> list[Sequence[str]]:
        return [(f"`{name}`", kind.expected, helps[name]) for name, kind in keys.items()]

    heads = ("key", "value", "meaning")
    whole = {name: kind for name, kind in {**schema.OPTION_KEYS, **schema.RUN_KEYS}.items() if name not in schema.CASE_KEYS}
    one = {name: kind for name, kind in schema.TARGET_KEYS.items() if name not in schema.CASE_KEYS}
    return f"""# Configuration

A project lists what it checks in `[tool.gradcheck]` of `pyproject.toml`, or with the same keys in `gradcheck.toml`.
`gradcheck run` without a target checks that list, from any folder of the project. `gradcheck init --write` drafts it.

```toml
# gradcheck.toml
seed = 7
dims = {{ batch = 3 }}

[[target]]
target = "torch.nn:Linear"
init = {{ in_features = 4, out_features = 2 }}
inputs = ["normal(batch, 4)"]
dtype = "float32"

[[target]]
target = "torch:round"
inputs = ["normal(4)"]
tolerates = ["quantised"]
because = "the function is a staircase"
```

```console
$ gradcheck run -q
2 passed; 24 evaluations, 1.2 s, seed 7
```

Some rules:

- The command line overrides a target's keys. A target's keys override what is declared beside the code with `@case`, and that
  overrides the keys of the whole run.
- A target that you name on the command line is checked as the configuration describes it.
- `pytest` without file arguments checks the list too; see [the pytest plugin](pytest-plugin.md#cases-as-tests).
- Paths are relative to the folder of the file.
- Nothing in the file is executed. An unknown key or a wrong type is an error that names the line.

## Keys for the whole run and for a target

{_table(heads, rows(schema.CASE_KEYS))}
## Keys for the whole run

{_table(heads, rows(whole))}
## Keys for a target

{_table(heads, rows(one))}
## Keys for a training step

Each `[[tool.gradcheck.step]]` names a function that returns the [pieces of a training step](../how-to/training-step.md).
`gradcheck run`, `gradcheck step` and `pytest` try it.

{_table(heads, rows(schema.STEP_KEYS))}
Read on: [gate merges in CI](../start/tutorial-ci.md), [inputs](../how-to/inputs.md),
[declared intent](../how-to/declared-intent.md).
"""


def describe_json() -> str:
    """Describe every field of the results."""
    document = json.loads((files("gradcheck") / "report" / "run.schema.json").read_text(encoding="utf-8"))
    parts = [
        "# JSON\n\n"
        "`gradcheck run --json PATH` writes everything that a run found. The file follows the JSON Schema"
        " `gradcheck/report/run.schema.json`, which is part of the package.\n\n"
        "Its `schema_version` is 1. New versions of gradcheck may add fields; none is renamed or removed. A reader should"
        " ignore fields that it does not know. Numbers that JSON cannot hold are the texts `nan`, `inf` and `-inf`.\n",
        f"## The run\n\n{_describe_fields(document)}",
    ]
    for name, kind in document["$defs"].items():
        if "properties" in kind:
            parts.append(f"## {name}\n\n{kind.get('description', '')}\n\n{_describe_fields(kind)}")
    parts.append("Read on: [reports](../how-to/reports.md).\n")
    return "\n".join(parts)


def _describe_fields(kind: Mapping[str, Any]) -> str:
    rows = ((f"`{name}`", _name_type(field), field.get("description", "")) for name, field in kind["properties"].items())
    return _table(("field", "type", "meaning"), rows)


def _name_type(field: Mapping[str, Any]) -> str:
    if "$ref" in field:
        return str(field["$ref"].rpartition("/")[2])
    if "anyOf" in field:
        return " or ".join(_name_type(option) for option in field["anyOf"])
    if field.get("type") == "array":
        return f"list of {_name_type(field.get('items', {}))}"
    return str(field.get("type", "any value"))


class _Collector:
    """Stands for pytest's parser and keeps the options that a plugin adds."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str]] = []
        self.ini: list[str] = []

    def getgroup(self, *_: object) -> _Collector:
        return self

    def addoption(self, name: str, **settings: Any) -> None:
        metavar = settings.get("metavar")
        self.rows.append((f"`{name}{f' {metavar}' if metavar else ''}`", settings["help"]))

    def addini(self, name: str, *_: object, **__: object) -> None:
        self.ini.append(name)


def describe_pytest_plugin() -> str:
    """Describe the fixture, the marker and every option of the pytest plugin."""
    from pytest_gradcheck import plugin

    collector = _Collector()
    add_options: Callable[[Any], None] = plugin.pytest_addoption
    add_options(collector)
    return f"""# Pytest plugin

The plugin is installed with gradcheck and needs pytest 8.2 or newer. `pytest -p no:gradcheck` switches it off.

## The fixture

`gradcheck(fn, *inputs, **options)` takes the arguments of [`gradcheck.check`](python-api.md) and returns its result.

- A wrong derivative fails the test at the call, with the table as the message and a command that replays it.
- INCONCLUSIVE results are warnings of the class `pytest_gradcheck.InconclusiveWarning`, or failures with `--gradcheck-strict`.
- The random numbers derive from the test's id and the seed, so other tests do not change them.
- The names of the module, such as `normal`, are attributes of the fixture: `gradcheck.normal(4, 3)`.

In a `@given` test of Hypothesis, use `@settings(deadline=None)`, because the first check in a process takes seconds. Pass
`drawn=True` to discard inputs that the function rejects.

## The marker

`@pytest.mark.gradcheck(rtol=1e-6, trials=3, strict=True)` on a test, a class or a module sets options. `pytest -m gradcheck`
selects the tests with the marker and the cases that the plugin collects. The closest marker takes precedence.

## Cases as tests

`pytest --gradcheck mypackage.layers` collects the cases that are declared with `@case` in a module. Each is a test with an
id such as `mypackage/layers.py::gradcheck:my_layer`. A case that is expected to fail is an expected failure.

If pytest has no file arguments, it also collects the targets of the ini file (`gradcheck_targets`) and those of
[`[tool.gradcheck]`](configuration.md), each case once. The configuration is the one that `gradcheck run` would find from
pytest's root folder. It describes a target wherever the target is named:

- Inputs, claims, declarations and options of a target hold, and so do the options for the whole run. The command line and the
  ini file of pytest override the options for the whole run; only the command line overrides those of a target.
- `strict` and `report_only` hold for these cases; the fixture has its own options. A case in the `baseline` is an expected
  failure.
- `jobs`, `timeout`, `executor` and `address` have no effect here.
- An invalid configuration is an error of usage.

A project that has the table gets these tests without asking for them. With `gradcheck_collect = false` in its ini file, pytest
ignores the table.

## The line of a failed test

In the short summary, the text begins with the verdict, the entry and its two numbers:

```text
FAILED test_layers.py::test_cube - FAIL x[1]: reverse 2.9985, numeric 3 ± 3e-...
```

For a layer of a model the path of the layer comes before the entry. A broken contract begins with its name.

## Report only

`--gradcheck-report-only` is for a project that is not ready to fail its build. A check that fails or cannot decide ends its
test, and the test passes with a `pytest_gradcheck.ReportOnlyWarning`, whatever the filters for warnings say. This holds for the
fixture, for collected cases and for `gradcheck.assert_gradients`. The reports and the section at the end still say FAIL. A
target that raises fails its test all the same. `assert gradcheck.check(...)` is a plain assertion, and fails too. So do the
drop-ins of `gradcheck.compat`, which raise what the checker raises that they replace.

## Harvest

`pytest --gradcheck-harvest` notes which of your Functions, operators, modules and JAX rules the tests call, and checks them
when the session ends; [the page of `gradcheck watch`](../how-to/watch.md) says what is recorded. The results are in the reports
and in a section of their own, with cases to paste. With xdist each worker checks what it has called. A wrong derivative fails a
session whose tests all pass.

## Options

The options of a call override those of the marker, which override the command line, which overrides the ini file. In the ini
file an option is a key such as `gradcheck_seed`.

{_table(("option", "meaning"), collector.rows)}
Read on: [test a custom Function](../start/tutorial-custom-function.md), [write a case](../how-to/write-a-case.md),
[take over a suite](../how-to/takeover.md).
"""
