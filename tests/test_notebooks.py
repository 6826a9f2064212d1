"""The notebooks run from a clean kernel and draw what they promise; only the first steps are kept with outputs."""

import base64
import io
import re
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from PIL import Image

from common.data.manifest import load_prepared
from common.errors import DataError
from common.evaluation.metrics import point_metrics
from common.pipeline import AgePredictBasicPipeline
from tests.conftest import REPOSITORY

NOTEBOOKS = REPOSITORY / "notebooks"
ANALYTICS, EMBEDDINGS, STEPS = "model-analytics", "embedding-research", "first-steps"


def read(name: str) -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)


def executed(name: str, parameters: str, folder: Path, monkeypatch) -> nbformat.NotebookNode:
    """The notebook after a run in its own folder with these parameters; raises CellExecutionError."""
    for variable in ("JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "TMPDIR"):
        monkeypatch.setenv(variable, str(folder))
    notebook = read(name)
    if parameters:
        (cell,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
        cell.source += "\n" + parameters
    place = {"metadata": {"path": str(NOTEBOOKS)}}
    return NotebookClient(notebook, timeout=300, kernel_name="python3", resources=place).execute()


def pictures(notebook: nbformat.NotebookNode) -> list[np.ndarray]:
    """The figures [H, W, 3] uint8 that a notebook shows, in order."""
    data = [output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", [])]
    shown = [base64.b64decode(part["image/png"]) for part in data if "image/png" in part]
    return [np.asarray(Image.open(io.BytesIO(png)).convert("RGB")) for png in shown]


def text(notebook: nbformat.NotebookNode) -> str:
    """Everything that a notebook prints, and its Markdown outputs."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "\n".join(output.get("text") or output.get("data", {}).get("text/markdown", "") for output in outputs)


@pytest.mark.parametrize("name", [ANALYTICS, EMBEDDINGS])
def test_notebooks_are_kept_without_outputs(name):
    notebook = read(name)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) > 4 and all(not cell.outputs and cell.execution_count is None for cell in code)
    assert not any(cell.get("attachments") for cell in notebook.cells)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}


def test_there_are_three_notebooks():
    assert {path.stem for path in NOTEBOOKS.glob("*.ipynb")} == {ANALYTICS, EMBEDDINGS, STEPS}


def test_the_first_steps_are_kept_with_the_outputs_of_these_weights(tmp_path, monkeypatch):
    """If this fails after a release: jupyter execute --inplace notebooks/first-steps.ipynb."""
    notebook = executed(STEPS, "", tmp_path, monkeypatch)
    kept, now = (text(one).replace("\n\n", "\n").splitlines() for one in (read(STEPS), notebook))
    changing = "bank: "  # a temporary folder
    assert [line for line in kept if not line.startswith(changing)] == [
        line for line in now if not line.startswith(changing)
    ]
    assert any(re.fullmatch(r"\d+ -> \d+ years \(\d+ to \d+\); she was 42", line) for line in now)
    assert len(pictures(notebook)) == len(pictures(read(STEPS))) == 2


def shown_whole(notebook: nbformat.NotebookNode, figures: int) -> bool:
    """Whether a notebook shows so many figures and none is blank."""
    shown = pictures(notebook)
    return len(shown) == figures and all(min(part.shape[:2]) > 150 and part.std() > 5 for part in shown)


def test_a_notebook_runs_as_it_stands_on_drawn_faces(tmp_path, monkeypatch):
    notebook = executed(EMBEDDINGS, "", tmp_path, monkeypatch)
    assert shown_whole(notebook, 4)
    assert f"{tmp_path}/" in text(notebook) and re.search(r"(\d+) faces \(\1 with an exact age\)", text(notebook))
    assert not list(tmp_path.glob("*/drawn"))  # the temporary folder is gone


def test_analytics_of_a_prepared_folder_say_the_error_of_its_weights(synthetic_set, tiny_run, tmp_path, monkeypatch):
    weights = tiny_run / "weights"
    parameters = f"DATA, WEIGHTS, SPLITS, FACES = {str(synthetic_set)!r}, {str(weights)!r}, ('dar', 'val'), 99"
    notebook = executed(ANALYTICS, parameters, tmp_path, monkeypatch)
    prepared = load_prepared(synthetic_set)
    rows = np.flatnonzero(prepared.manifest["split"].isin(["dar", "val"]))
    assert len(rows) < 99 and shown_whole(notebook, 10)
    ages = AgePredictBasicPipeline.from_weights(weights, "cpu").predict(np.array(prepared.crops[rows])).ages
    metrics = point_metrics(ages, prepared.manifest["age"].to_numpy()[rows])
    means = f"{metrics['mae']:.2f} | {metrics['balanced_mae']:.2f} | {metrics['rmse']:.2f}"
    assert f"| synthetic | {len(rows)} | {means} |" in text(notebook)


def test_the_start_refuses_what_it_cannot_use(synthetic_set, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(NOTEBOOKS))
    import start

    with pytest.raises(DataError, match="nowhere is not a prepared data set"):
        start.open_set("nowhere", tmp_path)
    prepared = start.open_set(str(synthetic_set), tmp_path)
    val = set(prepared.rows("val"))
    assert set(start.choose(prepared, ["val"], 1000)) == val
    few = start.choose(prepared, ["val", "test"], 9)
    assert len(set(few)) == 9 and (np.diff(few) > 0).all() and set(few) & val and set(few) - val
    with pytest.raises(DataError, match="has no face of exact age in base"):
        empty = prepared.manifest.assign(age=np.nan, age_min=20, age_max=29)
        start.choose(start.PreparedSet(prepared.folder, empty, prepared.crops), ["base"], 9)
    sys.modules.pop("start")
