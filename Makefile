# `make run` and `make test` need python3 (3.11+), make and a package index; no more.
PYTHON ?= python3
BIN := .venv/bin
BUILD = $(PYTHON) tools/environment.py
COMPILE := uv pip compile --quiet --universal --generate-hashes --no-header --no-emit-index-url --python-version 3.11 --no-annotate

.DEFAULT_GOAL := help
.PHONY: help run test lint types layers docs bench fmt clean constraints

help: ; @sed -n '/^help/d;s/^\([a-z]*\): .*## /\1\t/p' Makefile
run: .venv/run.done ; $(BIN)/python examples/stack_generation && $(BIN)/stack-composer stats --since 24h ## run the example and look at what it recorded
test: .venv/dev.done ; $(BIN)/python -m pytest $(ARGS) ## run the tests
lint: .venv/dev.done ; $(BIN)/ruff check . && $(BIN)/ruff format --check . ## check style
types: .venv/dev.done ; $(BIN)/mypy ## check types
layers: .venv/dev.done ; $(BIN)/lint-imports ## check who imports whom
docs: .venv/dev.done ; $(BIN)/sphinx-build -W --keep-going -q -E docs docs/_build/html ## build the documentation
bench: .venv-bench/bench.done ; .venv-bench/bin/python bench $(ARGS) ## measure, beside the peers
fmt: .venv/dev.done ; $(BIN)/ruff check --fix . ; $(BIN)/ruff format . ## put style right
clean: ; rm -rf .venv .venv-bench docs/_build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis ## delete all that was built

.venv/%.done: constraints/%.txt pyproject.toml tools/environment.py ; $(BUILD) .venv $< && touch $@
.venv-bench/%.done: constraints/%.txt pyproject.toml tools/environment.py ; $(BUILD) .venv-bench $< && touch $@

constraints: ; $(COMPILE) pyproject.toml --all-extras --group dev -o constraints/dev.txt && $(COMPILE) pyproject.toml --group build --group example -c constraints/dev.txt -o constraints/run.txt && $(COMPILE) pyproject.toml --group bench -o constraints/bench.txt ## resolve the versions anew (needs uv)
