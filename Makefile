# Needs GNU make, Python 3.11 or newer, and pip. `make run` and `make test` set everything up in .venv.
#
#   make run      the ready campaign: stiff, light, stable crystals; ends with a report page
#   make test     ruff, mypy, import-linter, then all tests
#   make quick    the tests without the slow ones
#   make lint     the checks without the tests;  make format: let ruff rewrite
#   make clean    remove .venv and the caches (campaigns in runs/ stay)
#
# TORCH_INDEX=URL   where to take torch from, for instance https://download.pytorch.org/whl/cpu
# RUN_ARGS="..."    more arguments for `matloop run`, for instance "--budget 8"
# TEST_ARGS="..."   more arguments for pytest, for instance "-k store"
# JOBS=N            tests at a time; else as many as there are cores, four at most

PYTHON ?= $(or $(shell command -v python3.11 2>/dev/null),$(shell command -v python3 2>/dev/null),python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
TORCH_INDEX ?=
TORCH := torch>=2.13,<2.14

CAMPAIGN := light-stiff
RUN_DIR := runs/$(CAMPAIGN)
SPEC := $(RUN_DIR)/$(CAMPAIGN).yaml
DB := sqlite:///$(RUN_DIR)/matloop.db
REPORT := $(RUN_DIR)/report.html
RUN_ARGS ?=
TEST_ARGS ?=
CORES := $(or $(shell getconf _NPROCESSORS_ONLN 2>/dev/null),2)
JOBS ?= $(shell test $(CORES) -lt 4 && echo $(CORES) || echo 4)

# Two trials at a time on two cores: more threads in each would only wait for each other.
export OMP_NUM_THREADS ?= 1

.PHONY: run test quick lint format clean help
.DEFAULT_GOAL := help

help:
	@sed -n '2,/^$$/s/^# \{0,1\}//p' Makefile

run: $(VENV)/installed
	@test -e $(SPEC) || $(BIN)/matloop init $(RUN_DIR) --template $(CAMPAIGN)
	$(BIN)/matloop run $(SPEC) --db $(DB) $(RUN_ARGS)
	$(BIN)/matloop export $(CAMPAIGN) --db $(DB) --format report --out $(REPORT)
	@echo
	@echo "The report: $(abspath $(REPORT))"

test: lint
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder $(TEST_ARGS)

quick: $(VENV)/installed-dev
	$(BIN)/python -m pytest -m "not slow" $(TEST_ARGS)

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find generators surrogates loop campaigns dashboards tests benchmarks -name __pycache__ -type d \
		-prune -exec rm -rf {} + 2>/dev/null || true

# A stamp is made only when everything before it went well, so an interrupted set-up is done again.
# Some distributions split ensurepip out of Python: there, the pip that is installed fills the environment.
$(VENV)/created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "matloop needs Python 3.11 or newer, and $(PYTHON) is not: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV) || \
		{ $(PYTHON) -m venv --clear --without-pip $(VENV) && $(PYTHON) -m pip --python $(BIN)/python install pip; }
	@touch $@

$(VENV)/torch: $(VENV)/created
ifneq ($(TORCH_INDEX),)
	@$(PIP) install --no-deps --retries 1 --timeout 20 --index-url "$(TORCH_INDEX)" "$(TORCH)" || \
		echo "NOTE: no torch from $(TORCH_INDEX): it comes from pip's own index." >&2
else
	@test "$$(uname -s)" != Linux || command -v nvidia-smi >/dev/null || \
		echo "NOTE: no NVIDIA GPU is in sight, and pip's own torch for Linux may bring gigabytes of CUDA: see 'CPU or GPU' in the README." >&2
endif
	@touch $@

$(VENV)/installed: pyproject.toml campaigns/_version.py $(VENV)/torch
	$(PIP) install --editable .
	@touch $@

# This holds all of the above, so it stands for both.
$(VENV)/installed-dev: pyproject.toml campaigns/_version.py $(VENV)/torch
	$(PIP) install --editable ".[dev]"
	@touch $(VENV)/installed $@
