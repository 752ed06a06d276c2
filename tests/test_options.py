import numpy as np
import pytest

from gradcheck import normal
from gradcheck.errors import UsageError
from gradcheck.options import Options, override_options


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("trials", 0, "at least 1"),
        ("trials", True, "integer"),
        ("seed", -1, "at least 0"),
        ("rtol", 0, "between 0 and 1"),
        ("rtol", float("nan"), "between 0 and 1"),
        ("mode", "slow", "auto, full, probe"),
        ("methods", ("autodiff",), "analytic, reverse, forward"),
        ("methods", "reverse", "expected a tuple"),
        ("dtype", "int64", "float64"),
        ("order", 4, "expected 1"),
        ("order", True, "expected 1"),
        ("dims", {"n": (3, 1)}, "low <= high"),
        ("dims", {"n": 1.5}, "integer or a pair"),
    ],
)
def test_a_wrong_value_is_named_with_what_was_expected(name, value, expected):
    with pytest.raises(UsageError, match=expected) as caught:
        override_options(Options(), {name: value})
    assert name.rstrip("s") in str(caught.value)


def test_an_unknown_option_gets_a_similar_name():
    with pytest.raises(UsageError, match=r"rtoll=1e-06; did you mean rtol="):
        override_options(Options(), {"rtoll": 1e-6})


@pytest.mark.parametrize("name", ["eps", "step", "h"])
def test_a_step_size_is_refused_with_the_reason(name):
    with pytest.raises(UsageError, match=f"{name}=1e-06: there is no step size"):
        override_options(Options(), {name: 1e-6})


@pytest.mark.parametrize(
    ("dtype", "name"),
    [("half", "float16"), ("fp16", "float16"), ("double", "float64"), (np.float32, "float32"), (np.dtype("f4"), "float32")],
)
def test_a_dtype_may_have_its_short_name_or_be_an_object(dtype, name):
    assert override_options(Options(), {"dtype": dtype}).dtype == name
    assert normal(2, dtype=dtype).dtype == name


def test_a_size_alone_is_a_range_of_one():
    assert override_options(Options(), {"dims": {"n": 3, "m": (1, 4)}}).dims == {"n": (3, 3), "m": (1, 4)}
