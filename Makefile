PYTHON ?= python3
JOBS ?= auto
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.doorward-ready

.PHONY: setup run test check bench bench-chat lock clean help browser prometheus node-packages

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

setup: $(STAMP) ## make .venv with everything in it

$(STAMP): requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Doorward needs Python 3.11 or newer; $(PYTHON) is older. Try: make PYTHON=python3.12 setup"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@$(BIN)/python -m compileall -q src/doorward # once, also where PYTHONDONTWRITEBYTECODE would have each process do it anew
	@touch $@

run: setup ## start the whole product and print where to look
	$(BIN)/doorward up

browser: setup
	@tools/install-chromium || true

prometheus: setup
	@tools/install-promtool || true

node-packages: setup
	@tools/install-node-packages || true

test: setup browser prometheus node-packages ## run every test, with real servers and a real browser
	$(BIN)/pytest -n $(JOBS) --maxprocesses 4 --dist loadfile $(ARGS)

check: setup ## format, lint, types, import floors
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/make-reference --check

bench: setup ## measure what the door costs, against the same app without it; needs gcc
	@command -v gcc >/dev/null || { echo "make bench builds its load generator from C and needs gcc. On Debian: apt-get install gcc libc6-dev"; exit 1; }
	$(BIN)/python -m benchmarks.run $(ARGS)

bench-chat: setup ## measure the chat's fan-out beside python-socketio, Django Channels and a bare broadcast
	$(BIN)/python -m benchmarks.fanout $(ARGS)

clean: ## remove what was made here
	rm -rf $(VENV) .doorward build dist tests/js/node_modules .pytest_cache .mypy_cache .ruff_cache .hypothesis

lock: ## refresh the hashed requirement files (extras kept: pip before 23.3 asks for the newest of what is pinned without them)
	$(BIN)/uv pip compile --universal --generate-hashes --no-header --no-emit-index-url --no-strip-extras --quiet --python-version 3.11 --all-extras --group pyproject.toml:dev pyproject.toml -o requirements/dev.txt
	$(BIN)/uv pip compile --universal --generate-hashes --no-header --no-emit-index-url --no-strip-extras --quiet --python-version 3.11 --extra server --extra agents --extra otel pyproject.toml -o requirements/server.txt
