"""The JSON Schema of a run, made from the data classes: `python -m gradcheck.report.schema > gradcheck/report/run.schema.json`.

Within a schema version keys are added, none renamed or removed, so that a reader must pass over those it does not know; and a
key that has a default is not required, so that older files of the version fit.
"""

from __future__ import annotations

import inspect
import json
import re
import types
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from typing import Any, Union, get_args, get_origin, get_type_hints

from gradcheck.results import SCHEMA_VERSION, RunResult, Verdict

NUMBER = {
    "description": "A number; one that is not finite is a string.",
    "anyOf": [{"type": "number"}, {"enum": ["nan", "inf", "-inf"]}],
}
PLAIN = {str: {"type": "string"}, int: {"type": "integer"}, bool: {"type": "boolean"}, type(None): {"type": "null"}, Any: {}}


def schema() -> dict[str, Any]:
    """Return the schema of what `--json` writes."""
    definitions: dict[str, Any] = {"number": NUMBER}
    run = _object(RunResult, definitions)
    run["properties"]["schema_version"] = {"const": SCHEMA_VERSION}
    run["properties"]["verdict"] = {"enum": [verdict.value for verdict in Verdict]}
    run["properties"]["counts"] = {"type": "object", "additionalProperties": {"type": "integer", "minimum": 0}}
    run["required"] += ["schema_version", "verdict", "counts"]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"A run of gradcheck, schema version {SCHEMA_VERSION}",
        **run,
        "$defs": dict(sorted(definitions.items())),
    }


def _object(cls: type[Any], definitions: dict[str, Any]) -> dict[str, Any]:
    hints, told = get_type_hints(cls), _described(cls)
    about = {name: {"description": text} for name, text in told.items()}
    return {
        "description": (inspect.getdoc(cls) or "").partition("\n")[0],
        "type": "object",
        "properties": {f.name: {**about.get(f.name, {}), **_type(hints[f.name], definitions)} for f in fields(cls)},
        "required": [f.name for f in fields(cls) if _needed(f)],
    }


def _needed(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _type(hint: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    if hint in PLAIN:
        return dict(PLAIN[hint])
    if hint is float:
        return {"$ref": "#/$defs/number"}
    if isinstance(hint, type) and issubclass(hint, Enum):
        definitions[hint.__name__] = {"enum": [member.value for member in hint]}
        return {"$ref": f"#/$defs/{hint.__name__}"}
    if is_dataclass(hint) and isinstance(hint, type):
        if hint.__name__ not in definitions:
            definitions[hint.__name__] = {}  # one that holds others of its kind would never end
            definitions[hint.__name__] = _object(hint, definitions)
        return {"$ref": f"#/$defs/{hint.__name__}"}
    return _composed(get_origin(hint), get_args(hint), definitions)


def _composed(origin: Any, inside: tuple[Any, ...], definitions: dict[str, Any]) -> dict[str, Any]:
    """The type of a union, a mapping or a tuple."""
    if origin in (Union, types.UnionType):
        return {"anyOf": [_type(one, definitions) for one in inside]}
    if origin is dict:
        return {"type": "object", "additionalProperties": _type(inside[1], definitions)}
    if inside[-1] is Ellipsis:
        return {"type": "array", "items": _type(inside[0], definitions)}
    of_each = [_type(one, definitions) for one in inside]
    return {"type": "array", "prefixItems": of_each, "minItems": len(inside), "maxItems": len(inside)}


def _described(cls: type[Any]) -> dict[str, str]:
    """What the docstring says of each attribute."""
    _, _, listed = (inspect.getdoc(cls) or "").partition("Attributes:\n")
    found: dict[str, str] = {}
    for names, text in re.findall(r"^    (\w[\w, ]*): (.*(?:\n {8}.*)*)", listed, flags=re.M):
        found |= dict.fromkeys(names.split(", "), " ".join(text.split()))
    return found


if __name__ == "__main__":
    print(json.dumps(schema(), indent=1))  # noqa: T201 - this is what the command is for
