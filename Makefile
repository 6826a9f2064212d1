# make demo: ages in a real photo.  make app: a page for your photos.  make test: the whole test suite.
# make tables: are the tables of the READMEs what their commands print?
# Each sets up .venv when it is missing or stale.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.installed
APP_READY := .venv/.installed-app

.PHONY: demo app test tables clean

demo: $(READY)
	$(BIN)/python DiffPipeline6/DiffPipeline6__infer2.py --out out/demo/predictions.csv --explain out/demo

app: $(APP_READY)
	$(BIN)/python scripts/age_app.py

test: $(APP_READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal --durations=5

tables: $(READY)
	$(BIN)/python scripts/release/refresh_tables.py --check

$(READY): requirements.txt pyproject.toml
	$(PYTHON) -c "import sys; sys.exit(0 if sys.version_info >= (3, 11) else 'Python 3.11 or newer is needed: make PYTHON=python3.12')"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -c "import cv2" || { echo "OpenCV needs system libraries: apt-get install libgl1 libglib2.0-0 libxcb1"; exit 1; }
	touch $(READY)

$(APP_READY): $(READY) requirements-app.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-app.txt
	touch $(APP_READY)

clean:
	rm -rf .venv out
