"""What an intercepted call returns, records and leaves behind."""

import contextlib
import logging
import math
import multiprocessing
import random
import signal
import sys
import threading
import warnings
from dataclasses import replace

import incumbent
import incumbent_adapter
import numpy as np
import pytest
import torch

from gradcheck.compat.answer import CheckCall, Translation
from gradcheck.compat.checker import Checker
from gradcheck.errors import UsageError
from gradcheck.glossary.verdicts import Verdict
from gradcheck.takeover.call_place import read_current_test
from gradcheck.takeover.records import NOT_SAMPLED, Category, Outcome
from gradcheck.takeover.session import Takeover

X = np.array([0.5, -1.0, 2.0])


def cube(x):
    return np.sum(x**3)


def right(x):
    return 3 * x**2


def wrong(x):
    return 3 * x**2 * np.array([1, 1, 1.0005])


def make_checker(function, **fields):
    """A checker that is a function of a test, `function(fn, x)`, in this module."""

    def translate(arguments):
        fn, x = arguments[0]
        return Translation((CheckCall(fn, (x,)),))

    name = function.__name__
    return Checker(name, __name__, name, **{"translate": translate, "conclude": None, "has_passed": bool, **fields})


@pytest.fixture
def define(monkeypatch):
    """Make a function of a test a checker of this module."""

    def make(function, **fields):
        function.__module__ = __name__
        monkeypatch.setattr(sys.modules[__name__], function.__name__, function, raising=False)
        return make_checker(function, **fields)

    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__) or type(sys)(__name__))
    return make


# --- how the two compare


def test_both_pass(takeover):
    with takeover() as calls:
        assert incumbent.check_derivative(cube, right, X) is True
    (call,) = calls
    assert (call.category, call.theirs, call.verdict, call.reason) == (
        Category.AGREE_PASS,
        Outcome.PASSED,
        Verdict.PASS,
        "agrees",
    )
    assert (call.checker, call.function) == ("incumbent.check_derivative", "cube")
    assert call.theirs_seconds > 0
    assert call.ours_seconds > 0


def test_both_fail_and_the_exception_is_the_checkers_own(takeover):
    with takeover() as calls, pytest.raises(incumbent.CheckError, match="derivative and differences disagree"):
        incumbent.check_derivative(cube, lambda x: x, X)
    assert calls[0].category is Category.AGREE_FAIL
    assert calls[0].theirs_message == "CheckError: derivative and differences disagree"


def test_a_wrong_derivative_that_passed_is_a_finding(takeover):
    with takeover() as calls:
        assert incumbent.check_derivative(cube, wrong, X)
    (call,) = calls
    assert (call.category, call.reason) == (Category.FINDING, "disagrees")
    assert call.summary.startswith("FAIL ∂output / ∂x[2]: analytic 12.006, numeric 12")
    assert call.test_function.endswith("test_interceptor.py::test_a_wrong_derivative_that_passed_is_a_finding")
    assert call.file == __file__
    assert call.source == "assert incumbent.check_derivative(cube, wrong, X)"


def test_errors_within_the_tolerances_of_the_call_agree(takeover):
    with takeover() as calls:
        incumbent.check_derivative(cube, wrong, X, rtol=1e-2)
    (call,) = calls
    assert (call.category, call.reason) == (Category.AGREE_PASS, "tolerated")
    assert call.summary.startswith("FAIL ∂output / ∂x[2]")


@pytest.mark.parametrize(
    ("factor", "in_script", "if_passed", "if_failed"),
    [
        (1.0, Category.AGREE_PASS, Category.AGREE_PASS, Category.AGREE_PASS),  # what fails is something else
        (1 + 3e-6, Category.FINDING, Category.FINDING, Category.FINDING),
        (1.0005, Category.OURS_ALONE, Category.FINDING, Category.AGREE_FAIL),
        (3.0, Category.OURS_ALONE, Category.OURS_ALONE, Category.AGREE_FAIL),  # the test may expect this error
        (math.inf, Category.OURS_ALONE, Category.OURS_ALONE, Category.AGREE_FAIL),
    ],
)
def test_a_number_is_judged_by_its_size_and_then_by_the_test(tmp_path, factor, in_script, if_passed, if_failed):
    for folder, passed, category in (("a", None, in_script), ("b", True, if_passed), ("c", False, if_failed)):
        (tmp_path / folder).mkdir()
        running = Takeover("report", 60.0, folder=tmp_path / folder, checkers=incumbent_adapter.CHECKERS)
        running.start()
        incumbent.norm_of_errors(cube, lambda x: factor * right(x), X)
        running.stop()
        (call,) = running.collect({} if passed is None else {read_current_test(): passed}).calls
        assert call.category is category


