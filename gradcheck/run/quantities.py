"""TODO: describe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gradcheck.errors import UsageError


def dims(texts: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Read `batch=3` and `batch=1..4`.

    Raises:
        UsageError: where a text is neither.
    """
    found = {}
    for text in texts:
        name, _, value = text.partition("=")
        low, dots, high = value.partition("..")
        try:
            found[name] = (int(low), int(high if dots else low))
        except ValueError:
            raise UsageError(f"--dim {text}: expected name=size or name=low..high, as in --dim batch=1..4") from None
        if not name.isidentifier():
            raise UsageError(f"--dim {text}: expected a name before '=', as in --dim batch=1..4")
    return found


def seconds(text: str) -> float:
    """Read a duration: `30`, `30s`, `5min`, `1h`.

    Raises:
        UsageError: where it is none.
    """
    return _quantity(
        text, {"": 1.0, "s": 1.0, "ms": 1e-3, "min": 60.0, "m": 60.0, "h": 3600.0}, "a duration such as 30s or 5min"
    )


def bytes_of(text: str) -> float:
    """Read an amount of memory: `500MB`, `4GiB`.

    Raises:
        UsageError: where it is none.
    """
    decimal = {"B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9}
    return _quantity(
        text, {"": 1.0, **decimal, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30}, "an amount such as 500MB or 4GiB"
    )


def _quantity(text: str, units: Mapping[str, float], expected: str) -> float:
    number = text.strip().rstrip("".join({*"".join(units)}))
    unit = text.strip()[len(number) :]
    try:
        value = float(number) * units[unit.strip()]
    except (ValueError, KeyError):
        raise UsageError(f"{text!r}: expected {expected}") from None
    if not 0 < value < float("inf"):
        raise UsageError(f"{text!r}: expected {expected}, more than 0")
    return value
