"""Options with several values: what is accepted, which axes they make, and how a cell is named."""

import pytest
import torch

from gradcheck import sweeps
from gradcheck.errors import UsageError
from gradcheck.options import Options, override_options
from gradcheck.sweeps import Values


def test_a_list_of_dtypes_sizes_or_seeds_becomes_values_and_a_pair_stays_a_range():
    read = sweeps.read_options(
        {"dtype": ["f32", torch.bfloat16], "seed": [0, 7], "dims": {"batch": [1, 8], "n": (2, 5), "m": 3}, "rtol": 1e-5}
    )
    assert read == {
        "dtype": Values(("float32", "bfloat16")),
        "seed": Values((0, 7)),
        "dims": {"batch": Values((1, 8)), "n": (2, 5), "m": 3},
        "rtol": 1e-5,
    }
    assert list(sweeps.list_axes(read)) == ["dtype", "batch", "seed"]
    assert sweeps.read_options(read) == read


def test_a_list_of_one_value_is_that_value():
    assert sweeps.read_options({"dtype": ["float32"], "seed": [3], "dims": {"n": [4]}}) == {
        "dtype": "float32",
        "seed": 3,
        "dims": {"n": 4},
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": []}, r"dtype=\[\]: expected at least one value"),
        ({"dims": {"batch": []}}, r"batch=\[\]: expected at least one value"),
        ({"dtype": ["float32", "flaot64"]}, "dtype='flaot64': did you mean float64"),
        ({"dtype": ["float32", "single"]}, r"dtype=\['float32', 'single'\]: float32 is there twice"),
        ({"seed": [1, 2, 1]}, r"seed=\[1, 2, 1\]: 1 is there twice"),
        ({"seed": [0, -1]}, "seed=-1: expected an integer of at least 0"),
        ({"seed": [0, "1"]}, "seed='1': expected an integer"),
        ({"seed": [0, True]}, "seed=True: expected an integer"),
        ({"dims": {"batch": [1, 2.5]}}, "batch=2.5: expected an integer"),
        ({"dims": {"batch": [1, -2]}}, r"batch=-2\.\.-2: expected 0 <= low"),
        ({"dims": {"seed": [1, 2]}}, "a size called seed cannot have several values"),
        ({"rtoll": 1}, "did you mean rtol"),
    ],
)
def test_a_wrong_value_is_named(options, message):
    with pytest.raises(UsageError, match=message):
        sweeps.read_options(options)


@pytest.mark.parametrize(
    ("options", "command"),
    [
        ({"dtype": ["float32", "float64"]}, "gradcheck run ... --dtype float32,float64"),
        ({"seed": (0, 1)}, "gradcheck run ... --seed 0,1"),
        ({"dims": {"n": [1, 8]}}, "gradcheck run ... --dim n=1,8"),
    ],
)
def test_a_single_check_refuses_several_values_and_says_what_makes_a_grid(options, command):
    with pytest.raises(UsageError, match="a single check takes one value; call check in a loop") as caught:
        override_options(Options(), options)
    assert command in str(caught.value)


def test_a_cell_chooses_its_values_and_leaves_the_rest():
    options = sweeps.read_options({"dtype": ["float32", "float64"], "dims": {"n": [1, 8], "m": (1, 2)}, "mode": "full"})
    assert sweeps.choose_cell(options, {"dtype": "float64", "n": 8}) == {
        "dtype": "float64",
        "dims": {"n": 8, "m": (1, 2)},
        "mode": "full",
    }
    assert sweeps.choose_cell(options, {})["dims"] == {"n": 1, "m": (1, 2)}
    assert sweeps.choose_common(options) == {"dims": {"m": (1, 2)}, "mode": "full"}
    assert sweeps.choose_common({"seed": Values((5, 6))}) == {"seed": 5}


@pytest.mark.parametrize("name", ["m:f", "m:f[large]", "folder/m.py:f[1]"])
def test_the_name_of_a_cell_contains_that_of_its_case(name):
    cell = sweeps.name_cell(name, {"dtype": "float32", "batch": 8})
    assert cell == (f"{name[:-1]}, dtype=float32, batch=8]" if "[" in name else f"{name}[dtype=float32, batch=8]")
    assert sweeps.strip_cell(cell) == name
    assert sweeps.strip_cell(name) == name
