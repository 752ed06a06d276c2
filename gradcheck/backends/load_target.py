"""From a case to what a backend binds: its framework, the target, and its inputs."""

from __future__ import annotations

import importlib
import inspect
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gradcheck.errors import InputError, UsageError
from gradcheck.targets import framework as frameworks
from gradcheck.targets.discover import EXTRAS
from gradcheck.targets.draw import draw_inputs
from gradcheck.targets.framework import TargetKind, classify_target
from gradcheck.targets.plain_class import advise_on_class, advise_on_methods
from gradcheck.targets.signature import Inputs, read_defaults, resolve_inputs
from gradcheck.targets.specs.spec import Spec
from gradcheck.trees import flatten

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradcheck.backends.backend import Backend
    from gradcheck.targets.case import Case


def choose_framework(case: Case) -> str:
    """Choose the framework of a case: the declared one, or else the one that its inputs and its code show.

    Raises:
        InputError: if it is not supported, or nothing shows which it is.
    """
    if isinstance(case.fn, type) and not needs_construction(case) and classify_target(case.fn) is TargetKind.FUNCTION:
        advice = advise_on_class(case.fn) or ("" if "__call__" in dir(case.fn) else advise_on_methods(case.fn, case.target))
        if advice:
            raise InputError(f"{case.fn.__name__}{advice}")
    leaves = [x for value in (*case.values, *read_defaults(case.fn)) for x in flatten(value).leaves if not isinstance(x, Spec)]
    try:
        name = case.framework or frameworks.infer_framework(case.fn, leaves)
    except InputError as error:
        has_lists = any(isinstance(value, list) for value in case.values)
        raise InputError(f"{error}{'; or pass arrays for lists, as in np.array([1.0, 2.0])' if has_lists else ''}") from None
    if name not in frameworks.FRAMEWORKS:
        raise InputError(f"framework {name!r}: expected one of {', '.join(frameworks.FRAMEWORKS)}")
    return name


def load_backend(framework: str) -> Backend:
    """Load the backend of a framework.

    Raises:
        UsageError: if the framework is not installed.
    """
    try:
        backend: Backend = importlib.import_module(f"gradcheck.backends.{framework}.backend").BACKEND
    except ModuleNotFoundError as error:
        requirement = f"'gradcheck[{framework}]'" if framework in EXTRAS else framework
        raise UsageError(f"framework {framework}: {error.name!r} is not installed; pip install {requirement}") from None
    return backend


def choose_dtype(backend: Backend, case: Case) -> str | None:
    """Choose the dtype of inputs: that of the module, or of a module class not built yet; None if nothing shows one."""
    return backend.default_dtype(case.fn) or _dtype_of_specs(case)


def needs_construction(case: Case) -> bool:
    """Whether the target is built from a class or a factory."""
    return case.init is not None or classify_target(case.fn) is TargetKind.MODULE_CLASS


def prepare_target(
    backend: Backend,
    case: Case,
    dtype: str,
    *,
    seed: int,
    trial: int = 0,
    dims: Mapping[str, tuple[int, int]] | None = None,
    command: str | None = None,
) -> tuple[Any, Inputs]:
    """Return the target, built if necessary, and its inputs, among which there may be specs.

    Args:
        backend: builds the target.
        case: the declaration.
        dtype: of parameters.
        seed: with `trial`, seeds what a constructor draws.
        trial: number of the trial.
        dims: ranges of named sizes in specs among the constructor's arguments.
        command: the target and its options on the command line, for messages.

    Raises:
        InputError: if inputs are missing or superfluous.
        TargetError: if the constructor raises.
    """
    if needs_construction(case):
        _require_init(case, command)
        sizes = dims or {}
        drawn = draw_inputs(
            Inputs((), case.init or {}), case=case.seed_label, trial=trial, seed=seed, dims=sizes, dtype=dtype,
            convert=backend.from_numpy,
        )  # fmt: skip
        target = backend.construct(replace(case, init=drawn.kwargs), dtype, seed=seed, trial=trial)
    else:
        target = case.fn
    return target, resolve_inputs(target, case.args, case.kwargs, case.declared_args, case.declared_kwargs, command=command)


def find_missing_init(case: Case) -> list[str]:
    """Find the arguments without a default that the constructor or factory was not given."""
    try:
        parameters = inspect.signature(case.fn).parameters.values()
    except (TypeError, ValueError):
        return []
    required = [p.name for p in parameters if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    return [name for name in required if name not in (case.init or {})]


def _require_init(case: Case, command: str | None) -> None:
    """Refuse a class or a factory that was not given all arguments that it needs.

    Raises:
        InputError: with the names of the arguments.
    """
    missing = find_missing_init(case)
    if missing:
        head = f"{case.target or case.fn.__name__} needs {', '.join(missing)} to be constructed"
        if command is None:
            raise InputError(f"{head}: pass init=dict({', '.join(f'{name}=...' for name in missing)})")
        flags = " ".join(f"--init {name}=..." for name in missing)
        raise InputError(f"{head}. Fill in the values and paste:\n    gradcheck run {command} {flags}")


def _dtype_of_specs(case: Case) -> str | None:
    """Return the first floating dtype among the input specs of a module class."""
    specs = [x for value in case.values for x in flatten(value).leaves if isinstance(x, Spec)]
    floats = [spec.dtype for spec in specs if spec.dtype and spec.dtype.startswith(("float", "bfloat"))]
    return floats[0] if floats and classify_target(case.fn) is TargetKind.MODULE_CLASS else None
