"""Python imports this when it starts in a command under `gradcheck watch`; it runs the user's own file of this name first."""

import importlib.machinery
import importlib.util
import os
import sys


def _run_replaced_file() -> None:
    """Run the `sitecustomize` that Python would have imported, and leave the path as Python would have it."""
    folder = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - pathlib would be loaded for it
    sys.path[:] = [path for path in sys.path if os.path.abspath(path) != folder]  # noqa: PTH100
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", sys.path)
    if spec is not None and spec.loader is not None:
        module = importlib.util.module_from_spec(spec)
        sys.modules["sitecustomize"] = module
        spec.loader.exec_module(module)


def _watch() -> None:
    try:
        from gradcheck.harvest.child import watch_process
    except ImportError:  # a Python of another environment, which the command line reports
        return
    watch_process()


try:
    _run_replaced_file()
finally:
    _watch()
