# What can be done here; `make` alone explains it. Each target sets up what it needs.

PYTHON ?= python3
CONTACTS ?=
ROUNDS ?=
SECONDS ?=
SEED ?=
TESTS ?=

VENV := .venv
BIN := $(VENV)/bin
# Newer than the lock file when its packages are installed, and than pyproject.toml when Sluice is.
LOCKED := $(VENV)/.locked
INSTALLED := $(VENV)/.installed
# What the benchmark compares Sluice with needs other versions of some packages, and its own place.
BENCH_VENV := .venv-bench
BENCH_LOCK := bench/competitors/requirements.lock
COMPETITORS := $(BENCH_VENV)/.locked

# How many processes run tests, which mostly wait, and how many examples of each property they make.
PROCESSES ?= 4
PROFILE ?= ci
# Compiled once, and not by each of them.
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/pytest --numprocesses $(PROCESSES) \
	--hypothesis-profile $(PROFILE)

COUNT = $(if $(CONTACTS),--contacts $(CONTACTS))

.DEFAULT_GOAL := help
.PHONY: help setup demo up test tests test-pgbouncer lint types fmt bench bench-large chaos audit lock clean hooks matrix

help: ## explain the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

setup: $(INSTALLED) ## make .venv with everything of the lock file (the other targets do it too)

demo: setup ## show the main job from start to end on servers of its own (CONTACTS=1000000 for more)
	@$(BIN)/sluice demo $(COUNT)

up: setup ## run servers and workers here until Ctrl-C
	@$(BIN)/sluice up

test: lint ## check style, types and import direction, and run all tests (PROCESSES=4 PROFILE=nightly)
	@$(MAKE) --no-print-directory --jobs=2 types tests # side by side, since tests often wait

tests: setup ## run all tests, and nothing else
	$(PYTEST)

test-pgbouncer: setup ## run only the tests that reach Postgres through a PgBouncer
	$(PYTEST) tests/acceptance -m pgbouncer

matrix: setup ## run unit and integration tests on each Python and Postgres installed here (TESTS=tests/unit)
	@$(BIN)/python -m tests.kit.matrix --processes $(PROCESSES) --profile $(PROFILE) $(TESTS)

lint: setup ## check style, format and import direction
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache

types: setup ## check types
	$(BIN)/mypy

fmt: setup ## put the code in its standard format
	$(BIN)/ruff check --fix --exit-zero .
	$(BIN)/ruff format .

hooks: setup ## have git check code and subject at each commit
	@$(BIN)/pre-commit install

chaos: setup ## rage against the service with faults, then check it (SECONDS=120 SEED=7)
	@$(BIN)/python -m tests.chaos $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED))

bench: setup $(COMPETITORS) ## compare Sluice with its competitors: 15 to 20 minutes (CONTACTS=10000 for a quick look)
	@$(BIN)/python -m bench $(COUNT) $(if $(ROUNDS),--rounds $(ROUNDS))

bench-large: setup ## measure lists of ten million contacts: 40 minutes, and 40 GB
	@$(BIN)/python -m bench --large $(COUNT) $(if $(ROUNDS),--rounds $(ROUNDS))

audit: setup ## ask whether an advisory is known for a package of requirements.lock
	@$(BIN)/python .ci/audit.py

lock: setup ## write the lock files anew from pyproject.toml, with the newest versions it allows
	$(COMPILE) --output-file requirements.lock pyproject.toml
	$(COMPILE) --extra dev --extra embedded --output-file requirements-dev.lock pyproject.toml
	$(COMPILE) --output-file $(BENCH_LOCK) bench/competitors/requirements.in

clean: ## remove .venv, .venv-bench, .matrix and caches; the embedded servers' data in .sluice stays
	rm -rf $(VENV) $(BENCH_VENV) .matrix .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Hashes, and no address that packages come from: that is each machine's own business.
COMPILE := CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/pip-compile --quiet --upgrade \
	--generate-hashes --allow-unsafe --strip-extras --no-annotate \
	--no-emit-index-url --no-emit-find-links --no-emit-trusted-host

$(LOCKED): requirements-dev.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Sluice needs Python 3.11 or newer. Name one: make PYTHON=python3.13 $(MAKECMDGOALS)" >&2; \
		exit 1; }
	@echo "Setting up $(VENV), which takes about half a minute" >&2
	@echo "  making the environment" >&2
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python .ci/install_locked.py requirements-dev.lock
	@touch $@

$(INSTALLED): $(LOCKED) pyproject.toml
	@echo "  installing Sluice itself" >&2
	@$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check \
		--no-deps --no-build-isolation --editable .
	@touch $@
	@echo "Done: $(BIN)/sluice is the command line" >&2

$(COMPETITORS): $(BENCH_LOCK)
	@echo "Setting up $(BENCH_VENV), which takes about half a minute" >&2
	@$(PYTHON) -m venv --clear $(BENCH_VENV)
	@$(BENCH_VENV)/bin/python .ci/install_locked.py $(BENCH_LOCK)
	@touch $@
