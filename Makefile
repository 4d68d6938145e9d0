# Two commands: `make run` and `make test`. Python 3.11 and Maven are all they ask for.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip --disable-pip-version-check --quiet
UV := $(BIN)/uv pip compile --quiet --generate-hashes --universal --python-version 3.11 --no-annotate --no-header

COMPOSE := docker compose -f docker/compose.yml

.PHONY: run test up down secrets check pages jars chaos torture mutants fuzz bench docs lock clean

run: .venv/run  ## everything on this machine, in the foreground; Ctrl-C stops it
	@$(MAKE) --no-print-directory pages
	@$(BIN)/barwright run

# Two at a time, since most of a test is waiting; then those that measure. Status 5: ARGS named no test of that kind.
test: .venv/dev  ## all tests; starts what it needs and leaves nothing running
	@$(MAKE) --no-print-directory pages
	@$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow and not alone" $(ARGS) || [ $$? = 5 ]
	@$(BIN)/pytest -m "alone and not slow" $(ARGS) || [ $$? = 5 ]

up: secrets  ## everything in containers, on TimescaleDB; ends with a link that logs a browser in
	@$(COMPOSE) up --build --detach --wait
	@$(COMPOSE) exec -T serve barwright key link --scope write
	@echo "Grafana: http://127.0.0.1:$${GRAFANA_PORT:-3000}, user admin, password in docker/secrets/grafana_password"

down:  ## stop the containers; the data stays in their volumes (ARGS=--volumes removes it)
	@$(COMPOSE) down $(ARGS)

# The folder is for its owner only. The files in it are for all: a container reads them as its own user; so it does what
# else of ours it mounts, which a checkout under another umask than 022 keeps from it.
secrets:  ## make the containers' passwords, those that are missing
	@mkdir -p docker/secrets && chmod 700 docker/secrets
	@for file in $$(sed -n 's|.*{file: ./\(secrets/[a-z_]*\)}|docker/\1|p' docker/compose.yml); do \
	  [ -s $$file ] || { od -An -N24 -tx1 /dev/urandom | tr -d ' \n' > $$file && chmod 644 $$file; } || exit 1; \
	done
	@for mount in $$(sed -n 's|^ *- \./\([a-z0-9_./]*\):/.*|docker/\1|p' docker/compose.yml); do \
	  [ ! -e $$mount ] || chmod -R a+rX $$mount || exit 1; \
	done

check: .venv/dev  ## lint, format, types, import rule
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy
	@$(BIN)/pytest -q tests/test_imports.py

pages: api/web/dist/licences.txt.gz  ## bundle the pages; run and test do it where a source is newer
	@:

jars: .venv/dev  ## fetch Kafka, which run and test do by themselves
	@$(BIN)/python -m barwright.embedded.kafka

chaos: .venv/dev  ## break everything at random, then compare every bar: ARGS="--minutes 5 --seed 7"
	@$(BIN)/python -m tests.chaos $(ARGS)

torture: .venv/dev  ## a state machine breaks everything under load; each message and bar is accounted for: MINUTES=60
	@$(BIN)/python -m tests.torture --minutes $(or $(MINUTES),5) $(ARGS)

mutants: .venv/dev  ## plant each bug of tests/mutants and name the test that finds it: ARGS="--only 'order by time only'"
	@$(MAKE) --no-print-directory pages
	@$(BIN)/python -m tests.mutants $(ARGS)

fuzz: .venv/dev  ## feed everything that reads what nobody should send: CASES=100000 ARGS="--seed 7"
	@$(BIN)/python -m tests.fuzz --cases $(or $(CASES),100000) $(ARGS)

docs: .venv/dev  ## make the pages of docs/ that are made of the code, and Grafana's dashboards
	@$(BIN)/barwright diagram --format dot --output docs/machines
	@$(BIN)/barwright diagram --format svg --output docs/machines
	@$(BIN)/barwright config --markdown > docs/configuration.md
	@$(BIN)/barwright metrics > docs/metrics.md
	@$(BIN)/python docker/grafana/build.py

bench: .venv/dev  ## measure on this machine
	@$(BIN)/python -m bench $(ARGS)

lock: .venv/dev  ## lock the dependencies again, with hashes
	@$(UV) requirements.in requirements-build.in -o requirements.lock
	@$(UV) requirements-dev.in -o requirements-dev.lock
	@$(UV) requirements-ccxt.in -o requirements-ccxt.lock
	@$(UV) requirements-fast.in -o requirements-fast.lock
	@$(UV) tests/ingest/cryptofeed.in -o tests/ingest/cryptofeed.lock

clean:  ## remove what can be made again; the data in .barwright stays
	rm -rf .venv .jars build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis tests/timescaledb/node_modules api/web/dist api/web/node_modules
	find . -name __pycache__ -prune -exec rm -rf {} +

# The last file that build.mjs writes. Node.js comes with either environment; esbuild's binary needs no install script.
api/web/dist/licences.txt.gz: $(wildcard api/web/*.*) api/web/NOTICE
	@echo "bundling the pages"
	@cd api/web && export PATH="$(CURDIR)/$(BIN):$$PATH" && npm ci --ignore-scripts --no-audit --no-fund --silent && node build.mjs

.venv/run: requirements.lock pyproject.toml | .venv/made
	@echo "installing Barwright into .venv"
	@$(PIP) install --require-hashes -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

# uv takes 10 s of processor time for what pip takes 65 s for. Where it finds no index, pip does it.
.venv/dev: requirements-dev.lock pyproject.toml | .venv/made
	@echo "installing Barwright and what tests it into .venv"
	@sed -n '/^uv==/,/[^\\]$$/p' requirements-dev.lock > .venv/uv.lock
	@$(PIP) install --require-hashes -r .venv/uv.lock
	@$(BIN)/uv pip install --quiet --require-hashes --python $(BIN)/python -r requirements-dev.lock || \
	  $(PIP) install --require-hashes -r requirements-dev.lock
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

.venv/made:
	@missing=; \
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || missing="$$missing python3(3.11-or-newer)"; \
	$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || missing="$$missing python3-venv"; \
	[ -d .jars ] || [ -n "$$KAFKA_BOOTSTRAP_SERVERS" ] || command -v mvn >/dev/null || missing="$$missing maven"; \
	if [ -n "$$missing" ]; then \
	  echo "Not found on this machine:$$missing"; \
	  echo "Debian and Ubuntu: sudo apt-get install -y python3 python3-venv maven    macOS: brew install python maven"; \
	  echo "Another Python is named by make PYTHON=python3.12 run"; exit 1; \
	fi
	@$(PYTHON) -m venv .venv
	@touch $@
