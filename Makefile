# Two commands matter: `make demo` and `make test`. Everything is installed into .venv, apart from what says otherwise.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
# Idle threads that spin slow data workers down several times on few cores.
export OMP_WAIT_POLICY := PASSIVE

.PHONY: install demo test coverage test-newest test-minimum soak portability release lint check bench docs clean

install: $(VENV)/.installed

$(VENV)/.installed: requirements/lock.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/lock.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

# Two stages at once, a core each: a second thread costs a small model a third more CPU time.
demo: install
	$(BIN)/vlbench run --suite demo.yaml --out results/demo --jobs 2
	@echo "Next, with your own videos, a folder for each class (docs/data.md):"
	@echo "  $(BIN)/vlbench test --config zero_shot.yaml --config data/folder.yaml --data.root DIR"
	@echo "Next, a paper's tables (docs/protocols.md): $(BIN)/vlbench run --suite msta_paper.yaml --out results/msta --dry_run"
	@echo "The documentation is in docs/, and 'make docs' builds its site in dist/docs/."

# A test process that dies is not replaced: the run ends and says what it lost (tests/conftest.py). One that hangs ends
# it after an hour.
PYTEST := -m pytest -n 2 --dist loadfile --max-worker-restart 0
LIMIT := timeout --foreground --signal=INT --kill-after=60 1h

test: install
	$(LIMIT) $(BIN)/python $(PYTEST)

# The same tests, with the lines of vlbench/ that ran in any process counted, those of subprocesses too. Counting takes
# half as long again: each call of a Python function goes through it, also those of other packages.
coverage: install
	rm -f .coverage .coverage.*
	$(LIMIT) $(BIN)/coverage run $(PYTEST)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --fail-under 90

# The fast tests and the smoke suite on other releases than the lock's, each in an environment of its own. Remove
# .venv-newest to have it made anew with what is newest by then. A different interpreter: make test-newest PYTHON=...
test-newest: .venv-newest/.installed
	$(call test-releases,.venv-newest)

test-minimum: .venv-minimum/.installed
	$(call test-releases,.venv-minimum)

define test-releases
$(1)/bin/python -m pip list --disable-pip-version-check
$(1)/bin/python -m pytest -n 2 --dist loadfile -m "not slow and not soak"
$(1)/bin/vlbench regress --suite smoke.yaml --expected benchmarks/expected/smoke.json --out results/smoke$(1)
endef

.venv-newest/.installed: PYTHON = python3.12
.venv-newest/.installed: pyproject.toml
	$(PYTHON) -m venv --clear .venv-newest
	.venv-newest/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,describe,onnx,parquet,slurm,torchcodec]'
	touch $@

.venv-minimum/.installed: requirements/minimum.txt
	$(PYTHON) -m venv --clear .venv-minimum
	.venv-minimum/bin/python -m pip install --quiet --disable-pip-version-check -r requirements/minimum.txt
	.venv-minimum/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

soak: install
	$(BIN)/python -m pytest -m soak --timeout 3600

# The wheel and the sdist, in dist/release: equal when built twice, and run in empty environments. Publishes nothing.
release: install
	tests/release.sh $(BIN)/python

portability: install
	tests/portability.sh $(BIN)/python

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

check: lint
	$(BIN)/python -m pytest -q -m "quick and not slow"

bench: install
	for file in benchmarks/*.py; do $(BIN)/python $$file || exit 1; done

docs: .venv-docs/.installed
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --quiet --strict --site-dir dist/docs

.venv-docs/.installed: requirements/docs.txt
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check -r requirements/docs.txt
	touch $@

clean:
	rm -rf $(VENV) .venv-* results data dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
