# `make` checks what a commit must pass; `make help` lists the rest.
MAKEFLAGS += --warn-undefined-variables --no-builtin-rules
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := check
.DELETE_ON_ERROR:

PYTHON ?= python3
ARGS ?=
SEED ?=
RUNS ?= 20
HOURS ?= 1
BUDGET ?= 120
N ?= 400
SEEDS ?= 30

BIN := .venv/bin
# The environment has no pip of its own: Debian's python3 cannot seed one. The caller's
# pip works on it instead. Taken from the lock file, everything has a hash.
PIP := $(PYTHON) -m pip --python $(BIN)/python -qq --disable-pip-version-check \
       install --no-warn-script-location
LOCKED := $(PIP) --require-hashes --no-deps -r requirements-build.lock
PROJECT := $(PIP) --no-index --no-deps --no-build-isolation --editable

# $(call pytest,PATH...): runs the tests there. A folder that has no tests yet is said to
# have none; once it has one, collecting nothing is a failure like any other.
pytest = found=(); for path in $(1); do \
    if [ -n "$$(find "$$path" -name 'test_*.py' -print -quit 2>/dev/null)" ]; \
    then found+=("$$path"); else echo "$$path: no tests yet"; fi; done; \
    [ $${\#found[@]} -eq 0 ] || $(BIN)/python -m pytest "$${found[@]}" $(ARGS)

.PHONY: check setup locks lint format types imports fast sim sim-selftest mutants soak \
        histories postgres contract system system-slow system-all chaos accept browser rest test crash packages bench \
        openapi readme runbooks demo clean help

check: lint types imports fast ## what a commit must pass, under two minutes

setup: .venv/.project ## make .venv: locked dependencies, this project, the tools

# What sets up and what plays says in words what it does; the commands are not echoed.
.SILENT: .venv/.python .venv/.dev .venv/.lab .venv/.project .venv/.demo demo
say = echo "$(1)" >&2

.venv/.python:
	$(call say,making the environment .venv)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or later is needed; say which: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m pip --version >/dev/null \
	  || { echo "pip is needed, on Debian: apt-get install python3-pip" >&2; exit 1; }
	$(PYTHON) -m venv --without-pip .venv
	touch $@

.venv/.dev: requirements-dev.lock requirements-build.lock | .venv/.python
	$(call say,installing the locked dependencies and tools; the first time takes a minute or two)
	flock Makefile $(LOCKED) -r requirements-dev.lock
	touch $@

.venv/.lab: requirements-lab.lock requirements-build.lock | .venv/.python
	$(call say,installing the locked dependencies; the first time takes a minute)
	flock Makefile $(LOCKED) -r requirements-lab.lock
	touch $@

.venv/.project: pyproject.toml .venv/.dev
	$(call say,installing splitguard from this folder)
	flock Makefile $(PROJECT) .
	touch $@

# The demo needs no tools: where nothing is set up yet, only the lab's lock is installed.
.venv/.demo: pyproject.toml $(if $(wildcard .venv/.dev),.venv/.dev,.venv/.lab)
	$(call say,installing splitguard from this folder)
	flock Makefile $(PROJECT) .
	touch $@

# Each in an environment of its own: .venv/patroni, .venv/cfy.
.venv/.patroni .venv/.cfy: .venv/.%: requirements-%.lock tests/setup/environment.sh | .venv/.python
	PYTHON=$(PYTHON) flock Makefile tests/setup/environment.sh $< .venv/$* $*
	touch $@

.venv/.servers: tests/setup/servers.py | .venv/.python packages
	$(PYTHON) tests/setup/servers.py .venv/servers
	touch $@

# The lock files name packages and hashes only: neither an index nor this machine.
COMPILE := env -u PIP_FIND_LINKS -u PIP_EXTRA_INDEX_URL -u PIP_INDEX_URL \
           $(BIN)/uv --no-config --quiet pip compile \
           --universal --python-version 3.11 --generate-hashes --no-header

locks: setup ## rewrite requirements*.lock from pyproject.toml (UPGRADE=1: newest versions)
	$(COMPILE) $(UPGRADE_FLAG) --extra lab --group dev pyproject.toml -o requirements-dev.lock
	$(COMPILE) -c requirements-dev.lock pyproject.toml -o requirements.lock
	$(COMPILE) -c requirements-dev.lock --extra lab pyproject.toml -o requirements-lab.lock
	$(COMPILE) -c requirements-dev.lock --group build -o requirements-build.lock
	$(COMPILE) $(UPGRADE_FLAG) --group patroni -o requirements-patroni.lock
	$(COMPILE) $(UPGRADE_FLAG) --group cfy -o requirements-cfy.lock

UPGRADE ?=
UPGRADE_FLAG := $(if $(UPGRADE),--upgrade,)

lint: setup ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: setup ## mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: setup ## mypy, strict
	$(BIN)/mypy agent tests

imports: setup ## import-linter: layers, a core without I/O, owners of libraries
	$(BIN)/lint-imports --no-logo

FAST := tests/core tests/shell $(wildcard tests/test_*.py)

fast: setup ## core, shell and house-law tests, in two processes
	$(BIN)/python -m pytest $(FAST) -n 2 $(ARGS)

sim: setup ## fresh simulated worlds for two minutes; SEED=n HOURS=h plays one again
	$(BIN)/python -m tests.sim $(if $(SEED),--seed $(SEED) --hours $(HOURS),--budget $(BUDGET)) $(ARGS)

sim-selftest: setup ## planted faults, each of which must turn the simulator red
	$(BIN)/python -m tests.sim.selftest $(ARGS)

mutants: setup ## faults in agent/core that tests/core must notice (SEED=n N=400); a quarter of an hour
	$(BIN)/python -m tests.mutants $(if $(SEED),--seed $(SEED)) --count $(N) $(ARGS)

soak: setup ## a million simulated node-rounds in bad weather
	$(BIN)/python -m tests.sim.soak $(ARGS)

histories: setup packages ## histories drawn on both sides of a fork, each row reported rightly (SEEDS=n SEED=first); ten minutes
	$(BIN)/python -m tests.histories --seeds $(SEEDS) $(if $(SEED),--first $(SEED)) $(ARGS)

process: setup packages ## the shim, disks and stores without a server, in two processes
	$(BIN)/python -m pytest tests/process -n 2 $(ARGS)

postgres: setup packages .venv/.servers ## tests against real PostgreSQL servers, in two processes
	$(BIN)/python -m pytest tests/postgres tests/contract -n 2 $(ARGS)

contract: setup packages ## what the client expects of managers, held against SPLITGUARD_VNFM_URL, else stand-ins
	$(BIN)/python -m pytest tests/contract $(ARGS)

system: setup packages .venv/.patroni ## real Patroni clusters: cuts, frozen processes, dead agents
	$(BIN)/python -m pytest tests/system -m "not slow_system" $(ARGS)

system-slow: setup packages .venv/.patroni ## worse things done to them; a quarter of an hour
	$(BIN)/python -m pytest tests/system -m slow_system $(ARGS)

system-all: system system-slow ## all that is done to real clusters

chaos: setup packages .venv/.patroni ## seeded faults on real Patroni clusters (RUNS=n SEED=n); every fourth unguarded
	RUNS=$(RUNS) SEED=$(SEED) $(BIN)/python -m pytest tests/chaos $(ARGS)

accept: setup packages .venv/.cfy ## the installed command as a process
	$(call pytest,tests/acceptance)

browser: setup packages ## the page in a real Chromium
	$(call pytest,tests/browser)

rest: process postgres .venv/.patroni .venv/.cfy ## what test runs beside fast
	$(BIN)/python -m pytest tests $(FAST:%=--ignore=%) --ignore=tests/postgres --ignore=tests/process \
	  --ignore=tests/contract --ignore=tests/bench --ignore=tests/crash --ignore=tests/chaos \
	  -m "not slow_system" $(ARGS)

test: fast rest ## every test but those of bench, crash, chaos and system-slow

crash: setup packages ## split brains while the loser's agent is killed; 8 minutes
	$(call pytest,tests/crash)

packages: ## what the tests need from the system; installs it when root
	tests/setup/system_packages.sh

bench: setup packages ## ratios against peers, measured in the same run
	$(call pytest,tests/bench)

openapi: setup ## rewrite openapi/splitguard.json from the routes
	mkdir -p openapi
	$(BIN)/python -m agent.api.schema > openapi/.new.json
	mv openapi/.new.json openapi/splitguard.json

readme: setup ## rewrite the table of verdicts in README.md from the rule table
	$(BIN)/python tests/setup/readme.py

runbooks: setup ## rewrite deploy/runbooks from the recovery scenarios
	$(BIN)/python -m agent.vnfm.recovery deploy/runbooks

demo: .venv/.demo ## a split brain on three real servers, and nothing lost
	$(BIN)/splitguard lab story split-brain

clean: ## remove what the tools made, .venv included
	rm -rf .venv build dist .coverage htmlcov .hypothesis .import_linter_cache \
	  .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-11s %s\n", $$1, $$2}' Makefile
