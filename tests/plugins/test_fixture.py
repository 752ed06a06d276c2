import re
import xml.etree.ElementTree as ET

import pytest


def test_a_right_layer_passes_and_its_result_is_returned(project, write_tests):
    write_tests("""
def test_square(gradcheck):
    result = gradcheck(Square, normal(4, 3))
    assert result.ok and result.target == "Square"
    assert gradcheck(torch.nn.Linear(3, 2), normal(4, 3)).ok
""")
    project.runpytest().assert_outcomes(passed=1)


def test_a_wrong_one_fails_with_the_table_where_the_test_called(project, write_tests):
    write_tests("""
def test_wrong(gradcheck):
    gradcheck(Wrong, normal(4))
""")
    done = project.runpytest()
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(
        [
            ">       gradcheck(Wrong, normal(4))",
            "E       gradcheck.errors.GradientError: FAIL x[[]?]: reverse *, numeric *",
            "E       test_it.py::test_wrong: Wrong  torch, float64, cpu, full mode  FAIL",
            "E*reverse ~ numeric*FAIL",
            "E       replay: pytest test_it.py::test_wrong --gradcheck-seed 0",
            "test_it.py:5: GradientError",
            "FAILED test_it.py::test_wrong - FAIL x[[]?]: reverse *, numeric *",
        ]
    )
    assert "fixture.py" not in done.stdout.str()


KINDS = """
import gradcheck as module

class Sums(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a)
        return a * a + b.exp()
    @staticmethod
    def backward(ctx, g):
        return 3 * ctx.saved_tensors[0] * g, g

class WritesToItsCotangent(Square):
    @staticmethod
    def backward(ctx, g):
        return g.mul_(2 * ctx.saved_tensors[0])

class Once(Square):
    @staticmethod
    def backward(ctx, g):
        return 2 * ctx.saved_tensors[0].detach() * g

class Layer(torch.nn.Module):
    def forward(self, x):
        return Wrong.apply(x)

def f(x): return np.sum(x**2)

def test_leaves(gradcheck): gradcheck(Sums, normal(3), normal(3), seed=1)
def test_scalar(gradcheck): gradcheck(f, 2.0, gradient=lambda x: 3 * x)
def test_probe(gradcheck): gradcheck(f, normal(9), gradient=lambda x: 3 * x, mode="probe", trials=2)
def test_jacobian(gradcheck): gradcheck(lambda x: x**2, normal(3), jacobian=lambda x: np.diag(3 * x), framework="numpy")
def test_plain(): module.assert_gradients(f, normal(3), gradient=lambda x: 3 * x)
def test_layer(gradcheck): gradcheck(torch.nn.Sequential(torch.nn.Tanh(), Layer()), normal(2, 3), by_layer=True)
def test_second(gradcheck): gradcheck(Once, normal(3), order=2)
def test_nan(gradcheck): gradcheck(f, normal(3), gradient=lambda x: x * np.nan)
def test_contract(gradcheck): gradcheck(WritesToItsCotangent, normal(3))
def test_raises(gradcheck): gradcheck(lambda x: 1 / 0, normal(3), framework="numpy")
@pytest.mark.gradcheck(strict=True)
def test_noise(gradcheck): gradcheck(lambda x: f(x) + np.random.default_rng().normal(), normal(3), gradient=lambda x: 2 * x)
"""
NUMBERS = {
    "leaves": r"FAIL a\[\d\]: reverse -?\d\S*, numeric -?\d",
    "scalar": r"FAIL x: analytic 6, numeric 4 ",
    "probe": r"FAIL x\[\d\]: analytic -?\d\S*, numeric -?\d",
    "jacobian": r"FAIL x\[\d\]: analytic -?\d\S*, numeric -?\d",
    "plain": r"FAIL x\[\d\]: analytic -?\d\S*, numeric -?\d",
    "layer": r"FAIL 1\.Wrong x\[\d, \d\]: reverse -?\d\S*, numeric ",
    "second": r"FAIL x\[\d\]: reverse -?\d\S*, numeric -?\d",
    "nan": r"FAIL x\[\d\]: analytic nan, numeric -?\d",
    "contract": r"FAIL: contract backward-intact: ",
    "raises": r"ERROR: the function raised ",
    "noise": r"INCONCLUSIVE: ",
}


