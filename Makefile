# Two commands do everything on a fresh machine with Python 3.11 and make: `make demo` and `make test`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed.stamp
WORKERS ?= 3
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test check lint ruff bandit secrets types layers mutation bench clean

# What is compiled once is not compiled again by each of the hundreds of processes that the tests start.
unexport PYTHONDONTWRITEBYTECODE

help:  ## these lines
	@sed -n 's/^\([a-z]*\):.*## /  make \1|/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-14s %s\n", $$1, $$2}'

demo: $(INSTALLED)  ## a crowd through an outage, without and with the guard; then shop and desk stay up (DEMO_EXIT=1: not)
	@$(BIN)/cxguard demo $(ARGS)

test: $(INSTALLED)  ## all tests, with real servers and a real browser (ARGS="-k name" for some, WORKERS=0 for one process)
	@echo "cxguard: running the tests"
	@$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

check: lint layers  ## ruff, bandit, detect-secrets, mypy --strict, and the test that reads every import
lint: ruff bandit secrets types  ## the check without its tests: `make test` has them, too

ruff: $(INSTALLED)
	@echo "cxguard: ruff"
	@$(BIN)/ruff check .

bandit: $(INSTALLED)
	@echo "cxguard: bandit"
	@$(BIN)/bandit -q -r cxguard examples -c pyproject.toml

secrets: $(INSTALLED)
	@echo "cxguard: detect-secrets"
	@git ls-files -z | xargs -0 -n 150 -P 2 $(BIN)/detect-secrets-hook --no-verify --disable-plugin KeywordDetector --exclude-lines 'shop:PASSWORD@'

types: $(INSTALLED)
	@echo "cxguard: mypy --strict"
	@$(BIN)/mypy

layers: $(INSTALLED)
	@echo "cxguard: layers"
	@$(BIN)/python -m pytest tests/house/test_layers.py tests/house/test_house.py

mutation: $(INSTALLED)  ## change the core on purpose, line by line: the tests must notice (ARGS="core.caps" for one module; "--sample 24 engine": some of the engine)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-input -c constraints.txt -e '.[mutation]'
	@nice $(BIN)/python benchmarks/mutation.py $(ARGS)

bench: $(INSTALLED)  ## what the guard costs, beside its peers; what the store takes; an outage under 50 shoppers a second; breakers; a fleet; orders beside the peers
	@$(BIN)/python benchmarks/overhead.py
	@$(BIN)/python benchmarks/overhead_servers.py
	@$(BIN)/python benchmarks/store.py
	@$(BIN)/python benchmarks/store_servers.py
	@$(BIN)/python benchmarks/outage.py
	@$(BIN)/python benchmarks/breaker.py
	@$(BIN)/python benchmarks/breaker_shared.py
	@$(BIN)/python benchmarks/fleet.py
	@$(BIN)/python benchmarks/peers.py

clean:  ## take the virtual environment and all caches away
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist mutants

# Made anew when what is installed has changed; the stamp comes last, so that a broken install is not taken for a whole one.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "cxguard needs Python 3.11 or newer: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@echo "cxguard: making $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@echo "cxguard: installing (a minute, the first time)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-input --no-compile -c constraints.txt -e '.[dev]'
	@$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true  # pip does it with one core; some ship templates that are no code
	@touch $@
