"""A network in NumPy layer by layer: objects with forward and backward, and functions with a backward."""

import numpy as np
import pytest

import gradcheck
from gradcheck import Verdict
from gradcheck.errors import UsageError
from tests.support.own_code import layers
from tests.support.own_code.layers import affine_backward, affine_forward, batchnorm_backward, batchnorm_forward, softmax_loss
from tests.support.own_code.networks import Affine, LayerNet, Relu, Sequential, TwoLayerNet

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(6, 4)), RNG.integers(0, 3, 6)
# Without the derivative of the traced code, which takes most of the time and which other tests look at.
BY_HAND = {"by_layer": True, "methods": ("analytic", "numeric")}
ALL_RIGHT = "; everything else is right given its inputs"


def affine(cls, inputs, outputs):
    return cls(RNG.normal(size=(inputs, outputs)), np.zeros(outputs))


def check_loss(net, *inputs, **options):
    return gradcheck.check(net.loss, *inputs, params=net.params, gradient="returned", **BY_HAND, **options)


def find_verdicts(result):
    return {layer.path: layer.verdict for layer in result.layers if layer.path}


def find_failing(result):
    return [path for path, verdict in find_verdicts(result).items() if verdict in (Verdict.FAIL, Verdict.ERROR)]


# Objects with forward and backward


def test_the_objects_of_a_right_network_pass():
    net = LayerNet(inputs=4)
    result = gradcheck.check(net.loss, X, Y, params=net.params, gradient=net.gradient, by_layer=True)
    assert (result.verdict, result.culprit) == (Verdict.PASS, "")
    paths = ["layers['Affine1']", "layers['Relu1']", "layers['Affine2']", "last", "softmax_loss"]
    assert find_verdicts(result) == dict.fromkeys(paths, Verdict.PASS)


class TimesBatch(Affine):
    def backward(self, dout):
        dx = super().backward(dout)
        self.dW = self.dW * len(dout)
        return dx


class MeanOfBias(Affine):
    def backward(self, dout):
        dx = super().backward(dout)
        self.db = dout.mean(axis=0)
        return dx


class Untransposed(Affine):
    def backward(self, dout):
        super().backward(dout)
        return dout @ self.W


class TransposedGradient(Affine):
    def backward(self, dout):
        dx = super().backward(dout)
        self.dW = self.dW.T
        return dx


@pytest.mark.parametrize(
    ("cls", "outputs", "cause"),
    [
        (TimesBatch, 3, "layers[3].backward: dW is 6 times the derivative, where 6 is the size of x along axis 0"),
        (MeanOfBias, 3, "layers[3].backward: db is 0.1667 times the derivative: 1/6, where 6 is the size of x along axis 0"),
        (Untransposed, 5, "layers[3].backward: dx is wrong"),
        (TransposedGradient, 3, "layers[3].backward: returned shape (3, 5) for W: expected (5, 3), the shape of W"),
    ],
)
def test_a_wrong_object_is_named_with_the_gradient_and_the_cause(cls, outputs, cause):
    net = Sequential(affine(Affine, 4, 5), Relu(), affine(Affine, 5, 5), affine(cls, 5, outputs))
    result = gradcheck.check(net, X, **BY_HAND)
    assert result.culprit == cause + ALL_RIGHT
    assert find_failing(result) == ["layers[3]"]
    assert result.claim_file == __file__
    assert result.claim_line == cls.backward.__code__.co_firstlineno
    assert result.to_dict()["layers"][4]["derivative"] == "layers[3].backward"


def test_one_fault_in_two_objects_of_a_class_is_reported_once():
    result = gradcheck.check(Sequential(affine(TimesBatch, 4, 5), affine(TimesBatch, 5, 3)), X, **BY_HAND)
    assert result.culprit.startswith("layers[0].backward and layers[1].backward: dW is 6 times the derivative")
    assert str(result).count("numeric") < str(result).count("backward")
    assert "the backward of layers[0], see above" in str(result)


class Block(Sequential):
    """A layer made of layers, in a dictionary."""

    def __init__(self, **parts):
        super().__init__(*parts.values())
        self.layers = None
        self.parts = parts

    def forward(self, x):
        for part in self.parts.values():
            x = part.forward(x)
        return x

    def backward(self, dout):
        for part in reversed(self.parts.values()):
            dout = part.backward(dout)
        return dout


