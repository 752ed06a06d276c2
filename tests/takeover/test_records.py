import json
import math

import pytest

from gradcheck.glossary.verdicts import Verdict
from gradcheck.takeover.records import Category, Outcome, TakeoverCall, TakeoverRun
from gradcheck.takeover.session import Takeover
from gradcheck.takeover.storage import Store, read_calls

CALL = TakeoverCall(
    "lib.check",
    test="tests/test_layers.py::test_gelu[float64-3]",
    file="/suite/tests/test_layers.py",
    line=12,
    theirs=Outcome.PASSED,
    verdict=Verdict.FAIL,
    reason="disagrees",
    tolerances={"atol": 1e-2},
    passes_zero_gradient=True,
    looseness=1e4,
)


@pytest.mark.parametrize(
    ("theirs", "verdict", "category"),
    [
        (Outcome.PASSED, Verdict.PASS, Category.AGREE_PASS),
        (Outcome.FAILED, Verdict.FAIL, Category.AGREE_FAIL),
        (Outcome.PASSED, Verdict.FAIL, Category.FINDING),
        (Outcome.FAILED, Verdict.PASS, Category.THEIRS_FAILED),
        (Outcome.UNKNOWN, Verdict.FAIL, Category.OURS_ALONE),
        (Outcome.PASSED, Verdict.INCONCLUSIVE, Category.INCONCLUSIVE),
        (Outcome.PASSED, Verdict.ERROR, Category.NOT_COMPARED),
        (Outcome.PASSED, None, Category.NOT_COMPARED),
    ],
)
def test_the_category_of_a_call(theirs, verdict, category):
    assert TakeoverCall("lib.check", theirs=theirs, verdict=verdict).category is category


def test_a_run_survives_json():
    run = TakeoverRun("report", 5.0, (CALL, TakeoverCall("lib.check")), {"lib.check": "intercepted"}, seconds=3.0)
    data = json.loads(json.dumps(run.to_dict()))
    again = TakeoverRun.from_dict(data)
    assert again.calls[0] == CALL
    assert math.isnan(again.calls[1].looseness)
    assert (data["kind"], data["schema_version"], data["calls"][0]["category"]) == ("takeover", 1, "finding")
    assert data["totals"]["calls"] == 2
    assert data["totals"]["finding"] == data["totals"]["not-compared"] == data["totals"]["passes_zero_gradient"] == 1


def test_the_id_of_a_test_without_its_parameters():
    assert CALL.test_function == "tests/test_layers.py::test_gelu"


def test_half_a_line_of_a_process_that_was_killed_is_left_out(tmp_path):
    store = Store(tmp_path)
    store.write(CALL)
    store.close()
    (path,) = tmp_path.iterdir()
    path.write_text(path.read_text() + '{"checker": "lib')
    assert read_calls(tmp_path) == ((CALL,), 1)


def test_names_that_are_no_text_are_stored(tmp_path):
    store, call = (
        Store(tmp_path),
        TakeoverCall("lib.check", test="\ud800", file="\x1b[31m", theirs_message="a\nb", looseness=1.0),
    )
    store.write(call)
    store.close()
    assert read_calls(tmp_path)[0] == (call,)


def test_a_test_judges_the_number_that_a_checker_returned(tmp_path):
    takeover = Takeover("report", 5.0, folder=tmp_path, checkers=())
    store = Store(tmp_path)
    for test in ("a", "b", "c"):
        store.write(TakeoverCall("lib.norm", test=test, verdict=Verdict.PASS))
    store.close()
    run = takeover.collect({"a": True, "b": False}, {"c": 0, "b": 1, "a": 2})
    assert [(call.test, call.category) for call in run.calls] == [
        ("c", Category.OURS_ALONE),
        ("b", Category.THEIRS_FAILED),
        ("a", Category.AGREE_PASS),
    ]


def test_the_temporary_folder_is_removed():
    takeover = Takeover("report", 5.0, checkers=())
    takeover.start()
    takeover.stop()
    takeover.collect()
    assert not takeover.folder.exists()
