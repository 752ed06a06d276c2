"""`gradcheck list`."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout

from gradcheck.cli.app import Targets, app, messages, nothing, put


@app.command(name="list")
def list_(target: Targets) -> None:
    """Name the cases that a target declares."""
    with messages():
        from gradcheck.run.plan import Request, plan

        with redirect_stdout(sys.stderr):
            cases = [case for text in target for case in plan(Request(targets=[text]))]
        if not cases:
            nothing(Request(targets=target))
        told = [case.name + (f"  (expected to fail: {case.because})" if case.expect == "fail" else "") for case in cases]
        put(sys.stdout, "".join(f"{line}\n" for line in told))
