# Every target installs what it needs, and can be repeated at any time.
#
#   make demo      run the whole system on real purchases and print a summary      (ARGS="--full" and so on)
#   make test      run every test, including those that need a broker             (ARGS="-k gate" and so on)
#   make fuzz      feed a million arbitrary records and 100,000 arbitrary requests (ARGS="-k requests" and so on)
#   make chaos     kill rankers and brokers at random, then reconcile the topics   (ARGS="--random-seed 7" and so on)
#   make results   run every offline benchmark with the code that serves           (ARGS="--only video" and so on)
#   make bench     measure the ranker's throughput and latency against baselines   (ARGS="--repeats 3" and so on)
#   make peers     compare the ranker with other libraries on the same work        (ARGS="--repeats 3" and so on)
#   make sequential-peers    train published recommenders on the benchmarks' rows  (ARGS="--data FOLDER" and so on)
#   make check     lint, formatting, types, the files of deploy
#   make help      list all targets

VENV ?= .venv
PYTHON ?=
ARGS ?=

# The environment is rebuilt when the content of its inputs changes. A checkout changes time stamps.
# It has what Anabranch needs to run, to train and to play; the targets that test and check add the tools of developers.
# A file whose hash is not in the pins is not installed, and nothing is that the pins do not name. To renew: deploy/pins/renew
PINS := deploy/pins
KEY := $(shell (pwd; cat pyproject.toml $(PINS)/*.txt) 2>/dev/null | cksum | cut -d ' ' -f 1)
STAMP := $(VENV)/.installed-$(KEY)
DEV_STAMP := $(VENV)/.installed-dev-$(KEY)
BIN := $(VENV)/bin
INSTALL := -m pip install --no-deps --only-binary :all: --require-hashes
INSTALL_THIS := -m pip install --no-deps --no-build-isolation --editable .

# Libraries of `peers` may need other versions of our dependencies, so they have their own environment.
PEERS := .venv-peers
PEERS_STAMP := $(PEERS)/.installed-$(shell (pwd; cat pyproject.toml $(PINS)/peers.txt) 2>/dev/null | cksum | cut -d ' ' -f 1)

# Two test processes, each with a broker of its own. A file stays in one process, because its tests share what is slow to
# make. Files start in the order of their names, in which the longest (chaos, e2e) come first. ARGS="-n 0": one process.
WORKERS := --numprocesses 2 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help setup demo test fuzz chaos results bench peers sequential-peers check format lint-deploy clean
.SUFFIXES:

help: ## list the targets
	@echo 'make <target> [VENV=folder] [PYTHON=interpreter] [ARGS="…"]'
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' Makefile | while IFS='|' read -r target what; do \
		printf '  %-17s %s\n' "$$target" "$$what"; done

setup: $(STAMP) ## create the virtual environment in .venv with pinned dependencies, without those of tests

demo: $(STAMP) ## run the whole system on real purchases and print a summary
	@echo '==> anabranch demo $(ARGS)'
	@$(BIN)/anabranch demo $(ARGS)

test: $(DEV_STAMP) ## run every test: unit, with a broker, end to end
	@echo '==> pytest $(WORKERS) $(ARGS)'
	@$(BIN)/python -m pytest $(WORKERS) $(ARGS)

fuzz: $(DEV_STAMP) ## a million arbitrary records and 100,000 arbitrary requests; `make test` has fewer of each
	@echo '==> pytest of arbitrary records and requests $(ARGS)'
	@FUZZ_RECORDS=1000000 FUZZ_REQUESTS=100000 $(BIN)/python -m pytest -k 'test_any_' tests/unit --timeout 3600 $(ARGS)

chaos: $(STAMP) ## kill rankers and brokers at random under load, then reconcile the topics
	@echo '==> anabranch chaos $(ARGS)'
	@$(BIN)/anabranch chaos $(ARGS)

results: $(STAMP) ## run every offline benchmark and write models/RESULTS.md (ARGS="--data folder" and so on)
	@echo '==> anabranch results $(ARGS)'
	@$(BIN)/anabranch results $(ARGS)

bench: $(STAMP) ## measure the ranker against its baselines and print the table
	@echo '==> anabranch bench all $(ARGS)'
	@$(BIN)/anabranch bench all $(ARGS)

peers: $(STAMP) $(PEERS_STAMP) ## compare the ranker with other libraries on the same work
	@echo '==> python -m tests.benchmarks.peers $(ARGS)'
	@$(BIN)/python -m tests.benchmarks.peers $(ARGS)

sequential-peers: $(STAMP) ## train published sequential recommenders on the rows of a benchmark (ARGS="--data folder")
	@echo '==> python -m tests.benchmarks.peers.sequential $(ARGS)'
	@$(BIN)/python -m tests.benchmarks.peers.sequential $(ARGS)

check: $(DEV_STAMP) lint-deploy ## check lint, formatting and types, and the files of deploy
	@echo '==> ruff check'
	@$(BIN)/python -m ruff check .
	@echo '==> ruff format --check'
	@$(BIN)/python -m ruff format --check .
	@echo '==> mypy'
	@$(BIN)/python -m mypy

format: $(DEV_STAMP) ## format the code and fix lint with ruff
	@$(BIN)/python -m ruff check --fix .
	@$(BIN)/python -m ruff format .

lint-deploy: $(DEV_STAMP) ## lint the Dockerfile, YAML and shell scripts
	@echo '==> hadolint, yamllint, shellcheck'
	@$(BIN)/hadolint deploy/Dockerfile
	@$(BIN)/python -m yamllint --strict --config-file deploy/yamllint.yaml deploy
	@$(BIN)/shellcheck .ci/run $(PINS)/renew

clean: ## remove the virtual environments, the caches and .anabranch
	[ ! -e '$(VENV)/pyvenv.cfg' ] || rm -rf '$(VENV)'
	[ ! -e '$(PEERS)/pyvenv.cfg' ] || rm -rf '$(PEERS)'
	rm -rf .anabranch build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find anabranch producers consumers models tests -name __pycache__ -type d -prune -exec rm -rf {} +

# The pins are for python3.11. A pyenv shim can be on the path without working, so each is tried.
$(STAMP):
	@set -eu; \
	python=; \
	for candidate in $(if $(PYTHON),'$(PYTHON)',python3.11 python3 python); do \
		if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			python=$$candidate; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
		echo 'Anabranch needs Python 3.11 or newer (the pinned versions are tested with 3.11). Found only:' >&2; \
		for candidate in $(if $(PYTHON),'$(PYTHON)',python3.11 python3 python); do \
			printf '  %s: %s\n' "$$candidate" "$$("$$candidate" --version 2>&1 | head -n 1)" >&2; done; \
		echo 'Install Python 3.11, or name it: make PYTHON=/path/to/python3.11 …' >&2; exit 1; \
	fi; \
	if ! '$(BIN)/python' -m pip --version >/dev/null 2>&1; then \
		echo "==> Creating $(VENV) with $$("$$python" --version)"; \
		if [ -e '$(VENV)' ] && [ ! -e '$(VENV)/pyvenv.cfg' ]; then \
			echo '$(VENV) exists and is not a virtual environment: move it, or name another with VENV=…' >&2; exit 1; fi; \
		"$$python" -m venv --clear '$(VENV)'; \
	fi; \
	rm -f '$(VENV)'/.installed-*; \
	echo '==> Installing the pinned dependencies: about 3.5 GB to download, most of it PyTorch'; \
	'$(BIN)/python' $(INSTALL) $(foreach set,serving train demo,--requirement $(PINS)/$(set).txt); \
	'$(BIN)/python' $(INSTALL_THIS); \
	touch '$@'; \
	echo '==> $(VENV) is ready'

$(DEV_STAMP): | $(STAMP)
	@echo '==> Adding the tools of tests and checks to $(VENV)'
	@'$(BIN)/python' $(INSTALL) --requirement $(PINS)/dev.txt
	@touch '$@'

$(PEERS_STAMP): | $(STAMP)
	@set -eu; \
	echo '==> Installing the libraries to compare with in $(PEERS)'; \
	[ -e '$(PEERS)/pyvenv.cfg' ] || '$(BIN)/python' -m venv '$(PEERS)'; \
	rm -f '$(PEERS)'/.installed-*; \
	'$(PEERS)/bin/python' $(INSTALL) --requirement $(PINS)/peers.txt; \
	'$(PEERS)/bin/python' $(INSTALL_THIS); \
	touch '$@'
