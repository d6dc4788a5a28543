# Every target makes what it needs: a bare machine with Python >= 3.11 and make is enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help quickstart test check lint types format clean

help:
	@echo "make quickstart   train, fuse, verify and time a network on embedded data; writes runs/quickstart/report.html"
	@echo "make test         run the tests"
	@echo "make check        formatter, linter, type checker and tests"
	@echo "make format       apply the formatter and the linter's fixes"

# A stamp per set of dependencies: older than pyproject.toml means out of date.
$(VENV)/.core: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.test: $(VENV)/.core
	$(BIN)/python -m pip install --quiet --editable ".[test]"
	touch $@

quickstart: $(VENV)/.core
	$(BIN)/plainvision quickstart --out runs/quickstart

test: $(VENV)/.test
	$(BIN)/python -m pytest -m "not slow and not gpu" -n auto --maxprocesses 4

check: lint types test

lint: $(VENV)/.test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.test
	$(BIN)/mypy

format: $(VENV)/.test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache
