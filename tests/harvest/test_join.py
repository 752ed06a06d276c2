import sys

import pytest

from gradcheck.harvest.join import join_parts
from gradcheck.harvest.parent import run_watched

SETTINGS = {"include": [], "budget": 1.0, "options": {}, "replay": ""}
EMPTY = {"loaded": [], "not_recorded": {}}


def test_calls_that_are_lost_are_the_only_message():
    (message,) = join_parts([EMPTY], lost=2).messages
    assert message.startswith("2 processes ended before the recorded calls could be checked")
    (message,) = join_parts([EMPTY]).messages
    assert message.startswith("no call found")


@pytest.mark.parametrize(
    ("command", "advice"),
    [(["true"], ["is gradcheck installed"]), ([sys.executable, "no_such_script.py"], [])],
)
def test_advice_fits_what_was_seen(command, advice):
    outcome = run_watched(command, SETTINGS)
    assert [message[: len("is gradcheck installed")] for message in outcome.messages[1:]] == advice
