"""Functions that return their value with its gradient, and objects with parameters, as they are written."""

import copy
import functools

import numpy as np
import pytest

import gradcheck
from gradcheck.errors import UsageError
from gradcheck.results import Reason, Verdict
from tests.support.own_code import courses, layers, networks

RNG = np.random.default_rng(3)
ONLY = {"methods": ("analytic", "numeric")}


def draw(*shape):
    return RNG.normal(size=shape)


X, LABELS = draw(4, 6), np.array([0, 2, 1, 1])
BINARY = np.array([0.0, 1, 1, 0, 1, 0, 0])
PARAMETERS = {"W1": draw(4, 3), "b1": np.zeros((4, 1)), "W2": draw(1, 4), "b2": np.zeros((1, 1))}
FUNCTIONS = {
    "softmax": (layers.softmax_loss, (draw(5, 4), np.array([0, 3, 1, 1, 2])), {"x"}),
    "unrolled": (courses.nn_cost, (0.3 * draw(38), 3, 5, 3, draw(7, 3), np.array([0, 2, 1, 1, 0, 2, 2]), 1.0), {"theta"}),
    "last argument": (courses.cost_function, (draw(7, 3), BINARY, draw(3)), {"theta"}),
    "scipy": (courses.logistic, (draw(3), draw(7, 3), BINARY), {"w"}),
    "gradient first": (courses.propagate, (draw(3, 1), 0.5, draw(3, 7), BINARY[None].astype(int)), {"w", "b"}),
    "intermediates": (courses.model_loss, (PARAMETERS, draw(3, 7), BINARY[None]), {f"parameters['{k}']" for k in PARAMETERS}),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_right_function_passes_without_a_wrapper(name):
    function, inputs, wrt = FUNCTIONS[name]
    before = copy.deepcopy(inputs)
    result = gradcheck.check(function, *inputs, gradient="returned", **ONLY)
    assert result.verdict is Verdict.PASS, str(result)
    assert not result.unchecked
    assert {row.wrt for row in result.comparisons} == wrt
    np.testing.assert_equal(inputs, before)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_wrong_gradient_is_found(name):
    function, inputs, _ = FUNCTIONS[name]

    @functools.wraps(function)
    def wrong(*arguments):
        first, second = function(*arguments)
        if name == "gradient first":
            return first | {"dw": 2 * first["dw"]}, second
        return first, (second | {"dW1": 2 * second["dW1"]} if isinstance(second, dict) else 2 * second)

    result = gradcheck.check(wrong, *inputs, gradient=True, **ONLY)
    failing = {row.wrt for row in result.comparisons if row.verdict is Verdict.FAIL}
    expected = {"intermediates": {"parameters['W1']"}, "gradient first": {"w"}}
    assert failing == expected.get(name, FUNCTIONS[name][2])


def test_how_gradients_were_matched_is_shown():
    function, inputs, _ = FUNCTIONS["intermediates"]
    notes = gradcheck.check(function, *inputs, gradient="returned", **ONLY).notes
    assert "dW1 → parameters['W1']" in notes[0]
    assert notes[1:] == (
        "not compared, as they name no input: dA1, dZ1, dZ2",
        "no gradient is returned for X, Y, so none is checked",
    )


def two_inputs(a, b):
    return np.sum(a**2 * b[0]), np.concatenate([2 * a * b[0], [np.sum(a**2), 0.0]])


def test_one_vector_may_hold_all_gradients():
    result = gradcheck.check(two_inputs, draw(3), draw(2), gradient="returned", **ONLY)
    assert result.ok, str(result)
    assert {row.wrt for row in result.comparisons} == {"a", "b"}


@pytest.mark.parametrize("framework", ["jax", "autograd"])
def test_transformed_functions_of_other_packages_work_as_they_are(framework):
    package = pytest.importorskip(framework)
    numpy = pytest.importorskip(f"{framework}.numpy")

    def loss(w, x):
        return numpy.sum(numpy.tanh(x @ w) ** 2)

    result = gradcheck.check(package.value_and_grad(loss), draw(3), draw(5, 3), gradient="returned")
    assert result.ok, str(result)
    assert len({row.wrt for row in result.comparisons}) == 1


WRONG_FORMS = {
    "the value alone": (lambda w: np.sum(w**2), "returned an array of shape ()"),
    "an output with a cache": (
        lambda w: (w**2, (w,)),
        "the value one real number, and it returned an array of shape (3,), a tuple",
    ),
    "a wrong shape": (lambda w: (np.sum(w**2), np.zeros((3, 3))), "returned shape (3, 3) for w: expected (3,)"),
    "nothing": (lambda w: (np.sum(w**2), None), "returned None"),
    "unknown keys": (lambda w: (np.sum(w**2), {"speed": 2 * w}), "returned the keys speed, which name no input"),
}


@pytest.mark.parametrize("name", WRONG_FORMS)
def test_what_is_returned_in_a_wrong_form_is_named(name):
    function, message = WRONG_FORMS[name]
    result = gradcheck.check(function, draw(3), gradient="returned")
    assert (result.verdict, result.reason) == (Verdict.ERROR, Reason.BAD_CLAIM)
    assert message in result.message


def test_a_gradient_with_other_keys_in_a_later_call_is_refused():
    calls = []

    def unsteady(w):
        calls.append(1)
        return np.sum(w**2), {"dw" if len(calls) < 2 else "grad": 2 * w}

    result = gradcheck.check(unsteady, draw(3), gradient="returned")
    assert result.reason is Reason.BAD_CLAIM
    assert result.message.startswith("gradient='returned' returned no dw in a later call")


NAMES = {"params['W1']", "params['b1']", "params['W2']", "params['b2']"}


@pytest.mark.parametrize("how", ["container", "name", "names"])
def test_a_network_with_parameters_is_checked_and_left_alone(how):
    net = networks.TwoLayerNet()
    arrays, copies = dict(net.params), copy.deepcopy(net.params)
    params = {"container": net.params, "name": "params", "names": ("params['W1']", "params['b2']")}[how]
    result = gradcheck.check(net.loss, X, LABELS, params=params, gradient="returned", **ONLY)
    assert result.ok, str(result)
    assert {row.wrt for row in result.comparisons} == (NAMES if how != "names" else {"params['W1']", "params['b2']"})
    assert all(net.params[key] is array for key, array in arrays.items())
    np.testing.assert_equal(net.params, copies)


def test_parameters_that_layers_hold_too_move_everywhere():
    net = networks.LayerNet()
    result = gradcheck.check(net.loss, X, LABELS, params=net.params, gradient=net.gradient, **ONLY)
    assert result.ok, str(result)
    assert {row.wrt for row in result.comparisons} == NAMES
    assert not hasattr(net.last, "dx")


class WrongAffine(networks.Affine):
    def backward(self, dout):
        dx = super().backward(dout)
        self.dW = self.dW * 6
        return dx


class WrongNet(networks.LayerNet):
    affine = WrongAffine


def test_a_fault_in_a_layer_of_the_network_fails():
    net = WrongNet()
    result = gradcheck.check(net.loss, X, LABELS, params=net.params, gradient=net.gradient, **ONLY)
    assert {row.wrt for row in result.comparisons if row.verdict is Verdict.FAIL} == {"params['W1']", "params['W2']"}


weights = {"w": draw(3)}


def loss_of_a_global(x):
    return np.sum((x @ weights["w"]) ** 2), {"w": 2 * x.T @ (x @ weights["w"])}


def test_parameters_in_a_global_container_are_restored():
    array, before = weights["w"], weights["w"].copy()
    result = gradcheck.check(loss_of_a_global, draw(5, 3), params=weights, gradient="returned", **ONLY)
    assert result.ok, str(result)
    assert weights["w"] is array
    assert np.array_equal(array, before)


def test_a_parameter_without_a_gradient_counts_as_zero():
    class Forgetful(networks.TwoLayerNet):
        def loss(self, X, y=None):
            loss, grads = super().loss(X, y)
            return loss, {key: grads[key] for key in ("W1", "b1", "W2")}

    net = Forgetful()
    result = gradcheck.check(net.loss, X, LABELS, params=net.params, gradient="returned", **ONLY)
    assert {row.wrt for row in result.comparisons if row.verdict is Verdict.FAIL} == {"params['b2']"}
    assert any("params['b2']: no gradient counts as zero" in note for note in result.notes)


@pytest.mark.parametrize(
    ("value", "kind"), [([0.0] * 5, "a list"), (np.zeros(5, dtype=int), "an array of int64")], ids=["list", "integers"]
)
def test_a_parameter_that_cannot_be_moved_is_named(value, kind):
    net = networks.TwoLayerNet()
    net.params["b1"] = value
    result = gradcheck.check(net.loss, X, LABELS, params=net.params, gradient="returned")
    assert f"returned a gradient for params['b1'], which is {kind}" in result.message


class Unit(np.ndarray):
    pass


def read_only(x):
    x = x.copy()
    x.setflags(write=False)
    return x


@pytest.mark.parametrize("convert", [read_only, lambda x: x.view(Unit), np.float32], ids=["read-only", "subclass", "float32"])
def test_unusual_parameters_work(convert):
    net = networks.TwoLayerNet()
    net.params = {key: convert(value) for key, value in net.params.items()}
    kinds = {key: (type(x), x.dtype, x.flags.writeable) for key, x in net.params.items()}
    result = gradcheck.check(net.loss, X.astype(net.params["W1"].dtype), LABELS, params=net.params, gradient="returned", **ONLY)
    assert result.ok, str(result)
    assert kinds == {key: (type(x), x.dtype, x.flags.writeable) for key, x in net.params.items()}


def test_a_memory_mapped_parameter_is_left_alone(tmp_path):
    net, path = networks.TwoLayerNet(), tmp_path / "w.bin"
    mapped = np.memmap(path, dtype="float64", mode="w+", shape=(6, 5))
    mapped[:] = net.params["W1"]
    mapped.flush()
    content, net.params["W1"] = path.read_bytes(), mapped
    assert gradcheck.check(net.loss, X, LABELS, params=net.params, gradient="returned", **ONLY).ok
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"W1": draw(6, 5)}, r"TwoLayerNet\.loss does not read these arrays"),
        ("parms", r"TwoLayerNet\.parms does not exist \(arrays there: params\['W1'\]"),
    ],
)
def test_parameters_that_are_not_the_networks_are_refused(params, message):
    net = networks.TwoLayerNet()
    with pytest.raises(UsageError, match=message):
        gradcheck.check(net.loss, X, LABELS, params=params, gradient="returned")