def test_the_line_of_a_failed_test_begins_with_verdict_leaf_entry_and_numbers(project, write_tests, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("CI", raising=False)  # where pytest does not shorten the lines
    write_tests(KINDS)
    done = project.runpytest("-q", "-p", "no:randomly")
    lines = dict(re.findall(r"^FAILED test_it\.py::test_(\w+) - (.*)$", done.stdout.str(), re.M))
    assert lines.keys() == NUMBERS.keys()
    wrong = {name: line for name, line in lines.items() if not re.match(NUMBERS[name], line)}
    assert not wrong


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("gradcheck()", "gradcheck() has nothing to check: expected a target and its inputs, as in"),
        ("gradcheck(torch.nn.Bilinear(2, 3, 1))", "no input for input1, input2 (the target takes input1, input2)"),
        ("gradcheck(Square, normal(3), rtoll=1e-3)", "unknown option rtoll=0.001; did you mean rtol=?"),
        ("gradcheck(Square, normal(3), rtol=2)", "rtol=2: expected a number between 0 and 1"),
        ("gradcheck('Square', normal(3))", "fn='Square': expected a function"),
    ],
)
def test_a_call_that_cannot_be_understood_is_one_message_at_the_call(project, write_tests, call, message):
    write_tests(f"def test_it(gradcheck):\n    {call}\n")
    done = project.runpytest()
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines([f">       {call}".replace("[", "[[]"), f"E *Error: {message}*", "test_it.py:5: *Error"])
    assert not re.search(r"(fixture|check|one|signature)\.py:\d", done.stdout.str())


def test_the_fixture_stands_in_for_the_module_of_its_name(project, write_tests):
    write_tests("""
def test_names(gradcheck):
    assert gradcheck(Square, gradcheck.normal(3)).verdict is gradcheck.Verdict.PASS
    with pytest.raises(AttributeError, match="nor the module gradcheck has 'nromal'"):
        gradcheck.nromal
""")
    project.runpytest().assert_outcomes(passed=1)


def test_inconclusive_warns_and_fails_under_strict(project, write_tests):
    write_tests("""
def test_log(gradcheck):
    gradcheck(undecided, normal(3))
""")
    lenient = project.runpytest()
    lenient.assert_outcomes(passed=1, warnings=1)
    lenient.stdout.fnmatch_lines(["*test_it.py:5: InconclusiveWarning: INCONCLUSIVE: *", "*gradcheck-strict*"])
    project.runpytest("--gradcheck-strict").assert_outcomes(failed=1)
    project.runpytest("-o", "gradcheck_strict=true").assert_outcomes(failed=1)
    project.runpytest("-W", "error::pytest_gradcheck.InconclusiveWarning").assert_outcomes(failed=1)


@pytest.mark.parametrize("words", [["--gradcheck-exact"], ["-o", "gradcheck_exact=true"]])
def test_derivatives_are_decided_exactly_on_request(project, write_tests, words):
    write_tests("""
def test_square(gradcheck):
    result = gradcheck(Square, normal(3), contracts=False)
    assert any(row.against == "exact" and row.reason.value == "identity-proved" for row in result.comparisons)
    assert not any(row.against == "exact" for row in gradcheck(Square, normal(3), exact=False, contracts=False).comparisons)
    gradcheck(Wrong, normal(4), contracts=False)
""")
    done = project.runpytest(*words)
    done.assert_outcomes(failed=1)  # by the wrong function, after the proof
    typed = "--gradcheck-exact " * (len(words) == 1)
    done.stdout.fnmatch_lines(["gradcheck: exact", f"E*replay: pytest test_it.py::test_square {typed}--gradcheck-seed 0"])


