"""PyTorch's loggers say nothing while gradcheck traces or compiles, and are as before afterwards."""

import logging

import numpy as np
import pytest
import torch
from elementwise import with_backward

import gradcheck
from gradcheck.backends.torch.silence_logging import silence_logging


@pytest.mark.parametrize("framework", ["numpy", "torch"])
def test_the_structured_trace_adds_no_empty_lines(framework, caplog):
    caplog.set_level(logging.DEBUG)
    if framework == "numpy":
        gradcheck.check(lambda x: np.sin(x).sum(), np.ones(3))
    else:
        gradcheck.check(with_backward(torch.sin, lambda g, x: g * torch.cos(x)), torch.ones(3, dtype=torch.float64))
    assert [record for record in caplog.records if record.name == "torch.__trace"] == []


@pytest.mark.parametrize("variable", [None, "/tmp"])
def test_the_trace_that_a_user_asks_for_stays(variable, monkeypatch):
    monkeypatch.delenv("TORCH_TRACE", raising=False)
    if variable:
        monkeypatch.setenv("TORCH_TRACE", variable)
    trace = logging.getLogger("torch.__trace")
    with silence_logging():
        assert trace.disabled is (variable is None)
    assert not trace.disabled
