"""Records of calls in a running PyTorch program: whether a call is to be recorded, the copies, and its cotangents."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch

from gradcheck.backends.torch.recorded_layers import make_cotangent_hook, make_overwrite_check
from gradcheck.harvest.record import MAX_RECORDS, Harvest, Record, is_called_by_gradcheck
from gradcheck.harvest.torch_copies import (
    NotCopiedError,
    convert_floats,
    copy_arguments,
    copy_module,
    count_bytes,
    list_attributes,
    list_tensors,
)
from gradcheck.trees import flatten

MAX_SIGNATURES = 64  # kinds of calls of a class, recorded or not, after which it is no longer looked at
PATIENCE = 200  # calls of known kinds in a row, after which not every call is looked at
ON_META = "a tensor of its call is on the meta device, where it has no numbers"
TOO_LARGE = "its inputs and parameters do not fit into the {:.0f} MiB that all copies may take"


class NeverRecordedError(Exception):
    """Calls of a class are not recorded; the message says why."""


class NothingToCheckError(Exception):
    """Nothing of a call requires a gradient."""


class Kinds:
    """The kinds of calls of a class that were seen.

    Attributes:
        signatures: of the calls.
        is_closed: whether no further call is recorded.
        skip: calls that need not be looked at, as long as their first input has as many entries as the last.
        entries: of that input.
    """

    __slots__ = ("_known_in_a_row", "entries", "is_closed", "signatures", "skip")

    def __init__(self) -> None:
        self.signatures: set[Any] = set()
        self.is_closed = False
        self.skip = 0
        self.entries = 0
        self._known_in_a_row = 0

    def is_known(self, signature: Any, first: Any) -> bool:
        """Say whether a kind was seen. After many known calls in a row, the next few need not be looked at."""
        if signature not in self.signatures:
            self._known_in_a_row = 0
            return False
        self._known_in_a_row += 1
        if self._known_in_a_row > PATIENCE and type(first) is torch.Tensor:
            self.entries = first.numel()
            self.skip = 4 + self._known_in_a_row % 7  # of changing length, so that no layer of many is missed forever
        return True


class TorchRecorder:
    """Records calls of Functions, operators and modules."""

    def __init__(self, harvest: Harvest) -> None:
        self._harvest = harvest
        self._hooks: list[Any] = []
        self.open: list[tuple[int, Record]] = []  # calls that are being recorded, with the thread that makes them

    def begin(self, kinds: Kinds, signature: Any, home: tuple[str, str], make: Callable[[], Record]) -> Record | None:
        """Make the record of a call of a new kind; None if it is not to be recorded."""
        if kinds.is_closed or _is_transformed() or is_called_by_gradcheck():
            return None
        kinds.signatures.add(signature)
        record = None
        try:
            record = make()
            self._harvest.add(record)
        except NeverRecordedError as error:
            kinds.is_closed = True
            self._harvest.leave_out(home, str(error))
        except NotCopiedError as error:
            self._harvest.leave_out(home, str(error))
        except NothingToCheckError:
            pass
        except Exception as error:  # Whatever goes wrong in a copy must not stop the program.
            self._harvest.leave_out(home, f"its call cannot be recorded: {type(error).__name__}: {error}")
        kinds.is_closed |= self._harvest.count(home) >= MAX_RECORDS or len(kinds.signatures) >= MAX_SIGNATURES
        return record

    def copy_call(
        self, record: Record, args: tuple[Any, ...], kwargs: dict[str, Any], module: torch.nn.Module | None = None
    ) -> Record:
        """Fill a record with copies of the arguments and the module.

        Raises:
            NotCopiedError: if they cannot be copied, or do not fit into the memory.
            NothingToCheckError: if nothing of the call requires a gradient.
        """
        inputs = list_tensors((args, kwargs))
        state = [] if module is None else [*module.parameters(), *module.buffers()]
        if not any(x.requires_grad for x in (*inputs, *state)):
            raise NothingToCheckError
        if any(x.is_meta for x in (*inputs, *state)):
            raise NotCopiedError(ON_META)
        try:
            return self._copy(record, args, kwargs, module, [*inputs, *state])
        except BaseException:
            self._harvest.discard(record)
            raise

    def _copy(
        self, record: Record, args: Any, kwargs: dict[str, Any], module: torch.nn.Module | None, tensors: list[torch.Tensor]
    ) -> Record:
        def reserve(size: int) -> None:
            if not self._harvest.reserve(record, size):
                raise NotCopiedError(TOO_LARGE.format(self._harvest.max_bytes / 2**20))

        attributes = [] if module is None else list_attributes(module)
        reserve(count_bytes([*tensors, *attributes]))
        record.call.args, record.call.kwargs = copy_arguments(args), copy_arguments(dict(kwargs))
        if module is not None:
            record.target = copy_module(module, [*tensors, *attributes], reserve)
            if any(torch.is_autocast_enabled(x.device.type) for x in tensors):
                # The check runs without autocast, which would convert inputs where they meet the parameters.
                dtype = next((x.dtype for x in module.parameters() if x.is_floating_point()), None)
                record.call.args, record.call.kwargs = convert_floats((record.call.args, record.call.kwargs), dtype)
        return record

    def finish(self, record: Record | None, call: Callable[[], Any], arguments: Any) -> Any:
        """Make a call, and complete its record."""
        if record is None:
            return call()
        was_overwritten = make_overwrite_check(arguments)
        entry = (threading.get_ident(), record)
        self.open.append(entry)
        try:
            output = call()
        except BaseException:
            self._harvest.discard(record)
            raise
        finally:
            self.open.remove(entry)
        with suppress(Exception):  # An output that we cannot walk must not stop the program.
            record.call.overwritten = was_overwritten()
            self._await_cotangents(record, output, arguments)
        return output

    def _await_cotangents(self, record: Record, output: Any, arguments: Any) -> None:
        """Have each output record its cotangent when the program sends it back; the program's gradient is not touched."""
        inputs = {id(x) for x in flatten(arguments).leaves}
        for place, out in enumerate(flatten(output).leaves):
            is_new = isinstance(out, torch.Tensor) and out.grad_fn is not None and id(out) not in inputs
            if is_new and self._harvest.reserve(record, count_bytes([out])):
                hook = torch.utils.hooks.unserializable_hook(make_cotangent_hook(record.call, place))  # type: ignore[no-untyped-call]
                self._hooks.append(out.register_hook(hook))

    def remove_hooks(self) -> None:
        """Leave the outputs of the program as they would be without a watch."""
        while self._hooks:
            self._hooks.pop().remove()

    def note_part(self, home: tuple[str, str]) -> None:
        """Note a Function as a part of the calls that are being recorded around it."""
        thread = threading.get_ident()
        for caller, record in self.open:
            if caller == thread and home != record.home:
                record.parts.add(home)


def _is_transformed() -> bool:
    """Say whether PyTorch transforms or traces the code that runs, so that its tensors hold no numbers of the program."""
    return bool(
        torch._C._are_functorch_transforms_active()
        or torch._C._get_tracing_state()
        or torch.compiler.is_compiling()
        or torch.overrides._get_current_function_mode_stack()  # type: ignore[no-untyped-call]
        or torch.utils._python_dispatch._get_current_dispatch_mode_stack()
    )
