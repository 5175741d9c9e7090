# Everything a newcomer needs is `make demo` and `make test`; both make .venv if there is none.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: demo test test-all chaos check clean

demo: $(STAMP)  ## the whole stack on the embedded corpus, into runs/demo
	$(BIN)/python -m jobs.demo

# Files run side by side, those first that tests/conftest.py puts first.
PYTEST := $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

test: $(STAMP)  ## what every change must pass
	$(PYTEST) -m "not slow and not gpu"

test-all: $(STAMP)  ## the slow tests as well
	$(PYTEST) -m "not gpu"

chaos: $(STAMP)  ## the matrices and figures of docs/reliability.md: hours; status 1 if a row is lost or doubled
	$(BIN)/python -m jobs.chaos --storage disk --out runs/chaos/disk
	$(BIN)/python -m jobs.chaos --faults kill kill_after drop 503 reset worker raylet pause --out runs/chaos/s3
	for step in retry decide revoke; do for storage in disk s3; do \
		$(BIN)/python -m jobs.chaos --step $$step --storage $$storage --out runs/chaos/$$storage-$$step || exit 1; done; done
	-$(BIN)/python -m jobs.chaos --baseline --out runs/chaos/baseline
	for trial in overhead resume flaky disk_full two_drivers workers signals; do $(BIN)/python -m jobs.bench $$trial || exit 1; done

check: $(STAMP)  ## style and types
	$(BIN)/ruff format --check pipeline jobs tests
	$(BIN)/ruff check pipeline jobs tests
	$(BIN)/mypy

clean:  ## forget the demo's results
	rm -rf runs/demo

# torch comes first, by its pinned version: an open range would bring gigabytes of CUDA to a CPU machine.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $(STAMP)