def test_options_come_from_the_call_the_closest_marker_the_command_line_and_the_ini_file(project, write_tests):
    write_tests("""
pytestmark = pytest.mark.gradcheck(trials=2, rtol=1e-2)

@pytest.mark.gradcheck(trials=3)
class TestLayer:
    def test_class(self, gradcheck):
        self.seen(gradcheck(Square, normal(3)), 3, 1e-2, "full")

    @pytest.mark.gradcheck(trials=4)
    def test_method(self, gradcheck):
        self.seen(gradcheck(Square, normal(3)), 4, 1e-2, "full")
        self.seen(gradcheck(Square, normal(3), trials=1, rtol=1e-3, mode="probe"), 1, 1e-3, "probe")

    def seen(self, result, trials, rtol, mode):
        assert (result.trials, result.comparisons[0].rtol, result.mode, result.seed) == (trials, rtol, mode, 7)
""")
    ini = ["-o", "gradcheck_seed=7", "-o", "gradcheck_mode=full", "-o", "gradcheck_trials=5"]
    project.runpytest(*ini, "--gradcheck-rtol=1e-6", "--gradcheck-trials=6").assert_outcomes(passed=2)
    project.runpytest(*ini, "--gradcheck-seed=8").assert_outcomes(failed=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("rtoll=1e-3", "unknown option rtoll=0.001; did you mean rtol=?"),
        ("trials=0", "trials=0: expected an integer of at least 1"),
        ("1e-3", "0.001 has no name: expected options by name, as in rtol=1e-6"),
        ("strict='yes'", "strict='yes': expected True or False"),
    ],
)
def test_a_marker_that_cannot_be_understood_is_an_error(project, write_tests, arguments, message):
    write_tests(f"@pytest.mark.gradcheck({arguments})\ndef test_it():\n    pass\n")
    done = project.runpytest("--strict-markers")
    done.assert_outcomes(errors=1)
    done.stdout.fnmatch_lines([f"@pytest.mark.gradcheck: {message}*"])


DRAWS = """
import pytest
seen = {}

def drawn(gradcheck, name):
    def records(x):
        seen.setdefault(name, x.detach().clone())
        return x.sin().sum()
    gradcheck(records, normal(3), framework="torch")
    return seen.pop(name).tolist()
"""


def numbers(done):
    return dict(re.findall(r"(\w+) drew (\[.*?\])", done.stdout.str()))


def test_draws_depend_on_the_test_and_the_seed_and_not_on_other_tests(project, write_tests):
    write_tests(
        DRAWS
        + """
@pytest.mark.parametrize("n", [1, 2])
def test_a(gradcheck, n):
    print(f"a{n} drew", drawn(gradcheck, "a"))

def test_b(gradcheck):
    torch.rand(7), np.random.rand(7)
    print("b drew", drawn(gradcheck, "b"))
    assert drawn(gradcheck, "c") == drawn(gradcheck, "d")
"""
    )
    whole = numbers(project.runpytest("-s"))
    assert len(set(whole.values())) == 3
    assert numbers(project.runpytest("-s", "test_it.py::test_b")) == {"b": whole["b"]}
    other = numbers(project.runpytest("-s", "--gradcheck-seed", "1"))
    assert not set(other.values()) & set(whole.values())


def test_a_random_seed_is_shown_in_the_header_and_where_a_test_fails_and_replays(project, write_tests):
    write_tests(
        DRAWS
        + """
def test_wrong(gradcheck):
    print("wrong drew", drawn(gradcheck, "wrong"))
    gradcheck(Wrong, normal(3))
"""
    )
    first = project.runpytest("-s", "--gradcheck-seed", "random", "--gradcheck-rtol", "1e-5")
    seed = re.search(r"^gradcheck: seed (\d+) \(random\), rtol 1e-05$", first.stdout.str(), re.M)[1]
    command = re.search(r"replay: pytest (.*)", first.stdout.str())[1]
    assert command == f"test_it.py::test_wrong --gradcheck-rtol 1e-5 --gradcheck-seed {seed}"
    again = project.runpytest("-s", *command.split())
    assert numbers(again) == numbers(first) != {}
    assert numbers(project.runpytest("-s", "--gradcheck-seed", "random")) != numbers(first)


