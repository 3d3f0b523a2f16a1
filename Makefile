# What each target does stands in `make help`. Everything runs from a fresh clone.
SHELL := /bin/bash
VENV := .venv
PY := $(VENV)/bin/python
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: help setup setup-dev demo test check bench chaos lock clean

help: ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: ## virtual environment, Docker engine, agent image (idempotent)
	@scripts/setup runtime docker image

setup-dev: ## the same, and what tests and checks need
	@scripts/setup dev docker image postgres emulate

demo: setup ## a mention becomes a pull request on this machine; ARGS="--serve" keeps the page up
	@$(PY) -m bot demo $(ARGS)

test: setup-dev ## every test: unit, contract, end to end; ARGS="-n 0 tests/unit" runs some, in one process
	@$(PY) -m pytest -n 2 --dist loadfile $(ARGS)

check: setup-dev ## format, lint, types, import contracts
	@scripts/check

bench: setup-dev ## measure, write bench/results.json, print a table
	@$(PY) -m tests.bench $(ARGS)

chaos: setup-dev ## N=200 short errands while everything is killed; SEED=7 repeats one
	@$(PY) -m tests.chaos --tasks $(or $(N),200) $(if $(SEED),--seed $(SEED)) $(ARGS)

lock: ## renew the lock files (needs uv)
	@scripts/lock

clean: ## remove caches and the demo's data, keep the virtual environment
	rm -rf .errand-demo .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
