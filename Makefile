# One door: what a person runs, what CI runs and what the documentation names are these targets.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo up test check lint types format setup setup-run lock bench bench-parser bench-firing bench-memory bench-learning bench-gateway bench-routing bench-replay bench-gpu test-faults image clean
BIN := .venv/bin
# The newest supported Python that starts; a version manager may offer names that do not.
BASE_PYTHON := $(shell for p in python3.11 python3.12 python3.13 python3; do \
  if "$$p" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1; then echo "$$p"; break; fi; done)

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: setup-run ## sets up, starts everything with the real small model, asks two questions, prints the timeline
	@$(BIN)/headstart demo

up: setup-run ## sets up and starts everything on this machine; Ctrl-C stops it
	@$(BIN)/headstart up

test: setup ## sets up and runs every test; those that cannot run here are skipped by name
	@$(BIN)/pytest

check: setup lint types ## what CI runs: lint, types, tests
	@$(BIN)/pytest

lint: ## ruff: rules and format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet . || { $(BIN)/ruff format --check . | head -20; exit 1; }

types: ## mypy --strict
	@$(BIN)/mypy

format: ## puts the code into the form that `lint` asks for; writes the README's settings and docs/asyncapi.json
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format .
	@$(BIN)/python scripts/readme_table.py
	@$(BIN)/python -m streams.asyncapi --write

bench: setup ## figures: added latency, load curve, CPU per token; JSON in bench-results/
	@$(BIN)/python -m tests.bench

bench-parser: setup ## figures: the push parser against others
	@$(BIN)/python -m tests.bench.parser

bench-firing: setup ## figures: time hidden by firing early
	@$(BIN)/python -m tests.bench.firing

LOCOMO ?= $(wildcard ../shared/data/locomo5.json)

bench-memory: setup ## figures: what memory finds (LOCOMO=FILE in the public LoCoMo format), how fast it takes and gives
	@$(BIN)/python -m tests.bench.memory $(if $(LOCOMO),--locomo "$(LOCOMO)")
	@$(BIN)/python -m tests.bench.recall

FAULTS ?=

test-faults: setup ## real processes killed and stopped at every moment of a turn, an hour (FAULTS="--runs 10 --seed 7": only that)
	@$(if $(FAULTS),$(BIN)/python -m tests.faults $(FAULTS),\
	  $(BIN)/python -m tests.faults --broker kafka --runs 216 && \
	  for seed in 0 20 40; do $(BIN)/python -m tests.faults --broker tansu --runs 20 --seed $$seed || exit 1; done && \
	  $(BIN)/python -m tests.faults --broker quorum --runs 12 && \
	  $(BIN)/python -m tests.faults --broker kafka --rolling 3)

bench-replay: setup ## figures: mixed traffic recorded in real time and run again (5 minutes; ARGS="--on kafka")
	@$(BIN)/python -m tests.bench.replay $(ARGS)

bench-gateway: setup ## figures: what a gateway holds and costs, beside others (15 minutes; ARGS="--quick", ARGS="--only idle")
	@$(BIN)/python -m tests.bench.gateway $(ARGS)

bench-routing: setup ## figures: whom turns go to and which skills are found, beside semantic-router (5 minutes; ARGS="--only routing")
	@$(BIN)/python -m tests.bench.routing $(ARGS)

bench-gpu: setup ## figures: the vLLM worker on the bus against bare AsyncLLM; says so where there is no CUDA device
	@$(BIN)/python -m tests.bench.gpu $(ARGS)

bench-learning: setup ## figures: facts read from labelled dialogues, what rated answers are worth (URL= MODEL= for another model)
	@$(BIN)/python -m tests.bench.learning $(if $(URL),--url "$(URL)" --model "$(MODEL)")

setup: base-python ## virtual environment, packages, browser, model, for tests and benchmarks (quick the second time)
	@$(BASE_PYTHON) scripts/setup.py check

setup-run: base-python
	@$(BASE_PYTHON) scripts/setup.py run

.PHONY: base-python
base-python:
	@test -n '$(BASE_PYTHON)' || { echo 'Python 3.11, 3.12 or 3.13 is needed and was not found on the PATH' >&2; exit 1; }

lock: ## writes constraints.txt from what is installed in .venv
	@$(BIN)/python scripts/lock.py

image: ## container images: gateway and workers, and the one with vLLM
	docker build --target slim --tag headstart:slim .
	docker build --target vllm --tag headstart:vllm .

clean: ## removes the virtual environment and every cache of this clone
	rm -rf .venv .setup .mypy_cache .ruff_cache .pytest_cache .hypothesis tests/npm/node_modules build dist
