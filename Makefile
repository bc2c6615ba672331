# Every target sets up what it needs the first time, and never again until pyproject.toml or
# constraints.txt change.
PYTHON ?= python3
BIN := .venv/bin
# --no-compile: Python compiles what is used when it is used, which is a small part of all this
PIP := $(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt
export PATH := $(CURDIR)/$(BIN):$(PATH)
export DVC_NO_ANALYTICS := 1
# llama-cpp-python is compiled: for any processor of this kind, and without what reads pictures
export CMAKE_ARGS ?= -DGGML_NATIVE=OFF -DLLAVA_BUILD=OFF
.DEFAULT_GOAL := help
.PHONY: help run test pages check lab docs bench clean

help: ## show this list
	@grep -hE '^[a-z]+:.*## ' Makefile | sed -E 's/^([a-z]+):.*## /  make \1	/'

.venv/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo 'Python 3.11 or later is needed; name one with make PYTHON=/path/to/python'; exit 2; }
	$(PYTHON) -m venv .venv
	@touch $@

.venv/.base: .venv/.made pyproject.toml constraints.txt
	$(PIP) -e .
	@touch $@

# torch first and by itself: asked for along with others, pip may take a build with several GB of
# GPU libraries
.venv/.all: .venv/.base
	for part in compiler java; do bash tools/install_system.sh $$part || exit 1; done
	$(PIP) "$$(grep '^torch==' constraints.txt)"
	$(PIP) -e '.[all]'
	@touch $@

# Kubeflow's compiler wants other versions of some libraries: an environment of its own, in which
# the project's libraries come second
.venv/.kubeflow: .venv/.all constraints-kubeflow.txt
	$(PYTHON) -m venv .venv/kubeflow
	.venv/kubeflow/bin/python -m pip install --quiet --disable-pip-version-check -r constraints-kubeflow.txt
	$(BIN)/python -c 'import site; print(*site.getsitepackages(), "$(CURDIR)", sep="\n")' > \
		"$$(.venv/kubeflow/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/project.pth"
	@touch $@

run: .venv/.base ## replay 52 weeks of the film service; the report is in .trending_now/report.html
	$(BIN)/trending-now run $(ARGS)

test: .venv/.all .venv/.kubeflow ## everything that must hold: generated files, style, pages, docs, tests
	bash tools/install_system.sh
	for part in postgres balancer; do bash tools/install_system.sh $$part || exit 1; done
	$(BIN)/python tools/check_generated.py
	$(BIN)/python tools/style.py
	$(MAKE) --no-print-directory -j 2 pages docs
	$(BIN)/python -m pytest -q tests

# beside each other: much of the second keeps one processor busy
pages: .venv/.all .venv/.kubeflow
	$(BIN)/python tools/run_pages.py

check: .venv/.all .venv/.kubeflow ## before a commit, in under a minute: what has changed, and its style
	$(BIN)/python tools/check.py $(REV)

lab: .venv/.all .venv/.kubeflow ## open the pages in JupyterLab, trusted, beginning with the index
	$(BIN)/jupyter trust nbs/*.ipynb nbs/*/*.ipynb >/dev/null
	$(BIN)/jupyter lab --config=tools/lab_config.py nbs/index.ipynb

docs: .venv/.all ## build the docs site into _docs/
	$(BIN)/python tools/build_docs.py

bench: .venv/.all ## measure speed side by side with other packages, into bench/results.md
	$(BIN)/python bench/run.py $(ARGS)

clean: ## remove what was built; workspaces stay
	rm -rf .venv _docs _proc build
