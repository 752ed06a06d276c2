"""From what a user typed to the cases to run."""

from __future__ import annotations

import inspect
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gradcheck.errors import InputError, UsageError
from gradcheck.options import Options
from gradcheck.results import Intent
from gradcheck.targets import discover
from gradcheck.targets.case import Case, claims, source_of
from gradcheck.targets.framework import FRAMEWORKS, Kind, kind_of
from gradcheck.targets.specs import parse


@dataclass(frozen=True)
class Request:
    """What `gradcheck run` was asked for, as text.

    Attributes:
        targets: none: those of the configuration.
        inputs: specs, each `spec` or `name=spec`; `init`: each `name=value`.
        claims: (kind, module:name) of each hand-written derivative.
        reference: module:name of a second implementation.
        optimizer, partners: module:name, for the further checks.
        entries: the targets that the configuration describes.
        root: the folder that paths start from; '' for the working directory.
    """

    targets: Sequence[str]
    inputs: Sequence[str] = ()
    init: Sequence[str] = ()
    claims: Sequence[tuple[str, str]] = ()
    reference: str | None = None
    wrt: Sequence[str] = ()
    framework: str | None = None
    optimizer: str | None = None
    partners: Sequence[str] = ()
    keyword: str | None = None
    entries: Sequence[Entry] = ()
    root: str = ""

    @property
    def texts(self) -> list[str]:
        """The targets asked for, each once."""
        return list(dict.fromkeys(self.targets or [entry.target for entry in self.entries]))


@dataclass(frozen=True)
class Entry:
    """A target as the configuration describes it.

    Attributes:
        asked: the target, and what is given for it.
        place: file and line, for messages.
        root: the folder that paths start from.
        name: of this description, where a target has several.
        options: overrides of the run's options, as pairs.
        expect, because, intents: what is declared to be meant so; in the place of what is declared beside the code.
        unfinished: what is left to be filled in, in a sentence; '' where nothing is.
    """

    asked: Request
    place: str
    root: str
    name: str = ""
    options: tuple[tuple[str, Any], ...] = ()
    expect: str = "pass"
    because: str = ""
    intents: tuple[Intent, ...] = ()
    unfinished: str = ""

    @property
    def target(self) -> str:
        """The target's text."""
        return self.asked.targets[0]


def plan(request: Request) -> list[Case]:
    """Find the cases: those declared in a module or described in the configuration, or a named target with the inputs given.

    Raises:
        UsageError: where a target, spec or option cannot be understood.
        TargetError: where importing a target raises.
    """
    if not request.texts:
        raise UsageError(
            "no target: give module, module:name, path/file.py or path/file.py:name, as in gradcheck run scipy.optimize:rosen; "
            "or list targets under [tool.gradcheck] in pyproject.toml, as `gradcheck init` does"
        )
    if request.framework is not None and request.framework not in FRAMEWORKS:
        raise UsageError(f"--framework {request.framework}: expected one of {', '.join(FRAMEWORKS)}")
    overrides, chosen = _overrides(request, "--", request.root), _functions(request, request.root)
    described: dict[str, list[Entry]] = {}
    for entry in request.entries:
        described.setdefault(entry.target, []).append(entry)
    found: dict[str, Case] = {}
    for text in request.texts:
        own = [case for entry in described.get(text, ()) for case in _of_entry(entry)]
        for case in _given(own or _found(text, request.root), text, overrides):
            if case.name not in found or case.target == text:  # named by itself it goes before a module that holds it
                found[case.name] = replace(_as_factory(case), options={**case.options, **chosen})
    return [case for case in found.values() if _selected(Path(case.name).name, request.keyword)]  # a folder selects nothing


def covers(request: Request, name: str) -> bool:
    """Whether a case of that name would be among those planned, if it were there."""
    inside = any(name == text or name.startswith((f"{text}:", f"{text}.", f"{text}[")) for text in request.targets)
    return (inside or not request.targets) and _selected(Path(name).name, request.keyword)


def no_case(request: Request, command: str) -> str:
    """Why a plan is empty, and what could have been named instead, ready to paste behind a command."""
    if request.keyword:
        return f"no case fits -k {request.keyword!r}; `gradcheck list` names the cases"
    hints = []
    for text in request.texts:
        found = discover.find(text, next((entry.root for entry in request.entries if entry.target == text), ""))
        names = discover.callables_in(found.module) if found.name is None else []
        hints += [f"    {command} {text}:{name}" for name in names[:5]]
    offer = ", or name a function or class:\n" + "\n".join(hints) if hints else ""
    return f"{', '.join(request.texts)} declares no case; declare one with @gradcheck.case{offer}"


def _functions(request: Request, root: str = "") -> dict[str, Any]:
    """The functions that the further checks are made with."""
    found: dict[str, Any] = {}
    if request.optimizer:
        found["optimizer"] = discover.find_callable(request.optimizer, root)
    if request.partners:
        found["partners"] = tuple(discover.find_callable(text, root) for text in request.partners)
    return found


def _found(text: str, root: str = "") -> list[Case]:
    """The cases that a target declares; of a name that declares none, one with nothing said about it."""
    found = discover.find(text, root)
    declared = discover.declared_cases(found)
    if declared or found.name is None:
        return declared
    target = found.value if callable(found.value) else discover.find_callable(text, root)
    file, line = source_of(target)
    return [Case(name=text, fn=target, target=text, file=file, line=line)]


