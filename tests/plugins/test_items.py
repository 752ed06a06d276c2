"""Declared cases as tests: found, named, selected and run again like any other."""

import json
import re

import nbformat
import pytest

from gradcheck.backends.numpy import bind

CASES = ["good", "both[wrong]", "both[right]", "misprint", "undecided"]


@pytest.fixture
def run(project, monkeypatch):
    """Run pytest on NumPy's cases without PyTorch's derivative of them, which would have to be compiled."""
    monkeypatch.setattr(bind, "_make_traced_claim", lambda *_, **__: bind._make_untraced_claim("not traced here"))
    project.makepyfile(test_other="def test_good():\n    pass\n")
    return project.runpytest


def items(done):
    """The ids that `--collect-only -q` lists."""
    return [line for line in done.stdout.lines if "::" in line]


def cases(*names, file="cases.py"):
    return [f"{file}::gradcheck:{name}" for name in names]


def test_each_case_is_an_item_beside_the_tests(run, project):
    assert items(run("--gradcheck", "cases", "--collect-only", "-q")) == ["test_other.py::test_good", *cases(*CASES)]
    done = run("--gradcheck", "cases", "-v", "-rx", "--junit-xml", "junit.xml")
    done.assert_outcomes(passed=4, failed=1, xfailed=1, warnings=1)
    done.stdout.fnmatch_lines(
        ["cases.py::gradcheck:good PASSED *", "*cases.py:14: InconclusiveWarning: *", "XFAIL * the book has a misprint"]
    )
    assert '<testcase classname="cases" name="gradcheck:good"' in (project.path / "junit.xml").read_text()


def test_a_failure_shows_the_table_and_no_traceback(run):
    done = run("--gradcheck", "cases:both")
    done.stdout.fnmatch_lines(
        [
            "*_ cases:both[[]wrong[]] _*",
            "FAIL x[[]?]: analytic *, numeric *",
            "cases:both[[]wrong[]]  numpy, float64, full mode  FAIL",
            "replay: pytest 'cases.py::gradcheck:both[[]wrong[]]' --gradcheck cases:both --gradcheck-seed 0",
            "FAILED cases.py::gradcheck:both[[]wrong[]] - FAIL x[[]?]: analytic *, numeric *",
        ]
    )
    assert not re.search(r"Traceback|\.py:\d", done.stdout.str())


def test_the_command_shown_runs_the_case_alone_with_the_same_numbers(run):
    def failure(done):
        done.assert_outcomes(failed=1, passed=done.parseoutcomes().get("passed", 0))
        return [line for line in done.stdout.lines if "analytic" in line]

    first = run("--gradcheck", "cases:both", "--gradcheck-seed", "5")
    command = re.search(r"^replay: pytest '(.*)' (.*)$", first.stdout.str(), re.M).groups()
    again = run(command[0], *command[1].split())
    assert failure(again) == failure(first) != []
    assert "passed" not in again.parseoutcomes()


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["cases.py::gradcheck:good"], cases("good")),
        (["cases.py::gradcheck:both"], cases("both[wrong]", "both[right]")),
        (["cases.py::gradcheck:both[wrong]"], cases("both[wrong]")),
        (["cases.py"], cases(*CASES)),
        (["test_other.py"], ["test_other.py::test_good", *cases(*CASES)]),
        (["-k", "good and gradcheck"], cases("good")),
        (["-m", "gradcheck"], cases(*CASES)),
        (["--gradcheck", "cases.py:good", "-m", "gradcheck"], cases(*CASES)),
        (["--deselect", "cases.py::gradcheck:both", "-m", "gradcheck"], cases("good", "misprint", "undecided")),
    ],
    ids=lambda words: " ".join(words),
)
def test_cases_are_selected_as_tests_are(run, words, found):
    assert items(run("--gradcheck", "cases", "--collect-only", "-q", *words)) == found


def test_the_last_failed_is_run_again(run, project):
    project.makeini("[pytest]\ngradcheck_targets = cases\n")
    run("-k", "not undecided")
    assert items(run("--lf", "--collect-only", "-q")) == cases("both[wrong]")
    assert items(run("--ff", "--collect-only", "-q"))[0] == cases("both[wrong]")[0]


def test_targets_of_the_ini_file_are_collected_where_no_file_is_named(run, project):
    project.makeini("[pytest]\ngradcheck_targets = cases\n")
    assert len(items(run("--collect-only", "-q"))) == 1 + len(CASES)
    assert items(run("--collect-only", "-q", "test_other.py")) == ["test_other.py::test_good"]
    assert items(run("--collect-only", "-q", *cases("good"))) == cases("good")


