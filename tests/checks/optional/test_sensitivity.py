import numpy as np
import pytest
import torch

import gradcheck
from gradcheck import Verdict, normal


def table_of(fn, *inputs, **arguments):
    return gradcheck.check(fn, *inputs, checks=("sensitivity",), **arguments).checks[0]


def test_features_are_ranked_by_slope_times_size():
    x = np.array([[1.0, 100.0, 1.0], [1.0, -100.0, -1.0]])
    table = table_of(lambda x: np.sum(x @ np.array([3.0, 0.1, 0.0]) ** 1), x, framework="numpy")
    assert [row.label for row in table.rows] == ["x[..., 1]", "x[..., 0]", "x[..., 2]"]
    assert table.rows[0].values[0] == pytest.approx(0.1 * np.sqrt(2) * 100)
    assert sum(row.values[1] for row in table.rows) == pytest.approx(1)
    assert "x[..., 1] matters most" in table.conclusion


def test_a_detached_input_is_reported_as_dead():
    table = table_of(lambda x, w: (x * w.detach()).sum(), normal(3), normal(3), framework="torch")
    assert "dead: w (" in table.conclusion
    assert {row.label for row in table.rows if row.remark == "dead"} == {"w[0]", "w[1]", "w[2]"}


def test_an_input_is_dead_only_if_it_is_dead_in_every_trial():
    def sometimes(x, w):
        return x.sum() + torch.relu(w).sum()

    once = table_of(sometimes, normal(2), normal(1), framework="torch", seed=1)
    often = table_of(sometimes, normal(2), normal(1), framework="torch", seed=1, trials=12)
    assert [row.remark for row in often.rows] == ["", "", ""]
    assert "12 trials" not in often.conclusion
    assert once.verdict is often.verdict is Verdict.PASS


def test_a_parameter_that_never_matters_is_dead_over_all_trials():
    table = table_of(lambda x, w: x.sum() + (0 * w).sum(), normal(2), normal(1), framework="torch", trials=4)
    assert "dead: w (the claim is exactly zero in all 4 trials" in table.conclusion


def test_random_signs_of_many_outputs_give_about_the_root_sum_of_squares():
    table = table_of(lambda x: x * torch.arange(1.0, 101.0, dtype=torch.float64)[:, None], torch.ones(100, 1).double())
    assert table.rows[0].values[0] == pytest.approx(np.linalg.norm(np.arange(1, 101)), rel=1e-9)


def test_a_leaf_with_many_features_gets_one_row():
    assert [row.label for row in table_of(torch.sin, normal(3, 100)).rows] == ["arg0"]


def test_complex_entries_count_once():
    table = table_of(lambda z: (z * z.conj()).real.sum(), normal(3, dtype="complex128"), framework="torch")
    assert len(table.rows) == 3
