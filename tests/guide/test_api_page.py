"""The page of the Python API is in step with the docstrings, and names everything that is public."""

import api_page

import gradcheck


def test_the_page_is_made_from_the_docstrings_of_today():
    text = api_page.PAGE.read_text(encoding="utf-8")
    assert text.endswith(api_page.describe_api()), "run `make guide`"


def test_the_page_names_everything_that_is_public():
    text = api_page.describe_api()
    assert [name for name in dir(gradcheck) if not name.startswith("_") and name not in text] == []
