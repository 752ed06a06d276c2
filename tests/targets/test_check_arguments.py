"""The keywords of `check`, `assert_gradients` and `fuzz`: declared once, documented, and shown by `help`."""

import inspect
import pydoc
from dataclasses import fields
from typing import get_type_hints

import numpy as np
import pytest

import gradcheck
from gradcheck.options import OptionArguments, Options
from gradcheck.run.config.schema import CASE_KEYS, TARGET_KEYS
from gradcheck.targets.check_arguments import (
    DEFAULTS,
    CaseArguments,
    CheckArguments,
    FuzzArguments,
    document_arguments,
)

CALLS = [gradcheck.check, gradcheck.assert_gradients, gradcheck.fuzz]
OPTIONS = {field.name for field in fields(Options)}


def test_every_keyword_has_a_default_and_a_documentation():
    assert list(DEFAULTS) == list(get_type_hints(CaseArguments))
    documentation = inspect.getdoc(CaseArguments)
    assert all(f"\n    {name}: " in documentation for name in DEFAULTS)


def test_every_option_can_be_given_as_a_keyword():
    assert set(get_type_hints(OptionArguments)) == OPTIONS - {"budget", "nondeterministic"}
    assert set(get_type_hints(CheckArguments)) == OPTIONS | set(DEFAULTS)
    assert set(get_type_hints(FuzzArguments)) == (OPTIONS | set(DEFAULTS)) - {"budget"}


def test_the_decorator_and_the_configuration_take_the_same_names():
    of_decorator = set(inspect.signature(gradcheck.case).parameters) - {"args", "inputs", "options", "specs"}
    assert of_decorator == set(DEFAULTS) - {"kwargs"}
    of_configuration = set(TARGET_KEYS) - {"target", "inputs", "optimizer", "partners", *CASE_KEYS}
    assert of_configuration == set(DEFAULTS) - {"kwargs"}


@pytest.mark.parametrize("call", CALLS)
def test_help_shows_and_documents_every_keyword(call):
    parameters = inspect.signature(call).parameters
    assert {name: parameters[name].default for name in DEFAULTS} == DEFAULTS
    assert all(parameters[name].kind is inspect.Parameter.KEYWORD_ONLY for name in DEFAULTS)
    text = pydoc.plain(pydoc.render_doc(call))
    assert all(f" {name}: " in text for name in (*DEFAULTS, "fn", "*inputs", "**options"))
    assert "**arguments" not in text


@pytest.mark.parametrize("call", CALLS)
def test_a_misspelt_keyword_is_a_usage_error(call):
    with pytest.raises(gradcheck.UsageError, match=r"^unknown option gradeint=1; did you mean gradient=\?$"):
        call(np.sum, np.ones(3), gradeint=1)
    with pytest.raises(gradcheck.UsageError, match=r"^unknown option trails=2; did you mean trials=\?"):
        call(np.sum, np.ones(3), trails=2)


def test_a_function_without_a_docstring_is_left_without_one():
    def call(fn, **arguments):
        return fn, arguments

    assert document_arguments(call).__doc__ is None
    assert list(inspect.signature(call).parameters) == ["fn", *DEFAULTS, "options"]
