"""Structure as Maven Surefire's and Jenkins' schemas have it, in what both allow."""

from dataclasses import replace
from xml.etree import ElementTree

import pytest

from gradcheck.report import formats
from gradcheck.results import RunResult

ATTRIBUTES = {
    "testsuite": {"name", "tests", "failures", "errors", "skipped", "time"},
    "property": {"name", "value"},
    "testcase": {"classname", "name", "time"},
    "failure": {"message", "type"},
    "error": {"message", "type"},
    "skipped": {"message"},
}


def parsed(run):
    """The suite, held to the schemas."""
    suite = ElementTree.fromstring(formats.render("junit-xml", run).encode())
    assert [child.tag for child in suite][:1] == ["properties"]
    for element in suite.iter():
        assert set(element.attrib) == ATTRIBUTES.get(element.tag, set()), element.tag
    assert all(child.tag in ("failure", "error", "skipped") for case in suite.iter("testcase") for child in case)
    assert all(len(case) <= 1 for case in suite.iter("testcase"))
    assert all(float(element.get("time")) >= 0 for element in suite.iter() if "time" in element.attrib)
    return suite


def outcomes(suite):
    return {case.get("name"): [child.tag for child in case] for case in suite.iter("testcase")}


def test_failure_is_not_error_and_what_is_open_is_skipped(varied):
    suite = parsed(varied)
    found = outcomes(suite)
    assert found["square[right]"] == found["square[lesson]"] == found["logarithm_too[tolerated]"] == []
    assert found["square[3]"] == found["cube"] == found["square[fixed]"] == ["failure"]
    assert found["raises"] == ["error"]
    assert found["logarithm[<script>|`a`,b:%0A]"] == ["skipped"]
    counts = {name: int(suite.get(name)) for name in ("tests", "failures", "errors", "skipped")}
    tags = [tag for tags in found.values() for tag in tags]
    assert counts == {
        "tests": len(varied.results),
        "failures": tags.count("failure"),
        "errors": tags.count("error"),
        "skipped": tags.count("skipped"),
    }


def test_under_strict_what_is_open_fails(varied):
    found = outcomes(parsed(replace(varied, config={"strict": True})))
    assert found["logarithm[<script>|`a`,b:%0A]"] == ["failure"]


def test_a_failure_says_what_where_and_how_to_replay_it(varied):
    case = next(c for c in parsed(varied).iter("testcase") if c.get("name") == "square[3]")
    assert case.get("classname") == "layers.targets"
    assert case[0].get("type") == "factor"
    assert "relative error 0.33; factor: the claim is 1.5 times the derivative" in case[0].get("message")
    for told in ("look for a mean", "at layers/targets.py:7", "replay: gradcheck run layers/targets.py:square"):
        assert told in case[0].text


def test_characters_that_xml_forbids_are_visible(varied):
    text = formats.render("junit-xml", varied)
    assert "\x00" not in text
    assert "<script>" not in text
    raised = next(c for c in parsed(varied).iter("testcase") if c.get("name") == "raises")
    assert "<script>alert(1)</script> %0A::error::\\x00\\ud800" in raised[0].get("message")
    assert "]]>" in raised[0].text


@pytest.mark.parametrize(
    ("target", "case", "names"),
    [
        ("layers/norm.py:f", "layers/norm.py:f[2]", ("layers.norm", "f[2]")),
        ("C:\\repo\\norm.py:f", "C:\\repo\\norm.py:f", ("C:.repo.norm", "f")),
        ("torch.nn:Linear", "torch.nn:Linear", ("torch.nn", "Linear")),
        ("./norm.py:f", "./norm.py:f", ("norm", "f")),
        ("loss", "loss", ("gradcheck", "loss")),
    ],
)
def test_a_case_has_a_class_and_a_name(by_name, target, case, names):
    result = replace(by_name["sine"], target=target, case=case)
    one = next(parsed(RunResult("0", {}, 0, {}, (result,))).iter("testcase"))
    assert (one.get("classname"), one.get("name")) == names


def test_a_run_without_a_case_is_a_suite_without_one():
    assert outcomes(parsed(RunResult("0", {}, 0, {}, ()))) == {}
