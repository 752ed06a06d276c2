import numpy as np
import pytest
import torch
from planted import draw_inputs, find_failing_leaves, scale_leaf

import gradcheck
from gradcheck.reference import optimisers
from gradcheck.targets.case import get_declared_cases
from gradcheck.trees import flatten

MODELS = ["sgd", "sgd_weight_decay", "momentum", "rmsprop", "adam", "adamw"]


def without_lr(right, **given):
    return right(**given) | {"lr": np.zeros(())}


def of_unit_lr(right, lr, **given):
    return right(lr=1.0, **given)


def without_decay(right, decay, **given):
    return right(decay=0.0, **given)


def without_way_through_parameters(right, cotangents, **given):
    g = right((0 * cotangents[0], *cotangents[1:]), **given)
    return right(cotangents, **given) | {"velocity": g["velocity"]}


def without_way_through_velocity(right, cotangents, **given):
    return right(cotangents, **given) | {"g": -given["lr"] * cotangents[0]}


def without_eps(right, eps, **given):
    return right(eps=0.0, **given)


def with_eps_inside_the_root(right, cotangents, theta, g, square, lr, rho, eps):
    root = np.sqrt(rho * square + (1 - rho) * g**2 + eps)
    return right(cotangents, theta, g, square, lr, rho, eps) | {"lr": -np.sum(g / root * cotangents[0])}


def with_square_held(right, cotangents, theta, g, square, lr, rho, eps):
    root = np.sqrt(rho * square + (1 - rho) * g**2) + eps
    return right(cotangents, theta, g, square, lr, rho, eps) | {"g": -lr * cotangents[0] / root}


def without_bias_correction(right, step, **given):
    return right(step=10**6, **given)


def off_by_one_step(right, step, **given):
    return right(step=step - 1, **given)


def without_own_state(right, cotangents, **given):
    return right((cotangents[0], 0 * cotangents[1], 0 * cotangents[2]), **given)


def with_decay_through_gradient(right, cotangents, theta, g, decay, **given):
    coupled = optimisers.adam_vjp(cotangents, theta, g + decay * theta, **given)
    return coupled | {"theta": cotangents[0] + decay * coupled["g"], "decay": np.sum(theta * coupled["g"])}


ADAM = {"g", "m", "v", "lr"}
FAULTS = [
    ("sgd", "factor 2", scale_leaf("lr", 2), {"lr"}),
    ("sgd", "sign", scale_leaf("g", -1), {"g"}),
    ("sgd", "missing learning rate", of_unit_lr, {"g"}),
    ("sgd", "derivative by the learning rate forgotten", without_lr, {"lr"}),
    ("sgd_weight_decay", "factor 2", scale_leaf("decay", 2), {"decay"}),
    ("sgd_weight_decay", "sign", scale_leaf("theta", -1), {"theta"}),
    ("sgd_weight_decay", "missing regularisation", without_decay, {"theta", "lr"}),
    ("momentum", "factor 2", scale_leaf("velocity", 2), {"velocity"}),
    ("momentum", "sign", scale_leaf("lr", -1), {"lr"}),
    ("momentum", "velocity's way through the parameters forgotten", without_way_through_parameters, {"velocity"}),
    ("momentum", "gradient's way through the velocity forgotten", without_way_through_velocity, {"g"}),
    ("rmsprop", "factor 2", scale_leaf("square", 2), {"square"}),
    ("rmsprop", "sign", scale_leaf("g", -1), {"g"}),
    ("rmsprop", "missing eps", without_eps, {"g", "square", "lr"}),
    ("rmsprop", "eps inside the root", with_eps_inside_the_root, {"lr"}),
    ("rmsprop", "square held", with_square_held, {"g"}),
    ("adam", "factor 2", scale_leaf("v", 2), {"v"}),
    ("adam", "sign", scale_leaf("m", -1), {"m"}),
    ("adam", "missing eps", without_eps, ADAM),
    ("adam", "missing bias correction", without_bias_correction, ADAM),
    ("adam", "off by one step", off_by_one_step, ADAM),
    ("adam", "new state forgotten", without_own_state, {"g", "m", "v"}),
    ("adam", "derivative by the learning rate forgotten", without_lr, {"lr"}),
    ("adamw", "factor 2", scale_leaf("lr", 2), {"lr"}),
    ("adamw", "sign", scale_leaf("theta", -1), {"theta"}),
    ("adamw", "missing decay", without_decay, {"theta", "lr"}),
    ("adamw", "decay through the gradient", with_decay_through_gradient, {"theta", "decay"} | ADAM),
]


