"""Interception of the calls of Functions, registered operators and modules in a running PyTorch program.

PyTorch's own `Function.apply` ends in `super().apply`, which finds what is put into the class between: so calls through an
`apply` that the program holds already are seen too, and `Function.apply` stays as it is. Modules are called through
`nn.Module.__call__`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import torch
from torch._library.custom_ops import OPDEFS
from torch.autograd.function import _SingleLevelFunction

from gradcheck.backends.recorded_layer import RecordedCall
from gradcheck.backends.torch.graph import OPERATOR_BACKWARD_PREFIX
from gradcheck.backends.torch.recorded_layers import make_cotangent_hook, make_overwrite_check
from gradcheck.harvest.record import MAX_RECORDS, OPERATOR, Harvest, Record, is_called_by_gradcheck
from gradcheck.harvest.torch_copies import NotCopiedError, copy_arguments, copy_module, count_bytes, describe, list_tensors
from gradcheck.targets.framework import TargetKind
from gradcheck.trees import flatten

if TYPE_CHECKING:
    from collections.abc import Iterator

Seen = dict[type, set[Any] | None]  # signatures of recorded calls by class; None: no further call is recorded
NEW: set[Any] = set()  # of a class that was not called yet
MAX_MODULES = 4096  # whose settings are remembered
MAX_SIGNATURES = 64  # kinds of calls of a class, recorded or not, after which it is no longer looked at
TOO_LARGE = "its inputs and parameters do not fit into the {:.0f} MiB that all copies may take"


class NeverRecordedError(Exception):
    """No call of a class is to be recorded; the message says why."""


class NothingToCheckError(Exception):
    """Nothing of a call requires a gradient."""


class TorchCalls:
    """Intercepts calls from `install` to `uninstall`, and records the first of each kind."""

    def __init__(self, harvest: Harvest) -> None:
        self._harvest = harvest
        self._functions: Seen = {}
        self._modules: Seen = {}
        self._settings: dict[int, Any] = {}  # of each module that was called, by its id
        self._open: list[tuple[int, Record]] = []  # calls that are being recorded, with the thread that makes them
        self._restore: list[Callable[[], None]] = []

    def install(self) -> None:
        """Begin to intercept."""
        self._replace(_SingleLevelFunction, "apply", self._make_apply(vars(_SingleLevelFunction).get("apply")))
        self._replace(torch.nn.Module, "__call__", self._make_call(torch.nn.Module.__call__))

    def uninstall(self) -> None:
        """Put back what was replaced. What another tool has replaced since stays, and ours below it does nothing any more."""
        for seen in (self._functions, self._modules):
            for cls in list(seen):
                seen[cls] = None
        while self._restore:
            self._restore.pop()()

    def _replace(self, cls: Any, name: str, replacement: Any) -> None:
        before = vars(cls).get(name)
        setattr(cls, name, replacement)

        def restore() -> None:
            if vars(cls).get(name) is not replacement:
                return
            if before is None:
                delattr(cls, name)
            else:
                setattr(cls, name, before)

        self._restore.append(restore)

    def _make_apply(self, before: Any) -> Any:
        functions, calls = self._functions, self._open
        is_grad_enabled = torch.is_grad_enabled

        def apply(cls: Any, *args: Any, **kwargs: Any) -> Any:
            call = before.__get__(None, cls) if before is not None else super(_SingleLevelFunction, cls).apply  # type: ignore[misc]
            if calls:
                self._note_part(cls)
            seen = functions.get(cls, NEW)
            if seen is None or not is_grad_enabled():
                return call(*args, **kwargs)
            signature = tuple(map(describe, args))
            if signature in seen:
                return call(*args, **kwargs)
            record = self._begin(functions, cls, signature, lambda: self._record_function(cls, args, kwargs))
            return self._finish(record, lambda: call(*args, **kwargs), (args, kwargs))

        return classmethod(apply)

    def _make_call(self, original: Any) -> Any:
        modules, settings = self._modules, self._settings
        is_grad_enabled, is_compiling = torch.is_grad_enabled, torch.compiler.is_compiling

        def __call__(module: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N807 - tracebacks show the name
            if is_compiling():
                return original(module, *args, **kwargs)
            seen = modules.get(type(module), NEW)
            if seen is None or not is_grad_enabled():
                return original(module, *args, **kwargs)
            setting = settings.get(id(module)) or self._describe_settings(module)
            signature = (setting, module.training, *map(describe, args), describe(kwargs) if kwargs else None)
            if signature in seen:
                return original(module, *args, **kwargs)
            record = self._begin(modules, type(module), signature, lambda: self._record_module(module, args, kwargs))
            return self._finish(record, lambda: original(module, *args, **kwargs), (args, kwargs))

        return __call__

    def _describe_settings(self, module: torch.nn.Module) -> Any:
        """Describe what tells modules of one class apart: the flags, names and sizes that they hold."""
        if len(self._settings) >= MAX_MODULES:
            self._settings.clear()
        attributes = ((name, value) for name, value in vars(module).items() if name != "training")
        setting = tuple((name, value) for name, value in attributes if isinstance(value, (bool, int, str)))
        return self._settings.setdefault(id(module), (True, setting))

    def _begin(self, seen: Seen, cls: type, signature: Any, make: Callable[[], Record]) -> Record | None:
        """Make the record of a call of a kind that was not seen; None if it is not to be recorded."""
        home = home_of(cls)
        if not self._harvest.is_from_user(home[0]):
            seen[cls] = None
            return None
        signatures = seen.setdefault(cls, set())
        if signatures is None or _is_transformed() or is_called_by_gradcheck():
            return None
        signatures.add(signature)
        record = None
        try:
            record = make()
            self._harvest.add(record)
        except NeverRecordedError as error:
            seen[cls] = None
            self._harvest.leave_out(home, str(error))
        except NotCopiedError as error:
            self._harvest.leave_out(home, str(error))
        except NothingToCheckError:
            pass
        except Exception as error:  # Whatever goes wrong in a copy must not stop the program.
            self._harvest.leave_out(home, f"its call cannot be recorded: {type(error).__name__}: {error}")
        if self._harvest.count(home) >= MAX_RECORDS or len(signatures) >= MAX_SIGNATURES:
            seen[cls] = None
        return record

    def _record_function(self, cls: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Record:
        record = Record(cls, home_of(cls), TargetKind.AUTOGRAD_FUNCTION.value, RecordedCall((), {}))
        if is_operator(cls):
            record.target, record.kind = find_operator(cls), OPERATOR
            record.source = getattr(record.target, "_init_fn", None)
            args, kwargs = args[:-1], args[-1].keyword_only_args  # PyTorch puts what it needs itself at the end
        return self._copy_call(record, args, kwargs)

    def _record_module(self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Record:
        cls = type(module)
        if str(getattr(cls.forward, "__module__", "")).startswith("torch."):
            raise NeverRecordedError("its forward is PyTorch's own")
        if self._only_holds_others(module):
            raise NeverRecordedError("it holds other modules of yours, which are checked, and no parameter of its own")
        record = Record(None, home_of(cls), TargetKind.MODULE.value, RecordedCall((), {}), cls)
        return self._copy_call(record, args, kwargs, module)

    def _only_holds_others(self, module: torch.nn.Module) -> bool:
        """Say whether a module has other modules of the user in it, and no parameter of its own."""
        inner = {type(part) for part in module.modules()} - {type(module)}
        has_parameters = any(True for _ in module.parameters(recurse=False))
        return not has_parameters and any(self._harvest.is_from_user(cls.__module__) for cls in inner)

    def _copy_call(
        self, record: Record, args: tuple[Any, ...], kwargs: dict[str, Any], module: torch.nn.Module | None = None
    ) -> Record:
        """Fill a record with copies of the arguments and the module.

        Raises:
            NotCopiedError: if they cannot be copied, or do not fit into the memory.
            NothingToCheckError: if nothing of the call requires a gradient.
        """
        inputs = list_tensors((args, kwargs))
        state = [] if module is None else [*module.parameters(), *module.buffers()]
        if not any(x.requires_grad for x in (*inputs, *state)):
            raise NothingToCheckError
        if not self._harvest.reserve(record, count_bytes([*inputs, *state])):
            raise NotCopiedError(TOO_LARGE.format(self._harvest.max_bytes / 2**20))
        record.call.args, record.call.kwargs = copy_arguments(args), copy_arguments(dict(kwargs))
        if module is not None:
            record.target = copy_module(module)
        return record

    def _finish(self, record: Record | None, call: Callable[[], Any], arguments: Any) -> Any:
        """Make a call, and complete its record."""
        if record is None:
            return call()
        was_overwritten = make_overwrite_check(arguments)
        entry = (threading.get_ident(), record)
        self._open.append(entry)
        try:
            output = call()
        except BaseException:
            self._harvest.discard(record)
            raise
        finally:
            self._open.remove(entry)
        with suppress(Exception):  # An output that we cannot walk must not stop the program.
            record.call.overwritten = was_overwritten()
            self._await_cotangents(record, output, arguments)
        return output

    def _await_cotangents(self, record: Record, output: Any, arguments: Any) -> None:
        """Have each output record its cotangent when the program sends it back; the program's gradient is not touched."""
        inputs = {id(x) for x in flatten(arguments).leaves}
        for place, out in enumerate(flatten(output).leaves):
            is_new = isinstance(out, torch.Tensor) and out.grad_fn is not None and id(out) not in inputs
            if is_new and self._harvest.reserve(record, count_bytes([out])):
                out.register_hook(make_cotangent_hook(record.call, place))

    def _note_part(self, cls: type) -> None:
        """Note a Function as a part of the calls that are being recorded around it."""
        home, thread = home_of(cls), threading.get_ident()
        for caller, record in self._open:
            if caller == thread and home != record.home:
                record.parts.add(home)


