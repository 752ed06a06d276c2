"""Checks of HTML reports in headless Chromium: they open quickly, fit the window, filter, copy, and work without JavaScript.

`python reports/html/page_checks.py [PAGE.html ...]` checks reports/sample.html if no page is named. `--axe axe.min.js` also
runs the accessibility checker axe-core (`npm install axe-core`) on each page, light and dark. `--pictures FOLDER` saves
pictures of each page, 390 and 1,100 pixels wide, and as it is printed. The exit code is 1 if a check fails.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import chromium

PHONE, DESK = 390, 1100  # widths of the window in pixels
MAX_SECONDS = 5.0  # a page must open within this time
SHOWN_CASES = "[...document.querySelectorAll('details.case')].filter(c => !c.hidden)"
UNFOLD = "document.querySelectorAll('details').forEach(d => { d.open = true; d.style.contentVisibility = 'visible' })"
AXE_VIOLATIONS = "axe.run().then(found => found.violations.map(v => v.id + ': ' + v.nodes[0].target.join(' ')))"


def main() -> None:
    """Check every page and print the problems."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("pages", nargs="*", type=Path, default=[Path(__file__).resolve().parents[1] / "sample.html"])
    parser.add_argument("--axe", type=Path)
    parser.add_argument("--pictures", type=Path)
    arguments = parser.parse_args()
    problem_count = 0
    with chromium.open_tab() as tab:
        for place in arguments.pages:
            problems = list(find_problems(tab, place, arguments.axe))
            problem_count += len(problems)
            lines = [f"{place}: {f'{len(problems)} wrong' if problems else 'fine'}", *(f"  {line}" for line in problems)]
            sys.stdout.write("".join(f"{line}\n" for line in lines))
            if arguments.pictures:
                save_pictures(tab, place, arguments.pictures)
    sys.exit(bool(problem_count))


def find_problems(tab: chromium.Tab, place: Path, axe: Path | None) -> Iterator[str]:
    """Find the problems of a page."""
    tab.set_view(width=DESK)
    began = time.perf_counter()
    tab.open(place)
    seconds = time.perf_counter() - began
    if seconds > MAX_SECONDS:
        yield f"takes {seconds:.1f} s to open"
    yield from _check_filter(tab)
    yield from _check_copying(tab)
    yield from _check_silence(tab, place)
    tab.run_script(UNFOLD)
    for width in (PHONE, DESK):
        tab.set_view(width=width)
        if tab.run_script("document.documentElement.scrollWidth") > width:
            yield f"is wider than a window of {width} pixels"
    for dark in (False, True) if axe else ():
        tab.set_view(width=DESK, dark=dark)
        tab.open(place)
        tab.run_script(UNFOLD)
        tab.run_script(axe.read_text(encoding="utf-8"))
        yield from (f"{'dark' if dark else 'light'}: {violation}" for violation in tab.run_script(AXE_VIOLATIONS))
    yield from _check_without_scripts(tab, place)


def _check_filter(tab: chromium.Tab) -> Iterator[str]:
    """Find problems of the filter: each button shows its cases, and the box shows the cases whose name contains its text."""
    for wanted in tab.run_script("[...document.querySelectorAll('.filter button')].map(b => b.dataset.wanted)"):
        tab.run_script(f"document.querySelector('.filter button[data-wanted={wanted}]').click()")
        selector = "details.case" if wanted == "all" else f"details.case[data-outcome={wanted}]"
        if tab.run_script(f"{SHOWN_CASES}.length") != tab.run_script(f"document.querySelectorAll('{selector}').length"):
            yield f"the filter {wanted} shows other cases"
        rows = tab.run_script("[...document.querySelectorAll('tr[data-outcome]')].filter(row => !row.hidden).length")
        count = rows or tab.run_script(f"{SHOWN_CASES}.length")
        if tab.run_script("document.querySelector('.filter [role=status]').textContent") != f"{count} shown":
            yield f"the filter {wanted} does not count {count}"
    tab.run_script("document.querySelector('.filter button').click()")
    names = tab.run_script("[...document.querySelectorAll('details.case')].map(c => c.dataset.name)")
    box = "const box = document.querySelector('.filter input')"
    for typed in dict.fromkeys([*names[:1], "no such name", ""]):
        tab.run_script(f"{{ {box}; box.value = {typed!r}; box.dispatchEvent(new Event('input')) }}")
        if tab.run_script(f"{SHOWN_CASES}.length") != sum(typed.lower() in name.lower() for name in names):
            yield f"typing {typed!r} shows other cases"


def _check_copying(tab: chromium.Tab) -> Iterator[str]:
    """Find problems of the buttons that copy a command."""
    count = tab.run_script("document.querySelectorAll('.command').length")
    if tab.run_script("document.querySelectorAll('.command button').length") != count:
        yield "a command lacks its button"
    if not count:
        return
    tab.call("Runtime.evaluate", expression="document.querySelector('.command button').click()", userGesture=True)
    tab.run_script("new Promise(done => setTimeout(done, 100))")
    if tab.run_script("document.querySelector('.command button').textContent") != "copied":
        yield "the button does not copy the command"


def _check_silence(tab: chromium.Tab, place: Path) -> Iterator[str]:
    """Find messages on the console and requests to other places."""
    for event in tab.list_events("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"):
        yield f"on the console: {event}"
    for event in tab.list_events("Network.requestWillBeSent"):
        url = event["request"]["url"]
        if url != place.resolve().as_uri() and not url.startswith("data:"):
            yield f"asks for {url}"


def _check_without_scripts(tab: chromium.Tab, place: Path) -> Iterator[str]:
    """Find problems without JavaScript: every case can be read, and the filter is hidden."""
    tab.call("Emulation.setScriptExecutionDisabled", value=True)
    tab.open(place)
    tab.call("Emulation.setScriptExecutionDisabled", value=False)
    if tab.run_script(f"{SHOWN_CASES}.length") != tab.run_script("document.querySelectorAll('details.case').length"):
        yield "without scripts some cases cannot be seen"
    if tab.run_script("document.querySelectorAll('.command button').length"):
        yield "without scripts there are buttons to copy commands"
    if tab.run_script("document.querySelector('.filter').checkVisibility()"):
        yield "without scripts the filter is shown although it does nothing"


def save_pictures(tab: chromium.Tab, place: Path, folder: Path) -> None:
    """Save pictures of a page."""
    folder.mkdir(parents=True, exist_ok=True)
    for width in (PHONE, DESK):
        for dark in (False, True):
            tab.set_view(width=width, dark=dark)
            tab.open(place)
            tab.save_picture(folder / f"{place.stem}-{width}-{'dark' if dark else 'light'}.png")
    tab.save_pdf(folder / f"{place.stem}.pdf")


if __name__ == "__main__":
    main()
