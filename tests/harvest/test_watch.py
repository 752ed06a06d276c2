import gc
import inspect
import threading
import warnings
import weakref

import pytest
import torch
import watched_layers
from torch import nn
from torch.autograd.function import _SingleLevelFunction
from watched_layers import Bias, Block, Model, Scale, Swish, WrongSwish, cube

import gradcheck
from gradcheck import Reason, UsageError, Verdict
from gradcheck.harvest.torch_copies import describe

HELD_APPLY = Swish.apply


def train(steps=4, *, wrong=False):
    """Train with dropout; return the losses, the gradients and the next number of the generator."""
    torch.manual_seed(3)
    model = Model(wrong=wrong)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for step in range(steps):
        x = torch.randn(2 if step == steps - 1 else 5, 4)
        loss = (model(x) ** 2).mean() + HELD_APPLY(x.requires_grad_()).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, [p.grad.tolist() for p in model.parameters()], torch.rand(3).tolist()


def targets_of(watched):
    return [
        (record.home[1], [tuple(x.shape) for x in record.call.args if torch.is_tensor(x)]) for record in watched.harvest.records
    ]


def test_a_training_is_the_same_bit_for_bit_and_each_kind_of_call_is_recorded_once():
    plain = train()
    with gradcheck.watch() as watched:
        assert train() == plain
    found = targets_of(watched)
    assert found.count(("Swish", [(5, 4)])) == 1
    assert found.count(("Swish", [(2, 4)])) == 1
    # The first block gets an input that requires no gradient, the second one that does.
    assert found.count(("Block", [(5, 4)])) == 2
    assert watched.not_recorded == {
        "watched_layers:Model": "it holds other modules of yours, which are checked, and no parameter of its own"
    }


def test_a_framework_that_is_loaded_again_is_not_intercepted_twice():
    with gradcheck.watch() as watched:
        watched._intercept_framework(torch)  # as its import would after a reload
        train()
    assert targets_of(watched).count(("Swish", [(5, 4)])) == 1
    assert watched.not_recorded.keys() == {"watched_layers:Model"}


def test_right_derivatives_pass_and_a_wrong_one_is_named_once():
    with gradcheck.watch() as watched:
        train(2, wrong=True)
        cube(torch.randn(3, requires_grad=True)).sum().backward()
        Scale.apply(torch.randn(3, requires_grad=True), 2.0).sum().backward()
    run = watched.check(seed=1)
    verdicts = {}
    for result in run.results:
        verdicts.setdefault(result.target.partition(":")[2], []).append(result.outcome)
    assert set(verdicts["Swish"]) == set(verdicts["cube"]) == set(verdicts["Scale"]) == {Verdict.PASS}
    assert set(verdicts["WrongSwish"]) == {Verdict.FAIL}
    blocks = [result for result in run.results if result.target.endswith(":Block")]
    skipped = [result for result in blocks if result.reason is Reason.LAYER_WRONG]
    assert skipped
    assert all("watched_layers:WrongSwish inside of it is wrong" in result.message for result in skipped)
    assert {result.outcome for result in blocks if result not in skipped} == {Verdict.PASS}
    assert {result.seed for result in run.results} == {1}
    assert run.verdict is Verdict.FAIL
    assert gradcheck.RunResult.from_dict(run.to_dict()).counts == run.counts


def test_the_inputs_are_copies_with_their_layout_and_the_parameters_are_those_of_the_call():
    x = torch.randn(3, 2).t().requires_grad_()
    wide = torch.randn(1, 4).expand(3, 4)
    block = Block(4)
    before = block.linear.weight.detach().clone()
    with gradcheck.watch() as watched:
        Swish.apply(x).sum().backward()
        block(wide, residual=True).sum().backward()
    with torch.no_grad():
        x.zero_()
        block.linear.weight.zero_()
    (copied,) = watched.harvest.records[0].call.args
    assert copied.stride() == (1, 2)
    assert copied.requires_grad
    assert copied.abs().sum() > 0
    record = next(record for record in watched.harvest.records if record.home[1] == "Block")
    assert record.call.args[0].stride() == (0, 1)
    assert record.call.kwargs == {"residual": True}
    assert torch.equal(record.target.linear.weight, before)
    assert record.target is not block


