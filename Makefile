# Everything a developer or CI does, by name. `make` alone lists it.
# Needs python3 (3.11 or newer) and make; every other tool comes pinned into .venv.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# The steps share caches and the two or more cores: they run one after the other, pytest in parallel.
.NOTPARALLEL:
MAKEFLAGS += --no-builtin-rules --no-print-directory

# Paths below are relative: make runs in this folder, whose own path may hold spaces.
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# May be set: make test WORKERS=4
PYTHON ?=
WORKERS ?= auto
PYTEST_ARGS ?=
BENCH_ARGS ?=
KEEP ?=
UPGRADE ?=
IMAGE ?= resumer:dev
REPOSITORY ?= resumer
SOURCE ?=
TAG ?=

# Folders of Python and of YAML, as far as they exist.
PYTHON_DIRS := $(wildcard operator/resumer tests demo docs release)
YAML_DIRS := $(wildcard .github crds charts deploy)

PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadscope
LAYERS_UNIT := tests/unit
UV_COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --custom-compile-command "make lock" $(if $(UPGRADE),--upgrade)

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "  %-14s %s\n", $$1, $$2 }' Makefile

.PHONY: init
init: $(STAMP) ## Make .venv with the pinned tools and this project

# PYTHON, or the first interpreter that runs, is new enough and can make environments: a name
# alone proves nothing, a version manager's stand-in may only print that it has no such version.
# The lock is complete, so pip resolves nothing: it would add what pyproject.toml leaves out.
$(STAMP): requirements/dev.txt pyproject.toml
	@usable() { "$$1" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }; \
	python='$(PYTHON)'; \
	if [ -z "$$python" ]; then \
		for name in python3.13 python3.12 python3.11 python3; do \
			if usable "$$name"; then python="$$name"; break; fi; \
		done; \
	fi; \
	if [ -z "$$python" ] || ! usable "$$python"; then \
		echo "make init: no usable Python: tried $${python:-python3.13, python3.12, python3.11, python3};" \
			"needed is 3.11 or newer with the modules venv and ensurepip. Name one: make PYTHON=/path/to/python3" >&2; \
		exit 1; \
	fi; \
	usable $(BIN)/python || "$$python" -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(STAMP)

.PHONY: fmt
fmt: init ## Format the code and repair what ruff can
	$(BIN)/python -m ruff check --fix $(PYTHON_DIRS)
	$(BIN)/python -m ruff format $(PYTHON_DIRS)

.PHONY: lint
lint: init lint-makefile lint-hosts lint-github ## Check style, layers, YAML and what must not be in the tree
	$(BIN)/python -m ruff check $(PYTHON_DIRS)
	$(BIN)/python -m ruff format --check $(PYTHON_DIRS)
	$(BIN)/lint-imports --no-logo
	$(if $(YAML_DIRS),$(BIN)/python -m yamllint --strict $(YAML_DIRS))

.PHONY: lint-makefile
lint-makefile: ## Check that every target is phony and explained
	@awk '/^\.PHONY:/ { phony[$$2] = 1 } \
		/^[a-z][a-z-]*:/ { name = $$1; sub(/:.*/, "", name); rule[name] = 1; if (!/## ./) plain[name] = 1 } \
		END { \
			for (n in rule) if (!(n in phony)) { print "Makefile: " n " is not .PHONY"; bad = 1 } \
			for (n in phony) if (!(n in rule)) { print "Makefile: .PHONY " n " has no rule"; bad = 1 } \
			for (n in plain) { print "Makefile: " n " has no ## text for `make help`"; bad = 1 } \
			exit bad }' Makefile >&2

# The brackets keep these patterns from finding themselves.
REGISTRY_HOSTS := py[p]i\.org|python[h]osted\.org|proxy\.go[l]ang\.org|sum\.go[l]ang\.org|registry\.n[p]mjs\.org|deb\.deb[i]an\.org

