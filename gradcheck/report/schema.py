"""The JSON Schema of a run, made from the data classes: `python -m gradcheck.report.schema > gradcheck/report/run.schema.json`.

Within a schema version, keys may be added but are never renamed or removed. A reader must therefore ignore unknown keys. A key
with a default is not required, so that older files of the version are valid.
"""

from __future__ import annotations

import inspect
import json
import re
import types
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from typing import Any, Union, get_args, get_origin, get_type_hints

from gradcheck.results import SCHEMA_VERSION, RunResult, Verdict

NUMBER_SCHEMA = {
    "description": "A number; a string if it is not finite.",
    "anyOf": [{"type": "number"}, {"enum": ["nan", "inf", "-inf"]}],
}
SCALAR_SCHEMAS = {
    str: {"type": "string"},
    int: {"type": "integer"},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
    Any: {},
}


def build_schema() -> dict[str, Any]:
    """Return the schema of what `--json` writes."""
    definitions: dict[str, Any] = {"number": NUMBER_SCHEMA}
    run = _object_schema(RunResult, definitions)
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


def _object_schema(cls: type[Any], definitions: dict[str, Any]) -> dict[str, Any]:
    hints = get_type_hints(cls)
    descriptions = {name: {"description": text} for name, text in _read_attribute_docs(cls).items()}
    return {
        "description": (inspect.getdoc(cls) or "").partition("\n")[0],
        "type": "object",
        "properties": {
            f.name: {**descriptions.get(f.name, {}), **_type_schema(hints[f.name], definitions)} for f in fields(cls)
        },
        "required": [f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING],
    }


def _type_schema(hint: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    if hint in SCALAR_SCHEMAS:
        return dict(SCALAR_SCHEMAS[hint])
    if hint is float:
        return {"$ref": "#/$defs/number"}
    if isinstance(hint, type) and issubclass(hint, Enum):
        definitions[hint.__name__] = {"enum": [member.value for member in hint]}
        return {"$ref": f"#/$defs/{hint.__name__}"}
    if is_dataclass(hint) and isinstance(hint, type):
        if hint.__name__ not in definitions:
            definitions[hint.__name__] = {}  # entered first, so that a class that contains itself ends the recursion
            definitions[hint.__name__] = _object_schema(hint, definitions)
        return {"$ref": f"#/$defs/{hint.__name__}"}
    return _composite_schema(get_origin(hint), get_args(hint), definitions)


def _composite_schema(origin: Any, arguments: tuple[Any, ...], definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a union, a mapping or a tuple."""
    if origin in (Union, types.UnionType):
        return {"anyOf": [_type_schema(hint, definitions) for hint in arguments]}
    if origin is dict:
        return {"type": "object", "additionalProperties": _type_schema(arguments[1], definitions)}
    if arguments[-1] is Ellipsis:
        return {"type": "array", "items": _type_schema(arguments[0], definitions)}
    items = [_type_schema(hint, definitions) for hint in arguments]
    return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}


def _read_attribute_docs(cls: type[Any]) -> dict[str, str]:
    """Return what the docstring says about each attribute."""
    _, _, section = (inspect.getdoc(cls) or "").partition("Attributes:\n")
    descriptions: dict[str, str] = {}
    for names, text in re.findall(r"^    (\w[\w, ]*): (.*(?:\n {8}.*)*)", section, flags=re.M):
        descriptions |= dict.fromkeys(names.split(", "), " ".join(text.split()))
    return descriptions


if __name__ == "__main__":
    print(json.dumps(build_schema(), indent=1))  # noqa: T201 - the command prints the schema
