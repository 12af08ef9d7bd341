# Everything a person or CI does here. A machine needs python3 (3.11 or later, with venv) and make; the rest is fetched.

PYTHON ?= python3
UV_VERSION := 0.13.9

BIN := .venv/bin
# Changed by each set-up that succeeded; older than what it was made from, the set-up runs again.
READY := .venv/ready
# Trusts whom the machine trusts, a company's own authority too.
UV := VIRTUAL_ENV=.venv $(BIN)/uv --system-certs

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-oldest test-hostile fuzz check bench bench-bundle lock compose-env clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(READY) ## a running Airflow with tenants' DAGs; CHECK=1 takes the tour by itself
	@$(BIN)/python -m demo $(if $(CHECK),--check)

test: check ## all checks and tests; ARGS='tests/stores -x' goes to pytest
	$(BIN)/python -m pytest $(ARGS)
	$(if $(ARGS),,$(BIN)/python -m tests.oldest)

test-oldest: $(READY) ## the tests that lean on Python's own library, on Debian bookworm's 3.11.2; a part of `make test`
	$(BIN)/python -m tests.oldest $(ARGS)

test-hostile: $(READY) ## hostile documents, files and answers on a real Airflow; takes half an hour
	$(BIN)/python -m pytest tests/system -m hostile $(ARGS)

fuzz: $(READY) ## documents and flags that nobody would write; ARGS='--documents 1000 --seed 1'
	$(BIN)/python -m tests.fuzz $(ARGS)

check: $(READY) ## style, format and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: $(READY) ## the benchmarks, one JSON line of figures each
	@for each in parse task_start snapshot refresh plan; do $(BIN)/python -m benchmarks.$$each || exit 1; done

bench-bundle: $(READY) ## bundle mode on a real DAG processor; takes a quiet machine, and most of an hour
	@for each in bundle 'bundle --load' bundle_task_start; do $(BIN)/python -m benchmarks.$$each || exit 1; done

lock: $(READY) ## write requirements.lock and the image's anew from pyproject.toml; UPGRADE=1 takes newer releases
	printf '%s\n' 'uv==$(UV_VERSION)' hatchling editables | \
	$(UV) pip compile pyproject.toml - --all-extras --group dev --universal --python-version 3.11 --quiet \
	    --generate-hashes --no-emit-index-url --no-annotate --no-header $(if $(UPGRADE),--upgrade) -o requirements.lock
	printf '%s\n' hatchling | \
	$(UV) pip compile pyproject.toml - -c requirements.lock --universal --python-version 3.11 --quiet \
	    --generate-hashes --no-emit-index-url --no-annotate --no-header -o docker/requirements.lock

compose-env: ## random secrets for docker-compose.yml, into .env
	@docker/make-env

clean: ## remove all that was made here, the environment and the fetched programs too
	rm -rf .venv .cache .demo .mypy_cache .pytest_cache .ruff_cache .hypothesis dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Exactly what the lock names, checked against its hashes; then the project itself, with no look at any registry.
$(READY): requirements.lock pyproject.toml | $(BIN)/uv
	$(UV) pip sync --require-hashes requirements.lock
	$(UV) pip install --no-deps --no-build-isolation --quiet --editable .
	@touch $@

# The lock names uv too, so that the set-up above leaves it in its place.
$(BIN)/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "Python 3.11 or later is needed, and $(PYTHON) is $$($(PYTHON) --version 2>&1)." \
	         "Name another one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	awk '/^[^ ]/ {on = /^uv==/} on' requirements.lock > .venv/uv.txt
	$(BIN)/python -m pip install --quiet --require-hashes -r .venv/uv.txt
