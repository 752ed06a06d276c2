"""A grid from the command line to its reports: every cell is a case like any other."""

import csv
import io
import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gradcheck.cli import app

SOURCE = """
import numpy as np
import torch
from gradcheck import case, normal

def sine(x):
    return np.sum(np.sin(x))

def cosine(x):
    return np.cos(x) * (1 if len(x) < 4 else 2)

def tanh(x):
    return torch.tanh(x)

@case(x=normal("batch"), gradient=np.cos, options={"dims": {"batch": [1, 2]}})
def declared(x):
    return np.sum(np.sin(x))

class Scaled(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.linear = torch.nn.Linear(width, 2)
    def forward(self, x):
        return torch.tanh(self.linear(x))
"""
SINE = ("swept.py:sine", "--gradient", "swept.py:cosine", "--methods", "analytic", "--input", "normal(batch, 2)")
GRID = ("--dim", "batch=2,4", "--dtype", "float32,float64")


@pytest.fixture(autouse=True)
def project(write, monkeypatch):
    write({"swept.py": SOURCE})
    monkeypatch.setenv("COLUMNS", "80")


def gradcheck(*words):
    return CliRunner().invoke(app, words)


def run(*words):
    done = gradcheck("run", *words, "--json", "-")
    return done.exit_code, {result["case"].rpartition(":")[2]: result for result in json.loads(done.stdout)["results"]}


def numbers(result):
    return [(row["claimed"], row["estimate"], row["bound"], row["verdict"]) for row in result["comparisons"]]


def test_every_cell_is_a_case_with_its_values_in_the_json():
    code, results = run(*SINE, *GRID, "--seed", "0,1")
    assert code == 1
    assert {name: result["verdict"] for name, result in results.items()} == {
        f"sine[dtype={dtype}, batch={batch}, seed={seed}]": "PASS" if batch == 2 else "FAIL"
        for dtype in ("float32", "float64")
        for batch in (2, 4)
        for seed in (0, 1)
    }
    cell = results["sine[dtype=float32, batch=4, seed=1]"]
    assert cell["sweep"] == {"dtype": "float32", "batch": 4, "seed": 1}
    assert (cell["seed"], cell["comparisons"][0]["dtype"], cell["comparisons"][0]["shape"]) == (1, "float32", [4, 2])


def test_a_replay_repeats_exactly_one_cell():
    _, results = run(*SINE, *GRID, "--seed", "0,1")
    cell = results["sine[dtype=float32, batch=4, seed=1]"]
    replay = re.sub(r" --mode \w+$", "", cell["replay"])
    assert replay.endswith("-k '[dtype=float32, batch=4, seed=1]' --seed 0,1")
    _, repeated = run(*SINE, *GRID, "--seed", "0,1", "-k", "[dtype=float32, batch=4, seed=1]")
    assert list(repeated) == ["sine[dtype=float32, batch=4, seed=1]"]
    assert numbers(repeated.popitem()[1]) == numbers(cell)


def test_a_cell_sees_the_inputs_of_a_run_with_its_values_alone():
    _, results = run(*SINE, *GRID, "-v")
    _, alone = run(*SINE, "--dim", "batch=2", "--dtype", "float32", "-v")
    assert numbers(alone["sine"]) == numbers(results["sine[dtype=float32, batch=2]"])
    assert alone["sine"]["sweep"] == {}


def test_processes_and_shards_run_the_same_cells(tmp_path):
    _, results = run(*SINE, *GRID)
    _, parallel = run(*SINE, *GRID, "-j", "2")
    assert {name: numbers(result) for name, result in parallel.items()} == {n: numbers(r) for n, r in results.items()}
    for part in ("1", "2"):
        gradcheck("run", *SINE, *GRID, "--shard", f"{part}/2", "--json", f"{part}.json")
    merged = gradcheck("merge", "1.json", "2.json", "-q")
    assert merged.exit_code == 1
    assert "swept.py:sine  4 cells: dtype, batch" in merged.stdout


def test_a_baseline_lists_cells_and_another_grid_does_not_make_them_stale():
    update = ("--baseline", "known.json", "--update-baseline", "--reason", "wrong from 4 rows on")
    assert gradcheck("run", *SINE, *GRID, *update).exit_code == 0
    known = [entry["case"].rpartition(":")[2] for entry in json.loads(Path("known.json").read_text())["known"]]
    assert known == ["sine[dtype=float32, batch=4]", "sine[dtype=float64, batch=4]"]
    code, results = run(*SINE, *GRID, "--baseline", "known.json")
    assert (code, len(results)) == (0, 4)
    code, results = run(*SINE, "--dim", "batch=2,3", "--baseline", "known.json")
    assert (code, list(results)) == (0, ["sine[batch=2]", "sine[batch=3]"])


