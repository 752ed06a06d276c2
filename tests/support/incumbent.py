"""A checker of another project, for the tests of takeovers: central differences in plain NumPy.

`check_derivative(fn, derivative, x)` is what the suites of the tests call. It is decorated as HIPS autograd's is: the name of
the module stands for a wrapper, whose closure holds the function. `norm_of_errors` returns a number, like SciPy's.
"""

import warnings

import numpy as np


class CheckError(AssertionError):
    pass


def flexible(checker):
    """Decorate without `functools.wraps`, so that the function can be found in the closure only."""

    def call(*args, **kwargs):
        return checker(*args, **kwargs)

    return call


def differences(fn, x, eps):
    steps = eps * np.eye(x.size).reshape(-1, *x.shape)
    return np.array([(fn(x + step) - fn(x - step)) / (2 * eps) for step in steps]).reshape(x.shape)


DEFAULT_EPS = 1e-6


def make_checker():
    scale = 1.0  # a free variable, as the functions of other projects have some

    def check_derivative(fn, derivative, x, *, atol=1e-5, rtol=1e-3, eps=DEFAULT_EPS, raises=True):
        if not isinstance(x, np.ndarray):
            raise TypeError("x must be an array")
        if x.dtype == np.float32:
            warnings.warn("x is in single precision", stacklevel=2)
        right = np.allclose(derivative(x), scale * differences(fn, x, eps), rtol=rtol, atol=atol)
        if not right and raises:
            raise CheckError("derivative and differences disagree")
        return bool(right)

    return check_derivative


check_derivative = flexible(make_checker())


def check_twice(fn, derivative, x):
    """A checker that calls another one."""
    return check_derivative(fn, derivative, x) and check_derivative(fn, derivative, x + 0.5)


def norm_of_errors(fn, derivative, x, eps=DEFAULT_EPS):
    return float(np.linalg.norm(derivative(x) - differences(fn, x, eps)))