def home_of(cls: Any) -> tuple[str, str]:
    """Return the module of a class and its qualified name; for the Function behind an operator, those of the operator."""
    if not is_operator(cls):
        return cls.__module__, cls.__qualname__
    operator = find_operator(cls)
    function = getattr(operator, "_init_fn", None)
    if function is not None:
        return function.__module__, function.__qualname__
    backward = dict(_read_closure(cls.backward))["info"]._backward_fn
    return backward.__module__, str(operator)


def is_operator(cls: Any) -> bool:
    """Say whether a class is the Function that torch.library makes for an operator of the user."""
    name = cls.__name__.removeprefix(OPERATOR_BACKWARD_PREFIX)
    return name != cls.__name__ and not name.startswith(("aten_", "prims_"))


def find_operator(cls: Any) -> Any:
    """Return the operator that a Function of torch.library was made for: what `custom_op` returned, if it made it."""
    overload = dict(_read_closure(cls.forward))["op"]
    return OPDEFS.get(overload._schema.name, overload)


def _read_closure(function: Any) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        yield name, cell.cell_contents


def _is_transformed() -> bool:
    """Say whether PyTorch transforms or traces the code that runs, so that its tensors hold no numbers of the program."""
    return bool(
        torch._C._are_functorch_transforms_active()
        or torch._C._get_tracing_state()
        or torch.compiler.is_compiling()
        or torch.overrides._get_current_function_mode_stack()  # type: ignore[no-untyped-call]
        or torch.utils._python_dispatch._get_current_dispatch_mode_stack()
    )
