import json
import os
import subprocess
import sys

import pytest

LAYERS = """
import torch
class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x
    @staticmethod
    def backward(ctx, g):
        return 2 * ctx.saved_tensors[0] * g
class Wrong(Square):
    @staticmethod
    def backward(ctx, g):
        print("backward of the user")
        return 3 * ctx.saved_tensors[0] * g
"""
PROGRAM = """
import sys
import layers, torch
class Own(layers.Square):
    pass
def main(name):
    for _ in range(3):
        getattr(layers, name).apply(torch.arange(3.0, requires_grad=True)).sum().backward()
    Own.apply(torch.ones(2, requires_grad=True)).sum().backward()
    print("loss 1.0", sys.argv[2:])
if __name__ == "__main__":
    main(sys.argv[1])
    {end}
"""


@pytest.fixture
def watch(tmp_path, monkeypatch):
    """Write a program with an end, and run it under the command."""
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (tmp_path / "layers.py").write_text(LAYERS)

    def watched(*words, end="", options=()):
        (tmp_path / "train.py").write_text(PROGRAM.replace("{end}", end))
        command = [
            sys.executable,
            "-m",
            "gradcheck",
            "watch",
            *options,
            "--",
            *(words or (sys.executable, "train.py", "Square")),
        ]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    return watched


def test_right_functions_pass_and_the_program_writes_what_it_writes(watch, tmp_path):
    done = watch(sys.executable, "train.py", "Square", "--eps", "1", options=("--json", "run.json", "--draft", "cases.txt"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("loss 1.0 ['--eps', '1']\n")
    assert "2 passed" in done.stdout
    run = json.loads((tmp_path / "run.json").read_text())
    assert [result["case"] for result in run["results"]] == ["layers:Square(float32[3])", "__main__:Own(float32[2])"]
    assert run["results"][1]["line"] == 4
    assert run["command"].startswith("gradcheck watch --json run.json")
    text = (tmp_path / "cases.txt").read_text()
    assert "# layers:Square (layers.py, line 3)\n@case(x=normal(3, dtype='float32'))" in text
    assert "# train.py:Own (train.py, line 4)\n@case(x=normal(2, dtype='float32'))" in text
    assert 'target = "layers:Square"' in text


def test_a_wrong_function_fails_and_its_own_output_in_the_checks_is_not_the_program_s(watch):
    done = watch(sys.executable, "train.py", "Wrong", options=("--json", "-"), end="sys.exit(9)")
    assert done.returncode == 9, "the code of the program goes before that of the checks"
    head, brace, data = done.stdout.partition("{\n")
    assert head == 3 * "backward of the user\n" + "loss 1.0 []\n"
    assert json.loads(brace + data)["verdict"] == "FAIL"
    assert "replay: gradcheck watch --seed 0 -- " in done.stderr


@pytest.mark.parametrize(
    ("end", "code", "said"),
    [
        ("import os; os._exit(0)", 5, "1 process ended before the recorded calls could be checked"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGINT)", 130, "2 passed"),
    ],
    ids=["os._exit", "interrupted"],
)
def test_the_program_s_own_code_is_passed_on_and_what_it_called_is_checked_if_it_can_be(watch, end, code, said):
    done = watch(end=end)
    assert done.returncode == code, done.stderr
    assert said in done.stdout + done.stderr


def test_processes_that_the_program_starts_are_watched_and_their_results_joined(watch):
    child = "import subprocess; subprocess.run([sys.executable, '-c', 'import train; train.main(sys.argv[1])', 'Wrong'])"
    done = watch(end=f"{child.replace('import train', 'import sys, train')}\n    import os\n    if os.fork(): os.wait()")
    assert done.returncode == 1
    assert "3 passed, 1 failed" in done.stdout  # train:Own besides __main__:Own; the fork checks nothing


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([sys.executable, "-c", "print(1)"], 5, "1 Python process seen, 0 with PyTorch or JAX loaded"),
        (["true"], 5, "is gradcheck installed for the Python of the program"),
        (["no-such-program"], 2, "no-such-program cannot be started: No such file or directory"),
    ],
)
def test_a_program_without_calls_says_what_was_looked_for(watch, words, code, said):
    done = watch(*words)
    assert done.returncode == code
    assert said in done.stderr
    assert code == 2 or "no call found of an autograd.Function, a registered operator, an nn.Module" in done.stderr


def test_the_user_s_own_sitecustomize_runs_and_the_path_is_as_without_a_watch(watch, tmp_path, monkeypatch):
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text("import sys; sys.custom = __file__")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]))
    done = watch(sys.executable, "-c", "import sys, sitecustomize; print(sys.custom, sitecustomize.__file__, sys.path)")
    expected = subprocess.run(
        [sys.executable, "-c", "import sys, sitecustomize; print(sys.custom, sitecustomize.__file__, sys.path)"],
        capture_output=True, text=True, cwd=tmp_path, check=True,
    )  # fmt: skip
    assert done.stdout == expected.stdout


def test_a_budget_that_is_no_time_is_a_usage_error(watch):
    done = watch(options=("--budget", "soon"))
    assert done.returncode == 2
    assert "soon" in done.stderr
