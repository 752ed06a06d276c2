"""TODO: describe."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.errors import InputError, UsageError
from gradcheck.targets import framework as frameworks
from gradcheck.targets.discover import EXTRAS
from gradcheck.targets.framework import Kind, kind_of
from gradcheck.targets.signature import Inputs, defaults_of, resolve
from gradcheck.targets.specs.spec import Spec
from gradcheck.trees import flatten

if TYPE_CHECKING:
    from gradcheck.backends.backend import Backend
    from gradcheck.targets.case import Case


def framework_of(case: Case) -> str:
    """The framework that a case says, or that its inputs and its code tell.

    Raises:
        InputError: where that is none of those supported, or cannot be told.
    """
    leaves = [x for value in (*case.values, *defaults_of(case.fn)) for x in flatten(value).leaves if not isinstance(x, Spec)]
    name = case.framework or frameworks.infer(case.fn, leaves)
    if name not in frameworks.FRAMEWORKS:
        raise InputError(f"framework {name!r}: expected one of {', '.join(frameworks.FRAMEWORKS)}")
    return name


def natural_dtype(backend: Backend, case: Case) -> str | None:
    """The dtype that a module has, or a module class is to be made in; None where nothing says."""
    return backend.default_dtype(case.fn) or _dtype_of_specs(case)


def constructed(case: Case) -> bool:
    """Whether the target is made from a class or a factory first."""
    return case.init is not None or kind_of(case.fn) is Kind.MODULE_CLASS


def opened(
    backend: Backend, case: Case, dtype: str, *, seed: int, trial: int = 0, command: str | None = None
) -> tuple[Any, Inputs]:
    """The target that is called, constructed where it must be, and its inputs, specs among them.

    Raises:
        InputError: where inputs are missing or superfluous.
        TargetError: where the constructor raises.
    """
    target = _constructed(backend, case, dtype, seed, trial) if constructed(case) else case.fn
    return target, resolve(target, case.args, case.kwargs, case.declared_args, case.declared_kwargs, command=command)


def backend_of(name: str) -> Backend:
    """What evaluates targets of a framework.

    Raises:
        UsageError: where the framework is not installed.
    """
    try:
        backend: Backend = importlib.import_module(f"gradcheck.backends.{name}.backend").BACKEND
    except ModuleNotFoundError as error:
        wanted = f"'gradcheck[{name}]'" if name in EXTRAS else name
        raise UsageError(f"framework {name}: {error.name!r} is not installed; pip install {wanted}") from None
    return backend


def _constructed(backend: Backend, case: Case, dtype: str, seed: int, trial: int) -> Any:
    missing = missing_init(case)
    if missing:
        flags = " ".join(f"--init {name}=..." for name in missing)
        raise InputError(
            f"{case.target or case.fn.__name__} needs {', '.join(missing)} to be constructed: give {flags} (init= in Python)"
        )
    return backend.construct(case, dtype, seed=seed, trial=trial)


def missing_init(case: Case) -> list[str]:
    """Arguments that the constructor or factory needs and was not given."""
    import inspect

    try:
        params = inspect.signature(case.fn).parameters.values()
    except (TypeError, ValueError):
        return []
    needed = [p.name for p in params if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    return [name for name in needed if name not in (case.init or {})]


def _dtype_of_specs(case: Case) -> str | None:
    specs = [x for value in case.values for x in flatten(value).leaves if isinstance(x, Spec)]
    floats = [s.dtype for s in specs if s.dtype and np.dtype(s.dtype).kind == "f"]
    return floats[0] if floats and kind_of(case.fn) is Kind.MODULE_CLASS else None
