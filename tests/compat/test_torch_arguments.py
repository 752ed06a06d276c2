"""What each argument of PyTorch's checkers means in the drop-ins."""

import inspect
import logging
import subprocess
import sys
from importlib import import_module

import pytest
import torch
from torch.autograd import Function
from torch.testing._internal import common_utils as pytorch_common_utils

from gradcheck.compat import answer, policies, policy
from gradcheck.compat import torch as compat
from gradcheck.compat.torch import common_utils, zero_gradient
from gradcheck.compat.torch.drop_ins import make_call
from gradcheck.compat.torch.translation import translate
from gradcheck.glossary.contracts import CONTRACTS
from gradcheck.glossary.verdicts import Verdict

PYTORCH = import_module("torch.autograd.gradcheck")


@pytest.fixture
def x():
    return torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64, requires_grad=True)


def scaled_square(factor, *, with_jvp=False):
    """The square whose backward is wrong by a factor."""

    class ScaledSquare(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            ctx.save_for_forward(x)
            return x * x

        @staticmethod
        def backward(ctx, g):
            return 2 * factor * g * ctx.saved_tensors[0]

        if with_jvp:

            @staticmethod
            def jvp(ctx, t):
                return 2 * factor * t * ctx.saved_tensors[0]

    return ScaledSquare.apply


def square_with(derivative):
    """The square with a backward: (x, cotangent) -> gradient."""

    class Square(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx, g):
            return derivative(*ctx.saved_tensors, g)

    return Square.apply


def call_arguments(*args, checker=compat.gradcheck, **keywords):
    """Every argument of a call by name."""
    bound = inspect.signature(checker).bind(*args, **keywords)
    bound.apply_defaults()
    return bound.arguments


def check_arguments(checker, *args, **keywords):
    """The keywords of `gradcheck.check` for a call."""
    (check,) = translate(make_call(checker, call_arguments(*args, checker=checker, **keywords))).checks
    return check.arguments


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (compat.gradcheck, PYTORCH.gradcheck),
        (compat.gradgradcheck, PYTORCH.gradgradcheck),
        (common_utils.gradcheck, pytorch_common_utils.gradcheck),
        (common_utils.gradgradcheck, pytorch_common_utils.gradgradcheck),
    ],
)
def test_signatures_are_those_of_the_installed_pytorch(ours, theirs):
    signatures = [
        [(p.name, p.kind, p.default) for p in inspect.signature(checker).parameters.values()] for checker in (ours, theirs)
    ]
    assert signatures[0] == signatures[1]


def test_the_exception_is_pytorchs_own():
    assert compat.GradcheckError is PYTORCH.GradcheckError
    with pytest.raises(AttributeError):
        compat.no_such_name  # noqa: B018 - the access itself is under test