def test_the_cotangents_are_those_of_the_program():
    x = torch.randn(2, 3, requires_grad=True)
    with gradcheck.watch() as watched:
        (Swish.apply(x) * torch.arange(6.0).view(2, 3)).sum().backward()
    (record,) = watched.harvest.records
    assert torch.equal(record.call.cotangents[0], torch.arange(6.0).view(2, 3))


def test_nothing_of_the_graph_or_of_the_program_is_kept_alive():
    x = torch.randn(3, requires_grad=True)
    y = x * 2
    alive = weakref.ref(y)
    module = Block(3)
    alive_module = weakref.ref(module)
    with gradcheck.watch() as watched:
        Swish.apply(y).sum().backward()
        module(y.detach())
        del y, module
        gc.collect()
        assert alive() is None
        assert alive_module() is None
    assert len(watched.harvest.records) == 2


def test_everything_is_put_back_also_after_an_exception():
    def classes():
        return [dict(vars(cls)) for cls in (Block, Model, Swish, nn.Module, torch.autograd.Function, _SingleLevelFunction)]

    def define_and_raise():
        with gradcheck.watch():
            assert "__call__" in vars(Block)
            late.append(type("Late", (Block,), {"__module__": __name__}))
            assert "__call__" in vars(late[0])
            raise ZeroDivisionError

    late = []
    before = classes()
    with pytest.raises(ZeroDivisionError):
        define_and_raise()
    assert classes() == before
    assert "__call__" not in vars(late[0])


def test_a_watch_inside_of_another_sees_the_same_and_takes_nothing_from_it():
    with gradcheck.watch() as outer:
        with gradcheck.watch() as inner:
            Swish.apply(torch.randn(2, requires_grad=True))
            Block(3)(torch.randn(2, 3))
        Swish.apply(torch.randn(3, requires_grad=True))
    assert targets_of(inner) == targets_of(outer)[: len(targets_of(inner))]
    assert len(targets_of(outer)) == len(targets_of(inner)) + 1


def test_a_class_with_enough_records_gets_its_own_call_back():
    with gradcheck.watch() as watched:
        block = Block(2)
        for size in range(1, 12):
            block(torch.randn(size, 2))
        assert "__call__" not in vars(Block)
    assert sum(record.home[1] == "Block" for record in watched.harvest.records) == 8
    assert sum(record.home[1] == "Swish" for record in watched.harvest.records) == 8


def test_calls_of_a_new_kind_are_seen_after_many_of_a_known_one():
    with gradcheck.watch() as watched:
        for _ in range(300):
            Swish.apply(torch.ones(2, requires_grad=True))
        Swish.apply(torch.ones(3, requires_grad=True))
        for _ in range(20):
            Swish.apply(torch.ones(3, requires_grad=True).double())
    assert [x.dtype for record in watched.harvest.records for x in record.call.args] == [torch.float32] * 2 + [torch.float64]


def test_modules_of_one_class_with_other_settings_are_told_apart():
    with gradcheck.watch() as watched:
        for wrong in (False, True, False):
            Block(4, wrong)(torch.ones(2, 4))
    assert [record.target.wrong for record in watched.harvest.records if record.home[1] == "Block"] == [False, True]


def test_a_module_with_a_parameter_of_its_own_is_recorded_besides_those_inside():
    with gradcheck.watch() as watched:
        Bias(3)(torch.randn(2, 3))
    assert [name for name, _ in targets_of(watched)] == ["Bias", "Block", "Swish"]


@pytest.mark.parametrize(
    "call",
    [
        lambda: torch.func.grad(lambda x: Scale.apply(x, 2.0).sum())(torch.randn(2, 3)),
        lambda: torch.jit.trace(Block(3).eval(), torch.randn(2, 3)),
        lambda: torch.compile(Block(3), backend="eager", fullgraph=True)(torch.randn(2, 3)),
        lambda: torch.no_grad()(Block(3))(torch.randn(2, 3)),
        lambda: gradcheck.check(Swish, torch.randn(2)),
        lambda: Swish.apply(torch.randn(2)),
    ],
    ids=["func", "jit", "compile", "no_grad", "check", "constant"],
)
@pytest.mark.filterwarnings("ignore")
def test_calls_without_numbers_or_derivatives_are_left_out(call):
    with gradcheck.watch() as watched:
        call()
    assert not watched.harvest.records


