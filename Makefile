# make demo and make test are all that a fresh machine needs; Python >= 3.9, git and make must be there.
# Each makes its own environment in .venv first, and again when the dependencies change.

PYTHON ?= python3
VENV := .venv
BIN := $(abspath $(VENV))/bin
STAMP := $(VENV)/.made
LOCKED := requirements/dev.txt
EXPORT := export --quiet --frozen --no-hashes --no-annotate --no-header --no-emit-project --group dev

# Nothing from the caller's own environment may stand in for what is checked here.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV
# for the scripts
export PATH := $(BIN):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.NOTPARALLEL:
.DEFAULT_GOAL := help
.PHONY: help demo test env deps lint format types imports docs lock-check wheel pytest bench lock clean

help:
	@echo "make demo     push the quick example into a pool, run two workers, show the result"
	@echo "make test     everything that checks the project; needs a few minutes"
	@echo "make pytest   only the tests; choose with ARGS, e.g. make pytest ARGS='-k claim'"
	@echo "make lint     style, types and import rules;  make format  puts the style right"
	@echo "make docs     the documentation, into site/"
	@echo "make bench    the benchmarks, compared with other programs"
	@echo "make lock     after a change of dependencies in pyproject.toml"
	@echo "make clean    remove everything that make made"

env: $(STAMP)

$(STAMP): pyproject.toml $(LOCKED) src/picas/_version.py scripts/make-env.sh
	scripts/make-env.sh "$(PYTHON)" "$(VENV)" "$(LOCKED)"
	@touch $@

demo: env
	scripts/demo.sh

# pytest comes last, so that its closing line is the last thing on the screen.
test: env deps lint docs lock-check wheel pytest

deps:
	scripts/system-deps.sh
	scripts/pouchdb.sh
	scripts/classic.sh

lint: env
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(MAKE) --no-print-directory types imports

format: env
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: env
	$(BIN)/mypy

# The third contract needs an import-linter that needs Python 3.10.
imports: env
	@if $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 10))'; \
	  then $(BIN)/lint-imports; else $(BIN)/lint-imports --contract layers --contract root; fi

docs: env
	$(BIN)/mkdocs build --strict --site-dir site

lock-check: env
	@$(BIN)/uv $(EXPORT) | diff - $(LOCKED) || { echo "$(LOCKED) does not fit uv.lock: run 'make lock'" >&2; exit 1; }

wheel: env
	scripts/wheel-demo.sh

# Real processes, kills and servers, three tests at a time, since they wait as much as they compute: what fails in that
# crowd is tried again by itself, and said.
pytest: env
	$(BIN)/pytest -n 4 --dist loadfile -m "not slow" $(ARGS) || scripts/again.sh $(BIN)/pytest $$? -m "not slow" $(ARGS)

bench: env
	$(BIN)/python -m benchmarks $(ARGS)

lock: env
	$(BIN)/uv lock
	$(BIN)/uv $(EXPORT) --output-file $(LOCKED)

clean:
	rm -rf $(VENV) .nox site dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache \
	  tests/couchdb/node_modules tests/couchdb/.classic
	find src tests benchmarks -type d -name __pycache__ -prune -exec rm -rf {} +
