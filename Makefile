# `make help` lists the targets.
PYTHON ?= python3
BIN := .venv/bin
.DEFAULT_GOAL := help
.PHONY: help setup demo check test faults fuzz clean

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

.venv/.setup: pyproject.toml
	@echo "tocsin: making .venv and installing (torch is large: 2-5 minutes the first time) ..."
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --upgrade pip
	@echo "tocsin: 1/2 the broker, its networks and the development tools ..."
	@PYTHONWARNINGS=ignore $(BIN)/python -m pip install --progress-bar on --quiet -e ".[dev]"
	@echo "tocsin: 2/2 compiling the decoder and the Gaussian process (cached for later runs) ..."
	@$(BIN)/tocsin warm
	@touch .venv/.setup

setup: .venv/.setup ## make .venv with tocsin and everything the tests need

demo: setup ## run the main job on a small simulated night: no Kafka, no Java
	@$(BIN)/tocsin demo

check: setup ## format, lint, types, import layers
	$(BIN)/ruff format --check broker broker/models/ tests
	$(BIN)/ruff check broker broker/models/ tests
	$(BIN)/mypy
	$(BIN)/lint-imports

test: check ## the checks, then all tests; says what it skipped and why
	$(BIN)/pytest -n 2 --dist loadfile

faults: setup ## the long form of the fault tests (half an hour): kills, storms, servers and disks that fail; recovery times
	TOCSIN_FAULTS=full $(BIN)/pytest tests/faults tests/decode/test_guard.py tests/test_absurd_curves.py

fuzz: setup ## a million damaged packets through the decoder, beside fastavro; goes on where it was stopped
	$(BIN)/python -m tests.decode.fuzz --inputs 1000000 --state build/fuzz.json

clean: ## remove the environment and everything generated
	rm -rf .venv build dist *.egg-info demo-out
