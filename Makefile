# Thin aliases over the command line; everything works without make.
# The first use of any target makes .venv and installs; again whenever pyproject.toml changes.

PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
STAMP := .venv/.installed
HARNESS := $(BIN)/harness

# Options that a target passes on when they are set: make ablate TRICK="mixup ema" SEEDS=5 DEVICE=cuda
OPTIONS = $(if $(EXPERIMENT),--experiment $(EXPERIMENT)) $(if $(SEEDS),--seeds $(SEEDS)) \
	$(if $(DESIGN),--design $(DESIGN)) $(if $(DEVICE),--device $(DEVICE)) $(if $(WORKERS),--workers $(WORKERS)) \
	$(if $(RESULTS),--results $(RESULTS)) $(if $(DATA_ROOT),--data-root $(DATA_ROOT)) $(ARGS)

.DEFAULT_GOAL := help
.PHONY: help setup ablate search plan report site publish tricks doctor bench test test-gpu test-slow lint format new-trick clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

$(STAMP): pyproject.toml
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 or newer found; install one or set PYTHON=/path/to/python"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

setup: $(STAMP)  ## make .venv and install the harness into it

ablate: $(STAMP)  ## TRICK=mixup [EXPERIMENT= SEEDS= DESIGN= DEVICE= WORKERS=]: what does the trick do to the baseline?
	@$(HARNESS) ablate $(TRICK) $(OPTIONS)

search: $(STAMP)  ## TRICK=mixup [TRIALS= EXPERIMENT= SEEDS= DEVICE= WORKERS=]: what is it worth when both are tuned?
	@$(HARNESS) search $(TRICK) $(if $(TRIALS),--trials $(TRIALS)) $(OPTIONS)

plan: $(STAMP)  ## TRICK=mixup [as ablate]: how long would it take, and what could it find?
	@$(HARNESS) plan $(TRICK) $(OPTIONS)

report: $(STAMP)  ## write all reports again [STUDY=name]
	@$(HARNESS) report $(STUDY) $(ARGS)

site: $(STAMP)  ## write all pages again: studies, tricks, index and feed [RESULTS=results/published for those to commit]
	@$(HARNESS) site $(if $(RESULTS),--results $(RESULTS)) $(ARGS)

publish: $(STAMP)  ## STUDY=name [ARGS=--preface=FILE]: a small copy under results/published, to commit
	@$(HARNESS) publish $(STUDY) $(if $(RESULTS),--results $(RESULTS)) $(ARGS)

tricks: $(STAMP)  ## list the tricks [NAME=mixup for one card]
	@$(HARNESS) tricks $(NAME) $(ARGS)

doctor: $(STAMP)  ## what this machine offers and what is missing
	@$(HARNESS) doctor $(ARGS)

bench: $(STAMP)  ## measure the engine against hand-written loops [ARGS=--quick]
	@$(BIN)/python -c "import lightning" 2>/dev/null || $(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	@$(HARNESS) bench $(ARGS)

test: $(STAMP)  ## the tests, a few minutes
	$(BIN)/python -m pytest -n auto --dist worksteal $(ARGS)

test-gpu: $(STAMP)  ## the tests that need a CUDA device
	$(BIN)/python -m pytest -m gpu $(ARGS)

test-slow: $(STAMP)  ## the long tests: simulations, all pairs of tricks, kills
	$(BIN)/python -m pytest -n auto --dist worksteal -m slow $(ARGS)

lint: $(STAMP)  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)  ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

new-trick: $(STAMP)  ## NAME=x FAMILY=y: write the skeleton of a trick and of its test
	@$(HARNESS) new-trick $(NAME) $(FAMILY)

clean:  ## remove .venv and caches, not results
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis
