# make demo: install and serve the page.   make test: everything CI checks.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint types unit webrtc browser docs bench install install-test system test-system wheel clean

demo: install
	$(BIN)/avatar-stream serve

test: install-test test-system lint types unit webrtc browser docs wheel

lint:
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/hadolint docker/*.Dockerfile

types:
	$(BIN)/mypy

# A file at a time on every core; one thread each, or those of two networks wait for one another.
unit:
	OMP_NUM_THREADS=1 $(BIN)/pytest tests/unit --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

webrtc:
	$(BIN)/pytest tests/webrtc

browser:
	$(BIN)/pytest tests/browser -s

# The documents as a site in build/site.
docs:
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: install
	$(BIN)/avatar-stream bench

# A wheel that installs elsewhere must carry the weights, the samples and the page.
wheel: install-test
	rm -rf build && $(BIN)/pip wheel --quiet --no-deps --wheel-dir build/wheel .
	$(BIN)/python tests/check_wheel.py build/wheel

install: $(VENV)/.installed
install-test: $(VENV)/.installed-test

$(VENV)/.installed: pyproject.toml scripts/setup.sh
	scripts/setup.sh libraries
	PYTHON="$(PYTHON)" scripts/setup.sh venv $(VENV)
	$(BIN)/pip install --quiet -e .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/pip install --quiet -e ".[test,train,evaluate,docs]"
	touch $@

test-system:
	scripts/setup.sh chromium
	scripts/setup.sh turn

clean:
	rm -rf build dist *.egg-info
