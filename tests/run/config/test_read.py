"""[tool.gradcheck] and gradcheck.toml: the command line takes precedence over them, and mistakes in them are named."""

import json

import pytest
from typer.testing import CliRunner

from gradcheck.cli import app
from gradcheck.errors import SpecError, TargetNotFoundError, UsageError
from gradcheck.run.config import read
from gradcheck.run.config.toml_lines import line_of
from gradcheck.run.plan import Request, plan
from gradcheck.targets.specs.spec import array, normal

SOURCE = """
import numpy as np
from gradcheck import case, normal

def square(x): return np.sum(x**2)
def double(x): return 2 * x
def tripled(x): return 3 * x
def scaled(a): return lambda x: np.sum(a * x**2)
def tree(p, power=2): return np.sum(p["w"] ** power) + np.sum(p["b"])

@case(x=normal(2), gradient=double, options={"trials": 3})
def declared(x): return np.sum(x**2)

@case(x=normal(2), gradient=double)
def other(x): return np.sum(x**2)
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "configured.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)

    def written(text, name="gradcheck.toml"):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return written


def run(*words):
    done = CliRunner().invoke(app, ["run", "--json", "-", *words])
    return done, json.loads(done.stdout) if done.stdout else None


def planned(path, *targets):
    return plan(Request(targets, entries=read.read_config(path).entries))


SQUARE = '[[target]]\ntarget = "configured.py:square"\n'


def test_without_a_target_those_of_the_configuration_run(project):
    project(f'trials = 2\nseed = 3\nrtol = 1e-6\n{SQUARE}inputs = ["normal(3)"]\n[[target]]\ntarget = "configured.py"\n')
    done, data = run()
    assert done.exit_code == 0
    assert [r["case"].rpartition(":")[2] for r in data["results"]] == ["square", "declared", "other"]
    assert [r["trials"] for r in data["results"]] == [2, 3, 2]  # what is declared beside the code goes before a default
    assert (data["seed"], data["config"]["rtol"]) == (3, 1e-6)


@pytest.mark.parametrize(("name", "head"), [("gradcheck.toml", ""), ("pyproject.toml", "[tool.gradcheck]\n")])
def test_the_nearest_configuration_upwards_is_taken_and_its_paths_start_from_it(project, tmp_path, monkeypatch, name, head):
    project("[tool.other]\n", "pyproject.toml")
    project(f"{head}seed = 4\n[[{'tool.gradcheck.' if head else ''}target]]\ntarget = 'configured.py:declared'\n", name)
    below = tmp_path / "below" / "deeper"
    below.mkdir(parents=True)
    (below.parent / "pyproject.toml").write_text("[project]\nname = 'without a word on gradcheck'\n")
    monkeypatch.chdir(below)
    done, data = run()
    assert done.exit_code == 0
    assert (data["results"][0]["case"], data["seed"]) == ("configured.py:declared", 4)
    assert data["results"][0]["replay"] == "gradcheck run configured.py:declared --seed 4"
    assert run("configured.py:declared")[0].exit_code == 0  # which the replay says, from the same folder


def test_the_command_line_wins_over_the_configuration(project):
    project(f'trials = 2\nseed = 3\nstrict = true\n{SQUARE}inputs = ["normal(3)"]\nrtol = 1e-3\ntrials = 4\n')
    _, data = run("--trials", "1", "--seed", "5", "--no-strict")
    assert (data["results"][0]["trials"], data["seed"], data["config"]["strict"]) == (1, 5, False)
    assert data["results"][0]["replay"] == "gradcheck run configured.py:square --trials 1 --seed 5"
    _, data = run("configured.py:square", "--input", "normal(7)")
    assert data["results"][0]["comparisons"][0]["shape"] == [7]
    assert data["results"][0]["trials"] == 4  # of the target that the configuration describes
    _, data = run("configured.py:declared")
    assert (data["seed"], data["config"]["strict"]) == (3, True)  # defaults hold for a target that it does not


def test_a_configuration_can_say_that_a_failure_is_only_reported(project):
    project(f'report_only = true\n{SQUARE}inputs = ["normal(3)"]\ngradient = "configured.py:tripled"\n')
    assert run()[0].exit_code == 0
    assert run("--no-report-only")[0].exit_code == 1


def test_another_configuration_can_be_named_and_the_replay_names_it(project):
    project("seed = 3\n")
    project(f'seed = 9\n{SQUARE}inputs = ["normal(3)"]\n', "other.toml")
    _, data = run("--config", "other.toml")
    assert data["seed"] == 9
    assert data["results"][0]["replay"] == "gradcheck run configured.py:square --config other.toml --seed 9"


def test_a_size_that_is_configured_for_all_need_not_be_in_each(project):
    project(f'dims = {{ batch = 3, n = "1..4" }}\n{SQUARE}inputs = ["normal(batch)"]\n')
    assert run()[0].exit_code == 0
    assert run("configured.py:declared")[0].exit_code == 0
    assert "no input has a size of that name" in run("configured.py:declared", "--dim", "batch=3")[1]["results"][0]["message"]


def test_a_target_can_have_every_key(project):
    path = project(
        "[[target]]\ntarget = 'configured.py:tree'\nname = 'large'\n"
        "inputs = { p = { w = 'normal(3)', b = [1.0, 2.0] }, power = 3 }\n"
        "wrt = \"p['w']\"\ntrials = 2\nmethods = 'analytic'\nchecks = ['laws']\ndims = { n = 3 }\n"
        "tolerates = { quantised = 'rounded on purpose' }\ndepends = { output = ['p'] }\n"
        "[[target]]\ntarget = 'configured.py:scaled'\ninit = { a = [1, 2] }\ninputs = { x = 'normal(2)' }\nexpect = 'fail'\n"
        "because = 'not fixed yet'\ngradient = 'configured.py:double'\n"
    )
    tree, scaled = planned(path)
    assert (tree.name, tree.target, tree.wrt) == ("configured.py:tree[large]", "configured.py:tree", ("p['w']",))
    assert tree.kwargs == {"p": {"w": normal(3), "b": array([1.0, 2.0])}, "power": 3}
    assert tree.option_overrides == {"trials": 2, "methods": ("analytic",), "checks": ("laws",), "dims": (("n", (3, 3)),)}
    assert [(i.kind, i.subject) for i in tree.intents] == [("tolerates", "quantised")]
    assert [(d.output, d.kind, d.inputs) for d in tree.depends] == [("output", "only", (("p", ()),))]
    assert (scaled.init, scaled.expect, scaled.because) == ({"a": [1, 2]}, "fail", "not fixed yet")
    assert [*scaled.claims] == ["gradient"]


def test_a_target_goes_before_a_module_that_holds_it(project):
    path = project(
        "[[target]]\ntarget = 'configured.py'\n[[target]]\ntarget = 'configured.py:other'\ninputs = { x = 'normal(9)' }\n"
    )
    assert [(c.name, c.kwargs["x"].shape) for c in planned(path)] == [
        ("configured.py:declared", (2,)),
        ("configured.py:other", (9,)),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trials = '3'\n", "gradcheck.toml:1: trials = '3': expected an integer"),
        ("\nseed = true\n", "gradcheck.toml:2: seed = True: expected an integer"),
        (
            f"{SQUARE}depends = 'casual along 1'\n",
            "gradcheck.toml:3: depends: depends='casual along 1': expected a rule such as 'causal along 1'",
        ),
        ("strict = 1\n", "gradcheck.toml:1: strict = 1: expected true or false"),
        ("jobs = 0\n", "gradcheck.toml:1: jobs = 0: expected an integer of at least 1"),
        ("trials = 0\n", "gradcheck.toml:1: trials=0: expected an integer of at least 1"),
        ("mode = 'ful'\n", "gradcheck.toml:1: mode='ful': did you mean full? expected one of auto, full, probe"),
        ("order = 4\n", "gradcheck.toml:1: order=4"),
        ("budget = 'soon'\n", "gradcheck.toml:1: budget: 'soon': expected a duration"),
        ("dims = { n = 'many' }\n", "gradcheck.toml:1: dims: "),
        ("[dims]\nn = 1\n", None),
        ("seed = 1\n[xyz]\n", "gradcheck.toml:2: unknown key 'xyz'; the keys are seed, trials, "),
        ("seed = 1\ntrails = 3\n", "gradcheck.toml:2: unknown key 'trails'; did you mean trials?"),
        ("by-layer = true\n", "gradcheck.toml:1: unknown key 'by-layer'; did you mean by_layer?"),
        ("target = 'x'\n", "gradcheck.toml:1: target = 'x': expected tables, each under [[tool.gradcheck.target]]"),
        ("seed = \n", "is not valid TOML: "),
        (f"{SQUARE}\n{SQUARE}inptus = []\n", "gradcheck.toml:6: unknown key 'inptus'; did you mean inputs?"),
        (f"{SQUARE}inputs = 'normal(3)'\n", "gradcheck.toml:3: inputs = 'normal(3)': expected a list of specs, or"),
        (f"{SQUARE}seed = 3\n", "gradcheck.toml:3: unknown key 'seed'"),
        (f"{SQUARE}wrt = []\n", "gradcheck.toml:3: wrt = []: expected names, at least one"),
        (f"{SQUARE}expect = 'fail'\n", "gradcheck.toml:1: expect='fail' needs because='...'"),
        (f"{SQUARE}name = 'a b'\n", "gradcheck.toml:3: name = 'a b': expected letters, digits"),
        ("[[target]]\nname = 'x'\n", 'gradcheck.toml:1: a target needs target = "module:name"'),
        (f"{SQUARE}{SQUARE}", "gradcheck.toml:4: target 'configured.py:square' is described twice, first at gradcheck.toml:2"),
        (f"{SQUARE}name = 'a'\n{SQUARE}name = 'b'\n", None),
    ],
)
def test_a_mistake_in_a_configuration_is_named_with_its_line(project, text, message):
    path = project(text)
    if message is None:
        assert read.read_config(path).path == path
        return
    with pytest.raises(UsageError) as caught:
        read.read_config(path)
    assert message in str(caught.value)
    done, _ = run("configured.py:declared")
    assert done.exit_code == 2
    assert message in done.stderr


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("[[target]]\ntarget = 'configured.py:sqare'\n", TargetNotFoundError, "gradcheck.toml:2: configured.py has no 'sqare'"),
        ("[[target]]\ntarget = 'confgured'\n", TargetNotFoundError, "gradcheck.toml:2: no module 'confgured'"),
        (f"{SQUARE}inputs = ['nrmal(3)']\n", SpecError, "gradcheck.toml:2: input nrmal(3): unknown spec"),
        (f"{SQUARE}init = {{ a = 1979-05-27 }}\n", SpecError, "gradcheck.toml:2: init a=datetime"),
        (f"{SQUARE}gradient = 'configured.py:duble'\n", TargetNotFoundError, "gradcheck.toml:2: configured.py has no 'duble'"),
        ("[[target]]\ntarget = 'configured.py'\ninputs = ['normal(3)']\n", UsageError, "need a single target"),
        ("[[target]]\ntarget = 'configured.py'\nname = 'all'\n", UsageError, "declares cases of its own: leave out name"),
        (
            f"{SQUARE}inputs = {{ x = 'TODO' }}\n",
            UsageError,
            "gradcheck.toml:3: inputs of configured.py:square contains a TODO",
        ),
        (f"{SQUARE}inputs = {{ x = 'normal(TODO, 3)' }}\n", UsageError, "contains a TODO: replace it, or remove the target"),
    ],
)
def test_a_target_that_cannot_be_planned_is_named_with_its_line(project, text, error, message):
    path = project(text)
    with pytest.raises(error) as caught:
        planned(path)
    assert message in str(caught.value)
    assert run()[0].exit_code == 2
    assert run("configured.py:declared")[0].exit_code == 0  # others are none the worse


def test_a_configuration_without_targets_asks_for_one(project):
    project("seed = 3\n")
    done, _ = run()
    assert done.exit_code == 2
    assert "list targets under [tool.gradcheck]" in done.stderr


def test_a_configured_module_without_cases_is_nothing_collected(project, tmp_path):
    (tmp_path / "empty_of_cases.py").write_text("def f(x): return x\n")
    project("[[target]]\ntarget = 'empty_of_cases.py'\n")
    done, _ = run()
    assert done.exit_code == 5
    assert "gradcheck run empty_of_cases.py:f" in done.stderr


@pytest.mark.parametrize("name", ["no such folder/gradcheck.toml", ".", "pyproject.toml"])
def test_a_configuration_that_is_not_there_is_an_error(project, name):
    project("[project]\nname = 'x'\n", "pyproject.toml")
    done, _ = run("--config", name)
    assert done.exit_code == 2
    assert "cannot read" in done.stderr or "has no table [tool.gradcheck]" in done.stderr


def test_list_names_the_configured_cases(project):
    project(f"{SQUARE}name = 'a'\ninputs = ['normal(3)']\n[[target]]\ntarget = 'configured.py'\n")
    names = CliRunner().invoke(app, ["list"]).stdout.splitlines()
    assert names == ["configured.py:square[a]", "configured.py:declared", "configured.py:other"]


TOML = """\
# a = 1
a = 1
b.c = 2

[t]
x = { y = 3 }
"quoted key" = 4
z = [
  "x = 5",
]
[[t.u]]
v = 6
[t.u.inner]
w = 7
[[t.u]]
v = 8
"""


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("a",), 2),
        (("b", "c"), 3),
        (("t",), 5),
        (("t", "x"), 6),
        (("t", "x", "y"), 6),
        (("t", "quoted key"), 7),
        (("t", "z", 0), 8),
        (("t", "u", 0), 11),
        (("t", "u", 0, "v"), 12),
        (("t", "u", 0, "inner", "w"), 14),
        (("t", "u", 1), 15),
        (("t", "u", 1, "v"), 16),
        (("nowhere",), 1),
    ],
)
def test_the_line_of_a_key_is_found(path, line):
    assert line_of(TOML, path) == line
