# make demo    export the shipped checkpoint, check it, classify photographs, serve it
# make test    every test but the next ones, which take minutes
# make test-networks    the seven networks of the Nish paper, exported with Nish and with Mish
# make lint    ruff, mypy, import-linter
# make bench   the measurements that the README quotes
# Each makes .venv with what it needs; the second time nothing is installed and no network is needed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export UV_PYTHON := $(BIN)/python
# Reinstalled, so that the native Nish is compiled again where its sources changed.
INSTALL = $(BIN)/uv pip install --quiet --constraints constraints.txt --reinstall-package taijitu
NATIVE := hatch_build.py $(wildcard runtime/taijitu_runtime/native/*.h runtime/taijitu_runtime/native/*.cpp)

.PHONY: demo test test-networks lint bench clean

demo: $(VENV)/.demo
	$(BIN)/python demo.py

test: $(VENV)/.dev
	$(BIN)/python -m pytest $(PYTEST)

test-networks: $(VENV)/.dev
	$(BIN)/python -m pytest -m networks $(PYTEST)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev
	$(BIN)/python benchmarks/nish.py
	$(BIN)/python benchmarks/nish_onnx.py
	$(BIN)/python benchmarks/training_speed.py
	$(BIN)/python benchmarks/camera.py

$(BIN)/uv:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv

$(VENV)/.demo: pyproject.toml constraints.txt $(NATIVE) | $(BIN)/uv
	$(INSTALL) --editable '.[demo]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt $(NATIVE) | $(BIN)/uv
	$(INSTALL) --editable '.[dev]'
	@touch $@ $(VENV)/.demo

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache runtime/taijitu_runtime/native/*.so
