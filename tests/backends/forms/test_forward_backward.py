"""Forward/backward layers as they are written: right ones pass, and a planted fault is named by its input and its cause."""

import copy

import numpy as np
import pytest

import gradcheck
from gradcheck.errors import UsageError
from gradcheck.results import Reason, Verdict
from tests.support.own_code import layers, networks

RNG = np.random.default_rng(5)
POOL = {"pool_height": 2, "pool_width": 2, "stride": 2}


def draw(*shape):
    return RNG.normal(size=shape)


LAYERS = {
    "affine": (draw(4, 3, 2), draw(6, 5), draw(5)),
    "relu": (draw(4, 3),),
    "conv": (draw(2, 3, 5, 4), draw(2, 3, 3, 2), draw(2), {"stride": 1, "pad": 1}),
    "max_pool": (draw(2, 3, 4, 6), POOL),
    "batchnorm": (draw(5, 4), draw(4), draw(4), {"mode": "train"}),
    "layernorm": (draw(5, 4), draw(4), draw(4), {}),
    "dropout": (draw(5, 4), {"p": 0.6, "mode": "train"}),
    "rnn_step": (draw(3, 4), draw(3, 5), 0.3 * draw(4, 5), 0.3 * draw(5, 5), draw(5)),
    "lstm_step": (draw(3, 4), draw(3, 5), draw(3, 5), draw(4, 20), draw(5, 20), draw(20)),
    "lstm": (draw(2, 3, 4), draw(2, 5), draw(4, 20), draw(5, 20), draw(20)),
}
GRADIENTS = [(name, i) for name, inputs in LAYERS.items() for i, x in enumerate(inputs) if isinstance(x, np.ndarray)]


def functions_of(name):
    return getattr(layers, f"{name}_forward"), getattr(layers, f"{name}_backward")


def failing_leaves(result):
    return {row.wrt for row in result.comparisons if row.verdict is Verdict.FAIL}


def diagnoses(result):
    return {row.diagnosis.partition(":")[0] for row in result.comparisons if row.diagnosis}


@pytest.mark.parametrize("name", LAYERS)
def test_a_right_layer_passes_without_a_wrapper(name):
    forward, backward = functions_of(name)
    before = copy.deepcopy(LAYERS[name])
    result = gradcheck.check(forward, *LAYERS[name], backward=backward, methods=("analytic", "numeric"))
    assert result.verdict is Verdict.PASS, str(result)
    assert not result.unchecked
    assert {row.method for row in result.comparisons} == {"analytic"}
    assert len({row.wrt for row in result.comparisons}) == sum(isinstance(x, np.ndarray) for x in LAYERS[name])
    for now, then in zip(LAYERS[name], before, strict=True):
        assert np.array_equal(now, then) if isinstance(now, np.ndarray) else now.keys() == then.keys()


@pytest.mark.parametrize(("name", "place"), GRADIENTS)
def test_a_fault_in_one_gradient_is_named(name, place):
    forward, backward = functions_of(name)

    def faulty_backward(*arguments):
        returned = backward(*arguments)
        gradients = list(returned) if isinstance(returned, tuple) else [returned]
        gradients[place] = 3 * gradients[place]
        return tuple(gradients) if isinstance(returned, tuple) else gradients[0]

    if name == "lstm_step":

        def with_two_cotangents(dnext_h, dnext_c, cache):
            return faulty_backward(dnext_h, dnext_c, cache)

        faulty = with_two_cotangents
    else:

        def faulty(dout, cache):
            return faulty_backward(dout, cache)

    result = gradcheck.check(forward, *LAYERS[name], backward=faulty, methods=("analytic", "numeric"))
    assert result.verdict is Verdict.FAIL
    assert failing_leaves(result) == {list(forward.__code__.co_varnames)[place]}
    assert "factor" in diagnoses(result)


def test_running_statistics_of_a_layer_are_left_as_they_were():
    running_mean, running_var = np.zeros(4), np.ones(4)
    bn_param = {"mode": "train", "running_mean": running_mean, "running_var": running_var}
    inputs = (draw(5, 4), draw(4), draw(4), bn_param)
    result = gradcheck.check(layers.batchnorm_forward, *inputs, backward=layers.batchnorm_backward)
    assert result.ok, str(result)
    assert bn_param["running_mean"] is running_mean
    assert np.array_equal(running_mean, np.zeros(4))
    assert {row.wrt for row in result.comparisons} == {"x", "gamma", "beta"}


def scale_forward(x, w):
    return x * w, (x, w)


def scale_backward(dout, cache):
    x, w = cache
    return dout * w, np.sum(dout * x, axis=0)


