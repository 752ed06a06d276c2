"""Interception of the calls of the user's modules in a running PyTorch program, through a `__call__` of each of their classes.

PyTorch's own classes are not touched, and a class of which enough is recorded gets its own `__call__` back.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import torch

from gradcheck.backends.recorded_layer import RecordedCall
from gradcheck.harvest.record import Harvest, Record
from gradcheck.harvest.torch_copies import describe
from gradcheck.harvest.torch_recorder import Kinds, NeverRecordedError, TorchRecorder
from gradcheck.targets.framework import TargetKind

MAX_MODULES = 4096  # whose settings are remembered
UNKNOWN = (lambda: None), ()  # stands for the settings of a module that was not called yet


class ModuleCalls:
    """Intercepts calls from `install` to `uninstall`, and records the first of each kind."""

    def __init__(self, harvest: Harvest, recorder: TorchRecorder) -> None:
        self._harvest = harvest
        self._recorder = recorder
        self._settings: dict[int, tuple[Callable[[], Any], Any]] = {}  # of each module that was called, by its id
        self._replaced: dict[type, tuple[Any, Any]] = {}  # what a class had itself, and what it has now
        self._before: Any = None

    def install(self) -> None:
        """Begin to intercept, in the classes that exist and in those that will be defined."""
        self._before = vars(torch.nn.Module).get("__init_subclass__")
        hook: Any = classmethod(self._make_init_subclass(self._before))
        torch.nn.Module.__init_subclass__ = hook  # type: ignore[method-assign]
        for cls in list(_list_subclasses(torch.nn.Module)):
            self._replace_call(cls)

    def uninstall(self) -> None:
        """Put back what was replaced."""
        self._recorder.remove_hooks()
        if self._before is None:
            del torch.nn.Module.__init_subclass__
        else:
            torch.nn.Module.__init_subclass__ = self._before  # type: ignore[method-assign]
        for cls in list(self._replaced):
            self._restore_call(cls)

    def _make_init_subclass(self, before: Any) -> Any:
        def __init_subclass__(cls: Any, **kwargs: Any) -> None:  # noqa: N807 - tracebacks show the name
            if before is None:
                super(torch.nn.Module, cls).__init_subclass__(**kwargs)  # type: ignore[misc]
            else:
                before.__get__(None, cls)(**kwargs)
            self._replace_call(cls)

        return __init_subclass__

    def _replace_call(self, cls: Any) -> None:
        if self._harvest.is_from_user(str(cls.__module__)) and cls not in self._replaced:
            before = vars(cls).get("__call__")
            self._replaced[cls] = before, self._make_call(cls, before)
            cls.__call__ = self._replaced[cls][1]

    def _restore_call(self, cls: Any) -> None:
        before, replacement = self._replaced.get(cls, (None, None))
        if replacement is None or vars(cls).get("__call__") is not replacement:
            return  # A watch inside of this one will put back what is ours.
        del self._replaced[cls]
        if before is None:
            del cls.__call__
        else:
            cls.__call__ = before

    def _make_call(self, cls: Any, before: Any) -> Any:
        kinds, recorder, settings = Kinds(), self._recorder, self._settings
        is_grad_enabled, is_compiling, tensor = torch.is_grad_enabled, torch.compiler.is_compiling, torch.Tensor
        get_tracing_state = torch._C._get_tracing_state

        @functools.wraps(cls.__call__)
        def __call__(module: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N807 - tracebacks show the name
            call = super(cls, module).__call__ if before is None else before.__get__(module)  # type: ignore[misc]
            if is_compiling() or get_tracing_state() is not None or type(module) is not cls or kinds.is_closed:
                return call(*args, **kwargs)
            first = args[0] if args else None
            if kinds.skip and type(first) is tensor and first.numel() == kinds.entries:
                kinds.skip -= 1
                return call(*args, **kwargs)
            if not is_grad_enabled():
                return call(*args, **kwargs)
            known, setting = settings.get(id(module), UNKNOWN)
            if known() is not module:
                setting = self._describe_settings(module)
            signature = (setting, module.training, *[describe(x) for x in args], describe(kwargs) if kwargs else None)
            if kinds.is_known(signature, first):
                return call(*args, **kwargs)
            record = recorder.begin(kinds, signature, _home_of(cls), lambda: self._record(module, args, kwargs))
            if kinds.is_closed:
                self._restore_call(cls)
            return recorder.finish(record, lambda: call(*args, **kwargs), (args, kwargs))

        return __call__

    def _describe_settings(self, module: torch.nn.Module) -> Any:
        """Describe what tells modules of one class apart: the flags, names and sizes that they hold."""
        if len(self._settings) >= MAX_MODULES:
            self._settings.clear()
        attributes = ((name, value) for name, value in vars(module).items() if name != "training")
        setting = tuple((name, value) for name, value in attributes if isinstance(value, (bool, int, str)))
        self._settings[id(module)] = weakref.ref(module), setting
        return setting

    def _record(self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Record:
        cls = type(module)
        if str(getattr(cls.forward, "__module__", "")).startswith("torch."):
            raise NeverRecordedError("its forward is PyTorch's own")
        if self._only_holds_others(module):
            raise NeverRecordedError("it holds other modules of yours, which are checked, and no parameter of its own")
        record = Record(None, _home_of(cls), TargetKind.MODULE.value, RecordedCall((), {}), cls)
        return self._recorder.copy_call(record, args, kwargs, module)

    def _only_holds_others(self, module: torch.nn.Module) -> bool:
        """Say whether a module has other modules of the user in it, and no parameter of its own."""
        inner = {type(part) for part in module.modules()} - {type(module)}
        has_parameters = any(True for _ in module.parameters(recurse=False))
        return not has_parameters and any(self._harvest.is_from_user(str(cls.__module__)) for cls in inner)


def _home_of(cls: type) -> tuple[str, str]:
    return str(cls.__module__), cls.__qualname__


def _list_subclasses(cls: type) -> Iterator[type]:
    """Yield the classes derived from a class, each once."""
    visited, waiting = {cls}, [cls]
    derived: type
    while waiting:
        for derived in waiting.pop().__subclasses__():
            if derived not in visited:
                visited.add(derived)
                waiting.append(derived)
                yield derived
