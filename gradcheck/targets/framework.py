"""Which framework a target belongs to, told without importing any."""

from __future__ import annotations

import dis
import functools
import inspect
import types
import typing
from enum import Enum
from typing import TYPE_CHECKING, Any

from gradcheck.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

FRAMEWORKS = ("numpy", "torch", "jax")
_KNOWN = {
    **dict.fromkeys(("numpy", "autograd.numpy", "autograd.scipy"), "numpy"),  # HIPS autograd takes NumPy's arrays
    "torch": "torch",
    **dict.fromkeys(("jax", "jaxlib", "equinox", "flax", "haiku"), "jax"),
}

TAKEN = ("numpy", "jax")  # arrays of the one are taken by functions of the other


class Kind(Enum):
    """What sort of callable a target is."""

    FUNCTION = "function"
    MODULE = "nn.Module"
    MODULE_CLASS = "nn.Module class"
    AUTOGRAD_FUNCTION = "autograd.Function"


def kind_of(target: Any) -> Kind:
    """Tell modules and custom Functions by their base classes' names."""
    if isinstance(target, type):
        if _derives(target, "torch.nn.modules.module", "Module"):
            return Kind.MODULE_CLASS
        if _derives(target, "torch.autograd.function", "Function"):
            return Kind.AUTOGRAD_FUNCTION
    elif _derives(type(target), "torch.nn.modules.module", "Module"):
        return Kind.MODULE
    return Kind.FUNCTION


def _derives(cls: type, module: str, name: str) -> bool:
    return any(c.__module__ == module and c.__name__ == name for c in cls.__mro__)


def of_arrays(leaves: Iterable[Any]) -> str | None:
    """The framework of the arrays among some leaves; None where there is none.

    Raises:
        InputError: where arrays of two frameworks are mixed.
    """
    arrays = [type(leaf) for leaf in leaves if hasattr(type(leaf), "shape")]  # one of its own may raise: nested tensors
    found = {_of(cls) for cls in arrays} - {None}
    if len(found) > 1:  # a NumPy scalar is a plain value beside tensors
        found = {_of(cls) for cls in arrays if cls.__module__ != "numpy" or cls.__name__ == "ndarray"} - {None}
    if len(found) > 1:
        packages = sorted({_root(cls.__module__) or cls.__module__.partition(".")[0] for cls in arrays if _of(cls)})
        raise InputError(f"inputs mix arrays of {' and '.join(packages)}: give all of them in the framework of the target")
    return next(iter(found), None)


def _of(cls: type) -> str | None:
    """Arrays of any other namespace of the array API standard cross as NumPy's; a class derived from NumPy's tells nothing."""
    foreign = hasattr(cls, "__array_namespace__") and not any(base.__module__ == "numpy" for base in cls.__mro__)
    return _root(cls.__module__) or (FRAMEWORKS[0] if foreign else None)


def infer(target: Any, leaves: Iterable[Any]) -> str:
    """Tell the framework: by the arrays given, else by the target's class, annotations, and the names its code uses.

    Raises:
        InputError: where neither tells, or the two contradict each other.
    """
    given = of_arrays(leaves)
    own = _of_class(target)
    if given and own and given != own and (given, own) != TAKEN:
        named = f"a torch {kind_of(target).value}" if own == "torch" else f"a jax {type(target).__name__}"
        wanted = "tensors" if own == "torch" else "JAX arrays"
        raise InputError(f"the target is {named}, but the inputs are {given} arrays: give {wanted}")
    function = unwrapped(target)
    if own is None and given == TAKEN[0] and _one(_named(function)) == TAKEN[1]:
        return TAKEN[1]
    for told in (own, given):
        if told:
            return told
    for source in (_home, _annotated, _named, _imported):
        found = _one(source(function))
        if found:
            return found
    raise InputError(
        f"cannot tell whether {getattr(target, '__name__', target)!r} takes NumPy arrays, torch tensors or JAX arrays: "
        f"say --framework {', '.join(FRAMEWORKS[:-1])} or {FRAMEWORKS[-1]} (framework= in Python)"
    )


def _of_class(target: Any) -> str | None:
    """What the target's own class tells: a module or Function of torch, a transformed function or a module of JAX."""
    if kind_of(target) is not Kind.FUNCTION:
        return "torch"
    return "jax" if "jax" in {_root(cls.__module__) for cls in type(target).__mro__} else None


def _one(found: Iterable[str | None]) -> str | None:
    """The only framework among some; None where there are several, or none."""
    known = {name for name in found if name}
    return known.pop() if len(known) == 1 else None


def is_of(leaf: Any, name: str) -> bool:
    """Whether a leaf is of a class of a framework."""
    return _root(type(leaf).__module__) == name


def _root(module: str | None) -> str | None:
    parts = (module or "").split(".")
    return _KNOWN.get(parts[0]) or _KNOWN.get(".".join(parts[:2]))


def unwrapped(target: Any) -> Any:
    """The function that bears a target's code: beneath partials, wrappers, methods and instances with `__call__`."""
    while isinstance(target, functools.partial):
        target = target.func
    target = inspect.unwrap(target)
    if not hasattr(target, "__code__") and not isinstance(target, type):
        call = getattr(type(target), "__call__", None)  # noqa: B004 - the function itself is wanted, for its code
        if hasattr(call, "__code__"):
            return call
    return getattr(target, "__func__", target)


def _home(function: Any) -> Iterator[str | None]:
    yield _root(getattr(function, "__module__", None)) or _root(type(function).__module__)


def _annotated(function: Any) -> Iterator[str | None]:
    for hint in hints_of(function).values():
        for annotation in (hint, *typing.get_args(hint)):
            yield _root(getattr(getattr(annotation, "array_type", annotation), "__module__", None))


def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """The evaluated annotations of a function; none where they cannot be evaluated."""
    try:
        return inspect.get_annotations(function, eval_str=True)
    except Exception:
        return {}


def _named(function: Any, seen: set[int] | None = None) -> Iterator[str | None]:
    seen = set() if seen is None else seen
    if not hasattr(function, "__code__") or id(function) in seen:
        return
    seen.add(id(function))
    for instruction in dis.get_instructions(function):
        if instruction.opname == "IMPORT_NAME":
            yield _root(str(instruction.argval))
    names = set(_names(function.__code__))
    values = [function.__globals__[n] for n in names if n in function.__globals__]
    values += [cell.cell_contents for cell in function.__closure__ or () if _filled(cell)]
    for value in values:
        if isinstance(value, types.ModuleType):
            yield _root(value.__name__)
        elif kind_of(value) is not Kind.FUNCTION:
            yield "torch"
        else:
            yield _root(getattr(value, "__module__", None) if callable(value) else type(value).__module__)
            if getattr(value, "__globals__", None) is function.__globals__:
                yield from _named(value, seen)


def _filled(cell: types.CellType) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def _imported(function: Any) -> Iterator[str | None]:
    for value in getattr(function, "__globals__", {}).values():
        if isinstance(value, types.ModuleType):
            yield _root(value.__name__)