def test_a_checker_that_calls_another_one_is_compared_once(takeover):
    with takeover() as calls:
        assert incumbent.check_twice(cube, right, X)
    assert [call.checker for call in calls] == ["incumbent.check_twice"]


def test_a_function_that_calls_a_checker_is_compared_once(takeover):
    def careful(x):
        assert incumbent.check_derivative(cube, right, X)
        return cube(x)

    with takeover() as calls:
        assert incumbent.check_derivative(careful, right, X)
    assert [call.verdict for call in calls] == [Verdict.PASS]


# --- enforce


def test_enforce_concludes_as_gradcheck_does(takeover):
    with takeover("enforce") as calls:
        with pytest.raises(incumbent.CheckError, match="gradcheck: FAIL"):
            incumbent.check_derivative(cube, wrong, X)
        assert incumbent.check_derivative(cube, wrong, X, raises=False) is False
        assert incumbent.check_derivative(lambda x: np.sum(np.abs(x)), np.sign, np.zeros(2)) is True
    assert [call.category for call in calls] == [Category.FINDING, Category.FINDING, Category.AGREE_PASS]


def test_enforce_confirms_what_the_checker_could_not(takeover):
    with takeover("enforce") as calls:
        assert incumbent.check_derivative(cube, right, X, eps=0.5)
    assert calls[0].category is Category.THEIRS_FAILED


@pytest.mark.parametrize("mode", ["report", "enforce"])
def test_what_gradcheck_cannot_take_ends_as_it_would_have(takeover, mode):
    with takeover(mode) as calls:
        assert incumbent.check_derivative(cube, right, np.array([1, 2]))
        with pytest.raises(TypeError, match="x must be an array"):
            incumbent.check_derivative(cube, right, "x")
        with pytest.raises(TypeError, match="unexpected keyword argument 'tol'"):
            incumbent.check_derivative(cube, right, X, tol=1)
    assert [call.category for call in calls] == [Category.NOT_COMPARED] * 3
    assert calls[0].not_compared == "gradcheck does not take this call: InputError: x: expected floating-point numbers"
    assert calls[2].theirs_message.startswith("TypeError: ")
    assert calls[2].not_compared == "the arguments do not fit"


# --- why the checker failed


@pytest.mark.filterwarnings("ignore:x is in single precision")
@pytest.mark.parametrize(
    ("fn", "derivative", "x", "keywords", "cause"),
    [
        (lambda x: np.sum(np.maximum(x, 0)), lambda x: 1.0 * (x > 0), np.array([0.0, 1.0]), {}, "kink"),
        (cube, right, X, {"eps": 0.1}, "tolerance"),
        (cube, right, X, {"eps": 2.0}, "step size"),
        (lambda x: np.sum(x.astype(np.float32) ** 3), right, X.astype(np.float32), {}, "float32"),
    ],
)
def test_the_cause_of_a_failure_of_theirs_alone(takeover, fn, derivative, x, keywords, cause):
    with takeover() as calls, pytest.raises(incumbent.CheckError):
        incumbent.check_derivative(fn, derivative, x, **keywords)
    assert (calls[0].category, calls[0].cause) == (Category.THEIRS_FAILED, cause)


def test_a_demand_of_the_checker_besides_values_is_named(takeover, define):
    def check(fn, x):
        raise AssertionError("Backward is not reentrant, i.e., running it twice gives different values")

    with takeover(checkers=(define(check),)) as calls, pytest.raises(AssertionError):
        check(torch.sin, torch.ones(2, dtype=torch.float64))
    assert calls[0].cause == "nondeterminism"


def test_a_checker_that_returned_false_is_asked_for_its_message(takeover, define):
    def check(fn, x, raise_exception=True):
        if raise_exception:
            raise AssertionError("Backward is not reentrant")
        return False

    def translate(arguments):
        return Translation((CheckCall(arguments[0][0], (arguments[0][1],)),))

    with takeover(checkers=(define(check, translate=translate),)) as calls:
        assert not check(torch.sin, torch.ones(2, dtype=torch.float64), False)
    assert calls[0].cause == "nondeterminism"


