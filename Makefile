# Thin aliases over the command line; everything works without make.
# The first use of any target makes .venv and installs; again whenever pyproject.toml changes.

BIN := .venv/bin
STAMP := .venv/.installed
OLDEST := .venv-oldest

# What is set stays as it was typed: make expands nothing in it, and the shell meets it as a variable of its environment,
# so it may hold spaces and quotes and runs nothing. Several names (TRICK="mixup ema") are parted by spaces.
GIVEN := $(foreach v,$(.VARIABLES),$(if $(findstring command line,$(origin $v)),$v))
STUDY_OPTIONS := EXPERIMENT SEEDS DESIGN DEVICE WORKERS RESULTS REPORTS DATA_ROOT NAME
SEARCH_OPTIONS := TRIALS $(filter-out DESIGN,$(STUDY_OPTIONS))
REPLICATE_OPTIONS := $(filter-out EXPERIMENT DESIGN,$(STUDY_OPTIONS))
VALUES := TRICK STUDY FAMILY ARGS PYTHON DESIGN $(SEARCH_OPTIONS)
ifeq (,$(filter NAME,$(GIVEN)))
override NAME :=  # some systems set it to the name of the machine
endif
$(foreach v,$(VALUES) $(GIVEN),$(eval override $v := $$(value $v)))
ifeq (,$(PYTHON))
override PYTHON := $(or $(wildcard $(BIN)/python),$(shell for p in python3.13 python3.12 python3.11 python3 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done))
endif
export $(VALUES)

flag_EXPERIMENT := --experiment
flag_SEEDS := --seeds
flag_DESIGN := --design
flag_DEVICE := --device
flag_WORKERS := --workers
flag_RESULTS := --results
flag_REPORTS := --reports
flag_DATA_ROOT := --data-root
flag_NAME := --name
flag_TRIALS := --trials

# $(call takes,A B): refuse what was set and is neither A nor B. $(call options,A B): those that are set, as options.
# $(call names,A): the words of A, if it is set.
takes = $(foreach v,$(filter-out $1 ARGS PYTHON,$(GIVEN)),$(error make $@ takes no $v, but $(strip $1 ARGS)))
options = $(foreach v,$1,$(if $(value $v),$(flag_$v)="$$$v"))
names = $(if $(value $1),$$$1)

# ARGS holds further words, which Python splits as a shell would, without a shell.
define WITH_ARGS
import os, shlex, sys
try:
    words = shlex.split(os.environ["ARGS"])
except ValueError as error:
    print(f"error: ARGS: {error}", file=sys.stderr)
    sys.exit(2)
os.execv(sys.argv[1], [*sys.argv[1:], *words])
endef
export WITH_ARGS
RUN := set -f; $(BIN)/python -c "$$WITH_ARGS" $(BIN)
HARNESS := $(RUN)/harness

.DEFAULT_GOAL := help
.PHONY: help setup ablate replicate search plan report site publish tricks doctor bench test test-gpu test-slow test-mutants test-oldest lint format new-trick cards clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

$(STAMP): pyproject.toml
	@test -n "$$PYTHON" || { echo "error: no Python 3.11 or newer found; install one or set PYTHON=/path/to/python"; exit 2; }
	@test -x $(BIN)/python || "$$PYTHON" -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

setup: $(STAMP)  ## make .venv and install the harness into it

ablate: $(STAMP)  ## TRICK=mixup [EXPERIMENT= SEEDS= DESIGN= DEVICE= WORKERS= DATA_ROOT=]: what does the trick do?
	$(call takes,TRICK $(STUDY_OPTIONS))@$(HARNESS) ablate $(call names,TRICK) $(call options,$(STUDY_OPTIONS))

search: $(STAMP)  ## TRICK=mixup [TRIALS= and as ablate, without DESIGN=]: what is it worth when both are tuned?
	$(call takes,TRICK $(SEARCH_OPTIONS))@$(HARNESS) search $(call names,TRICK) $(call options,$(SEARCH_OPTIONS))

