# Every target sets itself up; all it needs is Python 3.11 or later, make and a package registry.
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
INSTALLED_LONG := $(VENV)/.installed-long
# What shares an Airflow is not divided, see tests/conftest.py.
TWO_AT_A_TIME := -n 2
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)

.PHONY: install demo ui test test-long bench lint format clean

install: $(INSTALLED)

$(INSTALLED): pyproject.toml dev/constraints-3.3.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is needed; set PYTHON=/path/to/python3"; exit 1; }
	@echo "Installing into $(VENV), which takes about a minute"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c dev/constraints-3.3.txt -e '.[dev]'
	@touch $@

# The S3 server, the Postgres driver and the browser driver of the long tests; nothing else needs them.
$(INSTALLED_LONG): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c dev/constraints-3.3.txt -e '.[dev,faults,browser]'
	@touch $@

demo: install
	@$(BIN)/python -m dev.demo

ui: install
	@$(BIN)/python -m dev.ui

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/deptry --no-ansi airflow_provider_seedream

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: lint
	$(BIN)/python -m pytest -m 'not long' $(TWO_AT_A_TIME)

test-long: $(INSTALLED_LONG)
	$(BIN)/python -m dev.system_packages
	$(BIN)/python -m pytest -m long $(TWO_AT_A_TIME)

bench: install
	$(BIN)/python benchmarks/import_cost.py
	$(BIN)/python benchmarks/poll_cost.py
	$(BIN)/python benchmarks/gallery_cost.py
	$(BIN)/python benchmarks/callback_delay.py

clean:
	rm -rf $(VENV) .demo .ui .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
