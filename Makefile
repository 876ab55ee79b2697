# make demo: install and serve the page.   make test: everything CI checks.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PARALLEL := --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# Without compiled modules every process of every test compiles torch anew, seven seconds each.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo check test lint types unit webrtc browser clients docs extras lock bench coverage
.PHONY: install install-test test-system test-avx2 wheel clean

demo: install
	@echo "The command is in $(BIN): write $(BIN)/avatar-stream, or once in each terminal: source $(BIN)/activate"
	$(BIN)/avatar-stream serve

# What a commit should pass, in less than a minute.
check: install-test lint types
	OMP_NUM_THREADS=1 $(BIN)/pytest tests/unit -m "not slow" $(PARALLEL) --quiet

# Every stage, whatever fails: tests/stages.py says at the end which did. Unit tests compute, the others wait for one
# another half of the time, so both run side by side.
STAGES := lint types docs wheel extras webrtc clients browser
test: install-test test-system
	@$(BIN)/python -m tests.stages $(STAGES) --beside unit

lint:
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/hadolint docker/*.Dockerfile

types:
	$(BIN)/mypy

# A file at a time on every core; one thread each, or those of two networks wait for one another.
unit:
	OMP_NUM_THREADS=1 $(BIN)/pytest tests/unit $(PARALLEL)

# What a processor without VNNI, AMX and AVX-512 (most before 2021) makes of it. On others the libraries are told so:
# OpenVINO (oneDNN) and PyTorch by these variables; onnxruntime asks the processor, and is told by its own option.
test-avx2: export ONEDNN_MAX_CPU_ISA = AVX2
test-avx2: export DNNL_MAX_CPU_ISA = AVX2
test-avx2: export ATEN_CPU_CAPABILITY = avx2
test-avx2: install-test
	$(BIN)/avatar-stream engine check --ticks 60
	OMP_NUM_THREADS=1 $(BIN)/pytest tests/unit $(PARALLEL)

webrtc:
	$(BIN)/pytest tests/webrtc --numprocesses 2 --dist loadfile  # they wait for one another, mostly

# Those that measure print their figures and have the machine to themselves.
browser:
	failed=0; $(BIN)/pytest tests/browser -m measures -s || failed=1; \
	$(BIN)/pytest tests/browser -m "not measures" --numprocesses 2 --dist loadfile || failed=1; exit $$failed

# Encoders and browsers that others wrote, against a real server: FFmpeg, GStreamer, npm's clients, Firefox.
clients:
	$(BIN)/pytest tests/clients --numprocesses 2 --dist loadfile

# The documents as a site in build/site.
docs:
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# Every extra, and every system that the README names, has packages that fit together. Nothing is installed.
extras: install-test
	$(BIN)/pytest tests/install -rs --numprocesses 4  # waits for the index, mostly

# The versions that the CPU image installs, for a release to be tested with.
lock: install-test
	$(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --quiet --upgrade \
		--custom-compile-command "make lock" --output-file requirements.lock

# Which lines of what runs no unit or WebRTC test reaches.
coverage: install-test test-system
	OMP_NUM_THREADS=1 $(BIN)/pytest tests/unit tests/webrtc --cov avatar_stream --cov-report term:skip-covered $(PARALLEL)

bench: install
	$(BIN)/avatar-stream bench

# A wheel that installs elsewhere must carry the weights, the samples and the page.
wheel: install-test
	rm -rf build/lib build/wheel && $(BIN)/pip wheel --quiet --no-deps --wheel-dir build/wheel .
	$(BIN)/python tests/check_wheel.py build/wheel

install: $(VENV)/.installed
install-test: $(VENV)/.installed-test

$(VENV)/.installed: pyproject.toml scripts/setup.sh
	scripts/setup.sh libraries
	PYTHON="$(PYTHON)" scripts/setup.sh venv $(VENV)
	$(BIN)/pip install --quiet -e .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/pip install --quiet --no-compile -e ".[test,train,evaluate,docs]"  # what runs is compiled then
	touch $@

test-system:
	scripts/setup.sh chromium
	scripts/setup.sh turn
	scripts/setup.sh clients

clean:
	rm -rf build dist *.egg-info
