# nlsim. `make help` lists the targets. The first call of any target installs everything into .venv.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
UV_VERSION := 0.13.8
UV := $(VENV)/bin/uv
INSTALLED := $(VENV)/.installed

.PHONY: help
help: ## List the targets.
	@grep -hE '^[a-zA-Z0-9_%-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  %-20s %s\n", $$1, $$2}'

$(UV):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "nlsim needs Python 3.11 or later: make PYTHON=…"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

$(INSTALLED): $(UV) requirements.lock pyproject.toml
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --requirement requirements.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

.PHONY: install
install: $(INSTALLED) ## Install nlsim and its tools into .venv, from the lock file.

.PHONY: demo
demo: $(INSTALLED) ## The whole article experiment on SmolLM2-135M, ending in a report (≈ 8 minutes on 2 cores).
	$(BIN)/nlsim run configs/demo.yaml

.PHONY: tiny
tiny: $(INSTALLED) ## The same pipeline on the tiny fixtures (under a minute).
	$(BIN)/nlsim run configs/tiny.yaml

.PHONY: test
test: lint typecheck pytest ## Everything CI checks: ruff, mypy, pytest.

.PHONY: pytest
pytest: $(INSTALLED) chromium ## The tests, in parallel.
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist worksteal $(PYTEST_ARGS)

.PHONY: chromium
chromium:
	@command -v chromium >/dev/null || command -v chromium-headless-shell >/dev/null || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "installing Chromium for the tests of the pages"; \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null; \
	  else echo "no Chromium: the tests of the pages will be skipped"; fi; }

.PHONY: lint
lint: $(INSTALLED) ## Style and formatting.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

.PHONY: format
format: $(INSTALLED) ## Apply style and formatting.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: typecheck
typecheck: $(INSTALLED) ## mypy --strict.
	$(BIN)/mypy nlsim argo

.PHONY: bench
bench: $(INSTALLED) ## Measure this machine; prints JSON (about 10 minutes, a quiet machine).
	@for script in bench/cache.py bench/early_exit.py bench/latent_read.py bench/lm_engines.py bench/scoring.py bench/bookkeeping.py bench/cluster_plan.py; do \
	  $(BIN)/python $$script --json || exit 1; done

.PHONY: lock
lock: $(UV) ## Pin every dependency anew (requirements.lock).
	$(UV) pip compile --quiet --universal --no-emit-index-url --no-annotate --no-header --generate-hashes \
	  --python-version 3.11 --extra dev pyproject.toml -o requirements.lock

.PHONY: clean
clean: ## Delete runs, caches and the environment.
	rm -rf runs $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis dist

-include make/*.mk
