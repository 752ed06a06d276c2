"""Groups of options: a command takes one dataclass per group, and each field becomes an option under the group's title.

Typer reads options from a function's signature and knows no groups. So we spread each dataclass into the signature. From

    @dataclass(frozen=True)
    class Speed:
        "How fast."
        jobs: Annotated[int, typer.Option(help="Processes.")] = 1

    @app.command()
    @spread_option_groups
    def run(target: str, *, speed: Speed) -> None: ...

typer gets

    def run(*, target: str, jobs: Annotated[int, typer.Option(help="Processes.", rich_help_panel="How fast")] = 1) -> None:
        original_run(target=target, speed=Speed(jobs=jobs))

and `command_words(Speed(jobs=2))` gives the words `--jobs 2` back.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from operator import getitem
from typing import Annotated, Any, get_type_hints


def spread_option_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Replace each parameter that is a dataclass by one option per field, and build the dataclass from the options again.

    The title of a group in the help is the first line of the class's docstring.
    """
    hints = get_type_hints(command, include_extras=True)
    groups = {name: hint for name, hint in hints.items() if is_dataclass(hint) and isinstance(hint, type)}
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        parameters += _group_parameters(groups[name]) if name in groups else [parameter.replace(annotation=hints[name])]

    @functools.wraps(command)
    def command_with_options(**values: Any) -> None:
        instances = {
            name: group(**{field.name: values.pop(field.name) for field in fields(group)}) for name, group in groups.items()
        }
        command(**values, **instances)

    command_with_options.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command_with_options.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command_with_options


def command_words(group: Any) -> Iterator[str]:
    """Yield the words of a command line that give a group the values it has."""
    kind: Any = type(group)
    for name, hint in _field_hints(kind).items():
        value, flag = getattr(group, name), _flag(name, hint.__metadata__[0])
        if value is None:
            continue
        if isinstance(value, bool):
            yield flag.partition("/")[0 if value else 2]
        else:
            yield from (word for item in (value if isinstance(value, list) else [value]) for word in (flag, str(item)))


def _group_parameters(group: Any) -> Iterator[inspect.Parameter]:
    """Yield one keyword-only parameter per field of a group."""
    title = (group.__doc__ or "").splitlines()[0].rstrip(".")
    hints = _field_hints(group)
    for field in fields(group):
        option = copy.copy(hints[field.name].__metadata__[0])  # two commands may have it in groups of different titles
        option.rich_help_panel = title
        annotation = getitem(Annotated, (hints[field.name].__origin__, option))
        yield inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=annotation)


@functools.cache  # several commands share a group
def _field_hints(group: Any) -> dict[str, Any]:
    """Return the type of each field of a dataclass, with its `typer.Option` as metadata."""
    return get_type_hints(group, include_extras=True)


def _flag(name: str, option: Any) -> str:
    """Return the long form of an option: `--dtype`, or `--strict/--no-strict`."""
    declared = (option.default, *(option.param_decls or ()))
    flags = [word for word in declared if isinstance(word, str) and word.startswith("--")]
    return flags[0] if flags else f"--{name.replace('_', '-')}"