def test_a_replay_command_names_the_file_from_where_pytest_was_called(project, write_tests):
    write_tests("def test_wrong(gradcheck):\n    gradcheck(Wrong, normal(3))\n")
    project.mkdir("below")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir("below")
        done = project.runpytest("../test_it.py")
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["*replay: pytest ../test_it.py::test_wrong --gradcheck-seed 0"])


def test_in_a_given_test_examples_are_one_check_and_no_health_check_bites(project, write_tests):
    write_tests("""
from hypothesis import Phase, given, settings, strategies as st

@settings(deadline=None, max_examples=3)
@given(st.integers(1, 4))
def test_sizes(gradcheck, n):
    assert gradcheck(Square, normal(n)).ok

@settings(deadline=None, max_examples=9, derandomize=True, phases=[Phase.generate, Phase.shrink])
@given(st.integers(1, 9))
def test_wrong(gradcheck, n):
    gradcheck(right if n < 3 else Wrong, normal(n))

@settings(deadline=None, max_examples=2)
@given(st.integers(1, 2))
def test_undecided(gradcheck, n):
    gradcheck(undecided, normal(n))
""")
    done = project.runpytest("-p", "no:cacheprovider", "--gradcheck-json", "run.json")
    done.assert_outcomes(passed=2, failed=1, warnings=1)
    done.stdout.fnmatch_lines(["*n=3,*", "2 passed, 1 failed, 1 inconclusive; *"])


def test_drawn_examples_that_are_no_good_input_do_not_count(project, write_tests):
    write_tests("""
from hypothesis import Phase, given, settings
from gradcheck import strategies

drawn = given(strategies.arrays(normal("batch", 2), framework="torch"))

@settings(deadline=None, max_examples=12, derandomize=True, database=None)
@drawn
def test_right(gradcheck, x):
    gradcheck(lambda x: Square.apply(x).amax(0), x, drawn=True)

@settings(deadline=None, max_examples=12, derandomize=True, database=None, phases=[Phase.generate])
@drawn
def test_wrong(gradcheck, x):
    gradcheck(Wrong, x, drawn=True)
""")
    done = project.runpytest("-p", "no:cacheprovider", "--gradcheck-strict")
    done.assert_outcomes(passed=1, failed=1)
    done.stdout.fnmatch_lines(["*GradientError: FAIL x*", "1 passed, 1 failed; *"])


def test_calls_of_one_test_are_told_apart(project, write_tests):
    write_tests("""
def test_many(gradcheck):
    for n in (2, 3):
        gradcheck(Square, normal(n))
    gradcheck(lambda x: x.sin(), normal(3), framework="torch", name="sine")
""")
    properties = junit(project, "test_many")
    assert [value for name, value in properties if name == "gradcheck"] == [
        "test_it.py::test_many: Square",
        "test_it.py::test_many: Square #2",
        "test_it.py::test_many: sine",
    ]
    assert {name for name, _ in properties} == {
        "gradcheck",
        *(f"gradcheck.{name}" for name in ("verdict", "reason", "resolution", "evaluations", "seed")),
    }


def junit(project, test, *words):
    project.runpytest("--junit-xml", "junit.xml", *words)
    case = ET.parse(project.path / "junit.xml").find(f".//testcase[@name='{test}']")
    return [(p.get("name"), p.get("value")) for p in case.iter("property")]


def test_each_subtest_fails_by_itself(project, write_tests):
    write_tests("""
def test_layers(gradcheck, subtests):
    for layer in (Wrong, Square, Wrong):
        with subtests.test(layer.__name__):
            gradcheck(layer, normal(3))
""")
    done = project.runpytest()
    assert done.ret == pytest.ExitCode.TESTS_FAILED
    done.stdout.fnmatch_lines(["*SUBFAILED*Wrong*", "*contains 2 failed subtests*"])
    done.stdout.fnmatch_lines(["1 passed, 2 failed; *"])


