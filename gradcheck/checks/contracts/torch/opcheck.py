"""Contract `opcheck`: operators registered with torch.library do what they declare, according to PyTorch's own opcheck."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from gradcheck.backends.torch.silence_logging import silence_logging
from gradcheck.checks.contracts.torch.support.plain_vjp import Baseline, NotApplicable, Remark, compute_vjp
from gradcheck.tracebacks import shorten, summarise_error
from gradcheck.trees import flatten, tree_map

NAME = "opcheck"
FIX = "make its schema and its fake implementation say what it does; torch.library.opcheck reports the same"
# These messages are reported if a test fails. test_aot_dispatch_dynamic is left out: it takes a second, and `compile` covers
# it.
TESTS = {
    "test_schema": "{}",
    "test_autograd_registration": "its backward is not registered for Autograd, where torch.compile looks for it ({})",
    "test_faketensor": "its output has another form than its fake implementation promises ({})",
}
# At most this many forms of inputs (shapes and dtypes) are tried for one operator.
MAX_FORMS = 4
# The namespaces of PyTorch's own operators have these prefixes.
PYTORCH = (
    "_", "aten", "c10d", "debug", "export", "flex_lib", "fsdp", "higher_order", "inductor", "mkl", "onednn", "onnx", "prim",
    "profiler", "quanti", "rngprims", "sparse", "static_runtime", "streams", "symm_mem",
)  # fmt: skip


def find_breach(base: Baseline) -> str:
    """Return what opcheck says about an operator of the user, on the inputs that it really gets; '' if nothing.

    Raises:
        Remark: if an operator has no fake implementation that runs, which only torch.compile needs.
        NotApplicable: if no registered operator is called.
    """
    leaves, recorder = base.new_leaves(), _CallRecorder()
    with recorder:
        outputs = base.layer.call(leaves)
        compute_vjp(outputs, leaves, base.new_cotangents())
    if not recorder.calls:
        raise NotApplicable("no operator that was registered with torch.library is called")
    remarks = dict[str, None]()
    for operator, args, kwargs in recorder.calls.values():
        for test, error in _run_opcheck(operator, args, kwargs):
            if test == "test_faketensor" and "mismatched" not in str(error):
                remarks[f"operator {operator}: under torch.compile its fake implementation raises {_shorten(error)}"] = None
            elif not isinstance(error, NotImplementedError):
                return f"operator {operator}: {TESTS[test].format(_shorten(error))}"
    if remarks:
        raise Remark("; ".join(remarks))
    return ""


class _CallRecorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records the arguments of the user's operators: the first call for each form of inputs."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: dict[Any, tuple[Any, Any, Any]] = {}

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not operator.namespace.startswith(PYTORCH):
            form = tuple((tuple(x.shape), x.dtype) for x in flatten((args, kwargs)).leaves if isinstance(x, torch.Tensor))
            count = sum(name == operator for name, _ in self.calls)
            if (operator, form) not in self.calls and count < MAX_FORMS:
                self.calls[operator, form] = (operator, tree_map(_copy, args), tree_map(_copy, kwargs))
        return operator(*args, **kwargs)


def _copy(x: Any) -> Any:
    """Copy a tensor; it requires a gradient only if one is recorded.

    An operator that an autograd.Function calls within its forward needs no derivative: the Function carries it.
    """
    if not isinstance(x, torch.Tensor):
        return x
    return x.detach().clone().requires_grad_(x.requires_grad and torch.is_grad_enabled())


def _run_opcheck(operator: Any, args: Any, kwargs: Any) -> Iterator[tuple[str, Exception]]:
    """Run PyTorch's opcheck, and yield the name of each test that fails with its exception."""
    with silence_logging(), torch.enable_grad():
        results: dict[str, Any] = torch.library.opcheck(operator, args, kwargs, test_utils=tuple(TESTS), raise_exception=False)
    yield from ((test, error) for test, error in results.items() if isinstance(error, Exception))


def _shorten(error: Exception) -> str:
    text = summarise_error(error).partition("tensor metadata: ")[2] or summarise_error(error)
    return shorten(text.replace("torch.Size(", "").replace("])", "]"), 200)
