"""Where failures are kept: in the user's Hypothesis database, `.hypothesis` where they said nothing, each case apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis.database import ExampleDatabase

if TYPE_CHECKING:
    from collections.abc import Iterable


class Apart(ExampleDatabase):
    """A part of another database."""

    def __init__(self, whole: ExampleDatabase, name: str) -> None:
        super().__init__()
        self._whole, self._name = whole, name.encode()

    def save(self, key: bytes, value: bytes) -> None:
        """Keep a value."""
        self._whole.save(self._own(key), value)

    def fetch(self, key: bytes) -> Iterable[bytes]:
        """All values of a key."""
        return self._whole.fetch(self._own(key))

    def delete(self, key: bytes, value: bytes) -> None:
        """Forget a value."""
        self._whole.delete(self._own(key), value)

    def _own(self, key: bytes) -> bytes:
        return b"\0".join((b"gradcheck", self._name, key))
