# `make demo` and `make test` need Python 3.10-3.13 and nothing else; everything lives in .venv.
PYTHON ?= python3
VENV ?= .venv
VENV_FLAGS ?=
PY := $(VENV)/bin/python
STAMP := $(VENV)/.requirements
# make LOCKED=1 ...: the very files of requirements.lock instead of what fits the ranges today.
WANTED := $(if $(LOCKED),requirements.lock,requirements-dev.txt)
PINNED := $(if $(LOCKED),--require-hashes,)

.PHONY: help install demo app docs bench gpu test test-all lint lock audit clean
help:  ## this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

install:  ## make .venv and install into it, only when the requirements changed
	@if [ ! -x $(PY) ]; then \
		$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 10) <= v < (3, 14) else \
			"Python 3.10-3.13 is needed, this is %d.%d: make PYTHON=python3.12 ..." % v)' && \
		echo "Making $(VENV)" && $(PYTHON) -m venv $(VENV_FLAGS) $(VENV); fi
	@if ! cat requirements.txt requirements-dev.txt | cmp -s - $(STAMP); then \
		echo "Installing the requirements into $(VENV) (once; about 5 GB with CUDA's libraries)" && \
		$(PY) -m pip install --disable-pip-version-check $(PINNED) -r $(WANTED) && \
		cat requirements.txt requirements-dev.txt > $(STAMP) && \
		du -sh $(VENV) | awk '{print "Installed: " $$1 " in " $$2}'; fi

demo: install  ## words in one image (out/demo.png); then training: before and after (out/ttd.png)
	@echo "First words in one image (out/demo.png, seconds); then training, before and after" \
		"(out/ttd.png, 2 to 10 minutes on two cores, by machine and load)"
	@$(PY) demo.py --pamr
	@$(PY) tools/story.py --steps 120

app: install  ## a local page to play with: captions, tags, phrases about your own pictures
	@$(PY) -c 'import gradio' 2>/dev/null || { echo "Installing requirements-app.txt (once)" && \
		$(PY) -m pip install --disable-pip-version-check -q -r requirements-app.txt; }
	@$(PY) tools/app.py

docs: install  ## the documentation as a site (out/site/index.html); needs mkdocs-material, once
	@$(PY) -m pip install --disable-pip-version-check -q -r requirements-docs.txt
	@NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict --quiet
	@echo "out/site/index.html; its search works once it is served: python3 -m http.server -d out/site"

bench: install  ## every benchmark against its literal reference, on the CPU
	@$(PY) benchmarks/run_all.py

gpu: install  ## everything that only a GPU can show, in nine minutes: does it work, how fast, is it true
	@$(PY) benchmarks/gpu.py

test: install  ## the fast tests, on all cores
	@OMP_NUM_THREADS=1 $(PY) -m pytest -n auto --dist loadfile

test-all: install  ## all tests, the slow ones too
	@OMP_NUM_THREADS=1 $(PY) -m pytest -m "" -n auto --dist loadfile

lint: install  ## ruff, its formatter, mypy (strict in core/), the order of the rooms
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy
	@$(PY) tools/architecture.py --check

lock: install  ## requirements.lock anew: the newest versions in the ranges, with their hashes
	@$(PY) -m pip install --disable-pip-version-check -q uv
	@$(PY) -m uv pip compile --quiet --upgrade --universal --python-version 3.10 --generate-hashes \
		--no-annotate --no-emit-index-url --no-emit-find-links \
		--custom-compile-command "make lock" requirements-dev.txt -o requirements.lock

audit: install  ## known vulnerabilities of what requirements.lock names (asks a public database)
	@$(PY) -m pip install --disable-pip-version-check -q pip-audit
	@$(PY) .ci/audit.py

clean:  ## remove what the demo and the checks made, not .venv
	rm -rf out .pytest_cache .ruff_cache .mypy_cache
