"""Options in groups: a command takes a dataclass for each, whose fields are options under one title of the help."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from operator import getitem
from typing import Annotated, Any, get_type_hints


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Spread the parameters of a command that are dataclasses into an option for each of their fields.

    The title in the help is the first line of the class's docstring.
    """
    hints = get_type_hints(command, include_extras=True)
    groups = {name: hint for name, hint in hints.items() if is_dataclass(hint) and isinstance(hint, type)}
    spread: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        spread += _options(groups[name]) if name in groups else [parameter.replace(annotation=hints[name])]

    @functools.wraps(command)
    def gathered(**given: Any) -> None:
        made = {name: group(**{f.name: given.pop(f.name) for f in fields(group)}) for name, group in groups.items()}
        command(**given, **made)

    gathered.__signature__ = inspect.Signature(spread)  # type: ignore[attr-defined]
    gathered.__annotations__ = {parameter.name: parameter.annotation for parameter in spread}
    return gathered


def typed(group: Any) -> Iterator[str]:
    """What was typed of a group, as words of a command line."""
    for name, hint in _hints(type(group)).items():
        value, flag = getattr(group, name), _flag(name, hint.__metadata__[0])
        if value is None:
            continue
        if isinstance(value, bool):
            yield flag.partition("/")[0 if value else 2]
        else:
            yield from (word for one in (value if isinstance(value, list) else [value]) for word in (flag, str(one)))


def _options(group: type[Any]) -> Iterator[inspect.Parameter]:
    title = (group.__doc__ or "").splitlines()[0].rstrip(".")
    hints = _hints(group)
    for field in fields(group):
        told = copy.copy(hints[field.name].__metadata__[0])  # several groups may have it
        told.rich_help_panel = title
        annotation = getitem(Annotated, (hints[field.name].__origin__, told))
        yield inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=annotation)


def _hints(group: type[Any]) -> dict[str, Any]:
    """The type of each field, with what typer is told of it as metadata."""
    return get_type_hints(group, include_extras=True)


def _flag(name: str, info: Any) -> str:
    """The long form of an option: `--dtype`, or `--strict/--no-strict`."""
    given = [word for word in (info.default, *(info.param_decls or ())) if isinstance(word, str) and word.startswith("--")]
    return given[0] if given else f"--{name.replace('_', '-')}"