INPUTS = (draw(4, 3), draw(3))


@pytest.mark.parametrize(
    "backward",
    [
        lambda cache, dout: scale_backward(dout, cache),
        lambda dout, x, w: scale_backward(dout, (x, w)),
        lambda g, saved: dict(zip(("dx", "dw"), scale_backward(g, saved), strict=True)),
        lambda dy, cache: dict(zip(("x_grad", "grad_w"), scale_backward(dy, cache), strict=True)),
        lambda res, g: list(scale_backward(g, res)),
    ],
    ids=["cache first", "inputs by name", "marked keys", "other marks", "as in JAX"],
)
def test_the_order_and_the_keys_are_read_from_the_names(backward):
    assert gradcheck.check(scale_forward, *INPUTS, backward=backward, methods=("analytic", "numeric")).ok


def test_the_order_can_be_said():
    def backward(a, b):
        return scale_backward(b, a)

    result = gradcheck.check(scale_forward, *INPUTS, backward=backward, backward_takes="cache, dout")
    assert result.ok, str(result)


def test_an_unknown_role_is_refused():
    result = gradcheck.check(scale_forward, *INPUTS, backward=scale_backward, backward_takes="cache, frog")
    assert result.reason is Reason.BAD_CLAIM
    assert "'frog' is nothing that" in result.message


WRONG_FORMS = {
    "too few": (lambda dout, cache: scale_backward(dout, cache)[:1], "missing: w"),
    "too many": (lambda dout, cache: (*scale_backward(dout, cache), 1.0), "expected one for each of x (4, 3), w (3,)"),
    "another order": (lambda dout, cache: scale_backward(dout, cache)[::-1], "the shapes are those of another order"),
    "unknown keys": (lambda dout, cache: dict(zip("pq", scale_backward(dout, cache), strict=True)), "name no input"),
    "nothing": (lambda dout, cache: None, "returned None: expected a gradient for x (4, 3), w (3,)"),
    "wrong shape": (lambda dout, cache: (dout, dout), "returned shape (4, 3) for w: expected (3,)"),
    "misspelt": (
        lambda dout, cache: dict(zip(("dx", "dww"), scale_backward(dout, cache), strict=True)),
        "returned no gradient for w (3,); dww: no input has this name",
    ),
}


@pytest.mark.parametrize("name", WRONG_FORMS)
def test_gradients_in_a_wrong_form_are_refused_with_a_message(name):
    backward, message = WRONG_FORMS[name]
    result = gradcheck.check(scale_forward, *INPUTS, backward=backward)
    assert (result.verdict, result.reason) == (Verdict.ERROR, Reason.BAD_CLAIM)
    assert message in result.message


def test_a_forward_without_the_expected_cache_is_named():
    result = gradcheck.check(lambda x, w: x * w, *INPUTS, backward=scale_backward)
    assert "takes a cache, and the forward returned one ndarray of shape (4, 3) without one" in result.message


def test_an_input_without_a_gradient_is_left_out_with_a_note():
    result = gradcheck.check(scale_forward, *INPUTS, backward=lambda dout, cache: (None, scale_backward(dout, cache)[1]))
    assert result.ok
    assert result.notes == ("no gradient is returned for x, so none is checked",)


class Once(networks.Relu):
    called = False

    def forward(self, x):
        if self.called:
            raise RuntimeError("already called")
        self.called = True
        return super().forward(x)


class NeedsTwoForwards:
    def __init__(self):
        self.inputs = []

    def forward(self, x):
        self.inputs.append(x)
        return x**2

    def backward(self, dout):
        return 2 * dout * self.inputs[-2]


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (Once(), "the forward, called again as every check does, raised RuntimeError: already called"),
        (NeedsTwoForwards(), "raised IndexError: list index out of range; the forward is called once before each backward"),
    ],
)
def test_a_layer_that_cannot_be_checked_says_why(layer, message):
    result = gradcheck.check(layer, draw(4, 3))
    assert result.verdict is Verdict.ERROR
    assert message in result.message


class Buffered:
    buffer = np.zeros((4, 6))

    def forward(self, x):
        self.x = x
        return x**2

    def backward(self, dout):
        self.buffer[:] = 2 * dout * self.x
        return self.buffer


def test_a_backward_that_returns_its_buffer_breaks_a_contract():
    result = gradcheck.check(Buffered(), draw(4, 6), methods=("analytic", "numeric"))
    assert "state" in {c.name for c in result.contracts if c.verdict is Verdict.FAIL}


