"""The checkers of a process, intercepted from `start` to `stop`, whether they are imported already or later."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from gradcheck import compat
from gradcheck.compat.checker import Checker
from gradcheck.import_hook import ImportHook
from gradcheck.takeover.patch import Patch, find_function

INTERCEPTED, NOT_IMPORTED, NOT_INSTALLED = "intercepted", "not imported", "not installed"
Receive = Callable[[Checker, Callable[..., Any], tuple[Any, ...], Mapping[str, Any]], Any]


def list_checkers() -> tuple[Checker, ...]:
    """Return the checkers that the modules of `gradcheck.compat` declare; this imports none of them."""
    names = [module.name for module in pkgutil.iter_modules(compat.__path__)]
    modules = [importlib.import_module(f"{compat.__name__}.{name}") for name in names]
    return tuple(checker for module in modules for checker in getattr(module, "CHECKERS", ()))


class Interception:
    """Sends the calls of some checkers to a function."""

    def __init__(self, checkers: tuple[Checker, ...], receive: Receive) -> None:
        self._checkers, self._receive = checkers, receive
        self._patches: list[Patch] = []
        self._hook = ImportHook([checker.module for checker in checkers], self._intercept_module)
        self.states = dict.fromkeys((checker.name for checker in checkers), NOT_IMPORTED)

    def start(self) -> None:
        """Intercept the checkers of modules that are imported, and wait for the others."""
        self._hook.install()

    def stop(self) -> None:
        """Give every checker its code back."""
        self._hook.remove()
        while self._patches:
            self._patches.pop().undo()

    def describe(self) -> dict[str, str]:
        """Return the state of each checker by name: intercepted, or why it was not."""
        states = dict(self.states)
        for checker in self._checkers:
            if states[checker.name] == NOT_IMPORTED and not _is_installed(checker.module):
                states[checker.name] = NOT_INSTALLED
        return states

    def _intercept_module(self, module: ModuleType) -> None:
        for checker in self._checkers:
            if checker.module == module.__name__:
                self.states[checker.name] = self._intercept(checker, module)

    def _intercept(self, checker: Checker, module: ModuleType) -> str:
        """Intercept a checker; return its state."""
        try:
            value = functools.reduce(getattr, checker.attribute.split("."), module)
        except AttributeError:
            return f"not intercepted: {checker.module} has no {checker.attribute}"
        function = find_function(value, checker.attribute.rpartition(".")[2], checker.module)
        if function is None:
            return f"not intercepted: {checker.module}.{checker.attribute} is no Python function"
        if not any(patch.function is function for patch in self._patches):  # a module may be reloaded
            self._patches.append(Patch(function, functools.partial(self._receive, checker)))
        return INTERCEPTED


def _is_installed(module: str) -> bool:
    package = module.partition(".")[0]
    return package in sys.modules or importlib.util.find_spec(package) is not None
