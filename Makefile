# make demo   installs everything into .venv and trains a first agent
# make test   installs everything into .venv and passes the tests
# make test-ray   installs Ray, too, and passes the tests that need a cluster

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
# Modules are compiled when they are first imported, and kept so: most of those that come along never are.
INSTALL := $(BIN)/pip install --no-compile --quiet --disable-pip-version-check --constraint constraints.txt --editable
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-ray format clean

demo: $(INSTALLED)
	$(BIN)/highscore demo

test: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy & $(BIN)/pytest && wait $$!

test-ray: $(INSTALLED)
	$(INSTALL) '.[test,ray]'
	$(BIN)/pytest -m ray -n 0 tests/test_ray.py

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(INSTALL) '.[test]'
	@touch $@
