"""The framework that a target belongs to, inferred without importing any framework."""

from __future__ import annotations

import dis
import functools
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import Enum
from typing import Any

from gradcheck.errors import InputError

FRAMEWORKS = ("numpy", "torch", "jax")
_FRAMEWORK_OF_PACKAGE = {
    **dict.fromkeys(("numpy", "autograd.numpy", "autograd.scipy"), "numpy"),  # HIPS autograd takes NumPy's arrays
    "torch": "torch",
    **dict.fromkeys(("jax", "jaxlib", "equinox", "flax", "haiku"), "jax"),
}

NUMPY_FOR_JAX = ("numpy", "jax")  # functions of JAX take NumPy arrays


class TargetKind(Enum):
    """The kind of callable that a target is."""

    FUNCTION = "function"
    MODULE = "nn.Module"
    MODULE_CLASS = "nn.Module class"
    AUTOGRAD_FUNCTION = "autograd.Function"


def classify_target(target: Any) -> TargetKind:
    """Classify a target as function, module, module class or custom Function, by the names of its base classes."""
    if isinstance(target, type):
        if _derives(target, "torch.nn.modules.module", "Module"):
            return TargetKind.MODULE_CLASS
        if _derives(target, "torch.autograd.function", "Function"):
            return TargetKind.AUTOGRAD_FUNCTION
    elif _derives(type(target), "torch.nn.modules.module", "Module"):
        return TargetKind.MODULE
    return TargetKind.FUNCTION


def unwrap_apply(target: Any) -> Any:
    """Return the custom Function of which a target is the `apply`; any other target unchanged."""
    owner = getattr(target, "__self__", None)
    is_apply = getattr(target, "__name__", "") == "apply" and isinstance(owner, type)
    return owner if is_apply and classify_target(owner) is TargetKind.AUTOGRAD_FUNCTION else target


def _derives(cls: type, module: str, name: str) -> bool:
    return any(c.__module__ == module and c.__name__ == name for c in cls.__mro__)


def infer_from_arrays(leaves: Iterable[Any]) -> str | None:
    """Return the framework of the arrays among some leaves; None if there is no array.

    Raises:
        InputError: if arrays of two frameworks are mixed.
    """
    classes = [type(leaf) for leaf in leaves if hasattr(type(leaf), "shape")]  # the shape of a nested tensor itself may raise
    frameworks = {_framework_of_class(cls) for cls in classes} - {None}
    if len(frameworks) > 1:  # A NumPy scalar among tensors is a plain value.
        arrays = [cls for cls in classes if cls.__module__ != "numpy" or cls.__name__ == "ndarray"]
        frameworks = {_framework_of_class(cls) for cls in arrays} - {None}
    if len(frameworks) > 1:
        modules = [cls.__module__ for cls in classes if _framework_of_class(cls)]
        packages = sorted({_framework_of_module(module) or module.partition(".")[0] for module in modules})
        raise InputError(f"inputs mix arrays of {' and '.join(packages)}: give all of them in the framework of the target")
    return next(iter(frameworks), None)


def _framework_of_class(cls: type) -> str | None:
    """Return the framework of an array's class.

    Arrays of other namespaces of the array API standard count as NumPy's, to which they are converted. A class derived from
    NumPy's says nothing.
    """
    foreign = hasattr(cls, "__array_namespace__") and not any(base.__module__ == "numpy" for base in cls.__mro__)
    return _framework_of_module(cls.__module__) or (FRAMEWORKS[0] if foreign else None)


def infer_framework(target: Any, leaves: Iterable[Any]) -> str:
    """Infer the framework from the target's class and the arrays, else from its module, annotations, code and imports.

    Raises:
        InputError: if none of these shows it, or the class contradicts the arrays.
    """
    array_framework = infer_from_arrays(leaves)
    class_framework = _infer_from_class(target)
    frameworks = (array_framework, class_framework)
    if None not in frameworks and array_framework != class_framework and frameworks != NUMPY_FOR_JAX:
        is_torch = class_framework == "torch"
        description = f"a torch {classify_target(target).value}" if is_torch else f"a jax {type(target).__name__}"
        expected = "tensors" if is_torch else "JAX arrays"
        raise InputError(f"the target is {description}, but the inputs are {array_framework} arrays: give {expected}")
    function = unwrap_target(target)
    if isinstance(function, type):  # a factory: its instances are called, or their forward is
        function = unwrap_target(_find_method(function, ("__call__", "forward", "__init__")) or function)
    if frameworks == ("numpy", None) and _only(_frameworks_in_code(function)) == "jax":
        return "jax"
    evident = class_framework or array_framework
    if evident:
        return evident
    sources = (
        _framework_of_home, _frameworks_in_annotations, _frameworks_in_code, _frameworks_in_imports, _frameworks_of_helpers,
    )  # fmt: skip
    for source in sources:
        framework = _only(source(function))
        if framework:
            return framework
    raise InputError(
        f"cannot tell whether {getattr(target, '__name__', target)!r} takes NumPy arrays, torch tensors or JAX arrays: "
        f"say which by framework={', '.join(map(repr, FRAMEWORKS[:-1]))} or {FRAMEWORKS[-1]!r}, or by --framework"
    )


