"""Arrays that Hypothesis draws for a spec: its domain and more of its corners, and one call's arrays fit together."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis.errors import NoSuchExample
from jaxtyping import Float

import gradcheck
from gradcheck import boolean, case, integers, normal, one_hot, positive, simplex, spd, strategies, uniform
from gradcheck.errors import InputError
from gradcheck.strategies.arrays import literal_specs
from gradcheck.targets.specs import parse
from gradcheck.targets.specs.spec import LAYOUTS, draw_array

quick = settings(max_examples=25, deadline=None, database=None, suppress_health_check=list(HealthCheck))
corners = settings(max_examples=400, database=None, phases=[Phase.generate])

DOMAINS = {
    "normal": (normal("n", 3), np.isfinite),
    "uniform": (uniform(0.25, 0.75, "n"), lambda x: (x >= 0.25) & (x < 0.75)),
    "positive": (positive("n", "m"), lambda x: x > 0),
    "integers": (integers(-2, 5, "n"), lambda x: (x >= -2) & (x < 5)),
    "boolean": (boolean("n"), lambda x: (x == 0) | (x == 1)),
    "one_hot": (one_hot("n", 3), lambda x: x.sum(-1) == 1),
    "simplex": (simplex("n", 2), lambda x: np.abs(x.sum(-1) - 1) < 1e-6),
    "spd": (spd("n"), lambda x: np.abs(x - np.swapaxes(x, -1, -2)) < 1e-6),
    "large": (normal(9, 9), np.isfinite),
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", DOMAINS)
def test_arrays_keep_to_the_domain_of_their_spec(name, dtype):
    spec, inside = DOMAINS[name]

    @quick
    @given(literal_specs(spec, {}, dtype))
    def kept(literal):
        x = draw_array(literal, None, {}, "float64")
        assert x.dtype == (spec.dtype or dtype)
        assert x.ndim == len(spec.shape) + (spec.kind == "spd")
        assert np.all(inside(x))
        assert parse.parse_spec(str(literal)) == literal  # it can be typed

    kept()


@pytest.mark.parametrize(
    "corner",
    [
        lambda x: x.shape[0] == 0,
        lambda x: x.shape[0] == 1,
        lambda x: np.any((x == 0) & np.signbit(x)),
        lambda x: np.any((x != 0) & (np.abs(x) < 2.0**-1022)),
        lambda x: np.any(np.abs(x) > 1e4),
        lambda x: x.size > 3 and np.unique(x).size < x.size - 1,
        lambda x: x.size > 3 and x.strides[0] == 0,
        lambda x: x.size > 3 and x.flags.f_contiguous and not x.flags.c_contiguous,
        lambda x: x.size > 3 and not (x.flags.f_contiguous or x.flags.c_contiguous) and x.strides[0] != 0,
    ],
    ids=["no row", "one row", "negative zero", "denormal", "large", "ties", "expanded", "transposed", "strided"],
)
def test_corners_are_drawn(corner):
    drawn = find(strategies.arrays(normal("n", 3)), corner, settings=corners)
    assert corner(drawn)
    assert drawn.shape[1:] == (3,)


def test_the_border_of_a_domain_is_drawn():
    border = strategies.arrays(uniform(0, 1, "n"))
    below_one = np.nextafter(1, 0)
    assert 0 in find(border, lambda x: np.any(x == 0), settings=corners)
    assert below_one in find(border, lambda x: np.any(x == below_one), settings=corners)


def test_failures_shrink_to_few_plain_numbers():
    assert find(strategies.arrays(normal("n", "m")), lambda x: x.size, settings=quick).tolist() == [[1.0]]


@quick
@given(
    x=strategies.arrays(normal("batch", "d"), dtypes=("float64", "float32"), dims={"d": 3}),
    w=strategies.arrays({"w": normal("d"), "n": [integers(0, 2, "batch + 1")]}, dtypes=("float64", "float32"), dims={"d": 3}),
)
def test_the_arrays_of_a_test_share_sizes_and_dtype(x, w):
    assert x.shape == (len(w["n"][0]) - 1, 3)
    assert w["w"].shape == (3,)
    assert x.dtype == w["w"].dtype


def test_a_layout_or_dtype_that_the_spec_names_stays():
    spec = normal("n", 2, dtype="float32", layout="transposed")
    with pytest.raises(NoSuchExample):
        find(strategies.arrays(spec), lambda x: x.dtype != "float32" or not x.flags.f_contiguous, settings=quick)


def test_tensors_have_the_layout_too():
    tensors = strategies.arrays(normal("n", 2), framework="torch")
    found = find(tensors, lambda t: t.numel() > 2 and not t.is_contiguous(), settings=corners)
    assert isinstance(found, torch.Tensor)


@case(x=normal("n", 2), scale=0.5)
def halved(x, scale):
    return torch.sum(x) * scale


@quick
@given(strategies.inputs(halved))
def test_the_inputs_of_a_declared_case_are_those_of_a_call(drawn):
    args, kwargs = drawn
    assert args[1] == 0.5
    assert torch.is_tensor(halved(*args, **kwargs))


SHIFT = np.ones(2)


def annotated(x: Float[np.ndarray, "n 2"], shift=SHIFT):  # noqa: F722 - jaxtyping's own form
    return x + shift


def test_inputs_are_read_from_a_signature():
    (args, kwargs) = find(strategies.from_signature(annotated), lambda drawn: len(drawn[0][0]) == 3, settings=corners)
    assert annotated(*args, **kwargs).shape == (3, 2)


@quick
@given(strategies.special_values(dtype="float32", low=-1.0, high=1.0), strategies.layouts())
def test_special_values_and_layouts_alone(value, layout):
    assert -1 <= value < 1
    assert value == np.float32(value)
    assert layout in LAYOUTS


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: strategies.arrays(normal(3), framework="tensorflow"), "expected one of numpy, torch"),
        (lambda: strategies.special_values(low=1.0, high=1.0), "low < high"),
        (lambda: strategies.inputs(annotated), "0 declared cases"),
        (lambda: strategies.from_signature(lambda x: np.sum(x)), "no input for x"),
    ],
)
def test_inputs_that_cannot_be_drawn_are_refused(call, said):
    with pytest.raises(InputError, match=said):
        call()


@settings(max_examples=5, deadline=None, database=None)
@given(x=strategies.arrays(positive("n"), dims={"n": (1, 3)}))
def test_a_property_test_discards_what_the_function_rejects_and_lets_the_undecided_pass(x):
    def picky(x):
        if x[0] > 1:
            raise ValueError("too large")
        return np.sum(x**2) if x[0] < 1 else np.nan * x[0]

    gradcheck.assert_gradients(picky, x, gradient=lambda x: 2 * x, drawn=True)
