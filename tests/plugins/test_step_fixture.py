STEP = """
import torch

PIECES = {
    "model": torch.nn.Linear(2, 1),
    "loss": lambda model, batch: model(batch).square().mean(),
    "batch": torch.ones(3, 2),
    "laws": ("receives",),
}


def test_right(gradcheck_step):
    assert gradcheck_step(**PIECES).ok


def test_wrong(gradcheck_step):
    gradcheck_step(**{**PIECES, "loss": lambda model, batch: model(batch).detach().mean()})
"""


def test_the_fixture_fails_a_test_with_the_table(pytester):
    pytester.makepyfile(STEP)
    done = pytester.runpytest()
    done.assert_outcomes(passed=1, failed=1)
    done.stdout.fnmatch_lines(["E*GradientError: FAIL: law receives: weight*no parameter receives a gradient*"])
