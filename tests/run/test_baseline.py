"""A case that a baseline lists passes; it fails if it is gone or fails in another way."""

import json

import pytest
from typer.testing import CliRunner

from gradcheck.cli import app
from gradcheck.errors import UsageError
from gradcheck.report.html import page
from gradcheck.report.terminal import run_tables
from gradcheck.results import CheckResult, Contract, Intent, Reason, RunResult, Verdict
from gradcheck.run import baseline

SOURCE = """
import numpy as np
from gradcheck import case, normal

@case(x=normal(3), gradient=lambda x: 2 * x)
def right(x): return np.sum(x**2)

@case(x=normal(3), gradient=lambda x: 3 * x)
def wrong(x): return np.sum(x**2)

@case(x=normal(3), y=normal(3), gradient=lambda x, y: (y, 2 * x))
def half_wrong(x, y): return np.sum(x * y)
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    (tmp_path / "listed.py").write_text(SOURCE)
    return tmp_path


def run(*words):
    return CliRunner().invoke(app, ["run", "listed.py", "--baseline", "known.json", *words])


def listed(path):
    return {one["case"]: one for one in json.loads((path / "known.json").read_text())["known"]}


def entries(*known):
    return json.dumps({"gradcheck_baseline": 1, "known": [{"case": c, "failure": f, "because": b} for c, f, b in known]})


WRONG = ("listed.py:wrong", "FAIL disagrees: x", "waits for the new kernel")
HALF = ("listed.py:half_wrong", "FAIL disagrees: y", "waits for the new kernel")


def test_known_failures_pass_with_their_reason_and_others_are_judged_as_usual(project):
    (project / "known.json").write_text(entries(WRONG, HALF))
    done = run("--json", "run.json")
    assert done.exit_code == 0
    assert "FAIL (known: waits for the new kernel)" in done.stdout
    assert "3 passed (2 of them known to the baseline)" in done.stdout
    data = json.loads((project / "run.json").read_text())
    assert (data["verdict"], data["counts"]["known"]) == ("PASS", 2)
    (project / "known.json").write_text(entries(WRONG))
    done = run("-q")
    assert (done.exit_code, "2 passed, 1 failed (1 of them known" in done.stdout) == (1, True)


@pytest.mark.parametrize(
    ("known", "said"),
    [
        (("listed.py:right", "FAIL disagrees: x", "was so"), "although the baseline lists FAIL disagrees: x: Remove the entry"),
        (("listed.py:half_wrong", "FAIL disagrees: x, y", "b"), "(the baseline lists another failure: FAIL disagrees: x, y)"),
        (("listed.py:gone", "FAIL disagrees: x", "was so"), "listed.py:gone    FAIL\n  stale-baseline: the baseline lists it"),
    ],
)
def test_a_listed_case_that_is_gone_or_fails_in_another_way_fails(project, known, said):
    (project / "known.json").write_text(entries(*{one[0]: one for one in (WRONG, HALF, known)}.values()))
    done = run()
    assert done.exit_code == 1
    assert "1 failed" in done.stdout
    assert said in done.stdout


def test_only_what_a_run_would_have_planned_can_be_gone(project):
    elsewhere = ("elsewhere.py:gone", "FAIL disagrees: x", "b")
    (project / "known.json").write_text(entries(WRONG, HALF, elsewhere))
    assert run("-q").exit_code == 0
    assert run("-q", "-k", "right").exit_code == 0
    (project / "known.json").write_text(entries(WRONG, HALF, ("listed.py:gone", "FAIL disagrees: x", "b")))
    assert run("-q", "-k", "gone or right").exit_code == 1
    assert run("-q", "-k", "right").exit_code == 0


def test_updating_lists_failures_only_with_a_reason(project):
    done = run("-q", "--update-baseline")
    assert done.exit_code == 2
    assert "listed.py:wrong, listed.py:half_wrong would be new in the baseline: say why with --reason '...'" in done.stderr
    assert "2 failed" in done.stdout
    assert not (project / "known.json").exists()
    done = run("-q", "--update-baseline", "--reason", "first")
    assert done.exit_code == 0
    assert "known.json lists 2 known failures" in done.stderr
    assert listed(project)["listed.py:half_wrong"]["failure"] == "FAIL disagrees: y"


def test_without_a_file_yet_no_failure_is_known(project):
    done = run("-q")
    assert "gradcheck: there is no baseline known.json yet, so no failure is known" in done.stderr
    assert (done.exit_code, "1 passed, 2 failed" in done.stdout) == (1, True)
    (project / "gradcheck.toml").write_text('baseline = "known.json"\n')
    done = CliRunner().invoke(app, ["run", "listed.py:right"])
    assert (done.exit_code, "there is no baseline" in done.stderr) == (0, True)


def test_the_replay_of_a_listed_case_names_the_baseline(project):
    (project / "known.json").write_text(entries(WRONG, HALF, ("listed.py:right", "FAIL disagrees: x", "was so")))
    (command,) = [line.partition(": ")[2] for line in run().stdout.splitlines() if line.startswith("replay: ")]
    assert command == "gradcheck run listed.py:right --baseline known.json --seed 0"
    again = CliRunner().invoke(app, command.split()[1:])
    assert (again.exit_code, "although the baseline lists" in again.stdout) == (1, True)


def test_an_update_keeps_what_another_run_has_written_meanwhile(project):
    (project / "slow.py").write_text(
        "import numpy as np, pathlib\nfrom gradcheck import case, normal\n"
        "@case(x=normal(3), gradient=lambda x: 3 * x)\ndef slow(x):\n"
        f"    pathlib.Path('known.json').write_text({entries(WRONG)!r})\n    return np.sum(x**2)\n"
    )
    done = CliRunner().invoke(
        app, ["run", "slow.py", "-q", "--baseline", "known.json", "--update-baseline", "--reason", "later"]
    )
    assert done.exit_code == 0
    assert set(listed(project)) == {"listed.py:wrong", "slow.py:slow"}


def test_an_update_keeps_unchanged_entries_and_removes_those_that_are_gone(project):
    stale = ("listed.py:right", "FAIL disagrees: x", "was so")
    changed = ("listed.py:half_wrong", "FAIL disagrees: x", "old")
    elsewhere = ("elsewhere.py:kept", "FAIL disagrees: x", "b")
    (project / "known.json").write_text(
        entries(WRONG, stale, changed, elsewhere, ("listed.py:gone", "FAIL outside-kink: x", "b"))
    )
    assert run("-q", "--update-baseline", "--reason", "new").exit_code == 0
    found = {case: one["because"] for case, one in listed(project).items()}
    assert found == {
        "elsewhere.py:kept": "b",
        "listed.py:half_wrong": "new",
        "listed.py:wrong": "waits for the new kernel",
    }
    assert [*found] == sorted(found)
    assert run("-q").exit_code == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "the baseline known.json is not valid JSON"),
        ("[]", "known.json is not a baseline: expected 'gradcheck_baseline': 1"),
        ('{"gradcheck_baseline": 2, "known": []}', "known.json has version 2: expected 'gradcheck_baseline': 1; move it"),
        ('{"gradcheck_baseline": true, "known": []}', "known.json has version True"),
        ('{"gradcheck_baseline": 1}', "expected 'gradcheck_baseline' and a list 'known'"),
        ('{"gradcheck_baseline": 1, "known": {}}', "expected 'gradcheck_baseline' and a list 'known'"),
        ('{"gradcheck_baseline": 1, "known": [{"case": "a"}]}', "expected case, failure and because"),
        (entries(("a", "FAIL", " ")), "expected case, failure and because, each a text that is not empty"),
        (entries(WRONG, WRONG), "lists listed.py:wrong twice"),
    ],
)
def test_a_baseline_that_cannot_be_read_ends_the_run_before_it_begins(project, text, said):
    (project / "known.json").write_text(text)
    done = run()
    assert (done.exit_code, done.stdout) == (2, "")
    assert said in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--reason", "x"], "use it with --update-baseline"),
        (["--update-baseline", "--shard", "1/2"], "leave out --shard"),
        (["--update-baseline", "-x"], "leave out --fail-fast"),
    ],
)
def test_contradicting_options_are_refused(project, words, said):
    (project / "known.json").write_text(entries())
    done = run(*words)
    assert (done.exit_code, said in done.stderr) == (2, True)


def test_an_update_without_a_place_is_refused(project):
    done = CliRunner().invoke(app, ["run", "listed.py", "--update-baseline", "--reason", "x"])
    assert (done.exit_code, "--update-baseline needs a file: give --baseline PATH" in done.stderr) == (2, True)


def test_a_baseline_that_cannot_be_written_is_said_before_anything_is_run(project):
    done = CliRunner().invoke(
        app, ["run", "listed.py", "-q", "--baseline", "nowhere/known.json", "--update-baseline", "--reason", "x"]
    )
    assert (done.exit_code, "cannot write nowhere/known.json" in done.stderr, done.stdout) == (2, True, "")


def test_the_configuration_can_name_it(project):
    (project / "gradcheck.toml").write_text("baseline = 'kept/known.json'\n[[target]]\ntarget = 'listed.py'\n")
    (project / "kept").mkdir()
    (project / "kept" / "known.json").write_text(entries(WRONG, HALF))
    assert CliRunner().invoke(app, ["run", "-q"]).exit_code == 0


# --- without running anything


def result(verdict, reason, *contracts, known=None, **more):
    intents = (Intent("known", known, "later"),) if known else ()
    return CheckResult("m:f", "m:f", verdict, reason, contracts=contracts, intents=intents, **more)


def of(*results):
    return RunResult("0", {}, 0, {}, results)


BROKEN = Contract("state", Verdict.FAIL, "")


def test_a_failure_is_described_without_what_is_tolerated():
    broken = result(
        Verdict.FAIL, Reason.CONTRACT_BROKEN, BROKEN, Contract("accumulation", Verdict.FAIL, "", tolerated="meant"),
        Contract("empty-batch", Verdict.INCONCLUSIVE, ""),
    )  # fmt: skip
    assert broken.failure == "FAIL contract-broken: contract state"
    assert result(Verdict.PASS, Reason.AGREES).failure == "PASS agrees"


@pytest.mark.parametrize(
    ("verdict", "reason", "more", "known", "outcome"),
    [
        (Verdict.FAIL, Reason.DISAGREES, {}, "FAIL disagrees", Verdict.PASS),
        (Verdict.FAIL, Reason.OUTSIDE_KINK, {}, "FAIL disagrees", Verdict.FAIL),
        (Verdict.PASS, Reason.AGREES, {}, "FAIL disagrees", Verdict.FAIL),
        (Verdict.ERROR, Reason.TARGET_RAISED, {}, "ERROR target-raised", Verdict.PASS),
        (Verdict.ERROR, Reason.WORKER_DIED, {}, "FAIL disagrees", Verdict.ERROR),
        (Verdict.INCONCLUSIVE, Reason.JUMP, {}, "FAIL disagrees", Verdict.INCONCLUSIVE),
        (Verdict.INCONCLUSIVE, Reason.JUMP, {}, "INCONCLUSIVE jump", Verdict.PASS),
        (Verdict.FAIL, Reason.DISAGREES, {"expect": "fail"}, "FAIL disagrees", Verdict.FAIL),
        (Verdict.PASS, Reason.AGREES, {"expect": "fail"}, "PASS agrees", Verdict.PASS),
    ],
)
def test_outcomes_of_listed_cases(verdict, reason, more, known, outcome):
    found = result(verdict, reason, known=known, **more)
    assert found.outcome is outcome
    for text in (run_tables.render(of(found)), page.render(of(found))):
        assert "baseline" in text or "known: later" in text


@pytest.mark.parametrize(
    ("verdict", "reason", "strict", "listed"),
    [
        (Verdict.FAIL, Reason.DISAGREES, False, "FAIL disagrees"),
        (Verdict.ERROR, Reason.TARGET_RAISED, False, "ERROR target-raised"),
        (Verdict.INCONCLUSIVE, Reason.JUMP, False, None),
        (Verdict.INCONCLUSIVE, Reason.JUMP, True, "INCONCLUSIVE jump"),
        (Verdict.PASS, Reason.AGREES, True, None),
        (Verdict.ERROR, Reason.WORKER_DIED, True, None),
        (Verdict.ERROR, Reason.TIMEOUT, True, None),
        (Verdict.ERROR, Reason.INTERNAL, True, None),
        (Verdict.ERROR, Reason.BAD_INPUT, True, None),
    ],
)
def test_failures_are_listed_and_transient_errors_are_not(verdict, reason, strict, listed):
    found = baseline.update_known_failures({}, of(result(verdict, reason)), "why", strict=strict)
    assert found == ({"m:f": Intent("known", listed, "why")} if listed else {})


def test_a_transient_error_does_not_remove_an_entry():
    known = {"m:f": Intent("known", "FAIL disagrees", "later")}
    assert (
        baseline.update_known_failures(
            known, of(result(Verdict.ERROR, Reason.TIMEOUT, known="FAIL disagrees")), "", strict=False
        )
        == known
    )
    gone = baseline.update_known_failures(
        known, of(result(Verdict.PASS, Reason.AGREES, known="FAIL disagrees")), "", strict=False
    )
    assert gone == {}


def test_a_text_that_is_written_is_read_again(tmp_path):
    known = {"m:ü": Intent("known", "FAIL disagrees: params['a \"b\"']", "später\nmehr"), "a": Intent("known", "x", "y")}
    (tmp_path / "known.json").write_text(baseline.to_json(known), encoding="utf-8")
    assert baseline.read(tmp_path / "known.json") == known


def test_a_blank_reason_is_refused():
    with pytest.raises(UsageError, match="say why with --reason"):
        baseline.update_known_failures({}, of(result(Verdict.FAIL, Reason.DISAGREES)), "  ", strict=False)