@pytest.mark.parametrize("generator", [None, torch.Generator()])
def test_a_function_that_draws_is_named_as_the_cause(takeover, define, generator):
    def check(fn, x):
        return bool(torch.equal(fn(x), fn(x)))

    def draw_and_scale(x):
        return x * torch.rand(2, generator=generator)

    with takeover(checkers=(define(check),)) as calls:
        assert not check(draw_and_scale, torch.ones(2, dtype=torch.float64))
    assert (calls[0].category, calls[0].cause) == (Category.THEIRS_FAILED, "nondeterminism")


def test_without_a_message_the_cause_is_unknown(takeover):
    with takeover() as calls:
        assert not incumbent.check_derivative(cube, right, X, eps=2.0, raises=False)
    assert calls[0].cause == "unknown cause"


# --- what else would pass


def test_a_checker_that_passes_a_gradient_of_zero(takeover):
    def small(x):
        return np.sum(1e-7 * x)

    with takeover() as calls:
        incumbent.check_derivative(small, lambda x: np.full(x.shape, 1e-7), X)
        incumbent.check_derivative(cube, right, X)
        incumbent.check_derivative(lambda x: 3.0, np.zeros_like, X)  # zero is right
        incumbent.check_derivative(lambda x: np.sum(np.abs(x)), np.sign, np.zeros(2))  # what is claimed is zero
        incumbent.norm_of_errors(cube, right, X)  # has no such call
    assert [call.passes_zero_gradient for call in calls] == [True, False, None, None, None]


def test_an_error_that_does_not_grow_with_a_gradient_of_zero_passes_whatever_passed(takeover):
    def with_zero(arguments):
        (fn, derivative, x), _ = arguments
        return (fn, lambda x: 0 * derivative(x), x), {}

    checker = replace(incumbent_adapter.NORM_OF_ERRORS, with_zero_gradient=with_zero)
    with takeover(checkers=(checker,)) as calls:
        incumbent.norm_of_errors(cube, lambda x: 3 * right(x), X)
        incumbent.norm_of_errors(cube, right, X)
    assert [call.passes_zero_gradient for call in calls] == [True, None]


def test_tolerances_that_are_no_numbers_are_left_out(takeover):
    checker = replace(incumbent_adapter.CHECK_DERIVATIVE, read_tolerances=lambda _: {"rtol": {np.float32: 1e-3}})
    with takeover(checkers=(checker,)) as calls:
        incumbent.check_derivative(cube, right, X)
    assert (calls[0].category, calls[0].tolerances) == (Category.AGREE_PASS, {})


def test_further_runs_work_for_no_message(takeover):
    entered = []

    @contextlib.contextmanager
    def without_message():
        entered.append(True)
        yield

    checker = replace(incumbent_adapter.CHECK_DERIVATIVE, without_message=without_message)
    with takeover(checkers=(checker,)):
        incumbent.check_derivative(cube, right, X, atol=1e-2)
    assert len(entered) > 2  # a gradient of zero, and some tolerances


def test_tolerances_that_are_looser_than_needed(takeover):
    with takeover() as calls:
        incumbent.check_derivative(cube, right, X, atol=1e-2, rtol=1e-2)
        incumbent.check_derivative(cube, right, X, atol=1e-10, rtol=1e-9)
        incumbent.check_derivative(cube, right, X)  # the tolerances are the defaults
    assert [call.looseness for call in calls[:2]] == [1e8, 1.0]
    assert math.isnan(calls[2].looseness)
    assert calls[0].tolerances == {"atol": 1e-2, "rtol": 1e-2}


def test_later_calls_at_a_place_lower_what_the_first_found(takeover):
    with takeover() as calls:
        for eps in (1e-6, 1e-6, 1e-3, 1e-6):
            incumbent.check_derivative(cube, right, X, atol=1e-2, rtol=1e-2, eps=eps)
    assert [call.looseness for call in calls] == [1e8, 1e8, 1e4, 1e4]


# --- the suite is as it was


def draw():
    return random.random(), np.random.rand(), torch.rand(1).item()


def test_random_states_are_those_that_the_checker_leaves(takeover):
    def noisy(x):
        draw()
        return cube(x)

    def run():
        random.seed(0), np.random.seed(0), torch.manual_seed(0)
        incumbent.check_derivative(noisy, right, X)
        return draw()

    before = run()
    with takeover() as calls:
        assert run() == before
    assert calls[0].category is Category.AGREE_PASS


def test_a_generator_in_the_arguments_is_restored(takeover):
    generator = np.random.default_rng(0)

    def noisy(x, generator=generator):
        generator.normal()
        return cube(x)

    incumbent.check_derivative(noisy, right, X)
    state = generator.bit_generator.state
    generator.bit_generator.state = np.random.default_rng(0).bit_generator.state
    with takeover():
        incumbent.check_derivative(noisy, right, X)
    assert generator.bit_generator.state == state


