import functools

import numpy as np
import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from gradcheck.errors import InputError
from gradcheck.targets.signature import Inputs, read_parameters, resolve_inputs
from gradcheck.targets.specs.spec import normal

Batch, Rows, Row, Scalar = (Float[Tensor, dims] for dims in ("batch 3", "n 3", "3", ""))


class Layer(torch.nn.Module):
    def forward(self, x: Batch, scale=1.0):
        return x * scale


class WithContext(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w):
        return x * w


class WithSetup(torch.autograd.Function):
    @staticmethod
    def forward(x, w):
        return x * w

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass


class InheritsSetup(WithSetup):
    pass


def plain(x, w, b=0.0):
    return x * w + b


def annotated(x: Rows, w: Row, b: Scalar = None, scale: Scalar = 2.0):
    return x @ w * scale


def variadic(x, *rest, scale, **more):
    return x


def names(target):
    return [p.name for p in read_parameters(target)]


# --- parameters


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (plain, ["x", "w", "b"]),
        (functools.partial(plain, 1.0), ["w", "b"]),
        (Layer, ["x", "scale"]),
        (Layer(), ["x", "scale"]),
        (WithContext, ["x", "w"]),
        (WithSetup, ["x", "w"]),
        (InheritsSetup, ["x", "w"]),
    ],
)
def test_parameters_are_those_of_a_call(target, expected):
    assert names(target) == expected


def test_parameters_of_some_builtin_functions_are_not_known():
    assert read_parameters(torch.nn.functional.gelu) is None


# --- sources


def test_inputs_by_position_and_by_name_meet_in_the_order_of_the_parameters():
    assert (
        resolve_inputs(plain, (1,), {"w": 2}) == resolve_inputs(plain, (), {"w": 2, "x": 1}) == Inputs((1, 2), {}, ("x", "w"))
    )


def test_positions_count_what_is_not_given_by_name():
    assert resolve_inputs(plain, (2, 3), {"x": 1}).args == (1, 2, 3)


def test_what_is_given_now_comes_before_what_is_declared():
    assert resolve_inputs(plain, (1,), {}, (10, 20), {"b": 30}).args == (1, 20, 30)
    assert resolve_inputs(plain, (), {"w": 2}, (10, 20), {}).args == (10, 2)
    assert resolve_inputs(plain, (1, 2, 3), {}, (), {"b": 30}).args == (1, 2, 3)


def test_what_is_declared_comes_before_annotations():
    assert resolve_inputs(annotated, (), {}, (), {"w": 20}).args == (normal("n", 3), 20, normal())


def test_annotations_fill_what_has_no_default_or_none():
    assert resolve_inputs(annotated, (), {}) == Inputs((normal("n", 3), normal(3), normal()), {}, ("x", "w", "b"))


def test_array_defaults_are_inputs_and_other_defaults_are_left_to_python():
    default = np.ones(3)

    def f(x, w=default, mode="mean", scale=2.0):
        return x

    assert resolve_inputs(f, (1,), {}) == Inputs((1, default), {}, ("x", "w"))


def test_annotations_of_a_module_are_those_of_forward():
    expected = Inputs((normal("batch", 3),), {}, ("x",))
    assert resolve_inputs(Layer, (), {}) == expected
    assert resolve_inputs(Layer(), (), {}) == expected


# --- the form of the call


def test_after_a_default_that_is_left_out_inputs_go_by_name():
    def f(x, mode="mean", w=None):
        return x

    assert resolve_inputs(f, (1,), {"w": 2}) == Inputs((1,), {"w": 2}, ("x",))


def test_keyword_only_inputs_go_by_name():
    assert resolve_inputs(variadic, (1,), {"scale": 2}) == Inputs((1,), {"scale": 2}, ("x",))


def test_further_inputs_go_to_star_args_and_are_numbered():
    expected = Inputs((1, 2, 3), {"scale": 4}, ("x", "rest[0]", "rest[1]"))
    assert resolve_inputs(variadic, (1, 2, 3), {"scale": 4}) == expected
    assert resolve_inputs(variadic, (2, 3), {"scale": 4, "x": 1}) == expected


