# make setup | demo | test | lint | slow | soak | clean
VENV := .venv
PY := $(VENV)/bin/python
# The first interpreter that runs and is recent enough; override with make PYTHON=...
PYTHON ?= $(shell for p in python3 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
	&& echo $$p && break; done)

.PHONY: setup demo test slow soak lint format clean

setup: $(VENV)/.installed

# torch goes first, from its pin alone: an unbounded one would take several GB of GPU packages.
$(VENV)/.installed: constraints.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 or 3.12 found; make PYTHON=/path" >&2; exit 2; }
	@echo "setup 1/3: a virtual environment in $(VENV), with $(PYTHON)"
	@$(PYTHON) -m venv $(VENV)
	@echo "setup 2/3: torch, of the version in constraints.txt; to download it takes minutes"
	@$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	@echo "setup 3/3: jax and all else, of the versions in constraints.txt; minutes again"
	@$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,export,sweep,tfds]'
	@touch $@
	@echo "setup done; it is repeated when constraints.txt or pyproject.toml change"

demo: setup
	$(PY) -m jaxnets.train --config configs/quickstart.py --workdir runs/quickstart
	$(PY) -m jaxnets.evaluate --workdir runs/quickstart

# JOBS processes at a time; the tests of one file share what they train.
JOBS ?= 2
test: setup
	$(PY) -m pytest -n $(JOBS) --dist loadfile

slow: setup
	$(PY) -m pytest -m slow

# Half an hour of training, killing, resuming, evaluating, porting and predicting.
soak: setup
	$(PY) tests/soak.py --minutes 30

lint: setup
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

format: setup
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

clean:
	rm -rf $(VENV) *.egg-info