SECTION = """
[tool.gradcheck]
trials = 2

[[tool.gradcheck.target]]
target = "cases.py:good"

[[tool.gradcheck.target]]
target = "described:square"
inputs = ["normal(n)"]
gradient = "described:triple"
dims = { n = [2, 3] }
rtol = 0.5
"""
DESCRIBED = """
import numpy as np

def square(x): return np.sum(x**2)
def triple(x): return 3 * x
"""


@pytest.fixture
def section(project):
    """Write `pyproject.toml`, from the table on; `gradcheck_targets` names one of the cases a second time."""
    project.makepyfile(described=DESCRIBED)
    filters = "filterwarnings =\n    default::pytest_gradcheck.InconclusiveWarning\n"
    project.makeini(f"[pytest]\ngradcheck_targets = cases:good\n{filters}")

    def write(text):
        (project.path / "pyproject.toml").write_text(text)

    write(SECTION)
    return write


SQUARES = ["described.py::gradcheck:square[n=2]", "described.py::gradcheck:square[n=3]"]


def test_targets_of_the_configuration_are_collected_where_no_file_is_named(run, section, project, monkeypatch):
    everything = ["test_other.py::test_good", *cases("good"), *SQUARES]
    done = run("--collect-only", "-v")
    done.stdout.fnmatch_lines(["gradcheck: targets pyproject.toml cases:good"])
    assert items(run("--collect-only", "-q")) == everything
    assert items(run("--collect-only", "-q", "test_other.py")) == everything[:1]
    assert items(run("--collect-only", "-q", SQUARES[1])) == SQUARES[1:]
    assert items(run("--collect-only", "-q", "described.py")) == []
    assert items(run("--collect-only", "-q", "described.py::gradcheck:square")) == SQUARES
    assert items(run("--collect-only", "-q", "-o", "gradcheck_collect=false")) == everything[:2]
    monkeypatch.chdir(project.mkdir("below"))
    assert items(run("--collect-only", "-q", "-m", "gradcheck", "--rootdir", "..")) == everything[1:]


def test_the_configuration_describes_a_target_wherever_it_is_named(run, section):
    assert items(run("--collect-only", "-q", "--gradcheck", "described:square", "test_other.py"))[1:] == SQUARES


def test_the_configuration_may_be_a_file_of_its_own(run, section, project):
    section("[tool.other]\n")
    (project.path / "gradcheck.toml").write_text('[[target]]\ntarget = "cases:good"\n')
    project.makeini("[pytest]\n")
    assert items(run("--collect-only", "-q", "-m", "gradcheck")) == cases("good")


def test_options_of_the_configuration_are_those_of_the_command_line(run, section, project):
    def results(*words):
        run("-m", "gradcheck", "--gradcheck-json", "run.json", *words)
        return {r["case"]: r for r in json.loads((project.path / "run.json").read_text())["results"]}

    plain = results()
    assert plain.keys() == {"cases.py:good", "described:square[n=2]", "described:square[n=3]"}
    assert {result["trials"] for result in plain.values()} == {2}
    assert [result["verdict"] for result in plain.values()] == ["PASS"] * 3  # by the rtol of the target
    typed = results("--gradcheck-rtol", "1e-3", "--gradcheck-trials", "1", "--gradcheck-seed", "5")
    assert {result["trials"] for result in typed.values()} == {1}
    assert {result["seed"] for result in typed.values()} == {5}
    assert [result["verdict"] for result in typed.values()] == ["PASS", "FAIL", "FAIL"]
    project.makeini("[pytest]\ngradcheck_rtol = 1e-3\ngradcheck_trials = 3\n")
    of_ini = results()
    assert {result["trials"] for result in of_ini.values()} == {3}
    assert [result["verdict"] for result in of_ini.values()] == ["PASS"] * 3


def test_the_replay_of_a_described_case_runs_it_alone(run, section):
    section(SECTION.replace("trials = 2", "seed = 4"))
    done = run("--gradcheck-rtol", "1e-5")
    first = re.search(r"^replay: pytest '(.*)' (.*)$", done.stdout.str(), re.M)
    assert first[2] == "--gradcheck-rtol 1e-5 --gradcheck-seed 4"
    run(first[1], *first[2].split()).assert_outcomes(failed=1)


