# Everything a developer or CI does here. `make help` tells the commands.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
BIN := .venv/bin
CONFIG ?= config/gateway.yaml
IMAGE ?= polygate:dev

.PHONY: help
help: ## Tell the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | while IFS=$$'\t' read -r name text; do printf '  make %-12s %s\n' "$$name" "$$text"; done

.PHONY: env
env: .venv/.installed ## Make .venv with everything that pyproject.toml and requirements/dev.txt name

.venv/bin/python:
	@tools/venv "$(PYTHON)" .venv

.venv/.locked: requirements/dev.txt | .venv/bin/python
	@echo "env: installing requirements/dev.txt into .venv"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@touch $@

# The entry points live in the project's metadata, so a changed pyproject.toml installs it anew.
.venv/.installed: pyproject.toml .venv/.locked
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	@touch $@

.PHONY: run
run: env ## Run the gateway on CONFIG (config/gateway.yaml unless told: make run CONFIG=config/examples/kafka.yaml)
	@exec $(BIN)/polygate run "$(CONFIG)"

# Hundreds of gateways are started by tests; where PYTHONDONTWRITEBYTECODE is set each would compile itself.
.PHONY: compiled
compiled: env
	@$(BIN)/python -m compileall -q gateway adapters

.PHONY: test
test: compiled ## Run every check and every test, with a real Kafka
	@tools/test

.PHONY: test-quick
test-quick: compiled ## Run what needs no broker and is not slow, in about three minutes
	@$(BIN)/python -m pytest -q -m "not broker and not slow" --kafka=none

.PHONY: check fresh lint types floors
check: fresh lint types floors ## Run fresh, lint, types and floors (-k: all of them, though one fails)

fresh: env ## Fail when a generated file is stale
	@$(BIN)/python tools/generate.py --check

lint: env ## Run ruff, as linter and formatter
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check

types: env ## Run mypy on everything but the tests
	@$(BIN)/mypy

floors: env ## Run import-linter: who may import whom
	@$(BIN)/lint-imports --no-logo

.PHONY: format
format: env ## Format the code and mend what ruff can mend by itself
	@$(BIN)/ruff check --fix --exit-zero
	@$(BIN)/ruff format

.PHONY: generate
generate: env ## Make the generated files anew: descriptor sets, schema, reference
	@$(BIN)/python tools/generate.py

.PHONY: bench
bench: compiled ## Measure against the bare libraries and print the table (ARGS=--help tells more)
	@$(BIN)/python -m benchmarks $(ARGS)

.PHONY: chaos
chaos: compiled ## Break gateways and brokers under load, 20 seeds a fault, and hold every answer against the topic (ARGS=--help)
	@$(BIN)/python -m tests.chaos $(ARGS)

.PHONY: conformance
conformance: env ## Run the public conformance suites (tools/conformance) and print their counts
	@for suite in tools/conformance/*.sh; do "$$suite"; done

.PHONY: image
image: env ## Lint the Dockerfile and build the image IMAGE (polygate:dev) with the engine that is there
	@tools/image "$(IMAGE)"

.PHONY: lock
lock: .venv/.locked ## Resolve pyproject.toml into requirements/ (UPGRADE=--upgrade for the newest of everything)
	@tools/lock $(UPGRADE)

.PHONY: clean
clean: ## Remove what the other commands made
	rm -rf .venv build dist var .coverage .coverage.* htmlcov .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
