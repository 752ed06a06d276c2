from collections import namedtuple

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gradcheck.trees import flatten

trees = st.recursive(
    st.integers(), lambda t: st.lists(t, max_size=3) | st.dictionaries(st.text(max_size=3), t, max_size=3) | st.tuples(t, t)
)


@given(trees)
def test_a_tree_taken_apart_is_put_together_again(tree):
    flat = flatten(tree, "x")
    assert flat.rebuild(flat.leaves) == tree
    assert len(flat.paths) == len(set(flat.paths)) == len(flat.leaves)


def test_a_path_reads_as_python_would_reach_the_leaf():
    point = namedtuple("point", "left right")
    flat = flatten({"a": [np.ones(1), point(2, 3)]}, "x")
    assert flat.paths == ("x['a'][0]", "x['a'][1].left", "x['a'][1].right")


def test_none_is_an_empty_tree_unless_asked_for():
    assert flatten([None, 1]).leaves == (1,)
    assert flatten([None, 1], none_is_leaf=True).leaves == (None, 1)
