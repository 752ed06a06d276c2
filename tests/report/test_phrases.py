"""Phrases that reports share."""

import pytest

from gradcheck.report.phrases import split_layer_path


@pytest.mark.parametrize(
    ("path", "known", "expected"),
    [
        ("blocks.1.norm", {"", "blocks", "blocks.1"}, ("blocks.1", "norm")),
        ("layers[1]", {""}, ("", "layers[1]")),
        ("layers[1].parts['a.b']", {"", "layers[1]", "layers[1].parts"}, ("layers[1].parts", "['a.b']")),
        ("layers[1].parts['a.b']", {"", "layers[1]"}, ("layers[1]", "parts['a.b']")),
        ("affine_backward", {""}, ("", "affine_backward")),
    ],
)
def test_the_path_of_a_layer_is_split_at_the_innermost_layer_around_it(path, known, expected):
    assert split_layer_path(path, known) == expected