def test_a_cell_that_the_configuration_no_longer_has_is_stale(tmp_path):
    entry = '[[target]]\ntarget = "swept.py:sine"\ngradient = "swept.py:cosine"\ninputs = ["normal(batch, 2)"]\n'
    (tmp_path / "gradcheck.toml").write_text(f"{entry}dims = {{ batch = [4, 5] }}\n")
    gradcheck("run", "--baseline", "known.json", "--update-baseline", "--reason", "wrong from 4 rows on")
    (tmp_path / "gradcheck.toml").write_text(f"{entry}dims = {{ batch = [4, 6] }}\n")
    code, results = run("--baseline", "known.json", "-k", "batch=4 or batch=5")
    assert (code, results["sine[batch=5]"]["reason"]) == (1, "stale-baseline")


def test_the_configuration_has_lists_for_all_targets_and_for_one(tmp_path):
    (tmp_path / "gradcheck.toml").write_text(
        'seed = [3, 4]\ndtype = ["float32", "float64"]\n'
        '[[target]]\ntarget = "swept.py:sine"\ninputs = ["normal(batch, n)"]\ndims = { batch = [1, 2], n = "1..2" }\n'
        '[[target]]\ntarget = "swept.py:tanh"\nname = "half"\ninputs = ["normal(3)"]\ndtype = ["bfloat16"]\n'
    )
    cells = [f"sine[dtype={d}, batch={b}, seed={s}]" for d in ("float32", "float64") for b in (1, 2) for s in (3, 4)]
    listed = [line.rpartition(":")[2] for line in gradcheck("list").stdout.splitlines()]
    assert listed == [*cells, "tanh[half, seed=3]", "tanh[half, seed=4]"]
    code, results = run("--dtype", "float64", "--seed", "0")
    assert (code, list(results)) == (0, ["sine[batch=1]", "sine[batch=2]", "tanh[half]"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dtype = []", "gradcheck.toml:1: dtype=[]: expected at least one value"),
        ('dtype = ["float32", "f32"]', "gradcheck.toml:1: dtype=['float32', 'f32']: float32 is there twice"),
        ("dtype = [32]", "gradcheck.toml:1: dtype = [32]: expected a dtype, or several for a grid of cases"),
        ("seed = [0, 1.5]", "gradcheck.toml:1: seed = [0, 1.5]: expected an integer, or several"),
        ('dims = { n = [1, "8..9"] }', "gradcheck.toml:1: dims: --dim n=1,8..9: a list or a range, not both"),
    ],
)
def test_a_mistake_in_the_configuration_is_named_with_its_line(tmp_path, text, message):
    (tmp_path / "gradcheck.toml").write_text(f"{text}\n")
    done = gradcheck("run", *SINE)
    assert (done.exit_code, message in done.output) == (2, True), done.output


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--dtype", "float32,bfloat17"], 2, "dtype='bfloat17': did you mean bfloat16"),
        (["--dtype", "float32,"], 2, "dtype='': expected one of float64"),
        (["--dtype", "float32,single"], 2, "float32 is there twice"),
        (["--dim", "btach=1,8"], 2, "--dim btach=...: no input has a size of that name (there are: batch)"),
        (["--dim", "batch=1,8..16"], 2, "--dim batch=1,8..16: a list or a range, not both"),
        (["--dim", "batch="], 2, "--dim batch=: expected name=size, name=low..high or name=size,size"),
        (["--dim", "batch=1,"], 2, "--dim batch=1,: expected name=size"),
        (["--dim", "batch=1", "--dim", "batch=8"], 2, "batch is given twice; for several sizes write --dim batch=1,8,64"),
        (["--dim", "batch=1,8,1"], 2, "batch=[1, 8, 1]: 1 is there twice"),
        (["--seed", "0,x"], 2, "--seed 0,x: expected an integer, or several with commas, as in --seed 0,1,2"),
        (["--seed", "1.5"], 2, "--seed 1.5: expected an integer"),
        (["--seed", ",".join(map(str, range(1001)))], 2, "the grid has 1,001 cells"),
        (["--dim", "batch=1,8", "-k", "batch=9"], 5, "no case matches -k 'batch=9'; there are swept.py:sine[batch=1], swept"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else None,
)
def test_a_wrong_use_gets_one_message(words, code, message):
    done = gradcheck("run", *SINE, *words)
    assert done.exit_code == code
    assert message in done.output
    assert len(done.output.splitlines()) == 1