def test_pytorch_is_loaded_at_the_first_call():
    code = (
        "import sys, gradcheck.compat.torch as t, gradcheck.compat.torch.common_utils; print(t.CHECKERS[0].name, *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    name, *modules = done.stdout.split()
    assert (name, "torch" in modules) == ("torch.autograd.gradcheck", False)


CONTRADICTIONS = [
    ("gradcheck", {"check_backward_ad": False}),
    ("gradcheck", {"check_forward_ad": True, "check_backward_ad": False, "check_batched_grad": True}),
    ("gradcheck", {"check_batched_forward_grad": True}),
    ("gradgradcheck", {"check_rev_over_rev": False}),
    ("gradgradcheck", {"check_rev_over_rev": False, "check_fwd_over_rev": True}),
    (
        "gradgradcheck",
        {"check_rev_over_rev": False, "check_fwd_over_rev": True, "check_undefined_grad": False, "check_batched_grad": True},
    ),
]


@pytest.mark.parametrize(("name", "keywords"), CONTRADICTIONS)
def test_arguments_that_contradict_each_other_raise_what_pytorch_raises(name, keywords, x):
    with pytest.raises(AssertionError) as theirs:
        getattr(PYTORCH, name)(torch.sin, (x,), **keywords)
    with pytest.raises(AssertionError) as ours:
        getattr(compat, name)(torch.sin, (x,), **keywords)
    assert str(ours.value) == str(theirs.value)


@pytest.mark.parametrize("name", ["gradcheck", "gradgradcheck"])
def test_inputs_without_requires_grad_raise_what_pytorch_raises(name, x):
    constant = x.detach()
    with pytest.raises(ValueError, match="requires_grad") as ours:
        getattr(compat, name)(torch.sin, (constant, 3), raise_exception=False)
    with pytest.raises(ValueError, match="requires_grad") as theirs:
        PYTORCH.gradcheck(torch.sin, (constant, 3), raise_exception=False)
    assert str(ours.value) == str(theirs.value)


@pytest.mark.parametrize("fast_mode", [False, True])
@pytest.mark.parametrize(
    ("factor", "keywords", "passes"),
    [
        (1 + 1e-4, {}, False),
        (1 + 1e-4, {"rtol": 1e-3, "atol": 1e-5}, False),  # PyTorch's defaults, which nobody chose
        (1 + 1e-4, {"rtol": 2e-4}, True),
        (1 + 1e-4, {"rtol": 5e-5}, False),
        (1 + 1e-4, {"atol": 1e-3}, True),
        (1 + 1e-4, {"atol": 1e-4}, False),
        (1 + 1e-4, {"nondet_tol": 1e-3}, True),
        (0, {"atol": 1e9}, False),
        (0, {"rtol": 1.0}, False),
    ],
)
def test_tolerances_that_the_caller_chose_pass_errors_of_their_size(factor, keywords, passes, fast_mode, x):
    assert compat.gradcheck(scaled_square(factor), x, raise_exception=False, fast_mode=fast_mode, **keywords) is passes


def scaled_cube(scale):
    class Cube(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        def backward(ctx, g):
            return 3 * scale * g * ctx.saved_tensors[0] ** 2

    return Cube.apply


def test_second_derivatives_are_checked_where_the_first_is_tolerated(x):
    assert compat.gradgradcheck(scaled_cube(1.0005), x, rtol=1e-2)
    zero = zero_gradient.with_zero_second_derivative(lambda x: scaled_cube(1.0005)(x).sin())
    with pytest.raises(compat.GradcheckError, match="Jacobian mismatch for output 0 with respect to input 0"):
        compat.gradgradcheck(zero, x, rtol=1e-2)
    translation = translate(make_call(compat.gradgradcheck, call_arguments(zero, x, checker=compat.gradgradcheck, rtol=1e-2)))
    assert answer.ask(translation).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_function_that_returns_no_number_fails(value, x):
    for checker in (PYTORCH.gradcheck, compat.gradcheck):
        with pytest.raises(compat.GradcheckError, match="Jacobian mismatch for output 0 with respect to input 0"):
            checker(lambda x: x * value, x)


@pytest.mark.parametrize(("keywords", "error"), [
    ({"atol": -1.0}, RuntimeError),
    ({"rtol": -1.0}, RuntimeError),
    ({"rtol": None}, TypeError),
    ({"atol": "a"}, TypeError),
    ({"eps": "a"}, TypeError),
    ({"nondet_tol": None}, TypeError),
])  # fmt: skip
def test_tolerances_that_are_none_raise_what_pytorch_raises(keywords, error, x):
    for module in (PYTORCH, compat):
        with pytest.raises(error):
            module.gradcheck(torch.sin, x, **keywords)


def test_another_number_of_inputs_raises_what_pytorch_raises(x):
    for module in (PYTORCH, compat):
        for fn, inputs in ((lambda a, b: a, (x,)), (lambda a: a, (x, x)), (torch.nn.Tanh(), (x, x))):
            with pytest.raises(TypeError, match="positional argument"):
                module.gradcheck(fn, inputs)


def test_a_backward_that_writes_to_what_it_saved_raises_what_pytorch_raises(x):
    square = square_with(lambda x, g: x.mul_(2) * g)
    for module in (PYTORCH, compat):
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            module.gradcheck(square, x)


def test_cotangents_that_require_no_gradient_are_not_differentiated(x):
    class Product(Function):
        """The gradient of the square, whose derivative by the cotangent is wrong."""

        @staticmethod
        def forward(ctx, x, g):
            ctx.save_for_backward(x, g)
            return 2 * x * g

        @staticmethod
        def backward(ctx, h):
            x, g = ctx.saved_tensors
            return 2 * h * g, 3 * h * x

    square = square_with(lambda x, g: Product.apply(x, g))
    for module in (PYTORCH, compat):
        assert module.gradgradcheck(square, x, torch.ones(3, dtype=torch.float64))
        assert not module.gradgradcheck(square, x, raise_exception=False)


def test_common_utils_follows_the_slow_mode_of_pytorchs_tests(monkeypatch, x):
    modes = []
    monkeypatch.setattr(common_utils, "answer_call", lambda call: modes.append(call["fast_mode"]))
    for is_slow in (False, True):
        monkeypatch.setattr(pytorch_common_utils, "TEST_WITH_SLOW_GRADCHECK", is_slow)
        common_utils.gradcheck(torch.sin, x)
    assert modes == [True, False]


def test_a_step_size_is_ignored_and_said_once(x, caplog, monkeypatch):
    monkeypatch.setattr(answer, "_SAID", set())
    with caplog.at_level(logging.WARNING, "gradcheck.compat"):
        for _ in range(2):
            assert compat.gradcheck(torch.sin, x, eps=1e-3)
    (record,) = caplog.records
    assert record.getMessage().startswith("gradcheck.compat: eps is ignored")


def test_the_step_size_of_pytorch_says_nothing(x, caplog):
    with caplog.at_level(logging.WARNING, "gradcheck.compat"):
        compat.gradcheck(torch.sin, x, eps=1e-6)
    assert caplog.records == []


def test_a_declared_nondeterminism_passes_gradients_that_differ(x):
    class Jitter(Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1

        @staticmethod
        def backward(ctx, g):
            return g * (1 + 1e-6 * torch.rand_like(g))

    with pytest.raises(compat.GradcheckError, match="Backward is not reentrant"):
        compat.gradcheck(Jitter.apply, x)
    assert compat.gradcheck(Jitter.apply, x, nondet_tol=1e-5)


@pytest.mark.parametrize(("nondet_tol", "passes"), [(1e-12, False), (1.0, True)])
@pytest.mark.parametrize("contracts", [False, True])
def test_a_backward_that_differs_by_more_than_declared_fails(nondet_tol, passes, contracts, x):
    noisy = square_with(lambda x, g: 2 * x * g * (1 + 1e-3 * torch.rand(())))
    with policy(contracts=contracts):
        for checker in (PYTORCH.gradcheck, compat.gradcheck):
            if passes:
                assert checker(noisy, x, rtol=1e-2, nondet_tol=nondet_tol)
            else:
                with pytest.raises(compat.GradcheckError, match="Backward is not reentrant"):
                    checker(noisy, x, rtol=1e-2, nondet_tol=nondet_tol)


def test_arguments_choose_modes_and_contracts(x):
    def contracts(**keywords):
        return set(CONTRACTS) - set(check_arguments(compat.gradcheck, torch.sin, x, **keywords)["no_contract"])

    assert contracts() == {"linear-vjp", "deterministic-backward", "some-outputs"}
    assert contracts(check_undefined_grad=False, nondet_tol=1e-5) == {"linear-vjp"}
    assert contracts(check_batched_grad=True, check_grad_dtypes=True) >= {"batched-vjp", "gradient-form"}
    assert contracts(check_forward_ad=True, check_backward_ad=False) == {"some-outputs"}


@pytest.mark.parametrize(
    ("checker", "keywords", "methods"),
    [
        (compat.gradcheck, {}, ("reverse", "numeric")),
        (compat.gradcheck, {"check_forward_ad": True}, ("reverse", "forward", "numeric")),
        (compat.gradcheck, {"check_forward_ad": True, "check_backward_ad": False}, ("forward", "numeric")),
        (compat.gradgradcheck, {}, ("reverse", "numeric")),
        (compat.gradgradcheck, {"check_fwd_over_rev": True}, ("reverse", "forward", "numeric")),
    ],
)
def test_arguments_choose_methods(checker, keywords, methods, x):
    assert check_arguments(checker, torch.sin, x, **keywords)["methods"] == methods


def test_fast_mode_changes_nothing_and_a_tolerance_needs_entries(x):
    modes = [check_arguments(compat.gradcheck, torch.sin, x, **keywords)["mode"] for keywords in (
        {}, {"fast_mode": True}, {"fast_mode": True, "atol": 1e-4}, {"fast_mode": True, "rtol": 1e-2}
    )]  # fmt: skip
    assert modes == ["auto", "auto", "full", "full"]


def test_a_tolerance_counts_where_no_entry_would_be_compared_without_it():
    x = torch.linspace(0.5, 2, 1500, dtype=torch.float64).requires_grad_()
    slightly_wrong = lambda x: scaled_square(1.0001)(x).reshape(3, 500).sum(0)  # noqa: E731
    assert compat.gradcheck(slightly_wrong, x, rtol=1e-2)
    assert not compat.gradcheck(slightly_wrong, x, rtol=1e-5, raise_exception=False)


def test_check_undefined_grad_can_be_switched_off(x):
    def raises_on_none(x):
        y = x * 1
        y.register_hook(lambda g: g.no_such_attribute if g is None else g)
        return y

    with pytest.raises(AttributeError):
        compat.gradcheck(raises_on_none, x)
    assert compat.gradcheck(raises_on_none, x, check_undefined_grad=False)


def test_contracts_that_no_policy_allows_are_not_checked(x):
    class Reordered(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx, g):
            return (2 * g * ctx.saved_tensors[0]).to_sparse()

    with pytest.raises(compat.GradcheckError, match="grad is incorrect layout"):
        compat.gradcheck(Reordered.apply, x)
    with policy(contracts=False):
        assert compat.gradcheck(Reordered.apply, x)


@pytest.mark.parametrize(("derivative", "text"), [
    (lambda x, g: 2 * x * g.clamp(min=0), "backward not multiplied by grad_output"),
    (lambda x, g: 2 * x * g * (1 + 0.1 * torch.rand(())), "Backward is not reentrant"),
])  # fmt: skip
def test_what_pytorch_always_checks_is_checked_whatever_the_policy_says(derivative, text, x):
    square = square_with(derivative)
    with policy(contracts=False), pytest.raises(compat.GradcheckError, match=text):
        compat.gradcheck(square, x)
    given = answer.ask(translate(make_call(compat.gradcheck, call_arguments(square, x))), policies.Policy(contracts=False))
    assert given.verdict is Verdict.FAIL


def test_batched_gradients_are_a_default_of_common_utils(x):
    class Unbatchable(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx, g):
            return 2 * ctx.saved_tensors[0] * torch.from_numpy(g.numpy(force=True))

    assert compat.gradcheck(Unbatchable.apply, x)
    with pytest.raises(compat.GradcheckError, match="While computing batched gradients, got: "):
        common_utils.gradcheck(Unbatchable.apply, x)
    assert common_utils.gradcheck(Unbatchable.apply, x, check_batched_grad=False, fast_mode=None)
    with pytest.raises(TypeError, match="no_such_argument"):
        common_utils.gradcheck(torch.sin, x, no_such_argument=1)
    assert common_utils.gradgradcheck(torch.sin, x, check_batched_grad=None)


@pytest.mark.filterwarnings("ignore:Sparse")  # PyTorch's, once in a process
@pytest.mark.parametrize("layout", [torch.sparse_coo, torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc])
def test_masked_leaves_out_entries_that_are_not_stored(layout):
    dense = torch.tensor([[1.0, 0.0, 0.0, 2.0], [0.5, 3.0, 0.0, 0.0]], dtype=torch.float64)
    blocksize = (2, 2) if layout in (torch.sparse_bsr, torch.sparse_bsc) else None
    sparse = dense.to_sparse(layout=layout, blocksize=blocksize).requires_grad_()

    class Stored(Function):
        """Twice the dense tensor, with a gradient where the input stores something."""

        @staticmethod
        def forward(ctx, x):
            ctx.mask = x.detach().to_dense() != 0
            return 2 * x.to_dense()

        @staticmethod
        def backward(ctx, g):
            return 2 * g * ctx.mask

    def stored(x):
        return Stored.apply(x.to_dense(masked_grad=False))

    if layout in (torch.sparse_coo, torch.sparse_csr, torch.sparse_csc):
        assert compat.gradcheck(stored, sparse, masked=True)
    for masked in (None, False):
        assert compat.gradcheck(stored, sparse, masked=masked, raise_exception=False) is False
    assert compat.gradcheck(lambda x: 2 * torch.sum(x), sparse, masked=False)


def test_cotangents_may_be_given(x):
    cotangent = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)

    class WrongTwice(Function):
        """The cube, whose second derivative is wrong at the last entry."""

        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return 3 * g * torch.cat([scaled_square(1)(x[:2]), scaled_square(2)(x[2:])])

    assert compat.gradgradcheck(WrongTwice.apply, x, cotangent)
    assert compat.gradgradcheck(WrongTwice.apply, (x,), [cotangent], gen_non_contig_grad_outputs=True)
    with pytest.raises(compat.GradcheckError, match="Jacobian mismatch for output 0 with respect to input 0,"):
        compat.gradgradcheck(WrongTwice.apply, x)
    with pytest.raises(compat.GradcheckError, match="Jacobian mismatch for output 0 with respect to input 0,"):
        compat.gradgradcheck(WrongTwice.apply, x, torch.ones_like(cotangent).requires_grad_())


def test_drawn_cotangents_may_be_noncontiguous(x):
    layouts = []

    class Spy(Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1

        @staticmethod
        def backward(ctx, g):
            layouts.append(g.is_contiguous())
            return g * 1

    assert compat.gradgradcheck(Spy.apply, x)
    assert all(layouts)
    layouts.clear()
    assert compat.gradgradcheck(Spy.apply, x, gen_non_contig_grad_outputs=True)
    assert not all(layouts)
