"""Records of calls as text to paste: cases above the targets, and targets of a configuration."""

from __future__ import annotations

import inspect
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gradcheck.backends.flat_call import flatten_call
from gradcheck.backends.recorded_layer import RecordedCall
from gradcheck.errors import InputError
from gradcheck.harvest.record import MAIN_MODULES, OPERATOR, Harvest, Record
from gradcheck.options import DIFFERENTIABLE_DTYPES
from gradcheck.run.config import draft as configuration
from gradcheck.run.config.read import PLACEHOLDER
from gradcheck.targets.case import case, locate_source
from gradcheck.targets.framework import TargetKind, classify_target, is_from_framework
from gradcheck.targets.signature import read_parameters, resolve_inputs, takes_context
from gradcheck.targets.specs import spec as specs

RESERVED = frozenset(inspect.signature(case).parameters)  # arguments of @case, which cannot be names of inputs there
TELLING_SIZE = 8  # entries that are all positive by chance in 1 of 256 arrays
PLAIN = (bool, int, float, complex, str, type(None))
INSIDE_FUNCTION = "{} is defined inside of a function and cannot be imported: move it to the top level of a module"
IN_PROGRAM = '{0} runs when {1} is imported: put the program below `if __name__ == "__main__":`, or move {1} to another file'
NOT_KEPT = "add to init what differs from the default, as the module does not keep it: {}"
UNDER_VMAP = "called under vmap: leave out the first axis of each input that is mapped"
NOWHERE = "{} cannot be imported by this name: give it one at the top level of a module"


@dataclass(frozen=True)
class DraftedCase:
    """A recorded call as text.

    Attributes:
        target: the text that names the target, such as 'layers:Swish'.
        kind: what it is.
        place: where it is written, such as 'layers.py, line 12'; '' if Python does not know.
        inputs: the spec or value of each input as text, by parameter.
        init: constructor arguments as text, by name; None: it is not constructed.
        wrt: paths of the inputs that required a gradient, if others did not; (): all did, or none.
        trouble: why the target cannot be imported as it is; '' if it can.
        note: what to change in the inputs; '' if nothing.
        remark: what the constructor arguments may lack; '' if nothing.
    """

    target: str
    kind: str
    place: str
    inputs: dict[str, str]
    init: dict[str, str] | None = None
    wrt: tuple[str, ...] = ()
    trouble: str = ""
    note: str = ""
    remark: str = ""


def draft_records(harvest: Harvest) -> list[DraftedCase]:
    """Draft a case for each record."""
    harvest.complete()
    return list(map(_draft_record, harvest.records))


def _draft_record(record: Record) -> DraftedCase:
    target, trouble = choose_target_text(record)
    init, remark = _draft_init(record.target) if record.kind == TargetKind.MODULE.value else (None, "")
    function = record.source if record.kind == OPERATOR else record.target
    return DraftedCase(
        target=target,
        kind=record.kind,
        place=_describe_place(record.source or record.target),
        inputs=_draft_inputs(function, record.call),
        init=init,
        wrt=_draft_wrt(record.call.target or function, record.call),
        trouble=trouble,
        note=UNDER_VMAP if record.call.target not in (None, record.target) else "",
        remark=remark,
    )


def choose_target_text(record: Record) -> tuple[str, str]:
    """Return the text that names a target on the command line, and why it cannot be imported by that; '' if it can."""
    module, name = record.home
    if "<locals>" in name:
        return record.name, INSIDE_FUNCTION.format(name.rpartition(".")[2])
    if module in MAIN_MODULES:
        return _choose_text_in_program(name)
    value: Any = sys.modules.get(module)
    for part in name.split("."):
        value = getattr(value, part, None)
    expected = record.source if record.kind == TargetKind.MODULE.value else record.target
    return record.name, "" if value is expected else NOWHERE.format(name)


def _choose_text_in_program(name: str) -> tuple[str, str]:
    """Choose the text of a target that the program itself defines, which was started as a file or by `python -m`."""
    main = sys.modules["__main__"]
    file, spec = getattr(main, "__file__", None), getattr(main, "__spec__", None)
    if file is None or not Path(file).is_file():
        return f"__main__:{name}", NOWHERE.format(name)
    home = shorten_path(file) if spec is None else spec.name
    has_guard = "__main__" in Path(file).read_text(encoding="utf-8", errors="replace")
    return f"{home}:{name}", "" if has_guard else IN_PROGRAM.format(home, name)


def _describe_place(source: Any) -> str:
    file, line = locate_source(source)
    return f"{shorten_path(file)}, line {line}" if file and Path(file).exists() else ""


