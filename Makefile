# make demo   the whole way on this machine, from bundled dialogues to a chat with two characters
# make test   the default test suite

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
CLIENTS := .venv-clients
NODE := tests/clients/node
VOCABULARY := $(CLIENTS)/.vocabulary
FOREIGN := $(CLIENTS)/.installed $(NODE)/node_modules/.installed

.PHONY: help demo test test-all check format openapi pictures frames clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

demo: $(VENV)/.installed ## Install, then train two small adapters, serve them and let them speak
	$(BIN)/lccc-admin demo

test: $(VENV)/.installed-test $(FOREIGN) ## Run the default test suite
	$(BIN)/python -m pytest -n auto --maxprocesses 4

test-all: $(VENV)/.installed-test $(FOREIGN) $(VOCABULARY) ## Run every test that this machine can run
	$(BIN)/python -m pytest -n auto --maxprocesses 4 -m ""

check: $(VENV)/.installed-dev ## Lint, format, types and import contracts
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed-dev ## Put the code into the house format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

openapi: $(VENV)/.installed ## Write openapi/openapi.json anew
	$(BIN)/lccc-admin openapi --output openapi/openapi.json

pictures: $(VENV)/.installed-test ## Take pictures of every page of the console (needs Chromium)
	$(BIN)/python -m tests.browser.pictures

frames: $(VENV)/.installed-test ## Measure the console's first load and long curves (needs Chromium)
	$(BIN)/python -m tests.browser.frames

clean: ## Remove the environment and caches
	rm -rf $(VENV) $(CLIENTS) $(NODE)/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed; set PYTHON=…")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) install --quiet -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP) install --quiet -c constraints.txt -e '.[test]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed-test
	$(PIP) install --quiet -c constraints.txt -e '.[dev]'
	@touch $@

# Clients of other projects, which the tests drive from outside
$(CLIENTS)/.installed: tests/clients/python/requirements.txt
	$(PYTHON) -m venv $(CLIENTS)
	$(CLIENTS)/bin/python -m pip --disable-pip-version-check install --quiet -r $<
	@touch $@

# Qwen's vocabulary, a file in a client of its makers; what that client needs is not needed
$(VOCABULARY): $(CLIENTS)/.installed
	$(CLIENTS)/bin/python -m pip --disable-pip-version-check install --quiet --no-deps dashscope==2.0.2
	@touch $@

# Without npm nothing is installed, and the tests that need it say so
$(NODE)/node_modules/.installed: $(NODE)/package-lock.json
	@if command -v npm >/dev/null; then \
		cd $(NODE) && npm ci --no-audit --no-fund --ignore-scripts --loglevel=error >/dev/null && \
		touch node_modules/.installed; \
	fi
