from collections import OrderedDict, namedtuple
from dataclasses import dataclass, field, fields

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gradcheck import normal
from gradcheck.trees import flatten, tree_map

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


@dataclass
class Result:
    loss: object
    parts: object = None
    name: str = "run"
    norm: object = field(init=False)

    def __post_init__(self):
        MADE.append(self)
        self.norm = 2 * self.loss


MADE = []


@dataclass(frozen=True, slots=True)
class Pair:
    left: object
    right: object


def test_dataclasses_are_trees_of_all_their_fields_and_made_again_without_their_checks():
    result = Result(1, {"pair": Pair(2, [3])})
    result.extra = "kept"
    made = len(MADE)
    flat = flatten(result, "out")
    assert flat.paths == ("out.loss", "out.parts['pair'].left", "out.parts['pair'].right[0]", "out.name", "out.norm")
    again = flat.rebuild([10, 20, 30, "other", 50])
    assert (again.loss, again.parts["pair"], again.name, again.norm) == (10, Pair(20, [30]), "other", 50)
    assert again.extra == "kept"
    assert len(MADE) == made
    assert (result.loss, result.norm) == (1, 2)
    assert flatten(Result(1), "out").paths == ("out.loss", "out.name", "out.norm")
    assert tree_map(str, Pair(1, (2,))) == Pair("1", ("2",))


class ModelOutput(OrderedDict):
    """As in transformers: a dictionary of the fields that are not None, and a dataclass, that keeps both alike."""

    def __post_init__(self):
        for f in fields(self):
            if getattr(self, f.name) is not None:
                self[f.name] = getattr(self, f.name)

    def __setattr__(self, name, value):
        if name in self and value is not None:
            super().__setitem__(name, value)
        super().__setattr__(name, value)

    def __reduce__(self):
        made, _, *rest = super().__reduce__()
        return made, tuple(getattr(self, f.name) for f in fields(self)), *rest


@dataclass
class Logits(ModelOutput):
    loss: object = None
    logits: object = None


def test_what_is_a_dataclass_and_a_dictionary_stays_both():
    flat = flatten(Logits(logits=np.ones(2)), "out")
    assert flat.paths == ("out.logits",)
    again = flat.rebuild([7])
    assert (again.logits, again["logits"], again.loss, list(again)) == (7, 7, None, ["logits"])


def test_classes_derived_from_dict_are_trees_in_their_order():
    class Batch(dict):
        pass

    flat = flatten(Batch(y=1, x=Batch(a=2)), "batch")
    assert flat.paths == ("batch['y']", "batch['x']['a']")
    again = flat.rebuild([3, 4])
    assert type(again) is type(again["x"]) is Batch
    assert again == {"y": 3, "x": {"a": 4}}


def test_what_leads_back_to_itself_is_one_leaf_and_so_is_a_spec():
    circle = Pair(1, [])
    circle.right.append(circle)
    assert flatten(circle, "x").paths == ("x",)
    assert flatten({"w": normal(3)}, "x").paths == ("x['w']",)
