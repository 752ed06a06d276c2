"""How the examples of a page are run and compared."""

import sys

import page_examples
import pytest


def run(tmp_path, text):
    path = tmp_path / "page.md"
    path.write_text(text, encoding="utf-8")
    return page_examples.run_page(path)


def test_a_command_may_go_on_in_the_next_line(tmp_path):
    differences, text = run(tmp_path, "```console\n$ echo one \\\n  two\nx\n```\n")
    assert len(differences) == 1
    assert text == "```console\n$ echo one \\\n  two\none two\n```\n"


def test_a_session_is_the_main_module_while_its_page_runs(tmp_path):
    main_module = sys.modules["__main__"]
    session = ">>> import sys\n>>> value = 3\n>>> sys.modules['__main__'].value\n3\n"
    differences, _ = run(tmp_path, f"```pycon\n{session}```\n")
    assert not differences
    assert sys.modules["__main__"] is main_module


@pytest.mark.parametrize(
    ("shown", "output"),
    [
        ("1 passed; 12 evaluations, 0.1 s, seed 0\n", "1 passed; 14 evaluations, 9.2 s, seed 0\n"),
        ("replay: gradcheck run a.py --seed 0\n", "replay: gradcheck run a.py --seed 0 --mode full\n"),
        ("a\nb\n", "a\n  contracts not tried after 10 s (--budget allows more): adjoint,\n  autocast, opcheck\nb\n"),
    ],
)
def test_what_depends_on_the_speed_of_the_machine_is_not_compared(shown, output):
    assert page_examples.is_alike(shown, output)


def test_a_changed_number_or_word_is_a_difference():
    assert not page_examples.is_alike("relative error 0.5", "relative error 0.6")
    assert not page_examples.is_alike("PASS", "FAIL")