def _given(cases: list[Case], text: str, overrides: dict[str, Any]) -> list[Case]:
    """The same cases with what is given for them."""
    if overrides and not (cases and all(case.target == text for case in cases)):
        raise UsageError(f"{text!r} is a module: inputs, init, derivatives and their like need a single target, {text}:name")
    return [replace(case, **_merged(case, overrides)) for case in cases]


def _of_entry(entry: Entry) -> list[Case]:
    if entry.unfinished:
        raise UsageError(entry.unfinished)
    try:
        own = _overrides(entry.asked, root=entry.root)
        if entry.intents:
            own |= {"expect": entry.expect, "because": entry.because, "intents": entry.intents}
        cases = _given(_found(entry.target, entry.root), entry.target, own)
        if entry.name and [case.name for case in cases] != [entry.target]:
            raise UsageError(f"{entry.target!r} declares cases of its own: leave out name")
        options = {**dict(entry.options), **_functions(entry.asked, entry.root)}
    except UsageError as error:
        raise type(error)(f"{entry.place}: {error}") from None
    named = f"{entry.target}[{entry.name}]" if entry.name else ""
    return [replace(case, name=named or case.name, options={**case.options, **options}) for case in cases]


def _overrides(request: Request, lead: str = "", root: str = "") -> dict[str, Any]:
    """What is given for a target.

    Args:
        lead: before the names of options in messages.
    """
    args, kwargs = _inputs(request.inputs, f"{lead}input")
    found: dict[str, Any] = {
        "args": args,
        "kwargs": kwargs,
        "init": _init(request.init, f"{lead}init"),
        "claims": claims(**{kind: discover.find_callable(text, root) for kind, text in request.claims}),
        "reference": request.reference and _reference(request.reference, root),
        "wrt": tuple(request.wrt),
        "framework": request.framework,
    }
    return {name: value for name, value in found.items() if value}


def _reference(text: str, root: str) -> Any:
    """A second implementation; an expression is none that can be called."""
    found = discover.find(text, root)
    return found.value if hasattr(found.value, "free_symbols") else discover.find_callable(text, root)


def _merged(case: Case, overrides: dict[str, Any]) -> dict[str, Any]:
    """What is given now; declared inputs stand behind it and fill what it leaves open."""
    merged = dict(overrides)
    if "args" in merged or "kwargs" in merged:
        inputs = {"args": merged.get("args", ()), "kwargs": merged.get("kwargs", {})}
        merged |= inputs | {"declared_args": case.args, "declared_kwargs": case.kwargs}
    if "init" in merged:
        merged["init"] = {**(case.init or {}), **merged["init"]}
    return merged


def _as_factory(case: Case) -> Case:
    """A function that takes nothing although inputs are given makes the target."""
    if case.init is not None or kind_of(case.fn) is not Kind.FUNCTION or not (case.args or case.kwargs):
        return case
    try:
        takes_nothing = not inspect.signature(case.fn).parameters
    except (TypeError, ValueError):
        takes_nothing = False
    return replace(case, init={}) if takes_nothing else case


def _inputs(texts: Sequence[str], said: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for text in texts:
        name, spec = _named(text)
        try:
            value = parse.parse(spec)
        except UsageError as error:
            raise type(error)(f"{said} {text}: {error}") from None
        if name is None:
            args.append(value)
        elif name in kwargs:
            raise InputError(f"{said} {name}= is given twice: leave one out")
        else:
            kwargs[name] = value
    return tuple(args), kwargs


def _init(texts: Sequence[str], said: str) -> dict[str, Any]:
    found = {}
    for text in texts:
        name, value = _named(text)
        if name is None:
            raise UsageError(f"{said} {text}: expected name=value, as in {said} in_features=5")
        try:
            found[name] = parse.literal(value)
        except UsageError as error:
            raise type(error)(f"{said} {text}: {error}; a string needs quotes inside, as in {said} mode=\"'mean'\"") from None
    return found


def _named(text: str) -> tuple[str | None, str]:
    name, equals, value = text.partition("=")
    return (name.strip(), value) if equals and name.strip().isidentifier() else (None, text)


def _selected(name: str, keyword: str | None) -> bool:
    """Whether a case's name fits an expression of words joined by and, or, not."""
    if not keyword:
        return True
    words = re.findall(r"[^\s()\[]*\[.*?\]+|[()]|[^\s()]+", keyword)  # what stands in [] is one word
    parts = [w if w in ("and", "or", "not", "(", ")") else str(w.lower() in name.lower()) for w in words]
    try:
        return bool(_truth(" ".join(parts)))
    except SyntaxError:
        raise UsageError(f"-k {keyword!r}: expected words joined by and, or, not, as in 'mse and not module'") from None


def _truth(expression: str) -> bool:
    import ast

    def value(node: ast.expr) -> bool:
        match node:
            case ast.Constant(value=bool() as truth):
                return truth
            case ast.UnaryOp(op=ast.Not()):
                return not value(node.operand)
            case ast.BoolOp():
                combine = all if isinstance(node.op, ast.And) else any
                return combine(value(v) for v in node.values)
        raise SyntaxError

    return value(ast.parse(expression, mode="eval").body)


def replay_command(options: Options, given: Sequence[str]) -> Callable[[Case], str]:
    """The function from a case to the command that repeats it alone.

    Args:
        given: the options of the command line that change what is checked, as typed.
    """

    def command(case: Case) -> str:
        words = ["gradcheck", "run", case.target, *given]
        if case.name != case.target:
            words += ["-k", "[" + case.name.rpartition("[")[2]]
        return shlex.join([*words, "--seed", str(options.seed)])

    return command
