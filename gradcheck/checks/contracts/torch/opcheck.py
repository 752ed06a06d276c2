"""Operators that were registered with torch.library do what they declare, as PyTorch's own opcheck sees it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from gradcheck.checks.contracts.torch import plain_vjp as plain
from gradcheck.checks.contracts.torch.plain_vjp import Remarked, Unsupported
from gradcheck.checks.contracts.torch.silence_logging import quiet
from gradcheck.tracebacks import one_line, shortened
from gradcheck.trees import flatten, tree_map

if TYPE_CHECKING:
    from gradcheck.checks.contracts.torch.plain_vjp import Baseline

NAME = "opcheck"
MEND = "let its schema and its fake implementation say what it does; torch.library.opcheck tells the same"
TESTS = {  # what is said where one fails; test_aot_dispatch_dynamic takes a second, and is what `compile` is for
    "test_schema": "{}",
    "test_autograd_registration": "its backward is not registered for Autograd, where torch.compile looks for it ({})",
    "test_faketensor": "it returns another form than its fake implementation promises ({})",
}
FORMS = 4  # of one operator's inputs that are looked at
PYTORCH = (  # how the namespaces of PyTorch's own operators begin
    "_", "aten", "c10d", "debug", "export", "flex_lib", "fsdp", "higher_order", "inductor", "mkl", "onednn", "onnx", "prim",
    "profiler", "quanti", "rngprims", "sparse", "static_runtime", "streams", "symm_mem",
)  # fmt: skip


def broken(base: Baseline) -> str:
    """What opcheck says of an operator of the user's own, on the inputs that it really gets; '' where nothing.

    Raises:
        Remarked: where an operator has no fake implementation that runs, which torch.compile alone needs.
        Unsupported: where no such operator is called.
    """
    leaves, seen = base.leaves(), _Seen()
    with seen:
        outputs = base.layer.call(leaves)
        plain.pulled(outputs, leaves, base.given())
    if not seen.calls:
        raise Unsupported("no operator that was registered with torch.library is called")
    remarks = dict[str, None]()
    for operator, args, kwargs in seen.calls.values():
        for test, error in _failures(operator, args, kwargs):
            if test == "test_faketensor" and "mismatched" not in str(error):
                remarks[f"operator {operator}: under torch.compile its fake implementation raises {_brief(error)}"] = None
            elif not isinstance(error, NotImplementedError):
                return f"operator {operator}: {TESTS[test].format(_brief(error))}"
    if remarks:
        raise Remarked("; ".join(remarks))
    return ""


class _Seen(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Keeps what each operator of the user's own is called with, of every form of inputs the first."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: dict[Any, tuple[Any, Any, Any]] = {}

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not operator.namespace.startswith(PYTORCH):
            form = tuple((tuple(x.shape), x.dtype) for x in flatten((args, kwargs)).leaves if isinstance(x, torch.Tensor))
            known = sum(name == operator for name, _ in self.calls)
            if (operator, form) not in self.calls and known < FORMS:
                self.calls[operator, form] = (operator, tree_map(_copied, args), tree_map(_copied, kwargs))
        return operator(*args, **kwargs)


def _copied(x: Any) -> Any:
    """What an autograd.Function calls within its forward needs no derivative: the Function carries it."""
    if not isinstance(x, torch.Tensor):
        return x
    return x.detach().clone().requires_grad_(x.requires_grad and torch.is_grad_enabled())


def _failures(operator: Any, args: Any, kwargs: Any) -> Iterator[tuple[str, Exception]]:
    with quiet(), torch.enable_grad():
        found: dict[str, Any] = torch.library.opcheck(operator, args, kwargs, test_utils=tuple(TESTS), raise_exception=False)
    yield from ((test, error) for test, error in found.items() if isinstance(error, Exception))


def _brief(error: Exception) -> str:
    text = one_line(error).partition("tensor metadata: ")[2] or one_line(error)
    return shortened(text.replace("torch.Size(", "").replace("])", "]"), 200)
