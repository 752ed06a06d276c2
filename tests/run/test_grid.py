"""The cases of a grid: one for each combination of values that makes a difference to the case."""

import pytest

from gradcheck import sweeps
from gradcheck.errors import UsageError
from gradcheck.options import Options
from gradcheck.run import grid
from gradcheck.run.plan import Request, build_replay_command, covers, plan

SOURCE = """
import numpy as np
from gradcheck import case, normal

@case(x=normal("batch", 3), framework="numpy")
def named(x):
    return np.sum(x**2)

@case(x=np.ones(3), framework="numpy")
def fixed(x):
    return np.sum(x**2)

@case(x=normal("n"), options={"dtype": ["float32", "float64"], "dims": {"n": [1, 4], "m": 2}, "seed": 9}, name="own")
def declared(x):
    return np.sum(x**2)
"""


@pytest.fixture
def target(write):
    write({"gridded.py": SOURCE})
    return "gridded.py"


def cells(target, whole_grid=True, keyword=None, **options):
    sweep = sweeps.freeze(sweeps.select_swept(sweeps.read_options(options)))
    return plan(Request((target,), sweep=sweep, keyword=keyword), whole_grid=whole_grid)


def short_names(*arguments, **options):
    return [case.name.rpartition(":")[2] for case in cells(*arguments, **options)]


def test_every_combination_is_a_case_in_the_order_of_the_values(target):
    assert short_names(f"{target}:named", dtype=["float64", "float32"], dims={"batch": [8, 1]}, seed=[1, 0]) == [
        f"named[dtype={dtype}, batch={batch}, seed={seed}]"
        for dtype in ("float64", "float32")
        for batch in (8, 1)
        for seed in (1, 0)
    ]


def test_a_cell_has_its_values_as_options_and_the_sizes_of_the_run(target):
    first, last = cells(f"{target}:named", dtype=["float64", "float32"], dims={"batch": [1, 8], "other": 3})[::3]
    assert (first.options["dtype"], first.options["dims"]) == ("float64", {"batch": 1})
    assert (last.options["dtype"], last.options["dims"]) == ("float32", {"batch": 8})
    assert last.sweep == {"dtype": "float32", "batch": 8}


def test_cells_draw_from_the_same_seed_as_their_case_would(target):
    (alone,) = cells(f"{target}:named")
    assert {cell.seed_label for cell in cells(f"{target}:named", dims={"batch": [1, 8]})} == {alone.seed_label}


def test_a_value_makes_no_cells_of_a_case_to_which_it_makes_no_difference(target):
    names = short_names(target, dtype=["float64", "float32"], dims={"batch": [1, 8]})
    assert [name for name in names if name.startswith("fixed")] == ["fixed"]
    (fixed,) = [case for case in cells(target, dtype=["float64", "float32"]) if "fixed" in case.name]
    assert "dtype" not in fixed.options


def test_the_lists_of_a_declaration_take_precedence_over_those_of_the_run(target):
    expected = [f"declared[own, dtype={dtype}, n={n}]" for dtype in ("float32", "float64") for n in (1, 4)]
    assert short_names(f"{target}:declared") == expected
    assert short_names(f"{target}:declared", dtype=["float16", "float64"], seed=[0, 1]) == expected


def test_a_keyword_selects_cells(target):
    grid = {"dtype": ["float64", "float32"], "dims": {"batch": [1, 8]}}
    assert short_names(f"{target}:named", keyword="float32 and batch=8", **grid) == ["named[dtype=float32, batch=8]"]
    assert short_names(f"{target}:named", keyword="[dtype=float64, batch=1]", **grid) == ["named[dtype=float64, batch=1]"]


def test_without_the_grid_a_case_has_the_first_values(target):
    (case,) = cells(f"{target}:declared", whole_grid=False)
    assert (case.name.rpartition(":")[2], case.options["dtype"], case.options["dims"]) == (
        "declared[own]",
        "float32",
        {"n": 1, "m": 2},
    )


def test_a_grid_of_thousands_of_cells_is_refused_with_their_number(target):
    with pytest.raises(UsageError, match=r"named: the grid has 1,600 cells, 40 \(batch\) x 40 \(seed\), and may have 1,000"):
        cells(f"{target}:named", dims={"batch": [*range(1, 41)]}, seed=[*range(40)])


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("named", {"dims": {"btach": [1, 8]}}, r"--dim btach=...: no input has a size of that name \(there are: batch\)"),
        ("named", {"dims": {"batch": [1, 8], "k": 3}}, r"--dim k=...: no input has a size of that name"),
        ("fixed", {"dims": {"batch": [1, 8]}}, r"\(there are: none\)"),
        ("fixed", {"dtype": ["float32", "float64"]}, "--dtype float32,float64: no input is drawn in that dtype"),
        ("declared", {"seed": [0, 1]}, "--seed 0,1: the seed that each case declares takes precedence"),
    ],
)
def test_values_that_make_no_difference_to_any_case_are_refused(target, name, options, message):
    with pytest.raises(UsageError, match=message):
        grid.refuse_unused_options(cells(f"{target}:{name}", **options), sweeps.read_options(options))


def test_the_replay_command_selects_the_cell_and_repeats_the_grid(target):
    cell = cells(f"{target}:named", dims={"batch": [1, 8]}, seed=[0, 1])[-1]
    replay = build_replay_command(Options(), ["--dim", "batch=1,8"], (0, 1))(cell)
    assert replay == f"gradcheck run {target}:named --dim batch=1,8 -k '[batch=8, seed=1]' --seed 0,1"


def test_a_target_covers_its_cells(target):
    assert covers(Request((f"{target}:named",)), f"{target}:named[dtype=float32]")
