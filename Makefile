# Every target does its own set-up and may be run again at any time.
#
#   make demo      run the whole loop on real purchases and print what happened   (ARGS="--full" and so on)
#   make test      run every test, those against a real broker too                (ARGS="-k gate" and so on)
#   make chaos     kill rankers and brokers at random, and balance the topics       (ARGS="--seed 7" and so on)
#   make results   measure every benchmark, by the served path                     (ARGS="--only video" and so on)
#   make bench     measure the ranker: speed, latency, growth, beside their limits  (ARGS="--repeats 3" and so on)
#   make peers     measure the ranker beside how others do the same work         (ARGS="--repeats 3" and so on)
#   make check     lint, formatting, types
#   make help      the rest

VENV ?= .venv
PYTHON ?=
ARGS ?=

# The environment is brought up to date when what it is made of changes, by content: a checkout touches time stamps.
KEY := $(shell (pwd; cat pyproject.toml constraints.txt) 2>/dev/null | cksum | cut -d ' ' -f 1)
STAMP := $(VENV)/.installed-$(KEY)
BIN := $(VENV)/bin

# Peers may need other versions than ours of what both depend on, so they have an environment of their own.
PEERS := .venv-peers
PEERS_PINS := tests/benchmarks/peers/constraints.txt
PEERS_STAMP := $(PEERS)/.installed-$(shell (pwd; cat pyproject.toml $(PEERS_PINS)) 2>/dev/null | cksum | cut -d ' ' -f 1)

.DEFAULT_GOAL := help
.PHONY: help setup demo test chaos results bench peers check format lint-deploy clean
.SUFFIXES:

help: ## this list
	@echo 'make <target>, with VENV=folder, PYTHON=interpreter and ARGS="…" if you like:'
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' Makefile | while IFS='|' read -r target what; do \
		printf '  %-12s %s\n' "$$target" "$$what"; done

setup: $(STAMP) ## make the virtual environment in .venv, with every dependency pinned

demo: $(STAMP) ## run the whole loop on real purchases and print what happened
	@echo '==> anabranch demo $(ARGS)'
	@$(BIN)/anabranch demo $(ARGS)

test: $(STAMP) ## run every test: unit, against a real broker, end to end
	@echo '==> pytest $(ARGS)'
	@$(BIN)/python -m pytest $(ARGS)

chaos: $(STAMP) ## kill rankers and brokers at random under a stream, then balance the topics (needs Java and Maven)
	@echo '==> anabranch chaos $(ARGS)'
	@$(BIN)/anabranch chaos $(ARGS)

results: $(STAMP) ## measure every benchmark and write models/RESULTS.md (ARGS="--data folder" and so on)
	@echo '==> anabranch results $(ARGS)'
	@$(BIN)/anabranch results $(ARGS)

bench: $(STAMP) ## measure the ranker beside its limits and print the table (needs Java and Maven)
	@echo '==> anabranch bench all $(ARGS)'
	@$(BIN)/anabranch bench all $(ARGS)

peers: $(STAMP) $(PEERS_STAMP) ## measure the ranker beside how others do the same work (needs Java and Maven)
	@echo '==> python -m tests.benchmarks.peers $(ARGS)'
	@$(BIN)/python -m tests.benchmarks.peers $(ARGS)

check: $(STAMP) ## lint, formatting, types
	@echo '==> ruff check'
	@$(BIN)/python -m ruff check .
	@echo '==> ruff format --check'
	@$(BIN)/python -m ruff format --check .
	@echo '==> mypy'
	@$(BIN)/python -m mypy

format: $(STAMP) ## let ruff format and sort what it can
	@$(BIN)/python -m ruff check --fix .
	@$(BIN)/python -m ruff format .

lint-deploy: $(STAMP) ## lint the Dockerfile, the YAML and the shell scripts, and check them against the commands
	@echo '==> hadolint, yamllint, shellcheck'
	@$(BIN)/hadolint deploy/Dockerfile
	@$(BIN)/python -m yamllint --strict --config-file deploy/yamllint.yaml deploy
	@$(BIN)/shellcheck deploy/kafka/broker .ci/run
	@echo '==> pytest tests/unit/deploy'
	@$(BIN)/python -m pytest -q tests/unit/deploy

clean: ## remove the virtual environment, caches and what runs left in .anabranch
	[ ! -e '$(VENV)/pyvenv.cfg' ] || rm -rf '$(VENV)'
	[ ! -e '$(PEERS)/pyvenv.cfg' ] || rm -rf '$(PEERS)'
	rm -rf .anabranch build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find anabranch producers consumers models tests -name __pycache__ -type d -prune -exec rm -rf {} +

# python3.11 is what constraints.txt is pinned for. A pyenv shim may be on the path and still not run, so each is tried.
$(STAMP):
	@set -eu; \
	python=; \
	for candidate in $(if $(PYTHON),'$(PYTHON)',python3.11 python3 python); do \
		if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			python=$$candidate; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
		echo 'Anabranch needs Python 3.11 or newer (3.11 is what the pins are tested with), and found' >&2; \
		for candidate in $(if $(PYTHON),'$(PYTHON)',python3.11 python3 python); do \
			printf '  %s: %s\n' "$$candidate" "$$("$$candidate" --version 2>&1 | head -n 1)" >&2; done; \
		echo 'Install one, or name it: make PYTHON=/path/to/python3.11 …' >&2; exit 1; \
	fi; \
	if ! '$(BIN)/python' -m pip --version >/dev/null 2>&1; then \
		echo "==> Making $(VENV) with $$("$$python" --version)"; \
		if [ -e '$(VENV)' ] && [ ! -e '$(VENV)/pyvenv.cfg' ]; then \
			echo '$(VENV) is there and is no virtual environment: move it, or name another with VENV=…' >&2; exit 1; fi; \
		"$$python" -m venv --clear '$(VENV)'; \
	fi; \
	rm -f '$(VENV)'/.installed-*; \
	echo '==> Installing the pinned dependencies: some 3 GB to download, most of it PyTorch'; \
	'$(BIN)/python' -m pip install --constraint constraints.txt --editable '.[train,demo,dev]'; \
	touch '$@'; \
	echo '==> $(VENV) is ready'

$(PEERS_STAMP): | $(STAMP)
	@set -eu; \
	echo '==> Installing the peers in $(PEERS)'; \
	[ -e '$(PEERS)/pyvenv.cfg' ] || '$(BIN)/python' -m venv '$(PEERS)'; \
	rm -f '$(PEERS)'/.installed-*; \
	'$(PEERS)/bin/python' -m pip install --constraint '$(PEERS_PINS)' --editable . implicit quixstreams rtrec; \
	touch '$@'
