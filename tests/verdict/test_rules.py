"""The table of rules: its laws, and that no rule is dead."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gradcheck
from gradcheck.results import Reason, Verdict
from gradcheck.verdict.facts import Fact, add_fact
from gradcheck.verdict.interval import ClaimAndEstimate, Code, find_interval_facts
from gradcheck.verdict.rules import RULES, choose_worse, decide, decide_row

# These say that the claim is wrong, and none of them may make a verdict better.
ACCUSING = (Fact.APART, Fact.OUTSIDE_KINK, Fact.OUTSIDE_JOINTLY, Fact.TIE_OUTSIDE, Fact.APART_IN_OWN_DTYPE)
# These say that nothing can be said, and none of them may lead to a PASS.
DOUBTING = (Fact.BLIND, Fact.LOW_RESOLUTION, Fact.DTYPE_DIFFERS, Fact.WRONG_NEARBY)
fact_sets = st.sets(st.sampled_from(Fact))
numbers = st.floats(-1e3, 1e3)
positive = st.floats(0, 1e3)


def code_of(facts):
    masks = {fact: np.array([True]) for fact in facts}
    return Code(int(decide(masks, np.array([None], dtype=object)).code[0]))


def sides(claim, value, bound, leaf_scale, nearby_slope):
    scale = max(abs(claim), abs(value))
    return ClaimAndEstimate(*(np.array([x]) for x in (claim, value, bound, 0.0, scale, max(scale, leaf_scale), nearby_slope)))


def judge(*pair, rtol=1e-8, demanded=False):
    return Code(int(decide(find_interval_facts(sides(*pair), rtol, demanded=demanded), np.array([None], dtype=object)).code[0]))


@given(claim=numbers, value=numbers, bound=positive, wider=positive, leaf=positive, slope=positive, demanded=st.booleans())
def test_a_larger_bound_never_turns_an_inconclusive_claim_into_a_wrong_one(claim, value, bound, wider, leaf, slope, demanded):
    before = judge(claim, value, bound, leaf, slope, demanded=demanded)
    after = judge(claim, value, bound + wider, leaf, slope, demanded=demanded)
    assert after <= Code.INCONCLUSIVE or before is Code.FAIL


@given(value=numbers, part=st.floats(-1, 1), bound=positive, leaf=positive, slope=positive, rtol=st.floats(0, 0.1))
def test_a_claim_inside_the_bound_is_never_wrong(value, part, bound, leaf, slope, rtol):
    assert judge(value + 0.999 * part * bound, value, bound * (1 + 1e-12), leaf, slope, rtol=rtol) is not Code.FAIL


@given(facts=fact_sets, fact=st.sampled_from(ACCUSING))
def test_a_fact_that_accuses_never_makes_a_verdict_better(facts, fact):
    assert code_of(facts | {fact}) >= code_of(facts)


@given(facts=fact_sets, fact=st.sampled_from(DOUBTING))
def test_a_fact_that_casts_doubt_never_makes_a_pass(facts, fact):
    assert code_of(facts | {fact}) >= min(code_of(facts), Code.INCONCLUSIVE)


@given(st.lists(fact_sets, min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_the_order_of_entries_changes_nothing(entries, random):
    order = list(range(len(entries)))
    random.shuffle(order)

    def decided(sets):
        masks = {fact: np.array([fact in facts for facts in sets]) for fact in Fact}
        return decide(masks, np.full(len(sets), None, dtype=object))

    before, after = decided(entries), decided([entries[i] for i in order])
    for name in ("code", "remark", "unresolved"):
        assert list(getattr(before, name)[order]) == list(getattr(after, name))


@given(fact_sets, fact_sets)
def test_of_two_judgements_the_worse_one_counts(first, second):
    one, other = (decide({f: np.array([True]) for f in facts}, np.array([None], dtype=object)) for facts in (first, second))
    assert choose_worse(one, other).code[0] == max(one.code[0], other.code[0])


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: "+".join(fact.name for fact in rule.facts) or "otherwise")
def test_every_rule_decides_where_nothing_but_its_own_facts_is_known(rule):
    remark = np.array([Reason.JUMP], dtype=object)
    decision = decide({fact: np.array([True]) for fact in rule.facts}, remark)
    assert (decision.code[0], decision.remark[0]) == (rule.code, rule.reason or Reason.JUMP)
    assert decision.unresolved[0] == rule.by_leaf_size


def test_every_fact_is_in_a_rule():
    assert {fact for rule in RULES for fact in rule.facts} == set(Fact)


def test_every_fact_is_found_somewhere():
    package = Path(gradcheck.__file__).parent
    code = "".join(
        path.read_text(encoding="utf-8") for path in package.rglob("*.py") if path.name not in ("facts.py", "rules.py")
    )
    assert [fact.name for fact in Fact if f"Fact.{fact.name}" not in code] == []


def test_a_row_is_decided_by_the_same_table():
    assert decide_row({Fact.SHARP}) == (Verdict.PASS, Reason.AGREES)
    assert decide_row({Fact.SHARP, Fact.LOW_RESOLUTION}) == (Verdict.INCONCLUSIVE, Reason.DULL)
    assert decide_row({Fact.SHARP, Fact.BLIND}) == (Verdict.INCONCLUSIVE, Reason.BLIND)


def test_a_fact_that_is_added_twice_holds_wherever_it_held_once():
    once = add_fact({}, Fact.TIE_INSIDE, np.array([True, False, False]))
    twice = add_fact(once, Fact.TIE_INSIDE, np.array([False, True, False]))
    assert list(twice[Fact.TIE_INSIDE]) == [True, True, False]
