"""From a case with several values of an option to the cells of its grid, one case each."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gradcheck import sweeps
from gradcheck.backends.load_target import needs_construction
from gradcheck.errors import UsageError
from gradcheck.targets.draw import collect_size_names, collect_specs
from gradcheck.targets.signature import read_annotated_specs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gradcheck.targets.case import Case

MAX_CELLS = 1000  # cells of one grid, some minutes of work: more are more likely a slip than a plan
NO_DTYPE = "no input is drawn in that dtype and no module is built; give the inputs as specs, such as 'normal(4, 3)'"


def expand_case(case: Case, run_options: Mapping[str, Any]) -> list[Case]:
    """Return the cells of a case, or the case itself if no option has several values that matter to it.

    Args:
        case: its own options take precedence.
        run_options: the options of the run that have several values, and `dims` if some of its sizes have.

    Raises:
        UsageError: if the grid is too large.
    """
    options = {**_select_for_case(run_options, case), **case.options}
    options = {name: options[name] for name in sweeps.OPTIONS if name in options}
    if not sweeps.list_axes(options):
        return [case]
    axes = {name: values for name, values in sweeps.list_axes(options).items() if _has_axis(case, name)}
    _refuse_large_grid(case, axes)
    cells = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    return [_make_cell(case, options, cell) for cell in cells]


def _select_for_case(run_options: Mapping[str, Any], case: Case) -> dict[str, Any]:
    """Return the options of the run that matter to a case: a case may lack a size, or draw no array."""
    options = {name: value for name, value in run_options.items() if name == "dims" or _has_axis(case, name)}
    sizes = dict(run_options.get("dims", ())).items()
    return {**options, **({"dims": {name: size for name, size in sizes if _has_axis(case, name)}} if sizes else {})}


def choose_first_cell(case: Case) -> Case:
    """Return a case with the first value of each of its options that have several."""
    return replace(case, options=sweeps.choose_cell(case.options, {}))


def _make_cell(case: Case, options: Mapping[str, Any], cell: Mapping[str, str | int]) -> Case:
    """Return the case of one cell; its errors are shown, so every entry of a small input is estimated."""
    name = sweeps.name_cell(case.name, cell) if cell else case.name
    cell_options = {"every_entry": bool(cell), **case.options, **sweeps.choose_cell(options, cell)}
    return replace(case, name=name, sweep=cell, options=cell_options)


def list_size_names(case: Case) -> set[str]:
    """Return the names of sizes in the inputs of a case, and in the arguments that construct its target."""
    return collect_size_names([*case.values, *(case.init or {}).values(), *read_annotated_specs(case.fn)])


def _has_axis(case: Case, axis: str) -> bool:
    """Whether a case is another one at another value: not all have a size of that name, or draw an array."""
    if axis == "seed":
        return True
    if axis == "dtype":
        specs = collect_specs([*case.values, *read_annotated_specs(case.fn)])
        return needs_construction(case) or any(spec.dtype is None for spec in specs)
    return axis in list_size_names(case)


def _refuse_large_grid(case: Case, axes: Mapping[str, sweeps.Values]) -> None:
    count = math.prod(map(len, axes.values()))
    if count > MAX_CELLS:
        factors = " x ".join(f"{len(values)} ({name})" for name, values in axes.items())
        raise UsageError(f"{case.name}: the grid has {count:,} cells, {factors}, and may have {MAX_CELLS:,}: give fewer values")


def refuse_unused_options(cases: Sequence[Case], typed: Mapping[str, Any]) -> None:
    """Refuse several values that make no difference to any case, and sizes beside them that no input has.

    Args:
        cases: the planned cases.
        typed: the options of the command line.

    Raises:
        UsageError: with what would be needed.
    """
    for axis, values in sweeps.list_axes(typed).items():
        if axis in sweeps.OPTIONS and not any(axis in case.sweep for case in cases):
            declared = any(axis in case.options for case in cases)
            why = f"the {axis} that each case declares takes precedence" if declared else NO_DTYPE
            raise UsageError(f"--{axis} {','.join(map(str, values))}: {why}")
    known = {name for case in cases for name in list_size_names(case)}
    unknown = set(sweeps.select_swept(typed).get("dims", ())) - known
    if unknown:
        names = ", ".join(sorted(known)) or "none"
        raise UsageError(f"--dim {min(unknown)}=...: no input has a size of that name (there are: {names})")
