# Everything a checkout needs is made by these targets; `make` alone lists them. What is up to date is not made again:
# the stamps in .venv say what is in it.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-core test-python test-interop check bench soak core format clean

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
CORE_SOURCES := Cargo.toml Cargo.lock pyproject.toml $(shell find crates -name '*.rs' -o -name Cargo.toml)
# Thousands of processes import sapwood in the tests: none compiles it again, whatever the environment says.
export PYTHONDONTWRITEBYTECODE :=
# One profile for the extension, the lints and the tests: the dependencies are compiled once.
PROFILE := --release

help: ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 22

demo: $(VENV)/.core ## push a real Python environment, mount it over a slow link, run from it
	@scripts/require.sh mount
	@$(BIN)/python -m demo

test: $(VENV)/.test $(VENV)/.core ## all tests, Rust and Python; or pytest with PYTEST="…"
	@scripts/require.sh test
ifdef PYTEST
	$(BIN)/python -m pytest $(PYTEST)
else  # Side by side, and two for each processor: they wait for servers, disks and deadlines more than they compute.
	@$(MAKE) --no-print-directory --jobs=2 test-python test-core

test-core:
	cargo test --locked $(PROFILE) --package sapwood-core --quiet

test-python:
	$(BIN)/python -m pytest --numprocesses=$$(( 2 * $$(nproc) )) --dist=worksteal
endif

test-interop: $(VENV)/.test $(VENV)/.core ## tests with real build engines (Bazel, BuildGrid, moon, buildbox) and container runtimes
	@scripts/require.sh interop
	$(BIN)/python -m pytest tests/engines tests/runtimes $(PYTEST)

check: $(VENV)/.dev $(VENV)/.core ## lint, types, layers
	@scripts/require.sh check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	cd python && ../$(BIN)/python -m mypy.stubtest sapwood._core
	$(BIN)/lint-imports
	cargo fmt --check
	cargo clippy --locked $(PROFILE) --all-targets -- -D warnings
	$(BIN)/python scripts/check_house.py
	PYTHON=$(CURDIR)/$(BIN)/python scripts/make-protocol.sh check

bench: $(VENV)/.test $(VENV)/.core ## measure the figures, or those of CLAIMS="…"; writes docs/benchmarks.md
	@scripts/require.sh bench
	@$(BIN)/python -m compileall -q python/sapwood  # as an installation has it, whatever PYTHONDONTWRITEBYTECODE says
	@$(BIN)/python -m benchmarks $(CLAIMS)

soak: $(VENV)/.test $(VENV)/.core ## mounts under fire for MINUTES=30: no wrong byte, no stuck reader
	@scripts/require.sh test
	$(BIN)/python -m tests.soak_mount --minutes $(or $(MINUTES),30)

core: $(VENV)/.core ## build the extension into .venv

format: $(VENV)/.dev ## rewrite Rust and Python in the house style
	$(BIN)/ruff check --fix --quiet .
	$(BIN)/ruff format --quiet .
	cargo fmt

clean: ## remove everything these targets made
	rm -rf $(VENV) build target python/sapwood/_core*.so

$(VENV)/.made:
	@python=$$(scripts/find-python.sh) && "$$python" -m venv --clear $(VENV)
	@touch $@

$(VENV)/.build: requirements/build.txt | $(VENV)/.made
	@echo "sapwood: installing what the build needs into $(VENV)"
	@$(PIP) install --require-hashes -r $<
	@touch $@

$(VENV)/.test: requirements/test.txt $(VENV)/.build
	@echo "sapwood: installing what the tests need into $(VENV)"
	@$(PIP) install --require-hashes -r $<
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.test
	@echo "sapwood: installing what the checks need into $(VENV)"
	@$(PIP) install --require-hashes -r $<
	@touch $@

$(VENV)/.core: $(CORE_SOURCES) $(VENV)/.build
	@scripts/require.sh build
	@echo "sapwood: building the core (a minute or two)"
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/maturin develop --locked $(PROFILE) >$(VENV)/core.log 2>&1 \
		|| { cat $(VENV)/core.log >&2; exit 1; }
	@touch $@
