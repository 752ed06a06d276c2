import json
from dataclasses import replace

import pytest

from gradcheck.errors import UsageError
from gradcheck.glossary.verdicts import Verdict
from gradcheck.takeover import reports, terminal
from gradcheck.takeover.records import NOT_SAMPLED, Outcome, TakeoverCall, TakeoverRun
from gradcheck.takeover.sections import build_sections, describe_prediction, describe_times, describe_totals

RIGHT = TakeoverCall(
    "lib.check",
    test="tests/test_layers.py::test_linear",
    file="/suite/tests/test_layers.py",
    line=7,
    theirs=Outcome.PASSED,
    verdict=Verdict.PASS,
    reason="agrees",
    theirs_seconds=0.5,
    ours_seconds=1.0,
    extra_seconds=0.5,
    passes_zero_gradient=False,
)
WRONG = replace(RIGHT, verdict=Verdict.FAIL, reason="disagrees", summary="FAIL ∂output / ∂x[2]: reverse 3, numeric 2 ± 1e-9")
UNKNOWN = replace(
    RIGHT, theirs=Outcome.FAILED, theirs_message="CheckError: not close", cause="float32", passes_zero_gradient=None
)
STATES = {"lib.check": "intercepted", "other.check": "not installed", "third.check": "not intercepted: third has no check"}


def name(call, test, **fields):
    return replace(call, test=f"tests/test_layers.py::{test}", **fields)


def make_run(*calls, **fields):
    return TakeoverRun("report", 5.0, calls, STATES, seconds=60.0, root="/suite", **fields)


RUN = make_run(
    RIGHT,
    name(WRONG, "test_gelu[1]"),
    name(WRONG, "test_gelu[2]"),
    name(WRONG, "test_other"),
    name(UNKNOWN, "test_half"),
    name(RIGHT, "test_loose", tolerances={"atol": 1e-2, "rtol": 0.0}, looseness=1e5),
    name(RIGHT, "test_loose", tolerances={"atol": 1e-2, "rtol": 0.0}, looseness=1e4, passes_zero_gradient=True),
    name(
        RIGHT, "test_tolerated", tolerances={"atol": 1e-2, "rtol": 0.0}, reason="tolerated", summary="FAIL ∂output / ∂x[2]: off"
    ),
    name(RIGHT, "test_tight", tolerances={"atol": 1e-2, "rtol": 0.0}, looseness=1.0),
    name(RIGHT, "test_noisy", verdict=Verdict.INCONCLUSIVE, reason="dull", summary="INCONCLUSIVE ∂output / ∂x: too noisy"),
    name(RIGHT, "test_large", not_compared="over the budget"),
    name(RIGHT, "test_larger", not_compared="over the budget"),
)


def find_section(run, key):
    return next(section for section in build_sections(run) if section.key == key)


def test_the_first_line_says_the_totals():
    assert describe_totals(RUN) == (
        "12 calls of lib.check in 11 tests: 5 agree (1 only by tolerances), 3 that only gradcheck fails, "
        "1 that only the suite's checker fails, 1 inconclusive, 2 not compared."
    )
    assert terminal.render(RUN, width=200).startswith(describe_totals(RUN))


def test_the_first_line_says_how_many_unknown_outcomes_gradcheck_fails():
    run = make_run(replace(RIGHT, theirs=Outcome.UNKNOWN), replace(WRONG, theirs=Outcome.UNKNOWN))
    assert describe_totals(run).endswith(": 2 with an unknown outcome (1 of them FAIL).")


def test_a_test_that_fails_for_its_own_reasons_is_named_as_the_cause():
    run = make_run(replace(RIGHT, theirs=Outcome.FAILED))
    assert find_section(run, "theirs-failed").entries[0].text == "the test fails"


def test_a_run_without_calls_names_the_checkers_that_it_looked_for():
    assert describe_totals(make_run()) == "No call of a known checker was seen (lib.check, third.check)."


def test_equal_findings_of_a_test_function_are_one_entry():
    gelu, other = find_section(RUN, "finding").entries
    assert (gelu.subject, gelu.calls, gelu.place) == ("tests/test_layers.py::test_gelu", 2, "tests/test_layers.py:7")
    assert gelu.text == "disagrees: ∂output / ∂x[2]: reverse 3, numeric 2 ± 1e-9"
    assert gelu.command == "pytest 'tests/test_layers.py::test_gelu[1]' --gradcheck-takeover=enforce"
    assert other.calls == 1


def test_a_script_is_run_again():
    run = make_run(replace(WRONG, test=""), rerun="python -m gradcheck.takeover --mode enforce train.py")
    (entry,) = find_section(run, "finding").entries
    assert (entry.subject, entry.place) == ("tests/test_layers.py:7", "")
    assert entry.command == "python -m gradcheck.takeover --mode enforce train.py"


