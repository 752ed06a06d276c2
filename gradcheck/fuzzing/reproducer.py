"""Write an example as a test that a user can paste, and as the inputs of a command."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.backends.load_target import needs_construction
from gradcheck.errors import GradcheckError
from gradcheck.options import Options
from gradcheck.strategies.arrays import literal_spec
from gradcheck.targets import discover
from gradcheck.targets.case import Case
from gradcheck.targets.draw import collect_size_names, collect_specs
from gradcheck.targets.framework import infer_from_arrays
from gradcheck.targets.notebook import is_notebook
from gradcheck.targets.signature import Inputs
from gradcheck.targets.specs.spec import Spec
from gradcheck.trees import flatten

if TYPE_CHECKING:
    from gradcheck.fuzzing.space import Example, Space

MAX_LINE_LENGTH = 100  # characters of a line of the test
BASE_IMPORTS = {"hypothesis": {"example", "given", "settings"}, "gradcheck": {"assert_gradients", "strategies"}}


@dataclass
class ImportCollector:
    """Collects what a test imports.

    Attributes:
        imports: the imported names of each module.
        unknown: names for objects that cannot be imported, which the user has to define.
    """

    imports: dict[str, set[str]] = field(default_factory=lambda: {module: set(names) for module, names in BASE_IMPORTS.items()})
    unknown: list[str] = field(default_factory=list)

    def name(self, value: Any, fallback: str, target: str = "") -> str:
        """Import an object and return its name in the test.

        Args:
            fallback: the name if the object cannot be imported.
            target: how the user named the object, such as `module:name`.
        """
        location = _find_by_target(value, target) or _find_import(value)
        if location is None or is_notebook(sys.modules.get(location[0])):
            self.unknown.append(fallback)
            return fallback
        module, name = location
        self.imports.setdefault(module, set()).add(name.partition(".")[0])
        return name

    def text(self, value: Any) -> str:
        """Return a value as Python code and import the specs that it contains."""
        self.imports["gradcheck"] |= {spec.kind for spec in collect_specs([value])}
        return python_text(value)


def write_test(case: Case, space: Space, example: Example, options: Options, framework: str, name: str) -> str:
    """Return a Hypothesis test, ready to paste, whose first input is the example.

    Args:
        case: the case that was searched.
        space: what the search varied.
        example: the example.
        options: the options of the search.
        framework: the framework of the target.
        name: the name that the check needs to draw the same random numbers; '' for none.
    """
    code, parameters = ImportCollector(), list[str]()
    strategies, values, call = list[str](), list[str](), [code.name(case.fn, "target", case.target)]
    keywords: dict[str, str] = {}
    for label, spec, value, keyword in _pair_arguments(space.inputs, example.inputs):
        is_drawn = bool(collect_specs([spec]))
        if is_drawn:
            parameters.append(label)
            arguments = [code.text(spec), *_strategy_arguments(case, spec, space, example, framework)]
            strategies.append(f"{label}=strategies.arrays({', '.join(arguments)})")
            values.append(f"{label}={code.text(value)}")
        argument = label if is_drawn else code.text(value)
        if keyword:
            keywords[keyword] = argument
        else:
            call.append(argument)
    call += [f"kwargs={{{', '.join(f'{k!r}: {v}' for k, v in keywords.items())}}}"] if keywords else []
    call += [*_check_arguments(code, case, example, options), *([f"name={name!r}"] if name else []), "drawn=True"]
    test = [
        "@settings(deadline=None)",
        _format_call("@given", strategies),
        _format_call("@example", values),
        f"def test_{_snake_case_name(case.fn)}({', '.join(parameters)}):",
        "    " + _format_call("assert_gradients", call, "    "),
    ]
    imports = [f"from {module} import {', '.join(sorted(names))}" for module, names in code.imports.items()]
    to_define = [f"{name} = ...  # cannot be imported: define it here" for name in dict.fromkeys(code.unknown)]
    return _double_quote("\n".join([*imports, "", *to_define, *([""] if to_define else []), "", *test]) + "\n")


def describe_inputs(example: Example) -> tuple[tuple[str, str], ...]:
    """Return the name and Python code of each argument, and of `wrt` if only some leaves require gradients."""
    arguments = [(name, python_text(value)) for name, value in example.inputs.named]
    return (*arguments, *([("wrt", repr(example.wrt))] if example.wrt else []))


def command_line_inputs(example: Example) -> tuple[str, ...]:
    """Return the inputs as the values of `--input` on the command line."""
    keywords = (f"{name}={python_text(value)}" for name, value in example.inputs.kwargs.items())
    return tuple(_double_quote(text) for text in (*map(python_text, example.inputs.args), *keywords))


def python_text(value: Any) -> str:
    """Return a value as Python code, with arrays and tensors as literal specs."""
    if isinstance(value, Spec):
        return value.format_with(repr)
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{k!r}: {python_text(v)}' for k, v in value.items())}}}"
    if type(value) in (list, tuple):
        items = ", ".join(python_text(v) for v in value)
        return f"[{items}]" if isinstance(value, list) else f"({items}{',' * (len(value) == 1)})"
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    return python_text(literal_spec(value)) if isinstance(value, np.ndarray) else repr(value)


def _pair_arguments(inputs: Inputs, example: Inputs) -> Iterator[tuple[str, Any, Any, str]]:
    """Yield name in the test, spec, value, and keyword or '', for each argument."""
    for place, ((name, spec), value) in enumerate(zip(inputs.named, example.values, strict=True)):
        yield re.sub(r"\W+", "_", name).strip("_"), spec, value, "" if place < len(inputs.args) else name


def _strategy_arguments(case: Case, spec: Any, space: Space, example: Example, framework: str) -> list[str]:
    """Return the arguments of `strategies.arrays` that follow the spec."""
    arguments = [] if framework == "numpy" else [f"framework={framework!r}"]
    dims = {name: space.dims[name] for name in sorted(collect_size_names([spec]) & space.dims.keys())}
    arguments += [f"dims={dims!r}"] if dims else []
    dtypes = (example.dtype,) if needs_construction(case) else space.dtypes
    has_free_dtype = any(leaf.dtype is None for leaf in collect_specs([spec]))
    return [*arguments, *([f"dtypes={dtypes!r}"] if has_free_dtype and dtypes != ("float64",) else [])]


def _check_arguments(code: ImportCollector, case: Case, example: Example, options: Options) -> list[str]:
    """Return the arguments of `assert_gradients` that follow the inputs."""
    functions = [
        "gradient='returned'" if kind == "returned" else f"{kind}={code.name(function, kind)}"
        for kind, function in case.claims.items()
    ]
    functions += [f"reference={code.name(case.reference, 'reference')}"] if case.reference is not None else []
    arguments = {
        "init": case.init if case.init is None else dict(case.init),
        "backward_takes": case.backward_takes or None,
        "wrt": example.wrt or case.wrt,
        "framework": case.framework or infer_from_arrays(leaf for value in case.values for leaf in flatten(value).leaves),
        "dtype": example.dtype if needs_construction(case) else None,
        "seed": options.seed or None,
    }
    for kind in ("detached", "tolerates"):
        arguments[kind] = {intent.subject: intent.because for intent in case.intents if intent.kind == kind} or None
    defaults = Options()
    for name in ("rtol", "mode", "exact", "contracts", "no_contract", "straight_through", "nondeterministic"):
        value = getattr(options, name)
        arguments[name] = value if value != getattr(defaults, name) else None
    return [*functions, *(f"{name}={code.text(value)}" for name, value in arguments.items() if value is not None)]


def _find_by_target(value: Any, target: str) -> tuple[str, str] | None:
    """Return the module and name of an object as the user named it; None if that is another object."""
    try:
        imported = discover.import_target(target)
    except GradcheckError:
        return None
    return (imported.module.__name__, imported.name) if imported.name and imported.value is value else None


def _find_import(value: Any) -> tuple[str, str] | None:
    """Return the module and name to import an object from; the module is the one nearest to the top of its package."""
    module_name = str(getattr(value, "__module__", None))
    module = sys.modules.get(module_name)
    if module is None:
        return None
    name = str(getattr(value, "__qualname__", getattr(value, "__name__", "")))
    if _resolve_attribute(module, name) is not value:
        name = next((alias for alias, member in vars(module).items() if member is value), "")
    if not name:
        return None
    parts = module_name.split(".")
    ancestors = (".".join(parts[:k]) for k in range(1, len(parts) + 1))
    nearest = next(path for path in ancestors if path in sys.modules and _resolve_attribute(sys.modules[path], name) is value)
    file = getattr(module, "__file__", None)
    return (Path(file).stem if nearest == "__main__" and file else nearest), name


def _resolve_attribute(module: Any, name: str) -> Any:
    """Return the object of a dotted name in a module; None if there is none."""
    for part in name.split("."):
        module = getattr(module, part, None)
    return module


def _snake_case_name(target: Any) -> str:
    """Return the name of a target as the name of its test contains it."""
    name = getattr(target, "__name__", type(target).__name__)
    return re.sub(r"\W+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)).strip("_").lower()


def _double_quote(text: str) -> str:
    """Replace single quotes by double quotes, unless the text already contains double quotes."""
    return text if '"' in text else text.replace("'", '"')


def _format_call(head: str, parts: list[str], indent: str = "") -> str:
    """Format a call on one line if it fits, else with one argument per line."""
    line = f"{head}({', '.join(parts)})"
    if len(indent) + len(line) <= MAX_LINE_LENGTH:
        return line
    return "\n".join([f"{head}(", *(f"{indent}    {part}," for part in parts), f"{indent})"])