def test_what_holds_a_wrong_object_is_not_checked():
    net = Sequential(Block(a=affine(Affine, 4, 5), b=Relu()), Block(a=affine(MeanOfBias, 5, 5), b=Relu()))
    result = gradcheck.check(net, X, **BY_HAND)
    assert find_verdicts(result)["layers[1]"] is None
    assert find_verdicts(result)["layers[0]"] is Verdict.PASS
    assert result.culprit.startswith("layers[1].parts['a'].backward: db is")
    lines = [line.strip() for line in str(result).splitlines()]
    assert "├── layers[0]  Block  PASS with all 2 inside" in lines
    assert "└── layers[1]  Block  not checked: a layer inside is wrong" in lines
    assert "├── parts['a']  MeanOfBias  FAIL disagrees" in lines


class Clipping(Affine):
    def backward(self, dout):
        return super().backward(np.clip(dout, -50, 50))


class Scale:
    def forward(self, x):
        return 1000 * x

    def backward(self, dout):
        return 1000 * dout


def test_a_backward_that_is_wrong_for_the_gradient_that_it_really_gets_is_found():
    alone = gradcheck.check(affine(Clipping, 4, 3), X)
    assert alone.verdict is Verdict.PASS
    result = gradcheck.check(Sequential(affine(Affine, 4, 5), affine(Clipping, 5, 3), Scale()), X, **BY_HAND)
    assert result.culprit == "layers[1].backward: breaks the contract upstream" + ALL_RIGHT


class Keeps(Relu):
    """Keeps its input and the gradients of it and of its output, as many layers do; none of them is a parameter."""

    def forward(self, x):
        self.x = x
        self.out = super().forward(x)
        return self.out

    def backward(self, dout):
        self.dout = dout
        self.dx = super().backward(dout)
        return self.dx


def test_values_that_a_layer_keeps_are_no_parameters():
    result = gradcheck.check(Sequential(affine(Affine, 4, 5), Keeps()), X, **BY_HAND)
    assert result.verdict is Verdict.PASS
    assert find_verdicts(result) == dict.fromkeys(("layers[0]", "layers[1]"), Verdict.PASS)


# Functions with a backward


def batchnorm_backward_without_mean(dout, cache):
    normalised, std, gamma = cache
    d = dout * gamma
    return (d - normalised * (d * normalised).mean(axis=0)) / std, (dout * normalised).sum(axis=0), dout.sum(axis=0)


def affine_relu_forward(x, w, b):
    out, affine_cache = affine_forward(x, w, b)
    out, relu_cache = layers.relu_forward(out)
    return out, (affine_cache, relu_cache)


def affine_relu_backward(dout, cache):
    affine_cache, relu_cache = cache
    return affine_backward(layers.relu_backward(dout, relu_cache), affine_cache)


class DeepNet:
    """Composed layers, a normalisation that collects running means, and a module whose functions are called by attribute."""

    def __init__(self):
        self.params = {"W1": RNG.normal(size=(4, 5)), "b1": np.zeros(5), "gamma": np.ones(5), "beta": np.zeros(5)}
        self.params |= {"W2": RNG.normal(size=(5, 3)), "b2": np.zeros(3)}
        self.bn_param = {"mode": "train"}

    def loss(self, x, y):
        p, grads = self.params, {}
        h, cache1 = affine_relu_forward(x, p["W1"], p["b1"])
        h, cache2 = batchnorm_forward(h, p["gamma"], p["beta"], self.bn_param)
        scores, cache3 = affine_forward(h, p["W2"], p["b2"])
        loss, dh = softmax_loss(scores, y)
        dh, grads["W2"], grads["b2"] = affine_backward(dh, cache3)
        dh, grads["gamma"], grads["beta"] = self.differentiate_norm(dh, cache2)
        _, grads["W1"], grads["b1"] = self.differentiate_first(dh, cache1)
        return loss, grads

    def differentiate_norm(self, dh, cache):
        return batchnorm_backward(dh, cache)

    def differentiate_first(self, dh, cache):
        return affine_relu_backward(dh, cache)


class WithoutMean(DeepNet):
    def differentiate_norm(self, dh, cache):
        return batchnorm_backward_without_mean(dh, cache)


class WithoutRelu(DeepNet):
    def differentiate_first(self, dh, cache):
        return affine_backward(dh, cache[0])


