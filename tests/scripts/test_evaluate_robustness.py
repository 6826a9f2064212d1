import numpy as np
import pandas as pd
import pytest

from scripts.research import evaluate_robustness
from scripts.research.evaluate_robustness import PLAIN, VARIANTS, face_mask, main, on_background, stretched, table_lines


def test_the_mask_holds_the_face_and_not_the_corners():
    mask = face_mask(128)[:, :, 0]
    for x, y in ((60, 58), (138, 58), (98, 104), (63, 139), (132, 139)):  # eyes, nose, mouth in the 200-px frame
        assert mask[round(y * 0.64), round(x * 0.64)] > 0.9
    assert mask[0, 0] < 1e-3 and mask[127, 127] < 1e-3 and mask[127, 0] < 1e-3


def test_a_background_replaces_the_corner_and_keeps_the_nose():
    crop = np.full((128, 128, 3), 10, np.uint8)
    changed = on_background(crop, 250)
    assert (changed[0, 0] == 250).all() and (changed[64, 64] == 10).all()


def test_stretching_makes_a_square_higher_than_wide_and_keeps_its_area():
    crop = np.zeros((128, 128, 3), np.uint8)
    crop[40:88, 40:88] = 200
    mask = stretched(crop, 1.21)[:, :, 0] > 100
    assert (mask.any(1).sum(), mask.any(0).sum()) == (52, 44)  # 48 * 1.1 and 48 / 1.1, to a pixel of each side
    assert stretched(crop, 1.0).tolist() == crop.tolist()


def test_every_variant_keeps_the_form_and_repeats_itself():
    crop = np.random.default_rng(0).integers(0, 256, (128, 128, 3)).astype(np.uint8)
    for change in VARIANTS.values():
        assert change(crop).shape == crop.shape and change(crop).dtype == np.uint8
        assert np.array_equal(change(crop), change(crop))


def test_the_table_counts_errors_moves_and_the_difference_between_backgrounds():
    ages = {PLAIN: (10, 20), "grey wall": (11, 22), "white wall": (11, 18), "clutter": (14, 20)}
    rows = [
        {"face": face, "id": "", "person": "", "true_age": 12.0, "variant": name, "age": float(values[face])}
        for name, values in ages.items()
        for face in (0, 1)
    ]
    lines = table_lines(pd.DataFrame(rows))
    assert lines[2] == "| as it is | 5.00 | +3.00 | – | – | – |"
    assert lines[3].startswith("| grey wall | 5.50 | +4.50 | 1.50 | +1.50 | +0.50 (")
    # pairs: |11-11|,|22-18| -> 2; |11-14|,|22-20| -> 2.5; |11-14|,|18-20| -> 2.5
    assert "differs by 2.33 years" in lines[-1]


def test_nothing_to_do_is_said_in_one_sentence(capsys):
    assert main([]) == 2
    assert capsys.readouterr().err.startswith("evaluate_robustness: Give a prepared folder")


@pytest.mark.parametrize("limit", [0, 3])
def test_the_script_writes_what_its_table_reads(tmp_path, monkeypatch, capsys, limit):
    class Pipeline:
        def predict(self, crops):
            return type("Prediction", (), {"ages": crops.mean(axis=(1, 2, 3)).astype(np.float32)})

    folder = tmp_path / "set"
    folder.mkdir()
    crops = np.random.default_rng(0).integers(0, 256, (5, 128, 128, 3)).astype(np.uint8)
    np.save(folder / "crops.npy", crops)
    pd.DataFrame({"path": list("abcde"), "id": "", "age": 30, "split": "val"}).to_csv(folder / "manifest.csv")
    (folder / "prepared.json").write_text("{}")
    monkeypatch.setattr(evaluate_robustness.AgePredictBasicPipeline, "from_weights", lambda *_: Pipeline())
    out = tmp_path / "out.csv"
    assert main([str(folder), "--split", "val", "--limit", str(limit), "--out", str(out)]) == 0
    stored = pd.read_csv(out)
    assert len(stored) == (limit or 5) * len(VARIANTS)
    plain = stored[stored["variant"] == PLAIN]
    assert plain["age"].to_numpy() == pytest.approx(crops[plain["face"]].mean(axis=(1, 2, 3)), abs=0.01)
    first = capsys.readouterr().out
    assert main(["--table", str(out)]) == 0
    assert capsys.readouterr().out in first
