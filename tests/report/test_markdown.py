import re
from dataclasses import replace

import pytest
from markdown_it import MarkdownIt

from gradcheck.report import formats, markdown
from gradcheck.results import RunResult

FIELDS = {"gradcheck_version": "0", "environment": {}, "seed": 0, "config": {}}


def of(*results, **fields):
    return RunResult(**FIELDS, results=results, **fields)


def page(run):
    """As it is shown: HTML, with what is written as HTML passed on."""
    return MarkdownIt("commonmark", {"html": True}).enable("table").render(formats.render("markdown", run))


def test_what_is_not_ok_comes_first_and_all_is_counted(varied):
    text = formats.render("markdown", varied)
    rows = [line for line in text.splitlines() if line.startswith("| ") and "`" in line]
    assert len(rows) == len(varied.results)
    states = [row.split("|")[1].strip() for row in rows]
    assert states == sorted(states, key="❌💥❔✅".index)
    assert text.startswith("## ❌ gradcheck: FAIL\n\n**4 pass, 6 fail, 1 inconclusive, 1 error, 1 expected fail**; ")
    assert text.count("<details>") == text.count("</details>") == 8
    assert "At `layers/targets.py:7`." in text
    assert "| FAIL (expected) |" in text
    assert "gradcheck run layers/targets.py:cube --seed 0" in text


def test_nothing_of_the_user_s_is_read_as_markdown_or_html(varied):
    evil = replace(varied.results[-1], case="a|b `c` ``d`` <i>*e*_f_\n# g [h](i)")
    html = page(replace(varied, results=(*varied.results, evil)))
    assert "<script>" not in html
    assert not re.search(r"<(i|em|strong|h1|a)>(?!\d+ pass)", html)
    assert "<code>a|b `c` ``d`` &lt;i&gt;*e*_f_\\x0a# g [h](i)</code>" in html
    columns = [row.count("<td") for row in html.split("<tr>")[2:]]
    assert set(columns) == {7}


def test_a_fence_in_a_message_does_not_end_the_evidence(by_name):
    evil = replace(by_name["raises"], message="```\n<script>\n`````")
    html = page(of(evil))
    assert "<script>" not in html
    assert html.count("<pre>") == 2


def test_what_passed_is_left_out_first_and_it_is_said(by_name):
    good = [replace(by_name["sine"], case=f"right {k}") for k in range(100)]
    bad = [replace(by_name["cube"], case=f"wrong {k}") for k in range(5)]
    whole = markdown.render(of(*good, *bad))
    assert "left out" not in whole
    text = markdown.render(of(*good, *bad), limit=len(whole.encode()) - 3000 + markdown.RESERVE)
    assert len(text) < len(whole)
    assert re.search(r"\*\d+ passing cases left out, so that this fits a step's summary", text)
    assert text.count("<details>") == 5
    assert all(f"`wrong {k}`" in text for k in range(5))


@pytest.mark.parametrize("count", [0, 1, 2000])
def test_the_limit_of_a_step_s_summary_is_kept(by_name, count):
    bad = tuple(replace(by_name["raises"], case=f"wrong {k} {'ü' * 200}", traceback="x" * 2000) for k in range(count))
    good = tuple(replace(by_name["sine"], case=f"right {k}") for k in range(count))
    text = markdown.render(of(*good, *bad))
    assert len(text.encode("utf-8", "replace")) <= markdown.LIMIT < 1024 * 1000
    if count == 2000:
        assert "2000 passing cases" in text
        assert "cases' evidence left out" in text
    if count == 0:
        assert "no case was checked" in text


def test_an_interrupted_run_says_so(by_name):
    assert "**interrupted: 1 of 3 cases are finished**" in markdown.render(of(by_name["sine"], interrupted=True, planned=3))
