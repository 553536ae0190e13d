# `make` alone lists the targets.
.DEFAULT_GOAL := help
SHELL := /bin/bash
VENV := .venv
PYTHON := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed

# hqq's build script would otherwise try to compile CUDA kernels.
export DISABLE_CUDA := 1
# No tool that we use may call home, and no model is ever fetched.
export MLFLOW_DISABLE_TELEMETRY := true
export DVC_NO_ANALYTICS := 1
export HF_HUB_OFFLINE := 1
export HF_HUB_DISABLE_TELEMETRY := 1
# Nothing that Reliabit writes or reads is a pickle.
export MLFLOW_ALLOW_PICKLE_DESERIALIZATION := false

.PHONY: help setup run test quick-test lint format typecheck unit test-slow ui pretrain repro lock clean

help:  ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(INSTALLED): requirements.lock pyproject.toml
	test -x $(PYTHON) || python3 -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --requirement requirements.lock
	$(PYTHON) -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $(INSTALLED)

setup: $(INSTALLED)  ## Make .venv and install the locked versions

run: setup  ## Sweep the reference model over 2, 3, 4 and 8 bits beside its unquantized baseline
	$(PYTHON) src/run.py -m quant.bits=2,3,4,8
	@echo "Predictions, figures and metrics of each configuration: outputs/sweeps/. Compare them in the browser: make ui"

test: setup lint typecheck unit  ## Lint, type-check and test

quick-test: setup  ## Run the properties, floors, units and doctests that need no model, in a minute
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest --quick --numprocesses auto --dist loadfile

lint: setup  ## Check style
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

format: setup  ## Format the code, and mend what can be mended without thought
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

typecheck: setup  ## Check types
	$(VENV)/bin/mypy

# A process a core and a thread each; the tests of a file stay together, since they share what is slow to make.
unit: setup  ## Run the tests that take seconds, and the sweeps that take a minute
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -m "not slow" --numprocesses auto --dist loadfile

test-slow: setup  ## Run the tests that take minutes
	$(PYTHON) -m pytest -m slow

ui: setup  ## Open the MLflow UI on the recorded runs, at http://127.0.0.1:5000
	@echo "All cells: http://127.0.0.1:5000/#/experiments/1/runs?workflowType=machine_learning&viewStateShareKey=cells"
	MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false $(VENV)/bin/mlflow ui \
		--backend-store-uri sqlite:///$(CURDIR)/mlruns/mlflow.db --host 127.0.0.1 --port 5000

pretrain: setup  ## Train both reference models anew (an hour on two cores; move models/ away first)
	$(PYTHON) src/run.py task=pretrain model=qwen2_vl_tiny trainer.threads=1
	$(PYTHON) src/run.py task=pretrain model=idefics3_tiny trainer.threads=1

repro: setup  ## Bring the versioned pipeline up to date
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(VENV)/bin/dvc repro

lock: setup  ## Write the installed versions to requirements.lock
	{ echo "# Exact versions of everything that \`make setup\` installs; written by \`make lock\`."; \
	  $(PYTHON) -m pip freeze --exclude-editable | sed -E 's/\+cpu$$//; /^reliabit/d'; } > requirements.lock

clean:  ## Remove what tasks wrote; recorded runs stay
	rm -rf outputs data cache calibration checkpoints results promotion
