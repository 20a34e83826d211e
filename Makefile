# What a person repeats. `make` alone lists it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# constraints.txt has every package, so that nothing is resolved.
PIP_INSTALL = $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --no-deps
# Processes that share the tests: most of these wait most of the time.
JOBS ?= 4
UV_VERSION := 0.13.9
# What the image installs: the part of constraints.txt that promgithub itself needs.
IMAGE_LOCK := deploy/image/requirements.txt
DRILLS := tests/containers/test_long_container_outages.py

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help venv run demo test drills test-containers drills-containers bench lint format docs pictures manifests site dist lock clean

help:  ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo '  make test ARGS="-k name"          passes arguments to pytest'
	@echo '  make test JOBS=0 ARGS="-k name"   runs one at a time, which is quicker for a few'
	@echo '  make venv PYTHON=python3.13       chooses the Python to build the venv with'

venv: $(STAMP)  ## Install promgithub and its development tools into .venv

$(STAMP): pyproject.toml constraints.txt Makefile
	@command -v $(PYTHON) >/dev/null || \
		{ echo 'promgithub needs Python 3.11 or newer, and there is no $(PYTHON).'; $(how_to_get_python); exit 1; } >&2
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "promgithub needs Python 3.11 or newer, and $(PYTHON) is `$(PYTHON) --version`."; $(how_to_get_python); exit 1; } >&2
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo '$(PYTHON) cannot make a virtual environment.'; $(how_to_get_python); exit 1; } >&2
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv --clear $(VENV)
	$(PIP_INSTALL) --require-hashes -r constraints.txt
	$(PIP_INSTALL) --no-build-isolation -e .
	@touch $@

define how_to_get_python
echo '  Debian, Ubuntu   sudo apt-get install python3 python3-venv'; \
echo '  macOS            brew install python'; \
echo '  another Python   make $(MAKECMDGOALS) PYTHON=/path/to/python3'
endef

run: venv  ## Start promgithub in one process, with its data in ./data, and print the next steps
	@$(BIN)/python -m promgithub.quickstart run

demo: venv  ## Start promgithub, simulate, compare every figure with the truth, and stop
	@$(BIN)/python -m promgithub.quickstart demo

test: venv  ## Run the tests on real servers; on Debian as root, install the servers first
	@.ci/servers
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

drills: venv  ## Run the longest tests, which break real servers for minutes
	@.ci/servers
	$(BIN)/python -m pytest -m drill --timeout 300 --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

test-containers: venv  ## Build the image and run it, compose.yaml and testcontainers on Docker, or on podman with stand-ins
	@.ci/servers
	.ci/containers $(BIN)/python -m pytest tests/containers --ignore $(DRILLS) $(ARGS)

drills-containers: venv  ## Run compose.yaml through longer outages, on the same containers
	.ci/containers $(BIN)/python -m pytest $(DRILLS) $(ARGS)

bench: venv  ## Measure speed and size on private servers, in ten minutes; ARGS="drain scrape" chooses
	@.ci/servers
	$(BIN)/python -m bench $(ARGS)

lint: venv  ## Check style, types and imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: venv  ## Format the code, and repair what ruff can repair
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: venv  ## Write what the docs, the Grafana dashboards and Prometheus' configurations repeat of the code
	$(BIN)/python -m promgithub.reference .
	$(BIN)/python -m deploy.grafana

pictures: venv  ## Take new pictures of the status page, from a simulated history; needs Chromium
	$(BIN)/python -m tests.support.pictures docs/pictures

site: venv  ## Build the documentation into site/; a missing page, link or anchor is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

manifests: venv  ## Write the runbook's address into the alerts, and the rules for Kubernetes and Helm
	$(BIN)/python -m deploy.prometheus_rule

dist: venv  ## Build the sdist and, from it, the wheel into dist/
	$(BIN)/python -m build --no-isolation

lock: venv  ## Write versions and hashes from pyproject.toml; ARGS=--upgrade takes the newest releases
	@tools=`mktemp -d` && trap 'rm -rf "$$tools"' EXIT && \
	$(BIN)/python -m venv "$$tools" && \
	"$$tools/bin/python" -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION) && \
	compile="$$tools/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header" && \
	$$compile --group dev --group site pyproject.toml -o constraints.txt $(ARGS) && \
	$$compile --group build pyproject.toml -o $(IMAGE_LOCK) --constraint constraints.txt --no-annotate

clean:  ## Remove the venv and every cache
	rm -rf $(VENV) build dist site *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
