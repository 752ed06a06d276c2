"""The command line, with one file per command: it parses the options, plans and runs the cases, prints and exits.

Data goes to stdout, progress and messages to stderr. A command imports NumPy and the frameworks only when it needs them.
"""

from __future__ import annotations

import signal
import sys

from gradcheck.cli import run as run  # each import adds a command, in the order of the help
from gradcheck.cli import step as step
from gradcheck.cli import fuzz as fuzz
from gradcheck.cli import list as list
from gradcheck.cli import report as report
from gradcheck.cli import diff as diff
from gradcheck.cli import init as init
from gradcheck.cli import merge as merge
from gradcheck.cli import watch as watch
from gradcheck.cli import explain as explain
from gradcheck.cli.app import app as app
from gradcheck.cli.app import keep_stdout_for_data
from gradcheck.errors import ExitCode


def main() -> None:
    """Run the command line."""
    keep_stdout_for_data()
    try:
        app()
    except KeyboardInterrupt:  # before a command began
        sys.exit(ExitCode.INTERRUPTED)
    finally:
        sys.stdout = sys.stderr  # for what the user's code prints as Python exits
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            # The output is complete, so Ctrl-C while Python shuts down ends the process without a traceback.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
