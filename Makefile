# Everything a developer or CI does here. `make help` tells the commands.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
BIN := .venv/bin

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

.PHONY: lock
lock: .venv/.locked ## Resolve pyproject.toml into requirements/ (UPGRADE=--upgrade for the newest of everything)
	@tools/lock $(UPGRADE)

.PHONY: clean
clean: ## Remove what the other commands made
	rm -rf .venv build dist var .coverage .coverage.* htmlcov .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
