"""`gradcheck list`."""

from __future__ import annotations

import sys
from typing import Annotated

from gradcheck.cli.app import Targets, app, exit_nothing_collected, exit_on_error, write_and_flush
from gradcheck.cli.options import CONFIG_OPTION, RunTargetOptions, build_request, load_config
from gradcheck.untrusted_text import escape_control_characters, user_output_on_stderr


@app.command(name="list")
def list_(target: Targets = None, config: Annotated[str | None, CONFIG_OPTION] = None) -> None:
    """List the cases that a target declares, or all cases of the configuration."""
    with exit_on_error():
        from gradcheck.run.plan import plan

        settings = load_config(config)
        request = build_request(target or (), RunTargetOptions(), entries=settings.entries, options=settings.options)
        with user_output_on_stderr():
            cases = plan(request)
        if not cases:
            exit_nothing_collected(request)
        lines = [case.name + (f"  (expected to fail: {case.because})" if case.expect == "fail" else "") for case in cases]
        text = "".join(f"{escape_control_characters(line, single_line=True)}\n" for line in lines)
        write_and_flush(sys.stdout, text)
