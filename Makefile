# Two commands need nothing but python3 (3.11 to 3.13) and make: `make demo` and `make test`.
# Both set up .venv themselves and are quick when nothing changed.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
# A process for each core, of one thread each: most tests are too small to share a core.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses logical --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all test-gpu test-browser test-matrix bench docs lint hashes licences audit clean

help: ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(INSTALLED) ## create .venv and install l2reg with the pinned versions

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if (3, 11) <= v < (3, 14) else f"l2reg needs Python 3.11 to 3.13, found {v[0]}.{v[1]}; name another one: make PYTHON=python3.11 ...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing into .venv (a minute or two the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,dev]'
	@touch $@

demo: setup ## phantom lungs -> train -> predict -> submission -> score -> report, in minutes
	$(BIN)/python examples/demo.py

lint: setup ## format check, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

test: lint ## lint and every test that takes seconds (also on the real scans where L2REG_DATA names them)
	$(PYTEST)

test-all: lint ## the slow tests as well
	$(PYTEST) -m "not gpu and not container and not browser"

test-gpu: setup ## what needs a CUDA device: networks, losses, training, registration, the submission image
	$(BIN)/python -m pytest -m gpu

test-browser: setup ## the report in Chromium (apt-get install chromium)
	$(BIN)/python -m pytest -m browser

test-matrix: setup ## the tests on each Python 3.11 to 3.13 that is installed (or PYTHONS="..."), and on the lowest versions
	$(BIN)/python -m tools.matrix .cache/matrix $(if $(PYTHONS),--python $(PYTHONS))

hashes: setup ## constraints-hashed.txt anew, after a change of constraints.txt
	$(BIN)/python -m tools.hashes

licences: setup ## docs/licences.md anew
	$(BIN)/python -m tools.licences

audit: ## known vulnerabilities of what is installed; fails if a package cannot be looked up
	@test -x .cache/audit/bin/pip-audit || ($(PYTHON) -m venv .cache/audit && .cache/audit/bin/pip install --quiet pip-audit)
	.cache/audit/bin/pip-audit --strict --no-deps --disable-pip -r constraints.txt

bench: setup ## time and memory of the operators, beside plain forms and MONAI
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	$(BIN)/python -m benchmarks.operators.bench_operators

docs: setup ## the documentation as pages: site/index.html
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict
	@echo site/index.html

clean: ## remove what the commands made, but not .venv
	rm -rf demo .cache runs out site
