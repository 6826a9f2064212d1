"""Shared by all tests: small drawn data sets, tiny weights, and where the real data would be."""

from pathlib import Path

import numpy as np
import pytest

from AgeRegBaseline.AgeRegBaseline__main import main as train_main
from common.data.manifest import load_prepared, write_index
from DiffPipeline6.DiffPipeline6__main import main as diff_main
from scripts.prepare_data import main as prepare_main

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = REPOSITORY.parent / "shared" / "data"

TINY_MODEL = ["--backbone", "tiny", "--backbone-rate", "1", "--crop-size", "48", "--input-size", "48"]
TINY = [*TINY_MODEL, "--batch-size", "32", "--device", "cpu"]

QUICK = [
    "--views", "1", "--epochs", "2", "--references", "6", "--per-bin", "0", "--device", "cpu", "--hidden-size", "32",
]  # fmt: skip


def with_intervals(folder: Path, out: Path) -> Path:
    """A copy of a prepared set whose ages are only known to the decade."""
    out.mkdir()
    prepared = load_prepared(folder)
    table = prepared.manifest.copy()
    table["age_min"], table["age_max"] = table["age"] // 10 * 10, table["age"] // 10 * 10 + 9
    table["age"] = np.nan
    table.to_csv(out / "manifest.csv", index=False)
    np.save(out / "crops.npy", prepared.crops)
    write_index(out, table["id"])
    (out / "prepared.json").write_text("{}")
    return out


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real data of the team; tests that need it are skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"real data is absent ({SHARED})")
    return SHARED


@pytest.fixture(scope="session")
def synthetic_set(tmp_path_factory) -> Path:
    """A prepared set of 320 synthetic faces of 48 px."""
    out = tmp_path_factory.mktemp("prepared") / "synthetic"
    assert prepare_main(["synthetic", "--count", "320", "--size", "48", "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="session")
def tiny_run(synthetic_set, tmp_path_factory) -> Path:
    """The run folder of one epoch on the synthetic faces."""
    runs = tmp_path_factory.mktemp("runs")
    assert train_main(["--data", str(synthetic_set), "--epochs", "1", "--runs", str(runs), *TINY]) == 0
    (run,) = (runs / "AgeRegBaseline").iterdir()
    return run


@pytest.fixture(scope="session")
def diff_words(synthetic_set, tiny_run, tmp_path_factory) -> list[str]:
    """Command line of a quick DiffPipeline6 training on synthetic faces with the tiny base."""
    runs = tmp_path_factory.mktemp("diff_runs")
    return ["--data", str(synthetic_set), "--base-weights", str(tiny_run / "weights"), "--runs", str(runs), *QUICK]


@pytest.fixture(scope="session")
def diff_weights(diff_words) -> Path:
    """The weights of that training."""
    assert diff_main(diff_words) == 0
    (run,) = (Path(diff_words[diff_words.index("--runs") + 1]) / "DiffPipeline6").iterdir()
    return run / "weights"
