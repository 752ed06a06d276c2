import numpy as np
import pytest

import gradcheck
from gradcheck.errors import UsageError


class Layer:
    def __init__(self, n):
        self.w = np.ones(n)

    def forward(self, x):
        return np.sum(x * self.w)

    def backward(self, g):
        return g * self.w


@pytest.mark.parametrize("target", [Layer, Layer(3)])
def test_a_plain_layer_is_recognised_with_a_snippet(target):
    with pytest.raises(UsageError, match=r"^Layer is a plain class and no nn\.Module: ") as caught:
        gradcheck.check(target, np.ones(3))
    snippet = str(caught.value).partition("as in\n")[2]
    layer = Layer(3)
    namespace = {"layer": layer, "gradcheck": gradcheck}
    call = snippet.splitlines()[1].strip().replace("normal(4, 3)", "normal(3)")
    assert eval(call, namespace).ok


def test_a_constructed_layer_is_recognised_too():
    result = gradcheck.check(Layer, np.ones(3), init={"n": 3})
    assert "gradcheck.check(layer.forward, " in result.message


def test_a_class_that_can_be_called_is_not_refused_once_it_is_built():
    class Callable:
        def __call__(self, x):
            return np.sum(x**2)

    assert gradcheck.check(Callable(), np.ones(3)).ok
