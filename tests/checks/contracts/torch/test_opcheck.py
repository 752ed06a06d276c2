"""Operators registered with torch.library, on the inputs that they really get."""

import logging
import re

import pytest
from lawful import Function
from registered import REMARKED, RIGHT, TWO, WRONG

import gradcheck
from gradcheck import Verdict
from gradcheck.glossary.contracts import CONTRACTS


def opcheck(result):
    return next(c for c in result.contracts if c.name == "opcheck")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", RIGHT)
def test_a_right_operator_passes(name, dtype):
    layer, inputs = RIGHT[name]
    result = gradcheck.check(layer, *inputs, dtype=dtype, framework="torch", mode="probe")
    assert result.verdict is Verdict.PASS, str(result)
    assert opcheck(result).message == CONTRACTS["opcheck"]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", WRONG)
def test_an_operator_that_breaks_its_declaration_is_caught(name, dtype):
    layer, message = WRONG[name]
    result = gradcheck.check(layer, *TWO, dtype=dtype, framework="torch", mode="probe")
    assert all(c.verdict is Verdict.PASS for c in result.comparisons), str(result)
    assert (result.verdict, opcheck(result).verdict) == (Verdict.FAIL, Verdict.FAIL), str(result)
    assert re.search(message, opcheck(result).message), opcheck(result).message
    assert f"operator registered.{name}.default" in opcheck(result).message


@pytest.mark.parametrize("name", REMARKED)
def test_a_missing_or_raising_fake_implementation_is_remarked(name, caplog):
    layer, message = REMARKED[name]
    result = gradcheck.check(layer, *TWO, framework="torch", mode="probe")
    assert (result.verdict, opcheck(result).verdict) == (Verdict.PASS, Verdict.INCONCLUSIVE), str(result)
    assert message in opcheck(result).message
    assert all(record.levelno < logging.WARNING for record in caplog.records)


def test_it_is_not_tried_without_a_registered_operator():
    assert "no operator" in opcheck(gradcheck.check(Function, *TWO, mode="probe")).message
