# Everything a user or a developer of Portward does, by name. `make` alone lists it.
.DEFAULT_GOAL := help
.PHONY: help setup setup-test setup-bench demo run test lint unit wire properties packets soak bench reference lock clean
PYTHON := .venv/bin/python
PYTEST := $(PYTHON) -m pytest -q
# Two files of tests at a time: they wait more than they work. Packets after the others, for some of them count what a
# machine that is too busy is late with.
PAIRED := -n 2 --dist loadfile

help:  ## list what can be made
	@sed -n 's/^\([a-z-]*\):.*##  *\(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

setup:  ## install what is missing; the command is then .venv/bin/portward
	@scripts/setup

setup-test: setup  ## install the database servers that the tests need, too
	@scripts/setup test

demo: setup  ## the main job on real packets, told step by step, then cleaned up
	@$(PYTHON) -u -m demo

run: setup  ## the demo's networks, API and agent, left running for you to play with
	@$(PYTHON) -u -m demo --stay

test: setup-test lint  ## all checks and all tests
	$(PYTEST) $(PAIRED) --ignore=tests/packets
	$(PYTEST) $(PAIRED) tests/packets

lint: setup  ## style, types, and who may import whom
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

unit wire properties packets: setup-test  ## one kind of test
	$(PYTEST) tests/$@

soak: setup-test  ## packet tests that draw their cases, from new seeds, for 10 minutes each (MINUTES=n)
	PORTWARD_SOAK_MINUTES=$(or $(MINUTES),10) $(PYTEST) -s -m soak tests/packets

setup-bench:  ## install what the benchmarks compare with, too
	@scripts/setup bench

bench: setup-bench  ## what must be fast, measured beside its peers; writes benchmarks/latest.json
	@PYTHONPATH=tests $(PYTHON) -m benchmarks

reference:  ## renew the pages of docs/reference that follow from the code
	$(PYTHON) -m tools.reference

lock:  ## renew requirements.txt from pyproject.toml (needs uv)
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--extra dev --extra client --quiet pyproject.toml --output-file requirements.txt

clean:  ## remove what was built here
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
