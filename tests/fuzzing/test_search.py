"""The search finds what is wrong for rare inputs only, shrinks it, and finds nothing in the right layers."""

import functools
import json
import math
import signal

import numpy as np
import pytest
import torch
from hypothesis import settings
from hypothesis.database import InMemoryExampleDatabase
from rare import RARE, SCALED, Largest, Scaled, TiesTwice

import gradcheck
from gradcheck import CheckResult, GradientError, Reason, Verdict, normal
from gradcheck.errors import UsageError
from gradcheck.results import RunResult
from gradcheck.targets.specs.parse import parse_spec

SEEDS = {  # at which it takes few examples
    "a batch without a row": 8,
    "a batch of one row": 11,
    "ties": 5,
    "negative zero": 4,
    "cotangents that are not contiguous": 10,
    "one subset of requires_grad": 8,
    "above 1e4": 9,
}


@pytest.fixture(autouse=True)
def database():
    """Nothing is kept on disk."""
    kept = InMemoryExampleDatabase()
    settings.register_profile("kept", database=kept)
    settings.load_profile("kept")
    yield kept
    settings.load_profile("default")


@functools.cache
def find_ties():
    return gradcheck.fuzz(TiesTwice, normal("batch", 3), seed=5)


def entries(result):
    specs = [parse_spec(text) for name, text in result.search.inputs if name != "wrt"]
    return sum(math.prod(spec.shape) for spec in specs if hasattr(spec, "shape"))


@pytest.mark.parametrize("name", RARE)
def test_what_is_wrong_for_rare_inputs_only_is_found_and_shrunk(name):
    wrong, _, inputs = RARE[name]
    result = gradcheck.fuzz(wrong, *inputs, seed=SEEDS[name], examples=60)
    assert result.verdict is Verdict.FAIL
    assert entries(result) <= 4
    assert result.search.before <= result.search.examples


@pytest.mark.parametrize(("right", "inputs"), dict.fromkeys((right, inputs) for _, right, inputs in RARE.values()))
def test_nothing_is_found_in_the_right_layers(right, inputs):
    result = gradcheck.fuzz(right, *inputs, seed=1, examples=25)
    assert (result.verdict, result.search.failed, result.example) == (Verdict.PASS, 0, "")
    assert result.search.passed


def test_the_printed_test_fails_and_passes_once_the_layer_is_fixed():
    shown = find_ties().example
    assert "from rare import TiesTwice" in shown
    assert '@example(x=array([[1.0, 1.0]], dtype="float64"))' in shown
    few = shown.replace("deadline=None", "deadline=None, max_examples=5, database=None")
    wrong, right = {}, {}
    exec(few, wrong)
    with pytest.raises(GradientError, match="FAIL"):
        wrong["test_ties_twice"]()
    exec(few.replace("import TiesTwice", "import Largest as TiesTwice"), right)
    right["test_ties_twice"]()


def test_the_printed_test_decides_exactly_if_the_search_did():
    options = {"gradient": lambda x: 3 * x + 1, "framework": "numpy", "examples": 3}
    plain, exact = (gradcheck.fuzz(lambda x: (x**2).sum(), normal(2), **options, exact=exact).example for exact in (None, True))
    assert "exact" not in plain.partition("assert_gradients")[2]
    assert "exact=True" in exact.partition("assert_gradients")[2]


def test_a_failure_is_kept_and_tried_first():
    first = gradcheck.fuzz(TiesTwice, normal("batch", 3), seed=5)
    assert first.search.before > 1
    again = gradcheck.fuzz(TiesTwice, normal("batch", 3), seed=8, examples=3)
    assert again.search.before == 1
    assert gradcheck.fuzz(Largest, normal("batch", 3), seed=8, examples=3).search.failed == 0


def picky(x):
    if x.shape[0] == 0:
        raise ValueError("a batch needs a row")
    if torch.any(x < 0):
        raise ValueError("negative")
    return torch.sum(x * x)


def test_rejected_inputs_are_no_failures_and_are_described_by_regions():
    result = gradcheck.fuzz(picky, normal("batch", 3), examples=60)
    assert result.verdict is Verdict.PASS
    regions = result.search.regions
    assert any(
        t.startswith("every input with a batch of 0 (") and t.endswith("ValueError: a batch needs a row") for t in regions
    )
    assert any(t.startswith("every input with a negative number in x (") for t in regions)
    assert result.search.rejected == sum(int(t.partition("(")[2].partition(" of ")[0]) for t in regions)


def test_a_function_that_takes_no_input_is_an_error_that_says_so():
    def never(x):
        raise ValueError("not today")

    result = gradcheck.fuzz(never, normal("n"), examples=20, framework="numpy")
    assert (result.verdict, result.reason) == (Verdict.ERROR, Reason.TARGET_RAISED)
    assert "takes none of" in result.message
    assert "not today" in result.message