def test_keys_of_parameters_without_params_say_what_to_give():
    result = gradcheck.check(networks.TwoLayerNet().loss, X, LABELS, gradient="returned")
    assert "name the container of parameters in params=" in result.message


def test_a_declared_case_takes_the_same_keywords():
    net = networks.TwoLayerNet()

    @gradcheck.case(X=X, y=LABELS, params=net.params, gradient="returned")
    def loss(X, y):
        return net.loss(X, y)

    result = gradcheck.check(loss)
    assert result.ok, str(result)
    assert {row.wrt for row in result.comparisons} == NAMES


def test_an_input_called_params_is_declared_by_its_name():
    @gradcheck.case(params={"w": X[0]}, x=X)
    def loss(params, x):
        return np.sum((x @ params["w"]) ** 2)

    result = gradcheck.check(loss, no_contract=("own-derivative",))
    assert result.ok, str(result)
    assert {row.wrt for row in result.comparisons} == {"params['w']", "x"}


class Table:
    """As a table of pandas is: it has a shape and a dtype, but is no array."""

    shape, dtype = (6, 5), np.dtype(float)

    def to_numpy(self):
        return np.zeros(self.shape)


def test_a_table_among_the_parameters_is_refused():
    net = networks.TwoLayerNet()
    net.params["W1"] = Table()
    with pytest.raises(
        UsageError, match=r"params\['W1'\] is a Table: parameters are arrays, so keep params\['W1'\].to_numpy\(\) there"
    ):
        gradcheck.check(net.loss, X, LABELS, params=net.params, gradient="returned")
