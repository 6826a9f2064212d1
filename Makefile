# make demo: ages in a real photo.  make test: the whole test suite.  Both set up .venv when it is missing or stale.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.installed

.PHONY: demo test clean

demo: $(READY)
	$(BIN)/python DiffPipeline6/DiffPipeline6__infer2.py --out out/demo/predictions.csv --explain out/demo

test: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest -q --durations=5

$(READY): requirements.txt pyproject.toml
	$(PYTHON) -c "import sys; sys.exit(0 if sys.version_info >= (3, 11) else 'Python 3.11 or newer is needed: make PYTHON=python3.12')"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -c "import cv2" || { echo "OpenCV needs system libraries: apt-get install libgl1 libglib2.0-0 libxcb1"; exit 1; }
	touch $(READY)

clean:
	rm -rf .venv out
