from dataclasses import replace

import pytest

from gradcheck.report.problems import MAX_SHORT_LENGTH, list_problems
from gradcheck.results import Search, Verdict


@pytest.mark.parametrize(
    ("name", "rules"),
    [
        ("square[right]", []),
        ("square[lesson]", []),
        ("logarithm_too[tolerated]", []),
        ("square[3]", ["diagnosis/factor"]),
        ("square[fixed]", ["reason/expected-fail-passed"]),
        ("wave[1]", ["diagnosis/function"]),
        ("model", ["diagnosis/unknown"]),
        ("cube", ["contract/backward-intact"]),
        ("raises", ["reason/target-raised"]),
        ("logarithm[<script>|`a`,b:%0A]", ["reason/non-finite"]),
    ],
)
def test_each_case_has_the_rules_that_it_breaks(by_name, name, rules):
    assert [p.rule for p in list_problems(by_name[name])] == rules


def test_a_problem_says_in_a_line_where_it_is_by_how_much_and_why(by_name):
    (found,) = list_problems(by_name["square[3]"])
    assert found.short.startswith("∂output / ∂x[")
    assert "relative error 0.33; factor: the claim is 1.5 times the derivative" in found.short
    assert "look for a mean in the forward" in found.text
    assert found.verdict is Verdict.FAIL


def test_of_a_wrong_layer_the_layer_and_its_own_place_are_told(by_name):
    (found,) = list_problems(by_name["model"])
    assert found.short.startswith("1.Wave: ")
    assert found.line == by_name["wave[1]"].claim_line


def test_the_smallest_input_that_a_search_found_is_told(by_name):
    searched = Search(examples=9, failed=1, inputs=(("x", "[0.0]"), ("dtype", "float32")))
    found = list_problems(replace(by_name["square[3]"], search=searched))
    assert found[0].text.endswith("the smallest input that fails:\n  x = [0.0]\n  dtype = float32")


def test_a_line_has_an_end(by_name):
    (found,) = list_problems(replace(by_name["raises"], message="x" * 1000 + "\ny"))
    assert len(found.short) == MAX_SHORT_LENGTH
    assert "y" in found.text
