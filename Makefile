# Everything a person does with chatproxy. `make` alone lists it; Python 3.11 or later is all it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CLIENTS := .venv-clients
PEERS := .venv-peers
NODE := tests/clients/node
PIP := $(BIN)/pip --disable-pip-version-check --quiet
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help run check quick test coverage audit chaos clients screens bench bench-peers bench-short bench-hostility \
	fuzz profile demo dev lint format requirements clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while IFS="$$(printf '\t')" read -r name text; do \
		printf '  make %-16s%s\n' "$$name" "$$text"; done

run: $(VENV)/base.stamp  ## start the server on port 3002
	@$(BIN)/python manage.py serve

check: $(VENV)/dev.stamp  ## lint, types, and the tests that start nothing, in about a minute
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=target lint quick

quick: $(VENV)/dev.stamp  ## run the tests that need no server or database, with few examples each
	@$(BIN)/python -m pytest --quiet --numprocesses auto --dist worksteal -m "not needs_server" \
		--hypothesis-profile quick $(ARGS)

# A test's server starts a third of a second sooner from bytecode, and there are hundreds of them.
test quick coverage: export PYTHONDONTWRITEBYTECODE :=

test: $(VENV)/dev.stamp  ## run all tests, on all cores; make test ARGS="-k name"
	@$(BIN)/python -m pytest --numprocesses auto --dist worksteal $(ARGS)

# The servers that tests start are measured, too: it takes longer than `make test`, and fails nothing more.
coverage: $(VENV)/dev.stamp  ## run all tests, and list the lines and branches that none of them takes
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest --quiet --numprocesses auto --dist worksteal $(ARGS)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report

audit: $(VENV)/dev.stamp  ## look up known vulnerabilities of every pinned package
	@.ci/audit $(BIN)/pip-audit

chaos: $(VENV)/dev.stamp  ## kill, stop, fill and damage everything under load; then compare the books
	@$(BIN)/python -m tests.chaos $(ARGS)

fuzz: export FUZZ_FACTOR ?= 20
fuzz: export FUZZ_SEED ?= $(shell date +%s)
fuzz: $(VENV)/dev.stamp  ## send made-up requests for ten minutes; make test sends a few, always the same ones
	@$(BIN)/python -m pytest --numprocesses auto tests/fuzz $(ARGS)

clients: $(VENV)/dev.stamp $(NODE)/node_modules/stamp  ## let the Node SDK, Vercel's, LangChain and LlamaIndex talk to /v1
	@$(BIN)/python -m pytest tests/clients $(ARGS)

screens: $(VENV)/dev.stamp  ## take the pictures in docs/screens anew; needs Chromium
	@SCREENS=docs/screens $(BIN)/python -m pytest -q tests/browser/test_screens.py \
		"tests/browser/test_conversation.py::test_conversations_are_seen[light]"

bench: $(VENV)/dev.stamp  ## measure everything, into bench/RESULTS.md, in twelve minutes or so; needs nginx
	@$(BIN)/python -m bench $(ARGS)

bench-peers: $(VENV)/dev.stamp $(PEERS)/stamp  ## measure LiteLLM, ferrogw and smg beside chatproxy, into bench/RESULTS.md; installs them
	@$(BIN)/python -m bench.peers $(ARGS)

bench-short: $(VENV)/dev.stamp  ## fail if a call costs more CPU than recorded; make bench-short ARGS=--record
	@$(BIN)/python -m bench.short $(ARGS)

bench-hostility: $(VENV)/dev.stamp  ## attack a server for half an hour: what good calls lose; into bench/RESULTS.md
	@$(BIN)/python -m bench.hostility.run $(ARGS)

profile: $(VENV)/dev.stamp  ## show where a worker's time goes under load; make profile ARGS=/openai
	@$(BIN)/python -m bench.profile $(ARGS)

demo: $(VENV)/base.stamp  ## start the server against a simulated OpenAI: no key, no network
	@$(BIN)/python -m tests.simulator.demo

dev: export DEBUG = true
dev: $(VENV)/base.stamp  ## start the server with reload on change
	@$(BIN)/python manage.py serve --reload

lint: $(VENV)/dev.stamp  ## check style, types, settings and migrations
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@DJANGO_SETTINGS_MODULE=tests.support.settings_without_database $(BIN)/python manage.py makemigrations --check --dry-run
	@DJANGO_SETTINGS_MODULE=tests.support.settings_without_database $(BIN)/python manage.py check --deploy --fail-level WARNING

format: $(VENV)/dev.stamp  ## put the code in order
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

requirements: $(BIN)/python  ## pin requirements/*.in anew, with hashes
	@$(PIP) install --require-hashes -r requirements/uv.txt
	@for name in uv base dev clients peers; do $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-config \
		--python-version 3.11 --custom-compile-command "make requirements" $(ARGS) \
		--output-file requirements/$$name.txt requirements/$$name.in || exit 1; done

clean:  ## remove what make made; var/, the data, stays
	@rm -rf $(VENV) $(CLIENTS) $(PEERS) $(NODE)/node_modules .mypy_cache .pytest_cache .ruff_cache .hypothesis var/coverage
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "chatproxy: $(PYTHON) is no Python 3.11 or later; name another: PYTHON=/path/to/python3.13" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "chatproxy: this Python cannot make a venv; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@echo "making $(VENV) …"
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV)

$(VENV)/base.stamp: requirements/base.txt $(BIN)/python
	@$(BIN)/python requirements/install.py requirements/base.txt
	@touch $@

# dev.txt has all of base.txt in it.
$(VENV)/dev.stamp: requirements/dev.txt $(BIN)/python
	@$(BIN)/python requirements/install.py requirements/dev.txt
	@touch $(VENV)/base.stamp $@

# A venv of their own: they pin the SDK to another version than the server's. It has node and npm in it, too.
$(CLIENTS)/stamp: requirements/clients.txt requirements/uv.txt $(BIN)/python
	@echo "installing the clients …"
	@$(PIP) install --require-hashes -r requirements/uv.txt
	@rm -rf $(CLIENTS)
	@$(BIN)/uv venv --quiet --no-config --python $(BIN)/python $(CLIENTS)
	@$(BIN)/uv pip install --quiet --no-config --system-certs --require-hashes --python $(CLIENTS) \
		-r requirements/clients.txt
	@touch $@

$(PEERS)/stamp: requirements/peers.txt requirements/uv.txt $(BIN)/python
	@echo "installing the peers …"
	@$(PIP) install --require-hashes -r requirements/uv.txt
	@rm -rf $(PEERS)
	@$(BIN)/uv venv --quiet --no-config --python $(BIN)/python $(PEERS)
	@$(BIN)/uv pip install --quiet --no-config --system-certs --require-hashes --python $(PEERS) \
		-r requirements/peers.txt
	@touch $@

$(NODE)/node_modules/stamp: $(NODE)/package-lock.json $(CLIENTS)/stamp
	@cd $(NODE) && PATH="$(CURDIR)/$(CLIENTS)/bin:$$PATH" npm ci --loglevel error
	@touch $@
