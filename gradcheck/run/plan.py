"""From a request, which the command line and the configuration describe as text, to the cases to run."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gradcheck.backends.forms.backward_call import fits_forward
from gradcheck.errors import InputError, UsageError
from gradcheck.options import Options
from gradcheck.results import Intent
from gradcheck.run import grid
from gradcheck.run.keyword import matches_keyword
from gradcheck.targets import discover
from gradcheck.targets.case import Case, collect_claims, locate_source, split_names
from gradcheck.targets.dependence import Dependence
from gradcheck.targets.framework import FRAMEWORKS, TargetKind, classify_target, unwrap_apply
from gradcheck.targets.plain_class import is_plain_layer_class
from gradcheck.targets.specs import parse


@dataclass(frozen=True)
class Request:
    """A request of a check, as text. Other processes can plan the same cases from it.

    Attributes:
        targets: the targets; if there are none, those of the configuration.
        inputs: input specs, each `spec` or `name=spec`.
        init: constructor arguments, each `name=value`.
        claims: kind and `module:name` of each hand-written derivative; 'returned' for a gradient that the target returns.
        backward_takes: what a backward takes, in the order of its parameters; '': inferred from their names.
        params: where the target reads its parameters: attributes of its object, or `module:name`.
        reference: a second implementation, as `module:name`.
        wrt: argument names or leaf paths to differentiate with respect to.
        framework: 'numpy', 'torch' or 'jax'; None: inferred from the code.
        optimizer: the optimizer of the check `descent`, as `module:name`.
        partners: the functions of the check `laws`, each as `module:name`.
        keyword: an expression that the names of the cases match, such as `mse and not module`.
        entries: the targets that the configuration describes.
        root: the folder that relative paths start from; '' for the working directory.
        typed_options: the options of the command line that change what is checked, as words: commands to paste repeat them.
        sweep: the options of the run that have several values, as pairs of name and value; `dims` as pairs, too.
        step: whether the targets are functions that return the pieces of a training step.
        laws: the laws of training steps to try; none: all.
    """

    targets: Sequence[str]
    inputs: Sequence[str] = ()
    init: Sequence[str] = ()
    claims: Sequence[tuple[str, str]] = ()
    backward_takes: str = ""
    params: Sequence[str] = ()
    reference: str | None = None
    wrt: Sequence[str] = ()
    framework: str | None = None
    optimizer: str | None = None
    partners: Sequence[str] = ()
    keyword: str | None = None
    entries: Sequence[Entry] = ()
    root: str = ""
    typed_options: Sequence[str] = ()
    sweep: Sequence[tuple[str, Any]] = ()
    step: bool = False
    laws: Sequence[str] = ()

    @property
    def distinct_targets(self) -> list[str]:
        """The targets, each once; without any, those of the configuration."""
        targets = map(discover.normalise_target, self.targets)
        return list(dict.fromkeys(targets if self.targets else [entry.target for entry in self.entries]))


@dataclass(frozen=True)
class Entry:
    """A target as the configuration describes it.

    Attributes:
        request: the target, its inputs and its claims.
        place: file and line in the configuration, for messages.
        root: the folder that relative paths start from.
        name: the name of this entry, if several describe the same target.
        options: overrides of the run's options, as pairs of name and value.
        expect: 'pass' or 'fail', as in `gradcheck.case`.
        because: why the case is expected to fail.
        intents: behaviour that is declared as intended; replaces what is declared in the code.
        depends: what outputs may depend on; replaces what is declared in the code.
        unfinished: a message that says what the user still has to fill in; '' if nothing.
    """

    request: Request
    place: str
    root: str
    name: str = ""
    options: tuple[tuple[str, Any], ...] = ()
    expect: str = "pass"
    because: str = ""
    intents: tuple[Intent, ...] = ()
    depends: tuple[Dependence, ...] = ()
    unfinished: str = ""

    @property
    def target(self) -> str:
        """The target, such as `module:name`."""
        return self.request.targets[0]


def plan(request: Request, *, whole_grid: bool = True) -> list[Case]:
    """Return the cases that a request selects, in its order.

    They are declared in a module, described in the configuration, or a single target with the inputs of the request.

    Args:
        request: what to check.
        whole_grid: whether a case with several values of an option becomes a case of each; if not, it has the first values.

    Raises:
        UsageError: if a target, spec or option cannot be understood.
        TargetError: if importing a target raises.
    """
    if not request.distinct_targets and request.step:
        raise UsageError(
            "no target: give a function that returns the pieces of a step, as in gradcheck step train.py:pieces; "
            "or list steps under [[tool.gradcheck.step]] in pyproject.toml"
        )
    if not request.distinct_targets:
        raise UsageError(
            "no target: give module, module:name, path/file.py or path/file.py:name, as in gradcheck run scipy.optimize:rosen; "
            "or list targets under [tool.gradcheck] in pyproject.toml, as `gradcheck init` does"
        )
    if request.framework is not None and request.framework not in FRAMEWORKS:
        raise UsageError(f"--framework {request.framework}: expected one of {', '.join(FRAMEWORKS)}")
    overrides, functions = _parse_overrides(request, "--", request.root), _find_functions(request, request.root)
    entries: dict[str, list[Entry]] = {}
    for entry in request.entries:
        entries.setdefault(entry.target, []).append(entry)
    cases: dict[str, Case] = {}
    for target in request.distinct_targets:
        configured = [case for entry in entries.get(target, ()) for case in _plan_entry(entry)]
        for case in _override_cases(configured or _find_cases(target, request.root, request), target, overrides):
            # A target that is named explicitly takes precedence over the module that contains it.
            if case.name not in cases or case.target == target:
                command = shlex.join([case.target, *request.typed_options])
                cases[case.name] = replace(_treat_as_factory(case), options={**case.options, **functions}, command=command)
    options = dict(request.sweep)
    cells = [
        cell
        for case in cases.values()
        for cell in (grid.expand_case(case, options) if whole_grid else [grid.choose_first_cell(case)])
    ]
    # The keyword is compared with the name alone, so that the name of a folder selects nothing.
    return [cell for cell in cells if matches_keyword(Path(cell.name).name, request.keyword)]


def covers(request: Request, name: str) -> bool:
    """Return whether `plan` would return a case of this name if it existed."""
    in_target = any(name == text or name.startswith((f"{text}:", f"{text}.", f"{text}[")) for text in request.targets)
    return (in_target or not request.targets) and matches_keyword(Path(name).name, request.keyword)


def explain_empty_plan(request: Request, command: str) -> str:
    """Explain why a plan has no case, and list targets that the user could give to a command instead."""
    if request.keyword:
        names = [case.name for case in plan(replace(request, keyword=None))] if request.sweep else []
        hint = f"there are {', '.join(names[:4])}" if names else "`gradcheck list` shows the names of all cases"
        return f"no case matches -k {request.keyword!r}; {hint}{', ...' if len(names) > 4 else ''}"
    hints, without_functions = [], []
    for target in request.distinct_targets:
        root = next((entry.root for entry in request.entries if entry.target == target), "")
        imported = discover.import_target(target, root)
        names = discover.list_callables(imported.module) if imported.name is None else []
        without_functions += [target] if imported.name is None and not names else []
        hints += [
            f"    {command} {shlex.join([discover.name_member(target, name), *request.typed_options])}" for name in names[:5]
        ]
    if without_functions and not hints:
        return _advise_on_script(without_functions[0], command)
    offer = ", or name a function or class:\n" + "\n".join(hints) if hints else ""
    return f"{', '.join(request.distinct_targets)} declares no case; declare one with @gradcheck.case{offer}"


def _advise_on_script(target: str, command: str) -> str:
    """Say what to cut out of a script that computes everything at its top level."""
    return (
        f"{target} defines no function: put the lines that compute the value and its gradient into one, as in\n"
        "    def loss(w, X, y):\n        ...\n        return value, dw\nand run\n"
        f"    {command} {shlex.quote(target + ':loss')} --gradient returned --input w='normal(3)' ..."
    )


def _find_functions(request: Request, root: str = "") -> dict[str, Any]:
    """Import the functions that the further checks need; return them as options."""
    functions: dict[str, Any] = {}
    if request.optimizer:
        functions["optimizer"] = discover.import_callable(request.optimizer, root)
    if request.partners:
        functions["partners"] = tuple(discover.import_callable(text, root) for text in request.partners)
    return functions


def _find_cases(text: str, root: str, request: Request) -> list[Case]:
    """Return the cases that a target declares; for a name that declares none, a case without inputs or claims."""
    if request.step:
        function = discover.import_callable(text, root)
        file, line = locate_source(function)
        laws = {"laws": tuple(request.laws)} if request.laws else {}
        return [Case(name=text, fn=function, target=text, file=file, line=line, step=laws)]
    imported = discover.import_target(text, root)
    declared = discover.collect_declared_cases(imported)
    if declared:
        return declared
    if imported.name is None:
        return [_make_case(f"{text}:{name}", imported.module, value) for name, value in discover.list_forwards(imported.module)]
    target = imported.value if callable(imported.value) else discover.import_callable(text, root)
    return [_make_case(text, imported.module, discover.bind_method(imported) or target)]


def _make_case(text: str, module: Any, target: Any) -> Case:
    """Make the case of a target that declares none; a backward beside a forward is its claim."""
    target = unwrap_apply(target)
    file, line = locate_source(target)
    backward = discover.find_backward(module, target)
    if backward is not None and not fits_forward(backward, target):
        backward = None
    case = Case(name=text, fn=target, target=text, file=file, line=line, claims={"backward": backward} if backward else {})
    return replace(case, init={}) if is_plain_layer_class(target) or isinstance(target, discover.MethodOfNewObject) else case


def _override_cases(cases: list[Case], text: str, overrides: dict[str, Any]) -> list[Case]:
    """Return the cases with overrides applied; overrides need a single target.

    Raises:
        UsageError: if the target is a module.
    """
    if overrides and not (cases and all(case.target == text for case in cases)):
        raise UsageError(
            f"{text!r} is a module: inputs, init, derivatives and similar options need a single target, "
            + discover.name_member(text, "name")
        )
    return [replace(case, **_merge_declared(case, overrides)) for case in cases]


def _plan_entry(entry: Entry) -> list[Case]:
    """Return the cases of an entry of the configuration.

    Raises:
        UsageError: if the entry is unfinished or cannot be understood; the message names its line.
    """
    if entry.unfinished:
        raise UsageError(entry.unfinished)
    try:
        overrides = _parse_overrides(entry.request, root=entry.root)
        if entry.intents:
            overrides |= {"expect": entry.expect, "because": entry.because, "intents": entry.intents}
        overrides |= {"depends": entry.depends} if entry.depends else {}
        cases = _override_cases(_find_cases(entry.target, entry.root, entry.request), entry.target, overrides)
        if entry.name and [case.name for case in cases] != [entry.target]:
            raise UsageError(f"{entry.target!r} declares cases of its own: leave out name")
        options = {**dict(entry.options), **_find_functions(entry.request, entry.root)}
    except UsageError as error:
        raise type(error)(f"{entry.place}: {error}") from None
    name = f"{entry.target}[{entry.name}]" if entry.name else ""
    return [replace(case, name=name or case.name, options={**case.options, **options}) for case in cases]


def _parse_overrides(request: Request, prefix: str = "", root: str = "") -> dict[str, Any]:
    """Parse what a request gives for a target into fields of `Case`.

    Args:
        prefix: put before the names of options in messages, such as `--`.
    """
    args, kwargs = _parse_inputs(request.inputs, f"{prefix}input")
    overrides: dict[str, Any] = {
        "args": args,
        "kwargs": kwargs,
        "init": _parse_init(request.init, f"{prefix}init"),
        "claims": collect_claims(**{kind: _find_claim(kind, text, root) for kind, text in request.claims}),
        "backward_takes": split_names(request.backward_takes) if request.backward_takes else (),
        "params": _find_params(request.params, root),
        "reference": request.reference and _find_reference(request.reference, root),
        "wrt": tuple(request.wrt),
        "framework": request.framework,
    }
    return {name: value for name, value in overrides.items() if value is not None and (name == "params" or value)}


def _find_claim(kind: str, text: str, root: str) -> Any:
    """Import a hand-written derivative; the word 'returned' stands for a gradient that the target returns."""
    return text if kind == "gradient" and text == "returned" else discover.import_callable(text, root)


def _find_params(texts: Sequence[str], root: str) -> Any:
    """Return the container that `module:name` names, or the paths of attributes; None if there is none.

    Raises:
        UsageError: if both are mixed, or there are several containers.
    """
    if not any(":" in text for text in texts):
        return tuple(texts) or None
    if len(texts) > 1:
        raise UsageError(f"params {', '.join(texts)}: expected attributes of the target's object, or one module:name")
    return discover.import_target(texts[0], root).value


def _find_reference(text: str, root: str) -> Any:
    """Import a second implementation: a SymPy expression as it is, anything else as a callable."""
    imported = discover.import_target(text, root)
    return imported.value if hasattr(imported.value, "free_symbols") else discover.import_callable(text, root)


def _merge_declared(case: Case, overrides: dict[str, Any]) -> dict[str, Any]:
    """Return the overrides of a case, with its declared inputs and `init` filling in what they leave out."""
    merged = dict(overrides)
    if "args" in merged or "kwargs" in merged:
        inputs = {"args": merged.get("args", ()), "kwargs": merged.get("kwargs", {})}
        merged |= inputs | {"declared_args": case.args, "declared_kwargs": case.kwargs}
    if "init" in merged:
        merged["init"] = {**(case.init or {}), **merged["init"]}
    return merged


def _treat_as_factory(case: Case) -> Case:
    """Mark a function as a factory of the target if it takes no argument although inputs are given."""
    if case.init is not None or classify_target(case.fn) is not TargetKind.FUNCTION or not (case.args or case.kwargs):
        return case
    try:
        takes_nothing = not inspect.signature(case.fn).parameters
    except (TypeError, ValueError):
        takes_nothing = False
    return replace(case, init={}) if takes_nothing else case


def _parse_inputs(texts: Sequence[str], option: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Parse input specs, each `spec` or `name=spec`; `option` is how messages call them."""
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for text in texts:
        name, spec = _split_name(text)
        try:
            value = parse.parse_spec(spec)
        except UsageError as error:
            raise type(error)(f"{option} {text}: {error}") from None
        if name is None:
            args.append(value)
        elif name in kwargs:
            raise InputError(f"{option} {name}= is given twice: leave one out")
        else:
            kwargs[name] = value
    return tuple(args), kwargs