replicate: $(STAMP)  ## STUDY=name [SEEDS=10:20 ARGS="--arms a,b" and as ablate]: does what it found hold on fresh seeds?
	$(call takes,STUDY $(REPLICATE_OPTIONS))@$(HARNESS) replicate $(call names,STUDY) $(call options,$(REPLICATE_OPTIONS))

plan: $(STAMP)  ## TRICK=mixup [as ablate]: how long would it take, and what could it find?
	$(call takes,TRICK $(STUDY_OPTIONS))@$(HARNESS) plan $(call names,TRICK) $(call options,$(STUDY_OPTIONS))

report: $(STAMP)  ## write all reports again [STUDY=name]
	$(call takes,STUDY RESULTS REPORTS)@$(HARNESS) report $(call names,STUDY) $(call options,RESULTS REPORTS)

site: $(STAMP)  ## write all pages again: studies, tricks, index and feed [RESULTS=results/published for those to commit]
	$(call takes,RESULTS REPORTS)@$(HARNESS) site $(call options,RESULTS REPORTS)

publish: $(STAMP)  ## STUDY=name [ARGS=--preface=FILE]: a small copy under results/published, to commit
	$(call takes,STUDY RESULTS)@$(HARNESS) publish $(call names,STUDY) $(call options,RESULTS)

tricks: $(STAMP)  ## list the tricks [NAME=mixup for one card]
	$(call takes,NAME)@$(HARNESS) tricks $(call names,NAME)

doctor: $(STAMP)  ## what this machine offers and what is missing
	$(call takes,DEVICE DATA_ROOT RESULTS)@$(HARNESS) doctor $(call options,DEVICE DATA_ROOT RESULTS)

bench: $(STAMP)  ## measure the engine against hand-written loops [ARGS=--quick]
	$(call takes,RESULTS)@$(BIN)/python -c "import lightning" 2>/dev/null || $(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	@$(HARNESS) bench $(call options,RESULTS)

test: $(STAMP)  ## the tests, a few minutes
	$(call takes,)$(RUN)/python -m pytest -n auto --dist worksteal

test-gpu: $(STAMP)  ## the tests that need a CUDA device
	$(call takes,)$(RUN)/python -m pytest -m gpu

test-slow: $(STAMP)  ## the long tests: simulations, all pairs of tricks, kills
	$(call takes,)$(RUN)/python -m pytest -n auto --dist worksteal -m slow

test-mutants: $(STAMP)  ## whether tests see small changes of the code, most of an hour [ARGS="--package harness/analysis"]
	$(call takes,)@export PYTHONPATH="$(CURDIR):$(CURDIR)/tests/shared"; $(RUN)/python -m mutants

test-oldest:  ## the tests with the oldest packages that pyproject.toml allows; downloads 3 GB into .venv-oldest
	$(call takes,)@test -x $(OLDEST)/bin/python || "$$PYTHON" -m venv $(OLDEST)
	$(OLDEST)/bin/python .ci/oldest.py >$(OLDEST)/constraints.txt
	$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check --constraint $(OLDEST)/constraints.txt -e '.[dev]'
	@set -f; $(OLDEST)/bin/python -c "$$WITH_ARGS" $(OLDEST)/bin/python -m pytest -n auto --dist worksteal

lint: $(STAMP)  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)  ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

new-trick: $(STAMP)  ## NAME=x FAMILY=y: write the skeleton of a trick and of its test
	$(call takes,NAME FAMILY)@$(HARNESS) new-trick $(call names,NAME) $(call names,FAMILY)

cards: $(STAMP)  ## write harness/tricks/index.json, missing contact sheets and new defaults, after a card changed
	$(call takes,)@$(BIN)/python -m harness.tricks.cards && $(BIN)/python -m harness.workflow.sheets && $(BIN)/python tests/golden/test_defaults.py

clean:  ## remove .venv and caches, not results
	rm -rf .venv $(OLDEST) .mypy_cache .ruff_cache .pytest_cache .hypothesis
