# make demo    export the shipped checkpoint, check it, classify photographs, serve it
# make test    every test, except those of the other test-... commands, which take minutes
# make test-networks    more networks of ours and of the Nish paper, exported, and networks of other exporters, adopted
# make test-engines    an engine of every network and activation
# make test-ray    the Ray Serve application on a real local Ray
# make test-gpu    every path of a GPU or a board, with a report; GPU="--data cifar10-jpeg.tar.xz" for int8 too
# make test-docker    docker/*.Dockerfile built by Docker, started by compose, and answering; DOCKER=server for one of them
# make lint    ruff, mypy, import-linter, the documentation's tables, the workflows, spelling and phrases
# make docs    the documentation as a site in build/site, with every link checked; make docs-tables writes its tables
# make fuzz   20,000 damaged pictures and cards, 4,000 damaged requests: no crash, no hang; PHOTOS=folder of photographs
# make bench   the measurements that the README quotes
# make bench-server   our server, a naive one and LitServe, under wrk (apt-get install wrk)
# make soak   10 minutes of good, bad and slow clients and reloads; SOAK=--seconds 60 for less
# make test-lowest, make test-newest   the core of the tests with the oldest, the newest release of every package
# make dist   the source archive and the wheels in dist/, checked; make test-dist installs each into an empty environment
# make release-check   what is missing for a release; make publish   dist/ to the package index, from a workflow
# Each makes .venv with what it needs; the second time nothing is installed and no network is needed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export UV_PYTHON := $(BIN)/python
# Compiled at once: torch imports in a third of the time, also where PYTHONDONTWRITEBYTECODE is set.
export UV_COMPILE_BYTECODE := 1
# Reinstalled, so that the native Nish is compiled again where its sources changed.
INSTALL = $(BIN)/uv pip install --quiet --constraints constraints.txt --reinstall-package taijitu
COG = $(BIN)/python -m cogapp -I . --verbosity=0
NATIVE := hatch_build.py $(wildcard runtime/taijitu_runtime/native/*.h runtime/taijitu_runtime/native/*.cpp)

.PHONY: demo test test-networks test-engines test-ray test-gpu test-docker lint docs docs-tables fuzz soak bench \
	bench-server dist test-dist test-lowest test-newest release-check publish clean

demo: $(VENV)/.demo
	$(BIN)/python demo.py

# One process a core, each with the tests of whole files, in their order: by the number of tests, the file that takes
# longest would come last, and the other processes would wait. PYTEST=-n0 for one process.
test: $(VENV)/.dev
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder $(PYTEST)

test-ray: $(VENV)/.dev
	$(BIN)/python -m pytest -m ray $(PYTEST)

test-networks: $(VENV)/.dev
	$(BIN)/python -m pytest -m networks $(PYTEST)

test-engines: $(VENV)/.dev
	$(BIN)/python -m pytest -m engines $(PYTEST)

test-gpu: $(VENV)/.dev
	$(BIN)/python -m tools.first_hour $(GPU)

test-docker: $(VENV)/.dev
	$(BIN)/python -m tools.docker_images $(DOCKER)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(COG) --check docs/*.md
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/codespell $$(git ls-files)
	$(BIN)/python -m tools.language

docs: $(VENV)/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

docs-tables: $(VENV)/.dev
	$(COG) -r docs/*.md

PHOTOS ?= ../shared/data/photos
fuzz: $(VENV)/.dev
	$(BIN)/python -m tools.fuzz_pictures $(PHOTOS)
	$(BIN)/python -m tools.fuzz_server $(PHOTOS)
	$(BIN)/python -m tools.fuzz_cards checkpoints/*.pt

bench: $(VENV)/.bench
	$(BIN)/python benchmarks/nish.py
	$(BIN)/python benchmarks/nish_onnx.py
	$(BIN)/python benchmarks/passes.py
	$(BIN)/python benchmarks/training_speed.py
	$(BIN)/python benchmarks/pictures.py
	$(BIN)/python benchmarks/camera.py

bench-server: $(VENV)/.bench
	$(BIN)/python benchmarks/server.py $(BENCH)

soak: $(VENV)/.dev
	$(BIN)/python -m tools.soak_server $(SOAK)

dist: $(VENV)/.dist
	$(BIN)/python -m tools.dist

test-dist: $(VENV)/.dist
	$(BIN)/python -m pytest -m dist $(PYTEST)

# Apart from .venv: these have other versions. CORE is what touches other people's packages.
CORE = tests/contract tests/export/onnx/test_to_onnx.py tests/export/onnx/test_passes.py \
	tests/export/onnx/test_precision_passes.py tests/runtime/test_classifier.py tests/runtime/pictures/test_preprocess.py \
	tests/server/http/test_routes.py tests/server/kserve/test_kserve.py tests/server/http/test_connections.py \
	tests/server/test_settings.py tests/training/models/test_models.py tests/training/test_checkpoint.py
test-lowest: RESOLUTION = lowest-direct
test-newest: RESOLUTION = highest
test-lowest test-newest: | $(BIN)/uv
	$(BIN)/uv venv --quiet --clear --python $(PYTHON) build/$@
	$(BIN)/uv pip compile --quiet --python build/$@ --resolution $(RESOLUTION) --only-binary :all: \
		--extra camera --extra export --extra server pyproject.toml -o build/$@.txt
	$(BIN)/uv pip install --quiet --python build/$@ --requirement build/$@.txt --editable . 'pytest>=8.3' 'httpx>=0.27' \
		'scikit-image>=0.25' 'tritonclient[http]>=2.50'
	build/$@/bin/python -m pytest $(CORE) $(PYTEST)

release-check: $(VENV)/.dev
	$(BIN)/python -m tools.release

# From a workflow, whose identity the index trusts; nothing is stored.
publish: $(VENV)/.dev
	$(BIN)/uv publish --trusted-publishing always dist/*

$(BIN)/uv:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv

$(VENV)/.demo: pyproject.toml constraints.txt $(NATIVE) | $(BIN)/uv
	$(INSTALL) --editable '.[demo]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt $(NATIVE) | $(BIN)/uv
	$(INSTALL) --editable '.[dev]'
	@touch $@ $(VENV)/.demo

$(VENV)/.bench: pyproject.toml constraints.txt $(NATIVE) | $(BIN)/uv
	$(INSTALL) --editable '.[bench]'
	@touch $@ $(VENV)/.dev $(VENV)/.demo

$(VENV)/.dist: pyproject.toml constraints.txt $(NATIVE) | $(BIN)/uv
	$(INSTALL) --editable '.[dist]'
	@touch $@ $(VENV)/.dev $(VENV)/.demo

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache runtime/taijitu_runtime/native/*.so
