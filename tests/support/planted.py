"""Wrong derivatives planted in declared models, and the models' inputs drawn."""

import inspect

import numpy as np

import gradcheck
from gradcheck import Verdict
from gradcheck.targets.case import declared_on
from gradcheck.targets.specs.spec import Spec, draw

SIZES = {"N": 6, "M": 5, "L": 4, "K": 4, "n": 5}


def drawn(model, seed=0):
    """A declared model's inputs."""
    rng = np.random.default_rng(seed)
    inputs = declared_on(model)[0].kwargs
    return {k: draw(v, rng, SIZES, "float64") if isinstance(v, Spec) else v for k, v in inputs.items()}


def checked(model, wrong):
    """The result of a model with another derivative in place of the one it was declared with."""
    declared = declared_on(model)[0]
    (kind,) = declared.claims
    dims = {name: SIZES[name] for name in declared.options.get("dims", {})}
    return gradcheck.check(model, kwargs=declared.kwargs, wrt=declared.wrt, dims=dims, **{kind: wrong})


def failing(model, spoil):
    """The leaves on which a wrong derivative is caught: `spoil` is given the right one, and what that was called with."""
    (right,) = declared_on(model)[0].claims.values()

    def wrong(*args, **kwargs):
        given = inspect.signature(right).bind(*args, **kwargs).arguments
        return spoil(right, **given.pop("constants", {}), **given)

    return {c.wrt for c in checked(model, wrong).comparisons if c.verdict is Verdict.FAIL}


def scaled(leaf, factor):
    """To spoil one leaf's share of a derivative."""

    def wrong(right, **given):
        g = right(**given)
        return g | {leaf: factor * g[leaf]}

    return wrong
