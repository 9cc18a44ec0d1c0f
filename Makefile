# `make run` and `make test` need python3 (3.11+), make and a package index; no more.
#: make run         run the example and look at what it recorded
#: make test        run the tests
#: make lint        check style
#: make types       check types
#: make layers      check who imports whom
#: make docs        build the documentation
#: make bench       measure, beside the peers
#: make guard-eval  count what the guard finds, beside other tools; ARGS=--worst for the worst case
#: make mutate      change the guard's code bit by bit: does a test notice?
#: make fuzz        throw made-up texts at the guard, for a minute
#: make interop     speak with a Collector, Jaeger, rotel and the SDKs for Python, Go and JavaScript
#: make fuzz-receive  throw damaged requests at the receiver, for a minute
#: make stress      kill writers by the thousand, and let a crowd of them share a folder
#: make fmt         put style right
#: make clean       delete all that was built
#: make constraints resolve the versions anew (needs uv)
PYTHON ?= python3
BIN := .venv/bin
BUILD = $(PYTHON) tools/environment.py
COMPILE := uv pip compile --quiet --universal --generate-hashes --no-header --python-version 3.11 --no-annotate

.DEFAULT_GOAL := help
.PHONY: help run test lint types layers docs bench guard-eval mutate fuzz interop stress fmt clean constraints

help: ; @sed -n 's/^#: //p' Makefile
run: .venv/run.done ; $(BIN)/python examples/stack_generation && $(BIN)/stack-composer stats --since 24h
test: .venv/dev.done ; $(BIN)/python -m pytest $(ARGS)
lint: .venv/dev.done ; $(BIN)/ruff check . && $(BIN)/ruff format --check .
types: .venv/dev.done ; $(BIN)/mypy
layers: .venv/dev.done ; $(BIN)/lint-imports
docs: .venv/dev.done ; $(BIN)/sphinx-build -W --keep-going -q -E docs docs/_build/html
bench: .venv-bench/bench.done ; .venv-bench/bin/python bench $(ARGS)
guard-eval: .venv-guard-eval/guard-eval.done ; .venv-guard-eval/bin/python guard_eval/evaluate.py $(ARGS)
mutate: .venv/dev.done ; $(BIN)/python tools/mutate.py $(ARGS)
fuzz: .venv-fuzz/fuzz.done ; .venv-fuzz/bin/python tools/fuzz.py $(ARGS)
interop: .venv/dev.done ; PYTHONPATH=tests $(BIN)/python -P tools/interop.py $(ARGS)
fuzz-receive: .venv/dev.done ; $(BIN)/python tools/fuzz_receive.py $(ARGS)
stress: .venv/dev.done ; PYTHONPATH=tests $(BIN)/python tests/stress $(ARGS)
fmt: .venv/dev.done ; $(BIN)/ruff check --fix . ; $(BIN)/ruff format .
clean: ; rm -rf .venv .venv-bench .venv-guard-eval .venv-fuzz docs/_build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

.venv/%.done: constraints/%.txt pyproject.toml tools/environment.py ; $(BUILD) .venv $< && touch $@
.venv-bench/%.done: constraints/%.txt pyproject.toml tools/environment.py ; $(BUILD) .venv-bench $< && touch $@
.venv-guard-eval/%.done: constraints/%.txt pyproject.toml tools/environment.py ; $(BUILD) .venv-guard-eval $< && touch $@
.venv-fuzz/%.done: constraints/%.txt pyproject.toml tools/environment.py ; $(BUILD) .venv-fuzz $< && touch $@

constraints: ; $(COMPILE) pyproject.toml --all-extras --group dev -o constraints/dev.txt && $(COMPILE) pyproject.toml --group build --group example -c constraints/dev.txt -o constraints/run.txt && $(COMPILE) pyproject.toml --group bench -o constraints/bench.txt && $(COMPILE) pyproject.toml --group fuzz -o constraints/fuzz.txt && $(COMPILE) pyproject.toml --group guard-eval -o constraints/guard-eval.txt