def shorten_path(file: str) -> str:
    """Return the path of a file from the working directory; the whole path of a file elsewhere."""
    path = Path(file).resolve()
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _draft_inputs(target: Any, call: RecordedCall) -> dict[str, str]:
    """Return the text of each input, by the name of its parameter; '*0' and so on for those without a name."""
    parameters = read_parameters(target) or []
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    is_named = len(call.args) <= len(positional)
    names = [p.name for p in positional] if is_named else [f"*{k}" for k in range(len(call.args))]
    values = {**dict(zip(names, call.args, strict=False)), **call.kwargs}
    defaults = {p.name: p.default for p in parameters}
    # Without setup_context, PyTorch does not fill in the defaults, and `ctx.needs_input_grad` has an entry for each argument.
    is_bare = classify_target(target) is TargetKind.AUTOGRAD_FUNCTION and takes_context(target)
    may_omit = is_named and not is_bare
    while may_omit and values and _is_default(list(values.values())[-1], defaults.get(list(values)[-1], call)):
        values.popitem()
    return {name: format_value(value) for name, value in values.items()}


def _draft_wrt(target: Any, call: RecordedCall) -> tuple[str, ...]:
    """Return the paths of the inputs that required a gradient in the program, if others of its arrays did not."""
    try:
        flat = flatten_call(resolve_inputs(target, call.args, call.kwargs))
    except InputError:  # a decorator takes other arguments than it says
        return ()
    arrays = [(path, leaf) for path, leaf in zip(flat.paths, flat.leaves, strict=True) if _is_float_array(leaf)]
    chosen = call.wrt or tuple(path for path, leaf in arrays if getattr(leaf, "requires_grad", False))
    if not chosen or len(chosen) == len(arrays):
        return ()
    is_trained = hasattr(target, "parameters") and any(x.requires_grad for x in target.parameters())
    return (*chosen, *["params"] * is_trained)


def _is_float_array(value: Any) -> bool:
    return str(getattr(value, "dtype", "")).rpartition(".")[2] in DIFFERENTIABLE_DTYPES


def _is_default(value: Any, default: Any) -> bool:
    return isinstance(value, PLAIN) and type(value) is type(default) and value == default


