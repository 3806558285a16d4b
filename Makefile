# Two commands matter: `make demo` and `make test`. Everything is installed into .venv.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
# Idle threads that spin slow data workers down several times on few cores.
export OMP_WAIT_POLICY := PASSIVE

.PHONY: install demo test check bench clean

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

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_structure.py tests/test_optim.py tests/test_metrics.py tests/protocols tests/results

bench: install
	for file in benchmarks/*.py; do $(BIN)/python $$file || exit 1; done

clean:
	rm -rf $(VENV) results data dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
