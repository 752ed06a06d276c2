import inspect
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from jaxtyping import (
    BFloat16,
    Bool,
    Complex,
    Complex64,
    Float,
    Float32,
    Inexact,
    Int,
    Int32,
    Integer,
    Key,
    Num,
    Real,
    Shaped,
    UInt8,
)

from gradcheck.targets.specs.annotations import parse_annotation
from gradcheck.targets.specs.spec import boolean, integers, normal


@pytest.mark.parametrize(
    ("dims", "sizes"),
    [
        ("", ()),
        ("3", (3,)),
        ("batch 3", ("batch", 3)),
        ("n n", ("n", "n")),
        ("n n+1", ("n", "n+1")),
        ("#batch ?n", ("batch", "n")),
        ("rows=4 columns=n", (4, "n")),
        ("... 3", (3,)),
        ("*batch 3", ("batch", 3)),
    ],
)
def test_dimensions_become_sizes(dims, sizes):
    assert parse_annotation(Float[np.ndarray, dims]) == normal(*sizes)


@pytest.mark.parametrize("dims", ["_ _", "_ _rows", "*_ _", "?n _"])
def test_each_anonymous_dimension_has_a_size_of_its_own(dims):
    rows, columns = parse_annotation(Float[np.ndarray, dims]).shape
    assert rows != columns


@pytest.mark.parametrize("kind", [Float, Inexact, Num, Real, Shaped])
def test_what_may_be_a_float_is_normal_in_the_checks_dtype(kind):
    assert parse_annotation(kind[np.ndarray, "n"]) == normal("n")


@pytest.mark.parametrize(
    ("annotation", "spec"),
    [
        (Float32[np.ndarray, "n"], normal("n", dtype="float32")),
        (BFloat16[np.ndarray, "n"], normal("n", dtype="bfloat16")),
        (Complex[np.ndarray, "n"], normal("n", dtype="complex128")),
        (Complex64[np.ndarray, "n"], normal("n", dtype="complex64")),
        (Int[np.ndarray, "n"], integers("n", low=0, high=2)),
        (Integer[np.ndarray, "n"], integers("n", low=0, high=2)),
        (Int32[np.ndarray, "n"], integers("n", low=0, high=2, dtype="int32")),
        (UInt8[np.ndarray, "n"], integers("n", low=0, high=2, dtype="uint8")),
        (Bool[np.ndarray, "n"], boolean("n")),
    ],
)
def test_a_dtype_in_the_annotation_is_kept(annotation, spec):
    assert parse_annotation(annotation) == spec


@pytest.mark.parametrize(
    "annotation",
    [None, int, np.ndarray, Any, "Float[Array, 'n']", list[float], inspect.Parameter.empty, Key[np.ndarray, "n"]],
)
def test_an_annotation_that_does_not_say_which_array_is_passed_over(annotation):
    assert parse_annotation(annotation) is None


@pytest.mark.parametrize("dims", ["min(a,b)", "{n}", "a/2"])
def test_a_dimension_that_is_no_size_is_passed_over(dims):
    assert parse_annotation(SimpleNamespace(dim_str=dims, dtypes=["float32"])) is None


def test_the_form_counts_and_not_the_library():
    assert parse_annotation(SimpleNamespace(dim_str="n 2", dtypes=("int16",))) == integers("n", 2, low=0, high=2, dtype="int16")