def test_it_can_be_called_in_a_coroutine_a_thread_a_doctest_and_a_wider_fixture(project, write_tests):
    write_tests("""
import asyncio, threading

@pytest.fixture(scope="module")
def layer(gradcheck):
    gradcheck(Square, normal(3))
    return Square

def test_coroutine(gradcheck, layer):
    async def main():
        await asyncio.sleep(0)
        return gradcheck(layer, normal(3))
    assert asyncio.run(main()).ok

def test_thread(gradcheck):
    done = []
    thread = threading.Thread(target=lambda: done.append(gradcheck(Square, normal(3)).case))
    thread.start()
    thread.join()
    assert done == ["test_it.py::test_thread: Square"]

def documented():
    '''
    >>> getfixture("gradcheck")(Square, normal(3)).ok
    True
    '''
""")
    project.runpytest("--doctest-modules", "test_it.py").assert_outcomes(passed=3)


def test_what_an_earlier_test_left_in_torch_changes_nothing_unseen_and_is_left_so(project, write_tests):
    write_tests("""
class Constant(torch.nn.Module):
    def forward(self, x):
        return (x * torch.tensor(0.1)).sum()

def test_as_usual(gradcheck):
    assert gradcheck(torch.nn.Linear, normal(2, 3), init=dict(in_features=3, out_features=2)).ok
    assert not any("default dtype" in note for note in gradcheck(Square, normal(3)).notes)

def test_that_leaves_a_mess():
    torch.set_default_dtype(torch.float64)
    torch.set_grad_enabled(False)

def test_after_it(gradcheck):
    state = torch.get_rng_state(), np.random.get_state()[1].tolist()
    result = gradcheck(torch.nn.Linear, normal(2, 3), init=dict(in_features=3, out_features=2))
    assert result.ok and {c.dtype for c in result.comparisons} == {"float64"}
    assert any("default dtype is float64 here" in note for note in result.notes)
    assert torch.get_default_dtype() is torch.float64
    assert not torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), state[0])
    assert np.random.get_state()[1].tolist() == state[1]

def test_that_tidies_up():
    torch.set_default_dtype(torch.float32)
    torch.set_grad_enabled(True)

def test_a_target_that_changes_the_default(gradcheck):
    def untidy(x):
        torch.set_default_dtype(torch.float64)
        return x.sin().sum()
    gradcheck(untidy, normal(3))
    assert torch.get_default_dtype() is torch.float32
""")
    project.runpytest().assert_outcomes(passed=5)


def test_without_the_plugin_nothing_of_it_is_there(project, write_tests):
    write_tests("def test_it(gradcheck):\n    pass\n\ndef test_other():\n    pass\n")
    done = project.runpytest("-p", "no:gradcheck")
    done.assert_outcomes(passed=1, errors=1)
    done.stdout.fnmatch_lines(["*fixture 'gradcheck' not found*"])
    assert project.runpytest("-p", "no:gradcheck", "--gradcheck", "cases").ret == pytest.ExitCode.USAGE_ERROR


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--gradcheck-rtol=2"], "gradcheck: rtol=2.0: expected a number between 0 and 1*"),
        (["--gradcheck-trials=many"], "--gradcheck-trials (gradcheck_trials) many: expected an integer"),
        (["-o", "gradcheck_seed=soon"], "--gradcheck-seed (gradcheck_seed) soon: expected an integer or 'random'"),
        (["--gradcheck-mode=slow"], "gradcheck: mode='slow': expected one of auto, full, probe"),
        (["--gradcheck-json=-"], "--gradcheck-json -: pytest itself writes to stdout; pass a path"),
    ],
)
def test_an_option_that_cannot_be_understood_ends_the_session_with_one_message(project, words, message):
    done = project.runpytest(*words)
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines([f"ERROR: {message}"])
