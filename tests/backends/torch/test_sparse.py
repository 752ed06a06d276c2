"""Sparse inputs, parameters and outputs, whose stored values are differentiated."""

import warnings

import pytest
import torch
from torch import nn

import gradcheck
from gradcheck import InputError, Verdict, normal, sparse
from gradcheck.backends.torch import sparse as patterns

pytestmark = pytest.mark.filterwarnings("ignore:Sparse")  # PyTorch says once that its layouts are new

F64 = torch.float64
MATRIX = torch.tensor([[1.0, 0, 2], [0, 3, 0]], dtype=F64)
BLOCKS = torch.block_diag(*torch.arange(1.0, 9, dtype=F64).reshape(2, 2, 2))
TWICE = torch.sparse_coo_tensor([[0, 0, 1], [1, 1, 2]], torch.tensor([1.0, 2, 3], dtype=F64), (2, 3), check_invariants=True)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    LAYOUTS = {
        "coo": MATRIX.to_sparse(),
        "hybrid": torch.arange(12.0, dtype=F64).reshape(2, 3, 2).to_sparse(1),
        "twice stored": TWICE,
        "csr": MATRIX.to_sparse_csr(),
        "csc": MATRIX.to_sparse_csc(),
        "bsr": BLOCKS.to_sparse_bsr((2, 2)),
        "bsc": BLOCKS.to_sparse_bsc((2, 2)),
        "empty": torch.zeros(2, 3, dtype=F64).to_sparse(),
    }
DENSE = torch.linspace(-1, 1, 6, dtype=F64).reshape(3, 2)


class Product(torch.autograd.Function):
    """s b, whose gradient with respect to s has several forms; `inject_fault` makes it wrong."""

    form, inject_fault = "dense", staticmethod(lambda g: g)

    @staticmethod
    def forward(ctx, s, b):
        ctx.save_for_backward(s, b)
        return s @ b

    @classmethod
    def backward(cls, ctx, g):
        s, b = ctx.saved_tensors
        whole = cls.inject_fault(g @ b.T)
        forms = {"dense": lambda: whole, "masked": lambda: whole.sparse_mask(s), "another pattern": lambda: whole.to_sparse()}
        return forms[cls.form](), s.to_dense().T @ g


def product(form, inject_fault=lambda g: g):
    return type("Product", (Product,), {"form": form, "inject_fault": staticmethod(inject_fault)})


def verdicts(result):
    return {c.wrt: c.verdict for c in result.comparisons if c.against == "numeric"}


@pytest.mark.parametrize("name", [name for name in LAYOUTS if name != "empty"])
def test_every_layout_is_an_input(name):
    result = gradcheck.check(lambda x: torch.sin(x.to_dense()), LAYOUTS[name])
    assert verdicts(result) == {"x.values()": Verdict.PASS}, str(result)
    assert any("forward not available" in note for note in result.notes)
    assert gradcheck.check(lambda x: x * 2, LAYOUTS[name].to(torch.float32)).verdict is Verdict.PASS


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_gradient_of_any_form_is_read_at_the_places_of_the_pattern(name):
    t = LAYOUTS[name]
    pattern, values = patterns.pattern_of(t), patterns.values_of(t)
    assert patterns.is_same_tensor(patterns.make_sparse(values, pattern), t)
    g = torch.randn(t.shape, dtype=F64, generator=torch.Generator().manual_seed(0))
    numbered = patterns.make_sparse(
        torch.ones_like(values), pattern
    ).to_dense()  # the number of times that each place is stored
    found = patterns.read_at_pattern(g, pattern)
    assert found.shape == values.shape
    torch.testing.assert_close(patterns.make_sparse(found, pattern).to_dense(), g * numbered)
    torch.testing.assert_close(patterns.read_at_pattern(g.to_sparse(), pattern), found)
    half = g * (g > 0)
    torch.testing.assert_close(patterns.read_at_pattern(half.to_sparse(), pattern), patterns.read_at_pattern(half, pattern))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("layout", ["coo", "csr"])
@pytest.mark.parametrize("form", ["dense", "masked", "another pattern"])
def test_a_backward_may_return_any_form_and_must_be_right(form, layout, dtype):
    given = LAYOUTS[layout].to(dtype), DENSE.to(dtype)
    assert gradcheck.check(product(form), *given).verdict is Verdict.PASS
    wrong = gradcheck.check(product(form, lambda g: 1.01 * g), *given, contracts=False)
    assert verdicts(wrong) == {"s.values()": Verdict.FAIL, "b": Verdict.PASS}, str(wrong)
    (diagnosed,) = {c.diagnosis.partition(":")[0] for c in wrong.comparisons if c.diagnosis}
    assert diagnosed == "factor"


def test_entries_outside_of_the_pattern_are_not_checked():
    def outside(g):
        return g + 100.0 * (MATRIX == 0)

    assert gradcheck.check(product("dense", outside), LAYOUTS["coo"], DENSE).verdict is Verdict.PASS


