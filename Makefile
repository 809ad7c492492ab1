# Needs Python 3.11 or newer, nothing else: `make demo`, `make test`.

PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
TESTS ?= tests
# One more than the cores of a small machine: many tests wait for their scripts.
JOBS ?= 3

.DEFAULT_GOAL := help
.PHONY: help install install-dev demo test lint format schema bench corpus test-other-pythons clean

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | while IFS='|' read -r name text; do \
		printf '%-28s%s\n' "$$name" "$$text"; done

demo: $(VENV)/.installed ## Audit a small training script that has four faults
	@OMP_NUM_THREADS=1 $(BIN)/audit run -o report.html -o report.md fixtures/demo/train.py; code=$$?; \
	if [ $$code -gt 1 ]; then exit $$code; fi; \
	printf '\nThe script: fixtures/demo/train.py\nThe report: %s\n            %s\n' \
		"$(CURDIR)/report.html" "$(CURDIR)/report.md"

test: lint ## Lint, type-check and run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(TESTS)

lint: $(VENV)/.installed-dev ## Lint and type-check only
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev ## Format the sources
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

schema: $(VENV)/.installed ## Write the JSON schema of an audit into the repository
	$(BIN)/audit schema > reports/audit.schema.json

bench: $(VENV)/.installed ## Measure what observation costs per step
	$(BIN)/python tests/benchmarks/overhead.py

corpus: $(VENV)/.installed ## Measure how often the audit is right, and put the table into the README
	OMP_NUM_THREADS=1 $(BIN)/python tests/benchmarks/corpus.py --half report --jobs $(JOBS) --readme

test-other-pythons: ## Run what needs no torch on Python 3.12 and 3.13, where they are present
	bash .ci/other-pythons

clean: ## Remove everything that make and the tools have made
	rm -rf $(VENV) .venv-* build dist *.egg-info .audit .mypy_cache .pytest_cache .ruff_cache .hypothesis
	rm -f report.html report.md
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

install: $(VENV)/.installed ## Install into .venv
install-dev: $(VENV)/.installed-dev ## Install into .venv, with what the tests need

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo 'Python 3.11 or newer is needed; name it: make PYTHON=/path/to/python3.11' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# torch first and by itself: it is the largest download, so pip shows its progress. An editable install compiles
# nothing, and what a script's own process imports late is never written: an audit would compile it at each start.
$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install -c constraints.txt torch
	$(PIP) install --quiet -c constraints.txt -e '.[fix]'
	$(BIN)/python -m compileall -q auditor rules reports
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) install --quiet -c constraints.txt -e '.[fix,dev,frameworks]'
	@touch $@
