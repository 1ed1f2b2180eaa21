# `make search`, `make search-cnn` and `make test` work on a fresh machine with Python (3.11 to 3.14) and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Python compiles what it imports: doing it for all of torch takes a third of the time of an installation.
INSTALL := $(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check
# Containers often forbid Python to keep what it compiled. Then each process would compile torch again.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: search search-cnn test lint docs

search: $(VENV)/run dot
	$(BIN)/python main.py --config demo
	$(BIN)/python main.py --config demo --mode derive
	$(BIN)/python main.py --config demo --mode train_scratch --compare_with random,lstm

search-cnn: $(VENV)/run dot
	$(BIN)/python main.py --config demo_cnn
	$(BIN)/python main.py --config demo_cnn --mode derive
	$(BIN)/python main.py --config demo_cnn --mode train_scratch --max_epoch 3 --cnn_lr_period 3 \
		--compare_with random,random,random,random,random

test: $(VENV)/develop dot
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

lint: $(VENV)/develop
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/develop
	$(BIN)/python -m docs.reference
	$(BIN)/pdoc --output-directory docs/api --docformat google \
		$$(ls -d enas/[!_]*/ enas/[!_]*.py | sed 's#/$$##; s#\.py$$##; s#/#.#g')

$(VENV)/run: requirements.txt pyproject.toml
	$(BIN)/python -c 'import pip, sys; assert sys.version_info >= (3, 11)' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	$(INSTALL) -r requirements.txt
	touch $@

$(VENV)/develop: $(VENV)/run requirements-dev.txt
	$(INSTALL) -r requirements-dev.txt
	touch $@

# Pictures need Graphviz's dot. Without it a run goes on, and leaves .dot files.
.PHONY: dot
dot:
	@command -v dot >/dev/null || { \
		test "$$(id -u)" = 0 && command -v apt-get >/dev/null \
		&& apt-get update -qq && apt-get install -y -qq graphviz >/dev/null; \
	} || echo "dot is not installed, so pictures stay .dot files; to get it: apt install graphviz, or brew install graphviz"
