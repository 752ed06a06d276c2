"""README and guide: every example runs and prints what the page shows, every link leads somewhere, every code has its page."""

import re
from pathlib import Path

import code_pages
import page_examples
import pytest
from hatchling.builders.wheel import WheelBuilder
from markdown_it import MarkdownIt

from gradcheck.cli.guide_pages import CODES, GUIDE, SECTIONS, read_pages

ROOT = Path(__file__).resolve().parents[2]
PAGES = {str(path.relative_to(ROOT)): path for path in [*sorted(GUIDE.rglob("*.md")), ROOT / "README.md"]}
READMES = {str(path.relative_to(ROOT)): path for path in sorted([*ROOT.glob("plugins/*/README.md"), *ROOT.glob("*/README.md")])}
FAST = [name for name, path in PAGES.items() if code_pages.SLOW not in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("name", FAST)
def test_the_examples_of_a_page_print_what_it_shows(name):
    differences, _ = page_examples.run_page(PAGES[name])
    assert not differences, "\n".join(f"{name}:{one.line}\n{one.text}" for one in differences)


@pytest.mark.parametrize("name", [*PAGES, *READMES])
def test_every_link_leads_to_a_page_and_a_heading(name):
    path = {**PAGES, **READMES}[name]
    text = path.read_text(encoding="utf-8")
    sources = re.findall(r'(?:src|srcset|href)="([^"]+)"', text)
    for link in [*_links(text), *sources]:
        if re.match(r"[a-z]+:", link):
            continue
        target, _, anchor = link.partition("#")
        page = (path.parent / target).resolve() if target else path
        assert page.exists(), f"{name} links to {link}"
        if anchor:
            assert anchor in _anchors(page.read_text(encoding="utf-8")), f"{name} links to {link}"


def _links(text):
    tokens = [token for block in MarkdownIt().parse(text) for token in block.children or ()]
    return [token.attrGet("href") or token.attrGet("src") for token in tokens if token.type in ("link_open", "image")]


def _anchors(text):
    headings = re.findall(r"^#+ (.+)$", text, flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_page_of_each_code_says_what_the_code_says_and_has_an_example_that_names_it():
    heads = code_pages.describe_codes()
    for name, head in heads.items():
        text = (GUIDE / name).read_text(encoding="utf-8").removeprefix(code_pages.SLOW)
        assert text.startswith(head + code_pages.EXAMPLE), f"{name}: run `make guide`"
        assert f"explain {Path(name).stem}" in text or re.search(rf"\b{Path(name).stem}\b", text[len(head) :]), name
    assert {f"{page.section}/{page.name}.md" for page in read_pages() if page.section in CODES} == {*heads}


@pytest.mark.parametrize("name", code_pages.describe_whole_pages())
def test_a_page_that_comes_from_the_code_is_up_to_date(name):
    shown, made = (re.sub(r"(?s)```console.*?```", "", text) for text in (  # the examples have a test of their own
        (GUIDE / name).read_text(encoding="utf-8"), code_pages.describe_whole_pages()[name]))  # fmt: skip
    assert shown == made, "run `make guide`"


def test_the_navigation_of_the_site_lists_every_page():
    assert code_pages.SITE.read_text(encoding="utf-8").endswith(code_pages.describe_navigation()), "run `make guide`"


def test_every_page_is_in_a_section_and_has_a_name_of_its_own():
    found = {path.relative_to(GUIDE).parent.as_posix() for path in GUIDE.rglob("*.md")}
    assert found - {"."} <= {*SECTIONS}
    articles = [page.name for page in read_pages() if page.section not in CODES]
    assert len(articles) == len({*articles})
    assert not {*articles} & {page.name for page in read_pages() if page.section in CODES}


def test_the_wheel_contains_every_page():
    files = {file.distribution_path for file in WheelBuilder(str(ROOT)).recurse_included_files()}
    assert {f"gradcheck/guide/{path.relative_to(GUIDE).as_posix()}" for path in GUIDE.rglob("*.md")} <= files


def test_the_readme_fits_on_a_screen_or_two():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 200
    assert len(re.sub(r"(?s)```.*?```", "", text).split()) <= 1100


def test_an_output_that_changed_is_a_difference(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```pycon\n>>> 1 + 1\n2\n>>> 'a' * 2\n'b'\n```\n\n```console\n$ echo right\nwrong\n```\n")
    differences, text = page_examples.run_page(page)
    assert [difference.line for difference in differences] == [2, 9]
    assert text == "```pycon\n>>> 1 + 1\n2\n>>> 'a' * 2\n'aa'\n```\n\n```console\n$ echo right\nright\n```\n"


@pytest.mark.parametrize(
    ("shown", "printed", "alike"),
    [
        ("3 evaluations, 1.2 s", "12 evaluations, 0.4 s", True),
        ("rel err 1.3e-12", "rel err 9.0e-10", True),
        ("rel err 8.8e-01", "rel err 8.9e-01", True),
        ("rel err 8.8e-01", "rel err 7.8e-01", False),
        ("PASS\n...\n1 passed", "PASS\nmore\nand more\n1 passed", True),
        ("PASS\n...\n1 passed", "PASS\nmore\n2 passed", False),
        ("3 of 4 entries", "2 of 4 entries", False),
    ],
)
def test_what_counts_as_the_same_output(shown, printed, alike):
    assert page_examples.is_alike(shown, printed) == alike