def test_warnings_are_those_of_the_checker(takeover):
    def loud(x):
        warnings.warn("loud", RuntimeWarning, stacklevel=1)
        return cube(x)

    def run():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            incumbent.check_derivative(loud, right, X)
            assert warnings.filters[0][0] == "always"
        return len(caught)

    alone = run()
    with takeover():
        assert run() == alone


def test_what_the_function_prints_and_logs_is_that_of_the_checker(takeover, capsys, caplog):
    def loud(x):
        sys.stdout.write("out")
        sys.stderr.write("err")
        logging.getLogger("suite").warning("logged")
        return cube(x)

    def run():
        caplog.clear()
        incumbent.check_derivative(loud, right, X)
        return (*capsys.readouterr(), len(caplog.records))

    alone = run()
    with takeover():
        assert run() == alone
    assert logging.root.manager.disable == logging.NOTSET


def test_log_records_of_other_threads_are_kept(takeover, caplog):
    logger, evaluations = logging.getLogger("suite"), []

    def loud(x):
        evaluations.append(x)
        thread = threading.Thread(target=logger.warning, args=("of another thread",))
        thread.start()
        thread.join()
        return cube(x)

    with takeover():
        incumbent.check_derivative(loud, right, X)
    assert len(caplog.records) == len(evaluations) > 6


def test_gradients_and_modes_of_torch_are_restored(takeover, define):
    x = torch.ones(2, dtype=torch.float64, requires_grad=True)
    x.grad = torch.full_like(x, 7.0)
    gradient = x.grad

    def reckless(y):
        torch.set_default_dtype(torch.float64)
        x.sum().backward()
        return y.sin().sum()

    def check(fn, inputs):
        return True

    with takeover(checkers=(define(check),)) as calls:
        assert check(reckless, x)
    assert calls[0].verdict is not None
    assert x.grad is gradient
    assert x.grad.tolist() == [7.0, 7.0]
    assert torch.get_default_dtype() is torch.float32
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("wrap", [lambda m: m, lambda m: m.forward, lambda m: lambda x: m(x)])
def test_modules_and_the_gradients_of_their_parameters_are_restored(takeover, define, wrap):
    norm = torch.nn.BatchNorm1d(3).double()
    norm.register_forward_hook(lambda *_: norm.weight.sum().backward())
    x = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(4, 3).requires_grad_()

    def check(fn, inputs):
        fn(inputs)
        return True

    with takeover(checkers=(define(check),)) as calls:
        check(wrap(norm), x)
    assert calls[0].verdict is not None
    assert norm.num_batches_tracked == 1
    torch.testing.assert_close(norm.running_mean, 0.1 * x.detach().mean(0))
    grad = norm.weight.grad
    assert grad is None or grad.tolist() == [1.0] * 3


def test_the_context_of_an_exception_stays(takeover):
    def check_while_handling():
        try:
            raise KeyError("before")
        except KeyError:
            incumbent.check_derivative(cube, np.zeros_like, X)

    with takeover(), pytest.raises(incumbent.CheckError) as caught:
        check_while_handling()
    assert isinstance(caught.value.__context__, KeyError)


# --- bad input


def test_a_function_that_cannot_be_called_twice(takeover, define):
    def once():
        state = iter([1])

        def fn(x):
            next(state)
            return x.sin().sum()

        return fn

    def check(fn, x):
        fn(x)
        return True

    with takeover(checkers=(define(check),)) as calls:
        assert check(once(), torch.ones(2, dtype=torch.float64, requires_grad=True))
    assert calls[0].category is Category.NOT_COMPARED
    assert "StopIteration" in calls[0].not_compared


def test_a_call_beyond_the_budget_is_counted(takeover):
    def slow(x):
        threading.Event().wait(0.02)
        return cube(x)

    with takeover(budget=1e-3) as calls:
        assert incumbent.check_derivative(slow, right, X)
    assert (calls[0].category, calls[0].not_compared) == (Category.NOT_COMPARED, "over the budget")


def test_inputs_without_gradients_are_counted(takeover, define):
    def check(fn, x):
        raise ValueError("expects at least one input tensor to require gradient")

    def translate(arguments):
        return Translation(())

    with takeover(checkers=(define(check, translate=translate),)) as calls, pytest.raises(ValueError, match="expects at least"):
        check(torch.sin, torch.ones(2))
    assert calls[0].not_compared == "there is nothing to check: no input requires a gradient"


