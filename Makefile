# `make demo` and `make test` are all a fresh machine needs: each makes .venv on its first run.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: demo test check lint types unit coverage guide examples docs clean

demo: $(STAMP)
	$(BIN)/gradcheck run gradcheck.reference

test: check unit

check: lint types

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

unit: $(STAMP)
	$(BIN)/pytest -n 2

guide: $(STAMP) # what the pages take from the code: heads, tables, and the output of their examples
	$(BIN)/python reports/guide/api_page.py
	$(BIN)/python reports/guide/code_pages.py
	$(BIN)/python reports/guide/page_examples.py --update README.md $$(find gradcheck/guide -name '*.md')

examples: $(STAMP) # every example of README and guide, those that take minutes too
	$(BIN)/python reports/guide/page_examples.py README.md $$(find gradcheck/guide -name '*.md')

docs: $(STAMP) # the guide as a site, in dist/site
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	$(BIN)/zensical build --clean --strict --config-file .zensical.toml

coverage: $(STAMP) # the same tests; measuring takes half as long again
	$(BIN)/pytest -n 2 --cov --cov-report=term:skip-covered

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "gradcheck needs Python 3.11 or newer; got " + sys.version.split()[0] + " (set PYTHON=...)")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .coverage dist
