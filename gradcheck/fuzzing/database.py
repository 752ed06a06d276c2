"""The database of failures: the user's Hypothesis database, by default `.hypothesis`, with a separate part for each case."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis.database import ExampleDatabase


class NamespacedDatabase(ExampleDatabase):
    """A part of another database, with its own keys."""

    def __init__(self, parent: ExampleDatabase, name: str) -> None:
        super().__init__()
        self._parent, self._name = parent, name.encode()

    def save(self, key: bytes, value: bytes) -> None:
        """Save a value."""
        self._parent.save(self._parent_key(key), value)

    def fetch(self, key: bytes) -> Iterable[bytes]:
        """Return all values of a key."""
        return self._parent.fetch(self._parent_key(key))

    def delete(self, key: bytes, value: bytes) -> None:
        """Delete a value."""
        self._parent.delete(self._parent_key(key), value)

    def _parent_key(self, key: bytes) -> bytes:
        return b"\0".join((b"gradcheck", self._name, key))
