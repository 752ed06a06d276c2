import pytest

from gradcheck.errors import UsageError
from gradcheck.targets.dependence import parse_depends


def test_a_rule_names_axes_inputs_and_how_strict_it_is():
    (rule,) = parse_depends({"y": "strictly causal along 1 of x, h along 0, fully"})
    assert (rule.output, rule.kind, rule.axes, rule.strictly, rule.fully) == ("y", "causal", (1,), True, True)
    assert rule.inputs == (("x", ()), ("h", (0,)))


def test_one_declaration_may_hold_several_rules_for_every_output():
    causal, independent = parse_depends("causal along 1; independent along 0")
    assert [(r.output, r.kind, r.axes) for r in (causal, independent)] == [("*", "causal", (1,)), ("*", "independent", (0,))]


def test_masks_are_given_as_values_or_as_the_name_of_an_input():
    given, named = parse_depends({"a": ("masked along 0 and 1", [[1]]), "b": "masked along -1 of x by keep"})
    assert (given.axes, given.mask) == ((0, 1), [[1]])
    assert (named.axes, named.inputs, named.mask) == ((-1,), (("x", ()),), "keep")


def test_a_list_names_inputs():
    (rule,) = parse_depends({"y": ["x", "params"]})
    assert (rule.kind, rule.inputs) == ("only", (("x", ()), ("params", ())))
    assert parse_depends(()) == parse_depends([]) == parse_depends({}) == ()


@pytest.mark.parametrize(
    "rule",
    ["", "causal", "causal along x", "masked along 1", "causal along 0 and 1", "strictly independent along 0", 3, ["x", 1],
     "causal along 1 by mask", "independent along 0 and 1 of x along 0"],
)  # fmt: skip
def test_what_has_none_of_the_forms_is_refused_with_the_forms(rule):
    with pytest.raises(UsageError, match="expected"):
        parse_depends({"y": rule})
