# `make run` and `make test` do all the set-up; `make help` lists the commands.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
# An environment contains its folder's path; a moved checkout gets a new one.
INSTALLED := $(VENV)/.installed-$(shell pwd | cksum | cut -d ' ' -f 1)

.PHONY: help install run repro seeds ui schedule unschedule test test-all test-faults test-dvc-versions check fuzz bench clean

help: ## list the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

$(INSTALLED): pyproject.toml prefect-dvc/pyproject.toml constraints.txt
	test -e $@ || rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	pip install --quiet --constraint constraints.txt --editable ./prefect-dvc --editable '.[dev]'
	touch $@

install: $(INSTALLED) ## create the environment in .venv

run: $(INSTALLED) ## run the whole pipeline on MNIST, as a Prefect flow
	python -m flows.pipeline

repro: $(INSTALLED) ## run the same with DVC alone
	dvc repro

seeds: $(INSTALLED) ## train every variant with ten seeds, for the spread of the results
	python -m flows.seeds

ui: $(INSTALLED) ## start the Prefect server with its UI
	prefect server start

schedule: $(INSTALLED) ## run the pipeline on the schedule in params.yaml
	python -m flows.schedule

unschedule: $(INSTALLED) ## stop the schedule; the history stays
	python -m flows.schedule --stop

PYTEST := python -m pytest --numprocesses 2 --dist loadfile

test: $(INSTALLED) ## run the fast tests, in 3 minutes; they need no network and no GPU
	$(PYTEST)
	cd prefect-dvc && $(PYTEST)

test-all: $(INSTALLED) ## run all tests: also schedules, determinism, PostgreSQL, faults
	$(PYTEST) -m 'not faults'
	cd prefect-dvc && $(PYTEST) -m ''

test-faults: $(INSTALLED) ## cause every fault in every step, half an hour; writes docs/faults.md
	python -m pytest -m "" tests/flows/test_faults.py tests/flows/test_determinism.py

# The ends of the range in prefect-dvc/pyproject.toml.
DVC_OLDEST := 3.51.0
DVC_NEWEST := 3.67.1
DVC_TESTS := $(addprefix tests/test_,both_engines.py dvc_repo.py options.py \
	planning.py random_projects.py rwlock_file.py)

test-dvc-versions: test-dvc-$(DVC_OLDEST) test-dvc-$(DVC_NEWEST) ## test prefect-dvc with the oldest and newest supported DVC, a quarter of an hour

# The pinned versions, except those that DVC chooses. DVC before 3.66.1 allows pathspec 1
# but fails with it. Old releases use calls that their libraries have since deprecated.
.venv-dvc-%/.installed: prefect-dvc/pyproject.toml constraints.txt
	rm -rf $(@D)
	$(PYTHON) -m venv $(@D)
	grep -vE '^(dvc|dvc-data|flufl.lock|pathspec|platformdirs)==' constraints.txt > $(@D)/constraints.txt
	$(@D)/bin/pip install --quiet --constraint $(@D)/constraints.txt --editable ./prefect-dvc \
		dvc==$* 'pathspec<1' hypothesis psutil pytest pytest-timeout
	touch $@

.PRECIOUS: .venv-dvc-%/.installed

test-dvc-%: .venv-dvc-%/.installed
	cd prefect-dvc && $(CURDIR)/.venv-dvc-$*/bin/python -m pytest -m '' -W default::DeprecationWarning $(DVC_TESTS)

check: $(INSTALLED) ## check format, lint, types, and the prose: .ci/deny-list
	ruff format --check .
	ruff check .
	mypy
	@! git grep -nIE -f .ci/deny-list -- . ':!.ci/deny-list' ':!docs/lesson.md' | grep -v 'prose: ok'

fuzz: $(INSTALLED) ## feed a million inputs to each reader of foreign files, an hour
	pip install --quiet --constraint constraints.txt --editable ./prefect-dvc --editable '.[dev,fuzz]'
	python tests/fuzz/run.py

bench: $(INSTALLED) ## measure speed and memory after `make run`, a quarter of an hour
	python benchmarks/engine.py
	python benchmarks/epoch.py
	python benchmarks/growth.py
	python benchmarks/job.py
	python benchmarks/predict.py
	python benchmarks/soak.py

clean: ## remove the environment and the tools' caches; data and models stay
	rm -rf $(VENV) .venv-dvc-* *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
