# make demo: ages in a real photo, dates in an album.  make app: a page for your photos.  make test: all tests.
# make tables: are the tables in the documents what their commands print? Takes six minutes.
# Each sets up .venv when it is missing or stale.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.installed
APP_READY := .venv/.installed-app
DEV_READY := .venv/.installed-dev
SHELL := bash
# pip, its output in a file: the name of each package is shown, and what went wrong.
SHOWN := /^Collecting/ {printf "%s ", $$2; fflush()} /^Installing/ {print "\n" $$1, NF - 3, "packages: a minute"} /^ERROR/ {print "\n" $$0}
INSTALL = set -o pipefail; $(BIN)/python -m pip install --disable-pip-version-check -r $(1) 2>&1 \
	| tee .venv/$(basename $(1)).log | awk '$(SHOWN)' || { echo "See .venv/$(basename $(1)).log."; exit 1; }

.PHONY: demo app test tables clean

demo: $(READY)
	@$(BIN)/python scripts/demo.py --out out/demo

app: $(APP_READY)
	$(BIN)/python scripts/age_app.py

test: $(DEV_READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal --durations=5

tables: $(READY)
	$(BIN)/python scripts/release/refresh_tables.py --check

$(READY): requirements.txt constraints.txt pyproject.toml
	@$(PYTHON) -c "import sys; sys.exit(0 if sys.version_info >= (3, 11) else 'Python 3.11 or newer is needed: make PYTHON=python3.12')"
	@echo "Setting up .venv: about 2 GB with a CPU build of torch, a few minutes."
	@$(PYTHON) -m venv .venv
	@$(call INSTALL,requirements.txt)
	@touch $(READY)

$(APP_READY): $(READY) requirements-app.txt
	@$(call INSTALL,requirements-app.txt)
	@touch $(APP_READY)

$(DEV_READY): $(APP_READY) requirements-dev.txt
	@$(call INSTALL,requirements-dev.txt)
	@touch $(DEV_READY)

clean:
	rm -rf .venv out