@pytest.mark.parametrize("error", [RuntimeError, SystemExit, UsageError])
def test_an_exception_on_our_side_is_counted(takeover, define, error):
    def check(fn, x):
        return "theirs"

    def translate(arguments):
        raise error("on our side")

    with takeover(checkers=(define(check, translate=translate),)) as calls:
        assert check(torch.sin, torch.ones(2)) == "theirs"
    assert "on our side" in calls[0].not_compared


@pytest.mark.parametrize("error", [KeyboardInterrupt, pytest.skip.Exception, SystemExit])
def test_what_ends_the_checker_ends_the_call_and_is_counted(takeover, error):
    def ending(x):
        raise error("enough")

    with takeover() as calls, pytest.raises(error):
        incumbent.check_derivative(ending, right, X)
    assert calls[0].not_compared == f"the call was ended by {error.__name__}: enough"


def test_an_interrupt_inside_our_check_ends_the_call_and_is_counted(takeover, define):
    def check(fn, x):
        return True

    def translate(arguments):
        raise KeyboardInterrupt

    with takeover(checkers=(define(check, translate=translate),)) as calls, pytest.raises(KeyboardInterrupt):
        check(torch.sin, torch.ones(2))
    assert calls[0].not_compared == "KeyboardInterrupt"


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="the system has no alarms")
def test_a_time_limit_that_ends_during_our_check_ends_the_call(takeover):
    def handle(*_):
        pytest.fail("Timeout")

    evaluations = []

    def slow(x):
        evaluations.append(x)
        if len(evaluations) == 10:  # those of the checker are 6
            signal.raise_signal(signal.SIGALRM)
        return cube(x)

    before = signal.signal(signal.SIGALRM, handle)
    try:
        with takeover() as calls, pytest.raises(pytest.fail.Exception, match="Timeout"):
            incumbent.check_derivative(slow, right, X)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert "Timeout" in calls[0].not_compared
    assert calls[0].theirs is Outcome.PASSED


def test_a_suite_that_replaces_the_checker_by_its_own_is_left_alone(takeover, monkeypatch):
    original = incumbent.check_derivative
    monkeypatch.setattr(incumbent, "check_derivative", lambda *args: original(*args) and "wrapped")
    with takeover() as calls:
        assert incumbent.check_derivative(cube, right, X) == "wrapped"
        monkeypatch.setattr(incumbent, "check_derivative", lambda *args: "mocked")
        assert incumbent.check_derivative(cube, right, X) == "mocked"
    assert len(calls) <= 1


def test_calls_in_threads_are_compared(takeover):
    threads = [threading.Thread(target=incumbent.check_derivative, args=(cube, right, X)) for _ in range(3)]
    with takeover() as calls:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [call.category for call in calls] == [Category.AGREE_PASS] * 3


def test_a_thread_that_our_check_waits_for_is_counted(takeover):
    evaluations = []

    def threaded(x):
        evaluations.append(threading.Thread(target=incumbent.check_derivative, args=(cube, right, X)))
        if len(evaluations) == 2:  # the first is that of the checker itself
            evaluations[1].start()
            evaluations[1].join()
        return right(x)

    with takeover(budget=0.05) as calls:
        incumbent.check_derivative(cube, threaded, X)
    assert "another thread was being compared" in [call.not_compared for call in calls]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_calls_of_a_forked_child_are_recorded(takeover):
    with takeover() as calls:
        assert incumbent.check_derivative(cube, right, X)
        child = multiprocessing.get_context("fork").Process(target=incumbent.check_derivative, args=(cube, wrong, X))
        child.start()
        child.join()
    assert sorted(call.category.value for call in calls) == ["agree-pass", "finding"]


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
def test_scripted_functions_are_left_alone(takeover, define):
    def check(fn, x):
        return bool(torch.isfinite(fn(x)).all())

    with takeover(checkers=(define(check),)) as calls:
        scripted = torch.jit.script(torch.nn.Softplus())
        assert check(scripted, torch.ones(2, dtype=torch.float64, requires_grad=True))
    assert calls[0].category is Category.AGREE_PASS


# --- predict


def test_predict_compares_the_first_calls_and_each_tenth(takeover):
    with takeover("predict") as calls:
        for _ in range(32):
            incumbent.check_derivative(cube, right, X)
    compared = [number for number, call in enumerate(calls, 1) if call.not_compared != NOT_SAMPLED]
    assert compared == [*range(1, 21), 30]
    assert {call.theirs for call in calls} == {Outcome.PASSED}
