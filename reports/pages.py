"""Opens HTML reports in headless Chromium and holds them to what they promise.

`python reports/pages.py [PAGE.html ...]` looks at reports/sample.html where none is named. `--axe axe.min.js` also puts each
page through the accessibility checker axe-core (`npm install axe-core`), light and dark; `--pictures FOLDER` keeps pictures of
it, 390 and 1,100 pixels wide, and as it is printed. The exit code is 1 where a promise is not kept.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import browser

PHONE, DESK = 390, 1100
SECONDS = 5.0  # that a page may take to open
SHOWN = "[...document.querySelectorAll('details.case')].filter(c => !c.hidden)"
UNFOLD = "document.querySelectorAll('details').forEach(d => { d.open = true; d.style.contentVisibility = 'visible' })"
WRONG = "axe.run().then(found => found.violations.map(v => v.id + ': ' + v.nodes[0].target.join(' ')))"


def main() -> None:
    """Look at every page and say what is wrong with it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("pages", nargs="*", type=Path, default=[Path(__file__).with_name("sample.html")])
    parser.add_argument("--axe", type=Path)
    parser.add_argument("--pictures", type=Path)
    given = parser.parse_args()
    wrong = 0
    with browser.page() as tab:
        for place in given.pages:
            found = list(broken(tab, place, given.axe))
            wrong += len(found)
            told = [f"{place}: {f'{len(found)} wrong' if found else 'fine'}", *(f"  {line}" for line in found)]
            sys.stdout.write("".join(f"{line}\n" for line in told))
            if given.pictures:
                pictures(tab, place, given.pictures)
    sys.exit(bool(wrong))


def broken(tab: browser.Page, place: Path, axe: Path | None) -> Iterator[str]:
    """What a page does not keep of its promises."""
    tab.look(width=DESK)
    began = time.perf_counter()
    tab.open(place)
    took = time.perf_counter() - began
    if took > SECONDS:
        yield f"takes {took:.1f} s to open"
    yield from _filters(tab)
    yield from _quiet(tab, place)
    tab.run(UNFOLD)
    for width in (PHONE, DESK):
        tab.look(width=width)
        if tab.run("document.documentElement.scrollWidth") > width:
            yield f"is wider than a window of {width} pixels"
    for dark in (False, True) if axe else ():
        tab.look(width=DESK, dark=dark)
        tab.open(place)
        tab.run(UNFOLD)
        tab.run(axe.read_text(encoding="utf-8"))
        yield from (f"{'dark' if dark else 'light'}: {told}" for told in tab.run(WRONG))
    yield from _without_scripts(tab, place)


def _filters(tab: browser.Page) -> Iterator[str]:
    """Each button shows its cases, the box those whose name it holds."""
    for wanted in tab.run("[...document.querySelectorAll('.filter button')].map(b => b.dataset.wanted)"):
        tab.run(f"document.querySelector('.filter button[data-wanted={wanted}]').click()")
        all_ = "details.case" if wanted == "all" else f"details.case[data-outcome={wanted}]"
        if tab.run(f"{SHOWN}.length") != tab.run(f"document.querySelectorAll('{all_}').length"):
            yield f"the filter {wanted} shows other cases"
        rows = tab.run("[...document.querySelectorAll('tr[data-outcome]')].filter(row => !row.hidden).length")
        counted = rows or tab.run(f"{SHOWN}.length")
        if tab.run("document.querySelector('.filter [role=status]').textContent") != f"{counted} shown":
            yield f"the filter {wanted} does not count {counted}"
    tab.run("document.querySelector('.filter button').click()")
    names = tab.run("[...document.querySelectorAll('details.case')].map(c => c.dataset.name)")
    box = "const box = document.querySelector('.filter input')"
    for typed in dict.fromkeys([*names[:1], "no such name", ""]):
        tab.run(f"{{ {box}; box.value = {typed!r}; box.dispatchEvent(new Event('input')) }}")
        if tab.run(f"{SHOWN}.length") != sum(typed.lower() in name.lower() for name in names):
            yield f"typing {typed!r} shows other cases"


def _quiet(tab: browser.Page, place: Path) -> Iterator[str]:
    """Nothing on the console, and nothing asked of other places."""
    for told in tab.told("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"):
        yield f"on the console: {told}"
    for told in tab.told("Network.requestWillBeSent"):
        url = told["request"]["url"]
        if url != place.resolve().as_uri() and not url.startswith("data:"):
            yield f"asks for {url}"


def _without_scripts(tab: browser.Page, place: Path) -> Iterator[str]:
    """Every case can be read, and no button stands there that would do nothing."""
    tab.call("Emulation.setScriptExecutionDisabled", value=True)
    tab.open(place)
    tab.call("Emulation.setScriptExecutionDisabled", value=False)
    if tab.run(f"{SHOWN}.length") != tab.run("document.querySelectorAll('details.case').length"):
        yield "without scripts some cases cannot be seen"
    if tab.run("document.querySelector('.filter').checkVisibility()"):
        yield "without scripts the filter is shown although it does nothing"


def pictures(tab: browser.Page, place: Path, folder: Path) -> None:
    """Keep pictures of a page."""
    folder.mkdir(parents=True, exist_ok=True)
    for width in (PHONE, DESK):
        for dark in (False, True):
            tab.look(width=width, dark=dark)
            tab.open(place)
            tab.picture(folder / f"{place.stem}-{width}-{'dark' if dark else 'light'}.png")
    tab.printed(folder / f"{place.stem}.pdf")


if __name__ == "__main__":
    main()
