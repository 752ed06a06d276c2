"""Checks of declared models with wrong derivatives, and draws of the models' inputs."""

import inspect

import numpy as np

import gradcheck
from gradcheck import Verdict
from gradcheck.targets.case import get_declared_cases
from gradcheck.targets.specs.spec import Spec, draw_array

SIZES = {"N": 6, "M": 5, "L": 4, "K": 4, "n": 5}


def draw_inputs(model, seed=0):
    """Draw a declared model's inputs."""
    rng = np.random.default_rng(seed)
    inputs = get_declared_cases(model)[0].kwargs
    return {k: draw_array(v, rng, SIZES, "float64") if isinstance(v, Spec) else v for k, v in inputs.items()}


def check_with_derivative(model, wrong):
    """Check another derivative of a model than the one that it was declared with, and no traced one."""
    declared = get_declared_cases(model)[0]
    (kind,) = declared.claims
    dims = {name: SIZES[name] for name in declared.options.get("dims", {})}
    options = {"wrt": declared.wrt, "dims": dims, "methods": ("analytic",)}
    return gradcheck.check(model, kwargs=declared.kwargs, **options, **{kind: wrong})


def find_failing_leaves(model, corrupt):
    """Find the leaves on which a wrong derivative fails; `corrupt` makes it from the right one and a call's arguments."""
    (right,) = get_declared_cases(model)[0].claims.values()

    def wrong(*args, **kwargs):
        arguments = inspect.signature(right).bind(*args, **kwargs).arguments
        return corrupt(right, **arguments.pop("constants", {}), **arguments)

    return {c.wrt for c in check_with_derivative(model, wrong).comparisons if c.verdict is Verdict.FAIL}


def scale_leaf(leaf, factor):
    """Make a corruption that multiplies one leaf's part of a derivative by a factor."""

    def wrong(right, **arguments):
        g = right(**arguments)
        return g | {leaf: factor * g[leaf]}

    return wrong
