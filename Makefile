# Each command makes the environment .venv first when that is missing or out of date.
#   PYTHON=...  the Python to make it with (3.11 or newer)
#   ARGS=...    more arguments: make test ARGS="-k dispute"
#   JOBS=...    processes that run the tests, at most 4

PYTHON ?=
ARGS ?=
# Two more than cores: half of the time a test waits, for the database, a service or a moment to come.
JOBS ?= $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) + 2)))

BIN := .venv/bin
PROGRAMS := $(patsubst tests/clients/requirements/%.txt,.clients/%/.installed, \
    $(wildcard tests/clients/requirements/*.txt)) .clients/sync-engine/.installed .clients/stripe-cli/.installed \
    .clients/generated/.installed .clients/ledger-feed/.installed
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help serve dev test test-ha test-fast check check-console format schema api-tables swagger-ui console-vendor console-pictures docs clients bench bench-peers clean

help:  ## list the commands
	@sed -n 's/^\([a-z-]*\):.*## /make \1\t/p' $(MAKEFILE_LIST) | expand -t 17

serve: .venv/.runtime  ## run the service on an embedded PostgreSQL, or on LEDGER_DATABASE_URL
	@exec $(BIN)/ledger serve $(ARGS)

dev: .venv/.test  ## run the service as `make serve` does, and restart it when a source file changes
	@exec $(BIN)/watchfiles --filter python --sigint-timeout 10 '$(BIN)/ledger serve $(ARGS)' \
	    ledger projections alembic

test: .venv/.test  ## run all tests, and list the slowest
	@exec $(BIN)/python -m pytest -n $(JOBS) --maxprocesses 4 --dist loadfile --no-loadscope-reorder \
	    --durations 15 $(ARGS)

# In one process: they measure how long writes stop, on a machine that does nothing else.
test-ha: .venv/.test .clients/patroni/.installed  ## run the service while its database servers fail, in minutes
	@exec $(BIN)/python -m pytest tests/ha --durations 10 $(ARGS)

test-fast: .venv/.test  ## run the tests that need no database, in seconds
	@exec $(BIN)/python -m pytest --pure $(ARGS)

check: .venv/.test  ## check all but behaviour: format, lint, types, structure, citations, schema
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_structure.py tests/test_citations.py tests/postgres/test_schema.py
	@$(MAKE) --no-print-directory check-console

check-console:  ## check the types of the console's scripts, if npm is installed
	@if command -v npm >/dev/null; then \
	    $(MAKE) --no-print-directory tests/console/node_modules/.installed && \
	    tests/console/node_modules/.bin/tsc --project tests/console/tsconfig.json; \
	    else echo "npm is not installed: the types of the console's scripts are not checked" >&2; fi

# The compiler and the types of the console's libraries; and axe, which the tests of its pages run.
tests/console/node_modules/.installed: tests/console/package-lock.json
	@npm ci --prefix tests/console --loglevel error
	@touch $@

format: .venv/.test  ## format the sources and correct what ruff can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

schema: .venv/.test  ## write docs/schema.sql from the migrations
	@exec $(BIN)/python -m tests.postgres.schema

docs: .venv/.docs  ## make the site of the documents in build/site, and check its links
	@rm -rf build/site
	@$(BIN)/python -m sphinx --quiet --fail-on-warning --jobs auto --conf-dir docs/site --doctree-dir build/doctrees \
	    --fresh-env . build/site
	@echo "The site is built: file://$(CURDIR)/build/site/index.html"

api-tables: .venv/.test  ## write the tables of docs/api.md, and the routes of Stripe, from the code and the pinned SDK
	@exec $(BIN)/python -m tests.sdk.api_tables

swagger-ui: .venv/.test  ## write the files of Swagger UI again from npm; ARGS=VERSION takes another release
	@exec $(BIN)/python -m tests.api.swagger_ui $(ARGS)

console-vendor: .venv/.test  ## write the libraries of the console again from npm; ARGS=NAME@VERSION takes another release
	@exec $(BIN)/python -m tests.console.vendor $(ARGS)

console-pictures: .venv/.test tests/console/node_modules/.installed  ## write the pictures of docs/console.md
	@LEDGER_PICTURES=docs exec $(BIN)/python -m pytest tests/console $(ARGS)

clients: .clients/.fetched $(PROGRAMS)  ## download clients, their tests and programs that use the API, which `make test` then runs

bench: .venv/.test  ## measure the service against the yardsticks
	@exec $(BIN)/python -m benchmarks $(ARGS)

bench-peers: .venv/.test .clients/localstripe/.installed  ## measure the service beside localstripe and the stock library's application
	@exec $(BIN)/python -m benchmarks --only peers $(ARGS)

clean:  ## delete the environment and the caches; data stays
	rm -rf .venv .clients clients/build tests/node/node_modules tests/console/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info

# python3 comes first, because it is the one that people mean. A name that is found may still not run (pyenv),
# and Debian's Python may lack ensurepip: so try each candidate.
define make_venv
set -eu; \
usable='import sys; assert sys.version_info >= (3, 11)'; \
if ! $(BIN)/python -c "$$usable; import pip" 2>/dev/null; then \
    candidates='$(PYTHON)'; found=''; bare=''; \
    for python in $${candidates:-python3 python3.14 python3.13 python3.12 python3.11}; do \
        "$$python" -c "$$usable" 2>/dev/null || continue; \
        if "$$python" -c 'import ensurepip, venv' 2>/dev/null; then found=$$python; break; fi; \
        bare=$${bare:-$$python}; \
    done; \
    if [ -z "$$found" ] && [ -n "$$bare" ]; then \
        echo "make: $$bare cannot make environments: install its venv package (Debian: apt install python3-venv), or set PYTHON=" >&2; \
        exit 1; \
    fi; \
    if [ -z "$$found" ]; then \
        echo "make: Python 3.11 or newer is needed, and $${candidates:-python3} is not: install one, or set PYTHON=" >&2; \
        exit 1; \
    fi; \
    "$$found" -m venv --clear .venv; \
fi; \
echo "Installing the pinned dependencies into .venv ..." >&2
endef

.venv/.runtime: pyproject.toml setup.py constraints.txt
	@$(make_venv)
	@$(PIP) -e .
	@touch $@

.venv/.test: pyproject.toml setup.py constraints.txt
	@$(make_venv)
	@$(PIP) -e '.[test]'
	@touch .venv/.runtime $@

.venv/.docs: pyproject.toml setup.py constraints.txt
	@$(make_venv)
	@$(PIP) -e '.[docs]'
	@touch .venv/.runtime $@

# Without npm the tests that use the Node client are skipped, and say why.
.clients/.fetched: .venv/.test tests/sdk/requirements.txt tests/node/package-lock.json
	@mkdir -p .clients && rm -rf .clients/stripe-*.tar.gz
	@$(BIN)/python -m pip download --quiet --disable-pip-version-check --require-hashes --no-deps \
	    --no-binary stripe --dest .clients --requirement tests/sdk/requirements.txt
	@tar -xzf .clients/stripe-*.tar.gz -C .clients
	@if command -v npm >/dev/null; then npm ci --prefix tests/node --loglevel error; \
	    else echo "npm is not installed: the tests that use the Node client will be skipped" >&2; fi
	@touch $@

# One environment for each program that the tests run, since they need different releases of the same packages.
# Its stamp is the list of what is in it: the tests compare the two, and skip the program if they differ.
.clients/%/.installed: tests/clients/requirements/%.txt | .venv/.test
	@echo "Installing $* into .clients/$* ..." >&2
	@rm -rf .clients/$* && $(BIN)/python -m venv .clients/$*
	@.clients/$*/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps \
	    --requirement $<
	@cp $< $@

# What deploy/patroni/Dockerfile installs. Without it the tests of a Patroni cluster are skipped, and say why.
.clients/patroni/.installed: deploy/patroni/requirements.txt | .venv/.test
	@echo "Installing patroni into .clients/patroni ..." >&2
	@rm -rf .clients/patroni && $(BIN)/python -m venv .clients/patroni
	@if .clients/patroni/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps \
	    --requirement $<; then cp $< $@; \
	    else echo "Patroni cannot be installed: the tests of a Patroni cluster will be skipped" >&2; fi

# For benchmarks alone: no test runs it.
.clients/localstripe/.installed: benchmarks/yardsticks/localstripe.txt | .venv/.test
	@echo "Installing localstripe into .clients/localstripe ..." >&2
	@rm -rf .clients/localstripe && $(BIN)/python -m venv .clients/localstripe
	@.clients/localstripe/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement $<
	@cp $< $@

# It needs Python 3.12. Without one its tests are skipped, and say why. pyenv's own names for its versions run only
# where they were selected.
.clients/aics-witness/.installed: tests/clients/requirements/aics-witness.txt | .venv/.test
	@rm -rf .clients/aics-witness; \
	for python in $(BIN)/python python3 python3.14 python3.13 python3.12 \
	        "$$HOME"/.pyenv/versions/3.1[2-9]*/bin/python; do \
	    "$$python" -c 'import sys, ensurepip; assert sys.version_info >= (3, 12)' 2>/dev/null || continue; \
	    echo "Installing aics-witness into .clients/aics-witness ..." >&2; \
	    "$$python" -m venv .clients/aics-witness && .clients/aics-witness/bin/python -m pip install --quiet \
	        --disable-pip-version-check --require-hashes --no-deps --requirement $< && cp $< $@; exit; \
	done; \
	echo "No Python 3.12 or newer is here: the tests of aics-witness will be skipped" >&2

.clients/sync-engine/.installed: tests/clients/sync-engine/package-lock.json tests/clients/sync-engine/package.json
	@rm -rf .clients/sync-engine && mkdir -p .clients/sync-engine
	@if command -v npm >/dev/null; then \
	    echo "Installing sync-engine into .clients/sync-engine ..." >&2; \
	    cp $^ .clients/sync-engine && npm ci --prefix .clients/sync-engine --loglevel error && cp $< $@; \
	    else echo "npm is not installed: the tests of the sync engine will be skipped" >&2; fi

# The CLI is one program in a package of its own for each platform. Its lock file has the hash of the one for Linux on
# x86-64 alone: elsewhere its tests are skipped, and say why. Its install script would download the others.
.clients/stripe-cli/.installed: tests/stripe_cli/package-lock.json tests/stripe_cli/package.json
	@rm -rf .clients/stripe-cli && mkdir -p .clients/stripe-cli
	@if command -v npm >/dev/null; then \
	    echo "Installing the Stripe CLI into .clients/stripe-cli ..." >&2; \
	    cp $^ .clients/stripe-cli && npm ci --prefix .clients/stripe-cli --loglevel error --ignore-scripts \
	        --os linux --cpu x64 && cp $< $@; \
	    else echo "npm is not installed: the tests of the Stripe CLI will be skipped" >&2; fi

# The generators of clients/README.md. The tests generate with them, and run what was generated.
.clients/generated/.installed: clients/python/requirements.txt clients/typescript/package-lock.json | .venv/.test
	@echo "Installing generators of clients into .clients/generated ..." >&2
	@$(MAKE) --no-print-directory -C clients BUILD=../.clients/generated PYTHON=../$(BIN)/python tools-python
	@if command -v npm >/dev/null; then \
	    $(MAKE) --no-print-directory -C clients BUILD=../.clients/generated tools-typescript; \
	    else echo "npm is not installed: the tests of the TypeScript client will be skipped" >&2; fi
	@touch $@

# The compiler of the TypeScript library of the feed, and the database client of its examples.
.clients/ledger-feed/.installed: clients/typescript/ledger-feed/package-lock.json
	@if command -v npm >/dev/null; then \
	    echo "Installing the compiler of ledger-feed into .clients/ledger-feed ..." >&2; \
	    $(MAKE) --no-print-directory -C clients FEED=../.clients/ledger-feed tools-feed; \
	    else echo "npm is not installed: the tests of the TypeScript library of the feed will be skipped" >&2; fi
