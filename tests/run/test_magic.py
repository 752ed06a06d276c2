"""`%gradcheck` in IPython: the call is checked instead of made, and a wrong use is answered in a line."""

import numpy as np
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from traitlets.config import Config

import gradcheck
from gradcheck.errors import UsageError
from gradcheck.results import CheckResult
from gradcheck.run.magic import check_line, read_call

SOURCE = """
import numpy as np
import gradcheck

METHODS = ("analytic", "numeric")

def loss(w, X, y):
    r = X @ w - y
    return 0.5 * np.sum(r**2)

def loss_gradient(w, X, y):
    return X.T @ (X @ w - y)

def scaled(w, factor=2.0, *, seed=0):
    return factor * np.sum(w**2) + seed

def flexible(x, **others):
    return np.sum(x**2) + sum(others.values())

def make(x):
    return np.tanh(x)

@gradcheck.case(gradcheck.normal(3), gradient=lambda x: 2 * x)
def square(x):
    return np.sum(x**2)

class Net:
    def loss(self, x):
        return np.sum(x**3)

net = Net()
w, X, y = np.arange(3.0), np.ones((5, 3)), np.arange(5.0)
"""


@pytest.fixture(scope="module")
def namespace():
    names = {}
    exec(compile(SOURCE, "<cell>", "exec"), names)
    return names


@pytest.fixture
def check(namespace):
    """Check the call of a line, without PyTorch's derivative unless the line has methods of its own."""

    def checked(line):
        head, _, last = line.rpartition(")")
        short = "methods=" in line or not head
        return check_line(line if short else f"{head}, methods=METHODS){last}", namespace)

    return checked


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    """A shell that leaves nothing in the home folder."""
    folder = pytest.MonkeyPatch()
    folder.setenv("IPYTHONDIR", str(tmp_path_factory.mktemp("ipython")))
    shell = InteractiveShell.instance(config=Config(HistoryManager={"enabled": False}))
    shell.run_cell(SOURCE)
    assert shell.run_cell("%load_ext gradcheck").success
    yield shell
    shell.restore_sys_module_state()
    InteractiveShell.clear_instance()
    folder.undo()


# --- right uses


def test_the_function_of_the_call_is_checked_at_its_arguments(check):
    result = check("loss(w, X, y, gradient=loss_gradient, wrt='w')")
    assert result.ok
    assert (result.case, {c.wrt for c in result.comparisons}) == ("loss", {"w"})
    assert not check("loss(w, X, y, gradient=lambda w, X, y: w, wrt='w')").ok


def test_a_keyword_that_is_a_parameter_is_an_input_and_any_other_an_option(check, namespace):
    result = check("scaled(w=w, factor=3.0, gradient=lambda w, factor, seed: 6.0 * w, seed=4, name='scaled twice')")
    assert result.ok
    assert (result.seed, result.case) == (0, "scaled twice")
    assert check("flexible(w, a=1.0, gradient=lambda x, **others: 2 * x, seed=4)").seed == 4
    assert check("scaled(w, kwargs={'factor': 3.0}, gradient=lambda w, factor: 6.0 * w)").ok


def test_a_name_alone_is_checked_with_its_declared_inputs(namespace):
    assert check_line("square", namespace).ok
    assert check_line("square()", namespace).ok


def test_methods_lambdas_specs_and_starred_arguments_are_understood(check):
    assert check("net.loss(w, gradient=lambda x: 3 * x**2)").case == "Net.loss"
    assert check("(lambda x: np.sum(np.sin(x)))(w, gradient=lambda x: np.cos(x))").ok
    assert check("loss(*[w, X], **{'y': y}, gradient=loss_gradient, wrt='w')").ok
    assert check("loss(normal(3), normal(5, 3), normal(5), gradient=loss_gradient, wrt='w');").ok


def test_a_name_of_the_user_goes_before_a_spec(namespace):
    call = read_call("loss(normal)", {**namespace, "normal": 3})
    assert call.args == (3,)


@pytest.mark.parametrize(
    ("line", "inner"),
    [
        ("loss(make(w), X, y)", "make(w)"),
        ("np.sum(make(w))", "make(w)"),
        ("loss(np.tanh(w), X, y, gradient=make(w))", ""),
        ("loss(w, X, y=2 * make(x=w) + make(w))", "make(w)"),
        ("loss(w, make(X), make(y))", "make(X), make(y)"),
    ],
)
def test_a_call_among_the_arguments_is_noted_as_it_is_not_checked(namespace, line, inner):
    note = read_call(line, namespace).note
    assert note.partition("; ")[0] == (
        f"arguments are evaluated first, so the derivative of {inner} is not checked" if inner else ""
    )


