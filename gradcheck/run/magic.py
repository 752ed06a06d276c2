"""The magic `%gradcheck` of IPython: `%gradcheck f(x, w=w, gradient=g)` checks the derivatives of `f` instead of calling it."""

from __future__ import annotations

import ast
import difflib
import inspect
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from gradcheck.errors import GradcheckError, UsageError
from gradcheck.options import FOREIGN_OPTIONS, Options
from gradcheck.run.api import check
from gradcheck.targets.check_arguments import DEFAULTS
from gradcheck.targets.framework import infer_from_arrays, unwrap_apply
from gradcheck.targets.signature import read_parameters
from gradcheck.targets.specs.spec import CONSTRUCTORS
from gradcheck.tracebacks import is_user_file, summarise_error

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradcheck.results import CheckResult

NAME = "gradcheck"
EXPECTED = f"expected a call, as in %{NAME} f(x, w=w, gradient=f_gradient)"
SETTINGS = {*DEFAULTS, *(field.name for field in fields(Options)), *FOREIGN_OPTIONS}  # check explains what is foreign


@dataclass(frozen=True)
class Call:
    """A call that is not made.

    Attributes:
        function: what is called.
        args, kwargs: its arguments.
        note: which calls of the user's functions made the arguments, as their derivatives are not checked; '' without any.
    """

    function: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    note: str = ""


def register(shell: Any) -> None:
    """Add the magic to a shell of IPython."""
    from IPython.core.error import UsageError as ShortError  # IPython shows it without a traceback
    from IPython.core.magic import needs_local_scope, no_var_expand

    def gradcheck(line: str, local_ns: Mapping[str, Any] | None = None) -> CheckResult:
        """Check the derivatives of a function at a point: `%gradcheck f(x, w=w, gradient=f_gradient)`.

        The text is a call of the function, which is checked instead. Keywords that are no parameters of the function are
        those of `gradcheck.check`, such as `gradient=`, `wrt=` and `rtol=`. An input may be a spec, such as `normal(4, 3)`.
        `%gradcheck f` checks a function that declares its inputs.
        """
        try:
            return check_line(line, {**shell.user_ns, **(local_ns or {})})
        except GradcheckError as error:
            raise ShortError(str(error)) from None

    shell.register_magic_function(needs_local_scope(no_var_expand(gradcheck)), "line", NAME)


def check_line(line: str, namespace: Mapping[str, Any]) -> CheckResult:
    """Check the function of the call in a line.

    Raises:
        UsageError: if the line is no call, or its inputs or options do not fit the function.
    """
    call = read_call(line, namespace)
    _require_function(call, line)
    inputs, settings = _split_keywords(call)
    if inputs:
        settings["kwargs"] = {**(settings.get("kwargs") or {}), **inputs}
    result = check(call.function, *call.args, **settings)
    return replace(result, notes=(*result.notes, call.note)) if call.note else result


def read_call(line: str, namespace: Mapping[str, Any]) -> Call:
    """Evaluate the function and the arguments of a call; a name alone is a call without arguments.

    Raises:
        UsageError: if the line is neither, or a name in it is not defined.
    """
    node = _parse_call(line)
    arguments = node if isinstance(node, ast.Call) else ast.Call(node, [], [])
    recorded = ast.Call(ast.Name("_record_call", ast.Load()), [arguments.func, *arguments.args], arguments.keywords)
    code = compile(ast.fix_missing_locations(ast.Expression(recorded)), f"%{NAME}", "eval")
    names = {**CONSTRUCTORS, **namespace, "_record_call": _record_call}
    try:
        call: Call = eval(code, names)
    except NameError as error:
        near = difflib.get_close_matches(str(error.name), [name for name in names if not name.startswith("_")], 3)
        hint = f"; did you mean {' or '.join(near)}?" if near else "; run the cell that defines it first"
        raise UsageError(f"%{NAME} {line}: name {error.name!r} is not defined{hint}") from None
    except GradcheckError:
        raise
    except Exception as error:
        raise UsageError(f"%{NAME} {line}: evaluating its arguments raised {summarise_error(error)}") from None
    return replace(call, note=_describe_inner_calls(arguments, names))


