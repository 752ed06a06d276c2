"""The page holds all of a run, escapes what is the user's, needs nothing from outside, and stays small."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import pytest
import torch
from elementwise import changed, layer

import gradcheck
from gradcheck import Verdict, normal
from gradcheck.report.html import heatmap
from gradcheck.report.html import page as page_module
from gradcheck.report.phrases import format_pair
from gradcheck.results import RunResult, Search

EVIL = "<script>alert(1)</script>"
VOID = {"meta", "link", "br", "input", "wbr"}


class Outline(HTMLParser):
    """Reads a page strictly: every tag closed, every name unique."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.tags, self.attributes, self.text = [], [], [], [], ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def results():
    wrong = gradcheck.check(layer(changed(3, factor=1.5)), normal(4, 3), name=EVIL)
    right = gradcheck.check(torch.sin, normal(3), name="right", every_entry=True)

    def raising(x):
        raise ValueError(EVIL)

    broken = gradcheck.check(raising, torch.ones(3))
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Tanh())
    layered = gradcheck.check(model, normal(2, 3), by_layer=True, name="layered")
    tables = gradcheck.check(torch.sin, normal(3), checks=("differential", "sensitivity"), name="tables")
    return wrong, right, broken, layered, tables


def page(results, **fields):
    return page_module.render(RunResult("0.1", {"python": EVIL}, 0, {}, tuple(results), **fields))


def test_a_page_is_whole_and_every_name_on_it_unique(results):
    found = Outline(page(results))
    assert len(found.ids) == len(set(found.ids))
    names = set(found.ids)
    for name, value in found.attributes:
        if name == "aria-labelledby":
            assert set(value.split()) <= names
        if name == "href" and value.startswith("#"):
            assert value[1:] in names


def test_what_is_the_user_s_is_escaped(results):
    text = page(results)
    assert text.count("<script>") == 1
    assert "&lt;script&gt;alert(1)" in text


def test_nothing_is_asked_of_other_places(results):
    found = Outline(page(results))
    places = [value for name, value in found.attributes if name in ("src", "href", "action", "srcset")]
    assert all(value.startswith(("#", "data:")) for value in places)
    assert "http" not in re.sub(r"http://www\.w3\.org/2000/svg|http-equiv", "", page(results))


def test_everything_that_was_found_is_told(results):
    text = Outline(page(results)).text
    wrong, _, _, layered, _ = results
    for c in wrong.comparisons:
        assert format_pair(c.claimed, c.estimate)[0] in text or c.verdict is Verdict.PASS
    assert any("-v does not list" in note for r in results for note in r.notes)
    assert "-v does not list" not in text
    for told in ("1 of 12 entries is wrong", "x[1, 0]", "Replay", "linear-vjp", "slope", "share", "ValueError", "0  Linear"):
        assert re.sub(r"\s+", " ", told) in re.sub(r"\s+", " ", text), told
    assert all(layer.kind in text for layer in layered.layers)


def test_a_deep_tree_scrolls_by_itself_rather_than_being_cut_off_on_a_phone(results):
    before = page([results[3]]).partition('<ul class="tree">')[0]
    assert before.endswith('<div class="wide" role="group" aria-label="Layers" tabindex="0">')


def test_pictures_have_a_title_a_description_and_their_numbers(results):
    found = Outline(page(results[:1]))
    drawings = found.tags.count("svg")
    assert drawings >= 3
    assert found.tags.count("desc") == drawings == found.tags.count("figure")
    assert found.text.count("The numbers") == drawings


def luminance(colour):
    """https://www.w3.org/TR/WCAG22/#dfn-relative-luminance."""
    parts = [int(colour[k : k + 2], 16) / 255 for k in (0, 2, 4)]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.fixture(params=["light", "dark"])