class TwiceTheBias(DeepNet):
    def loss(self, x, y):
        loss, grads = super().loss(x, y)
        return loss, {**grads, "b2": 2 * grads["b2"]}


def test_the_functions_of_a_right_network_pass_and_everything_is_put_back():
    net, own, of_module = DeepNet(), dict(globals()), dict(vars(layers))
    result = check_loss(net, X, Y)
    assert result.verdict is Verdict.PASS
    paths = ["affine_relu_backward", "batchnorm_backward", "softmax_loss", "affine_backward", "relu_backward"]
    assert find_verdicts(result) == dict.fromkeys(paths, Verdict.PASS)
    assert "affine_backward  function ×2  PASS" in str(result)
    assert net.bn_param == {"mode": "train"}
    assert all(globals()[name] is value for name, value in own.items())
    assert all(vars(layers)[name] is value for name, value in of_module.items() if callable(value))


def test_a_wrong_function_is_named():
    result = check_loss(WithoutMean(), X, Y)
    assert result.culprit == "batchnorm_backward_without_mean: dx is wrong" + ALL_RIGHT
    assert result.claim_line == batchnorm_backward_without_mean.__code__.co_firstlineno


def test_a_function_whose_backward_is_never_called_is_named():
    result = check_loss(WithoutRelu(), X, Y)
    assert result.verdict is Verdict.FAIL
    assert result.culprit == ("every layer is right given its inputs: affine_relu_backward and relu_backward are never called")
    assert "relu_backward  function  not checked: its backward was never called" in str(result)


def test_a_fault_between_right_layers_is_that_of_the_network():
    result = check_loss(TwiceTheBias(), X, Y)
    assert {row.wrt for row in result.comparisons if row.verdict is Verdict.FAIL} == {"params['b2']"}
    assert result.culprit == "every layer is right given its inputs: look at what the model does between them"


def step_forward(x, h, W):
    return np.tanh(x @ W + h), (x, h, W)


def step_backward(dout, cache):
    """Is wrong where the state is zero, that is in the first step."""
    x, h, W = cache
    d = dout * (1 - np.tanh(x @ W + h) ** 2)
    return d @ W.T, d, (x.T @ d) * (1 if h.any() else 2)


def recurrent_loss(W, xs):
    h, caches = np.zeros((6, 3)), []
    for x in xs:
        h, cache = step_forward(x, h, W)
        caches.append(cache)
    dW, dh = np.zeros_like(W), h.copy()
    for cache in reversed(caches):
        _, dh, dWt = step_backward(dh, cache)
        dW += dWt
    return 0.5 * np.sum(h**2), dW


def test_the_calls_that_are_wrong_are_numbered_and_only_the_first_are_checked():
    xs, W = RNG.normal(size=(7, 6, 4)), RNG.normal(size=(4, 3))
    result = gradcheck.check(recurrent_loss, W, xs, gradient="returned", wrt="W", **BY_HAND)
    assert result.culprit == "step_backward (call 1): dW is 2 times the derivative" + ALL_RIGHT
    right = gradcheck.check(recurrent_loss, 0 * W, 0 * xs, gradient="returned", wrt="W", **BY_HAND)
    assert "step_backward  function ×7" in str(right)


class ConvNet:
    """A maximum over windows of a ReLU's zeros: the pool's backward is wrong at these ties, and the network's is right."""

    def __init__(self):
        self.params = {"w": RNG.normal(size=(2, 1, 3, 3)), "b": np.zeros(2)}

    def loss(self, x, y):
        h, cache1 = layers.conv_forward(x, self.params["w"], self.params["b"], {"stride": 1, "pad": 1})
        h, cache2 = layers.relu_forward(h)
        h, cache3 = layers.max_pool_forward(h, {"pool_height": 2, "pool_width": 2, "stride": 2})
        loss, dh = softmax_loss(h.reshape(len(h), -1), y)
        dh = layers.relu_backward(layers.max_pool_backward(dh.reshape(h.shape), cache3), cache2)
        _, dw, db = layers.conv_backward(dh, cache1)
        return loss, {"w": dw, "b": db}


def test_a_backward_that_is_wrong_only_at_ties_is_left_to_the_network():
    result = check_loss(ConvNet(), RNG.normal(size=(4, 1, 4, 4)), RNG.integers(0, 8, 4))
    assert result.verdict is Verdict.PASS
    assert find_verdicts(result)["max_pool_backward"] is Verdict.INCONCLUSIVE


