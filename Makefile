# Two commands: `make demo` runs the main job on an embedded input; `make test` runs linter, type checker and tests.
# Each first creates .venv and installs what is missing, with the versions that constraints.txt pins.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TORCH := $(VENV)/.torch
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

.PHONY: install demo test test-slow lint constraints clean
install: $(STAMP)

# uv takes a seventh of pip's time, and pip is there where uv is not.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
UV := UV_SYSTEM_CERTS=1 UV_NATIVE_TLS=1 $(BIN)/uv pip install --quiet --python $(BIN)/python

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -c constraints.txt uv && $(UV) -c constraints.txt -e '.[dev]' || $(PIP) -c constraints.txt -e '.[dev]'
	touch $(STAMP)

# The tests compare with torch and transformers; the main job does without. Where pip would fetch a build for CUDA, a
# smaller one comes with PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
$(TORCH): $(STAMP)
	$(PIP) --no-compile -c constraints.txt -e '.[dev,torch]'
	touch $(TORCH)

demo: $(STAMP)
	$(BIN)/reserve demo --output reserve-demo --overwrite

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: $(TORCH) lint
	$(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder

# What `make test` leaves out because it takes long.
test-slow: $(TORCH)
	$(BIN)/pytest -m slow

# Resolves pyproject.toml for every supported Python and platform; run it to move to newer versions.
constraints: $(STAMP)
	$(PIP) uv
	$(BIN)/uv pip compile --universal --python-version 3.11 --extra dev --extra torch --no-header --no-annotate pyproject.toml -o constraints.txt

clean:
	rm -rf $(VENV) reserve-demo build *.egg-info