class Accumulating(networks.Affine):
    def backward(self, dout):
        before = self.dW
        dx = super().backward(dout)
        self.dW = self.dW if before is None else self.dW + before
        return dx


def test_gradients_are_as_before_the_first_backward_in_each_call_so_that_a_layer_may_accumulate():
    assert gradcheck.check(Accumulating(draw(6, 5), draw(5)), draw(4, 6)).ok


class WrongShape(networks.Affine):
    def backward(self, dout):
        dx = super().backward(dout)
        self.db = self.db[None]
        return dx


class NoGradient(networks.Affine):
    def backward(self, dout):
        dx = super().backward(dout)
        self.db = None
        return dx


def test_a_parameter_gradient_of_another_shape_is_refused():
    result = gradcheck.check(WrongShape(draw(6, 5), draw(5)), draw(4, 6))
    assert "returned shape (1, 5) for b: expected (5,)" in result.message


def test_a_parameter_without_a_gradient_is_named():
    result = gradcheck.check(NoGradient(draw(6, 5), draw(5)), draw(4, 6))
    assert "no gradient was found for b" in result.unchecked


class Named:
    """A layer whose gradients have other names."""

    gradient_name = "dW"

    def __init__(self):
        self.W = draw(6, 5)

    def forward(self, x):
        self.inputs = x
        self.output = x @ self.W
        return self.output

    def backward(self, dout):
        self.dinputs, self.doutput = dout @ self.W.T, dout
        setattr(self, self.gradient_name, 2 * self.inputs.T @ dout)
        return self.dinputs


@pytest.mark.parametrize("name", ["dLdW", "dL_dW", "d_W", "delta_W", "nabla_W", "gW", "W_grad", "grad_W", "dw"])
def test_a_wrong_gradient_is_found_by_its_name(name):
    layer = Named()
    layer.gradient_name = name
    result = gradcheck.check(layer, draw(4, 6), methods=("analytic", "numeric"))
    assert {row.wrt for row in result.comparisons} == {"x", "W"}
    assert failing_leaves(result) == {"W"}


class InContainer(Named):
    def backward(self, dout):
        self.grads = {"W": 2 * self.inputs.T @ dout}  # a new container in each call
        return dout @ self.W.T


def test_a_gradient_in_a_new_container_is_read_again():
    result = gradcheck.check(InContainer(), draw(4, 6), methods=("analytic", "numeric"))
    assert failing_leaves(result) == {"W"}
    assert "factor" in diagnoses(result)


class MeanSquaredError:
    def forward(self, p, t):
        return np.mean((p - t) ** 2)

    def backward(self, p, t):
        return 2 * (p - t) / p.size, 2 * (t - p) / p.size


def test_a_backward_of_the_inputs_alone_is_a_gradient():
    assert gradcheck.check(MeanSquaredError(), draw(4, 3), draw(4, 3)).ok


@pytest.mark.parametrize(
    "layer",
    [
        networks.Affine(draw(6, 5), draw(5)),
        networks.Relu(),
        networks.Sequential(networks.Affine(draw(6, 5), draw(5)), networks.Relu(), networks.Affine(draw(5, 3), draw(3))),
    ],
)
def test_a_layer_object_is_checked_with_its_parameters_and_left_alone(layer):
    state = copy.deepcopy(vars(layer))
    result = gradcheck.check(layer, draw(4, 6), methods=("analytic", "numeric"))
    assert result.ok, str(result)
    assert str(vars(layer)) == str(state) or isinstance(layer, networks.Sequential)
    expected = {"Affine": {"x", "W", "b"}, "Relu": {"x"}}.get(
        type(layer).__name__, {"x", "layers[0].W", "layers[0].b", "layers[2].W", "layers[2].b"}
    )
    assert {row.wrt for row in result.comparisons} == expected


class WrongAffine(networks.Affine):
    def backward(self, dout):
        dx = super().backward(dout)
        self.dW = self.dW / len(self.x)
        return dx


def test_a_fault_in_a_parameter_of_a_nested_layer_is_named():
    layer = networks.Sequential(networks.Affine(draw(6, 5), draw(5)), networks.Relu(), WrongAffine(draw(5, 3), draw(3)))
    result = gradcheck.check(layer, draw(4, 6), methods=("analytic", "numeric"))
    assert failing_leaves(result) == {"layers[2].W"}


def test_a_loss_layer_is_differentiated_as_a_scalar():
    result = gradcheck.check(networks.SoftmaxWithLoss(), draw(4, 3), np.array([0, 2, 1, 1]))
    assert result.ok, str(result)