class MeanInEachLayer(Affine):
    def backward(self, dout):
        dx = super().backward(dout)
        self.dW, self.db = self.dW / len(dout), self.db / len(dout)
        return dx


class MeanOfLosses(Sequential):
    """Each layer takes the mean over the batch, and the loss does not pass one on: together they are right."""

    def loss(self, x, y):
        error = self.forward(x) - y
        self.backward(error)
        return 0.5 * np.sum(error**2) / len(x), {"W": self.layers[0].dW, "b": self.layers[0].db}


def test_a_convention_that_layers_share_is_no_fault_of_the_network():
    net = MeanOfLosses(affine(MeanInEachLayer, 4, 3))
    params = {"W": net.layers[0].W, "b": net.layers[0].b}
    result = gradcheck.check(net.loss, X, RNG.normal(size=(6, 3)), params=params, gradient="returned", **BY_HAND)
    assert result.verdict is Verdict.PASS
    assert find_verdicts(result) == {"layers[0]": Verdict.INCONCLUSIVE}
    assert result.culprit == (
        "the model is right, although not every layer is alone: layers[0].backward: dW and db are 0.1667 times the"
        " derivative: 1/6, where 6 is the size of x along axis 0"
    )


# What cannot be checked


class TakesRate(Affine):
    def backward(self, dout, rate):
        return super().backward(dout)


class WithRate(Sequential):
    def backward(self, dout):
        return self.layers[0].backward(dout, 0.1)


class Raising(Relu):
    def backward(self, dout):
        raise ValueError("boom")


class Holding(Relu):
    def __init__(self):
        self.numbers = (i for i in range(3))


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        (lambda x: x**2, {"gradient": None}, "has no hand-written backward, whose layers it names: give gradient="),
        (
            lambda x: x**2,
            {"vjp": lambda v, x: 2 * x * v},
            "no layer was found in .*: expected objects with forward and backward",
        ),
        (Sequential(Holding()), {}, "the Sequential cannot be copied .*generator"),
    ],
)
def test_a_network_without_layers_is_refused(target, options, message):
    with pytest.raises(UsageError, match=message):
        gradcheck.check(target, X, **BY_HAND, **options)


def test_a_layer_that_cannot_be_checked_says_why():
    result = gradcheck.check(WithRate(affine(TakesRate, 4, 3)), X, **BY_HAND)
    (layer,) = result.layers[1:]
    assert layer.message == "not checked: its backward takes rate, which its forward neither receives nor returns"
    assert layer.verdict is None


def test_a_backward_that_raises_is_shown_with_its_line():
    result = gradcheck.check(Sequential(affine(Affine, 4, 5), Raising()), X, **BY_HAND)
    assert result.verdict is Verdict.ERROR
    assert "raised ValueError: boom" in result.message
    assert "test_by_layer_numpy.py" in result.traceback


def test_layers_of_a_script_are_found_and_left_as_they_were():
    hidden = [affine(Affine, 4, 5), Relu(), affine(Affine, 5, 3)]

    def loss_and_gradient(W, x, y):
        hidden[0].W = W
        for layer in hidden:
            x = layer.forward(x)
        loss, dout = softmax_loss(x, y)
        for layer in reversed(hidden):
            dout = layer.backward(dout)
        return loss, hidden[0].dW

    methods = dict(vars(Affine))
    result = gradcheck.check(loss_and_gradient, hidden[0].W, X, Y, gradient="returned", wrt="W", **BY_HAND)
    assert result.verdict is Verdict.PASS
    assert find_verdicts(result) == dict.fromkeys(("hidden[0]", "hidden[1]", "hidden[2]", "softmax_loss"), Verdict.PASS)
    assert dict(vars(Affine)) == methods


def test_each_layer_has_a_name_a_kind_and_the_number_of_its_calls():
    found = [(layer.path, layer.kind, layer.calls) for layer in check_loss(TwoLayerNet(inputs=4), X, Y).layers]
    pairs = [(name, "function", calls) for name, calls in (("affine_backward", 2), ("relu_backward", 1), ("softmax_loss", 1))]
    assert found == [("", "TwoLayerNet", 0), *pairs]