def test_the_note_says_how_to_check_the_whole(check):
    (note,) = check("scaled(make(w), gradient=lambda w: 4.0 * w)").notes
    assert note.endswith("make it a function: %gradcheck (lambda w: scaled(make(w)))(w)")


# --- wrong uses


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", r"%gradcheck has nothing to check: expected a call, as in %gradcheck f\(x, w=w, gradient=f_gradient\)$"),
        ("loss(w, X, y) + 1", r"expected a call.*; .* function: %gradcheck \(lambda w: loss\(w, X, y\) \+ 1\)\(w\)$"),
        ("x = loss(w, X, y)", r"Python cannot read it \(invalid syntax.*\); expected a call"),
        ("loss(w", r"Python cannot read it \('\(' was never closed\)"),
        ("los(w, X, y)", r"^%gradcheck los\(w, X, y\): name 'los' is not defined; did you mean loss"),
        ("qqqq(w)", r"name 'qqqq' is not defined; run the cell that defines it first$"),
        ("loss(1 / 0)", r"evaluating its arguments raised ZeroDivisionError: division by zero$"),
        ("loss(uniform(5))", r"^uniform: expected uniform\(low, high, \*sizes\)"),
        ("w", r"expected a call.*, got a value of type ndarray$"),
        ("X[0]", r"got a value of type ndarray$"),
        ("make(w).sum()", r"the last call is sum of an array; .* function: %gradcheck \(lambda w: make\(w\)\.sum\(\)\)\(w\)$"),
        (
            "loss(w, X, y, gradien=make)",
            r"^gradien= is neither a parameter of the function \(w, X, y\) .*; did you mean gradient=\?",
        ),
        ("loss(w, X, Y=y)", r"^Y= is neither a parameter of the function \(w, X, y\) nor an option of gradcheck\.check$"),
        ("loss(w, X, y, eps=1e-6)", r"unknown option eps=1e-06: there is no step size to set"),
        ("loss(w, X, y, rtol=3)", r"rtol=3: expected a number between 0 and 1"),
        ("loss(w, X)", r"no input for y"),
        ("loss", r"no input for w, X, y"),
    ],
)
def test_a_wrong_use_is_a_usage_error(namespace, line, words):
    with pytest.raises(UsageError, match=words):
        check_line(line, namespace)


# --- in the shell


def test_the_shell_returns_the_result_and_shows_its_table(shell):
    with capture_output() as captured:
        done = shell.run_cell("%gradcheck loss(w, X, y, gradient=loss_gradient, wrt='w', methods=METHODS)")
    assert isinstance(done.result, CheckResult)
    assert done.result.ok
    assert "loss  numpy, float64, full mode  PASS" in captured.stdout
    assert "comparisons=(" not in captured.stdout


def test_the_table_is_text_in_jupyter_too(namespace, monkeypatch, capsys):
    result = check_line("square", namespace)
    table = str(result)
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    assert str(result) == table
    assert "PASS" in table
    assert capsys.readouterr().out == ""


def test_braces_and_dollars_are_not_expanded_and_locals_are_seen(shell):
    line = "square({'a': z}['a'], gradient=lambda x: 2 * x, methods=METHODS)"
    cell = f"def check():\n    z = w + 1\n    return get_ipython().run_line_magic('gradcheck', {line!r})\nresult = check()"
    with capture_output():
        assert shell.run_cell(cell).success
    assert shell.user_ns["result"].case == "square"


def test_a_wrong_use_shows_no_traceback(shell):
    with capture_output() as captured:
        assert not shell.run_cell("%gradcheck los(w)").success
    shown = captured.stdout + captured.stderr
    assert "UsageError: %gradcheck los(w): name 'los' is not defined; did you mean loss?" in shown
    assert "Traceback" not in shown


def test_a_cell_of_the_session_has_the_name_that_ipython_shows(shell):
    with capture_output():
        shell.run_cell("import gradcheck\ndef broken(x):\n    return np.sum(x) / missing_name", store_history=True)
        number = shell.execution_count - 1
        shell.run_cell("result = %gradcheck broken(w)")
    assert (
        f'File "Cell In[{number}]", line 3, in broken\n    return np.sum(x) / missing_name' in shell.user_ns["result"].traceback
    )


def test_what_the_user_has_is_as_before(shell):
    before = {name for name in shell.user_ns if not name.startswith("_")}  # IPython numbers its outputs, as in _1
    with capture_output():
        shell.run_cell("%gradcheck square(w, gradient=lambda x: 2 * x, methods=METHODS);")
    assert {name for name in shell.user_ns if not name.startswith("_")} == before
    assert np.array_equal(shell.user_ns["w"], np.arange(3.0))


def test_the_extension_is_no_public_name():
    assert "load_ipython_extension" not in gradcheck.__all__
