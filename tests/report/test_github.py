from dataclasses import replace

import pytest

from gradcheck.report import github
from gradcheck.results import Comparison, Reason, RunResult, Verdict


def of(*results, **fields):
    return RunResult("0", {}, 0, fields.pop("config", {}), results, **fields)


def annotations(run):
    """Each as the runner reads it: kind, properties, message."""
    found = []
    for line in github.render(run).splitlines():
        empty, command, message = line.split("::", 2)
        assert empty == ""
        kind, _, given = command.partition(" ")
        properties = dict(part.split("=", 1) for part in given.split(","))
        found.append((kind, {k: unescaped(v) for k, v in properties.items()}, unescaped(message)))
    return found


def unescaped(text):
    for code, character in (("%3A", ":"), ("%2C", ","), ("%0D", "\r"), ("%0A", "\n"), ("%25", "%")):
        text = text.replace(code, character)
    return text


def test_what_is_not_ok_is_told_at_the_line_of_its_derivative(varied):
    found = {
        properties["title"].partition(": ")[2].partition(":")[2]: (kind, properties)
        for kind, properties, _ in annotations(varied)
    }
    assert found["wave[1]"] == (
        "error",
        {"file": "layers/targets.py", "line": "28", "title": "gradcheck FAIL: layers/targets.py:wave[1]"},
    )
    assert found["model"][1]["line"] == "28"
    assert found["square[3]"][1]["line"] == "7"
    assert found["logarithm[<script>|`a`,b:%0A]"][0] == "warning"
    assert found["raises"][0] == "error"
    assert "square[right]" not in found


def test_under_strict_what_is_open_is_an_error(varied):
    assert {kind for kind, *_ in annotations(replace(varied, config={"strict": True}))} == {"error"}


def test_nothing_of_the_user_s_can_end_a_command_or_begin_one(by_name):
    evil = replace(by_name["raises"], case="f,line=9::x\n::error::y%", message="100 %\r\n::warning::z; %0A")
    ((kind, properties, message),) = annotations(of(evil, root=evil.file.partition("/layers")[0]))
    assert kind == "error"
    assert properties["title"] == "gradcheck ERROR: f,line=9::x\n::error::y%"
    assert properties["line"] == str(evil.line)
    assert message.startswith("100 %\r\n::warning::z; %0A")


def test_a_file_outside_of_the_repository_is_not_named(by_name):
    ((_, properties, _),) = annotations(of(by_name["cube"], root="/elsewhere"))
    assert "file" not in properties


@pytest.mark.parametrize(("count", "last"), [(0, None), (10, "FAIL: c9"), (11, "gradcheck")])
def test_a_step_shows_ten_the_worst_nine_and_how_many_more(by_name, count, last):
    def failing(k):
        c = Comparison("x", "y", "a", "b", Verdict.FAIL, Reason.DISAGREES, 1, 1, 0, 0, 0.1 / (k + 1), 0, 0)
        return replace(by_name["cube"], case=f"c{k}", comparisons=(c,), contracts=())

    open_ = [by_name["logarithm[<script>|`a`,b:%0A]"]] if count > 10 else []
    found = annotations(of(*open_, *reversed([failing(k) for k in range(count)])))
    assert len(found) == min(count, 10)
    if count:
        assert [p["title"][-2:] for _, p, _ in found[:9]] == [f"c{k}" for k in range(9)]
        assert last in found[-1][1]["title"]
    if count > 10:
        assert found[-1][2].startswith("3 more cases are not ok (2 FAIL, 1 INCONCLUSIVE)")


def test_a_contract_that_several_cases_break_at_one_line_is_annotated_once(by_name):
    cube = by_name["cube"]
    several = [replace(cube, case=f"cube[{k}]") for k in range(3)]
    ((_, properties, message),) = annotations(of(*several, root=cube.file.partition("/layers")[0]))
    assert properties["title"] == "gradcheck FAIL: cube[0]"
    assert message.endswith("the same in cube[1], cube[2]")
