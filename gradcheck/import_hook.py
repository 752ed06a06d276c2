"""A function that runs as soon as a module has been imported: at once if it is already, else when the program imports it."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable, Sequence
from types import ModuleType

Notify = Callable[[ModuleType], None]


class ImportHook(importlib.abc.MetaPathFinder):
    """Calls a function with each imported module of some names; it imports none itself."""

    def __init__(self, names: Sequence[str], notify: Notify) -> None:
        self._names, self._notify = set(names), notify

    def install(self) -> None:
        """Announce the modules that are imported already, and look at every import from here on."""
        sys.meta_path.insert(0, self)
        for name in self._names:
            if hasattr(sys.modules.get(name), "__spec__"):
                self._notify(sys.modules[name])

    def remove(self) -> None:
        """Look at no import any more."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Find a module of interest with the other finders, and have its loader notify us."""
        if fullname not in self._names:
            return None
        others = [finder for finder in sys.meta_path if finder is not self and hasattr(finder, "find_spec")]
        spec = next((spec for finder in others if (spec := finder.find_spec(fullname, path, target))), None)
        if spec is not None and spec.loader is not None and hasattr(spec.loader, "exec_module"):
            spec.loader = _NotifyingLoader(spec.loader, self._notify)
        return spec


class _NotifyingLoader(importlib.abc.Loader):
    """Loads a module with its own loader, to which the module then refers."""

    def __init__(self, loader: importlib.abc.Loader, notify: Notify) -> None:
        self._loader, self._notify = loader, notify

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        """Create the module."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Execute the module, then notify."""
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._notify(module)