def test_a_backward_that_raises_where_the_forward_runs_is_a_failure():
    class Raises(Scaled):
        @staticmethod
        def backward(ctx, g):
            if g.shape[0] == 1:
                raise IndexError("one row")
            return Scaled.backward(ctx, g)

    result = gradcheck.fuzz(Raises, *SCALED, seed=9)
    assert (result.verdict, result.reason) == (Verdict.FAIL, Reason.DERIVATIVE_RAISED)
    assert dict(result.search.inputs)["x"].startswith(("zeros(1, ", "array([[1.0]]"))
    assert "target = ...  # cannot be imported: define it here" in result.example


def test_sizes_given_as_numbers_vary_where_the_function_takes_others():
    layer = torch.nn.Linear(3, 2, dtype=torch.float64)
    result = gradcheck.fuzz(layer, normal(4, 3), examples=15)
    assert (result.verdict, result.search.rejected) == (Verdict.PASS, 0)


def test_sizes_that_a_gradient_was_written_for_stay():
    def valley(x):
        return (x[1] - x[0] ** 2) ** 2

    def gradient(x):
        return np.array([-4 * x[0], 2.0]) * (x[1] - x[0] ** 2)

    result = gradcheck.fuzz(valley, normal(2), gradient=gradient, framework="numpy", examples=15)
    assert (result.verdict, result.search.rejected) == (Verdict.PASS, 0)


def test_hand_written_gradients_of_numpy_code_are_searched_too():
    def loss(x, scale):
        return np.sum(np.abs(x)) * scale

    def gradient(x, scale):
        return np.where(x > 1e4, 0.0, np.sign(x)) * scale

    result = gradcheck.fuzz(loss, normal("n"), 2.0, gradient=gradient, wrt="x", seed=2)
    assert result.verdict is Verdict.FAIL
    assert entries(result) == 1
    assert result.search.inputs[1] == ("scale", "2.0")
    assert "gradient=gradient, wrt=" in result.example.replace("\n    ", " ")


def test_trees_of_inputs_are_drawn_and_written_down():
    def loss(params, x):
        return torch.sum(torch.where(x == 0, x.detach(), x) * params["w"])

    result = gradcheck.fuzz(loss, {"w": normal("n")}, normal("n"), seed=3)
    assert result.verdict is Verdict.FAIL
    assert dict(result.search.inputs)["params"].startswith("{'w': array([")


def test_a_fixed_tensor_is_written_with_the_framework_inferred_from_it():
    shown = gradcheck.fuzz(lambda x, w: TiesTwice.apply(x * w), normal("batch", 3), torch.ones(3), seed=5).example
    assert '        array([1.0, 1.0, 1.0], dtype="float32"),\n        framework="torch",\n' in shown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"examples": 0}, "at least 1"),
        ({"budget": -1}, "number of seconds"),
        ({"exmples": 3}, "unknown option exmples=3"),
        ({"dims": {"nobody": 3}}, "no input has a size of that name"),
    ],
)
def test_a_search_that_is_impossible_is_refused(arguments, said):
    with pytest.raises(UsageError, match=said):
        gradcheck.fuzz(picky, normal("batch", 3), **arguments)


def test_inputs_that_are_given_as_they_are_leave_nothing_to_search():
    with pytest.raises(UsageError, match="nothing to search"):
        gradcheck.fuzz(picky, torch.ones(2, 3))


def test_an_interrupt_ends_the_search_with_what_was_found():
    calls = []

    def tired(x):
        calls.append(1)
        if len(calls) > 300:
            signal.raise_signal(signal.SIGINT)
        return torch.sum(x * x)

    result = gradcheck.fuzz(tired, normal("n", 3), examples=200, budget=3600)  # however slow the machine is
    assert (result.verdict, result.search.stopped) == (Verdict.PASS, "interrupted")


def test_a_budget_that_is_spent_ends_it():
    result = gradcheck.fuzz(picky, normal("batch", 3), budget=1e-9)
    assert (result.verdict, result.search.stopped) == (Verdict.INCONCLUSIVE, "budget")
    assert "no input was tried" in result.message


def test_the_same_seed_finds_the_same_and_nothing_global_is_changed():
    before = np.random.get_state(legacy=False), torch.get_rng_state(), torch.get_default_dtype()
    first, again = (gradcheck.fuzz(picky, normal("batch", 3), examples=10, seed=5) for _ in range(2))
    assert first.search == again.search
    assert str(before[0]) == str(np.random.get_state(legacy=False))
    assert torch.equal(before[1], torch.get_rng_state())
    assert before[2] == torch.get_default_dtype()


def test_a_search_is_written_to_json_and_read_back():
    result = find_ties()
    run = RunResult("0", {}, 0, {}, (result,))
    read = RunResult.from_dict(json.loads(run.to_json()))
    assert isinstance(read.results[0], CheckResult)
    assert (read.results[0].search, read.results[0].example) == (result.search, result.example)