def _draft_init(module: Any) -> tuple[dict[str, str], str]:
    """Return constructor arguments by name, and what is unsure about them.

    They are guessed from attributes of the same names. What does not make such a module, or is not kept, is a placeholder.
    """
    guessed, missing, remark = {}, [], ""
    parameters = [
        p for p in inspect.signature(type(module)).parameters.values() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    for parameter in parameters:
        value = getattr(module, parameter.name, inspect.Parameter.empty)
        if isinstance(value, PLAIN):
            guessed[parameter.name] = value
        elif parameter.default is parameter.empty:
            missing.append(parameter.name)
        else:
            remark = NOT_KEPT.format(parameter.name) if not remark else f"{remark}, {parameter.name}"
    defaults = {p.name: p.default for p in parameters}
    texts = {name: repr(value) for name, value in guessed.items() if not _is_default(value, defaults[name])}
    if not missing and not _makes_alike(module, guessed):
        texts = dict.fromkeys(texts or guessed, PLACEHOLDER)
    return {p.name: texts.get(p.name, PLACEHOLDER) for p in parameters if p.name in texts or p.name in missing}, remark


def _makes_alike(module: Any, arguments: dict[str, Any]) -> bool:
    """Say whether constructor arguments make a module with parameters of the same shapes, and with these attributes."""
    import torch

    try:
        with torch.random.fork_rng(devices=[]):
            made = type(module)(**arguments)
        shapes, expected = ({name: x.shape for name, x in part.state_dict().items()} for part in (made, module))
        return shapes == expected and all(_is_default(getattr(made, name), value) for name, value in arguments.items())
    except Exception:  # the user's code
        return False


def format_value(value: Any) -> str:
    """Return the text of an input: a spec for an array, a literal for a plain value, else a placeholder."""
    if isinstance(value, PLAIN):
        return repr(value)
    if type(value) in (list, tuple):
        items = ", ".join(map(format_value, value))
        return f"[{items}]" if type(value) is list else f"({items}{',' * (len(value) == 1)})"
    if type(value) is dict:
        return f"{{{', '.join(f'{key!r}: {format_value(item)}' for key, item in value.items())}}}"
    spec = _draft_spec(value)
    return PLACEHOLDER if spec is None else repr(spec)


def _draft_spec(value: Any) -> specs.Spec | None:
    """Return a spec that draws arrays like one: of its dtype, shape, and layout, with its sign or range."""
    if not hasattr(value, "dtype") or not hasattr(value, "shape"):
        return None
    dtype, shape = str(value.dtype).rpartition(".")[2], tuple(map(int, value.shape))
    if dtype not in specs.DTYPES:
        return None
    numbers, layout = _to_numpy(value), _describe_layout(value)
    if dtype == "bool":
        return specs.boolean(*shape, layout=layout)
    if numbers.dtype.kind in "iu":
        low, high = (int(numbers.min()), int(numbers.max())) if numbers.size else (0, 0)
        return specs.integers(low, high + 1, *shape, dtype=None if dtype == "int64" else dtype, layout=layout)
    is_positive = numbers.dtype.kind == "f" and numbers.size >= TELLING_SIZE and bool(np.all(numbers > 0))
    if is_positive and np.all(numbers < 1):
        return specs.uniform(*shape, low=0.0, high=1.0, dtype=dtype, layout=layout)
    return (specs.positive if is_positive else specs.normal)(*shape, dtype=dtype, layout=layout)


def _to_numpy(value: Any) -> Any:
    if is_from_framework(value, "torch"):
        from gradcheck.backends.torch.tensors import to_numpy

        return to_numpy(value.detach())
    return np.asarray(value)


def _describe_layout(value: Any) -> str:
    """Return the layout of a spec that an array has: 'contiguous' if it has none of the others."""
    if not is_from_framework(value, "torch") or value.dim() == 0 or value.is_contiguous():
        return "contiguous"
    if value.permute(*reversed(range(value.dim()))).is_contiguous():
        return "transposed"
    if value.stride(0) == 0 and value[0].is_contiguous():
        return "expanded"
    return "strided" if value.stride(-1) == 2 else "contiguous"


def format_cases(drafts: list[DraftedCase]) -> str:
    """Return a `@case` for each draft, with the place where it belongs."""
    if not drafts:
        return ""
    texts = [text for draft in drafts for text in draft.inputs.values()]
    kinds = sorted(word for word in specs.CONSTRUCTORS if any(f"{word}(" in text for text in texts))
    lines = [
        "# Paste each @case above the target that it names; `gradcheck run` of its module then checks it.",
        f"from gradcheck import {', '.join(['case', *kinds])}",
    ]
    for target in dict.fromkeys(draft.target for draft in drafts):
        of_target = [draft for draft in drafts if draft.target == target]
        first = of_target[0]
        place = f" ({first.place})" if first.place else ""
        lines += ["", f"# {target}{place}", *([f"# {first.trouble}"] if first.trouble else [])]
        lines += dict.fromkeys(map(_format_case, of_target))
    return "\n".join(lines) + "\n"


def _format_case(draft: DraftedCase) -> str:
    if draft.kind == OPERATOR:
        return "# An operator cannot carry a case: check it by a configuration."
    inputs = [text for name, text in draft.inputs.items() if name.startswith("*")]
    inputs += [f"{name}={text}" for name, text in draft.inputs.items() if not name.startswith("*") and name not in RESERVED]
    reserved = [f"{name!r}: {text}" for name, text in draft.inputs.items() if name in RESERVED]
    if reserved:
        inputs.append(f"inputs={{{', '.join(reserved)}}}")
    if draft.wrt:
        inputs.append(f"wrt={(draft.wrt[0] if len(draft.wrt) == 1 else tuple(draft.wrt))!r}")
    if draft.init:
        inputs.append(f"init={{{', '.join(f'{name!r}: {text}' for name, text in draft.init.items())}}}")
    text = f"@case({', '.join(inputs)})"
    has_placeholder = any(PLACEHOLDER in value for value in (*draft.inputs.values(), *(draft.init or {}).values()))
    remarks = [f"fill in each {PLACEHOLDER}"] * has_placeholder + [text for text in (draft.note, draft.remark) if text]
    return f"{text}  # {'; '.join(remarks)}" if remarks else text


def format_configuration(drafts: list[DraftedCase], prefix: str = "tool.gradcheck.") -> str:
    """Return a configuration with the first call of each target that can be imported and whose inputs have names."""
    usable = [
        draft
        for draft in drafts
        if not draft.trouble and not draft.note and not any(name.startswith("*") for name in draft.inputs)
    ]
    firsts = {draft.target: draft for draft in reversed(usable)}
    targets = [
        configuration.DraftTarget(d.target, _describe(d), d.init, d.inputs, tuple(d.wrt))
        for d in usable
        if firsts[d.target] is d
    ]
    return configuration.to_toml(targets, [], prefix) if targets else ""


def _describe(draft: DraftedCase) -> str:
    return f"{draft.kind}; {draft.remark}" if draft.remark else draft.kind