def _parse_init(texts: Sequence[str], option: str) -> dict[str, Any]:
    """Parse constructor arguments, each `name=value`; `option` is how messages call them."""
    values = {}
    for text in texts:
        name, value = _split_name(text)
        if name is None:
            raise UsageError(f"{option} {text}: expected name=value, as in {option} in_features=5")
        try:
            values[name] = parse.parse_spec(value) if parse.is_constructor_call(value) else parse.parse_literal(value)
        except UsageError as error:
            raise type(error)(
                f"{option} {text}: {error}; a string needs quotes inside, as in {option} mode=\"'mean'\""
            ) from None
    return values


def _split_name(text: str) -> tuple[str | None, str]:
    name, equals, value = text.partition("=")
    return (name.strip(), value) if equals and name.strip().isidentifier() else (None, text)


def build_replay_command(
    options: Options, typed_options: Sequence[str], seeds: Sequence[str | int] = (), *, steps: bool = False
) -> Callable[[Case], str]:
    """Return a function that gives, for a case, the command that repeats it alone.

    Args:
        typed_options: the options of the command line that change what is checked, as words.
        seeds: the seeds of the run, if there are several.
        steps: whether the command line is that of `gradcheck step`.
    """

    def command(case: Case) -> str:
        is_other = case.step is not None and not steps  # a step among derivatives, which have other options
        words = ["gradcheck", "run" if case.step is None else "step", case.target, *([] if is_other else typed_options)]
        if case.name != case.target:
            words += ["-k", "[" + case.name.rpartition("[")[2]]
        return shlex.join([*words, "--seed", ",".join(map(str, seeds)) or str(options.seed)])

    return command
