"""A user's traceback, trimmed to the frames that are theirs."""

from __future__ import annotations

import sysconfig
import textwrap
import traceback
from collections.abc import Iterable
from pathlib import Path

NO_DRIVER = "Triton finds no GPU: on a CPU its kernels run with TRITON_INTERPRET=1 in the environment, set before Python starts"
LEAKED = "the function stores an array that JAX was tracing, and uses it later (a leaked tracer): return it, or pass it in"
NUMPY = "NumPy cannot compute with what JAX traces: call jax.numpy inside of the function, or give it NumPy arrays"
ADVICE = {
    "0 active drivers": NO_DRIVER,
    "cannot be accessed from Triton (cpu tensor?)": NO_DRIVER,
    "Encountered an unexpected tracer": LEAKED,
    "The numpy.ndarray conversion method __array__() was called on": NUMPY,
}
NO_MEMORY = ("RESOURCE_EXHAUSTED", "DefaultCPUAllocator: can't allocate", "DefaultCPUAllocator: not enough memory")
_OURS = str(Path(__file__).parent)
_AUTOGRAD = (
    str(Path("torch", "autograd", "graph.py")),
    str(Path("torch", "autograd", "function.py")),
    str(Path("jax", "_src", "custom_derivatives.py")),
)
_ASIDE = "JAX_TRACEBACK_FILTERING"  # in a remark of JAX on its own frames, which are left out here anyway
_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")})


def user_frames(error: BaseException) -> str:
    """Format an exception with the user's frames alone; with the two innermost where none is the user's; '' of autograd's."""
    told = traceback.TracebackException.from_exception(error)
    foreign = [f for f in told.stack if not f.filename.startswith((_OURS, "<frozen"))]
    own = _users(foreign)
    if not own and any(f.filename.endswith(_AUTOGRAD) for f in foreign[-2:]):
        return ""  # of a backward that returned what does not fit: the message says all there is
    told.stack = traceback.StackSummary.from_list(own or ([] if isinstance(error, SyntaxError) else foreign[-2:]))
    told.__cause__ = told.__context__ = None
    told.__notes__ = [note for note in told.__notes__ or () if _ASIDE not in note]
    return "".join(told.format()).rstrip()


def user_line(error: BaseException) -> str:
    """Where the innermost of the user's frames is, ' (layers.py:12: return g @ w)'; '' where none is theirs."""
    own = _users(traceback.extract_tb(error.__traceback__))
    return f" ({Path(own[-1].filename).name}:{own[-1].lineno}: {own[-1].line})" if own else ""


def _users(frames: Iterable[traceback.FrameSummary]) -> list[traceback.FrameSummary]:
    return [f for f in frames if not f.filename.startswith((_OURS, "<frozen", *_LIBRARIES))]


def one_line(error: BaseException, width: int = 1000) -> str:
    """Name an exception and the first line of its message, cut at a word where it is longer than `width`."""
    lines = str(error).strip().splitlines()
    return shortened(f"{type(error).__name__}: {lines[0]}", width) if lines else type(error).__name__


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory has run out: Python's own, PyTorch's on a device or on the host, or XLA's."""
    named = any(cls.__name__ == "OutOfMemoryError" for cls in type(error).__mro__)
    return isinstance(error, MemoryError) or named or any(words in str(error) for words in NO_MEMORY)


def advice_on(error: BaseException) -> str:
    """What to do about an exception whose own message does not say it, '; ...'; '' of any other."""
    return next((f"; {advice}" for words, advice in ADVICE.items() if words in str(error)), "")


def shortened(text: str, width: int) -> str:
    """A text cut at a word where it is longer than `width`."""
    return textwrap.shorten(text, width, placeholder=" …")