def test_star_args_given_now_replace_the_declared_ones_as_a_whole():
    assert resolve_inputs(variadic, (1, 2), {"scale": 4}, (10, 20, 30), {}).args == (1, 2)
    assert resolve_inputs(variadic, (1,), {"scale": 4}, (10, 20, 30), {}).args == (1, 20, 30)


def test_star_args_alone_may_be_empty():
    assert resolve_inputs(lambda *xs: xs, (), {}) == Inputs()


def test_names_that_no_parameter_has_go_to_star_star_kwargs():
    assert resolve_inputs(variadic, (1,), {"scale": 2, "extra": 3}).kwargs == {"scale": 2, "extra": 3}


def test_positional_only_inputs_go_by_position():
    def f(x, w=2.0, /, b=3.0):
        return x

    assert resolve_inputs(f, (1,), {"b": 4}) == Inputs((1,), {"b": 4}, ("x",))


def test_where_parameters_are_not_known_inputs_go_as_they_were_given():
    gelu = torch.nn.functional.gelu
    assert resolve_inputs(gelu, (1,), {"approximate": "tanh"}) == Inputs((1,), {"approximate": "tanh"}, ("arg0",))
    assert resolve_inputs(gelu, (), {"approximate": "none"}, (1,), {"approximate": "tanh"}) == Inputs(
        (1,), {"approximate": "none"}, ("arg0",)
    )


# --- messages


def test_missing_inputs_are_listed_with_a_call_to_paste_in_python():
    with pytest.raises(InputError, match=r"no input for x, w \(the target takes x, w, b\)") as raised:
        resolve_inputs(plain, (), {})
    assert "kwargs=dict(x=gradcheck.normal(4, 3), w=gradcheck.normal(4, 3))" in str(raised.value)


def test_missing_inputs_are_listed_with_a_command_to_paste_on_the_command_line():
    with pytest.raises(InputError, match=r"no input for w \(the target takes x, w, b\)") as raised:
        resolve_inputs(plain, (1,), {}, command="models.py:plain")
    assert str(raised.value).splitlines()[-1].strip() == "gradcheck run models.py:plain --input w='normal(4, 3)'"


def test_a_missing_keyword_only_input_is_listed():
    with pytest.raises(InputError, match=r"no input for scale \(the target takes x, rest, scale, more\)"):
        resolve_inputs(variadic, (1,), {})


def test_superfluous_inputs_are_counted():
    with pytest.raises(InputError, match=r"5 positional inputs, but the target takes 3 \(x, w, b\): leave out the last 2"):
        resolve_inputs(plain, (1, 2, 3, 4, 5), {})


def test_inputs_for_a_target_that_takes_none_are_superfluous():
    with pytest.raises(InputError, match=r"1 positional inputs, but the target takes 0 \(none\): leave out the last 1"):
        resolve_inputs(lambda: 0, (1,), {})


def test_superfluous_declared_inputs_are_refused_too():
    with pytest.raises(InputError, match="4 positional inputs, but the target takes 3"):
        resolve_inputs(plain, (), {}, (1, 2, 3, 4), {})


def test_an_unknown_name_is_reported_with_a_similar_one():
    with pytest.raises(InputError, match=r"no parameter 'wieght' \(it takes weight, bias\); did you mean 'weight'\?"):
        resolve_inputs(lambda weight, bias: weight, (), {"wieght": 1})


def test_an_unknown_name_without_a_similar_one_is_reported_with_what_is_taken():
    with pytest.raises(InputError, match=r"no parameter 'q' \(it takes x, w, b\)$"):
        resolve_inputs(plain, (1, 2), {"q": 1})
    with pytest.raises(InputError, match=r"no parameter 'q' \(it takes none\)$"):
        resolve_inputs(lambda: 0, (), {"q": 1})


def test_the_context_of_a_custom_function_is_no_input():
    with pytest.raises(InputError, match=r"no input for w \(the target takes x, w\)"):
        resolve_inputs(WithContext, (1,), {})
