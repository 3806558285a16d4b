# Two commands matter: `make demo` and `make test`. Everything is installed into .venv.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
# Idle threads that spin slow data workers down several times on few cores.
export OMP_WAIT_POLICY := PASSIVE

.PHONY: install demo test soak check bench docs clean

install: $(VENV)/.installed

$(VENV)/.installed: requirements/lock.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/lock.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

demo: install
	$(BIN)/vlbench run --suite demo.yaml --out results/demo

test: install
	$(BIN)/python -m pytest -n 2 --dist loadfile

soak: install
	$(BIN)/python -m pytest -m soak --timeout 3600

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q -m "not slow and not soak" tests/test_structure.py tests/test_optim.py tests/test_metrics.py tests/protocols tests/results

bench: install
	for file in benchmarks/*.py; do $(BIN)/python $$file || exit 1; done

docs: .venv-docs/.installed
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --quiet --strict --site-dir dist/docs

.venv-docs/.installed: requirements/docs.txt
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check -r requirements/docs.txt
	touch $@

clean:
	rm -rf $(VENV) .venv-docs results data dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
