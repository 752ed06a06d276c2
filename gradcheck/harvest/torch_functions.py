"""Interception of the calls of autograd.Functions and registered operators in a running PyTorch program.

PyTorch's own `Function.apply` ends in `super().apply`, which finds what is put into the class between: so calls through an
`apply` that the program holds already are seen too, and `Function.apply` stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch._library.custom_ops import OPDEFS
from torch.autograd.function import _SingleLevelFunction

from gradcheck.backends.recorded_layer import RecordedCall
from gradcheck.backends.torch.graph import is_custom_operator
from gradcheck.harvest.record import OPERATOR, Harvest, Record
from gradcheck.harvest.torch_copies import describe
from gradcheck.harvest.torch_recorder import Kinds, TorchRecorder
from gradcheck.targets.framework import TargetKind

NEW = Kinds()  # stands for a class that is met for the first time


class FunctionCalls:
    """Intercepts calls from `install` to `uninstall`, and records the first of each kind."""

    def __init__(self, harvest: Harvest, recorder: TorchRecorder) -> None:
        self._harvest = harvest
        self._recorder = recorder
        self._kinds: dict[type, Kinds | None] = {}  # None: no call of the class is recorded, or no further one
        self._before: Any = None
        self._replacement: Any = None

    def install(self) -> None:
        """Begin to intercept."""
        self._before = vars(_SingleLevelFunction).get("apply")
        self._replacement = self._make_apply(self._before)
        _SingleLevelFunction.apply = self._replacement  # type: ignore[attr-defined]

    def uninstall(self) -> None:
        """Put back what was replaced. If another tool has replaced it since, ours below does nothing any more."""
        self._recorder.remove_hooks()
        for cls in self._kinds:
            self._kinds[cls] = None
        if vars(_SingleLevelFunction).get("apply") is not self._replacement:
            return
        if self._before is None:
            del _SingleLevelFunction.apply  # type: ignore[attr-defined]
        else:
            _SingleLevelFunction.apply = self._before  # type: ignore[attr-defined]

    def _make_apply(self, before: Any) -> Any:
        kinds_of, get_kinds, open_calls = self._kinds.get, self._get_kinds, self._recorder.open
        base = (before or vars(torch._C._FunctionBase)["apply"]).__get__
        is_grad_enabled, get_tracing_state, tensor = torch.is_grad_enabled, torch._C._get_tracing_state, torch.Tensor

        def apply(cls: Any, *args: Any, **kwargs: Any) -> Any:
            if open_calls:
                self._recorder.note_part(home_of(cls))
            kinds = kinds_of(cls, NEW)
            if kinds is NEW:
                kinds = get_kinds(cls)
            if kinds is None or get_tracing_state() is not None:  # a tracer notes lines and names of this function
                return base(None, cls)(*args, **kwargs)
            first = args[0] if args else None
            if kinds.skip and type(first) is tensor and first.numel() == kinds.entries:
                kinds.skip -= 1
                return base(None, cls)(*args, **kwargs)
            if not is_grad_enabled():
                return base(None, cls)(*args, **kwargs)
            signature = tuple([describe(x) for x in args])
            if kinds.is_known(signature, first):
                return base(None, cls)(*args, **kwargs)
            record = self._recorder.begin(kinds, signature, home_of(cls), lambda: self._record(cls, args, kwargs))
            if kinds.is_closed:
                self._kinds[cls] = None
            return self._recorder.finish(record, lambda: base(None, cls)(*args, **kwargs), (args, kwargs))

        return classmethod(apply)

    def _get_kinds(self, cls: Any) -> Kinds | None:
        """Return the kinds of a class that is met for the first time; None if it is not the user's."""
        return self._kinds.setdefault(cls, Kinds() if self._harvest.is_from_user(home_of(cls)[0]) else None)

    def _record(self, cls: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Record:
        record = Record(cls, home_of(cls), TargetKind.AUTOGRAD_FUNCTION.value, RecordedCall((), {}))
        if is_custom_operator(cls):
            record.target, record.kind = find_operator(cls), OPERATOR
            record.source = getattr(record.target, "_init_fn", None)
            args, kwargs = args[:-1], args[-1].keyword_only_args  # PyTorch puts what it needs itself at the end
        return self._recorder.copy_call(record, args, kwargs)


def home_of(cls: Any) -> tuple[str, str]:
    """Return the module of a class and its qualified name; for the Function behind an operator, those of the operator."""
    if not is_custom_operator(cls):
        return str(cls.__module__), cls.__qualname__
    operator = find_operator(cls)
    function = getattr(operator, "_init_fn", None)
    if function is not None:
        return function.__module__, function.__qualname__
    backward = dict(_read_closure(cls.backward))["info"]._backward_fn
    return backward.__module__, str(operator)


def find_operator(cls: Any) -> Any:
    """Return the operator that a Function of torch.library was made for: what `custom_op` returned, if it made it."""
    overload = dict(_read_closure(cls.forward))["op"]
    return OPDEFS.get(overload._schema.name, overload)


def _read_closure(function: Any) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        yield name, cell.cell_contents
