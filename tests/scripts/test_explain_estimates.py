import numpy as np
import pandas as pd
import pytest

from common.pipeline import AgePrediction
from scripts.research import explain_estimates
from scripts.research.explain_estimates import CELLS, area_of_cells, main, table_lines, without_cells


def test_one_cell_is_blurred_away_and_nothing_far_from_it():
    crop = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    copies = without_cells(crop)
    assert copies.shape == (64, 64, 64, 3)
    number = 3 * CELLS + 5  # rows 24 to 32, columns 40 to 48
    changed = np.abs(copies[number].astype(int) - crop).max(axis=2) > 0
    assert changed[26:30, 42:46].mean() > 0.9 and not changed[:20].any() and not changed[:, :36].any()
    assert copies[number, 26:30, 42:46].std() < 25 < crop[26:30, 42:46].std()


def test_areas_are_symmetric_and_the_middle_is_the_face():
    area = area_of_cells().reshape(CELLS, CELLS)
    assert (area[3:5, 3:5] == 0).all() and (area[[0, 0, -1, -1], [0, -1, 0, -1]] == 2).all()
    assert set(area.ravel()) == {0, 1, 2}


def test_table_of_planted_moves():
    area = area_of_cells()
    moved = np.tile(np.where(area == 2, -2.0, 0.0), (4, 1))
    table = pd.DataFrame(moved, columns=[f"cell_{number}" for number in range(CELLS**2)])
    table = table.assign(age=30.0, nearest=33.0, true_age=[20.0, 20.0, 40.0, 40.0])
    lines = table_lines(table)
    assert f"| around it | {(area == 2).sum()} | 2.00 | -2.00 | 100 % |" in lines
    assert "3.0 years from the estimate on average and 10.0 from the true age (+3.0)" in lines[-1]


class LooksAtTheCorner:
    """Says the brightness of the crop's first pixels as an age."""

    fingerprint = "corner"

    def predict(self, crops):
        return AgePrediction(crops[:, :8, :8].mean(axis=(1, 2, 3)), None, np.ones((len(crops), 3)))


def test_a_planted_shortcut_is_found(monkeypatch, synthetic_set, tmp_path, capsys):
    pipeline = LooksAtTheCorner()
    bank = type("Bank", (), {"unit": np.ones((30, 3)), "ages": np.full(30, 44.0)})
    monkeypatch.setattr(explain_estimates.AgePredictBasicPipeline, "from_weights", lambda *_: pipeline)
    monkeypatch.setattr(explain_estimates, "load_bank", lambda *_: bank)
    out = tmp_path / "saliency.csv"
    assert main([str(synthetic_set), "--split", "val", "--limit", "5", "--out", str(out)]) == 0
    moves = pd.read_csv(out)
    cells = moves[[f"cell_{number}" for number in range(CELLS**2)]].abs().mean()
    assert cells.idxmax() == "cell_0" and cells.drop(["cell_0", "cell_1", "cell_8", "cell_9"]).max() == 0
    assert (moves["nearest"] == 44).all() and out.with_suffix(".png").stat().st_size > 10_000
    printed = capsys.readouterr().out
    assert main(["--table", str(out)]) == 0 and capsys.readouterr().out in printed


@pytest.mark.parametrize(("words", "message"), [(["absent"], "absent"), ([], "Give a prepared folder")])
def test_mistakes_are_one_sentence(words, message, capsys):
    assert main(words) == 2
    assert message in capsys.readouterr().err
