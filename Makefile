# Every target does the set-up that it needs; `make help` lists them.
PYTHON ?= python3
BIN := .venv/bin
# The stages call plain `python`: that of the virtual environment.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: help setup interop smoke demo test check-slow lint lock clean
help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

# The stamp is newer than the lock file exactly when the environment holds what the lock says.
.venv/installed: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "make: error: $(PYTHON) is not Python 3.11 to 3.13; name one: make setup PYTHON=python3.12" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	@touch $@

setup: .venv/installed ## a virtual environment from the lock file

# PyTorch has another build for every kind of machine, so it is not in the hashed lock.
.venv/interop-installed: .venv/installed requirements-interop.lock
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements-interop.lock
	@touch $@

interop: .venv/interop-installed ## transformers and PyTorch, for the tests against them

smoke: setup ## all stages on a sliver of text, in about a minute
	python -m lib.recipe recipes/smoke.yaml --in .scratch/smoke
	cd .scratch/smoke && dvc repro && python -m lib.summary

demo: setup ## the whole pipeline on the demo corpus
	dvc repro
	@python -m lib.summary

test: setup ## the test suite
	python -m pytest -q

check-slow: interop ## what takes long: many kills, peers, whole runs
	python -m pytest -q -m slow

lint: setup ## ruff and mypy
	ruff check .
	ruff format --check .
	mypy lib stages

lock: setup ## new lock files from pyproject.toml (needs uv)
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
		--group dev pyproject.toml -o requirements.lock
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
		--group dev --group interop --constraint requirements.lock \
		pyproject.toml -o requirements-interop.lock

clean: ## remove scratch (cleaned text that is kept for the next run, unfinished training)
	rm -rf .scratch
