# All set-up is done by the targets themselves: only Python 3.11 and make need to be there.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
export S2S_DATA ?= $(abspath ../shared/data)
# Tests and jobs start a hundred processes: each would compile the same modules again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help install demo test test-all coverage lint format bench same lock clean

help:
	@echo "make demo     set up, then prepare, train, evaluate, translate and serve the embedded corpus"
	@echo "make test     set up, then check style, types and import contracts, and run the tests"
	@echo "make test-all the same, the slow tests, and branch coverage"
	@echo "make coverage branch coverage of the tests, and whether it is above its floor"
	@echo "make install  make $(VENV) from requirements.lock"
	@echo "make lint     style, types, import contracts (part of make test)"
	@echo "make format   let ruff format the code and mend what it can"
	@echo "make bench    measure this machine (benchmarks/README.md)"
	@echo "make same     compare what the commands do with a commit: make same REV=<commit>"
	@echo "make lock     write requirements.lock anew from pyproject.toml"
	@echo "make clean    remove $(VENV) and all that was built"

install: $(INSTALLED)

$(INSTALLED): requirements.lock pyproject.toml
	@echo "== installing into $(VENV) with pip, from requirements.lock (a few minutes)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --requirement requirements.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(INSTALLED)

demo: install
	@echo "== the demo: prepare, train with 2 Ray workers, evaluate, translate, serve"
	@$(BIN)/python -m jobs.demo

# Two processes; tests/conftest.py says which tests must share one.
PYTEST := $(BIN)/python -m pytest -rs --numprocesses 2 --dist loadfile --no-loadscope-reorder

test: lint
	@echo "== tests (on real Ray clusters, HTTP servers and files; some minutes)"
	@$(PYTEST)

# Measured here and not by `make test`: to trace branches takes Python 3.11 half as long again.
coverage: install
	@echo "== tests with branch coverage"
	@$(PYTEST) --cov --cov-report=term:skip-covered

test-all: lint coverage
	@echo "== slow tests: long runs, memory, clusters that grow and shrink"
	@$(BIN)/python -m pytest -rs -m slow

lint: install
	@echo "== style, types, import contracts"
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

format: install
	@$(BIN)/ruff check --quiet --fix .
	@$(BIN)/ruff format .

bench: install
	@echo "== training speed on this machine"
	@$(BIN)/python -m benchmarks.train

same: install
	@$(BIN)/python -m benchmarks.same $(REV)

lock:
	@echo "== resolving pyproject.toml into requirements.lock"
	@rm -rf $(VENV) && $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet torch==2.13.0 setuptools
	@$(BIN)/pip install --quiet --no-build-isolation --editable '.[all,dev,wandb]'
	@$(BIN)/pip freeze --exclude-editable --all --exclude pip | sed 's/+cpu$$//' > requirements.lock

clean:
	rm -rf $(VENV) build dist s2s_nmt.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage
