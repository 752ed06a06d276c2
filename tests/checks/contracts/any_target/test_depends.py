"""An output depends on nothing but what is declared, by its values and by its gradients."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch

import gradcheck
from gradcheck import Verdict, normal
from gradcheck.checks.contracts.any_target.depends import choose_blocks
from gradcheck.errors import InputError

KEEP = np.array([True, False, True, True, False])
SEGMENTS = np.array([0, 0, 1, 1, 1])
LENGTHS = np.tri(2, 4, k=1, dtype=bool)  # of two queries and four keys


def depends(fn, *inputs, **options):
    """The contract of a check, with the whole result."""
    result = gradcheck.check(fn, *inputs, contract=("depends",), contracts=False, **options)
    (contract,) = [c for c in result.contracts if c.name == "depends"]
    assert contract.verdict is not Verdict.FAIL or result.verdict is Verdict.FAIL
    return contract


def attention(x, *, visible, floor=-torch.inf):
    scores = torch.as_tensor(x) @ torch.as_tensor(x).transpose(-1, -2)
    return torch.softmax(scores.masked_fill(~visible, floor), -1) @ x


def causal(offset):
    return torch.tril(torch.ones(5, 5), diagonal=offset).bool()


def cumsum(x):
    return np.cumsum(x, axis=1)


def transform(x):
    """A causal convolution whose values round differently as soon as any input moves."""
    kernel = np.exp(-np.arange(x.shape[1]) / 3)[:, None]
    return np.fft.irfft(np.fft.rfft(x, 16, axis=1) * np.fft.rfft(kernel, 16, axis=0), 16, axis=1)[:, : x.shape[1]]


def ignoring(x):
    losses = np.log(np.sum(np.exp(x), axis=1)) - x[:, 0]
    return np.sum(losses * KEEP) / KEEP.sum()


def two_outputs(x, y):
    return {"a": np.sum(x**2), "b": x * y}


RIGHT = {
    "causal attention": (lambda x: attention(x, visible=causal(0)), "torch", "causal along 1; independent along 0, fully"),
    "mask by a large number": (lambda x: attention(x, visible=causal(0), floor=-1e9), "torch", "causal along 1, fully"),
    "blocks": (
        lambda x: attention(x, visible=torch.tensor(SEGMENTS[:, None] == SEGMENTS)),
        "torch",
        ("masked along 1, fully", lambda i, j: SEGMENTS[i] == SEGMENTS[j]),
    ),
    "padding": (
        lambda x: attention(x, visible=torch.tensor(KEEP)),
        "torch",
        ("masked along 1", np.tile(KEEP, (5, 1)) | np.eye(5, dtype=bool)),
    ),
    "cumsum": (cumsum, "numpy", "causal along 1, fully"),
    "fft": (transform, "numpy", "causal along 1"),
    "layer norm": (torch.nn.LayerNorm(3, dtype=torch.float64), None, "independent along 0 and 1, fully"),
    "batch norm, eval": (torch.nn.BatchNorm1d(5, dtype=torch.float64).eval(), None, "independent along 0"),
}
WRONG = {
    "off by one": (
        lambda x: attention(x, visible=causal(1)),
        "torch",
        "causal along 1",
        "output[:, 2] depends on x[:, 3], a later",
    ),
    "hides too much": (
        lambda x: attention(torch.tanh(x), visible=causal(0)) * 0 + torch.cumsum(x, 1) - x,
        "torch",
        "causal along 1, fully",
        "output[:, 0] does not depend on x[:, 0]",
    ),
    "itself": (cumsum, "numpy", "strictly causal along 1", "the position itself"),
    "mean over the batch": (lambda x: x - np.mean(x, axis=0), "numpy", "independent along 0", "another position"),
    "detached leak": (lambda x: x * x.detach().amax(0), "torch", "independent along 0", "another position"),
    "batch norm": (
        torch.nn.BatchNorm1d(5, dtype=torch.float64),
        None,
        "independent along 0",
        "it (BatchNorm1d) normalises over",
    ),
    "blocks": (
        lambda x: attention(x, visible=torch.ones(5, 5).bool()),
        "torch",
        ("masked along 1", lambda i, j: SEGMENTS[i] == SEGMENTS[j]),
        "which the mask excludes",
    ),
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_dependence_passes(name):
    fn, framework, declared = RIGHT[name]
    contract = depends(fn, normal(2, 5, 3), framework=framework, depends=declared, mode="probe")
    assert contract.verdict is Verdict.PASS, contract.message
    assert ("up to rounding" in contract.message) == (name == "fft")


@pytest.mark.parametrize("name", WRONG)
def test_a_leak_is_found_and_its_positions_are_named(name):
    fn, framework, declared, named = WRONG[name]
    contract = depends(fn, normal(2, 5, 3), framework=framework, depends=declared, mode="probe")
    assert contract.verdict is Verdict.FAIL
    assert named in contract.message


def test_a_gradient_that_reaches_further_than_the_values_is_found():
    def shifted(g, x):
        return np.flip(np.cumsum(np.flip(g, 1), 1), 1) + np.roll(g, 1, axis=1)

    contract = depends(cumsum, normal(2, 5), vjp=shifted, framework="numpy", depends="causal along 1")
    assert "the analytic gradient of output[:, 1] reaches x[:, 2], a later position" in contract.message
    assert (
        depends(cumsum, normal(2, 5), jvp=lambda t, x: np.cumsum(t, 1), framework="numpy", depends="causal along 1").verdict
        is Verdict.PASS
    )


def test_labels_that_are_ignored_have_no_influence():
    keep = ("masked along 0 of x", KEEP)
    assert depends(ignoring, normal(5, 3), framework="numpy", depends=keep).verdict is Verdict.PASS
    averaged = depends(lambda x: ignoring(x) + x[1].mean(), normal(5, 3), framework="numpy", depends=keep)
    assert "output depends on x[1], which the mask excludes" in averaged.message


def test_a_mask_may_be_an_input():
    def masked_sum(x, keep):
        return (x * keep[:, None]).sum(0)

    def leaking_sum(x, keep):
        return x.sum(0) + 0 * keep[:1]

    keep = torch.tensor(KEEP).double()
    declared = {"depends": "masked along 0 of x by keep", "wrt": "x", "framework": "torch"}
    assert depends(masked_sum, normal(5, 3), keep, **declared).verdict is Verdict.PASS
    assert depends(leaking_sum, normal(5, 3), keep, **declared).verdict is Verdict.FAIL


@pytest.mark.parametrize("mask", [LENGTHS, lambda i, j: j <= i + 1], ids=["array", "function"])
@pytest.mark.parametrize(
    ("offset", "named"),
    [
        (1, "holds exactly"),
        (2, "output[1] depends on keys[3], which the mask excludes"),
        (0, "output[0] does not depend on keys[1]"),
    ],
)
def test_queries_and_keys_may_have_different_lengths(mask, offset, named):
    def read(keys):
        return np.tri(2, 4, k=offset) @ np.tanh(keys)

    declared = ("masked along 0 of keys, fully", mask)
    assert named in depends(read, normal(4, 3), framework="numpy", depends=declared, mode="probe").message


@pytest.mark.parametrize(("offset", "verdict"), [(1, Verdict.PASS), (2, Verdict.FAIL)])
def test_a_batch_of_cross_attention_finds_its_inputs_by_the_mask(offset, verdict):
    visible = torch.ones(2, 4).tril(offset).bool()

    def attend(q, k, v):
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=visible)

    inputs = normal(3, 2, 5), normal(3, 4, 5), normal(3, 4, 5)
    contract = depends(attend, *inputs, depends=("masked along 1, fully", LENGTHS), mode="probe")
    assert contract.verdict is verdict
    assert "of k, v" in contract.message


def test_a_position_that_a_maximum_hides_is_moved_further():
    x = np.array([0.3, 0.9, 0.1, 0.2])
    declared = {"framework": "numpy", "depends": "causal along 0, fully"}
    assert depends(lambda x: np.maximum.accumulate(x), x, **declared).verdict is Verdict.PASS


def test_a_function_that_raises_at_moved_inputs_is_inconclusive():
    x = np.array([0.5, 1.0])

    def strict(y):
        if np.abs(y / x - 1).max() > 1e-2:
            raise ValueError("too far")
        return np.cumsum(y)

    contract = depends(strict, x, framework="numpy", depends="causal along 0, fully")
    assert (contract.verdict, "raises at moved inputs: too far" in contract.message) == (Verdict.INCONCLUSIVE, True)


def test_rules_hold_for_jax_functions_and_in_float32():
    declared = {"framework": "jax", "depends": "causal along 1, fully", "dtype": "float32"}
    assert depends(lambda x: jnp.cumsum(x, axis=1), normal(2, 5), **declared).verdict is Verdict.PASS
    leaking = depends(lambda x: jnp.cumsum(x, axis=1) - x.mean(), normal(2, 5), **declared)
    assert "a later position" in leaking.message


def test_an_output_depends_on_its_inputs_only():
    assert (
        depends(two_outputs, normal(3), normal(3), framework="numpy", depends={"a": ["x"], "b": ["x", "y"]}).verdict
        is Verdict.PASS
    )
    wrong = depends(two_outputs, normal(3), normal(3), framework="numpy", depends={"b": ["x"]})
    assert wrong.message.startswith("output['b'] depends on y, which is not among its declared inputs")
    layer = torch.nn.Linear(3, 2, dtype=torch.float64)
    assert depends(layer, normal(4, 3), depends=["input", "params"]).verdict is Verdict.PASS
    assert "params['weight']" in depends(layer, normal(4, 3), depends=["input"]).message


@pytest.mark.parametrize(
    ("declared", "problem"),
    [
        ({"c": ["x"]}, r"not a differentiable output: expected one of output\["),
        ({"a": ["z"]}, "not a differentiable input: expected one of x, y"),
        ({"a": "causal along 0"}, "has no axis 0"),
        ({"b": "causal along 0 of y along 1"}, "has no axis 1"),
        ({"b": ["z"]}, r"depends=\{'b': \['z'\]\}: 'z' is not"),
        ({"b": ("masked along 0", np.ones((2, 2)))}, r"the mask has shape \(2, 2\), and output\['b'\] has size 3 along axis 0"),
        ({"b": ("masked along 0 of y", np.ones((3, 2)))}, r"y has size 3 along axis 0, and the mask has shape \(3, 2\)"),
        ({"b": "masked along 0 by m"}, "the mask 'm' is not an input"),
        ({"b": ("masked along 0", lambda i: True)}, "the mask raised TypeError.* two positions, of output and input"),
    ],
)
def test_a_declaration_that_does_not_fit_is_refused(declared, problem):
    with pytest.raises(InputError, match=problem):
        gradcheck.check(two_outputs, normal(3), normal(3), framework="numpy", depends=declared)


@pytest.mark.parametrize("count", [1, 2, 7, 32])
def test_blocks_try_every_pair(count):
    for allowed in (np.eye(count, dtype=bool), np.tri(count, dtype=bool), np.zeros((1, count), dtype=bool)):
        blocks, share = choose_blocks(allowed, 64)
        tried = np.zeros_like(allowed)
        for block in blocks:
            tried[np.ix_(~np.any(allowed[:, block], axis=1), block)] = True
        assert share == 1
        assert np.array_equal(tried, ~allowed)
    assert len(choose_blocks(np.eye(count, dtype=bool), 64)[0]) <= 2 * count.bit_length()
