"""Actions that run once a package is loaded, so that nothing is loaded for their sake."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType

from gradcheck.import_hook import ImportHook


class LoadedPackages:
    """Runs an action for each of some packages: at once if it is loaded, else when the program has imported it."""

    def __init__(self, actions: dict[str, Callable[[], None]]) -> None:
        self._waiting = dict(actions)
        self._hook = ImportHook(tuple(actions), self._act)

    def install(self) -> None:
        """Run what can be run, and wait for the rest."""
        for name in [name for name in self._waiting if hasattr(sys.modules.get(name), "__spec__")]:
            self._waiting.pop(name)()
        if self._waiting:
            self._hook.install()

    def uninstall(self) -> None:
        """Wait no longer."""
        self._waiting.clear()
        self._hook.remove()

    def _act(self, module: ModuleType) -> None:
        action = self._waiting.pop(module.__name__, None)
        if action is not None:
            action()
