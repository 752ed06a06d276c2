import shlex

import pytest

from gradcheck.errors import InputError, SpecError, UsageError
from gradcheck.options import Options
from gradcheck.run.parse_quantities import parse_bytes, parse_seconds, parse_sizes
from gradcheck.run.plan import Request, build_replay_command, plan
from gradcheck.targets.specs.spec import normal

SOURCE = """
import numpy as np
from gradcheck import case, normal

@case(x=normal(3), gradient=lambda x: 2 * x)
def square(x):
    return np.sum(x**2)

@case(x=normal(2), name="small")
@case(x=normal(9), name="large")
def cube(x):
    return np.sum(x**3)

def plain(x, y=None):
    return np.sum(x)

def factory():
    return plain
"""


@pytest.fixture
def mod(tmp_path):
    path = tmp_path / "plan_target.py"
    path.write_text(SOURCE)
    return str(path)


def names(*targets, **kwargs):
    return [c.name.rpartition(":")[2] for c in plan(Request(targets=targets, **kwargs))]


def test_a_module_gives_the_cases_it_declares(mod):
    assert names(mod) == ["square", "cube[large]", "cube[small]"]


def test_a_name_gives_its_declared_cases_or_itself(mod):
    assert names(f"{mod}:cube") == ["cube[large]", "cube[small]"]
    assert names(f"{mod}:plain", inputs=["normal(3)"]) == ["plain"]


@pytest.mark.parametrize(
    ("keyword", "left"),
    [
        ("cube", ["cube[large]", "cube[small]"]),
        ("cube and not small", ["cube[large]"]),
        ("square or (cube and small)", ["square", "cube[small]"]),
        ("nothing", []),
    ],
)
def test_a_keyword_selects(mod, keyword, left):
    assert names(mod, keyword=keyword) == left


@pytest.mark.parametrize("keyword", ["and", "cube and", "not", "(cube"])
def test_a_keyword_that_cannot_be_read_is_an_error(mod, keyword):
    with pytest.raises(UsageError, match="-k"):
        names(mod, keyword=keyword)


def test_inputs_given_now_replace_declared_ones(mod):
    by_place, by_name = (plan(Request([f"{mod}:square"], inputs=[text]))[0] for text in ("normal(7)", "x=normal(7)"))
    assert (by_place.args, by_name.kwargs) == ((normal(7),), {"x": normal(7)})
    assert by_place.declared_kwargs == by_name.declared_kwargs == {"x": normal(3)}


def test_a_function_that_takes_nothing_although_inputs_are_given_is_a_factory(mod):
    assert plan(Request([f"{mod}:factory"], inputs=["normal(3)"]))[0].init == {}
    assert plan(Request([f"{mod}:plain"], inputs=["normal(3)"]))[0].init is None


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"inputs": ["nrmal(3)"]}, SpecError, "did you mean normal"),
        ({"inputs": ["x=normal(3)", "x=normal(4)"]}, InputError, "given twice"),
        ({"init": ["3"]}, UsageError, "expected name=value"),
        ({"framework": "tf"}, UsageError, "numpy, torch"),
        ({"claims": [("gradient", "numpy")]}, UsageError, "expected module:name"),
        ({"claims": [("gradient", "numpy:pi")]}, UsageError, "is a float"),
    ],
)
def test_a_request_that_cannot_be_understood_is_an_error(mod, kwargs, error, message):
    with pytest.raises(error, match=message):
        plan(Request([f"{mod}:plain"], **kwargs))


def test_inputs_for_a_whole_module_are_an_error(mod):
    with pytest.raises(UsageError, match="need a single target"):
        plan(Request([mod], inputs=["normal(3)"]))


def test_no_target_is_an_error_that_shows_one():
    with pytest.raises(UsageError, match="as in gradcheck run"):
        plan(Request([]))


@pytest.mark.parametrize(("text", "value"), [("30", 30), ("30s", 30), ("5min", 300), ("1.5h", 5400), ("200ms", 0.2)])
def test_durations_are_read(text, value):
    assert parse_seconds(text) == pytest.approx(value)


@pytest.mark.parametrize(("text", "value"), [("1000", 1000), ("500MB", 5e8), ("4GiB", 2**32), ("2 KiB", 2048)])
def test_amounts_of_memory_are_read(text, value):
    assert parse_bytes(text) == value


@pytest.mark.parametrize("text", ["", "s", "-3s", "0", "5 parsecs", "nan", "inf"])
def test_an_invalid_quantity_is_an_error(text):
    for read in (parse_seconds, parse_bytes):
        with pytest.raises(UsageError, match="expected a"):
            read(text)


def test_sizes_of_names_are_read():
    assert parse_sizes(["batch=1..4", "n=3"]) == {"batch": (1, 4), "n": (3, 3)}
    for text in ("batch", "batch=x", "=3", "batch=1..", "1=2"):
        with pytest.raises(UsageError, match="--dim"):
            parse_sizes([text])


def test_the_replay_command_names_the_case_and_the_seed(mod):
    small = plan(Request([f"{mod}:cube"]))[1]
    command = build_replay_command(Options(seed=5), ["--input", "normal(4, 3)"])(small)
    assert command == f"gradcheck run {mod}:cube --input 'normal(4, 3)' -k '[small]' --seed 5"


@pytest.mark.parametrize("name", ["two words", "(a)", "a (b, c)", "x[1]", "not", "a or b", "<script>%0A"])
def test_the_replay_command_finds_a_case_by_any_name(tmp_path, name):
    path = tmp_path / "plan_named.py"
    path.write_text(SOURCE.replace('"small"', repr(name)))
    case = next(case for case in plan(Request([f"{path}:cube"])) if case.name.endswith(f"[{name}]"))
    words = shlex.split(build_replay_command(Options(), [])(case))
    keyword = words[words.index("-k") + 1]
    assert names(f"{path}:cube", keyword=keyword) == [f"cube[{name}]"]
    assert names(f"{path}:cube", keyword=f"not {keyword} and cube") == ["cube[large]"]
