"""Reports on disk: a file is written completely or not at all."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gradcheck.errors import UsageError


def write(path: str, text: str) -> None:
    """Write a report to a temporary file in the same folder and rename it; write directly to a device or a pipe.

    Raises:
        UsageError: if the folder does not exist or cannot be written to, or the disk is full.
    """
    target = Path(path)
    try:
        if target.exists() and not target.is_file():  # A device such as /dev/stdout must not be replaced by a file.
            target.write_text(text, encoding="utf-8")
        else:
            _write_atomically(target.resolve(), text)
    except OSError as error:
        raise _make_usage_error(path, error) from None


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep out other processes that want to change the same file, where the system can lock its folder."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    folder = os.open(path.resolve().parent, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems have no locks
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def ensure_writable(path: str) -> None:
    """Check that a report can be written, before a run that may take long.

    Raises:
        UsageError: if it cannot be written.
    """
    target = Path(path)
    try:
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if target.is_file() or not target.exists():
            tempfile.TemporaryFile(dir=target.resolve().parent).close()
    except OSError as error:
        raise _make_usage_error(path, error) from None


def _make_usage_error(path: str, error: OSError) -> UsageError:
    return UsageError(
        f"cannot write {path}: {error.strerror or error}; give a path in a folder that exists and can be written to"
    )


def _write_atomically(target: Path, text: str) -> None:
    handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).chmod(0o666 & ~_read_umask())
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _read_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
