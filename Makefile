# A fresh machine needs only Python and make; everything else goes into .venv.
PYTHON ?= python3
# The oldest versions have wheels for this Python.
OLDEST_PYTHON ?= python3.11
VENV ?= .venv
BIN_FOLDER := $(if $(filter Windows_NT,$(OS)),Scripts,bin)
BIN := $(VENV)/$(BIN_FOLDER)
OLDEST := .venv-oldest
PRERELEASE := .venv-prerelease
# Tests in two processes: each file in one, as its tests share clusters and models. In
# their own order: by default those of few tests, which take longest, would come last.
PYTEST_OPTIONS ?= --numprocesses 2 --dist loadfile --no-loadscope-reorder

# Where changes of Numba, scikit-learn and SciPy would show first; two minutes.
PRERELEASE_TESTS ?= $(addprefix tests/test_,numba_private.py scipy.py vectors.py products.py lbfgs.py common.py)

# Beside the tests of reliability: what else has a long version.
SOAKED := common.py container.py descriptions.py finishing.py gallery.py package.py

.DEFAULT_GOAL := help
# Two targets at once would install into the same environment.
.NOTPARALLEL:
.PHONY: help demo test soak lint types oldest prerelease docs test-docs dist clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-11s %s\n", $$1, $$2}' Makefile

# The environment with one of pyproject.toml's extras, made anew when that changes.
$(VENV)/%.stamp: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[$*]'
	touch $@

$(OLDEST)/stamp: pyproject.toml constraints-oldest.txt
	$(OLDEST_PYTHON) -m venv --clear $(OLDEST)
	$(OLDEST)/$(BIN_FOLDER)/python -m pip install --quiet --constraint constraints-oldest.txt --editable '.[test]'
	touch $@

$(PRERELEASE)/stamp: pyproject.toml
	$(PYTHON) -m venv --clear $(PRERELEASE)
	$(PRERELEASE)/$(BIN_FOLDER)/python -m pip install --quiet --editable . 'pytest>=8.0'
	touch $@

demo: $(VENV)/plot.stamp ## Run the main job on real data; results in demo/
	$(BIN)/python -m skae --output demo

test: $(VENV)/test-all.stamp demo ## The demo, then the test suite
	$(BIN)/python -m pytest $(PYTEST_OPTIONS)

soak: $(VENV)/test-all.stamp ## The tests of reliability, files and examples, more of everything
	SKAE_SOAK=1 $(BIN)/python -m pytest tests/reliability $(addprefix tests/test_,$(SOAKED))
	SKAE_SOAK=1 $(BIN)/python -m pytest -m "soak and not reliability"

lint: $(VENV)/dev.stamp ## Check style and formatting
	$(BIN)/python -m ruff check
	$(BIN)/python -m ruff format --check

types: $(VENV)/dev.stamp ## Check types
	$(BIN)/python -m mypy

oldest: $(OLDEST)/stamp ## The test suite with the oldest supported versions
	$(OLDEST)/$(BIN_FOLDER)/python -m pytest $(PYTEST_OPTIONS) -m "not published and not reliability and not cluster and not once"

# Looked for each time; the rest stays released.
prerelease: $(PRERELEASE)/stamp ## Some tests with pre-releases of Numba and scikit-learn
	$(PRERELEASE)/$(BIN_FOLDER)/python -m pip install --quiet --pre --upgrade numba scikit-learn
	$(PRERELEASE)/$(BIN_FOLDER)/python -m pip list | grep -iE '^(numba|llvmlite|scikit-learn|numpy|scipy) '
	$(PRERELEASE)/$(BIN_FOLDER)/python -m pytest --quiet $(PRERELEASE_TESTS)

docs: $(VENV)/docs.stamp ## Build the documentation in docs/_build/html
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html

test-docs: docs ## The documentation, then its links, and clicks in Chromium
	$(BIN)/python -m pytest tests/site

dist: $(VENV)/dev.stamp ## Build and check the sdist and the wheel in dist/
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/python -m twine check --strict dist/*

clean: ## Delete environments, caches and everything built
	rm -rf $(VENV) $(OLDEST) $(PRERELEASE) build demo dist .mypy_cache .pytest_cache .ruff_cache
	rm -rf docs/_build docs/_figures docs/api.rst docs/auto_examples docs/generated
	find skae tests -name __pycache__ -prune -exec rm -rf {} +
