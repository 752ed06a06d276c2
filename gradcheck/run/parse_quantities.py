"""Parse quantities that users write as text: sizes of dimensions, durations, amounts of memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gradcheck.errors import UsageError


def parse_sizes(texts: Sequence[str]) -> dict[str, tuple[int, int] | list[int]]:
    """Parse sizes of named dimensions: `batch=3` or `batch=1..4` into (low, high), both included, `batch=1,8` into [1, 8].

    Raises:
        UsageError: if a text has another form, or a name is there twice.
    """
    sizes: dict[str, tuple[int, int] | list[int]] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if name in sizes:
            raise UsageError(f"--dim {text}: {name} is given twice; for several sizes write --dim {name}=1,8,64")
        if "," in value and ".." in value:
            raise UsageError(f"--dim {text}: a list or a range, not both: --dim {name}=1,8,16 or --dim {name}=1..16")
        try:
            sizes[name] = [int(size) for size in value.split(",")] if "," in value else _parse_range(value)
        except ValueError:
            forms = "name=size, name=low..high or name=size,size"
            raise UsageError(f"--dim {text}: expected {forms}, as in --dim batch=1..4 or --dim batch=1,8,64") from None
        if not name.isidentifier():
            raise UsageError(f"--dim {text}: expected a name before '=', as in --dim batch=1..4")
    return sizes


def _parse_range(text: str) -> tuple[int, int]:
    low, dots, high = text.partition("..")
    return int(low), int(high if dots else low)


def parse_seeds(text: str) -> int | list[int]:
    """Parse a seed, or several joined by commas.

    Raises:
        UsageError: if one of them is no integer.
    """
    try:
        return [int(seed) for seed in text.split(",")] if "," in text else int(text)
    except ValueError:
        raise UsageError(f"--seed {text}: expected an integer, or several with commas, as in --seed 0,1,2") from None


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
