# Every target does the set-up that it needs; `make help` lists them. Values given on the command line
# reach commands through the environment ("$$NAME"), so that no shell reads them.
PYTHON ?= python3
BIN := .venv/bin
VALUES := A B BUCKET FLAGS HOURS MAX_GB MODEL NAME PHASE PORT REVISION SCALE SEEDS TO
# Nor does make expand a `$` in them.
$(foreach name,$(VALUES),$(if $(value $(name)),$(eval override $(name) := $$(value $(name)))))
export $(VALUES)
# The stages call plain `python`, which must be the one of the virtual environment.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: help setup repository interop gpu tpu smoke demo report accept continue finish experiments compare repeat \
	import recipe recipe-text tiny-base remote push bucket test check-slow lint hooks lock clean bench
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

# Which of these libraries are right depends on the machine. `--group` came with pip 25.1.
.venv/gpu-installed: .venv/installed pyproject.toml
	$(BIN)/python -m pip install --quiet 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --group gpu
	@touch $@

gpu: .venv/gpu-installed ## the CUDA libraries that TensorFlow needs on NVIDIA's GPUs; see docs/gpu.md

# Both packages hold the folder `tensorflow`: they go together, so that no file of either stays.
.venv/tpu-installed: .venv/installed pyproject.toml
	$(BIN)/python -m pip install --quiet 'pip>=25.1'
	$(BIN)/python -m pip uninstall --quiet --yes tensorflow tensorflow-tpu
	$(BIN)/python -m pip install --quiet --group tpu
	@touch $@

tpu: .venv/tpu-installed ## TensorFlow for TPUs in place of the locked one; see docs/tpu.md

# A downloaded ZIP is none, and DVC's message does not say what to do.
repository:
	@git rev-parse --git-dir > /dev/null 2>&1 || \
		{ echo "make: error: not a git repository, which DVC needs; clone the project with git instead of downloading a ZIP, or run: git init" >&2; exit 1; }

smoke: repository setup ## all stages on a sliver of text, in about a minute
	python -m lib.commands.recipe smoke --in .scratch/smoke
	cd .scratch/smoke && dvc repro && python -m lib.commands.summary

demo: repository setup ## the whole pipeline on the demo corpus
	dvc repro
	@python -m lib.commands.summary

accept: setup ## keep finished outputs when only code has changed (after an update; see README)
	@python -m lib.commands.accept

continue: setup ## let the next run go on from the last one with another length or learning rate: PHASE=main
	@python -m lib.commands.continue_run "$$PHASE"

finish: setup ## export the models of a run that has not finished to models/unfinished: PHASE=main
	@python -m lib.commands.finish "$$PHASE"

report: setup ## results/report.html: the whole run on one page, from the files in results/
	@python -m lib.commands.report

experiments: setup ## a table of the experiments, best first; FLAGS=--md, or other flags of dvc exp show
	@printf '%s' "$$FLAGS" | xargs python -m lib.commands.experiments

compare: setup ## the difference of two models on the same test documents: A=main B=initial; or experiments
	@python -m lib.commands.compare "$$A" "$$B"

repeat: setup ## the present parameters with several training seeds: SEEDS=3; mean ± sd of every metric
	@printf '%s' "$$FLAGS" | xargs python -m lib.commands.repeat "$${SEEDS:-3}" $(if $(NAME),--name="$$NAME")

import: setup ## download a model at a pinned commit to models/base: MODEL=bert-base-uncased REVISION=...
	@python -m lib.commands.import_model "$$MODEL" "$$REVISION" $(if $(TO),--to="$$TO") \
		$(if $(MAX_GB),--max-gb="$$MAX_GB") $(if $(HOURS),--hours="$$HOURS")

recipe: setup ## set params.yaml for a known model: NAME=kanarya; SCALE=tiny: a run of minutes; no NAME: a list
	@python -m lib.commands.recipe $(if $(NAME),"$$NAME") $(if $(SCALE),--scale="$$SCALE")

recipe-text: setup ## write synthetic text for trying a recipe to data/raw: NAME=kanarya
	@python -m lib.samples.recipe_text "$$NAME"

tiny-base: smoke ## copy the smoke run's BERT to models/base/tiny, for recipes that continue a model
	mkdir -p models/base
	rm -rf models/base/tiny
	cp -r .scratch/smoke/models/main models/base/tiny
	dvc add models/base/tiny

remote: setup ## set and check DVC's default remote in a bucket: BUCKET=gs://name/prefix
	@python -m lib.commands.remote $(if $(BUCKET),"$$BUCKET")

push: setup ## push all outputs and the run cache (outputs of runs that were never committed)
	dvc push
	@python -m lib.commands.remote --push-runs

bucket: setup ## a bucket on this machine, to try a remote without an account
	@python -m lib.commands.bucket $(if $(PORT),--port="$$PORT")

test: setup ## the test suite
	python -m pytest -q -n auto --dist loadfile --no-loadscope-reorder

check-slow: interop ## the slow tests: many kills, peers, whole runs, the report in a browser (Chromium)
	python -m pytest -q -n auto --dist loadfile -m slow

lint: setup ## ruff and mypy
	ruff check .
	ruff format --check .
	mypy lib stages tools

hooks: setup ## ruff and mypy before every commit (pre-commit)
	$(BIN)/python -m pip install --quiet pre-commit==4.7.0
	$(BIN)/pre-commit install

lock: setup ## new lock files from pyproject.toml (needs uv)
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
		--group dev pyproject.toml -o requirements.lock
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
		--group dev --group interop --constraint requirements.lock \
		pyproject.toml -o requirements-interop.lock

bench: ## benchmarks against other tools; `make -C bench help` lists them and their inputs
	@$(MAKE) --no-print-directory -C bench all

# What training keeps stays: checkpoints of runs, finished or not, and the code that `make accept` took
# for equal; so do the objects of the local bucket.
clean: ## remove what .scratch keeps for the next run, cleaned text above all; not checkpoints of training
	@test ! -d .scratch || find .scratch/ -mindepth 1 -maxdepth 1 ! -name pretrain \
		! -name accepted_code.json ! -name bucket -exec rm -rf {} +
