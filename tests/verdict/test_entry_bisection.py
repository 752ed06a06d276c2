"""The descent from a sum that disagrees to a single wrong entry: how many questions it takes, and what it concludes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradcheck.verdict.entry_bisection import find_wrong_entry, rising_weights


def descend(errors, **options):
    """Descend in a claim with these errors; return the answer and how many questions it took."""
    questions = []

    def disagreement(part):
        questions.append(part)
        return float(np.sum(errors[part]))

    def weighted_disagreement(part):
        questions.append(part)
        return float(errors[part] @ rising_weights(part.stop - part.start))

    return find_wrong_entry(errors.size, disagreement, weighted_disagreement, **options), len(questions)


@given(size=st.integers(1, 5000), data=st.data())
@settings(deadline=None)
def test_a_single_wrong_entry_is_found_in_eight_questions(size, data):
    errors = np.zeros(size)
    errors[data.draw(st.integers(0, size - 1))] = 0.01
    (place, _), questions = descend(errors, few_only=True)
    assert errors[place] != 0
    assert questions <= 8


def test_an_entry_of_a_million_takes_no_more_questions():
    errors = np.zeros(10**6)
    errors[123_456] = 1.0
    assert descend(errors) == ((123_456, True), 8)


@given(st.dictionaries(st.integers(0, 4999), st.floats(0.1, 10) | st.floats(-10, -0.1), min_size=1, max_size=8))
@settings(deadline=None)
def test_wrong_entries_are_found_one_after_another_although_they_mix(wrong):
    errors = np.random.default_rng(0).normal(size=5000) * 1e-9  # what evidence is off by
    errors[list(wrong)] += list(wrong.values())
    found = set()
    while np.max(np.abs(errors)) > 1e-3:
        (place, _), questions = descend(errors)
        if abs(errors[place]) < 1e-3:  # errors that cancel in a sum need another direction
            return
        assert questions <= 1 + np.log2(5000) + 4 + 1
        errors[place] = 0.0
        found.add(place)
    assert found == set(wrong)


@pytest.mark.parametrize("seed", range(20))
def test_the_search_gives_up_soon_if_many_entries_are_wrong_and_only_few_are_asked_for(seed):
    errors = np.random.default_rng(seed).normal(size=100_000)
    (place, few), questions = descend(errors, few_only=True)
    assert (place, few) == (None, False)
    assert questions <= 11
    (place, few), _ = descend(errors)
    assert place is not None
    assert not few


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite_end_the_search_too(value):
    assert descend(np.full(1000, value))[0][0] is not None
