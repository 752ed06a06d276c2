"""The fragment shows a result in a notebook: nothing of the user's becomes markup, and no style sheet is needed."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from elementwise import layer

import gradcheck
from gradcheck.report.html import fragment
from gradcheck.results import RunResult

HOSTILE = '<script>alert(1)</script>"\' class="FAIL" <b'


class Markup(HTMLParser):
    """The elements of a fragment that are open, those that have been closed, all attributes, and the text."""

    VOID = ("wbr",)

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def check_square(factor):
    methods = ("analytic", "numeric")
    x = gradcheck.array([1.0, -2.0, 3.0])
    return gradcheck.check(lambda x: np.sum(x**2), x, gradient=lambda x: factor * x, name="square", methods=methods)


@pytest.fixture(scope="module")
def failed():
    return check_square(3)


@pytest.fixture(scope="module")
def passed():
    return check_square(2)


def test_a_fail_is_shown_with_its_table_its_cause_and_its_replay(failed):
    page = Markup(failed._repr_html_())
    assert page.open == []
    assert "FAIL square" in page.text
    for words in ("analytic ~ numeric", "the claim is 1.5 times the derivative", "the same call with seed=0", "explain factor"):
        assert words in page.text


def test_a_pass_says_how_right_it_is_and_asks_for_no_action(passed):
    page = Markup(passed._repr_html_())
    assert "PASS square" in page.text
    assert "a single entry that is wrong by more would have been caught" in page.text
    assert "explain" not in page.text


def test_styles_are_inline_and_without_colours_of_a_ground_of_their_own(failed):
    text = failed._repr_html_()
    page = Markup(text)
    assert not {"style", "script", "link", "svg"} & {*page.tags}
    assert not {"class", "id"} & {name for name, _ in page.attributes}
    assert all(len([n for n, _ in attributes]) == len({n for n, _ in attributes}) for attributes in _attributes_of_tags(text))
    styles = " ".join(value for name, value in page.attributes if name == "style")
    assert "background" not in styles
    assert all("currentColor" in color for color in re.findall(r"(?<![-\w])color:[^;\"]*", styles))


def _attributes_of_tags(text):
    parser, found = HTMLParser(), []
    parser.handle_starttag = lambda tag, attributes: found.append(attributes)
    parser.feed(text)
    return found


@pytest.mark.parametrize("field", ["case", "message", "traceback", "because", "replay", "culprit"])
def test_text_of_the_user_stays_text(failed, field):
    shown_with = {"because": {"expect": "fail"}, "traceback": {"message": "it raised"}}.get(field, {})
    page = Markup(replace(failed, **{field: HOSTILE}, **shown_with)._repr_html_())
    assert HOSTILE in page.text
    assert not {"script", "b"} & {*page.tags}
    assert page.open == []


def test_names_of_inputs_stay_text_and_control_characters_are_visible(failed):
    comparisons = tuple(replace(c, wrt=f"{HOSTILE}\x1b[0m") for c in failed.comparisons)
    page = Markup(replace(failed, comparisons=comparisons)._repr_html_())
    assert "script" not in page.tags
    assert HOSTILE in page.text
    assert r"\x1b[0m" in page.text
    assert "\x1b" not in page.text


def test_contracts_and_a_traceback_are_shown():
    result = gradcheck.check(layer(), gradcheck.normal(4))
    assert "Contracts" in Markup(result._repr_html_()).text
    broken = gradcheck.check(lambda x: np.sum(x) / missing_name, gradcheck.normal(2))  # noqa: F821 - it raises
    page = Markup(broken._repr_html_())
    assert "ERROR" in page.text
    assert "NameError: name 'missing_name' is not defined" in page.text


def test_a_run_shows_its_counts_and_opens_what_is_not_ok(failed, passed):
    run = RunResult(gradcheck_version="1", environment={}, seed=0, config={}, results=(failed, replace(passed, case="right")))
    page = Markup(run._repr_html_())
    assert page.open == []
    assert "1 pass, 1 fail" in " ".join(page.text.split())
    assert [pair for pair in page.attributes if pair[0] == "open"] == [("open", None)]
    assert page.tags.count("summary") >= 2


def test_a_fragment_is_small(failed):
    assert len(fragment.render(failed)) < 40_000


def test_ipython_shows_the_table_as_text_instead_of_the_fields(failed):
    class Printer:
        written = ""

        def text(self, text):
            self.written += text

    printer = Printer()
    failed._repr_pretty_(printer, False)
    assert printer.written == str(failed)