@pytest.mark.parametrize(("name", "corrupt", "leaves"), [pytest.param(n, s, v, id=f"{n}: {f}") for n, f, s, v in FAULTS])
def test_a_fault_is_caught_where_it_is(name, corrupt, leaves):
    assert find_failing_leaves(getattr(optimisers, name), corrupt) == leaves


@pytest.mark.parametrize("name", MODELS)
def test_the_twin_computes_the_same_value(name):
    inputs = draw_inputs(getattr(optimisers, name))
    found = getattr(optimisers, f"torch_{name}")(
        **{k: torch.as_tensor(v) if isinstance(v, np.ndarray) else v for k, v in inputs.items()}
    )
    for ours, theirs in zip(flatten(getattr(optimisers, name)(**inputs)).leaves, flatten(found).leaves, strict=True):
        np.testing.assert_allclose(theirs.numpy(), ours, rtol=1e-12)


# The model, PyTorch's optimiser, its constants, ours.
PYTORCH = {
    "sgd": (torch.optim.SGD, {}, {}),
    "sgd_weight_decay": (torch.optim.SGD, {"weight_decay": 0.05}, {"decay": 0.05}),
    "momentum": (torch.optim.SGD, {"momentum": 0.9}, {}),
    "rmsprop": (torch.optim.RMSprop, {}, {}),
    "adam": (torch.optim.Adam, {}, {}),
    "adamw": (torch.optim.AdamW, {"weight_decay": 0.05}, {"decay": 0.05}),
}
STATES = {"velocity": "momentum_buffer", "square": "square_avg", "m": "exp_avg", "v": "exp_avg_sq"}


def states_of(name):
    return [state for state in STATES if state in get_declared_cases(getattr(optimisers, name))[0].wrt]


@pytest.mark.parametrize("name", MODELS)
def test_steps_in_a_row_are_those_of_torch_optim(name):
    rng = np.random.default_rng(0)
    optimiser, theirs, ours = PYTORCH[name]
    theta = rng.standard_normal((3, 2))
    parameter = torch.tensor(theta, requires_grad=True)
    stepper = optimiser([parameter], lr=0.02, **theirs)
    state = dict.fromkeys(states_of(name), np.zeros((3, 2)))
    for step in range(1, 6):
        g = rng.standard_normal((3, 2))
        parameter.grad = torch.as_tensor(g)
        stepper.step()
        counted = {"step": step} if "m" in state else {}
        theta, *new = flatten(getattr(optimisers, name)(theta=theta, g=g, lr=0.02, **state, **ours, **counted)).leaves
        state = dict(zip(state, new, strict=True))
        np.testing.assert_allclose(theta, parameter.detach().numpy(), rtol=1e-12)
        for own, value in state.items():
            np.testing.assert_allclose(value, stepper.state[parameter][STATES[own]].numpy(), rtol=1e-12)


@pytest.mark.parametrize("name", MODELS)
def test_the_derivatives_by_hand_are_those_of_torch_optim_itself(name):
    """But for that by the learning rate, which not every optimiser there takes as a tensor."""
    (declared,) = get_declared_cases(getattr(optimisers, f"torch_{name}"))
    optimiser, theirs, ours = PYTORCH[name]
    inputs = {leaf: declared.kwargs[leaf] for leaf in ("theta", "g", *states_of(name))}

    def step(theta, g, **state):
        parameter = theta.clone()
        parameter.grad = g
        stepper = optimiser([parameter], lr=0.02, differentiable=True, **theirs)
        held = {STATES[own]: value.clone() for own, value in state.items()}
        stepper.state[parameter].update(held, step=torch.zeros((), dtype=torch.float64))
        stepper.step()
        return (parameter, *(stepper.state[parameter][STATES[own]] for own in state)) if state else parameter

    def vjp(cotangents, theta, g, **state):
        found = declared.claims["vjp"](cotangents, theta, g, lr=0.02, **state, **ours)
        return {leaf: found[leaf] for leaf in inputs}

    gradcheck.assert_gradients(step, kwargs=inputs, vjp=vjp)