def test_the_other_sections():
    assert find_section(RUN, "theirs-failed").entries[0].text == "float32 is too coarse for its step: CheckError: not close"
    (loose,) = find_section(RUN, "looseness").entries
    assert (loose.subject, loose.calls, loose.text) == ("tests/test_layers.py::test_loose", 2, "atol=0.01: 1e-06 would do")
    (zero,) = find_section(RUN, "zero-gradient").entries
    assert zero.text == "1 of 2 calls with atol=0.01"
    (tolerated,) = find_section(RUN, "tolerated").entries
    assert tolerated.text == "atol=0.01: FAIL ∂output / ∂x[2]: off"
    (large,) = find_section(RUN, "not-compared").entries
    assert (large.subject, large.calls) == ("tests/test_layers.py::test_large and 1 other", 2)
    assert large.text == "over the budget"
    (third,) = find_section(RUN, "checkers").entries
    assert (third.checker, third.text) == ("third.check", "not intercepted: third has no check")


def test_the_seconds_of_each():
    assert describe_times(RUN) == (
        "The suite's checkers took 6.0 s, gradcheck 12.0 s and further runs of the checkers 6.0 s: "
        "60.0 s instead of 42.0 s, 1.4 times as long."
    )
    assert describe_times(replace(RUN, processes=4)).endswith("6.0 s, in 4 processes; everything took 60.0 s.")


def test_a_prediction_is_said_and_the_calls_that_were_left_out_are_not():
    left_out = [replace(RIGHT, not_compared=NOT_SAMPLED, verdict=None)] * 180
    run = replace(RUN, mode="predict", calls=(*[RIGHT] * 20, *left_out))
    assert describe_prediction(run) == "A takeover would add about 300 s (300 to 300 s): measured on 20 of 200 calls."
    assert describe_prediction(RUN) == ""
    assert "not compared" not in terminal.render(run)
    assert describe_totals(run) == "200 calls of lib.check in 1 test: 20 agree, 180 left out of the sample."


@pytest.mark.parametrize("width", [80, 140])
def test_the_terminal_is_readable(width):
    text = terminal.render(RUN, width=width)
    assert max(len(line) for line in text.splitlines() if "again: " not in line) <= width
    assert "    again: pytest 'tests/test_layers.py::test_gelu[1]' --gradcheck-takeover=enforce\n" in text
    assert "\x1b" not in text
    assert "\x1b[" in terminal.render(RUN, width=width, color=True)
    if width == 140:
        assert "  tests/test_layers.py::test_gelu  2 calls  tests/test_layers.py:7\n    disagrees: ∂output" in text


def test_a_long_section_is_cut_in_the_terminal_only():
    run = make_run(*(name(WRONG, f"test_{number}") for number in range(30)))
    assert "and 20 more; the JSON, Markdown and HTML reports list all" in terminal.render(run)
    assert reports.render_markdown(run).count("\n| `tests/test_layers.py::test_") == 30


def test_the_page_is_self_contained():
    page = reports.render_html(RUN)
    assert "<strong>12 calls of lib.check in 11 tests" in page
    assert page.count('data-outcome="finding"') == 2
    assert "--gradcheck-takeover=enforce" in page
    assert "http" not in page.replace("http-equiv", "")


def test_the_page_speaks_in_words():
    page = reports.render_html(RUN)
    assert '<button type="button" data-wanted="theirs-failed" aria-pressed="false">1 call that only the suite' in page
    assert '<td class="name">only the suite' in page
    assert page.count("theirs-failed") == 2  # for programs


@pytest.mark.parametrize(
    ("cause", "text"),
    [("kink", "the function has a kink here"), ("step size", "its step size does not suit the function")],
)
def test_causes_are_sentences(cause, text):
    run = make_run(replace(UNKNOWN, cause=cause))
    assert find_section(run, "theirs-failed").entries[0].text == f"{text}: CheckError: not close"


def test_texts_of_the_suite_are_harmless():
    run = make_run(name(WRONG, "test_a[<script>|`\x1b]", summary="FAIL <b>|\n::error::"))
    assert "<script>|" not in reports.render_html(run)
    assert "<b>" not in reports.render_markdown(run)
    for text in (terminal.render(run), reports.render_markdown(run), reports.render_html(run)):
        assert "\x1b" not in text
        assert "\n::error" not in text


def test_files_are_written(tmp_path):
    paths = {format_: str(tmp_path / format_) for format_ in reports.FORMATS}
    reports.write(RUN, paths)
    assert TakeoverRun.from_dict(json.loads((tmp_path / "json").read_text())).counts == RUN.counts
    assert (tmp_path / "markdown").read_text().startswith("## gradcheck takeover\n\n**12 calls")
    assert (tmp_path / "html").read_text().startswith("<!doctype html>")
    with pytest.raises(UsageError, match="cannot write"):
        reports.write(RUN, {"json": str(tmp_path / "missing/run.json")})
