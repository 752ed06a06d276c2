"""The keyword arguments of `gradcheck.check`, `assert_gradients` and `fuzz`: names, types, defaults and documentation."""

import difflib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypedDict, TypeVar, cast

from gradcheck.errors import UsageError
from gradcheck.options import FOREIGN_OPTIONS, OptionArguments
from gradcheck.targets.dependence import DependsArgument
from gradcheck.targets.intent import NamesWithReasons

F = TypeVar("F", bound=Callable[..., Any])
# The line of a docstring that starts with PLACEHOLDER gives way to the documentation of the keywords and to OPTIONS_LINE.
PLACEHOLDER = "**arguments:"
OPTIONS_LINE = "    **options: fields of `gradcheck.Options`, such as `order`, `trials`, `seed`, `rtol`, `mode` and `dims`."


class CaseArguments(TypedDict, total=False):
    """Keywords that describe how to check one target.

    Attributes:
        gradient: hand-written derivative of a function with one real number as output. It takes the inputs of `fn` and
            returns one array if one input is differentiable, else a tuple or a mapping by argument name. Each array has the
            shape of its input. For a real function L and a complex entry a + ib it is dL/da + i dL/db, as in PyTorch. For a
            JAX target it is dL/da - i dL/db, as in JAX. For a module it may also take `params`, the parameters by name, and
            return `{'params': {name: array}}` with the rest. 'returned', or True: `fn` returns its value and its gradients
            itself, as one array, a tuple, a mapping (`dW`, `grad_W` and `W_grad` mean `W`) or a flat vector of all.
        jacobian: takes the inputs of `fn`; returns, for each input, an array of the output's shape followed by the input's.
        vjp: takes a cotangent of the output's structure, then the inputs of `fn`; returns what `gradient` would.
        jvp: takes a tangent, then the inputs of `fn`; returns the output's structure. The tangent has the structure of the
            input, with None for each leaf that is not differentiated. If several inputs are differentiable, it is a tuple.
            The tangents of a module's parameters come last, as a mapping by name. For NumPy code it may be given besides
            another derivative; it is then the method 'forward'.
        backward: the backward of a layer whose forward is `fn`. The forward returns the output, with a cache or without one;
            the backward takes a cotangent and the cache, and returns a gradient for each input, as a tuple or a mapping.
        backward_takes: what the parameters of `backward` take, in their order, as 'cache, dout': 'dout', 'cache', 'out' or
            names of inputs. Default: inferred from their names.
        params: where `fn` reads its parameters: the container of arrays, such as `net.params`, an object with arrays in its
            attributes, or paths of such attributes. They are moved on a copy of the object, and restored.
        reference: a trusted second implementation, whose value and derivative are compared with the target's. It takes
            arrays of the framework that its code uses, or is a SymPy expression in the names of the inputs. For a module:
            a module with parameters of the same names, which receives the target's parameters, or a function that takes
            `params`, all of them by name.
        wrt: argument names or leaf paths (`params['linear.weight']`) to differentiate with respect to. Default: every
            floating or complex leaf and every trainable parameter. If some inputs of a PyTorch target have `requires_grad`,
            only these inputs and the parameters.
        kwargs: inputs by name.
        init: arguments that construct the target from `fn`, a module class or a factory.
        framework: 'numpy', 'torch' or 'jax', if neither the inputs nor the code show it.
        expect: 'pass'; 'fail' for a case that must fail; 'straight-through' for a backward that replaces a derivative of
            zero; 'unbiased' for a gradient that is right on average over the random numbers drawn. All but 'pass' need
            `because`.
        because: the reason for `expect`, and for names in `detached` and `tolerates` without a reason of their own. The
            report shows it.
        detached: names or leaf paths of PyTorch or JAX inputs whose gradient must be exactly zero, or None. A mapping gives
            each name its own reason.
        tolerates: contracts that may be broken, and reasons for an INCONCLUSIVE result that are no fault. A mapping gives
            each name its own reason.
        nondeterministic: why the function returns another value on every call. The differences then count as noise.
        depends: what outputs may depend on: a rule, or rules by output. A rule is 'causal along 1', 'independent along 0',
            ('masked along 1', mask), or a list of input names. Everything else must have no influence on values and gradients.
        name: name of the case, from which its seeds derive. Default: the qualified name of `fn`.
    """

    gradient: Callable[..., Any] | str | bool | None
    jacobian: Callable[..., Any] | None
    vjp: Callable[..., Any] | None
    jvp: Callable[..., Any] | None
    backward: Callable[..., Any] | None
    backward_takes: str | tuple[str, ...]
    params: Any
    reference: Any
    wrt: str | tuple[str, ...] | None
    kwargs: Mapping[str, Any] | None
    init: Mapping[str, Any] | None
    framework: str | None
    expect: str
    because: str
    detached: NamesWithReasons
    tolerates: NamesWithReasons
    nondeterministic: str
    depends: DependsArgument
    name: str | None


DEFAULTS = cast(
    "CaseArguments",
    {
        **dict.fromkeys(CaseArguments.__annotations__),
        **dict.fromkeys(("backward_takes", "detached", "tolerates", "depends"), ()),
        **dict.fromkeys(("because", "nondeterministic"), ""),
        "expect": "pass",
    },
)


class FuzzArguments(CaseArguments, OptionArguments, total=False):
    """Keywords of `gradcheck.fuzz`, besides its own `examples` and `budget`."""


class CheckArguments(FuzzArguments, total=False):
    """Keywords of `gradcheck.check`: the description of the case, and the options of `gradcheck.Options`."""

    budget: float | None


def split_arguments(arguments: Mapping[str, Any]) -> tuple[CaseArguments, dict[str, Any]]:
    """Separate the keywords that describe the case from all others, which are options or misspelt.

    Raises:
        UsageError: if a keyword looks like one that describes the case.
    """
    case = {name: value for name, value in arguments.items() if name in DEFAULTS}
    options = {name: value for name, value in arguments.items() if name not in DEFAULTS}
    known = (*DEFAULTS, *OptionArguments.__annotations__)
    for name in options.keys() - {*known, *FOREIGN_OPTIONS}:
        near = difflib.get_close_matches(name, known, 1)
        if near and near[0] in DEFAULTS:
            raise UsageError(f"unknown option {name}={options[name]!r}; did you mean {near[0]}=?")
    return cast("CaseArguments", case), options


def document_arguments(function: F) -> F:
    """Show each keyword of `CaseArguments` in the signature and in the docstring of a function that takes `**arguments`.

    A type checker and an editor read the keywords from `Unpack[...]`; `help` and `inspect.signature` do not.
    """
    signature = inspect.signature(function)
    parameters = [parameter for parameter in signature.parameters.values() if parameter.kind is not parameter.VAR_KEYWORD]
    keywords = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=CaseArguments.__annotations__[name])
        for name, default in DEFAULTS.items()
    ]
    options = inspect.Parameter("options", inspect.Parameter.VAR_KEYWORD, annotation=Any)
    function.__signature__ = signature.replace(parameters=[*parameters, *keywords, options])  # type: ignore[attr-defined]
    if function.__doc__ and CaseArguments.__doc__:  # `python -OO` removes both.
        documentation = inspect.cleandoc(CaseArguments.__doc__).partition("Attributes:\n")[2]
        function.__doc__ = "\n".join(
            f"{documentation}\n{OPTIONS_LINE}" if line.lstrip().startswith(PLACEHOLDER) else line
            for line in inspect.cleandoc(function.__doc__).splitlines()
        )
    return function
