"""Custom layers, each of which breaks a contract."""

import torch
from lawful import Function, MeanSquare, Separate, TwoOutputs


def other(forward=None, backward=None, of=Function):
    """Make a Function with another forward or backward."""
    parts = {"forward": forward, "backward": backward}
    return type("Layer", (of,), {name: staticmethod(part) for name, part in parts.items() if part})


class Rows(Function):
    """x² sin(w) of matrices only."""

    @staticmethod
    def forward(ctx, x, w):
        assert x.dim() == 2
        return Function.forward(ctx, x, w)


def by_grad_mode(ctx, x, w):
    ctx.save_for_backward(x, w)
    return x**2 * torch.sin(w) if any(ctx.needs_input_grad) else x**2 * torch.cos(w)


def random_backward(ctx, g):
    gx, gw = Function.backward(ctx, g)
    return gx * (1 + 0.1 * torch.rand(())), gw


def writes_to_the_cotangent(ctx, g):
    gx, gw = Function.backward(ctx, g)
    g.copy_(gx)
    return g, gw


def writes_to_the_input(ctx, g):
    found = Function.backward(ctx, g)
    ctx.saved_tensors[0].data.add_(1)
    return found


def returns_doubles(ctx, g):
    gx, gw = Function.backward(ctx, g)
    return gx.double(), gw


def forgets_the_second(ctx, g, h):
    return (None, None) if g is None else TwoOutputs.backward(ctx, g, h)


def divides_by_the_cotangent(ctx, g):
    gx, gw = Function.backward(ctx, g)
    return gx * (g / g), gw


def swapped_where_one_is_wanted(ctx, g):
    found = Function.backward(ctx, g)
    return found if all(ctx.needs_input_grad) else found[::-1]


def none_where_the_first_is_not_wanted(ctx, g):
    return Function.backward(ctx, g) if ctx.needs_input_grad[0] else (None, None)


def reads_memory(ctx, g):
    return Function.backward(ctx, torch.as_strided(g, g.shape, torch.empty(g.shape).stride()))


def views_the_cotangent(ctx, g):
    return Function.backward(ctx, g.view(-1).view(g.shape))


def saves_as_it_lies(ctx, x, w):
    ctx.save_for_backward(torch.as_strided(x, x.shape, torch.empty(x.shape).stride(), x.storage_offset()), w)
    return x**2 * torch.sin(w)


def works_once(ctx, g):
    gx, gw = Function.backward(ctx, g)
    gx = gx * (1 if not hasattr(ctx, "gone") else 0)
    ctx.gone = True
    return gx, gw


def saves_in_the_class(ctx, x, w):
    Function.saved = x, w
    return x**2 * torch.sin(w)


def reads_the_class(ctx, g):
    x, w = Function.saved
    return g * 2 * x * torch.sin(w), g * x**2 * torch.cos(w)


def keeps_the_leaf(ctx, x, w):
    ctx.leaf = x
    return Function.forward(ctx, x, w)


def adds_to_the_leaf(ctx, g):
    gx, gw = Function.backward(ctx, g)
    return gx if ctx.leaf.grad is None else gx + ctx.leaf.grad, gw


def flattens_the_rows(ctx, g):
    gx, gw = Function.backward(ctx, g)
    return gx, gw.reshape(len(g), -1).view_as(g)


def sums_over_batches(ctx, g):
    return Function.backward(ctx, g.sum().expand(g.shape) if torch._C._functorch.is_batchedtensor(g) else g)


def saves_in_another_form_every_other_time():
    calls = []

    def forward(ctx, x, w):
        calls.append(x)
        ctx.save_for_backward(x if len(calls) % 2 else x.flatten(), w)
        return x**2 * torch.sin(w)

    def backward(ctx, g):
        x, w = ctx.saved_tensors
        return g * 2 * x.view_as(g) * torch.sin(w), g * x.view_as(g) ** 2 * torch.cos(w)

    return other(forward, backward)


class WronglyMapped(Separate):
    """x² sin(w) with a wrong custom rule for vmap."""

    generate_vmap_rule = False

    @staticmethod
    def vmap(info, in_dims, x, w):
        return torch.cos(x * w), 0


def squeezes(ctx, g):
    return tuple(found.squeeze() for found in Function.backward(ctx, g))


def divides_by_the_rest(ctx, g):
    gx, gw = Function.backward(ctx, g)
    return gx * (len(g) - 1) / (len(g) - 1), gw


def writes_down_the_rows(ctx, g):
    gx, gw = Function.backward(ctx, g)
    return gx, gw * len(g) / 3


def divides_by_three_rows(ctx, g):
    x, y = ctx.saved_tensors
    slope = g * 2 * (x - y) / (3 * x.shape[1])
    return slope, -slope


def forgets_numbers(ctx, g):
    gx, gw = Function.backward(ctx, g)
    return (gx, gw) if g.dim() else (gx, torch.zeros_like(gw))


def spreads_the_mean(ctx, g):
    gx, gw = Function.backward(ctx, g)
    return gx - gx.mean() + (gx.mean() if gx.numel() > 1 else 0), gw


@torch.library.custom_op("unruly::square_sine", mutates_args=())
def square_sine(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    return x**2 * torch.sin(w)


def operator(x, w):
    """An operator that was given a backward, by torch.library."""
    return square_sine(x, w)


square_sine.register_autograd(views_the_cotangent, setup_context=Separate.setup_context)


VIOLATIONS = [
    ("primal", lambda: other(by_grad_mode)),
    ("deterministic-backward", lambda: other(backward=random_backward)),
    ("backward-intact", lambda: other(backward=writes_to_the_cotangent)),
    ("backward-intact", lambda: other(backward=writes_to_the_input)),
    ("some-outputs", lambda: other(backward=forgets_the_second, of=TwoOutputs)),
    ("some-outputs", lambda: other(backward=divides_by_the_cotangent)),
    ("requires-grad", lambda: other(backward=swapped_where_one_is_wanted)),
    ("requires-grad", lambda: other(backward=none_where_the_first_is_not_wanted)),
    ("cotangent-layout", lambda: other(backward=reads_memory)),
    ("cotangent-layout", lambda: other(backward=views_the_cotangent)),
    ("input-layout", lambda: other(saves_as_it_lies)),
    ("retain-graph", lambda: other(backward=works_once)),
    ("state", lambda: other(saves_in_the_class, reads_the_class)),
    ("accumulation", lambda: other(keeps_the_leaf, adds_to_the_leaf)),
    ("batched-vjp", lambda: other(backward=sums_over_batches, of=Separate)),
    ("batched-vjp", lambda: WronglyMapped),
    ("cotangent-layout", lambda: operator),
    ("one-element", lambda: other(backward=squeezes)),
    ("one-element", lambda: other(backward=divides_by_the_rest, of=Rows)),
    ("one-element", lambda: other(backward=writes_down_the_rows, of=Rows)),
    ("one-element", lambda: other(backward=divides_by_three_rows, of=MeanSquare)),
    ("one-element", lambda: other(backward=forgets_numbers)),
    ("one-element", lambda: other(backward=spreads_the_mean)),
    ("checkpoint", saves_in_another_form_every_other_time),
]
