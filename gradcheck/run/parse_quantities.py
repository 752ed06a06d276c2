"""Parse quantities that users write as text: sizes of dimensions, durations, amounts of memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gradcheck.errors import UsageError


def parse_sizes(texts: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Parse sizes of named dimensions, such as `batch=3` or `batch=1..4`, into (low, high), both included.

    Raises:
        UsageError: if a text has another form.
    """
    sizes = {}
    for text in texts:
        name, _, value = text.partition("=")
        low, dots, high = value.partition("..")
        try:
            sizes[name] = (int(low), int(high if dots else low))
        except ValueError:
            raise UsageError(f"--dim {text}: expected name=size or name=low..high, as in --dim batch=1..4") from None
        if not name.isidentifier():
            raise UsageError(f"--dim {text}: expected a name before '=', as in --dim batch=1..4")
    return sizes


def parse_seconds(text: str) -> float:
    """Parse a duration in seconds: `30`, `30s`, `5min`, `1h`.

    Raises:
        UsageError: if the text is no duration.
    """
    return _parse_quantity(
        text, {"": 1.0, "s": 1.0, "ms": 1e-3, "min": 60.0, "m": 60.0, "h": 3600.0}, "a duration such as 30s or 5min"
    )


def parse_bytes(text: str) -> float:
    """Parse an amount of memory in bytes: `500MB`, `4GiB`.

    Raises:
        UsageError: if the text is no amount of memory.
    """
    decimal = {"B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9}
    return _parse_quantity(
        text, {"": 1.0, **decimal, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30}, "an amount such as 500MB or 4GiB"
    )


def _parse_quantity(text: str, units: Mapping[str, float], expected: str) -> float:
    """Parse a positive number with one of some units.

    Raises:
        UsageError: if the text is none; the message says what was expected.
    """
    number = text.strip().rstrip("".join({*"".join(units)}))
    unit = text.strip()[len(number) :]
    try:
        value = float(number) * units[unit.strip()]
    except (ValueError, KeyError):
        raise UsageError(f"{text!r}: expected {expected}") from None
    if not 0 < value < float("inf"):
        raise UsageError(f"{text!r}: expected {expected}, more than 0")
    return value