def test_an_entry_that_is_dropped_from_the_pattern_is_caught():
    def dropped(g):
        return g * (torch.arange(6).reshape(2, 3) != 2)

    result = gradcheck.check(product("another pattern", dropped), LAYOUTS["coo"], DENSE)
    assert result.verdict is Verdict.FAIL
    (line,) = [c for c in result.comparisons if c.verdict is Verdict.FAIL]
    assert line.worst_entry == (1,)


def test_a_wrong_gradient_of_a_large_sparse_matrix_is_found_by_bisection():
    generator = torch.Generator().manual_seed(3)
    rows, columns = (torch.randint(0, 400, (3000,), generator=generator) for _ in range(2))
    numbers = torch.randn(3000, dtype=F64, generator=generator)
    matrix = torch.sparse_coo_tensor(torch.stack([rows, columns]), numbers, (400, 400)).coalesce()
    place = matrix.indices()[:, 70]

    def faulty(g):
        g = g.clone()
        g[tuple(place)] *= 1.1
        return g

    right = torch.randn(400, 1, dtype=F64, generator=generator)
    assert gradcheck.check(product("masked"), matrix, right).verdict is Verdict.PASS
    result = gradcheck.check(product("masked", faulty), matrix, right, contracts=False)
    (line,) = [c for c in result.comparisons if c.verdict is Verdict.FAIL]
    assert (line.wrt, line.worst_entry) == ("s.values()", (70,))


class Propagates(nn.Module):
    """A graph layer with a sparse parameter, a frozen one and sparse buffers."""

    def __init__(self, size=3, cut=False):
        super().__init__()
        eye = torch.eye(size)
        self.weight = nn.Parameter(eye.to_sparse())
        self.frozen = nn.Parameter(eye.to_sparse(), requires_grad=False)
        self.register_buffer("rows", eye.to_sparse_csr())
        self.register_buffer("both", eye.to_sparse())
        self.cut = cut

    def forward(self, x):
        weight = self.weight.detach() if self.cut else self.weight
        return torch.sparse.mm(weight, x) + self.frozen @ x + self.rows @ x + self.both @ x


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_module_may_hold_sparse_parameters_and_buffers(dtype):
    result = gradcheck.check(Propagates, normal(3, 2), init={}, dtype=dtype)
    assert verdicts(result) == {"x": Verdict.PASS, "params['weight'].values()": Verdict.PASS}, str(result)
    wrong = gradcheck.check(Propagates, normal(3, 2), init={"cut": True}, dtype=dtype)
    assert verdicts(wrong) == {"x": Verdict.PASS, "params['weight'].values()": Verdict.FAIL}


def test_sparse_tensors_of_the_user_are_unchanged():
    module, adjacency = Propagates(), LAYOUTS["coo"].to(torch.float32).requires_grad_()
    module.rows_seen = LAYOUTS["csr"].clone()
    before = {name: t.detach().clone() for name, t in [*module.state_dict().items(), ("given", adjacency)]}

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = module

        def forward(self, s, x):
            self.inner.weight.detach().mul_(2)
            return torch.sparse.mm(s, self.inner(x))

    assert gradcheck.check(Model(), adjacency, torch.ones(3, 2), by_layer=True).verdict is Verdict.PASS
    after = {**module.state_dict(), "given": adjacency.detach()}
    assert all(patterns.is_same_tensor(after[name], value) for name, value in before.items())
    assert adjacency.grad is None
    assert module.weight.is_sparse


class Squared(torch.autograd.Function):
    """Squares each stored value of a sparse tensor: input and output are sparse."""

    factor = 2.0

    @staticmethod
    def forward(ctx, s):
        ctx.save_for_backward(s)
        return torch.sparse_coo_tensor(s.indices(), s.values() ** 2, s.shape, is_coalesced=True, check_invariants=False)

    @classmethod
    def backward(cls, ctx, g):
        (s,) = ctx.saved_tensors
        return cls.factor * g * s.to_dense() if not g.is_sparse else cls.factor * (g * s)


