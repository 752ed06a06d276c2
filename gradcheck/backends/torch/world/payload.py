"""A case on its way to the ranks: its target by reference, with the files of the modules that hold it."""

from __future__ import annotations

import importlib.util
import io
import multiprocessing.spawn
import pickle
import sys
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from gradcheck.errors import InputError
from gradcheck.options import Options
from gradcheck.tracebacks import summarise_error

if TYPE_CHECKING:
    from gradcheck.targets.case import Case

MAIN = "__main__"


@dataclass(frozen=True)
class Payload:
    """A case and its options as bytes.

    Attributes:
        content: the case and the options.
        files: the file of each module that the content refers to; '' for one without a file.
    """

    content: bytes
    files: dict[str, str]


@dataclass
class _Pickler:
    """Pickles by reference, and collects the files of the modules."""

    files: dict[str, str] = field(default_factory=dict)

    def dump(self, value: Any) -> bytes:
        files, buffer = self.files, io.BytesIO()

        class Pickler(pickle.Pickler):
            def reducer_override(self, obj: Any) -> Any:
                name = getattr(obj, "__module__", None)
                if callable(obj) and isinstance(name, str):
                    files[name] = getattr(sys.modules.get(name), "__file__", None) or ""
                return NotImplemented

        Pickler(buffer, pickle.HIGHEST_PROTOCOL).dump(value)
        return buffer.getvalue()


def pack(case: Case, options: Options) -> Payload:
    """Pack a case for the ranks.

    Raises:
        InputError: if another process cannot import its target.
    """
    plain = replace(case, claims={}, reference=None, options={}, upstream={}, sweep={}, expect="pass", intents=())
    pickler = _Pickler()
    name = case.target or case.name
    advice = "define it at the top level of a module, and give it as module:name or by name"
    try:
        content = pickler.dump((plain, replace(options, optimizer=None, partners=())))
    except Exception as error:
        raise InputError(
            f"world={options.world} runs {name} in other processes, which cannot import it ({summarise_error(error, 160)}):"
            f" {advice}"
        ) from None
    if pickler.files.get(MAIN) == "":
        raise InputError(f"world={options.world} runs {name} in other processes, and it is defined in no file: {advice}")
    return Payload(content, pickler.files)


class _Unpickler(pickle.Unpickler):
    """Finds modules by their files too, as those that `path/file.py` names are not importable by name."""

    def __init__(self, payload: Payload) -> None:
        super().__init__(io.BytesIO(payload.content))
        self.files = payload.files

    def find_class(self, module: str, name: str) -> Any:
        if module not in sys.modules and self.files.get(module):
            _load(module, self.files[module])
        return super().find_class(module, name)


def unpack(payload: Payload) -> tuple[Case, Options]:
    """Return the case and its options; this imports the target."""
    if payload.files.get(MAIN):
        multiprocessing.spawn.import_main_path(payload.files[MAIN])
    case, options = _Unpickler(payload).load()
    return case, options


def _load(name: str, file: str) -> None:
    """Load a module by its name, or from its file if it has no place where Python would find it."""
    try:
        importlib.import_module(name)
        return
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