def _find_method(cls: type, names: Sequence[str]) -> Any:
    """Return the first of some methods that a class or a base of it defines; None if there is none."""
    return next((vars(base)[name] for name in names for base in cls.__mro__[:-1] if name in vars(base)), None)


def _infer_from_class(target: Any) -> str | None:
    """Recognise a module or Function of torch, and a transformed function or a module of JAX, by the target's class."""
    if classify_target(target) is not TargetKind.FUNCTION:
        return "torch"
    return "jax" if "jax" in {_framework_of_module(cls.__module__) for cls in type(target).__mro__} else None


def _only(candidates: Iterable[str | None]) -> str | None:
    """Return the only framework among some candidates; None if there are several, or none."""
    frameworks = {name for name in candidates if name}
    return frameworks.pop() if len(frameworks) == 1 else None


def is_from_framework(leaf: Any, name: str) -> bool:
    """Whether a leaf's class is from a framework."""
    return _framework_of_module(type(leaf).__module__) == name


def _framework_of_module(module: str | None) -> str | None:
    parts = (module or "").split(".")
    return _FRAMEWORK_OF_PACKAGE.get(parts[0]) or _FRAMEWORK_OF_PACKAGE.get(".".join(parts[:2]))


def unwrap_target(target: Any) -> Any:
    """Return the function with a target's code, inside of partials, wrappers, methods and instances with `__call__`."""
    while isinstance(target, functools.partial):
        target = target.func
    target = inspect.unwrap(target)
    if not hasattr(target, "__code__") and not isinstance(target, type):
        call = getattr(type(target), "__call__", None)  # noqa: B004 - we need the function itself, for its code
        if hasattr(call, "__code__"):
            return call
    return getattr(target, "__func__", target)


def _framework_of_home(function: Any) -> Iterator[str | None]:
    yield _framework_of_module(getattr(function, "__module__", None)) or _framework_of_module(type(function).__module__)


def _frameworks_in_annotations(function: Any) -> Iterator[str | None]:
    for hint in read_annotations(function).values():
        for annotation in (hint, *typing.get_args(hint)):
            yield _framework_of_module(getattr(getattr(annotation, "array_type", annotation), "__module__", None))


def read_annotations(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the evaluated annotations of a function; none if they cannot be evaluated."""
    try:
        return inspect.get_annotations(function, eval_str=True)
    except Exception:
        return {}


def _frameworks_in_code(function: Any, visited: set[int] | None = None) -> Iterator[str | None]:
    """Yield the frameworks of the imports, globals and closed-over values that a function and its helpers use."""
    visited = set() if visited is None else visited
    if not hasattr(function, "__code__") or id(function) in visited:
        return
    visited.add(id(function))
    for instruction in dis.get_instructions(function):
        if instruction.opname == "IMPORT_NAME":
            yield _framework_of_module(str(instruction.argval))
    names = set(_global_names(function.__code__))
    values = [function.__globals__[n] for n in names if n in function.__globals__]
    values += read_closure(function)
    for value in values:
        if isinstance(value, types.ModuleType):
            yield _framework_of_module(value.__name__)
        elif classify_target(value) is not TargetKind.FUNCTION:
            yield "torch"
        else:
            yield _framework_of_module(getattr(value, "__module__", None) if callable(value) else type(value).__module__)
            if getattr(value, "__globals__", None) is function.__globals__:
                yield from _frameworks_in_code(value, visited)


def read_closure(function: Any) -> list[Any]:
    """Return the values that a function closes over."""
    return [cell.cell_contents for cell in getattr(function, "__closure__", None) or () if _is_filled(cell)]


def _is_filled(cell: types.CellType) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


def _global_names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _global_names(constant)


def _frameworks_in_imports(function: Any) -> Iterator[str | None]:
    for value in getattr(function, "__globals__", {}).values():
        if isinstance(value, types.ModuleType):
            yield _framework_of_module(value.__name__)


def _frameworks_of_helpers(function: Any) -> Iterator[str | None]:
    """Yield the frameworks that a function's helpers from other modules use or import."""
    names = set(_global_names(function.__code__)) if hasattr(function, "__code__") else set()
    for helper in (function.__globals__.get(name) for name in names):
        if isinstance(helper, types.FunctionType) and helper.__globals__ is not function.__globals__:
            yield _only(_frameworks_in_code(helper)) or _only(_frameworks_in_imports(helper))
