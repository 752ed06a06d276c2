"""The picture of the README shows what its first check prints."""

import html
import re
import sys
from pathlib import Path

import page_examples
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", ["light", "dark"])
def test_the_picture_of_the_readme_shows_what_its_first_check_prints(name, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(ROOT / "reports" / "readme_picture"), *sys.path])
    import picture

    drawn = (ROOT / "reports" / f"readme_{name}.svg").read_text(encoding="utf-8")
    texts = (html.unescape(text).replace("\xa0", " ") for text in re.findall(r"<text[^>]*>([^<]*)</text>", drawn))
    printed = re.sub(r"\x1b\[[\d;]*m", "", picture.run_first_check())
    shown = "".join(texts).partition(picture.COMMAND)[2]
    assert page_examples.is_alike(_without_spaces(shown), _without_spaces(printed))


def _without_spaces(text):
    """Leave out spaces, table lines and numbers, which a picture cuts into pieces, and the mode, named on slow machines."""
    return re.sub(r"[\s─]+|\d+(\.\d+)?(e[+-]\d+)?", "", text).replace("--modefull", "")
