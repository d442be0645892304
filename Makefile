# Two commands do all set-up on a fresh machine with Python >= 3.11: `make figures` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# setuptools describes editable installations at length.
PIP := PYTHONWARNINGS="ignore:Editable installation" $(BIN)/python -m pip install --quiet --disable-pip-version-check
PYTEST := $(BIN)/python -m pytest
JAVASCRIPT := $(VENV)/javascript
JAVASCRIPT_CHECKS := tests/paper_figures/pages/javascript
NODE := PATH="$(abspath $(BIN)):$$PATH"
# Compiled programs are kept: the runs of the tests after the first compile almost nothing.
export JAX_COMPILATION_CACHE_DIR ?= $(abspath $(VENV))/jax-cache
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS ?= 0.2
export JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES ?= -1

# Line integrals and cluster expansions are NumPy's alone.
STRICT := tests/test_strict_numerics.py $(filter-out $(addprefix %/test_,$(addsuffix .py,bracket chernoff class_structure cluster files)), \
  $(wildcard tests/gmm/test_*.py tests/theory/test_*.py)) $(addprefix tests/neural/,test_trackers.py edm2/test_denoiser.py edm2/test_latents.py stable_diffusion/test_denoiser.py)

.PHONY: help figures test slow strict torch browser lint javascript hardening minimum wheel parity bench docs clean
help:  ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

figures: $(VENV)/run.stamp  ## install, then make every default figure into figures/
	@mkdir -p figures
	$(BIN)/speciation explore --out figures/explorer.html
	$(BIN)/speciation figures --out figures
	@echo "Open figures/index.html in a browser. The command is $(BIN)/speciation, or, in this terminal from now on,"
	@echo "speciation after: source $(BIN)/activate"

# Neighbours stay on one worker: they share fixtures and compiled programs.
test: $(VENV)/test.stamp  ## the tests (minutes), the shapes of arrays checked while they run
	$(PYTEST) -n 2 --dist worksteal --typecheck -m "not slow and not parity"

slow: $(VENV)/test.stamp  ## the tests marked slow
	$(PYTEST) -n 2 --dist worksteal -m "slow and not parity"

strict: $(VENV)/test.stamp  ## a part of the tests, with NaN, infinities and implicit promotion refused by JAX
	$(PYTEST) -n 2 --dist worksteal --strict-numerics -m "not slow and not parity and not torch" $(STRICT)

torch: $(VENV)/diffusers.stamp  ## tiny networks against torch, diffusers and transformers
	$(PYTEST) -m "torch and not parity"

# Debian's package manager installs the browser where there is none.
browser: $(VENV)/browser.stamp  ## the pages in a real browser, Chromium
	command -v chromium chromium-browser > /dev/null || (apt-get update -qq && apt-get install -qq --yes chromium) || \
	  echo "no browser can be installed: the tests are skipped"
	$(PYTEST) -m browser tests/paper_figures/pages

lint: $(VENV)/lint.stamp  ## ruff and pyright
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

# Types by JSDoc, then the linter; each page's scripts are one program.
javascript: $(JAVASCRIPT).stamp  ## types and lint of the pages' JavaScript, by TypeScript and ESLint
	for page in tsconfig tsconfig.view; do $(NODE) $(JAVASCRIPT)/node_modules/.bin/tsc --project $(JAVASCRIPT_CHECKS)/$$page.json || exit 1; done
	$(NODE) $(JAVASCRIPT)/node_modules/.bin/eslint --config $(JAVASCRIPT_CHECKS)/eslint.config.mjs paper_figures/pages

hardening: $(VENV)/test.stamp  ## kills, interruptions and full disks (`make test` has the hostile files)
	$(PYTEST) -n 2 --dist worksteal tests/hardening/processes.py

# The floors that pyproject.toml declares, in an environment of their own.
minimum:  ## the quick tests with the oldest supported dependencies
	$(PYTHON) -m venv --clear .venv-minimum
	.venv-minimum/bin/python -m pip install --quiet uv
	.venv-minimum/bin/uv pip install --quiet --python .venv-minimum/bin/python --resolution lowest-direct --editable ".[test]"
	.venv-minimum/bin/python -m pytest -n 2 --dist worksteal -W ignore::DeprecationWarning -m "not slow and not parity" tests/gmm tests/theory tests/paper_figures

wheel: $(VENV)/run.stamp  ## build sdist and wheel, install the wheel in an empty environment, and run it
	rm -rf dist .venv-wheel
	$(PIP) build
	$(BIN)/python -m build --outdir dist
	$(PYTHON) -m venv .venv-wheel
	.venv-wheel/bin/python -m pip install --quiet dist/*.whl
	cd dist && ../.venv-wheel/bin/speciation figures --fast --only four-points --out figures
	cd dist && ../.venv-wheel/bin/speciation show figures/four-points-fast.nc

# Lessons that need torch or diffusers are run where these are installed (by `make torch`, say).
docs: $(VENV)/docs.stamp  ## build the site into docs/_build/html: figures and notebooks run, warnings are errors
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo "open docs/_build/html/index.html"

parity: $(VENV)/parity.stamp  ## full-size networks against torch-based oracles; not part of CI
	$(PYTEST) -m parity

bench: $(VENV)/bench.stamp  ## benchmark tables
	$(BIN)/python -m benchmarks

# One stamp an extra: installing again only when pyproject.toml has changed.
$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
$(VENV)/run.stamp: pyproject.toml | $(VENV)/bin/python
	$(PIP) --upgrade pip
	$(PIP) --editable .
	@touch $@
$(VENV)/test.stamp $(VENV)/browser.stamp $(VENV)/lint.stamp $(VENV)/diffusers.stamp $(VENV)/parity.stamp $(VENV)/bench.stamp $(VENV)/docs.stamp: $(VENV)/%.stamp: $(VENV)/run.stamp
	$(PIP) --editable ".[test,$*]"
	@touch $@

# Node and npm come with the extra `lint`.
$(JAVASCRIPT).stamp: $(JAVASCRIPT_CHECKS)/package.json | $(VENV)/lint.stamp
	mkdir -p $(JAVASCRIPT)
	cp $< $(JAVASCRIPT)
	$(NODE) npm install --prefix $(JAVASCRIPT) --no-package-lock --no-audit --no-fund --loglevel error
	@touch $@

clean:  ## remove the virtual environment, every made figure and the built site
	rm -rf $(VENV) .venv-minimum .venv-wheel dist figures docs/_build
