"""Study: is code with hand-written gradients checked as people write it, without a wrapper, and are its faults named?

    OPENBLAS_NUM_THREADS=1 python reports/own_code/study.py     # writes reports/own_code.md; about a minute on one core

The code is in `tests/support/own_code`: layers with caches, networks with parameters, course exercises. Each runs right, and
once for each of its gradients with one fault: that gradient is 3 times too large, or lacks its largest entry.
"""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import gradcheck
from gradcheck import CheckResult, Verdict

sys.path.append(str(Path(__file__).resolve().parents[2]))
sys.path.append(str(Path(__file__).resolve().parents[1] / "common"))
import study_page

from tests.support.own_code import courses, layers, networks

METHODS = ("analytic", "numeric")
RNG = np.random.default_rng(0)
LABELS = np.array([0, 2, 1, 1])
BINARY = np.array([0.0, 1, 1, 0, 1, 0, 0])
POOL = {"pool_height": 2, "pool_width": 2, "stride": 2}
PARAMETERS = {"W1": (4, 3), "b1": (4, 1), "W2": (1, 4), "b2": (1, 1)}


@dataclass(frozen=True)
class Example:
    """Code with a hand-written gradient.

    Attributes:
        name: of the code, for the page.
        form: how its gradient is written.
        check: (fault) -> the result of `gradcheck.check`, where the fault changes what a hand-written gradient returns.
    """

    name: str
    form: str
    check: Callable[[Callable[[Any], Any]], CheckResult]


def draw(*shape: int) -> Any:
    """Draw standard normal numbers."""
    return RNG.normal(size=shape)


def pair(name: str, *inputs: Any) -> Example:
    """Make the example of a forward and a backward."""
    forward, backward = getattr(layers, f"{name}_forward"), getattr(layers, f"{name}_backward")

    def check(fault: Callable[[Any], Any]) -> CheckResult:
        if name == "lstm_step":
            return run(forward, *inputs, backward=lambda dnext_h, dnext_c, cache: fault(backward(dnext_h, dnext_c, cache)))
        return run(forward, *inputs, backward=lambda dout, cache: fault(backward(dout, cache)))

    return Example(f"`{name}`", "forward, backward, cache", check)


def returned(function: Callable[..., Any], *inputs: Any) -> Example:
    """Make the example of a function that returns its value with its gradient."""

    def check(fault: Callable[[Any], Any]) -> CheckResult:
        def with_fault(*arguments: Any) -> Any:
            first, second = function(*arguments)
            return (fault(first), second) if isinstance(first, dict) else (first, fault(second))

        with_fault.__wrapped__ = function  # type: ignore[attr-defined]  # for the names of its parameters
        return run(with_fault, *inputs, gradient="returned")

    return Example(f"`{function.__name__}`", "value and gradient", check)


def run(*arguments: Any, **keywords: Any) -> CheckResult:
    """Check by differences alone, which loads no other package."""
    return gradcheck.check(*arguments, methods=METHODS, **keywords)


def check_two_layers(fault: Callable[[Any], Any]) -> CheckResult:
    """Check a network whose loss returns a dictionary of gradients."""

    class Net(networks.TwoLayerNet):
        def loss(self, X: Any, y: Any = None) -> Any:
            loss, grads = super().loss(X, y)
            return loss, fault(grads)

    net = Net()
    return run(net.loss, X_OF_NET, LABELS, params=net.params, gradient="returned")


def check_layer_net(fault: Callable[[Any], Any]) -> CheckResult:
    """Check a network of layers whose method `gradient` returns a dictionary."""

    class Net(networks.LayerNet):
        def gradient(self, x: Any, t: Any) -> Any:
            return fault(super().gradient(x, t))

    net = Net()
    return run(net.loss, X_OF_NET, LABELS, params=net.params, gradient=net.gradient)


def check_affine(fault: Callable[[Any], Any]) -> CheckResult:
    """Check a layer object that leaves the gradients of its parameters in attributes."""

    class Affine(networks.Affine):
        def backward(self, dout: Any) -> Any:
            dx = super().backward(dout)
            self.dW, self.db, dx = fault((self.dW, self.db, dx))
            return dx

    return run(Affine(W_OF_AFFINE, np.zeros(5)), X_OF_NET)


X_OF_NET, W_OF_AFFINE = draw(4, 6), draw(6, 5)
EXAMPLES = [
    pair("affine", draw(4, 3, 2), draw(6, 5), draw(5)),
    pair("relu", draw(4, 3)),
    pair("conv", draw(2, 3, 5, 4), draw(2, 3, 3, 2), draw(2), {"stride": 1, "pad": 1}),
    pair("max_pool", draw(2, 3, 4, 6), POOL),
    pair("batchnorm", draw(5, 4), draw(4), draw(4), {"mode": "train"}),
    pair("layernorm", draw(5, 4), draw(4), draw(4), {}),
    pair("dropout", draw(5, 4), {"p": 0.6, "mode": "train"}),
    pair("rnn_step", draw(3, 4), draw(3, 5), 0.3 * draw(4, 5), 0.3 * draw(5, 5), draw(5)),
    pair("lstm_step", draw(3, 4), draw(3, 5), draw(3, 5), draw(4, 20), draw(5, 20), draw(20)),
    pair("lstm", draw(2, 3, 4), draw(2, 5), draw(4, 20), draw(5, 20), draw(20)),
    returned(layers.softmax_loss, draw(5, 4), np.array([0, 3, 1, 1, 2])),
    returned(courses.nn_cost, 0.3 * draw(38), 3, 5, 3, draw(7, 3), np.array([0, 2, 1, 1, 0, 2, 2]), 1.0),
    returned(courses.cost_function, draw(7, 3), BINARY, draw(3)),
    returned(courses.logistic, draw(3), draw(7, 3), BINARY),
    returned(courses.propagate, draw(3, 1), 0.5, draw(3, 7), BINARY[None].astype(int)),
    returned(courses.model_loss, {key: draw(*shape) for key, shape in PARAMETERS.items()}, draw(3, 7), BINARY[None]),
    Example("`TwoLayerNet.loss`", "object with `params`", check_two_layers),
    Example("`LayerNet.loss`", "object with `params` and layers", check_layer_net),
    Example("`Affine`", "layer object", check_affine),
]


