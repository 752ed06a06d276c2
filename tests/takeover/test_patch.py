import functools
import inspect
import types

import pytest

from gradcheck.takeover.patch import Patch, find_function


def add(a, b=2, *, c=3):
    return a + b + c


def make_counter():
    step, count = 2, []

    def advance(n=1):
        count.append(n)
        return step * len(count)

    return advance


class Base:
    def double(self, x):
        return 2 * x


class Derived(Base):
    def double(self, x):
        return super().double(x) + 1


@pytest.fixture
def calls():
    """The arguments of the calls that were received; each is answered by the original."""
    return []


@pytest.fixture
def patch(calls):
    def receive(original, args, kwargs):
        calls.append((args, kwargs))
        return original(*args, **kwargs)

    patches = []

    def make(function):
        patches.append(Patch(function, receive))
        return patches[-1]

    yield make
    for made in reversed(patches):
        made.undo()


def test_every_reference_runs_the_replacement(patch, calls):
    class Suite:
        method = add
        checker = staticmethod(add)

    class SubSuite(Suite):
        pass

    def helper(x, checker=add):
        return checker(x)

    bound, table, alias = functools.partial(add, b=5), {"add": add}, add
    patch(add)
    assert [alias(1), helper(1), bound(1), table["add"](1), SubSuite.checker(1), SubSuite().checker(1)] == [6, 6, 9, 6, 6, 6]
    assert len(calls) == 6
    assert calls[2] == ((1,), {"b": 5})


def test_the_function_looks_as_before(patch):
    before = inspect.signature(add), inspect.getsource(add), inspect.getfullargspec(add)
    patch(add)
    assert (inspect.signature(add), inspect.getsource(add), inspect.getfullargspec(add)) == before
    assert (add.__name__, add.__module__, add.__defaults__) == ("add", __name__, (2,))


def test_wrong_arguments_are_refused_in_the_words_of_the_original(patch):
    patch(add)
    with pytest.raises(TypeError, match=r"^add\(\) got an unexpected keyword argument 'd'"):
        add(1, d=2)


def test_a_function_with_a_closure_keeps_its_state(patch, calls):
    advance = make_counter()
    assert advance() == 2
    patched = patch(advance)
    assert [advance(), advance(n=3)] == [4, 6]
    assert calls == [((), {}), ((), {"n": 3})]
    assert inspect.getclosurevars(advance).nonlocals == inspect.getclosurevars(patched.original).nonlocals


def test_a_method_that_calls_super(patch, calls):
    patch(Derived.double)
    assert Derived().double(3) == 7
    assert len(calls) == 1


def test_free_variables_may_have_the_names_of_the_replacement(patch, calls):
    args, kwargs = (1,), {"b": 2}

    def call():
        return add(*args, **kwargs)

    patch(call)
    assert call() == 6
    assert len(calls) == 1


def test_defaults_that_change_later_count(patch, monkeypatch):
    patch(add)
    monkeypatch.setitem(add.__kwdefaults__, "c", 10)
    assert add(1) == 13


def test_undo_leaves_no_trace():
    code, attributes = add.__code__, dict(add.__dict__)
    patched = Patch(add, lambda *_: "replaced")
    assert add(1) == "replaced"
    patched.undo()
    assert add.__code__ is code
    assert add.__dict__ == attributes
    assert add(1) == 6


def test_patches_on_top_of_each_other_are_undone_one_by_one():
    inner = Patch(add, lambda original, args, _: original(*args) + 100)
    outer = Patch(add, lambda original, args, _: original(*args) + 1000)
    assert add(1) == 1106
    outer.undo()
    assert add(1) == 106
    inner.undo()


# --- which function a name stands for


def wrap(function):
    @functools.wraps(function)
    def wrapper(*args):
        return function(*args)

    return wrapper


def wrap_plainly(function):
    def wrapper(*args):
        return function(*args)

    return wrapper


@pytest.mark.parametrize(
    "decorate",
    [
        lambda f: f,
        wrap,
        wrap_plainly,
        lambda f: wrap_plainly(wrap(f)),
        functools.partial,
        staticmethod,
        lambda f: types.MethodType(f, 1),
        functools.cache,
    ],
)
def test_the_innermost_function_is_found(decorate):
    assert find_function(decorate(add), "add", __name__) is add


def test_a_function_that_is_none_of_pythons_is_not_found():
    assert find_function(len, "len", "builtins") is None
    assert find_function(None, "add", __name__) is None


def test_a_closure_over_other_functions_is_the_function_itself():
    def check(x, helper=add):
        return wrapped(x) + helper(x)

    wrapped = wrap(add)
    assert find_function(check, "check", __name__) is check