def theme(request):
    """The colours of the page."""
    css = (page_module._template_folder() / "page.css").read_text()
    part = css.split("prefers-color-scheme: dark")[request.param == "dark"]
    return dict(re.findall(r"--(text|ground|shade\d): #(\w{6})", part))


def contrast(colour, other):
    low, high = sorted((luminance(colour), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_marks_and_numbers_stand_out_on_every_shade(theme):
    for shade in range(7):
        mark = theme["ground" if heatmap._ink(shade) == "strong" else "text"]
        assert contrast(mark, theme[f"shade{shade}"]) > 4.5, shade


def test_larger_errors_are_ever_darker_or_ever_lighter_so_that_every_eye_can_tell_them_apart(theme):
    shades = [theme[f"shade{k}"] for k in range(6)]
    lightness = [luminance(shade) for shade in shades]
    assert lightness in (sorted(lightness), sorted(lightness, reverse=True))
    assert all(contrast(one, next_one) > 1.2 for one, next_one in pairwise(shades))


def test_what_a_picture_shows_is_said_no_surer_than_it_is(results):
    wrong, right, *_ = results
    assert "wrong ones lie off the diagonal" in page([wrong])
    assert "all lie on the diagonal" in page([right])
    inconclusive = [replace(c, verdict=Verdict.INCONCLUSIVE) for c in right.comparisons]
    text = page([replace(right, verdict=Verdict.INCONCLUSIVE, comparisons=tuple(inconclusive))])
    assert "right ones lie on the diagonal" in text
    assert "all lie" not in text


def test_the_bound_and_the_claim_are_named_at_two_ends_as_they_may_be_at_one_height(results):
    labels = dict(re.findall(r'text-anchor="(\w+)">(bound|reverse is off by this)</text>', page(results[:1])))
    assert labels == {"start": "bound", "end": "reverse is off by this"}


@pytest.mark.parametrize("failing", [10, 100, 200])
def test_200_cases_stay_under_3_mb(results, failing):
    wrong, right, *_ = results
    many = [replace(wrong if k < failing else right, case=f"case {k}") for k in range(200)]
    text = page(many)
    assert len(text.encode()) < 3e6
    assert text.count("<svg") >= 3 * 30


def test_the_worst_case_comes_first_and_its_verdict_before_its_name(results):
    wrong, right, broken, *_ = results
    text = page([right, replace(right, verdict=Verdict.INCONCLUSIVE, case="open"), broken, wrong])
    order = re.findall(r'<details class="case (\w+)" id="case-(\d)"', text)
    assert order == [("FAIL", "1"), ("ERROR", "2"), ("INCONCLUSIVE", "3"), ("PASS", "4")]
    assert re.findall(r'<tr data-outcome="(\w+)"', text) == [verdict for verdict, _ in order]
    assert all(row.startswith('<td><span class="verdict') for row in re.findall(r"<tr data-outcome=[^>]*>(.*)</tr>", text))


def test_date_commit_and_command_are_shown_as_far_as_they_are_known(results):
    text = page(results[:1], started="2026-11-30T11:29:05+00:00", commit="0123456789abcdef-dirty", command=f"gradcheck {EVIL}")
    assert "2026-11-30 11:29:05 UTC · commit 0123456789ab with uncommitted changes · " in text
    assert '<div class="command"><pre>gradcheck &lt;script&gt;' in text
    assert "commit" not in Outline(page(results[1:2])).text


def test_every_column_of_a_comparison_is_explained_by_a_tooltip_and_in_the_glossary(results):
    text = page(results[:1])
    heads = re.search(r'aria-label="Comparisons".*?</thead>', text, re.DOTALL)[0]
    assert heads.count(" title=") >= 6
    glossary = Outline(re.search(r'<details class="data glossary">.*?</details>', text, re.DOTALL)[0]).text
    for name in ("rel err", "bound", "right to", "reverse", "numeric"):
        assert name in glossary


def test_wrong_points_are_crosses_and_right_ones_dots(results):
    wrong, right, *_ = results
    pictures = [c.picture for c in wrong.comparisons if c.picture and c.verdict is Verdict.FAIL]
    assert [sum(picture.wrong_entries) for picture in pictures] == [1] * len(pictures)
    assert page([wrong]).count('class="off"') == len(pictures) > 0
    assert 'class="off"' not in page([right])
    older = replace(wrong.comparisons[0], picture=replace(pictures[0], wrong_entries=()))
    assert 'class="off"' not in page([replace(wrong, comparisons=(older,))])


def test_all_pictures_have_one_height(results):
    heights = re.findall(r'<svg [^>]* height="(\d+)"', page(results))
    assert len(heights) > 5
    assert len(set(heights)) == 1


def test_commands_can_be_copied_by_a_button_that_only_a_script_adds(results):
    text = page(results[:1], command="gradcheck run x.py")
    assert text.count('<div class="command">') == 3
    assert "copy</button>" not in text


def test_a_run_without_a_case_and_one_that_was_interrupted():
    assert "No case was checked" in page([])
    assert "interrupted: 0 of 3 cases are finished" in page([], interrupted=True, planned=3)


def test_wrong_entries_are_listed_in_probe_mode_too(by_name):
    found = Outline(page([by_name["wave[wide]"]]))
    assert by_name["wave[wide]"].mode == "probe"
    assert "Wrong entries of x" in found.text
    entry = next(c.where.entries[0] for c in by_name["wave[wide]"].comparisons if c.where)
    for told in (f"{entry.claimed:.6g}", f"{entry.estimate:.6g}", f"[{entry.entry[0]}]"):
        assert told in found.text


def test_the_page_shows_the_resolution_the_usual_fix_and_the_options(varied):
    text = re.sub(r"\s+", " ", Outline(page_module.render(varied)).text)
    for told in (
        "a single entry that is wrong by more would have been caught",
        "look for a mean in the forward",
        "planted faults caught",
        "layers/targets.py:7",
        "How it was run",
    ):
        assert told in text, told
    assert re.search(r"analytic is off by \S+, \S+ times the bound", text)


def test_a_search_and_its_smallest_input_are_told(results):
    searched = Search(examples=9, failed=1, regions=("n > 3",), inputs=(("x", EVIL),))
    found = Outline(page([replace(results[0], search=searched, example=f"def test(): {EVIL}")]))
    for told in ("1 failed", "rejected: n > 3", "The smallest input that fails", f"def test(): {EVIL}"):
        assert told in found.text
    assert found.tags.count("script") == 1


def test_pictures_of_what_is_wrong_are_drawn_first_as_long_as_there_is_room(results, monkeypatch):
    wrong, right, *_ = results
    monkeypatch.setattr(
        page_module, "PICTURE_BUDGET", sum(f.size for f in page_module.build_figures(wrong, "p", passed=False)) + 20_000
    )
    text = page([*(replace(right, case=f"right {k}") for k in range(50)), wrong])
    first = text.split('<details class="case')[1]
    assert first.count("<svg") >= 3
    assert re.search(r"\d+ pictures are left out, those of passed comparisons first", text)
    assert text.count("<svg") < 50


def test_of_very_many_cases_the_worst_have_a_section(results, monkeypatch):
    wrong, right, *_ = results
    monkeypatch.setattr(page_module, "MAX_SECTIONS", 3)
    monkeypatch.setattr(page_module, "MAX_OPEN_SECTIONS", 1)
    text = page(
        [*(replace(right, case=f"right {k}") for k in range(5)), *(replace(wrong, case=f"wrong {k}") for k in range(2))]
    )
    Outline(text)
    assert text.count('<details class="case') == 3
    assert len(re.findall(r'<details class="case[^>]* open>', text)) == 1
    assert "The worst 3 cases are shown below" in text
    assert all(f"right {k}" in text for k in range(5))
