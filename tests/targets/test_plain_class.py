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


def test_a_plain_layer_class_is_recognised_with_a_snippet():
    with pytest.raises(UsageError, match=r"^Layer is a plain class and no nn\.Module: ") as caught:
        gradcheck.check(Layer, np.ones(3))
    snippet = str(caught.value).partition("as in\n")[2]
    namespace = {"layer": Layer(3), "gradcheck": gradcheck}
    call = snippet.splitlines()[1].strip().replace("normal(4, 3)", "normal(3)")
    assert eval(call, namespace).ok


@pytest.mark.parametrize("arguments", [{"fn": Layer(3)}, {"fn": Layer, "init": {"n": 3}}])
def test_the_backward_of_a_plain_layer_is_checked(arguments):
    result = gradcheck.check(arguments.pop("fn"), np.ones(3), **arguments)
    assert result.ok
    assert "analytic" in {comparison.method for comparison in result.comparisons}


def test_a_class_that_can_be_called_is_not_refused_once_it_is_built():
    class Callable:
        def __call__(self, x):
            return np.sum(x**2)

    assert gradcheck.check(Callable(), np.ones(3)).ok
