"""Reports on disk: written whole or not at all."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

from gradcheck.errors import UsageError


def write(path: str, text: str) -> None:
    """Write a report to a temporary file beside its place, and rename it there; to a device or a pipe, directly.

    Raises:
        UsageError: where the folder does not exist or cannot be written to, or the disk is full.
    """
    place = Path(path)
    try:
        if place.exists() and not place.is_file():  # /dev/stdout, say, is not to be replaced by a file of that name
            place.write_text(text, encoding="utf-8")
        else:
            _replace(place.resolve(), text)
    except OSError as error:
        raise _refused(path, error) from None


def ready(path: str) -> None:
    """Try whether a report can be written, before a run that may take long.

    Raises:
        UsageError: where it cannot.
    """
    place = Path(path)
    try:
        if place.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if place.is_file() or not place.exists():
            tempfile.TemporaryFile(dir=place.resolve().parent).close()
    except OSError as error:
        raise _refused(path, error) from None


def _refused(path: str, error: OSError) -> UsageError:
    return UsageError(
        f"cannot write {path}: {error.strerror or error}; give a path in a folder that exists and can be written to"
    )


def _replace(place: Path, text: str) -> None:
    handle, temporary = tempfile.mkstemp(prefix=f".{place.name}.", dir=place.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(place)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
