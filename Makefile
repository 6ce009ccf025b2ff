# Two commands matter: `make demo` and `make test`. Both make the environment they need.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
DATA ?=
REST_PORT ?= 8000
GRPC_PORT ?= 50051

.DEFAULT_GOAL := help
.PHONY: help env demo test lint types imports unit protos bench-offline clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[service,jobs,cpu,load,tracking,distributed,gcp,dev]'
	touch $@

env: $(VENV)/.installed ## make the Python environment in .venv

demo: env ## a shop's files in, a running service out; DATA=<folder> for your own shop
	$(BIN)/plotpointe-jobs demo $(if $(DATA),--data $(DATA)) --rest-port $(REST_PORT) --grpc-port $(GRPC_PORT)

test: env lint types imports unit ## lint, types, import rules and every test

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: env
	$(BIN)/mypy

imports: env
	$(BIN)/lint-imports

# One thread an operation: the models of the tests are small, and where cores are shared a second thread is waited for.
unit: env
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest

protos: env ## regenerate the gRPC stubs and the manifest's JSON schema
	$(BIN)/python -m protos.generate

bench-offline: env ## speed of the offline jobs, each beside its floor; lines go to var/bench/offline.jsonl (about 15 minutes)
	PYTHON=$(BIN)/python OUT=var/bench/offline.jsonl benchmarks/offline/run_all.sh

clean: ## remove the environment and everything the demo made
	rm -rf $(VENV) var
