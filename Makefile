# What can be done here; `make` alone explains it. Each target sets up what it needs.

PYTHON ?= python3
CONTACTS ?=
SECONDS ?=
SEED ?=

VENV := .venv
BIN := $(VENV)/bin
# Newer than the lock file when its packages are installed, and than pyproject.toml when Sluice is.
LOCKED := $(VENV)/.locked
INSTALLED := $(VENV)/.installed

THROUGH_PGBOUNCER := tests/acceptance --pgbouncer -m pgbouncer

COUNT = $(if $(CONTACTS),--contacts $(CONTACTS))

.DEFAULT_GOAL := help
.PHONY: help setup demo up test test-pgbouncer lint types fmt bench load chaos lock clean

help: ## explain the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

setup: $(INSTALLED) ## make .venv with everything of the lock file (the other targets do it too)

demo: setup ## show the main job from start to end on servers of its own (CONTACTS=1000000 for more)
	@$(BIN)/sluice demo $(COUNT)

up: setup ## run servers and workers here until Ctrl-C
	@$(BIN)/sluice up

test: lint types ## check style, types and import direction, then run all tests
	$(BIN)/pytest
	$(BIN)/pytest $(THROUGH_PGBOUNCER)

test-pgbouncer: setup ## run the tests that lean most on Postgres through a PgBouncer
	$(BIN)/pytest $(THROUGH_PGBOUNCER)

lint: setup ## check style, format and import direction
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache

types: setup ## check types
	$(BIN)/mypy

fmt: setup ## put the code in its standard format
	$(BIN)/ruff check --fix --exit-zero .
	$(BIN)/ruff format .

chaos: setup ## rage against the service with faults, then check it (SECONDS=120 SEED=7)
	@$(BIN)/python -m chaos $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED))

bench: setup ## measure speed and memory (CONTACTS=100000 for less)
	@$(BIN)/python -m bench $(COUNT)

load: setup ## measure single opt-outs beside large jobs, and jobs beside each other (CONTACTS, SECONDS)
	@$(BIN)/python -m bench.load $(COUNT) $(if $(SECONDS),--seconds $(SECONDS))

lock: setup ## write the lock files anew from pyproject.toml, with the newest versions it allows
	$(COMPILE) --output-file requirements.lock pyproject.toml
	$(COMPILE) --extra dev --output-file requirements-dev.lock pyproject.toml

clean: ## remove .venv and caches; the embedded servers' data in .sluice stays
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis *.egg-info
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
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes \
		--requirement requirements-dev.lock
	@touch $@

$(INSTALLED): $(LOCKED) pyproject.toml
	@$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check \
		--no-deps --no-build-isolation --editable .
	@touch $@
