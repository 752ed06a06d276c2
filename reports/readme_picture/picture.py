"""The picture at the top of the README: the first check of the README in a terminal, in light and dark colours.

python reports/readme_picture/picture.py            # writes reports/readme_light.svg and readme_dark.svg
"""

from __future__ import annotations

import contextlib
import io
import re
import tempfile
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import DEFAULT_TERMINAL_THEME, SVG_EXPORT_THEME, TerminalTheme
from rich.text import Text

from gradcheck.options import Options
from gradcheck.report.terminal import run_tables
from gradcheck.run.plan import Request, build_replay_command, plan
from gradcheck.run.runner import run

ROOT = Path(__file__).resolve().parents[2]
COMMAND = "gradcheck run mine.py"
WIDTH = 80  # columns of the report; the picture has a margin of two more
THEMES = {"light": DEFAULT_TERMINAL_THEME, "dark": SVG_EXPORT_THEME}


def run_first_check() -> str:
    """Check the first Python block of the README and return what the terminal shows, with colours."""
    code = re.search(r"```python\n(# mine\.py\n.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)
    if code is None:
        raise SystemExit("README.md has no block that begins with `# mine.py`")
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        Path("mine.py").write_text(code[1], encoding="utf-8")
        options = Options()
        result = run(plan(Request(targets=["mine.py"])), options, replay=build_replay_command(options, []))
    return run_tables.render(result, width=WIDTH, color=True)


def draw(text: str, theme: TerminalTheme) -> str:
    """Draw a terminal that shows the command and its output, as SVG."""
    console = Console(record=True, width=WIDTH + 2, file=io.StringIO(), force_terminal=True, highlight=False)
    console.print(Text.assemble(("$ ", "dim"), (COMMAND, "bold")))
    for line in text.rstrip("\n").split("\n"):
        console.print(Text.from_ansi(line), soft_wrap=True)
    console.print()
    return console.export_svg(title="", theme=theme, unique_id=f"gradcheck-{len(text)}", clear=False)


if __name__ == "__main__":
    shown = run_first_check()
    for name, theme in THEMES.items():
        (ROOT / "reports" / f"readme_{name}.svg").write_text(draw(shown, theme), encoding="utf-8")
