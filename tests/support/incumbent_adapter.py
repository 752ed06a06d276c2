"""How gradcheck answers the calls of `incumbent`; importing this does not import it."""

import numpy as np

from gradcheck.compat.answer import CheckCall, Translation, passes
from gradcheck.compat.checker import Checker
from gradcheck.errors import InputError


def bind(fn, derivative, x, *, atol=1e-5, rtol=1e-3, eps=1e-6, raises=True):
    return {"fn": fn, "derivative": derivative, "x": x, "atol": atol, "rtol": rtol, "eps": eps, "raises": raises}


def translate(arguments):
    call = bind(*arguments[0], **arguments[1])
    if not np.issubdtype(call["x"].dtype, np.floating):
        raise InputError("x: expected floating-point numbers")
    keywords = {"gradient": call["derivative"], "methods": ("analytic", "numeric"), "framework": "numpy"}
    tolerances = {name: 0.0 if call[name] == default else call[name] for name, default in (("atol", 1e-5), ("rtol", 1e-3))}
    return Translation((CheckCall(call["fn"], (call["x"],), keywords),), **tolerances)


def conclude(answer, arguments):
    from incumbent import CheckError

    right = passes(answer)
    if not right and bind(*arguments[0], **arguments[1])["raises"]:
        raise CheckError(f"gradcheck: {answer.describe()}")
    return right


def with_zero_gradient(arguments):
    call = bind(*arguments[0], **arguments[1])
    derivative = call["derivative"]
    return (), {**call, "derivative": lambda x: 0 * derivative(x)}


def scale_tolerances(arguments, factor):
    call = bind(*arguments[0], **arguments[1])
    return (), {**call, "atol": factor * call["atol"], "rtol": factor * call["rtol"]}


def read_tolerances(arguments):
    call = bind(*arguments[0], **arguments[1])
    return {"atol": call["atol"], "rtol": call["rtol"]}


CHECK_DERIVATIVE = Checker(
    "incumbent.check_derivative",
    "incumbent",
    "check_derivative",
    translate,
    conclude,
    lambda returned: returned,
    with_zero_gradient,
    scale_tolerances,
    read_tolerances,
)
CHECK_TWICE = Checker("incumbent.check_twice", "incumbent", "check_twice", translate, conclude, lambda returned: returned)
NORM_OF_ERRORS = Checker("incumbent.norm_of_errors", "incumbent", "norm_of_errors", translate, lambda *_: 0.0, lambda _: None)
CHECKERS = (CHECK_DERIVATIVE, CHECK_TWICE, NORM_OF_ERRORS)
