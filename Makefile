# `make` lists what there is. Everything is set up in .venv on first use; Python 3.10+ is all it needs.
PYTHON ?=
VENV ?= .venv
EXTRAS ?= cli,fast,openai,server
TEST_EXTRAS ?= audit,bench,e2ee,ray,redis,sigstore
WORKERS ?= auto
PYTEST_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test test-oldest vllm lint format docs bench clean
.SUFFIXES:
.DELETE_ON_ERROR:

bin := $(VENV)/bin
oldest := .venv-oldest
# The tests of one file stay together: they share what is costly to make.
with_test_extras := --editable '.[$(EXTRAS),$(TEST_EXTRAS)]'
parallel := -n $(WORKERS) --dist loadfile
pip := -m pip install --quiet --quiet --disable-pip-version-check

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
	@echo "  Variables: PYTHON (interpreter), VENV, EXTRAS (optional dependencies), WORKERS, PYTEST_ARGS"

demo: $(VENV)/.package ## see an answer verified and attacks refused, on simulated hardware
	@$(bin)/teeverify demo

test: $(VENV)/.test ## run the tests
	@$(bin)/python -m pytest $(parallel) $(PYTEST_ARGS)

test-oldest: $(oldest)/.test ## run the tests on the oldest dependencies that are supported
	@$(oldest)/bin/python -m pytest $(parallel) $(PYTEST_ARGS)

vllm: ## set up vLLM for the CPU, for the tests of the server with the real engine (3 GB, once)
	@.ci/vllm

lint: $(VENV)/.lint ## style, types, layers, docstrings
	@$(bin)/ruff check .
	@$(bin)/ruff format --check .
	@$(bin)/mypy --strict
	@$(bin)/lint-imports
	@$(bin)/interrogate --quiet src

format: $(VENV)/.lint ## put the code into the form that lint wants
	@$(bin)/ruff check --fix .
	@$(bin)/ruff format .

docs: $(VENV)/.docs ## build docs/_build/html; a warning is an error
	@$(bin)/python -m sphinx --quiet --fail-on-warning --keep-going docs docs/_build/html
	@echo "docs/_build/html/index.html"

bench: $(VENV)/.test ## time the verifier against dcap-qvl, eth-account, tinfoil and NVIDIA's
	@bash .ci/peers $(PYTHON) || echo "eth-account and dcap-qvl cannot be installed: not compared with."
	@bash .ci/tinfoil $(PYTHON) || echo "tinfoil cannot be installed: it is not compared with."
	@bash .ci/nvidia-sdk || echo "NVIDIA's SDK cannot be installed: it is not compared with."
	@$(bin)/python -m benchmarks

clean: ## remove what was built and installed here
	rm -rf .venv .venv-* build dist docs/_build docs/checks.md docs/presets.md .*_cache .hypothesis

# One stamp file for each thing installed, so that it is not done again.
$(VENV)/.package: pyproject.toml .ci/venv
	@echo "Setting up $(VENV) ..."
	@sh .ci/venv $(VENV) $(PYTHON)
	@$(bin)/python $(pip) --editable '.$(if $(EXTRAS),[$(EXTRAS)])'
	@touch $@

# Without extras, as a plain install has it, the tests of what they bring are skipped.
$(VENV)/.test: $(VENV)/.package
	@echo "Installing what 'make test' needs ..."
	@$(bin)/python $(pip) $(if $(EXTRAS),$(with_test_extras)) --group test
	@touch $@

# The types of the extras' packages are checked too.
$(VENV)/.lint: $(VENV)/.test
$(VENV)/.docs: $(VENV)/.package
$(VENV)/.lint $(VENV)/.docs: $(VENV)/.%:
	@echo "Installing what 'make $*' needs ..."
	@$(bin)/python $(pip) --group $*
	@touch $@

$(oldest)/.test: pyproject.toml tests/oldest-constraints.txt .ci/venv
	@echo "Setting up $(oldest) ..."
	@sh .ci/venv $(oldest) $(PYTHON)
	@$(oldest)/bin/python $(pip) --constraint tests/oldest-constraints.txt --editable . --group test
	@touch $@
