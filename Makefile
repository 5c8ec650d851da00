# The product's two commands are `make up` and `make test`; `make help` lists the rest.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON_RUN := .venv/bin/python
# Behind PATH: what the machine has comes first.
export PATH := $(CURDIR)/.venv/bin:$(PATH):$(CURDIR)/.tools/usr/bin
# Without its cache each of some hundred routers would compile the code anew.
unexport PYTHONDONTWRITEBYTECODE
RULES := $(wildcard prometheus/records/*.yml alerting/rules/*.yml)
PROFILES := demo gpu chat tailscale ollama ollama-gpu
CHAT := .run/clients/open-webui
# More than the cores of a small machine: half of the tests' time is waiting.
WORKERS := 5
PIP_INSTALL := $(PYTHON_RUN) -m pip install --quiet --disable-pip-version-check --require-hashes

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: up
up: .venv/.run-installed .venv/bin/inferops ## install what is missing and run the product (ARGS=--help)
	@exec $(PYTHON_RUN) -m launcher up $(ARGS)

.PHONY: down
down: .venv/.run-installed ## stop the product, from another terminal
	@exec $(PYTHON_RUN) -m launcher down $(ARGS)

.PHONY: status
status: .venv/.run-installed ## show what runs
	@exec $(PYTHON_RUN) -m launcher status $(ARGS)

.PHONY: test
test: .venv/.dev-installed .venv/bin/inferops tools ## run the tests (ARGS=tests/launcher)
	pytest -n $(WORKERS) --dist worksteal $(ARGS)

.PHONY: test-long
test-long: .venv/.dev-installed .venv/bin/inferops tools ## run every test, the long ones too
	INFEROPS_LONG=1 pytest -n $(WORKERS) --dist worksteal $(ARGS)

.PHONY: chaos
chaos: .venv/.dev-installed tools ## break everything under load; writes docs/chaos.md
	INFEROPS_CHAOS=full INFEROPS_CHAOS_PAGE=docs/chaos.md pytest -p no:randomly tests/chaos $(ARGS)

.PHONY: boards
boards: .venv/.dev-installed tools ## ask every query of every board; writes docs/dashboards-asked.md
	INFEROPS_LONG=1 INFEROPS_BOARDS_PAGE=docs/dashboards-asked.md pytest -n 0 tests/e2e/test_boards.py $(ARGS)

.PHONY: previews
previews: .venv/.dev-installed tools ## take the pictures of boards of a demonstration; look at each
	INFEROPS_LONG=1 INFEROPS_BOARDS_PICTURES=docs/boards INFEROPS_WALKTHROUGH_PICTURES=docs/walkthroughs \
		pytest -n 0 tests/e2e/test_boards.py tests/e2e/test_walkthroughs.py -k pictures $(ARGS)

.PHONY: test-compose
test-compose: .venv/.dev-installed tools ## run the containers on a real engine; writes docs/compose.md
	INFEROPS_COMPOSE=full INFEROPS_COMPOSE_PAGE=docs/compose.md \
		pytest -n 0 -p no:randomly tests/compose/real $(ARGS)

.PHONY: test-chat
test-chat: .venv/.dev-installed tools $(CHAT)/.installed ## chat in Open WebUI while a node dies; installs it (2.1 GB)
	INFEROPS_LONG=1 INFEROPS_OPEN_WEBUI=$(CURDIR)/$(CHAT)/bin/open-webui INFEROPS_CHAT_PICTURE=docs/clients/open-webui.png \
		pytest -n 0 tests/clients/test_open_webui.py $(ARGS)

.PHONY: check
check: .venv/.dev-installed tools ## lint, types, rules, configuration
	@$(MAKE) --no-print-directory --jobs=3 --output-sync=target \
		check-python check-config check-compose

.PHONY: check-python
check-python: .venv/.dev-installed
	ruff format --check .
	ruff check .
	mypy
	lint-imports
	python -m grafana.build --check
	python -m alerting.slo --check

.PHONY: check-config
check-config: .venv/.dev-installed tools
	yamllint --strict .
	@scratch=$$(mktemp -d); trap 'rm -rf "$$scratch"' EXIT; \
	python -m launcher render --run-dir "$$scratch"; \
	for promtool in $$(type -ap promtool | xargs -n 1 readlink -f | sort -u); do \
		$$promtool --version 2>&1 | head -n 1; \
		$$promtool check rules $(RULES); \
		$$promtool check config "$$scratch/prometheus.yml"; \
	done; \
	for amtool in $$(type -ap amtool | xargs -n 1 readlink -f | sort -u); do \
		$$amtool check-config "$$scratch/alertmanager.yml"; \
	done

.PHONY: check-compose
check-compose:
	@compose="$$(command -v docker-compose || true)"; \
	docker compose version >/dev/null 2>&1 && compose="docker compose"; \
	if [ -z "$$compose" ]; then echo "skipped: no docker-compose on PATH"; exit 0; fi; \
	for profile in "" $(PROFILES) "$$(tr ' ' ',' <<< '$(PROFILES)')"; do \
		echo "docker-compose config, profiles: '$$profile'"; \
		COMPOSE_PROFILES="$$profile" $$compose config --quiet; \
	done; \
	COMPOSE_PROFILES=cpu,gpu,ollama,ollama-gpu $$compose -f compose/node.yml config --quiet

.PHONY: docs
docs: .venv/.docs-installed ## build the documentation into dist/docs, links checked
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict --clean

.PHONY: docs-serve
docs-serve: .venv/.docs-installed ## show the documentation at http://127.0.0.1:8001
	NO_MKDOCS_2_WARNING=1 mkdocs serve --strict --dev-addr 127.0.0.1:8001

.PHONY: golden
golden: .venv/.dev-installed ## write the generated and golden files anew; read the diff
	python -m grafana.build
	python -m alerting.slo
	pytest tests/exporters --golden

.PHONY: format
format: .venv/.dev-installed ## format the code
	ruff format .
	ruff check --fix .

.PHONY: lock
lock: .venv/.dev-installed ## choose the newest allowed versions
	uv pip compile --quiet --no-header --no-annotate --upgrade --universal --generate-hashes --python-version 3.11 \
		pyproject.toml --output-file requirements.lock
	uv pip compile --quiet --no-header --no-annotate --upgrade --universal --generate-hashes --python-version 3.11 \
		--extra dev --extra opentelemetry pyproject.toml --output-file requirements-dev.lock
	uv pip compile --quiet --no-header --no-annotate --universal --generate-hashes --python-version 3.11 \
		--constraint requirements-dev.lock --extra opentelemetry pyproject.toml --output-file requirements-opentelemetry.lock
	uv pip compile --quiet --no-header --no-annotate --universal --generate-hashes --python-version 3.11 \
		--constraint requirements-dev.lock --group docs --output-file requirements-docs.lock
	uv pip compile --quiet --no-header --no-annotate --universal --generate-hashes --python-version 3.11 \
		--constraint requirements.lock exporters/pyproject.toml --output-file exporters/requirements.lock
	uv pip compile --quiet --no-header --no-annotate --upgrade --universal --generate-hashes --python-version 3.11 \
		tests/clients/requirements.in --output-file tests/clients/requirements.lock
	cd tests/clients; npm update --package-lock-only --omit-lockfile-registry-resolved --no-audit --no-fund

.PHONY: wheel
wheel: .venv/.dev-installed ## build the package into dist/
	rm -rf dist
	$(PYTHON_RUN) -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

.PHONY: clean
clean: ## remove what was made here: tools, data, secrets, environment
	@if [ -x $(PYTHON_RUN) ]; then $(PYTHON_RUN) -m launcher down --with native; fi
	rm -rf .run .tools .venv dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

.PHONY: tools
tools: .venv/.run-installed
	@$(PYTHON_RUN) -m launcher tools >/dev/null

.venv/.run-installed: requirements.lock
	@[ -x .venv/bin/pip ] || launcher/venv
	@echo "installing the packages of $< into .venv/ ..."
	@$(PIP_INSTALL) --requirement $<
	@touch $@

# The product is not installed: its command line runs from this checkout.
.venv/bin/inferops: .venv/.run-installed launcher/inferops
	@printf '#!/bin/sh\nexec "%s/launcher/inferops" "$$@"\n' "$(CURDIR)" >$@
	@chmod +x $@

.venv/.dev-installed: requirements-dev.lock .venv/.run-installed
	@echo "installing the packages of $< into .venv/ ..."
	@$(PIP_INSTALL) --requirement $<
	@touch $@

$(CHAT)/.installed: tests/clients/open-webui.in tests/clients/open-webui.override | .venv/.dev-installed
	@echo "installing $$(tail -n 1 $<) into $(CHAT)/ ..."
	@uv venv --quiet --clear --python '>=3.11,<3.13' $(CHAT)
	@uv pip install --quiet --python $(CHAT)/bin/python --override tests/clients/open-webui.override --requirement $<
	@touch $@

.venv/.docs-installed: requirements-docs.lock .venv/.dev-installed
	@echo "installing the packages of $< into .venv/ ..."
	@$(PIP_INSTALL) --requirement $<
	@touch $@
