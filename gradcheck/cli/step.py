"""`gradcheck step`."""

from __future__ import annotations

from gradcheck.cli.app import Command, Targets, app
from gradcheck.cli.option_groups import spread_option_groups
from gradcheck.cli.options import ExecutionOptions, OutputOptions, PassOptions, RunCheckOptions, RunTargetOptions, StepOptions
from gradcheck.cli.run import carry_out

EXAMPLES = """Examples:

gradcheck step train.py:pieces

gradcheck step train.py:pieces --law micro-batches --law receives
"""


@app.command(cls=Command, epilog=EXAMPLES)
@spread_option_groups
def step(
    target: Targets = None,
    *,
    step_options: StepOptions,
    execution: ExecutionOptions,
    passing: PassOptions,
    output_options: OutputOptions,
) -> None:
    """Try the laws of PyTorch training steps: functions that return the arguments of gradcheck.step as a dictionary."""
    check_options = RunCheckOptions(seed=step_options.seed)
    carry_out(target or [], RunTargetOptions(), check_options, execution, passing, output_options, step_options)
