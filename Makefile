# One command each; what it needs is set up in .venv on the way, and only once.
#
#   make demo    segment real scans through Slicer's MRML, into out/demo
#   make test    lint, format, types and all tests
#   make bench   time and memory, side by side with the plain ways, into out/bench
#
# Wants Python 3.10 or newer (make demo PYTHON=/path/to/python) and a package registry.

.DELETE_ON_ERROR:
.ONESHELL:
SHELL := bash
.SHELLFLAGS := -euo pipefail -c

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.10 python3; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && echo $$p && break; \
	done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# nnU-Net brings torchvision along without using it; its build for CUDA does not fit a CPU's torch,
# and Lightning then fails on finding it.
NO_TORCHVISION := $(BIN)/python -m pip uninstall --quiet --yes torchvision

.PHONY: demo test bench clean
demo: $(VENV)/.demo
	$(BIN)/python examples/demo.py $(ARGS)

test: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy examples Testing/benchmarks
	$(BIN)/python -m pytest $(ARGS)

bench: $(VENV)/.bench
	$(BIN)/python Testing/benchmarks/inference.py $(ARGS)
	$(BIN)/python Testing/benchmarks/training.py

# Away with the environment and what the commands wrote.
clean:
	rm -rf $(VENV) out

$(VENV)/.python:
	@if [ -z "$(PYTHON)" ]; then
		echo "No Python 3.10 or newer was found; install one, or name it: make PYTHON=/path/to/python" >&2
		exit 1
	fi
	echo "Setting up $(VENV) with $$($(PYTHON) --version); the first time takes some minutes."
	# Debian's Python comes without ensurepip; its pip can then put itself into the environment.
	$(PYTHON) -m venv $(VENV) > /dev/null 2>&1 || {
		$(PYTHON) -m venv --clear --without-pip $(VENV)
		$(PYTHON) -m pip --quiet --python $(BIN)/python install pip
	}
	touch $@

# torch by itself and first: with its exact version a build for CPUs is taken where one is offered,
# and asking for anything that needs "some torch" would fetch gigabytes of CUDA libraries.
$(VENV)/.engine: $(VENV)/.python constraints.txt training/pyproject.toml
	$(PIP) torch==2.13.0
	$(PIP) -e training
	touch $@

$(VENV)/.demo: $(VENV)/.engine examples/requirements.txt
	$(PIP) -r examples/requirements.txt
	touch $@

# The demo's and the benchmark's code is checked for types too, against what it imports.
$(VENV)/.test: $(VENV)/.engine $(VENV)/.demo Testing/requirements.txt
	$(PIP) -e 'training[train]' -r Testing/requirements.txt
	$(NO_TORCHVISION)
	touch $@

$(VENV)/.bench: $(VENV)/.engine Testing/benchmarks/requirements.txt
	$(PIP) -e 'training[train]' -r Testing/benchmarks/requirements.txt
	$(NO_TORCHVISION)
	touch $@
