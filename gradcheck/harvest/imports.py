"""Actions that run once a package is loaded, so that nothing is loaded for their sake."""

from __future__ import annotations

import sys
from contextlib import suppress
from importlib.abc import MetaPathFinder
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType


class LoadedPackages(MetaPathFinder):
    """Runs an action for each of some packages: at once if it is loaded, else when the program has imported it."""

    def __init__(self, actions: dict[str, Callable[[], None]]) -> None:
        self._waiting = dict(actions)

    def install(self) -> None:
        """Run what can be run, and wait for the rest."""
        for name in [name for name in self._waiting if hasattr(sys.modules.get(name), "__spec__")]:
            self._waiting.pop(name)()
        if self._waiting:
            sys.meta_path.insert(0, self)

    def uninstall(self) -> None:
        """Wait no longer."""
        self._waiting.clear()
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Find a package as Python would, with the action after its code."""
        if name not in self._waiting:
            return None
        finders = (finder for finder in sys.meta_path if finder is not self and hasattr(finder, "find_spec"))
        spec = next((spec for finder in finders if (spec := finder.find_spec(name, path, target)) is not None), None)
        if spec is not None and spec.loader is not None:
            with suppress(AttributeError):  # a loader that takes no attributes
                self._act_after(spec.loader, name)
        return spec

    def _act_after(self, loader: Any, name: str) -> None:
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            with suppress(AttributeError):
                del loader.exec_module  # what the module refers to is as ever
            execute(module)
            action = self._waiting.pop(name, None)
            if action is not None:
                action()

        loader.exec_module = exec_module