def test_strict_and_the_baseline_of_the_configuration_count(run, section, project):
    section('[tool.gradcheck]\nstrict = true\nbaseline = "known.json"\n[[tool.gradcheck.target]]\ntarget = "cases"\n')
    run().assert_outcomes(passed=3, failed=2, xfailed=1)
    entry = {"case": "cases:both[wrong]", "failure": "FAIL disagrees: x", "because": "fixed in 1.1"}
    (project.path / "known.json").write_text(json.dumps({"gradcheck_baseline": 1, "known": [entry]}))
    done = run("-rx")
    done.assert_outcomes(passed=3, failed=1, xfailed=2)
    done.stdout.fnmatch_lines(["XFAIL cases.py::gradcheck:both* - fixed in 1.1"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[tool.gradcheck]\ntrails = 2\n",
            "pyproject.toml:2: unknown key 'trails'; did you mean trials?; with gradcheck_collect = false, *",
        ),
        ("[tool.gradcheck]\nrtol = 2\n", "pyproject.toml:2: rtol=2: expected a number between 0 and 1*"),
        (f"{SECTION}baseline = 3\n", "pyproject.toml:14: unknown key 'baseline'; *"),
    ],
)
def test_an_invalid_configuration_is_one_error_of_usage(run, section, text, message):
    section(text)
    done = run()
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    assert [line for line in done.errlines if line] == done.errlines[:1]
    done.stderr.fnmatch_lines([f"ERROR: gradcheck: {message}"])


def test_an_invalid_configuration_does_not_stop_a_session_that_does_not_use_it(run, section):
    section(SECTION.replace("trials", "trails"))
    run("test_other.py").assert_outcomes(passed=1)
    run("-o", "gradcheck_collect=false").assert_outcomes(passed=2)
    done = run(SQUARES[0])
    done.assert_outcomes(errors=1)
    done.stdout.fnmatch_lines(["gradcheck: pyproject.toml:3: unknown key 'trails'*"])
    assert "targets.py" not in done.stdout.str()


def test_a_described_target_that_cannot_be_had_is_an_error_of_the_collection(run, section):
    section(SECTION.replace("described:square", "described:sqare"))
    done = run()
    done.assert_outcomes(errors=1)
    done.stdout.fnmatch_lines(
        ["*_ ERROR collecting pyproject.toml _*", "pyproject.toml:9: *has no 'sqare'; did you mean square?"]
    )


def test_a_described_target_without_a_file_can_be_undecided(run, section):
    target = 'target = "math:sin"\ninputs = ["normal()"]\ngradient = "math:cos"\nrtol = 1e-15\nframework = "numpy"'
    section(f"[tool.gradcheck]\n[[tool.gradcheck.target]]\n{target}\n")
    run("-m", "gradcheck").assert_outcomes(passed=2, deselected=1, warnings=1)


def test_a_package_has_its_cases_under_their_own_files(run, project):
    package = project.mkpydir("pack")
    for name in ("one", "two"):
        (package / f"{name}.py").write_text((project.path / "cases.py").read_text())
    everything = cases(*CASES, file="pack/one.py") + cases(*CASES, file="pack/two.py")
    assert items(run("--gradcheck", "pack", "--collect-only", "-q", "-m", "gradcheck")) == everything
    one = cases("good", file="pack/two.py")
    assert items(run("--gradcheck", "pack", "--collect-only", "-q", *one)) == one
    assert items(run("--gradcheck", "pack.two:good", "--collect-only", "-q", "-m", "gradcheck")) == one


def test_what_a_package_passes_on_is_found_by_its_id(run, project):
    package = project.mkpydir("pack")
    (package / "inner.py").write_text((project.path / "cases.py").read_text())
    (package / "__init__.py").write_text("from pack.inner import good\n")
    inner = cases("good", file="pack/inner.py")
    assert items(run("--gradcheck", "pack:good", "--collect-only", "-q", "-m", "gradcheck")) == inner
    assert items(run("--gradcheck", "pack:good", "--collect-only", "-q", *inner)) == inner


def test_a_target_without_a_file_is_replayed_on_the_command_line(run):
    done = run("--gradcheck", "math:sin")
    done.assert_outcomes(passed=1, failed=1)
    done.stdout.fnmatch_lines(["ERROR: cannot tell whether 'sin' takes *", "replay: gradcheck run math:sin --seed 0"])


def test_paths_of_the_ini_file_are_relative_to_it(run, project, monkeypatch):
    project.makeini("[pytest]\ngradcheck_targets = cases.py:good\n")
    monkeypatch.chdir(project.mkdir("below"))
    done = run("-m", "gradcheck", "--rootdir", "..", "..")
    assert done.parseoutcomes() == {"deselected": 1}
    project.makepyfile(**{"below/test_below": "def test_it():\n    pass\n"})
    assert items(run("--collect-only", "-q", "-m", "gradcheck")) == cases("good")


