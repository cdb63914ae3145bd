# Two entry points: `make demo` and `make test`. Both set up what they need in .venv (SURGE_VENV overrides it)
# from the hash-locked packages in requirements/, and use no network but the package registries.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV := $(abspath $(if $(SURGE_VENV),$(SURGE_VENV),.venv))
# The first Python here that is new enough; setup_env.py says what to do where there is none.
PYTHON ?= $(or $(shell for p in python3 python3.11 python3.12 python3.13 python3.14; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done),python3)
SETUP := $(PYTHON) tools/setup_env.py --venv "$(VENV)"
# What a recipe runs comes from the environment; SURGE_VENV tells child processes which one.
RUN := SURGE_VENV="$(VENV)" PATH="$(VENV)/bin:$$PATH"

# Property tests live in files of this name; `make test` runs them too, with fewer examples.
FUZZ_TESTS = $(shell find tests -name "test_*fuzz*.py")
# Tests run on all cores, a file at a time; WORKERS=0 runs them in one process, in order.
WORKERS ?= $(shell nproc 2>/dev/null || echo 2)

PYTHON_SOURCES := protocol gateway backend tools tests firmware

.PHONY: help demo test lint faults prove fuzz chaos bench format lock clean

help: ## list the targets
	@echo "usage: make TARGET [ARGS='...']"
	@sed -nE 's/^([a-z]+):.*## (.*)/  \1\t\2/p' Makefile | expand -t 12

demo: ## run the whole network on this machine, live (ARGS='--seconds 30 --json')
	@$(SETUP) demo
	@$(RUN) surge demo $(ARGS)

test: lint ## check style and types, then run every test (ARGS='-k ledger')
	@$(RUN) python tools/ensure_servers.py --into "$(VENV)/servers"
	@code=0; $(RUN) python -m pytest -n $(WORKERS) --dist loadfile $(ARGS) || code=$$?; \
	if [ -n "$(SURGE_EXIT_CODE_FILE)" ]; then echo $$code > "$(SURGE_EXIT_CODE_FILE)"; exit 0; fi; exit $$code

lint: ## check style and types only
	@$(SETUP) --board-stubs dev
	@$(RUN) ruff check --quiet $(PYTHON_SOURCES)
	@$(RUN) ruff format --quiet --check $(PYTHON_SOURCES) || { echo "surge: some files are not formatted; \`make format\` does it"; exit 1; }
	@$(RUN) mypy

format: ## put the sources into the house format
	@$(SETUP) --board-stubs dev
	@$(RUN) ruff check --quiet --fix-only $(PYTHON_SOURCES)
	@$(RUN) ruff format $(PYTHON_SOURCES)

fuzz: ## search longer for inputs that break a decoder (SURGE_FUZZ_EXAMPLES=20000)
	@$(SETUP) --board-stubs dev
	@SURGE_FUZZ_EXAMPLES=$${SURGE_FUZZ_EXAMPLES:-20000} $(RUN) python -m pytest $(FUZZ_TESTS) $(ARGS)

prove: ## the long runs of the state machines: a million operations on the ledger (an hour or more)
	@$(SETUP) --board-stubs dev
	@SURGE_LEDGER_OPERATIONS=$${SURGE_LEDGER_OPERATIONS:-1000000} $(RUN) python -m pytest tests/unit/backend/ledger/test_ledger_machine.py -k long_walk -s $(ARGS)
	@SURGE_FUZZ_EXAMPLES=$${SURGE_FUZZ_EXAMPLES:-600} $(RUN) python -m pytest tests/unit/firmware/outbox/test_outbox_machine.py $(ARGS)

faults: ## try every fault at every operation of the database's files (SURGE_FAULT_SEEDS=5)
	@$(SETUP) --board-stubs dev
	@SURGE_FAULT_SEEDS=$${SURGE_FAULT_SEEDS:-1} $(RUN) python -m pytest tests/unit/backend/faults -rP $(ARGS)

chaos: ## kill everything at random under load, then check the books (ARGS='--seed 7 --kills 50')
	@$(SETUP) --board-stubs dev
	@$(RUN) python tools/ensure_servers.py --into "$(VENV)/servers"
	@$(RUN) python tests/chaos/run_chaos.py $(ARGS)

bench: ## measure; one table and build/bench.json (ARGS='gateway_ingest --quick')
	@$(SETUP) --board-stubs dev
	@$(RUN) python tools/ensure_servers.py --into "$(VENV)/servers"
	@$(RUN) python tests/bench/run_all.py $(ARGS)

lock: ## write the locks anew from pyproject.toml (ARGS=--upgrade takes newer versions)
	@$(SETUP) lock
	@$(RUN) tools/lock.sh "$(VENV)/bin/uv" $(ARGS)

clean: ## remove the environment, caches and builds
	rm -rf "$(VENV)" .cache .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
