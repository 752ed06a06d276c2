"""An example as a test that can be pasted, and as the inputs of a command."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.backends.loading import constructed
from gradcheck.errors import GradcheckError
from gradcheck.options import Options
from gradcheck.strategies.arrays import literal
from gradcheck.targets import discover
from gradcheck.targets.draw import has_specs, named_sizes
from gradcheck.targets.framework import of_arrays
from gradcheck.targets.signature import Inputs
from gradcheck.targets.specs.spec import Spec
from gradcheck.trees import flatten

if TYPE_CHECKING:
    from gradcheck.fuzzing.space import Example, Space
    from gradcheck.targets.case import Case

WIDTH = 100
BASE = {"hypothesis": {"example", "given", "settings"}, "gradcheck": {"assert_gradients", "strategies"}}


@dataclass
class Words:
    """What a test imports, and what has no name that it could import."""

    imports: dict[str, set[str]] = field(default_factory=lambda: {module: set(names) for module, names in BASE.items()})
    unknown: list[str] = field(default_factory=list)

    def name(self, value: Any, otherwise: str, target: str = "") -> str:
        """How an object is called in a test; `otherwise` where it cannot be imported.

        Args:
            target: how a user named it.
        """
        place = _named(value, target) or _place(value)
        if place is None:
            self.unknown.append(otherwise)
            return otherwise
        module, name = place
        self.imports.setdefault(module, set()).add(name.partition(".")[0])
        return name

    def text(self, value: Any) -> str:
        """A value as it is written in Python, with the specs that it takes imported."""
        self.imports["gradcheck"] |= {leaf.kind for leaf in flatten(value).leaves if isinstance(leaf, Spec)}
        return text_of(value)


def as_test(case: Case, space: Space, example: Example, options: Options, framework: str, name: str) -> str:
    """A test by Hypothesis, ready to be pasted, in which the example is the first input.

    Args:
        options: of the search.
        name: that the check is to be given, '' for none.
    """
    words, names = Words(), list[str]()
    drawn, given, call = list[str](), list[str](), [words.name(case.fn, "target", case.target)]
    known: dict[str, str] = {}
    for label, spec, value, by_name in _arguments(space.inputs, example.inputs):
        searched = has_specs(Inputs((spec,)))
        if searched:
            names.append(label)
            drawn.append(
                f"{label}=strategies.arrays({', '.join([words.text(spec), *_ranges(case, spec, space, example, framework)])})"
            )
            given.append(f"{label}={words.text(value)}")
        shown = label if searched else words.text(value)
        if by_name:
            known[by_name] = shown
        else:
            call.append(shown)
    call += [f"kwargs={{{', '.join(f'{k!r}: {v}' for k, v in known.items())}}}"] if known else []
    call += [*_choices(words, case, example, options), *([f"name={name!r}"] if name else []), "drawn=True"]
    test = [
        "@settings(deadline=None)",
        _wrapped("@given", drawn),
        _wrapped("@example", given),
        f"def test_{_plain(case.fn)}({', '.join(names)}):",
        "    " + _wrapped("assert_gradients", call, "    "),
    ]
    head = [f"from {module} import {', '.join(sorted(found))}" for module, found in words.imports.items()]
    fill = [f"{name} = ...  # has no name that could be imported: put it here" for name in dict.fromkeys(words.unknown)]
    return _double_quoted("\n".join([*head, "", *fill, *([""] if fill else []), "", *test]) + "\n")


def inputs_of(example: Example) -> tuple[tuple[str, str], ...]:
    """Each argument of an example as it is written, and the leaves that want gradients where not all do."""
    inputs = example.inputs
    found = [(name, text_of(value)) for name, value in (*zip(inputs.labels, inputs.args, strict=True), *inputs.kwargs.items())]
    return (*found, *([("wrt", repr(example.wrt))] if example.wrt else []))


def texts_of(example: Example) -> tuple[str, ...]:
    """The inputs as they are typed on the command line."""
    named = (f"{name}={text_of(value)}" for name, value in example.inputs.kwargs.items())
    return tuple(_double_quoted(text) for text in (*map(text_of, example.inputs.args), *named))


def text_of(value: Any) -> str:
    """A value as it is written in Python; arrays as literal specs."""
    if isinstance(value, Spec):
        return value.written(repr)
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{k!r}: {text_of(v)}' for k, v in value.items())}}}"
    if type(value) in (list, tuple):
        inside = ", ".join(text_of(v) for v in value)
        return f"[{inside}]" if isinstance(value, list) else f"({inside}{',' * (len(value) == 1)})"
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    return text_of(literal(value)) if isinstance(value, np.ndarray) else repr(value)


def _arguments(inputs: Inputs, example: Inputs) -> Iterator[tuple[str, Any, Any, str]]:
    """(name in the test, spec, value, keyword or '') of each argument."""
    for label, spec, value in zip(inputs.labels, inputs.args, example.args, strict=True):
        yield _identifier(label), spec, value, ""
    for name, spec in inputs.kwargs.items():
        yield _identifier(name), spec, example.kwargs[name], name


def _ranges(case: Case, spec: Any, space: Space, example: Example, framework: str) -> list[str]:
    """What a strategy is told beside its spec."""
    found = [] if framework == "numpy" else [f"framework={framework!r}"]
    dims = {name: space.dims[name] for name in sorted(named_sizes([spec]) & space.dims.keys())}
    found += [f"dims={dims!r}"] if dims else []
    dtypes = (example.dtype,) if constructed(case) else space.dtypes
    open_ = any(isinstance(leaf, Spec) and leaf.dtype is None for leaf in flatten(spec).leaves)
    return [*found, *([f"dtypes={dtypes!r}"] if open_ and dtypes != ("float64",) else [])]


def _choices(words: Words, case: Case, example: Example, options: Options) -> list[str]:
    """What a check is told beside its inputs."""
    found = [f"{kind}={words.name(function, kind)}" for kind, function in case.claims.items()]
    found += [f"reference={words.name(case.reference, 'reference')}"] if case.reference is not None else []
    wrt = example.wrt or case.wrt
    given = {
        "init": case.init if case.init is None else dict(case.init),
        "wrt": wrt,
        "framework": case.framework or of_arrays(leaf for value in case.values for leaf in flatten(value).leaves),
        "dtype": example.dtype if constructed(case) else None,
        "seed": options.seed or None,
    }
    for kind in ("detached", "tolerates"):
        given[kind] = {i.subject: i.because for i in case.intents if i.kind == kind} or None
    plain = Options()
    for name in ("rtol", "mode", "contracts", "no_contract", "straight_through", "nondeterministic"):
        value = getattr(options, name)
        given[name] = value if value != getattr(plain, name) else None
    return [*found, *(f"{name}={words.text(value)}" for name, value in given.items() if value is not None)]


def _named(value: Any, target: str) -> tuple[str, str] | None:
    try:
        found = discover.find(target)
    except GradcheckError:
        return None
    return (found.module.__name__, found.name) if found.name and found.value is value else None


def _place(value: Any) -> tuple[str, str] | None:
    """The module and the name that an object can be imported by: the module nearest to the top of its package."""
    home = str(getattr(value, "__module__", None))
    module = sys.modules.get(home)
    if module is None:
        return None
    name = str(getattr(value, "__qualname__", getattr(value, "__name__", "")))
    if _at(module, name) is not value:
        name = next((n for n, v in vars(module).items() if v is value), "")
    if not name:
        return None
    parts = home.split(".")
    above = (".".join(parts[:k]) for k in range(1, len(parts) + 1))
    place = next(path for path in above if path in sys.modules and _at(sys.modules[path], name) is value)
    file = getattr(module, "__file__", None)
    return (Path(file).stem if place == "__main__" and file else place), name


def _at(module: Any, name: str) -> Any:
    for part in name.split("."):
        module = getattr(module, part, None)
    return module


def _plain(target: Any) -> str:
    """A target's name in a test's."""
    name = getattr(target, "__name__", type(target).__name__)
    return re.sub(r"\W+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)).strip("_").lower()


def _identifier(label: str) -> str:
    return re.sub(r"\W+", "_", label).strip("_")


def _double_quoted(text: str) -> str:
    """The text with double quotes, unless it holds some already."""
    return text if '"' in text else text.replace("'", '"')


def _wrapped(head: str, parts: list[str], indent: str = "") -> str:
    """A call on one line where it fits, else an argument a line."""
    line = f"{head}({', '.join(parts)})"
    if len(indent) + len(line) <= WIDTH:
        return line
    return "\n".join([f"{head}(", *(f"{indent}    {part}," for part in parts), f"{indent})"])
