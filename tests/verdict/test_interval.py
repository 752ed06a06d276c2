import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradcheck.results import Reason, Verdict
from gradcheck.verdict.interval import (
    VERDICTS,
    ClaimAndEstimate,
    Code,
    choose_reason,
    default_rtol,
    find_interval_facts,
)
from gradcheck.verdict.rules import decide

sizes = st.floats(1e-3, 1e3)


def sides(claim, value, bound, leaf_scale=None, nearby_slope=0.0):
    scale = max(abs(claim), abs(value))
    numbers = (claim, value, bound, 0.0, scale, scale if leaf_scale is None else leaf_scale, nearby_slope)
    return ClaimAndEstimate(*[np.array([[x]]) for x in numbers])


NO_REMARK = np.full((1, 1), None, dtype=object)


def decision(*args, rtol=1e-8, demanded=False, **kwargs):
    return decide(find_interval_facts(sides(*args, **kwargs), rtol, demanded=demanded), NO_REMARK)


def verdict(*args, **kwargs):
    return VERDICTS[decision(*args, **kwargs).code[0, 0]]


@given(true=sizes, error=st.floats(1e-7, 2), part=st.floats(0, 0.4))
@settings(deadline=None)
def test_a_claim_off_by_more_than_rtol_and_the_bound_fails(true, error, part):
    assert verdict(true * (1 + error), true, part * error * true) is Verdict.FAIL


@given(true=sizes, bound=st.floats(0, 5e-3), part=st.floats(-1, 1))
@settings(deadline=None)
def test_a_claim_inside_a_sharp_bound_passes(true, bound, part):
    assert verdict(true + 0.999 * part * bound * true, true, bound * true) is Verdict.PASS


@given(true=sizes, bound=st.floats(0.05, 10))
@settings(deadline=None)
def test_a_wide_bound_decides_nothing(true, bound):
    assert verdict(true, true, bound * true) is Verdict.INCONCLUSIVE


def test_a_demanded_rtol_is_a_demand_on_the_evidence_too():
    assert verdict(1.0, 1.0, 1e-4, rtol=1e-6) is Verdict.PASS
    assert verdict(1.0, 1.0, 1e-4, rtol=1e-6, demanded=True) is Verdict.INCONCLUSIVE
    assert verdict(1.0, 1.0, 1e-4, rtol=1e-3, demanded=True) is Verdict.PASS


def test_a_zero_passes_only_if_the_bound_is_small_compared_with_the_slopes_nearby():
    assert verdict(0.0, 1e-12, 1e-11, nearby_slope=1.0) is Verdict.PASS
    assert verdict(0.0, 1e-12, 1e-11, nearby_slope=1e-11) is Verdict.INCONCLUSIVE
    assert verdict(0.0, 0.0, 0.0) is Verdict.PASS


def test_an_entry_far_smaller_than_its_leaf_passes_by_the_leafs_size_and_is_counted():
    judged = decision(1e-9, 2e-9, 1e-8, leaf_scale=1.0)
    assert judged.code[0, 0] == Code.PASS
    assert judged.unresolved[0, 0]


@pytest.mark.parametrize("claim", [np.nan, np.inf])
def test_a_claim_that_is_not_finite_fails_where_the_function_is_smooth(claim):
    assert verdict(claim, 1.0, 1e-10) is Verdict.FAIL
    assert choose_reason(Verdict.FAIL, claim, 1.0, 1e-10, None) is Reason.CLAIM_NOT_FINITE


def test_no_claim_fails_against_evidence_that_is_not_finite():
    assert verdict(1.0, np.nan, np.inf) is Verdict.INCONCLUSIVE
    assert verdict(np.nan, np.nan, np.inf) is Verdict.INCONCLUSIVE


def test_the_default_rtol_follows_the_claims_dtype():
    assert [default_rtol(eps) for eps in (2.0**-52, 2.0**-23)] == [1e-7, 1e-4]