def test_a_custom_jvp_that_pytorch_cannot_use_on_sparse_tensors_is_unavailable():
    pushed = type("Pushed", (Squared,), {"jvp": staticmethod(lambda ctx, t: t)})
    result = gradcheck.check(pushed, LAYOUTS["coo"])
    assert (result.verdict, {c.method for c in result.comparisons}) == (Verdict.PASS, {"reverse"}), str(result)

    class Stored(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.to_sparse()

        @staticmethod
        def backward(ctx, g):
            return g.to_dense()

        @staticmethod
        def jvp(ctx, t):
            return t.to_sparse()

    result = gradcheck.check(Stored, DENSE)
    assert (result.verdict, {c.method for c in result.comparisons}) == (Verdict.PASS, {"reverse"}), str(result)


def test_outputs_may_be_sparse():
    assert gradcheck.check(Squared, LAYOUTS["coo"]).verdict is Verdict.PASS
    wrong = gradcheck.check(type("Wrong", (Squared,), {"factor": 1.0}), LAYOUTS["coo"])
    assert verdicts(wrong) == {"s.values()": Verdict.FAIL}
    both = gradcheck.check(lambda x: {"coo": x.to_sparse(), "csr": (2 * x).to_sparse_csr()}, DENSE)
    assert both.verdict is Verdict.PASS
    assert gradcheck.check(lambda x: torch.relu(x).to_sparse(), DENSE.to(torch.float32)).verdict is Verdict.PASS


def test_the_error_for_a_sparse_output_too_large_to_be_dense_says_what_to_do():
    def vast(x):
        return torch.sparse_coo_tensor([[0, 7], [5, 9]], x, (10**5, 10**5), check_invariants=True)

    result = gradcheck.check(vast, torch.ones(2, dtype=F64))
    assert result.verdict is Verdict.ERROR
    assert "return its stored values, as in out.coalesce().values()" in result.message
    assert result.message.startswith("an output is a sparse tensor of shape (100000, 100000)")
    assert gradcheck.check(lambda x: vast(x).coalesce().values(), torch.ones(2, dtype=F64)).ok


def total(a, b):
    return torch.sparse.mm(a, b).sum()


def by_hand(form, a, b, factor=1):
    whole = factor * torch.ones(2, 2, dtype=F64) @ b.T
    given = {"dense": whole, "sparse": whole.sparse_mask(a), "values": whole.sparse_mask(a).values()}[form]
    return given, a.to_dense().sum(0)[:, None].expand(3, 2)


@pytest.mark.parametrize("form", ["dense", "sparse", "values"])
def test_a_gradient_by_hand_may_be_dense_sparse_or_the_values(form):
    def named(a, b):
        return dict(zip("ab", by_hand(form, a, b), strict=True))

    assert gradcheck.check(total, LAYOUTS["coo"], DENSE, gradient=lambda a, b: by_hand(form, a, b)).verdict is Verdict.PASS
    assert gradcheck.check(total, LAYOUTS["coo"], DENSE, gradient=named).verdict is Verdict.PASS
    wrong = gradcheck.check(total, LAYOUTS["coo"], DENSE, gradient=lambda a, b: by_hand(form, a, b, 2)[0], wrt="a")
    assert {c.method for c in wrong.comparisons if c.verdict is Verdict.FAIL and c.against == "numeric"} == {"analytic"}


def test_the_tangent_of_a_sparse_input_is_sparse():
    def jvp(tangents, a, b):
        return torch.sparse.mm(tangents[0], b) + torch.sparse.mm(a, tangents[1])

    assert gradcheck.check(torch.sparse.mm, LAYOUTS["coo"], DENSE, jvp=jvp).verdict is Verdict.PASS


def test_sparse_inputs_are_drawn_by_specs():
    seen = set()

    def records(a, b):
        seen.add((a.layout, tuple(a.shape), a.dtype))
        return a @ b

    for layout in ("sparse_coo", "sparse_csr"):
        assert gradcheck.check(records, sparse(9, 5, density=0.2, layout=layout), normal(5, 2), framework="torch").ok
    assert {(torch.sparse_coo, (9, 5), F64), (torch.sparse_csr, (9, 5), F64)} <= seen
    with pytest.raises(InputError, match=r"layout='sparse_csr' of an array of shape \(3,\): expected rows and columns"):
        gradcheck.check(records, normal(3, layout="sparse_csr"), normal(3), framework="torch")
    with pytest.raises(InputError, match="is for torch targets"):
        gradcheck.check(records, normal(3, 3, layout="sparse_csr"), normal(3), framework="numpy")


def test_integers_that_are_sparse_are_passed_on():
    whole = MATRIX.to(torch.int64).to_sparse()
    assert verdicts(gradcheck.check(lambda p, b: torch.sparse.mm(p.to(b.dtype), b), whole, DENSE)) == {"b": Verdict.PASS}
    with pytest.raises(InputError, match=r"no differentiable input: p\.values\(\) is torch\.int64"):
        gradcheck.check(lambda p: p, whole)
    with pytest.raises(InputError, match="wrt='c' names no input"):
        gradcheck.check(torch.sparse.mm, LAYOUTS["coo"], DENSE, wrt="c")


def test_nested_tensors_are_read_as_outputs_and_refused_as_inputs():
    def rows(x):
        return torch.nested.as_nested_tensor([x, 2 * x[:1]], layout=torch.jagged)

    assert gradcheck.check(rows, DENSE).verdict is Verdict.PASS
    with pytest.raises(InputError, match="x is a nested tensor: give its values"):
        gradcheck.check(lambda x: x * 2, rows(DENSE))