def test_a_target_outside_of_the_project_has_an_id_too(run, project, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "distant.py"
    elsewhere.write_text((project.path / "cases.py").read_text())
    done = run("--gradcheck", f"{elsewhere}:good", "-v")
    done.assert_outcomes(passed=2)
    done.stdout.fnmatch_lines(["../elsewhere*/distant.py::gradcheck:good PASSED*"])


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("caes", "--gradcheck caes: no module 'caes'; did you mean cases*"),
        ("cases:god", "--gradcheck cases:god: cases has no 'god'; did you mean good?"),
        ("raising", "--gradcheck raising: importing raising raised ZeroDivisionError: division by zero*"),
        ("layers", "layers declares no case; declare one with @gradcheck.case, or name a function or class:"),
    ],
)
def test_a_target_that_cannot_be_had_is_an_error_of_the_collection(run, project, target, message):
    project.makepyfile(raising="1 / 0\n")
    done = run("--gradcheck", target)
    done.assert_outcomes(errors=1)
    assert done.ret == pytest.ExitCode.INTERRUPTED
    done.stdout.fnmatch_lines([f"*_ ERROR collecting {target} _*", message])
    if target == "raising":
        done.stdout.fnmatch_lines(['*raising.py", line 1, in <module>'])
    assert "discover.py" not in done.stdout.str()


BROKEN = """
import numpy as np
from gradcheck import case, normal

@case(gradient=lambda x: 2 * x)
def lacking(x): return np.sum(x**2)

@case(x=normal(3), gradient=lambda x: 2 * x, expect="fail", because="it was wrong once")
def fixed(x): return np.sum(x**2)

@case(x=normal(3), options={"trials": 3}, gradient=lambda x: 2 * x)
def raises(x): raise ValueError("boom")
"""


def test_what_is_not_right_about_a_case_is_its_failure(run, project):
    project.makepyfile(cases=BROKEN)
    done = run("--gradcheck", "cases")
    done.assert_outcomes(passed=1, failed=3)
    for line in (
        "  bad-input: no input for x (the target takes x)*",
        "*fixed*PASS although expect='fail': Remove *",
        "  target-raised: the function raised ValueError: boom*",
        '*def raises(x): raise ValueError("boom")',
        "0 passed, 1 failed, 2 errors; *",
        "FAILED * - FAIL: PASS although expect='fail': *",
    ):
        done.stdout.fnmatch_lines([line])


def test_strict_and_the_options_of_the_session_reach_the_cases(run):
    run("--gradcheck", "cases:undecided", "--gradcheck-strict").assert_outcomes(passed=1, failed=1)
    run("--gradcheck", "cases:both", "--gradcheck-rtol", "0.9").assert_outcomes(passed=3)


def test_texts_of_the_user_s_cannot_change_the_screen_or_command_a_ci_service(run, project):
    hostile = r"\x1b[2J\n1 passed\n::error::a"
    project.makepyfile(
        evil=f"""
        import numpy as np
        from gradcheck import case, normal

        @case(x=normal(3), name="{hostile}")
        def raises(x): raise ValueError("{hostile}")
        """,
        test_evil=f"""
        from gradcheck import normal

        def test_raises(gradcheck):
            def raises(x): raise ValueError("{hostile}")
            gradcheck(raises, normal(3), framework="numpy")
        """,
    )
    done = run("--gradcheck", "evil", "test_evil.py", "-v")
    done.assert_outcomes(failed=2)
    text = "\n".join(line for line in done.stdout.lines if "def raises" not in line)
    assert "\\x1b[2J" in text
    assert "\x1b" not in text
    assert not re.search(r"^\s*::", text, re.M)


NOTEBOOK_CELL = """import numpy as np
from gradcheck import case, normal


@case(normal(3), gradient=lambda x: 3 * x, options={"methods": ("analytic", "numeric")})
@case(normal(3), gradient=lambda x: 2 * x, name="right")
def square(x):
    return np.sum(x**2)"""


def test_cases_of_a_notebook_are_items_of_its_file(run, project):
    cells = [nbformat.v4.new_code_cell("%matplotlib inline"), nbformat.v4.new_code_cell(NOTEBOOK_CELL)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), project.path / "fit.ipynb")
    names = cases("square[right]", "square[1]", file="fit.ipynb")
    assert items(run("--gradcheck", "fit.ipynb", "--collect-only", "-q")) == ["test_other.py::test_good", *names]
    done = run("--gradcheck", "fit.ipynb:square", names[1], "-v")
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines([f"replay: pytest '{names[1].replace('[', '[[]')}' --gradcheck fit.ipynb:square *"])