@pytest.mark.filterwarnings("ignore")
def test_a_compiled_module_is_compiled_as_without_a_watch():
    counts = []
    for watch in (gradcheck.watch, torch.enable_grad):
        torch._dynamo.reset()
        operations = []

        def backend(graph, _, operations=operations):
            operations.append([node.target for node in graph.graph.nodes if node.op != "placeholder"])
            return graph.forward

        with watch():
            torch.compile(Block(3).eval(), backend=backend, fullgraph=True)(torch.ones(2, 3))
        counts.append([len(nodes) for nodes in operations])
    assert counts[0] == counts[1]


def test_what_does_not_fit_into_the_memory_is_said():
    with gradcheck.watch() as watched:
        watched.harvest._bytes_left = 100
        Swish.apply(torch.ones(26, requires_grad=True))
        Swish.apply(torch.ones(3, requires_grad=True)).sum().backward()
    assert targets_of(watched) == [("Swish", [(3,)])]
    assert watched.not_recorded == {
        "watched_layers:Swish": "its inputs and parameters do not fit into the 64 MiB that all copies may take"
    }
    assert watched.check().config["not_recorded"] == watched.not_recorded


def test_arguments_that_may_change_are_not_recorded():
    with gradcheck.watch() as watched:
        Scale.apply(torch.ones(3, requires_grad=True), _Factor())
    assert watched.not_recorded == {"watched_layers:Scale": "an argument is a _Factor, which may change"}


class _Factor:
    def __mul__(self, x):
        return 2 * x


def test_a_call_that_raises_leaves_no_record_and_raises_as_before():
    with gradcheck.watch() as watched, pytest.raises(RuntimeError, match="mat1 and mat2"):
        Block(3)(torch.randn(2, 5))
    assert not watched.harvest.records


def test_threads_are_watched_too():
    def work(size):
        for _ in range(30):
            Swish.apply(torch.randn(size, 2, requires_grad=True)).sum().backward()

    with gradcheck.watch() as watched:
        threads = [threading.Thread(target=work, args=(size,)) for size in (1, 2, 3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(shapes for _, shapes in targets_of(watched)) == [[(1, 2)], [(2, 2)], [(3, 2)]]


def test_hooks_of_the_program_run_for_its_own_calls_alone():
    calls = []
    block = Block(3)
    block.register_forward_hook(lambda *_: calls.append("own"))
    everywhere = nn.modules.module.register_module_forward_hook(lambda *_: calls.append("global"))
    try:
        with gradcheck.watch() as watched:
            block(torch.randn(2, 3)).sum().backward()
    finally:
        everywhere.remove()
    expected = list(calls)
    assert all(result.ok for result in watched.check().results)
    assert calls == expected


def test_under_autocast_a_module_is_checked_with_inputs_of_its_parameters_dtype():
    with gradcheck.watch() as watched, torch.autocast("cpu", torch.bfloat16):
        Block(3)(nn.Linear(3, 3)(torch.randn(2, 3)))
    block = next(record for record in watched.harvest.records if record.home[1] == "Block")
    assert block.call.args[0].dtype is torch.float32


def test_what_the_budget_leaves_over_is_said_case_by_case():
    with gradcheck.watch() as watched:
        for size in (1, 2):
            Swish.apply(torch.randn(size, requires_grad=True))
    results = watched.check(budget=1e-9).results
    assert {result.reason for result in results} == {Reason.OVER_BUDGET}
    assert {result.message for result in results} == {"not checked: the budget of 1e-09 s for all calls was spent"}


def test_results_are_to_be_had_after_the_block_alone():
    with gradcheck.watch() as watched, pytest.raises(UsageError, match=r"call it after the block"):
        watched.check()
    with pytest.raises(UsageError, match=r"no call found .* outside of torch.compile$"):
        watched.check()
    assert watched.draft() == watched.draft_configuration() == ""


def test_installed_packages_count_if_they_are_named():
    from gradcheck.harvest.record import Harvest

    assert not Harvest().is_from_user("pytest")
    assert Harvest(("pytest",)).is_from_user("pytest")
    assert Harvest().is_from_user(watched_layers.__name__)
    assert not any(map(Harvest().is_from_user, ("torch.nn", "json", "gradcheck.run")))


def test_wrong_functions_of_a_closure_are_checked_too():
    def make():
        class Inner(WrongSwish):
            pass

        return Inner

    with gradcheck.watch() as watched:
        make().apply(torch.randn(2, requires_grad=True))
    assert watched.check().verdict is Verdict.FAIL
    assert "Inner is defined inside of a function and cannot be imported" in watched.draft()


def test_a_tensor_class_of_the_user_runs_no_more_code_than_without_a_watch():
    calls = []

    class Counted(torch.Tensor):
        @classmethod
        def __torch_function__(cls, function, types, args=(), kwargs=None):
            calls.append(function)
            return super().__torch_function__(function, types, args, kwargs)

    x = torch.ones(2, requires_grad=True).as_subclass(Counted)
    counts = []
    for watch in (torch.enable_grad, gradcheck.watch):
        calls.clear()
        with watch() as watched:
            Swish.apply(x)
        counts.append(len(calls))
    assert counts[0] == counts[1]
    assert "a tensor of its own kind" in watched.not_recorded["watched_layers:Swish"]


@pytest.mark.filterwarnings("ignore")
def test_sparse_and_nested_tensors_do_not_stop_the_program():
    sparse = torch.eye(3).to_sparse().requires_grad_()
    with gradcheck.watch() as watched:
        for _ in range(2):
            _Dense.apply(sparse).sum().backward()
    assert len(watched.harvest.records) == 1
    assert hash(describe(torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])))