def test_a_search_takes_one_value_and_the_first_of_a_declaration():
    done = gradcheck("fuzz", "swept.py:declared", "--seed", "0,1")
    assert (done.exit_code, "seed=[0, 1]: a search takes one value" in done.output) == (2, True)
    done = gradcheck("fuzz", "swept.py:declared", "--examples", "3")
    assert (done.exit_code, "swept.py:declared  numpy  PASS" in done.stdout) == (0, True)


def test_a_module_class_is_built_at_every_dtype():
    words = ("--init", "width=3", "--input", "normal(batch, 3)", "--dim", "batch=2", "--dtype", "float32,bfloat16")
    _, results = run("swept.py:Scaled", *words)
    dtypes = {name: {row["dtype"] for row in result["comparisons"]} for name, result in results.items()}
    assert dtypes == {"Scaled[dtype=float32]": {"float32"}, "Scaled[dtype=bfloat16]": {"bfloat16"}}


def test_a_cell_that_ran_in_another_dtype_says_so(write):
    write({"jaxed.py": "import jax.numpy as jnp\ndef tanh(x):\n    return jnp.tanh(x)\n"})
    words = ("--input", "normal(2)", "--framework", "jax", "--dtype", "float32,float64", "-q")
    shown = gradcheck("run", "jaxed.py:tanh", *words).stdout
    ends = [line.partition("PASS")[2] for line in shown.splitlines() if line.startswith("float")]
    assert ends == ["", " (ran in float32)"]


def test_every_report_has_one_table_with_a_row_per_cell():
    words = ("swept.py:tanh", "--input", "normal(n)", "--dtype", "float32,bfloat16", "--dim", "n=2,4")
    files = ("--csv", "grid.csv", "--html", "grid.html", "--markdown", "grid.md")
    shown = gradcheck("run", *words, *files).stdout
    table = shown[shown.index("swept.py:tanh  4 cells: dtype, n") :]
    rows = [line.split() for line in table.splitlines()[3:7]]
    assert [row[:2] for row in rows] == [[dtype, n] for dtype in ("float32", "bfloat16") for n in ("2", "4")]
    assert [row[4:7] for row in rows[:2]] == [["-"] * 3] * 2
    assert all(0 < float(row[6]) < 4 and float(row[3]) < 0.02 for row in rows[2:])
    markdown = Path("grid.md").read_text()
    assert all(f"| {' | '.join(row[:-1])} | ✅ PASS |" in markdown for row in rows)
    page = " ".join(re.sub(r"<[^>]+>", " ", Path("grid.html").read_text()).split())
    assert all(" ".join(row[:-1]) in page for row in rows)
    leaves = list(csv.DictReader(io.StringIO(Path("grid.csv").read_text())))
    assert [(leaf["dtype"], leaf["n"], leaf["order"], leaf["wrt"]) for leaf in leaves] == [
        ("float32", "2", "1", "x"),
        ("float32", "4", "1", "x"),
        *[("bfloat16", n, *leaf) for n in ("2", "4") for leaf in (("0", "output"), ("1", "x"))],
    ]
    assert [f"{float(leaf['abs_err']):.1e}" for leaf in leaves if leaf["order"] == "1"] == [row[2] for row in rows]


@pytest.mark.parametrize("columns", ["60", "80", "140"])
def test_no_line_of_a_table_is_wider_than_the_terminal(monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    shown = gradcheck("run", *SINE, *GRID, "--seed", "0,1", "-q").stdout
    assert max(len(line) for line in shown.splitlines() if not line.startswith("replay: ")) <= int(columns)
    assert shown.count("disagrees") == 4


def test_a_run_without_a_grid_has_no_table_of_cells_and_its_csv_no_columns_for_it():
    shown = gradcheck("run", "swept.py:tanh", "--input", "normal(2)", "--csv", "-")
    (leaf,) = csv.DictReader(io.StringIO(shown.stdout))
    assert (leaf["case"], leaf["verdict"], leaf["wrt"], leaf["ratio"]) == ("swept.py:tanh", "PASS", "x", "")
    assert "seed" not in leaf
    assert "cells" not in shown.stderr
