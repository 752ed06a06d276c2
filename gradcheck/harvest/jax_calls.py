"""Interception of the calls of custom rules in a running JAX program."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradcheck.harvest.record import Harvest


class JaxCalls:
    """Intercepts calls from `install` to `uninstall`."""

    def __init__(self, harvest: Harvest) -> None:
        self._harvest = harvest

    def install(self) -> None:
        """Begin to intercept."""

    def uninstall(self) -> None:
        """Put back what was replaced."""
