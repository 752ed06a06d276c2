"""`gradcheck list`."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from typing import Annotated

from gradcheck.cli.app import Targets, app, messages, nothing, put
from gradcheck.cli.options import (
    CONFIG,
    What,
    configured,
    requested,
)


@app.command(name="list")
def list_(target: Targets = None, config: Annotated[str | None, CONFIG] = None) -> None:
    """Name the cases that a target declares, or the configuration describes."""
    with messages():
        from gradcheck.run.plan import plan

        request = requested(target or (), What(), entries=configured(config).entries)
        with redirect_stdout(sys.stderr):
            cases = plan(request)
        if not cases:
            nothing(request)
        told = [case.name + (f"  (expected to fail: {case.because})" if case.expect == "fail" else "") for case in cases]
        put(sys.stdout, "".join(f"{line}\n" for line in told))