class _Dense(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.to_dense()

    @staticmethod
    def backward(ctx, g):
        return g


def test_a_framework_that_cannot_be_intercepted_is_said(monkeypatch):
    monkeypatch.setattr("gradcheck.harvest.torch_functions.FunctionCalls.install", lambda _: 1 / 0)
    with gradcheck.watch() as watched:
        pass
    assert watched.not_recorded == {"torch": "its calls cannot be intercepted: ZeroDivisionError: division by zero"}


def test_a_check_of_nothing_says_why_nothing_was_recorded():
    with gradcheck.watch() as watched:
        Scale.apply(torch.ones(3, requires_grad=True), _Factor())
    with pytest.raises(UsageError, match="not recorded: watched_layers:Scale: an argument is a _Factor, which may change"):
        watched.check()


def test_a_budget_that_is_no_number_is_refused():
    with gradcheck.watch() as watched:
        pass
    with pytest.raises(UsageError, match="budget='60s': expected a number of seconds"):
        watched.check(budget="60s")


class Holder(nn.Module):
    def __init__(self, held):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
        self.held = held

    def forward(self, x):
        return x * self.weight


class Trainer:
    def __init__(self, data):
        self.data = [data]


LARGE = torch.zeros(2**24 + 1)


@pytest.mark.parametrize(
    "held", [LARGE, Trainer(LARGE), Trainer(LARGE.numpy()), Trainer(LARGE[:1])], ids=["attribute", "object", "numpy", "view"]
)
def test_what_a_module_refers_to_counts_as_memory(held):
    with gradcheck.watch() as watched:
        Holder(held)(torch.ones(3)).sum().backward()
        Holder(Trainer(LARGE[:5].clone()))(torch.ones(2, 3)).sum().backward()
    (record,) = watched.harvest.records
    assert record.size == 4 * (3 + 5 + 6 + 6)
    assert watched.harvest._bytes_left == watched.harvest.max_bytes - record.size
    assert "do not fit into the 64 MiB" in watched.not_recorded[f"{__name__}:Holder"]


def test_a_class_with_enough_records_gets_its_call_back_also_after_a_watch_inside():
    with gradcheck.watch() as outer:
        with gradcheck.watch() as inner:
            for size in range(1, 12):
                Holder(None)(torch.randn(size, 3))
        assert len(inner.harvest.records) == len(outer.harvest.records) == 8
    assert "__call__" not in vars(Holder)


def test_outputs_are_saved_without_a_warning_and_keep_no_hook(tmp_path):
    with gradcheck.watch() as watched:
        output = Swish.apply(torch.ones(2, requires_grad=True))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            torch.save(output, tmp_path / "output.pt")
    assert not output._backward_hooks
    output.sum().backward()
    assert not watched.harvest.records[0].call.cotangents


def test_a_watched_call_is_described_as_the_class_s_own():
    with gradcheck.watch():
        name, signature = Block.__call__.__qualname__, inspect.signature(Block.__call__)
    assert (name, signature) == (Block.__call__.__qualname__, inspect.signature(Block.__call__))


def test_a_call_on_the_meta_device_has_no_numbers_to_record():
    with gradcheck.watch() as watched:
        Block(3).to("meta")(torch.ones(2, 3, device="meta"))
    assert not watched.harvest.records
    assert set(watched.not_recorded.values()) == {"a tensor of its call is on the meta device, where it has no numbers"}
