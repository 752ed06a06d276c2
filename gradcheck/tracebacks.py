"""Tracebacks trimmed to the frames of the user's code, and advice on common exceptions."""

from __future__ import annotations

import re
import sys
import sysconfig
import textwrap
import traceback
from collections.abc import Iterable
from pathlib import Path

from gradcheck.untrusted_text import cut_middle

TRITON_WITHOUT_GPU = (
    "Triton finds no GPU: on a CPU its kernels run with TRITON_INTERPRET=1 in the environment, set before Python starts"
)
LEAKED_TRACER = (
    "the function stores an array that JAX was tracing, and uses it later (a leaked tracer): return it, or pass it in"
)
NUMPY_IN_JAX = "NumPy cannot compute with arrays that JAX traces: call jax.numpy in the function, or give it NumPy arrays"
ADVICE = {  # by words in the message of an exception
    "0 active drivers": TRITON_WITHOUT_GPU,
    "cannot be accessed from Triton (cpu tensor?)": TRITON_WITHOUT_GPU,
    "Encountered an unexpected tracer": LEAKED_TRACER,
    "The numpy.ndarray conversion method __array__() was called on": NUMPY_IN_JAX,
}
ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
OUT_OF_MEMORY_PHRASES = ("RESOURCE_EXHAUSTED", "DefaultCPUAllocator: can't allocate", "DefaultCPUAllocator: not enough memory")
MAX_MESSAGE_LENGTH = 100_000  # characters of the message of an exception
_PACKAGE = str(Path(__file__).parent)
_AUTOGRAD_FILES = (
    str(Path("torch", "autograd", "graph.py")),
    str(Path("torch", "autograd", "function.py")),
    str(Path("jax", "_src", "custom_derivatives.py")),
)
_JAX_NOTE = "JAX_TRACEBACK_FILTERING"  # marks a note of JAX about its own frames, which we leave out anyway
_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")})
_LIVE_CELL = "Cell In["  # begins the name that IPython gives a cell in its tracebacks
_CELL_FILE = re.compile(r"(.+\.ipynb) cell (\d+)", re.DOTALL)


def name_cell_file(notebook: str, number: int) -> str:
    """Return the name of the file that a cell of a notebook has for Python, which tracebacks and reports show."""
    return f"{notebook} cell {number}"


def split_cell_file(file: str) -> tuple[str, int | None]:
    """Split the name of a cell's file into the path of its notebook and its number; None as number of any other file."""
    match = _CELL_FILE.fullmatch(file)
    return (match[1], int(match[2])) if match else (file, None)


def format_place(file: str, line: int | None) -> str:
    """Format a line of a file as in 'layers.py:12', or 'fit.ipynb cell 4, line 12'."""
    return f"{file}, line {line}" if split_cell_file(file)[1] or file.startswith(_LIVE_CELL) else f"{file}:{line}"


def read_message(error: BaseException) -> str:
    """Return the message of an exception, or Python's own words if its `__str__` raises or returns no string."""
    try:
        return str(error)
    except Exception:
        return "<exception str() failed>"


def format_user_frames(error: BaseException) -> str:
    """Format an exception with the user's frames alone.

    Without a frame of the user, the two innermost frames are shown, or nothing if autograd itself raised.
    """
    formatted = traceback.TracebackException.from_exception(error)
    outside = [frame for frame in formatted.stack if not frame.filename.startswith((_PACKAGE, "<frozen"))]
    frames = _select_user_frames(outside)
    if not frames and any(frame.filename.endswith(_AUTOGRAD_FILES) for frame in outside[-2:]):
        return ""  # A backward returned a wrong form; the message alone explains it.
    formatted.stack = traceback.StackSummary.from_list(frames or ([] if isinstance(error, SyntaxError) else outside[-2:]))
    formatted.__cause__ = formatted.__context__ = None
    notes = formatted.__notes__ if isinstance(formatted.__notes__, list) else []  # users may set anything
    formatted.__notes__ = [note for note in notes if not (isinstance(note, str) and _JAX_NOTE in note)]
    if len(str(formatted)) > MAX_MESSAGE_LENGTH:  # formatting takes time for each of its lines
        formatted._str = cut_middle(str(formatted), MAX_MESSAGE_LENGTH)  # type: ignore[attr-defined]
    return "".join(formatted.format()).rstrip()


def format_user_line(error: BaseException) -> str:
    """Format the innermost frame of the user, as in ' (layers.py:12: return g @ w)'; '' without one."""
    frames = _select_user_frames(traceback.extract_tb(error.__traceback__))
    return f" ({_format_frame(frames[-1])})" if frames else ""


def _format_frame(frame: traceback.FrameSummary) -> str:
    """Format a frame as in 'layers.py:12: return g @ w'."""
    return f"{format_place(Path(frame.filename).name, frame.lineno)}: {frame.line}"


def format_calling_line() -> str:
    """Format the user's line that is running; '' if none is."""
    frames = _select_user_frames(traceback.extract_stack())
    return _format_frame(frames[-1]) if frames else ""


def was_raised_by_user(error: BaseException) -> bool:
    """Whether the innermost frame of an exception is the user's."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(_select_user_frames(frames[-1:]))


def _select_user_frames(frames: Iterable[traceback.FrameSummary]) -> list[traceback.FrameSummary]:
    """Return the frames of the user's code: neither gradcheck's nor those of libraries."""
    return [_rename_live_cell(frame) for frame in frames if is_user_file(frame.filename)]


def _rename_live_cell(frame: traceback.FrameSummary) -> traceback.FrameSummary:
    """Give a frame of a cell in a running notebook the name that IPython shows, as in 'Cell In[3]'."""
    get_shell = getattr(sys.modules.get("IPython"), "get_ipython", None)
    format_name = getattr(getattr(get_shell and get_shell(), "compile", None), "format_code_name", None)
    label = format_name(frame.filename) if format_name else None
    if label and frame.line is not None:  # Python reads the line by the true name, and keeps it.
        frame.filename = " ".join(label)
    return frame


def is_user_file(name: str) -> bool:
    """Whether a file holds the user's code: neither gradcheck's nor that of a library."""
    return not name.startswith((_PACKAGE, "<frozen", *_LIBRARIES))


def summarise_error(error: BaseException, width: int = 1000) -> str:
    """Return an exception's class and the first line of its message, cut at a word to at most `width` characters."""
    lines = read_message(error)[:MAX_MESSAGE_LENGTH].strip().splitlines()
    return shorten(f"{type(error).__name__}: {strip_addresses(lines[0])}", width) if lines else type(error).__name__


def strip_addresses(text: str) -> str:
    """Remove the addresses that Python gives for objects, as they differ from run to run."""
    return ADDRESS.sub("", text)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory has run out: Python's own, PyTorch's on a device or on the host, or XLA's."""
    message = read_message(error)
    is_torch_error = any(cls.__name__ == "OutOfMemoryError" for cls in type(error).__mro__)
    return isinstance(error, MemoryError) or is_torch_error or any(words in message for words in OUT_OF_MEMORY_PHRASES)


def advise_on_error(error: BaseException) -> str:
    """Return advice on an exception whose own message has none, as in '; ...'; '' for any other exception."""
    message = read_message(error)
    return next((f"; {advice}" for words, advice in ADVICE.items() if words in message), "")


def shorten(text: str, width: int) -> str:
    """Cut a text at a word to at most `width` characters."""
    return textwrap.shorten(text, width, placeholder=" …")