@dataclass
class Fault:
    """Changes one of the gradients that are returned, and remembers how many there are."""

    place: int
    change: Callable[[Any], Any]
    count: int = field(default=0)

    def __call__(self, gradients: Any) -> Any:
        """Return the gradients with one changed."""
        if isinstance(gradients, Mapping):
            keys = [key for key in gradients if key not in ("dZ2", "dA1", "dZ1")]
            self.count = len(keys)
            chosen = keys[self.place] if self.place >= 0 else None
            return {key: self.change(value) if key == chosen else value for key, value in gradients.items()}
        items = list(gradients) if isinstance(gradients, tuple) else [gradients]
        self.count = len(items)
        items = [self.change(value) if i == self.place else value for i, value in enumerate(items)]
        return tuple(items) if isinstance(gradients, tuple) else items[0]


def triple(gradient: Any) -> Any:
    """Return a gradient that is 3 times too large."""
    return 3 * np.asarray(gradient)


def drop_largest(gradient: Any) -> Any:
    """Return a gradient that lacks its largest entry."""
    changed = np.array(gradient, dtype=float)
    changed.flat[np.argmax(np.abs(changed))] = 0
    return changed


def make_rows() -> Iterator[tuple[str, ...]]:
    """Check each example right and with its faults."""
    for example in EXAMPLES:
        counter = Fault(-1, triple)
        started = time.perf_counter()
        right = example.check(counter)
        seconds = time.perf_counter() - started
        results = {
            change: [example.check(Fault(place, change)) for place in range(counter.count)] for change in (triple, drop_largest)
        }
        named = [sum(is_named(result) for result in found) for found in results.values()]
        yield (
            example.name,
            example.form,
            right.verdict.value,
            str(right.evaluations),
            f"{1000 * seconds:.0f} ms",
            *(f"{n} of {counter.count}" for n in named),
        )


def is_named(result: CheckResult) -> bool:
    """Whether a result fails for exactly one input."""
    return result.verdict is Verdict.FAIL and len({c.wrt for c in result.comparisons if c.verdict is Verdict.FAIL}) == 1


def check_large_network() -> list[tuple[str, ...]]:
    """Check a network with 3072, 100 and 10 units, right and with two faults."""

    class Net(networks.TwoLayerNet):
        change: Callable[[dict[str, Any], Net], dict[str, Any]] = staticmethod(lambda grads, _: grads)

        def loss(self, X: Any, y: Any = None) -> Any:
            loss, grads = super().loss(X, y)
            return loss, self.change(grads, self)

    faults: dict[str, Any] = {
        "right": lambda grads, _: grads,
        "`dW1` is 20 times too large": lambda grads, _: grads | {"W1": 20 * grads["W1"]},
        "the penalty is missing in `dW1`": lambda grads, net: grads | {"W1": grads["W1"] - net.reg * net.params["W1"]},
    }
    net, rows = Net(3072, 100, 10), []
    net.params["W1"] *= 0.004
    X, y = draw(20, 3072), RNG.integers(0, 10, 20)
    for name, change in faults.items():
        faulty = copy.copy(net)
        faulty.change = change  # type: ignore[method-assign]
        started = time.process_time()
        result = run(faulty.loss, X, y, params=faulty.params, gradient="returned")
        seconds = time.process_time() - started
        failing = [c for c in result.comparisons if c.verdict is Verdict.FAIL]
        cause = (failing[0].diagnosis or "").partition(";")[0] if failing else "-"
        where = ", ".join(dict.fromkeys(f"`{c.wrt}`" for c in failing)) or "-"
        rows.append((name, result.verdict.value, where, cause, str(result.evaluations), f"{seconds:.1f} s"))
    return rows


def main() -> None:
    """Write the page."""
    rows = list(make_rows())
    right = sum(row[2] == "PASS" for row in rows)
    columns = ("code", "form", "right", "evaluations", "time", "3 times too large: named", "largest entry missing: named")
    page = [
        *study_page.make_heading("Code with hand-written gradients, as people write it", __file__, ["numpy", "gradcheck"]),
        "The code is in `tests/support/own_code`. Nothing is wrapped. A fault counts as named if exactly one input fails.",
        "",
        f"{right} of {len(rows)} right examples pass.",
        "",
        *study_page.make_table(columns, rows),
        "",
        "## A network of 3072, 100 and 10 units",
        "",
        "308,310 parameters in float64, 20 samples. The times are CPU seconds of one core.",
        "",
        *study_page.make_table(("gradient", "verdict", "wrong", "cause", "evaluations", "time"), check_large_network()),
    ]
    study_page.write_page(page, study_page.page_path(__file__))


if __name__ == "__main__":
    main()