def _record_call(function: Any, /, *args: Any, **kwargs: Any) -> Call:
    return Call(function, args, kwargs)


def _describe_inner_calls(call: ast.Call, names: Mapping[str, Any]) -> str:
    """Name the calls of the user's functions, with arguments of their own, among the inputs of a call; '' without any."""
    whole = ast.Call(call.func, call.args, [keyword for keyword in call.keywords if keyword.arg not in SETTINGS])
    inputs = [*whole.args, *(keyword.value for keyword in whole.keywords)]
    inner = [ast.unparse(node) for value in inputs for node in ast.walk(value) if _calls_user(node, names)]
    if not inner:
        return ""
    return f"arguments are evaluated first, so the derivative of {', '.join(inner)} is not checked; {_advise_lambda(whole)}"


def _calls_user(node: ast.AST, names: Mapping[str, Any]) -> bool:
    """Whether a node calls a function of the user with an argument."""
    function = names.get(node.func.id) if isinstance(node, ast.Call) and node.args and isinstance(node.func, ast.Name) else None
    return inspect.isfunction(function) and is_user_file(function.__code__.co_filename)


def _advise_lambda(node: ast.expr) -> str:
    """Return the advice to check a whole expression as a function of the first name that a call in it has as argument."""
    calls = [call for call in ast.walk(node) if isinstance(call, ast.Call)]
    name = next((argument.id for call in calls for argument in call.args if isinstance(argument, ast.Name)), "x")
    return f"to check a whole expression, make it a function: %{NAME} (lambda {name}: {ast.unparse(node)})({name})"


def _parse_call(line: str) -> ast.expr:
    line = line.strip().rstrip(";")
    if not line:
        raise UsageError(f"%{NAME} has nothing to check: {EXPECTED}")
    try:
        node = ast.parse(line, mode="eval").body
    except SyntaxError as error:
        raise UsageError(f"%{NAME} {line}: Python cannot read it ({error.msg}); {EXPECTED}") from None
    if not isinstance(node, ast.Call | ast.Name | ast.Attribute | ast.Subscript):
        raise UsageError(f"%{NAME} {line}: {EXPECTED}; {_advise_lambda(node)}")
    return node


def _require_function(call: Call, line: str) -> None:
    """Refuse what cannot be meant: a value instead of a function, and a method of an array that a call returned."""
    owner = getattr(call.function, "__self__", None)
    if infer_from_arrays([owner]) is not None:
        name = call.function.__name__
        advice = _advise_lambda(_parse_call(line))
        raise UsageError(f"%{NAME} {line}: the last call is {name} of an array; {advice}")
    if not callable(call.function):
        kind = type(call.function).__name__
        raise UsageError(f"%{NAME} {line}: {EXPECTED}, got a value of type {kind}")


def _split_keywords(call: Call) -> tuple[dict[str, Any], dict[str, Any]]:
    """Separate the keywords that are inputs of the function from those of `gradcheck.check`.

    Raises:
        UsageError: if a keyword is neither.
    """
    parameters = read_parameters(unwrap_apply(call.function)) or []
    names = [p.name for p in parameters if p.kind in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)]
    takes_any = not parameters or any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)
    inputs = {name: value for name, value in call.kwargs.items() if name in names or (takes_any and name not in SETTINGS)}
    settings = {name: value for name, value in call.kwargs.items() if name not in inputs}
    for name in settings:
        if name not in SETTINGS:
            near = difflib.get_close_matches(name, [*names, *SETTINGS], 1)
            hint = f"; did you mean {near[0]}=?" if near else ""
            raise UsageError(
                f"{name}= is neither a parameter of the function ({', '.join(names) or 'it has none'}) nor an option of "
                f"gradcheck.check{hint}"
            )
    return inputs, settings
