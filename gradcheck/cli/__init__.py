"""The command line, one file a command: reads what was typed, hands it to the planner and the runner, prints, exits.

Data goes to stdout, progress and messages to stderr. Nothing heavy is imported before a command needs it.
"""

from __future__ import annotations

import signal
import sys

from gradcheck.cli import run as run  # each adds its command to the application, in the order of the help
from gradcheck.cli import fuzz as fuzz
from gradcheck.cli import list as list
from gradcheck.cli import report as report
from gradcheck.cli import diff as diff
from gradcheck.cli import init as init
from gradcheck.cli import merge as merge
from gradcheck.cli import explain as explain
from gradcheck.cli.app import EXIT_INTERRUPTED
from gradcheck.cli.app import app as app


def main() -> None:
    """Run the command line."""
    try:
        app()
    except KeyboardInterrupt:  # before a command began
        sys.exit(EXIT_INTERRUPTED)
    finally:
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # all is said: Ctrl-C while Python unloads ends that without a word