def test_a_layer_that_cannot_be_copied_is_refused():
    class Locked(networks.Relu):
        def __deepcopy__(self, memo):
            raise TypeError("cannot be copied")

    with pytest.raises(UsageError, match="Locked cannot be copied"):
        gradcheck.check(Locked(), draw(4, 3))


class KeepsEverything:
    """Keeps its input and output with the gradients of both, next to its parameter."""

    def __init__(self):
        self.W = RNG.normal(size=(4, 3))

    def forward(self, inp):
        self.x, self.z = inp, inp @ self.W
        return self.z

    def backward(self, dout):
        self.dz, self.dW = dout, self.x.T @ dout
        self.dx = dout @ self.W.T
        return self.dx


class TransposedGradient(KeepsEverything):
    def backward(self, dout):
        super().backward(dout)
        self.dW = self.dW.T
        return self.dx


def test_values_that_a_layer_keeps_from_its_forward_are_no_parameters():
    result = gradcheck.check(KeepsEverything(), RNG.normal(size=(5, 4)), methods=("analytic", "numeric"))
    assert (result.verdict, [row.wrt for row in result.comparisons]) == (Verdict.PASS, ["W", "inp"])


def test_a_gradient_of_another_shape_than_its_parameter_is_not_passed_over():
    result = gradcheck.check(TransposedGradient(), RNG.normal(size=(5, 4)))
    assert result.verdict is Verdict.ERROR
    assert "returned shape (3, 4) for W: expected (4, 3), the shape of W" in result.message


class Stack:
    """Layers in a dictionary, whose keys are part of the parameters' paths."""

    def __init__(self):
        self.parts = {"first": KeepsEverything()}

    def forward(self, x):
        return self.parts["first"].forward(x)

    def backward(self, dout):
        return self.parts["first"].backward(dout)


def test_parameters_of_layers_in_a_dictionary_are_checked():
    result = gradcheck.check(Stack(), RNG.normal(size=(5, 4)), methods=("analytic", "numeric"))
    assert (result.verdict, [row.wrt for row in result.comparisons]) == (Verdict.PASS, ["parts['first'].W", "x"])


def test_parameters_may_be_given_as_a_new_list_of_what_an_object_holds():
    layer = KeepsEverything()

    def loss(self, x):
        out = self.forward(x)
        self.backward(out)
        return 0.5 * np.sum(out**2), [self.dW]

    result = gradcheck.check(
        loss.__get__(layer), RNG.normal(size=(5, 4)), params=[layer.W], gradient="returned", methods=("analytic", "numeric")
    )
    assert (result.verdict, [row.wrt for row in result.comparisons]) == (Verdict.PASS, ["params[0]"])


class LeavesEverything:
    """A layer whose forward and backward return nothing."""

    factor = 1

    def __init__(self):
        self.weights, self.biases = draw(6, 5), np.zeros((1, 5))

    def forward(self, inputs):
        self.inputs = inputs
        self.output = inputs @ self.weights + self.biases

    def backward(self, dvalues):
        self.dweights = self.inputs.T @ dvalues
        self.dbiases = self.factor * dvalues.sum(axis=0, keepdims=True)
        self.dinputs = dvalues @ self.weights.T


class LeavesWrong(LeavesEverything):
    factor = 2


@pytest.mark.parametrize(("layer", "wrong"), [(LeavesEverything(), set()), (LeavesWrong(), {"biases"})])
def test_a_layer_that_leaves_output_and_gradients_in_its_attributes_is_checked(layer, wrong):
    result = gradcheck.check(layer, draw(4, 6), methods=("analytic", "numeric"))
    assert {row.wrt for row in result.comparisons} == {"inputs", "weights", "biases"}
    assert failing_leaves(result) == wrong


class AddsToZeros(networks.Affine):
    def __init__(self):
        super().__init__(draw(6, 5), draw(5))
        self.dW = np.zeros((6, 5))

    def backward(self, dout):
        self.dW += self.x.T @ dout
        self.db = dout.sum(axis=0)
        return dout @ self.W.T


def test_gradients_that_are_added_to_zeros_in_place_are_checked():
    assert gradcheck.check(AddsToZeros(), draw(4, 6)).ok


class TiedByAView:
    def __init__(self):
        self.W = draw(4, 4)
        self.V = self.W.T

    def loss(self, x):
        return np.sum(x @ self.W @ self.V), {"W": np.zeros((4, 4))}


def test_a_parameter_with_a_view_that_would_not_move_is_refused():
    with pytest.raises(UsageError, match="W shares its memory with V"):
        gradcheck.check(TiedByAView().loss, draw(3, 4), params="W", gradient="returned")
