"""Faults planted in right gradients: what each kind is, and that it is one."""

import numpy as np
import pytest

from gradcheck.verdict.planted_faults import inject_faults

ALWAYS = ["zeroed", "sign flipped", "scaled up", "scaled down", "one entry changed"]
ORDER = ["flipped", "shuffled", "summed over a wrong axis"]


def faults(*shape, seed=0, size=0.25, gradient=None, something=1.0):
    rng = np.random.default_rng(seed)
    gradient = rng.standard_normal(shape) if gradient is None else gradient
    return gradient, dict(inject_faults(gradient, size, something, rng))


@pytest.mark.parametrize(
    ("shape", "names"),
    [
        ((1, 1), ALWAYS),  # a leaf of no dimension
        ((1, 1, 1), ALWAYS),
        ((1, 7, 1), [*ALWAYS, *ORDER]),
        ((3, 7, 1), [*ALWAYS, *ORDER]),
        ((2, 3, 4, 1), [*ALWAYS, *ORDER, "transposed"]),
        ((2, 5, 3, 4, 1), [*ALWAYS, *ORDER, "transposed"]),
        ((2, 7, 2), [*ALWAYS, *ORDER, "conjugated"]),
        ((2, 3, 4, 2), [*ALWAYS, *ORDER, "transposed", "conjugated"]),
    ],
)
def test_the_faults_are_those_that_the_shape_allows(shape, names):
    gradient, found = faults(*shape)
    assert list(found) == names
    assert all(faulty.size == gradient.size and len(faulty) == len(gradient) for faulty in found.values())


@pytest.mark.parametrize("shape", [(1, 7, 1), (3, 2, 4, 1), (2, 5, 2)])
def test_every_fault_differs_from_the_gradient_and_leaves_it_as_it_was(shape):
    gradient, found = faults(*shape)
    kept = gradient.copy()
    assert all(not np.array_equal(faulty.reshape(gradient.shape), gradient) for faulty in found.values())
    assert np.array_equal(gradient, kept)


def test_each_fault_is_what_its_name_says():
    gradient, found = faults(1, 3, 4, 1)
    g = gradient[0, :, :, 0]
    assert np.array_equal(found["sign flipped"], -gradient)
    assert np.allclose(found["scaled up"] - gradient, gradient - found["scaled down"])
    assert np.array_equal(found["flipped"].ravel(), g.ravel()[::-1])
    assert np.array_equal(np.sort(found["shuffled"].ravel()), np.sort(g.ravel()))
    assert np.array_equal(found["transposed"][0, :, :, 0], g.T)
    assert np.allclose(found["summed over a wrong axis"][0, :, :, 0], np.repeat(g.sum(1, keepdims=True), 4, axis=1))


def test_conjugation_turns_the_sign_of_imaginary_parts_alone():
    gradient, found = faults(2, 5, 2)
    assert np.array_equal(found["conjugated"] @ [1, 1j], (gradient @ [1, 1j]).conj())


@pytest.mark.parametrize("seed", range(20))
def test_the_one_entry_changed_is_of_typical_size_and_by_the_size_asked(seed):
    gradient, found = faults(2, 9, 1, seed=seed)
    faulty, weight = found["one entry changed"].reshape(gradient.shape), np.sum(gradient**2, axis=(0, 2))
    (place,) = np.flatnonzero(np.any(faulty != gradient, axis=(0, 2)))
    assert np.allclose(faulty[:, place], 1.25 * gradient[:, place])
    assert weight[place] >= np.mean(weight)


def test_a_gradient_of_equal_entries_has_one_to_change():
    gradient, found = faults(gradient=np.full((1, 1000, 1), 0.1))
    assert np.sum(found["one entry changed"].reshape(gradient.shape) != gradient) == 1


def test_a_gradient_of_zeros_gets_something():
    gradient, found = faults(gradient=np.zeros((2, 5, 1)), something=3.0)
    assert sorted(found["one entry changed"].ravel()) == [0.0] * 8 + [3.0] * 2
    assert not np.any(found["scaled up"])
    assert not np.any(gradient)
