# Needs Python 3.10 or later; everything is installed into .venv and nothing outside it.
#   make demo                         from nothing to a report, without a model hub
#   make test PYTHON=python3.12       with another Python
#   make demo PIP_ARGS='--extra-index-url https://download.pytorch.org/whl/cpu'    torch without CUDA

PYTHON ?= python3
PIP_ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test lint format clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/minilm.stamp ## Prepare, train, evaluate and report on MovieLens 100K: see runs/demo
	$(BIN)/palate demo

test: $(VENV)/dev.stamp ## Run the tests
	$(BIN)/pytest --numprocesses auto --dist loadfile

lint: $(VENV)/dev.stamp ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/dev.stamp ## Put the code into its style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Remove what make and the tools made; data and runs stay
	rm -rf $(VENV) build dist src/*.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("palate needs Python 3.10 or later" if sys.version_info < (3, 10) else 0)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/%.stamp: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing palate[$*] into $(VENV); the first time takes some minutes"
	@$(BIN)/python -m pip install --disable-pip-version-check --no-input $(PIP_ARGS) -c constraints.txt -e '.[$*]' \
		| awk '/^Collecting|^Installing/ {print "  " $$1, substr($$2, 1, 60); fflush()}'
	@touch $@