.PHONY: lint-hosts
lint-hosts: ## Check that no file names a package registry's host
	@status=0; git grep -nIE --untracked '$(REGISTRY_HOSTS)' -- . || status=$$?; \
	case $$status in \
		0) echo "lint-hosts: the lines above name a package registry's host: which one is used is the machine's setting" >&2; exit 1 ;; \
		1) ;; \
		*) exit $$status ;; \
	esac
	@if [ -e uv.lock ]; then \
		echo "lint-hosts: uv.lock records registry addresses: remove it, requirements/ is the lock (make lock)" >&2; exit 1; fi
	@if grep -nE '^ *-|://' requirements/*.txt | grep -vE ':[0-9]+: +--hash=sha256:[0-9a-f]{64}'; then \
		echo "lint-hosts: requirements/ may hold pins and hashes only: regenerate it (make lock)" >&2; exit 1; fi

.PHONY: lint-github
lint-github: init ## Check the workflows of .github and Renovate's settings
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yaml
	$(BIN)/check-jsonschema --builtin-schema vendor.renovate .github/renovate.json
	$(BIN)/zizmor --offline --no-progress --quiet --strict-collection --persona pedantic .github

.PHONY: types
types: init ## Check the types
	$(BIN)/python -m mypy $(PYTHON_DIRS)

.PHONY: unit
unit: init ## Run the tests without a cluster; every branch of the core must be covered
	$(PYTEST) --cov=resumer.core --cov-report=term-missing:skip-covered --cov-fail-under=100 $(PYTEST_ARGS) $(LAYERS_UNIT)

.PHONY: test
test: init lint types unit ## Run every check and every test, on a control plane on this machine
	$(BIN)/python -m tests.controlplane build --all
	$(PYTEST) $(foreach layer,$(LAYERS_UNIT),--ignore=$(layer)) $(PYTEST_ARGS) tests

.PHONY: controlplane
controlplane: init ## Start a control plane on this machine and say how to reach it
	$(BIN)/python -m tests.controlplane build
	$(BIN)/python -m tests.controlplane up

.PHONY: demo
demo: init ## Show what it does, an outage included; KEEP=1 leaves everything running
	$(BIN)/python -m demo $(if $(KEEP),--keep)

.PHONY: bench
bench: init ## Compare speed with other ways; BENCH_ARGS=--faults counts what faults break, --all measures all
	$(BIN)/python -m tests.bench $(BENCH_ARGS)

.PHONY: docs
docs: init ## Write the tables of the pages and build their site in build/site
	$(BIN)/python docs/generate.py
	$(BIN)/python docs/staging.py build/pages
	$(BIN)/zensical build --strict --clean

.PHONY: chart
chart: init ## Write what is generated from charts/: its README, and the alerts in deploy/
	"$$($(BIN)/python -m tests.controlplane build --helm | grep '/helm-docs$$')" --chart-search-root charts --log-level warning
	$(BIN)/python -m tests.charts.monitoring

.PHONY: manifests
manifests: init ## Write dist/install.yaml: all of deploy/overlays/cluster-install in one file
	@mkdir -p dist
	"$$($(BIN)/python -c 'from tests.controlplane import toolchain; print(toolchain.kubectl())')" kustomize deploy/overlays/cluster-install >dist/install.yaml

.PHONY: lock
lock: init ## Write requirements/ from pyproject.toml; UPGRADE=1 takes newer versions
	$(UV_COMPILE) pyproject.toml --extra otel --output-file requirements/run.txt
	$(UV_COMPILE) pyproject.toml --extra otel --group dev --output-file requirements/dev.txt

.PHONY: verify
verify: lock chart docs lint types unit ## Regenerate what is generated, check it, and fail if the tree is not clean
	@if [ -n "$$(git status --porcelain)" ]; then \
		echo "make verify: these files are not committed, or were not as generated:" >&2; git status --short >&2; exit 1; fi

.PHONY: image
image: ## Build the container image with Docker; IMAGE names it
	@command -v docker >/dev/null || { echo "make image: docker is not on the PATH" >&2; exit 1; }
	docker build --tag '$(IMAGE)' --build-arg "VERSION=$$(sed -n 's/^__version__ = "\(.*\)"$$/\1/p' operator/resumer/__init__.py)" .

.PHONY: dist
dist: init ## Write all files of a release to dist/; REPOSITORY names the place of the image
	$(BIN)/python -m release dist --repository '$(REPOSITORY)' --source '$(SOURCE)'

.PHONY: sbom
sbom: init ## Write dist/sbom.cdx.json: the packages that run, their licences and what needs which
	$(BIN)/python -m release sbom

.PHONY: licenses
licenses: init ## Print the packages that run with their licences, and fail on one that is not allowed
	@$(BIN)/python -m release licenses

# Not part of `make test`: whether a weakness is known changes without a change here.
.PHONY: audit
audit: init ## Ask the package registry for known weaknesses of the packages that run
	$(BIN)/pip-audit --strict --disable-pip --require-hashes --progress-spinner off --requirement requirements/run.txt

.PHONY: release-check
release-check: init ## Say what is in the way of a release; TAG names it, as v1.2.3
	$(BIN)/python -m release check $(if $(TAG),--tag '$(TAG)')

.PHONY: clean
clean: ## Remove .venv, caches and what was built
	rm -rf $(VENV) build dist htmlcov .coverage .coverage.* .hypothesis .cache .import_linter_cache .mypy_cache .pytest_cache .pytest-kind .ruff_cache
	find $(PYTHON_DIRS) -type d -name __pycache__ -prune -exec rm -rf {} +
